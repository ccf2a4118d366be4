//! Code suggestions: the bodies of `/v2/code/*`, `/v3/code/completions` and `/v4/code/suggestions` into typed calls.

mod answer;
mod components;
#[cfg(test)]
mod tests;
mod version_two;

pub use answer::{Answered, TokenCounts, content_chunk, ping, stream_end};
pub use components::suggestion;
pub use version_two::{completion, generation};

use super::metadata::ModelChoice;
use super::validation::{ValidationError, list, text};
use crate::domain::{Message, Role};
use crate::feature::{completion as complete, generation as generate};
use crate::wire::json::Json;
use crate::wire::read::Field;

/// Longest code around a cursor of a completion.
const COMPLETION_CHARS_MAX: usize = 100_000;
/// Rails does not trim what it sends for generations, and lets bodies of this size through.
const GENERATION_CHARS_MAX: usize = 400_000;
const NAME_CHARS_MAX: usize = 255;
const CONTEXT_NAME_CHARS_MAX: usize = 1024;
const MESSAGES_MAX: usize = 1000;

/// What a body asks for. Prompt versions, component types and key names are behind it.
#[derive(Clone, Debug)]
pub struct CodeCall {
    pub input: CodeInput,
    pub model: ModelChoice,
    pub stream: bool,
    /// What answers call the engine.
    pub provider: String,
    /// GitLab's id of the language; empty if it has none.
    pub lang: &'static str,
}

#[derive(Clone, Debug)]
pub enum CodeInput {
    Completion(complete::Input),
    Generation(generate::Input),
}

/// What is asked for, for scopes and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeKind {
    Completion,
    Generation,
}

impl CodeCall {
    pub fn kind(&self) -> CodeKind {
        match self.input {
            CodeInput::Completion(_) => CodeKind::Completion,
            CodeInput::Generation(_) => CodeKind::Generation,
        }
    }
}

/// A provider, which has to be one of those an endpoint knows.
fn provider(field: Option<Field>, known: &[&str], expected: &'static str) -> Result<Option<String>, ValidationError> {
    let Some(field) = field else { return Ok(None) };
    let path = field.path.clone();
    let name = field.string()?;
    match known.contains(&name.as_str()) {
        true => Ok(Some(name)),
        false => Err(ValidationError::NotAllowed { path, expected }),
    }
}

fn messages(field: Field) -> Result<Vec<Message>, ValidationError> {
    list(field, MESSAGES_MAX, |item| {
        let mut item = item.object()?;
        let role = item.required("role")?;
        let path = role.path.clone();
        let role = match role.string()?.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => {
                let expected = "system, user or assistant";
                return Err(ValidationError::NotAllowed { path, expected });
            }
        };
        Ok(Message { role, content: item.required("content")?.string()? })
    })
}

/// A prompt that is a text or a conversation; the text of a completion is made by the gateway and ignored.
fn messages_or_text(field: Option<Field>) -> Result<Vec<Message>, ValidationError> {
    match field {
        None => Ok(Vec::new()),
        Some(field) if matches!(field.value, Json::String(_)) => Ok(Vec::new()),
        Some(field) => messages(field),
    }
}

/// A further file: its type and name are held to their limits, its content is used.
fn context_item(field: Field, content_chars_max: usize) -> Result<String, ValidationError> {
    let mut fields = field.object()?;
    text(fields.required("type")?, CONTEXT_NAME_CHARS_MAX)?;
    text(fields.required("name")?, CONTEXT_NAME_CHARS_MAX)?;
    text(fields.required("content")?, content_chars_max)
}

fn none_if_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
