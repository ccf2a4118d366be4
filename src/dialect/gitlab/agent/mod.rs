//! `POST /v2/chat/agent`: the classic chat, one step a call. Answers are lines of JSON (NDJSON); once a call is valid
//! the status is 200, and whatever goes wrong behind it is a line of its own.

use super::metadata::{ModelChoice, model_metadata};
use super::validation::{Form, ValidationError, body, boolean, list, text};
use crate::domain::{ErrorKind, FinishReason, GenerateError, Role, UpstreamClass};
use crate::feature::agent::{AgentError, AgentEvent, Context, CurrentFile, Input, Item, Resource, Step, Turn};
use crate::wire::gitlab::chat::AgentLine;
use crate::wire::gitlab::detail::DetailBody;
use crate::wire::json::Json;
use crate::wire::read::{Field, Fields};

/// What the lines are sent as.
pub const CONTENT_TYPE: &str = "application/x-ndjson; charset=utf-8";

/// Rails sends at most some fifty messages; the rest is for other clients.
const MESSAGES_MAX: usize = 1000;
const ITEMS_MAX: usize = 1000;
/// GitLab gives up after ten.
const STEPS_MAX: usize = 100;
const NAMES_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 1000;
/// The limit of the body comes first.
const TEXT_CHARS_MAX: usize = 4_000_000;

/// A call, read and valid.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentCall {
    pub model: ModelChoice,
    pub input: Input,
}

/// Why a call is refused. Its scopes are checked behind this.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AgentCallError {
    /// Status 400.
    #[error("{path} can only be sent with the role assistant")]
    Scratchpad { path: String },
    /// Status 422.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
}

impl AgentCallError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Scratchpad { .. } => ErrorKind::Invalid,
            Self::Invalid(error) => error.kind(),
        }
    }

    pub fn into_body(self) -> Vec<u8> {
        const SCRATCHPAD: &str = "agent_scratchpad can only be present when role is ASSISTANT";
        match self {
            Self::Scratchpad { .. } => {
                serde_json::to_vec(&DetailBody { detail: SCRATCHPAD }).expect("a detail is a string")
            }
            Self::Invalid(error) => error.into_body(Form::Plain),
        }
    }
}

/// Understands a body.
pub fn agent_call(text: &[u8]) -> Result<AgentCall, AgentCallError> {
    let mut fields = body(text)?;
    let model = model_metadata(fields.take("model_metadata"))?;
    let messages = fields.required("messages").map_err(ValidationError::from)?;
    let path = messages.path.clone();
    let mut input = Input { unavailable: unavailable(fields.take("unavailable_resources"))?, ..Input::default() };
    for message in list(messages, MESSAGES_MAX, Ok)? {
        let (turn, steps) = message_of(message)?;
        input.turns.push(turn);
        // Every call brings all the steps of its question.
        input.steps = steps.unwrap_or_default();
    }
    if input.turns.is_empty() {
        let expected = "a list of at least one message";
        return Err(ValidationError::NotAllowed { path, expected }.into());
    }
    if let Some(steps) = legacy_steps(fields.take("options"))? {
        input.steps = steps;
    }
    Ok(AgentCall { model, input })
}

fn unavailable(field: Option<Field>) -> Result<Vec<String>, ValidationError> {
    const DEFAULT: &str = "Merge Requests, Pipelines, Vulnerabilities";
    match field {
        Some(field) => list(field, NAMES_MAX, |name| text(name, NAME_CHARS_MAX)),
        None => Ok(vec![DEFAULT.to_owned()]),
    }
}

