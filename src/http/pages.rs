//! The endpoints that do not generate.

use super::error::{EdgeError, Failure, json};
use super::{AppState, Readiness};
use crate::dialect::openai;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

/// For the caller who took a wrong turn.
const ENDPOINTS: &str = "GET /v1/models, GET /v1/models/{name}, POST /v1/completions, POST /v1/chat/completions, \
                         GET /monitoring/healthz, GET /monitoring/ready";

pub(super) async fn models(State(state): State<AppState>) -> Response {
    json(StatusCode::OK, openai::model_list(state.routes.models()))
}

pub(super) async fn model(State(state): State<AppState>, Path(name): Path<String>) -> Result<Response, Failure> {
    let lane = state.routes.find(&name)?;
    Ok(json(StatusCode::OK, openai::model(&lane.info)))
}

/// The process lives: nothing more is asked.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether to send calls here. Answers from memory.
pub(super) async fn ready(State(state): State<AppState>) -> Response {
    let (status, text) = match state.health.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::Starting { cause } => (StatusCode::SERVICE_UNAVAILABLE, format!("starting: {cause}\n")),
        Readiness::Failed { cause } => (StatusCode::SERVICE_UNAVAILABLE, format!("failed: {cause}\n")),
        Readiness::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()),
    };
    (status, text).into_response()
}

pub(super) async fn unknown_path() -> Failure {
    EdgeError::UnknownPath { endpoints: ENDPOINTS }.into()
}

/// The router adds the `Allow` header.
pub(super) async fn method_not_allowed(method: Method) -> Failure {
    let method = match method.as_str() {
        name @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "TRACE" | "CONNECT") => {
            name.to_owned()
        }
        _ => "sent".to_owned(),
    };
    EdgeError::Method { method }.into()
}
