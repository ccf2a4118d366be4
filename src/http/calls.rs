//! The two endpoints that generate: understand, choose a lane, and answer whole or as a stream.

use super::access::Access;
use super::choices::Choices;
use super::error::{EdgeError, Failure, json};
use super::headers::{CallOptions, check_json};
use super::record::CallRecord;
use super::stream::{EventBody, Speak, Told};
use super::{AppState, body};
use crate::auth::Principal;
use crate::dialect::openai::{
    self, Call, Delivery, Head, KEEP_ALIVE, RequestError, RequestLimits, Speaker, Ticket, Whole, error_event,
};
use crate::domain::{CallId, Class, Event, GenerateError};
use crate::feature::Flow;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use tokio::time::timeout;

/// How an endpoint reads its body.
type Understand = fn(&[u8], &RequestLimits) -> Result<Call, RequestError>;

/// Who asks, and the id under which.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub id: CallId,
    pub principal: Principal,
    pub access: Access,
}

pub(super) async fn completions(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    answer(&state, caller, request, Class::Completion, openai::completion).await
}

pub(super) async fn chat_completions(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    answer(&state, caller, request, Class::Chat, openai::chat).await
}

async fn answer(state: &AppState, caller: Caller, request: Request, class: Class, understand: Understand) -> Response {
    let mut record = CallRecord::begin(state.metrics.clone(), caller.access.clone(), class);
    let started = match start(state, &caller, request, understand, &mut record).await {
        Ok(started) => started,
        Err(failure) => return failed(record, failure),
    };
    let ignored = started.ignored;
    let mut response = match started.delivery {
        Delivery::Whole => whole(started.head, started.choices, record).await,
        Delivery::Streamed { .. } => {
            let speaker = Speaker::new(started.head, started.delivery);
            streamed(state, speaker, started.choices, record).await
        }
    };
    if let Some(ignored) = ignored {
        const IGNORED: HeaderName = HeaderName::from_static("x-sconce-ignored");
        response.headers_mut().insert(IGNORED, ignored);
    }
    response
}

/// A call whose jobs have been handed to a lane.
struct Started {
    head: Head,
    choices: Choices,
    delivery: Delivery,
    /// The names of fields that have no effect.
    ignored: Option<HeaderValue>,
}

async fn start(
    state: &AppState,
    caller: &Caller,
    request: Request,
    understand: Understand,
    record: &mut CallRecord,
) -> Result<Started, Failure> {
    let (parts, body) = request.into_parts();
    state.health.check()?;
    check_json(&parts.headers)?;
    let options = CallOptions::read(&parts.headers, &caller.principal, &state.limits)?;
    let body = body::read(&parts.headers, body, &state.limits).await?;
    let mut call = understand(&body, &state.limits.request)?;
    drop(body);
    let lane = state.routes().find(&call.model)?;
    let ticket = ticket(caller, options, &call);
    record.routed(lane, ticket.class);
    let head = Head::new(&call, &caller.id, (state.unix_time)());
    let ignored = (!call.ignored.is_empty()).then(|| ignored_header(&call.ignored)).transpose()?;
    let choices = Choices::start(&*lane.lane, call.take_jobs(&ticket));
    Ok(Started { head, choices, delivery: call.delivery, ignored })
}

/// Only completions have a session: a chat does not supersede what is being typed, nor the chat before it.
fn ticket(caller: &Caller, options: CallOptions, call: &Call) -> Ticket {
    let class = options.class.unwrap_or(call.class);
    Ticket {
        id: caller.id.clone(),
        cache_salt: caller.principal.cache_salt,
        class,
        session: options.session.filter(|_| class == Class::Completion),
        deadline: options.deadline,
    }
}

fn ignored_header(names: &[&str]) -> Result<HeaderValue, EdgeError> {
    let problem = |_| EdgeError::Header { name: "x-sconce-ignored", problem: "could not be made" };
    HeaderValue::from_str(&names.join(", ")).map_err(problem)
}

async fn whole(head: Head, mut choices: Choices, mut record: CallRecord) -> Response {
    let mut answer = Whole::new(head);
    while let Some((choice_index, said)) = choices.next().await {
        match said {
            Ok(event) => {
                record.hear(&event);
                answer.add(choice_index, event);
            }
            Err(error) => return failed(record, error.into()),
        }
    }
    record.finish();
    json(StatusCode::OK, answer.into_body())
}

/// Waits for the first event, so that a call which fails before it has begun gets a status of its own; but not for so
/// long that a proxy would lose patience.
async fn streamed(state: &AppState, speaker: Speaker, mut choices: Choices, record: CallRecord) -> Response {
    let interval = state.limits.keep_alive_interval;
    let body = match timeout(interval, choices.next()).await {
        Ok(Some((_, Err(error)))) => return failed(record, error.into()),
        Ok(Some((choice_index, Ok(event)))) => {
            EventBody::begun(choices, (choice_index, event), speaker, record, interval)
        }
        Ok(None) | Err(_) => EventBody::silent(choices, speaker, record, interval),
    };
    let headers = [
        (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        // Asks nginx not to collect the answer before it passes it on.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::new(body)).into_response()
}

impl Speak for Speaker {
    fn say(&mut self, choice_index: usize, event: Event, out: &mut Vec<u8>) -> Flow {
        Speaker::say(self, choice_index, event, out);
        Flow::More
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        Speaker::finish(self, out);
    }

    fn fail(&mut self, error: &GenerateError, out: &mut Vec<u8>) -> Told {
        error_event(error, out);
        Told::InWords
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(KEEP_ALIVE);
    }
}

fn failed(mut record: CallRecord, failure: Failure) -> Response {
    record.fail(&failure);
    failure.into_response()
}
