//! The one table that turns what went wrong into a status. The bodies are the dialect's.
//!
//! A deadline that passed is 503 with `Retry-After`, waiting or running: the server had too much to do, and 504 would
//! blame a gateway's upstream. 409 tells OpenAI's clients not to try again: the newer request is what they want.

use crate::auth::AuthError;
use crate::dialect::openai::{RequestError, error_body, generate_error_code};
use crate::domain::{ErrorKind, GenerateError};
use crate::route::RouteError;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// Why a call was not, or not fully, answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Edge(#[from] EdgeError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

/// What HTTP itself refuses, before anybody reads the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EdgeError {
    #[error("there is nothing at this path; there is: {endpoints}")]
    UnknownPath { endpoints: &'static str },
    #[error("this path does not take the method {method}, see the Allow header")]
    Method { method: String },
    #[error("the body has to be sent as \"Content-Type: application/json\"")]
    ContentType,
    #[error("the body has to be sent without Content-Encoding")]
    ContentEncoding,
    #[error("the body is larger than {bytes_max} bytes: send less, or raise `server.body_bytes_max`")]
    BodyTooLarge { bytes_max: usize },
    #[error("the body was not complete within {} s", .timeout.as_secs_f32())]
    BodySlow { timeout: Duration },
    #[error("the body ended before it was complete")]
    BodyBroken,
    #[error("the header {name} {problem}")]
    Header { name: &'static str, problem: &'static str },
    #[error(
        "this server has no authentication and answers only to names of this machine (localhost, 127.0.0.1, [::1]): configure API keys to use it by another name"
    )]
    ForeignHost,
    #[error(
        "this server has no authentication and answers no web pages of other origins: configure API keys to use it from there"
    )]
    ForeignOrigin,
    #[error("this server does not answer to your address: it is not in access.allow")]
    ForeignClient,
}

impl EdgeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownPath { .. } => ErrorKind::NotFound,
            Self::BodyTooLarge { .. } => ErrorKind::TooLarge,
            Self::ForeignHost | Self::ForeignOrigin | Self::ForeignClient => ErrorKind::Forbidden,
            Self::Method { .. }
            | Self::ContentType
            | Self::ContentEncoding
            | Self::BodySlow { .. }
            | Self::BodyBroken
            | Self::Header { .. } => ErrorKind::Invalid,
        }
    }

    /// HTTP has finer words than [`ErrorKind`] for its own affairs.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodySlow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownPath { .. }
            | Self::BodyTooLarge { .. }
            | Self::BodyBroken
            | Self::Header { .. }
            | Self::ForeignHost
            | Self::ForeignOrigin
            | Self::ForeignClient => status_of(self.kind()),
        }
    }
}

impl Failure {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Edge(error) => error.kind(),
            Self::Auth(error) => error.kind(),
            Self::Route(error) => error.kind(),
            Self::Request(error) => error.kind(),
            Self::Generate(error) => error.kind(),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Edge(error) => error.status(),
            Self::Auth(_) | Self::Route(_) | Self::Request(_) | Self::Generate(_) => status_of(self.kind()),
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Request(error) => error.param(),
            Self::Route(_) => Some("model"),
            Self::Edge(_) | Self::Auth(_) | Self::Generate(_) => None,
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Edge(EdgeError::UnknownPath { .. }) => Some("unknown_url"),
            Self::Edge(_) => None,
            Self::Auth(_) => Some("invalid_api_key"),
            Self::Route(_) => Some("model_not_found"),
            Self::Request(error) => Some(error.code()),
            Self::Generate(error) => Some(generate_error_code(error)),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Generate(error) => error.retry_after(),
            Self::Edge(_) | Self::Auth(_) | Self::Route(_) | Self::Request(_) => None,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        /// Read by OpenAI's clients; finer than `Retry-After`, which counts whole seconds.
        const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
        const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
        let body = error_body(self.kind(), &self.to_string(), self.param(), self.code());
        let mut response = json(self.status(), body);
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after() {
            let wait_s = wait.as_millis().div_ceil(1000).max(1);
            headers.insert(RETRY_AFTER, decimal(wait_s));
            headers.insert(RETRY_AFTER_MS, decimal(wait.as_millis().max(1)));
        }
        if self.kind() == ErrorKind::Superseded {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.kind() == ErrorKind::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sconce\""));
        }
        response
    }
}

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, [content_type], Body::from(body)).into_response()
}

fn decimal(number: u128) -> HeaderValue {
    HeaderValue::from_str(&number.to_string()).expect("digits are allowed in a header")
}

/// The table.
fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Superseded => StatusCode::CONFLICT,
        ErrorKind::Deadline | ErrorKind::Starting | ErrorKind::ShuttingDown | ErrorKind::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::Upstream => StatusCode::BAD_GATEWAY,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
