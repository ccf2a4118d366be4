//! The prompts API: one data file per prompt (`*.toml` beside this file), from which a call's inputs become a [`Plan`].
//!
//! The texts are our own, written for open-weight models of 7 to 32 billion parameters: short, the format shown by an
//! example, what changes from call to call last, so that the prefix cache keeps the rest. Knows no wire format.

mod budget;
mod card;
mod estimate;
mod inputs;
mod registry;
mod version;

#[cfg(test)]
mod tests;

pub use super::output::Note;
pub use budget::{Trimmed, smaller_budget};
pub use card::{InputCard, InputKind, Keep, OutputKind, PromptCard};
pub use inputs::{Document, Inputs};
pub use registry::{all, find};
pub use version::{VersionError, check_version};

use super::output;
use super::{Family, Plan};
use crate::domain::{Chat, Message, ModelInfo, Prompt, Role, SamplingParams, StopRules};
use serde_json::{Map, Value};

/// Prompts that exist in GitLab and are no plain question and answer: they have endpoints of their own.
const UNSUPPORTED: &[&str] = &["chat/react"];

/// What a call does not say about itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub model: &'a ModelInfo,
    pub family: Option<Family>,
    /// For example `October 05, 2026`; an input of this name goes before it.
    pub current_date: &'a str,
    /// The prompt's budget as this room estimates tokens; `None` takes what the model's context leaves. See
    /// [`smaller_budget`].
    pub prompt_tokens_max: Option<usize>,
}

/// How a call is answered.
pub enum Prepared {
    Ask(Box<Ask>),
    /// The inputs alone decide: no model is asked.
    Answer(String),
}

/// What to ask a lane.
pub struct Ask {
    pub plan: Plan,
    /// What had to be left out to fit the model's context, to be told to the caller and the log.
    pub trimmed: Vec<Trimmed>,
    pub prompt_tokens_estimate: usize,
    /// Says, when the shape has finished, why the answer is not what the model wrote.
    pub note: Note,
}

/// Why a call of a prompt cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    #[error("there is no prompt '{id}'")]
    Unknown { id: String },
    #[error("prompt '{id}' is not a plain question and answer")]
    Unsupported { id: String },
    #[error("prompt '{id}' needs the input '{name}', which is missing")]
    MissingInput { id: &'static str, name: &'static str },
    #[error("prompt '{id}' could not be written: {reason}")]
    Template { id: &'static str, reason: String },
}

/// The card of a prompt that can be answered.
pub fn lookup(id: &str) -> Result<&'static PromptCard, PromptError> {
    /// What a message repeats of a name nobody knows.
    const SHOWN_CHARS: usize = 128;
    let shown = || id.chars().take(SHOWN_CHARS).collect();
    match find(id) {
        Some(card) => Ok(card),
        None if UNSUPPORTED.contains(&id) => Err(PromptError::Unsupported { id: shown() }),
        None => Err(PromptError::Unknown { id: shown() }),
    }
}

/// Turns the inputs of a call into what to ask a lane, or into the answer where the inputs decide it.
pub fn prepare(
    card: &'static PromptCard,
    given: &Map<String, Value>,
    facts: &Facts<'_>,
) -> Result<Prepared, PromptError> {
    let inputs = Inputs::read(card, given, facts.current_date)?;
    if let Some(answer) = output::certain_answer(card.output, &inputs) {
        return Ok(Prepared::Answer(answer));
    }
    let room = budget::Room::new(card, facts);
    let fitted = budget::fit(card, &inputs, room.prompt_tokens_max)?;
    let note = Note::default();
    let plan = Plan {
        prompt: prompt(card, fitted.texts, facts),
        sampling: SamplingParams { temperature: card.temperature, ..SamplingParams::default() },
        stop: StopRules { max_tokens: Some(room.answer_tokens(fitted.tokens_estimate)), stop: card.stop.clone() },
        class: card.class,
        shape: output::shape(card, &inputs, facts.family, &note),
    };
    let (trimmed, prompt_tokens_estimate) = (fitted.trimmed, fitted.tokens_estimate);
    Ok(Prepared::Ask(Box::new(Ask { plan, trimmed, prompt_tokens_estimate, note })))
}

/// A model without chat template continues the same text.
fn prompt(card: &PromptCard, texts: card::Texts, facts: &Facts<'_>) -> Prompt {
    let card::Texts { system, user } = texts;
    let answer_prefix = card.answer_prefix.clone();
    if !facts.model.has_chat {
        return Prompt::Text(format!("{system}\n\n{user}\n\n{answer_prefix}"));
    }
    let message = |role: Role, content: String| Message { role, content };
    let messages = match takes_system(facts) {
        true => vec![message(Role::System, system), message(Role::User, user)],
        false => vec![message(Role::User, format!("{system}\n\n{user}"))],
    };
    Prompt::Chat(Chat { messages, answer_prefix })
}

/// Templates of these families, in versions still in use, refuse a conversation with a system message. The others keep
/// to it better than to the same words in the question.
fn takes_system(facts: &Facts<'_>) -> bool {
    let refuses = matches!(facts.family, Some(Family::Mistral | Family::Mixtral | Family::CodeGemma));
    !refuses && !facts.model.architecture.contains("gemma")
}
