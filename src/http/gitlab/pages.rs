//! GitLab's endpoints that generate nothing: checks, probes, and what is said of paths that lead nowhere.

use super::error::Refusal;
use crate::http::AppState;
use crate::http::error::json;
use axum::extract::State;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// Models that GitLab's cloud would offer: none here.
pub(in crate::http) async fn definitions() -> Response {
    json(StatusCode::OK, br#"{"models":[],"unit_primitives":[]}"#.to_vec())
}

/// The names of what is served, for GitLab's set-up check: it asks the model's endpoint, with the model's key.
pub(in crate::http) async fn open_models(State(state): State<AppState>) -> Response {
    let models = state.routes().models();
    let data: Vec<_> = models
        .map(|info| json!({"id": info.name, "object": "model", "created": info.created, "owned_by": "sconce"}))
        .collect();
    json(StatusCode::OK, json!({"object": "list", "data": data}).to_string().into_bytes())
}

pub(in crate::http) fn unknown_path() -> Response {
    Refusal::detail(StatusCode::NOT_FOUND, "Not Found").into_response()
}

pub(in crate::http) fn method_not_allowed() -> Response {
    Refusal::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into_response()
}

/// Whether a browser asks what it may send (fetch.spec.whatwg.org, CORS-preflight request).
pub(in crate::http) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Any page may send what has credentials: they are not a browser's own, but put there by who made the page.
pub(in crate::http) fn preflight(headers: &HeaderMap) -> Response {
    const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned().unwrap_or(HeaderValue::from_static("*"));
    let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let is_allowed = method.is_some_and(|method| method.as_bytes() == b"POST");
    let (status, text) =
        if is_allowed { (StatusCode::OK, "OK") } else { (StatusCode::BAD_REQUEST, "Disallowed CORS method") };
    let mut response = (status, text).into_response();
    let answers = response.headers_mut();
    answers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    answers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    answers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    answers.insert(VARY, HeaderValue::from_static("Origin"));
    response
}
