//! Code completion: what stands around a cursor becomes a prompt, and the model's answer becomes what an editor inserts.
//!
//! Completions are greedy whatever temperature the family's table names: the same keystrokes give the same suggestion,
//! and a suggestion that was right does not come back as another one.

mod block;
mod cleaner;
mod cursor;
mod family;
mod instruct;
mod python;
mod repeats;
mod scan;
mod shape;
mod syntax;
#[cfg(test)]
mod tests;
mod window;

pub use cleaner::Cleaner;
pub use shape::{CompletionShape, ShapeOptions, finish_whole};
pub use window::{Trimmed, Window, estimated_tokens, window};

use super::language::{Language, language_of};
use super::{Family, Plan, Shape};
use crate::domain::{Chat, Class, Infill, Message, ModelInfo, Prompt, SamplingParams, StopRules};
use instruct::InstructShape;

/// A place in a file, as a call describes it. Holds code: never shown whole.
#[derive(Clone, PartialEq, Default)]
pub struct Input {
    pub file_name: String,
    /// What the editor calls the language.
    pub language_identifier: Option<String>,
    pub prefix: String,
    pub suffix: String,
    /// Contents of further files, most important first.
    pub context: Vec<String>,
    /// A conversation to send instead of a prompt of ours.
    pub messages: Vec<Message>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (prefix, suffix) = (self.prefix.len(), self.suffix.len());
        write!(formatter, "Input({prefix} + {suffix} bytes, {} further files)", self.context.len())
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

/// A completion about to be asked for.
pub struct Planned {
    pub plan: Plan,
    /// For the response header and the log.
    pub trimmed: Trimmed,
    /// Estimates, for the answer's token counts.
    pub context_tokens_sent: usize,
    pub context_tokens_used: usize,
}

/// Tokens for what surrounds the code in a prompt.
const INFILL_MARGIN_TOKENS: usize = 16;
const CHAT_MARGIN_TOKENS: usize = 320;

/// Plans a completion. `None` where no model is asked, because neither the file's name nor the editor says what language
/// it is: the answer is no suggestion.
pub fn plan(input: &Input, model: &ModelInfo, settings: &Settings) -> Option<Planned> {
    let language = input.language()?;
    let asks_in_chat = !input.messages.is_empty() || !model.has_infill && model.has_chat;
    let max_tokens = settings.max_tokens.unwrap_or_else(|| family::max_tokens(settings.family));
    // A model of a very short context keeps half of it for the code.
    let max_tokens = max_tokens.min((model.context_tokens / 2).max(1));
    let margin = if asks_in_chat { CHAT_MARGIN_TOKENS } else { INFILL_MARGIN_TOKENS };
    let room = model.context_tokens.saturating_sub(max_tokens + margin);
    let window = window(&input.prefix, &input.suffix, &input.context, settings.prompt_tokens_max.min(room));
    let shape = CompletionShape::new(
        language.syntax(),
        &input.prefix,
        &input.suffix,
        ShapeOptions { unescapes_underscores: settings.family.is_some_and(Family::escapes_underscores) },
    );
    let mut stop: Vec<String> = family::stop(settings.family).iter().map(|&text| text.to_owned()).collect();
    let (prompt, shape): (Prompt, Box<dyn Shape>) = if asks_in_chat {
        let chat = match input.messages.is_empty() {
            true => instruct::chat(&input.file_name, &language.name, &window),
            false => Chat { messages: input.messages.clone(), ..Chat::default() },
        };
        (Prompt::Chat(chat), Box::new(InstructShape::new(shape, &input.prefix)))
    } else {
        if shape.is_one_line() {
            stop.push("\n".to_owned());
        }
        (raw_prompt(&window, model), Box::new(shape))
    };
    let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
    let stop = StopRules { max_tokens: Some(max_tokens), stop };
    let sent = input.context.iter().map(|item| estimated_tokens(item)).sum();
    Some(Planned {
        plan: Plan { prompt, sampling, stop, class: Class::Completion, shape },
        trimmed: window.trimmed,
        context_tokens_sent: sent,
        context_tokens_used: estimated_tokens(&window.context),
    })
}

/// Further files come before the file itself, as if they were its beginning.
fn raw_prompt(window: &Window<'_>, model: &ModelInfo) -> Prompt {
    let prefix = match window.context.is_empty() {
        true => window.prefix.to_owned(),
        false => format!("{}\n{}", window.context, window.prefix),
    };
    match model.has_infill {
        true => Prompt::Infill(Infill { prefix, suffix: window.suffix.to_owned() }),
        // A plain language model cannot see what follows: it goes on from what comes before.
        false => Prompt::Text(prefix),
    }
}
