//! Code generation: an instruction, or the comment above the cursor, becomes new code.

mod code_block;
mod echo;
mod prompt;
mod shape;
#[cfg(test)]
mod tests;

pub use code_block::CodeBlock;
pub use shape::GenerationShape;

use super::completion::{CompletionShape, ShapeOptions, Trimmed, Window, window};
use super::language::{Language, language_of};
use super::{Family, Plan, Shape};
use crate::domain::{Chat, Class, Infill, Message, ModelInfo, Prompt, Role, SamplingParams, StopRules};

/// A place in a file and what is wanted there. Holds code: never shown whole.
#[derive(Clone, PartialEq, Default)]
pub struct Input {
    pub file_name: String,
    /// What the editor or GitLab calls the language.
    pub language_identifier: Option<String>,
    pub prefix: String,
    pub suffix: String,
    pub user_instruction: Option<String>,
    pub examples: Vec<Example>,
    /// Contents of further files and parts of them, each wrapped and named by GitLab.
    pub related: Vec<String>,
    pub libraries: Vec<String>,
    /// A prompt to send instead of ours.
    pub given: Option<Given>,
    /// The answer begins on a line of its own: a line break is put before it where there is none.
    pub begins_line: bool,
}

/// Code that GitLab shows for what is wanted, and the answer it would like.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Example {
    pub code: String,
    pub answer: String,
}

/// A prompt somebody else has written.
#[derive(Clone, PartialEq)]
pub enum Given {
    Text(String),
    Messages(Vec<Message>),
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (prefix, suffix) = (self.prefix.len(), self.suffix.len());
        write!(formatter, "Input({prefix} + {suffix} bytes, {} related texts)", self.related.len())
    }
}

impl Input {
    pub fn language(&self) -> Option<Language> {
        language_of(&self.file_name, self.language_identifier.as_deref())
    }
}

/// What is set by the operator and the call's model choice.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub family: Option<Family>,
    /// The prompt is cut to so many tokens, as far as they can be estimated.
    pub prompt_tokens_max: usize,
    /// Instead of the family's.
    pub max_tokens: Option<usize>,
}

/// A generation about to be asked for.
pub struct Planned {
    pub plan: Plan,
    /// For the response header and the log.
    pub trimmed: Trimmed,
}

/// Tokens for what a chat template and our own words add.
const MARGIN_TOKENS: usize = 640;
/// The reference's for its base prompt. Higher temperatures, which it has for some families, help nobody's small model.
const TEMPERATURE: f32 = 0.2;

pub fn plan(input: &Input, model: &ModelInfo, settings: &Settings) -> Planned {
    let max_tokens = settings.max_tokens.unwrap_or_else(|| max_tokens(settings.family));
    let max_tokens = max_tokens.min((model.context_tokens / 2).max(1));
    let margin = MARGIN_TOKENS.min(model.context_tokens / 8) + prompt::extra_tokens(input);
    let room = model.context_tokens.saturating_sub(max_tokens + margin);
    let window = window(&input.prefix, &input.suffix, &input.related, settings.prompt_tokens_max.min(room));
    let (prompt, shape) = match model.has_chat {
        true => ask(input, &window, settings.family),
        false => go_on(input, &window, model, settings.family),
    };
    let sampling = SamplingParams { temperature: TEMPERATURE, ..SamplingParams::default() };
    let stop = StopRules { max_tokens: Some(max_tokens), stop: vec![prompt::TAG_CLOSE.to_owned()] };
    Planned { plan: Plan { prompt, sampling, stop, class: Class::Chat, shape }, trimmed: window.trimmed }
}

fn ask(input: &Input, window: &Window<'_>, family: Option<Family>) -> (Prompt, Box<dyn Shape>) {
    let chat = match &input.given {
        Some(Given::Text(text)) => {
            let message = Message { role: Role::User, content: text.clone() };
            Chat { messages: vec![message], ..Chat::default() }
        }
        Some(Given::Messages(messages)) => Chat { messages: messages.clone(), ..Chat::default() },
        None => prompt::chat(input, window),
    };
    (Prompt::Chat(chat), Box::new(GenerationShape::new(input, family)))
}

/// A model that cannot be asked goes on where the cursor stands.
fn go_on(input: &Input, window: &Window<'_>, model: &ModelInfo, family: Option<Family>) -> (Prompt, Box<dyn Shape>) {
    let (prefix, suffix) = (window.prefix.to_owned(), window.suffix.to_owned());
    let prompt = match (&input.given, model.has_infill) {
        (Some(Given::Text(text)), _) => Prompt::Text(text.clone()),
        (_, true) => Prompt::Infill(Infill { prefix, suffix }),
        (_, false) => Prompt::Text(prefix),
    };
    let language = input.language();
    let syntax = language.as_ref().map_or("", Language::syntax);
    let unescapes_underscores = family.is_some_and(Family::escapes_underscores);
    let shape = CompletionShape::new(syntax, &input.prefix, &input.suffix, ShapeOptions { unescapes_underscores });
    (prompt, Box::new(shape))
}

/// The most tokens a family's answer has. Unknown families have the default's.
fn max_tokens(family: Option<Family>) -> usize {
    match family {
        Some(Family::CodeGemma | Family::DeepSeekCoder | Family::Gpt) => 512,
        Some(Family::CodeLlama | Family::Codestral | Family::Llama3 | Family::Mistral | Family::Mixtral) => 256,
        Some(Family::Claude3 | Family::General | Family::Gemini | Family::Qwen) | None => 2048,
    }
}