fn message_of(field: Field) -> Result<(Turn, Option<Vec<Step>>), AgentCallError> {
    let mut fields = field.object().map_err(ValidationError::from)?;
    let role = role(fields.required("role").map_err(ValidationError::from)?)?;
    let steps = match fields.take("agent_scratchpad") {
        Some(field) if role != Role::Assistant => return Err(AgentCallError::Scratchpad { path: field.path }),
        Some(field) => Some(list(field, STEPS_MAX, step)?),
        None => None,
    };
    let context = Context {
        resource: fields.take("context").map(resource).transpose()?.flatten(),
        current_file: fields.take("current_file").map(current_file).transpose()?.flatten(),
        items: match fields.take("additional_context") {
            Some(field) => list(field, ITEMS_MAX, item)?,
            None => Vec::new(),
        },
    };
    Ok((Turn { role, content: text_or_empty(&mut fields, "content")?, context }, steps))
}

fn role(field: Field) -> Result<Role, ValidationError> {
    let path = field.path.clone();
    match text(field, NAME_CHARS_MAX)?.as_str() {
        "system" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        _ => Err(ValidationError::NotAllowed { path, expected: "system, user or assistant" }),
    }
}

/// The newest form is a title, the one before 17.9 the whole content.
fn resource(field: Field) -> Result<Option<Resource>, ValidationError> {
    let mut fields = field.object()?;
    let Some(kind) = fields.take("type") else { return Ok(None) };
    Ok(Some(Resource {
        kind: text(kind, NAME_CHARS_MAX)?,
        title: fields.take("title").map(|title| text(title, TEXT_CHARS_MAX)).transpose()?,
        content: fields.take("content").map(|content| text(content, TEXT_CHARS_MAX)).transpose()?,
    }))
}

fn current_file(field: Field) -> Result<Option<CurrentFile>, ValidationError> {
    let mut fields = field.object()?;
    let path = text_or_empty(&mut fields, "file_path")?;
    let data = text_or_empty(&mut fields, "data")?;
    let is_selection = fields.take("selected_code").map(boolean).transpose()?.unwrap_or(false);
    Ok((!data.is_empty()).then_some(CurrentFile { path, data, is_selection }))
}

/// Any category is taken: versions of GitLab differ in those they know.
fn item(field: Field) -> Result<Item, ValidationError> {
    let mut fields = field.object()?;
    Ok(Item {
        category: text(fields.required("category")?, NAME_CHARS_MAX)?,
        id: fields.take("id").map(|id| text(id, TEXT_CHARS_MAX)).transpose()?,
        content: text_or_empty(&mut fields, "content")?,
        label: fields.take("metadata").map(label).transpose()?.flatten(),
    })
}

/// What the metadata of an item calls it.
fn label(field: Field) -> Result<Option<String>, ValidationError> {
    const NAMES: [&str; 6] = ["title", "name", "file_path", "relative_path", "path", "file_name"];
    let mut fields = field.object()?;
    let found = NAMES.into_iter().find_map(|name| match fields.take(name)?.value {
        Json::String(label) if !label.trim().is_empty() => Some(label),
        _ => None,
    });
    Ok(found.map(|label| label.chars().take(NAME_CHARS_MAX).collect()))
}

fn step(field: Field) -> Result<Step, ValidationError> {
    let mut fields = field.object()?;
    let mut action = fields.required("action")?.object()?;
    let observation = text_or_empty(&mut fields, "observation")?;
    step_of(&mut action, observation)
}

/// The form of 17.x: thought, tool, input and observation side by side.
fn legacy_steps(options: Option<Field>) -> Result<Option<Vec<Step>>, ValidationError> {
    let Some(options) = options else { return Ok(None) };
    let Some(scratchpad) = options.object()?.take("agent_scratchpad") else { return Ok(None) };
    let Some(steps) = scratchpad.object()?.take("steps") else { return Ok(None) };
    let read = |field: Field| {
        let mut fields = field.object()?;
        let observation = text_or_empty(&mut fields, "observation")?;
        step_of(&mut fields, observation)
    };
    list(steps, STEPS_MAX, read).map(Some)
}

fn step_of(action: &mut Fields, observation: String) -> Result<Step, ValidationError> {
    Ok(Step {
        thought: text_or_empty(action, "thought")?,
        tool: text_or_empty(action, "tool")?,
        tool_input: text_or_empty(action, "tool_input")?,
        observation,
    })
}

