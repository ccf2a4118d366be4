//! The endpoints that do not generate.

use super::error::{EdgeError, Failure, json};
use super::gitlab;
use super::{AppState, Readiness};
use crate::dialect::openai;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// For the caller who took a wrong turn.
const ENDPOINTS: &str = "GET /v1/models, GET /v1/models/{name}, POST /v1/completions, POST /v1/chat/completions, \
                         GET /monitoring/healthz, GET /monitoring/ready";

pub(super) async fn models(State(state): State<AppState>) -> Response {
    json(StatusCode::OK, openai::model_list(state.routes().models()))
}

pub(super) async fn model(State(state): State<AppState>, Path(name): Path<String>) -> Result<Response, Failure> {
    let lane = state.routes().find(&name)?;
    Ok(json(StatusCode::OK, openai::model(&lane.info)))
}

/// The process lives: nothing more is asked.
pub(super) async fn healthz() -> Response {
    json(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())
}

/// Whether to send calls here. Answers from memory.
pub(super) async fn ready(State(state): State<AppState>) -> Response {
    let unready = |status: &str, cause: Option<String>| {
        let body = json!({"status": status, "cause": cause});
        json(StatusCode::SERVICE_UNAVAILABLE, body.to_string().into_bytes())
    };
    match state.health.readiness() {
        Readiness::Ready => json(StatusCode::OK, b"{}".to_vec()),
        Readiness::Starting { cause } => unready("starting", Some(cause)),
        Readiness::Restarting { cause } => unready("restarting", Some(cause)),
        Readiness::Failed { cause } => unready("failed", Some(cause)),
        Readiness::Stopping => unready("shutting down", None),
    }
}

/// Where there is a GitLab to serve, strangers are refused before they learn what there is.
pub(super) async fn unknown_path(State(state): State<AppState>, request: Request) -> Response {
    if !state.gitlab.settings.is_enabled {
        return Failure::from(EdgeError::UnknownPath { endpoints: ENDPOINTS }).into_response();
    }
    match gitlab::identify(&state, &request.into_parts().0).await {
        Ok(_) => gitlab::unknown_path(),
        Err(refusal) => refusal.into_response(),
    }
}

/// The router adds the `Allow` header.
pub(super) async fn method_not_allowed(State(state): State<AppState>, request: Request) -> Response {
    let path = request.uri().path();
    let is_openai = ["/v1/completions", "/v1/chat/completions"].contains(&path) || path.starts_with("/v1/models");
    if state.gitlab.settings.is_enabled && !is_openai {
        return match gitlab::identify(&state, &request.into_parts().0).await {
            Ok(_) => gitlab::method_not_allowed(),
            Err(refusal) => refusal.into_response(),
        };
    }
    let method = request.method();
    let method = match method.as_str() {
        name @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "TRACE" | "CONNECT") => {
            name.to_owned()
        }
        _ => "sent".to_owned(),
    };
    Failure::from(EdgeError::Method { method }).into_response()
}
