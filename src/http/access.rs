//! One line of log per request, whatever its end: what HTTP saw of it, and what a call behind it cost.
//!
//! Never a body, a key or a token. Names of fields follow GitLab's gateway where it has them, so that dashboards made
//! for that one keep working.

use super::headers::plain;
use super::peer::Peer;
use crate::domain::Taken;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tracing::Span;

/// The line of the request at hand. Written when the last handle is dropped: with the last byte of the answer.
#[derive(Clone, Debug)]
pub(super) struct Access(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    span: Span,
    begun: Instant,
    method: String,
    path: String,
    http_version: String,
    client_ip: Option<String>,
    status: Option<u16>,
    response_start: Option<Duration>,
    first_chunk: Option<Duration>,
    since_rails: Option<f64>,
    gitlab: Gitlab,
    caller: CallerFacts,
    call: Option<CallFacts>,
    taken: Option<Arc<Taken>>,
}

/// What GitLab says of the request, for its administrator.
#[derive(Debug, Default)]
struct Gitlab {
    user_agent: Option<String>,
    realm: Option<String>,
    instance_id: Option<String>,
    global_user_id: Option<String>,
    version: Option<String>,
}

/// How the caller was recognised, or why not.
#[derive(Clone, Debug, Default)]
pub(super) struct CallerFacts {
    pub principal: Option<String>,
    pub token_issuer: Option<String>,
    /// The finer reason behind a refusal.
    pub auth_error: Option<String>,
    pub auth_duration: Option<Duration>,
}

/// What a call cost.
#[derive(Clone, Debug, Default)]
pub(super) struct CallFacts {
    pub outcome: &'static str,
    pub feature: Option<&'static str>,
    /// Only of models that exist: other names are the caller's text.
    pub model: Option<String>,
    pub lane: Option<String>,
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub completion_tokens: usize,
    pub queue_wait: Option<Duration>,
    pub prefill: Option<Duration>,
    pub decode: Option<Duration>,
    pub first_text: Option<Duration>,
    /// What was cut from a prompt to make it fit, or repaired in an answer.
    pub notes: Vec<String>,
    pub error: Option<String>,
}

impl Access {
    pub(super) fn begin(request: &Request, span: &Span) -> Self {
        /// A path can be as long as a head may be.
        const PATH_CHARS: usize = 256;
        let headers = request.headers();
        let peer = request.extensions().get::<Peer>().copied();
        Self(Arc::new(Mutex::new(Line {
            span: span.clone(),
            begun: Instant::now(),
            method: request.method().as_str().chars().take(16).collect(),
            path: request.uri().path().chars().take(PATH_CHARS).collect(),
            http_version: format!("{:?}", request.version()),
            client_ip: peer.map(|peer| peer.0.ip().to_canonical().to_string()),
            status: None,
            response_start: None,
            first_chunk: None,
            since_rails: since_rails(headers),
            gitlab: Gitlab {
                user_agent: plain(headers, "user-agent"),
                realm: plain(headers, "x-gitlab-realm"),
                instance_id: plain(headers, "x-gitlab-instance-id"),
                global_user_id: plain(headers, "x-gitlab-global-user-id"),
                version: plain(headers, "x-gitlab-version"),
            },
            caller: CallerFacts::default(),
            call: None,
            taken: None,
        })))
    }

    pub(super) fn caller(&self, caller: CallerFacts) {
        self.line().caller = caller;
    }

    pub(super) fn client(&self, address: std::net::IpAddr) {
        self.line().client_ip = Some(address.to_string());
    }

    pub(super) fn call(&self, call: CallFacts) {
        self.line().call = Some(call);
    }

    /// The lane that answers, where there was a choice.
    pub(super) fn taken(&self, taken: Arc<Taken>) {
        self.line().taken = Some(taken);
    }

