//! What happens to every request before its handler: an id, a span, a look at where it comes from, and who sent it.

use super::AppState;
use super::calls::Caller;
use super::error::{EdgeError, Failure};
use super::headers::{REQUEST_ID, authority, authorization, call_id, check_local};
use crate::domain::CallId;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderName, HeaderValue, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

/// Around every request, known path or not.
pub(super) async fn admit(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let id = call_id(request.headers());
    let version = request.version();
    let endpoint = request.extensions().get::<MatchedPath>().cloned();
    request.extensions_mut().insert(id.clone());
    let span = tracing::info_span!("call", %id);
    let mut response = async {
        match check_origin(&state, &request) {
            Ok(()) => next.run(request).await,
            Err(error) => refuse(error.into()),
        }
    }
    .instrument(span)
    .await;
    let id = HeaderValue::from_str(&id.0).expect("call_id makes and accepts only ids fit for a header");
    response.headers_mut().insert(HeaderName::from_static(REQUEST_ID), id);
    if state.health.is_stopping() && version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let endpoint = endpoint.as_ref().map_or("other", |endpoint| endpoint.as_str());
    state.metrics.count_response(endpoint, response.status());
    response
}

fn check_origin(state: &AppState, request: &Request) -> Result<(), EdgeError> {
    let authority = authority(request.uri(), request.headers())?;
    if state.auth.is_enabled() { Ok(()) } else { check_local(&authority, request.headers()) }
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
    Ok(Caller { id, principal })
}

fn refuse(failure: Failure) -> Response {
    tracing::info!(status = failure.status().as_u16(), %failure, "refused");
    failure.into_response()
}
