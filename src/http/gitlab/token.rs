//! Tokens for IDEs that call the gateway themselves.

use super::authenticate::GitlabCaller;
use super::error::Refusal;
use crate::auth::gitlab::{MintError, MintHeaders};
use crate::http::AppState;
use crate::http::error::json;
use crate::http::headers::single;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;

/// `POST /v1/code/user_access_token`: has no body.
pub(super) async fn user_access_token(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    headers: HeaderMap,
) -> Result<axum::response::Response, Refusal> {
    let mint_headers = MintHeaders {
        global_user_id: single(&headers, "x-gitlab-global-user-id")?,
        instance_id: single(&headers, "x-gitlab-instance-id")?,
        realm: single(&headers, "x-gitlab-realm")?,
    };
    let auth = state.gitlab.auth.as_ref().expect("without one nobody gets past authentication");
    let minted = auth.mint(&caller.caller, mint_headers).map_err(|error| match error {
        MintError::Forbidden(forbidden) => Refusal::Forbidden { detail: forbidden.detail.into() },
        MintError::Signing => Refusal::detail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    })?;
    let body = json!({"token": minted.token, "expires_at": minted.expires_at_s});
    Ok(json(StatusCode::OK, body.to_string().into_bytes()))
}