    /// Notes how the answer begins, says which lane gives it if that is known by now, and follows its body.
    pub(super) fn follow(self, mut response: Response) -> (Response, Duration) {
        let mut line = self.line();
        if let Some(taken) = &line.taken {
            mark_lane(response.headers_mut(), taken);
        }
        let elapsed = line.begun.elapsed();
        line.status = Some(response.status().as_u16());
        line.response_start = Some(elapsed);
        drop(line);
        (response.map(|body| Body::new(Followed { body, access: self })), elapsed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names the lane that answers and those that were left for it.
fn mark_lane(headers: &mut HeaderMap, taken: &Taken) {
    const LANE: HeaderName = HeaderName::from_static("x-sconce-lane");
    const PASSED: HeaderName = HeaderName::from_static("x-sconce-passed");
    let passed = taken.passed.iter().map(|passed| format!("{};{}", passed.lane, passed.why.name()));
    let passed = passed.collect::<Vec<_>>().join(", ");
    for (name, text) in [(LANE, taken.lane.to_string()), (PASSED, passed)] {
        // A model's name may be the caller's text: what no header may hold is left out.
        if let Some(value) = HeaderValue::from_str(&text).ok().filter(|_| !text.is_empty()) {
            headers.insert(name, value);
        }
    }
}

/// Seconds since GitLab sent the request, by its clock.
fn since_rails(headers: &HeaderMap) -> Option<f64> {
    let sent: f64 = plain(headers, "x-gitlab-rails-send-start")?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    sent.is_finite().then_some(((now - sent) * 1e6).round() / 1e6)
}

impl Drop for Line {
    fn drop(&mut self) {
        let span = std::mem::replace(&mut self.span, Span::none());
        let _entered = span.entered();
        let call = self.call.take().unwrap_or_default();
        let is_our_fault = self.status.is_some_and(|status| status == StatusCode::INTERNAL_SERVER_ERROR.as_u16());
        let passed = self.taken.as_ref().filter(|taken| !taken.passed.is_empty());
        let passed =
            passed.map(|taken| taken.passed.iter().map(|passed| format!("{};{}", passed.lane, passed.why.name())));
        let passed = passed.map(|passed| passed.collect::<Vec<_>>().join(", "));
        let notes = (!call.notes.is_empty()).then(|| call.notes.join("; "));
        let has_call = !call.outcome.is_empty();
        let tokens = |number: usize| has_call.then_some(number as u64);
        let millis = |time: Option<Duration>| time.map(|time| round_ms(time.as_secs_f64()));
        // The level of an event is a constant of the call site, hence two of them.
        macro_rules! write_down {
            ($level:expr) => {
                tracing::event!(
                    target: "api.access",
                    $level,
                    method = self.method,
                    path = self.path,
                    status_code = self.status,
                    http_version = self.http_version,
                    client_ip = self.client_ip,
                    duration_s = (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e6,
                    duration_request = self.since_rails,
                    response_start_ms = millis(self.response_start),
                    first_chunk_ms = millis(self.first_chunk),
                    user_agent = self.gitlab.user_agent,
                    gitlab_realm = self.gitlab.realm,
                    gitlab_instance_id = self.gitlab.instance_id,
                    gitlab_global_user_id = self.gitlab.global_user_id,
                    gitlab_version = self.gitlab.version,
                    principal = self.caller.principal,
                    token_issuer = self.caller.token_issuer,
                    auth_ms = millis(self.caller.auth_duration),
                    auth_error_details = self.caller.auth_error,
                    outcome = has_call.then_some(call.outcome),
                    feature = call.feature,
                    model = call.model,
                    lane = call.lane,
                    passed,
                    prompt_tokens = tokens(call.prompt_tokens),
                    cached_tokens = tokens(call.cached_tokens),
                    completion_tokens = tokens(call.completion_tokens),
                    queue_ms = millis(call.queue_wait),
                    prefill_ms = millis(call.prefill),
                    decode_ms = millis(call.decode),
                    notes,
                    error = call.error,
                    "request"
                )
            };
        }
        match is_our_fault {
            true => write_down!(tracing::Level::ERROR),
            false => write_down!(tracing::Level::INFO),
        }
    }
}

/// Milliseconds, to the microsecond.
fn round_ms(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

/// A body that notes when its first bytes leave, and keeps the line until its last.
struct Followed {
    body: Body,
    access: Access,
}

impl hyper::body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(Some(Ok(_)))) {
            let mut line = self.access.line();
            let elapsed = line.begun.elapsed();
            line.first_chunk.get_or_insert(elapsed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
