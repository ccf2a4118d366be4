//! What is wrong with a request, and the body that says so. The status is decided by `http`.

use crate::domain::{ErrorKind, GenerateError};
use crate::wire::json::JsonError;
use crate::wire::openai::{ErrorBody, ErrorDetail};
use crate::wire::read::{Problem, ReadError};
use crate::wire::sse;

/// Why a body is not a valid request. Messages hold numbers and names, never prompts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{path} is {found}, allowed is {allowed}")]
    Range { path: String, found: String, allowed: String },
    #[error("{path} has {found} {unit}, the limit is {allowed}")]
    TooMany { path: String, found: usize, unit: &'static str, allowed: usize },
    #[error("{path} is empty")]
    Empty { path: String },
    #[error("{path} is not supported here: {instead}")]
    Unsupported { path: String, instead: &'static str },
    #[error("{path} does not go with {other}: {reason}")]
    Conflict { path: &'static str, other: &'static str, reason: &'static str },
}

impl RequestError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Json(_)
            | Self::Read(_)
            | Self::Range { .. }
            | Self::TooMany { .. }
            | Self::Empty { .. }
            | Self::Unsupported { .. }
            | Self::Conflict { .. } => ErrorKind::Invalid,
        }
    }

    /// OpenAI's `param`: the field that is wrong.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Json(_) => None,
            Self::Read(error) => Some(error.path.as_str()).filter(|path| !path.is_empty()),
            Self::Range { path, .. }
            | Self::TooMany { path, .. }
            | Self::Empty { path }
            | Self::Unsupported { path, .. } => Some(path),
            Self::Conflict { path, .. } => Some(path),
        }
    }

    /// OpenAI's `code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "invalid_json",
            Self::Read(ReadError { problem: Problem::Missing, .. }) => "missing_required_parameter",
            Self::Read(ReadError { problem: Problem::WrongType { .. }, .. }) => "invalid_type",
            Self::Read(ReadError { problem: Problem::Unknown { .. }, .. }) => "unknown_parameter",
            Self::Unsupported { .. } => "unsupported_parameter",
            Self::Range { .. } | Self::TooMany { .. } | Self::Empty { .. } | Self::Conflict { .. } => "invalid_value",
        }
    }
}

/// OpenAI's `code` for what a lane said.
pub fn generate_error_code(error: &GenerateError) -> &'static str {
    match error {
        GenerateError::PromptTooLong { .. } => "context_length_exceeded",
        GenerateError::PromptEmpty | GenerateError::TokenOutOfRange { .. } | GenerateError::Template { .. } => {
            "invalid_value"
        }
        GenerateError::NoInfill { .. } | GenerateError::NoChat { .. } => "unsupported_by_model",
        GenerateError::CacheTooSmall { .. } => "cache_too_small",
        GenerateError::QueueFull { .. } => "queue_full",
        GenerateError::Superseded => "superseded",
        GenerateError::DeadlineExceeded { .. } => "deadline_exceeded",
        GenerateError::Starting { .. } => "starting",
        GenerateError::ShuttingDown => "shutting_down",
        GenerateError::EngineDown { .. } => "engine_down",
        GenerateError::StepFailed { .. } => "engine_error",
        GenerateError::NotOffered { .. } => "unsupported_by_model",
        GenerateError::Upstream(error) => error.code(),
        GenerateError::Exhausted(exhausted) => generate_error_code(&exhausted.last),
    }
}

/// The body of an error, whatever went wrong.
pub fn error_body(kind: ErrorKind, message: &str, param: Option<&str>, code: Option<&'static str>) -> Vec<u8> {
    let body = ErrorBody { error: ErrorDetail { message, kind: error_type(kind), param, code } };
    serde_json::to_vec(&body).expect("an error holds only strings")
}

/// The last event of a stream that broke after it had begun. No `[DONE]` follows.
pub fn error_event(error: &GenerateError, out: &mut Vec<u8>) {
    let message = error.to_string();
    let code = Some(generate_error_code(error));
    sse::event(
        &ErrorBody { error: ErrorDetail { message: &message, kind: error_type(error.kind()), param: None, code } },
        out,
    );
}

/// OpenAI's `type`.
fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::TooLarge => "invalid_request_error",
        ErrorKind::Overloaded => "rate_limit_error",
        ErrorKind::Superseded => "conflict_error",
        ErrorKind::Deadline | ErrorKind::Starting | ErrorKind::ShuttingDown | ErrorKind::Unavailable => {
            "service_unavailable_error"
        }
        ErrorKind::Upstream | ErrorKind::Internal => "server_error",
    }
}
