//! What happens to every request before its handler: an id, a span, a look at where it comes from, and who sent it.

use super::AppState;
use super::access::{Access, CallerFacts};
use super::calls::Caller;
use super::error::{EdgeError, Failure};
use super::gitlab::{is_preflight, preflight};
use super::headers::{REQUEST_ID, authority, authorization, call_id, check_local, single};
use super::peer::Peer;
use crate::domain::CallId;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, HOST, ORIGIN};
use axum::http::{HeaderName, HeaderValue, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

/// Seconds until the answer began, as GitLab's gateway says it.
const PROCESS_TIME: &str = "x-process-time";

/// Around every request, known path or not.
pub(super) async fn admit(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let id = call_id(request.headers());
    let version = request.version();
    let is_open = state.gitlab.is_open();
    let has_origin = request.headers().contains_key(ORIGIN);
    let endpoint = request.extensions().get::<MatchedPath>().cloned();
    let span = tracing::info_span!("call", correlation_id = %id);
    let access = Access::begin(&request, &span);
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(access.clone());
    let response = async {
        match check_client(&state, &request).and_then(|()| check_origin(&state, &request)) {
            Ok(()) if is_open && is_preflight(request.method(), request.headers()) => preflight(request.headers()),
            Ok(()) => next.run(request).await,
            Err(error) => refuse(error.into()),
        }
    }
    .instrument(span)
    .await;
    let (mut response, elapsed) = access.follow(response);
    let elapsed = HeaderValue::from_str(&format!("{:.6}", elapsed.as_secs_f64())).expect("digits and a point");
    response.headers_mut().insert(HeaderName::from_static(PROCESS_TIME), elapsed);
    let id = HeaderValue::from_str(&id.0).expect("call_id makes and accepts only ids fit for a header");
    response.headers_mut().insert(HeaderName::from_static(REQUEST_ID), id);
    if is_open && has_origin {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    if state.health.is_stopping() && version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let endpoint = endpoint.as_ref().map_or("other", |endpoint| endpoint.as_str());
    state.metrics.count_response(endpoint, response.status());
    response
}

/// Whether the client's address may ask anything. The address that a trusted proxy names goes to the log.
fn check_client(state: &AppState, request: &Request) -> Result<(), EdgeError> {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else { return Ok(()) };
    let forwarded = request.headers().get_all("x-forwarded-for").iter();
    let forwarded: Vec<&str> = forwarded.map(|value| value.to_str().unwrap_or("unreadable")).collect();
    let client = state.allow_list.allows(peer.ip(), forwarded.into_iter()).map_err(|_| EdgeError::ForeignClient)?;
    if let Some(access) = request.extensions().get::<Access>() {
        access.client(client);
    }
    Ok(())
}

/// With authentication the name by which a caller reached us decides nothing, so that a strange one is no reason to
/// refuse: containers and proxies make up names.
fn check_origin(state: &AppState, request: &Request) -> Result<(), EdgeError> {
    if state.gitlab.is_open() {
        return single(request.headers(), HOST.as_str()).map(drop);
    }
    let authority = authority(request.uri(), request.headers())?;
    let has_unlocked_door = state.gitlab.settings.is_enabled || !state.auth.is_enabled();
    if has_unlocked_door { check_local(&authority, request.headers()) } else { Ok(()) }
}

/// Around everything that is not for everybody.
pub(super) async fn authenticate(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let caller = match identify(&state, &request) {
        Ok(caller) => caller,
        Err(failure) => return refuse(failure),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn identify(state: &AppState, request: &Request) -> Result<Caller, Failure> {
    let principal = state.auth.identify(authorization(request.headers())?)?;
    let id = request.extensions().get::<CallId>().expect("admit runs before and gives every request an id").clone();
    let access = request.extensions().get::<Access>().expect("admit gives every request a line of log").clone();
    access.caller(CallerFacts { principal: Some(principal.name.to_string()), ..CallerFacts::default() });
    Ok(Caller { id, principal, access })
}

fn refuse(failure: Failure) -> Response {
    tracing::debug!(status = failure.status().as_u16(), %failure, "refused");
    failure.into_response()
}
