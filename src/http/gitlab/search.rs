//! `POST /v1/search/gitlab-docs`: passages of the documentation that was imported.

use super::authenticate::GitlabCaller;
use super::error::Refusal;
use crate::auth::gitlab::Endpoint;
use crate::dialect::gitlab::search::{Passage, search_answer, search_call};
use crate::dialect::gitlab::validation::Form;
use crate::http::error::json;
use crate::http::headers::check_json;
use crate::http::{AppState, body};
use crate::search::Hit;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

pub(super) async fn documentation(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, request_body) = request.into_parts();
    check_json(&parts.headers)?;
    let bytes = body::read(&parts.headers, request_body, &state.limits).await?;
    let call = search_call(&bytes).map_err(|error| Refusal::Body { error, form: Form::Plain })?;
    let may = caller.caller.may(Endpoint::DocumentationSearch);
    may.map_err(|error| Refusal::Forbidden { detail: error.detail.into() })?;
    let hits = find(&state, call.query, call.page_size).await;
    let passages: Vec<Passage<'_>> = hits
        .iter()
        .map(|hit| Passage {
            id: &hit.id,
            content: &hit.content,
            filename: &hit.filename,
            title: &hit.title,
            source_url: &hit.source_url,
        })
        .collect();
    Ok(json(StatusCode::OK, search_answer(&passages, (state.unix_time)())))
}

/// What cannot be searched has no hits: the model then answers from what it knows, which is better than no answer.
async fn find(state: &AppState, query: String, page_size: usize) -> Vec<Hit> {
    let gitlab = state.gitlab.clone();
    let search = move || gitlab.docs.as_ref().map(|docs| docs.find(&query, page_size)).unwrap_or_default();
    tokio::task::spawn_blocking(search).await.unwrap_or_default()
}
