//! Refusals in the words of GitLab's gateway: the one table of its statuses, which differ from the OpenAI surface's.
//!
//! Outward texts are the contract's; the finer reason goes to the log and never holds a value of the body.

use crate::dialect::gitlab::agent::AgentCallError;
use crate::dialect::gitlab::legacy::LegacyCallError;
use crate::dialect::gitlab::prompts::{PromptRefusal, Refused};
use crate::dialect::gitlab::validation::{Form, ValidationError};
use crate::domain::{ErrorKind, GenerateError};
use crate::http::error::{EdgeError, json};
use crate::route::RouteError;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;

/// Why a request of GitLab's was not answered.
#[derive(Debug, thiserror::Error)]
pub(in crate::http) enum Refusal {
    /// `{"error": …}` with status 401; `reason` is for the log.
    #[error("{text}: {reason}")]
    Unauthenticated { text: Cow<'static, str>, reason: String },
    #[error("{detail}")]
    Forbidden { detail: Cow<'static, str> },
    #[error("{error}")]
    Body { error: ValidationError, form: Form },
    #[error("{error}")]
    Agent { error: AgentCallError },
    #[error("{error}")]
    Legacy { error: LegacyCallError },
    #[error(transparent)]
    Prompt(#[from] PromptRefusal),
    /// Refused in a sentence of ours.
    #[error("{detail}")]
    Detail { status: StatusCode, detail: Cow<'static, str> },
    #[error(transparent)]
    Edge(#[from] EdgeError),
    #[error("{error}")]
    Route { error: RouteError, surface: Surface },
    #[error("{error}")]
    Generate { error: GenerateError, surface: Surface },
}

/// Endpoints agree on most statuses, and differ in what they say of a model that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Surface {
    /// `/v2/code`, `/v3/code`, `/v4/code`, `/v1/chat`: 503 and a fixed sentence.
    Code,
    /// `/v1/prompts`, `/v2/prompts`: 421 and the status of the model server, which GitLab's connection test shows.
    Prompts,
}

#[derive(Serialize)]
struct ErrorText<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct Detail<'a> {
    detail: &'a str,
}

const TOO_MANY: &str = "Too many requests. Please try again later.";

impl From<AgentCallError> for Refusal {
    fn from(error: AgentCallError) -> Self {
        Self::Agent { error }
    }
}

impl Refusal {
    pub(super) fn detail(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Detail { status, detail: detail.into() }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Generate { error, .. } => error.retry_after(),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after();
        let mut response = match self {
            Self::Unauthenticated { text, .. } => {
                let body = serde_json::to_vec(&ErrorText { error: &text }).expect("text is serialisable");
                json(StatusCode::UNAUTHORIZED, body)
            }
            Self::Forbidden { detail } => says(StatusCode::FORBIDDEN, &detail),
            Self::Body { error, form } => json(StatusCode::UNPROCESSABLE_ENTITY, error.into_body(form)),
            Self::Agent { error } => {
                let status = match error {
                    AgentCallError::Scratchpad { .. } => StatusCode::BAD_REQUEST,
                    AgentCallError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                };
                json(status, error.into_body())
            }
            Self::Legacy { error } => {
                let status = match error {
                    LegacyCallError::UnknownName => StatusCode::NOT_FOUND,
                    LegacyCallError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                };
                json(status, error.into_body())
            }
            Self::Prompt(refusal) => {
                let status = match refusal.refused() {
                    Refused::BadRequest => StatusCode::BAD_REQUEST,
                    Refused::Forbidden => StatusCode::FORBIDDEN,
                    Refused::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
                    Refused::ModelServer => StatusCode::MISDIRECTED_REQUEST,
                    Refused::Internal => StatusCode::INTERNAL_SERVER_ERROR,
                };
                json(status, refusal.body())
            }
            Self::Detail { status, detail } => says(status, &detail),
            // JSON in the wrong wrapping is no JSON.
            Self::Edge(EdgeError::ContentType) => says(StatusCode::UNPROCESSABLE_ENTITY, "Validation error"),
            Self::Edge(error) => says(error.status(), &error.to_string()),
            Self::Route { error, surface: Surface::Code } => says(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
            Self::Route { surface: Surface::Prompts, .. } => says(StatusCode::MISDIRECTED_REQUEST, "404: Not Found"),
            Self::Generate { error, surface: Surface::Code } => of_code(&error),
            Self::Generate { error, surface: Surface::Prompts } => of_prompts(&error),
        };
        if let Some(wait) = retry_after {
            let wait_s = wait.as_millis().div_ceil(1000).max(1);
            let value = HeaderValue::from_str(&wait_s.to_string()).expect("digits are allowed in a header");
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        response
    }
}

fn of_code(error: &GenerateError) -> Response {
    match error.kind() {
        ErrorKind::Overloaded => says(StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
        ErrorKind::Superseded => says(StatusCode::CONFLICT, &error.to_string()),
        ErrorKind::Invalid => says(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::TooLarge
        | ErrorKind::Deadline
        | ErrorKind::Starting
        | ErrorKind::ShuttingDown
        | ErrorKind::Unavailable
        | ErrorKind::Upstream
        | ErrorKind::Internal => says(StatusCode::SERVICE_UNAVAILABLE, "Inference failed"),
    }
}

/// What a model server would have said, so that GitLab's connection test names it. A full queue stays 429: GitLab waits
/// and tries again.
fn of_prompts(error: &GenerateError) -> Response {
    match error.kind() {
        ErrorKind::Overloaded => says(StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
        ErrorKind::Invalid => says(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        _ => Refusal::from(PromptRefusal::from(error)).into_response(),
    }
}

fn says(status: StatusCode, detail: &str) -> Response {
    json(status, serde_json::to_vec(&Detail { detail }).expect("text is serialisable"))
}
