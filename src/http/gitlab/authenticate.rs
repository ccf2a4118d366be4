//! Who sent a request of GitLab's: before routing, so that a stranger learns nothing of what there is.

use super::error::Refusal;
use crate::auth::gitlab::{Caller, Credentials, GitlabAuthError};
use crate::domain::CallId;
use crate::http::AppState;
use crate::http::access::{Access, CallerFacts};
use crate::http::error::EdgeError;
use crate::http::headers::single;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::CONNECTION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::borrow::Cow;
use tokio::time::Instant;

/// Headers that decide who a caller is. Each is read once or not at all.
const IDENTITY: [&str; 7] = [
    "authorization",
    "x-gitlab-authentication-type",
    "x-gitlab-realm",
    "x-gitlab-instance-id",
    "x-gitlab-global-user-id",
    "x-gitlab-duo-seat-count",
    "bypass-auth",
];

/// Who asks, under which id, and the line of log it belongs to.
#[derive(Clone)]
pub(in crate::http) struct GitlabCaller {
    pub id: CallId,
    pub access: Access,
    pub caller: Caller,
}

/// Around everything of GitLab's that is not for everybody.
pub(in crate::http) async fn authenticate(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match identify(&state, &parts).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// The caller of a request, who has now a name in the log.
pub(in crate::http) async fn identify(state: &AppState, parts: &Parts) -> Result<GitlabCaller, Refusal> {
    let extensions = &parts.extensions;
    let id = extensions.get::<CallId>().expect("admit runs before and gives every request an id").clone();
    let access = extensions.get::<Access>().expect("admit gives every request a line of log").clone();
    let begun = Instant::now();
    let found = verify(state, &parts.headers).await;
    let auth_duration = Some(begun.elapsed());
    match found {
        Ok(caller) => {
            if let Some(bypass) = caller.bypass {
                tracing::error!(setting = bypass.setting(), "critical: a request was let in around authentication");
            }
            access.caller(CallerFacts {
                principal: Some(caller.principal.name.to_string()),
                token_issuer: (!caller.issuer.is_empty()).then(|| caller.issuer.to_string()),
                auth_error: None,
                auth_duration,
            });
            Ok(GitlabCaller { id, access, caller })
        }
        Err(refusal) => {
            let auth_error = Some(refusal.to_string());
            access.caller(CallerFacts { auth_error, auth_duration, ..CallerFacts::default() });
            Err(refusal)
        }
    }
}

async fn verify(state: &AppState, headers: &HeaderMap) -> Result<Caller, Refusal> {
    check_spelling(headers)?;
    let read = |name| single(headers, name);
    let credentials = Credentials {
        authorization: read("authorization")?,
        authentication_type: read("x-gitlab-authentication-type")?,
        realm: read("x-gitlab-realm")?,
        instance_id: read("x-gitlab-instance-id")?,
        global_user_id: read("x-gitlab-global-user-id")?,
        seat_count: read("x-gitlab-duo-seat-count")?,
        gitlab_version: read("x-gitlab-version")?,
        bypass_auth: read("bypass-auth")?,
    };
    match &state.gitlab.auth {
        Some(auth) => auth.identify(credentials).await.map_err(refused),
        None => Err(no_gitlab(credentials.authorization.is_some())),
    }
}

/// What GitLab's gateway says where it has no key that fits.
fn no_gitlab(has_authorization: bool) -> Refusal {
    let text = if has_authorization { "Forbidden by auth provider" } else { "No authorization header presented" };
    let reason = "no GitLab is configured: set gitlab.url (AIGW_GITLAB_URL)".to_owned();
    Refusal::Unauthenticated { text: Cow::Borrowed(text), reason }
}

fn refused(error: GitlabAuthError) -> Refusal {
    let reason = format!("{}: {}", error.code(), error.reason());
    Refusal::Unauthenticated { text: Cow::Owned(error.to_string()), reason }
}

/// A second spelling of a header, or one that a proxy is asked to drop, is how a request is made to look different to
/// two readers.
fn check_spelling(headers: &HeaderMap) -> Result<(), EdgeError> {
    for name in headers.keys().map(|name| name.as_str()).filter(|name| name.contains('_')) {
        let hyphenated = name.replace('_', "-");
        if let Some(name) = IDENTITY.iter().find(|known| **known == hyphenated) {
            return Err(EdgeError::Header { name, problem: "was sent with underscores" });
        }
    }
    for value in headers.get_all(CONNECTION) {
        for option in value.to_str().unwrap_or_default().split(',').map(str::trim) {
            if let Some(name) = IDENTITY.iter().find(|known| known.eq_ignore_ascii_case(option)) {
                return Err(EdgeError::Header { name, problem: "is named by the header connection" });
            }
        }
    }
    Ok(())
}