fn text_or_empty(fields: &mut Fields, name: &'static str) -> Result<String, ValidationError> {
    Ok(fields.take(name).map(|field| text(field, TEXT_CHARS_MAX)).transpose()?.unwrap_or_default())
}

/// Appends one line for each event.
pub fn write_events(events: &[AgentEvent], out: &mut Vec<u8>) {
    for event in events {
        match event {
            AgentEvent::Delta { text, finish_reason } => {
                AgentLine::FinalAnswerDelta { text, finish_reason: finish_reason.map(finish_reason_name) }
            }
            AgentEvent::Action { tool, tool_input, thought } => AgentLine::Action { tool, tool_input, thought },
            AgentEvent::Unknown { text } => AgentLine::Unknown { text },
        }
        .write(out);
    }
}

/// The last line of a call that a lane could not answer.
pub fn error_line(error: &GenerateError) -> Vec<u8> {
    let (message, is_retryable) = spoken(error);
    line(&message, is_retryable)
}

/// The only line of a call that could not be planned.
pub fn refusal_line(error: &AgentError) -> Vec<u8> {
    line(&error.to_string(), false)
}

/// The only line of a call for which there is no lane.
pub fn message_line(message: &str) -> Vec<u8> {
    line(message, false)
}

fn line(message: &str, retryable: bool) -> Vec<u8> {
    let mut out = Vec::new();
    AgentLine::Error { message, retryable }.write(&mut out);
    out
}

/// In the words by which GitLab tells one error from another: `prompt is too long` asks the user to clear the
/// conversation (A1005), `overloaded_error` makes it try again.
fn spoken(error: &GenerateError) -> (String, bool) {
    const OVERLOADED: &str = "overloaded_error";
    match error {
        GenerateError::PromptTooLong { prompt_tokens, max_tokens, context_tokens, .. } => {
            let room = context_tokens.saturating_sub(*max_tokens);
            (format!("prompt is too long: {prompt_tokens} tokens > {room} maximum"), false)
        }
        GenerateError::CacheTooSmall { needed_tokens, cache_tokens } => {
            (format!("prompt is too long: {needed_tokens} tokens > {cache_tokens} maximum"), false)
        }
        GenerateError::QueueFull { .. } | GenerateError::Starting { .. } | GenerateError::ShuttingDown => {
            (OVERLOADED.to_owned(), true)
        }
        // One that comes back is worth another try soon.
        GenerateError::EngineDown { retry_after: Some(_), .. } => (OVERLOADED.to_owned(), true),
        GenerateError::EngineDown { retry_after: None, .. } | GenerateError::DeadlineExceeded { .. } => {
            (error.to_string(), false)
        }
        GenerateError::PromptEmpty
        | GenerateError::TokenOutOfRange { .. }
        | GenerateError::NoInfill { .. }
        | GenerateError::Superseded
        | GenerateError::NotOffered { .. } => (error.to_string(), false),
        GenerateError::Upstream(upstream) => match upstream.class {
            UpstreamClass::TooLong => (format!("prompt is too long: {upstream}"), false),
            UpstreamClass::Limited | UpstreamClass::Overloaded => (OVERLOADED.to_owned(), true),
            UpstreamClass::Request
            | UpstreamClass::Policy
            | UpstreamClass::Setup
            | UpstreamClass::Failed
            | UpstreamClass::Broken => (error.to_string(), false),
        },
        GenerateError::NoChat { model } => (AgentError::NoChat { model: model.clone() }.to_string(), false),
        // The reasons of these are for the log: they speak of insides.
        GenerateError::Template { model, .. } => {
            (format!("the chat template of {model} does not take this conversation"), false)
        }
        GenerateError::Exhausted(exhausted) => spoken(&exhausted.last),
        GenerateError::StepFailed { .. } => ("the model failed while it answered".to_owned(), false),
    }
}

fn finish_reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

#[cfg(test)]
mod tests;
