//! What the handlers of GitLab's endpoints have in common: a bounded body, a lane, a job, and a prompt that shrinks until
//! it fits.

use super::answer::{Framing, Opened, Spoken, open};
use super::authenticate::GitlabCaller;
use super::error::{Refusal, Surface};
use crate::auth::gitlab::Endpoint;
use crate::dialect::gitlab::metadata::{ModelChoice, Source};
use crate::domain::{Class, GenerateError, Job, SessionKey};
use crate::feature::{Plan, Shape};
use crate::http::headers::{CallOptions, check_json, single};
use crate::http::record::CallRecord;
use crate::http::stream::EventBody;
use crate::http::{AppState, body};
use crate::route::{Lane, Wanted};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::time::Duration;

/// What a prompt lost to fit, in characters per part.
const TRIMMED: HeaderName = HeaderName::from_static("x-sconce-trimmed");

/// One call being handled.
pub(super) struct Desk<'a> {
    pub state: &'a AppState,
    pub caller: GitlabCaller,
    pub headers: HeaderMap,
    pub record: CallRecord,
    options: CallOptions,
}

/// What to ask, and what it lost to fit.
pub(super) struct Draft {
    pub plan: Plan,
    /// For a header and the log; empty if nothing was lost.
    pub trimmed: String,
}

/// A draft that a lane has accepted.
pub(super) struct Asked {
    pub opened: Opened,
    pub shape: Box<dyn Shape>,
    pub trimmed: String,
}

impl<'a> Desk<'a> {
    /// Takes the body off a request.
    pub(super) async fn sit(
        state: &'a AppState,
        caller: GitlabCaller,
        request: Request,
        surface: Surface,
    ) -> Result<(Self, Vec<u8>), Refusal> {
        let record = CallRecord::begin(state.metrics.clone(), caller.access.clone(), Class::Chat);
        let (parts, request_body) = request.into_parts();
        state.health.check().map_err(|error| Refusal::Generate { error, surface })?;
        check_json(&parts.headers)?;
        let options = CallOptions::read(&parts.headers, &caller.caller.principal, &state.limits)?;
        let bytes = body::read(&parts.headers, request_body, &state.limits).await?;
        let desk = Self { state, caller, headers: parts.headers, record, options };
        desk.show("request", || String::from_utf8_lossy(&bytes).into_owned());
        Ok((desk, bytes))
    }

    pub(super) fn may(&self, endpoint: Endpoint<'_>) -> Result<(), Refusal> {
        self.caller.caller.may(endpoint).map_err(|error| Refusal::Forbidden { detail: error.detail.into() })
    }

    /// A header of GitLab's, if it was sent once and in visible ASCII.
    pub(super) fn header(&self, name: &'static str) -> Option<&str> {
        single(&self.headers, name).ok().flatten()
    }

    /// The lane for `feature`, and the call's place in the log.
    pub(super) fn lane(
        &mut self,
        feature: &'static str,
        model: &ModelChoice,
        class: Class,
        surface: Surface,
    ) -> Result<Lane, Refusal> {
        let wanted = Wanted {
            feature,
            identifier: model.identifier.as_deref(),
            family: &model.family_name,
            is_unnamed: matches!(model.source, Source::Absent | Source::GitlabManaged),
            endpoint: model.endpoint.as_deref(),
            api_key: model.api_key.as_ref().map(|key| key.expose()),
        };
        self.record.asked_for(feature, class);
        let lane = self.state.routes().choose(wanted).map_err(|error| Refusal::Route { error, surface })?;
        self.check_key(model, surface)?;
        self.record.routed(&lane, class);
        Ok(lane)
    }

    /// Where a key for models served here is configured, GitLab has to send it.
    fn check_key(&self, model: &ModelChoice, surface: Surface) -> Result<(), Refusal> {
        let Some(expected) = &self.state.gitlab.settings.model_api_key else { return Ok(()) };
        let is_named = matches!(model.source, Source::Flat | Source::Metadata);
        if !is_named || expected.accept(model.api_key.as_ref().map(|key| key.expose())) {
            return Ok(());
        }
        Err(match surface {
            Surface::Prompts => Refusal::detail(StatusCode::MISDIRECTED_REQUEST, "401: Unauthorized"),
            Surface::Code => Refusal::detail(StatusCode::SERVICE_UNAVAILABLE, "Inference failed"),
        })
    }

    /// Asks `lane`, with smaller and smaller drafts while the lane finds them too long. `draft` is given what the lane
    /// said of the one before, and answers `None` when it cannot shrink further.
    pub(super) async fn ask(
        &mut self,
        lane: &Lane,
        patience: Option<Duration>,
        mut draft: impl FnMut(Option<&GenerateError>) -> Option<Draft>,
    ) -> Result<Asked, GenerateError> {
        const TRIES: usize = 4;
        let mut too_long = None;
        for _ in 0..TRIES {
            let Some(Draft { plan, trimmed }) = draft(too_long.as_ref()) else { break };
            let Plan { prompt, sampling, stop, class, shape } = plan;
            let job = Job {
                id: self.caller.id.clone(),
                prompt,
                sampling,
                stop,
                class,
                session: self.session(class),
                cache_salt: self.caller.caller.principal.cache_salt,
                deadline: self.options.deadline.or(self.state.gitlab.settings.request_deadline),
            };
            match open(&*lane.lane, job, patience).await {
                Err(error @ GenerateError::PromptTooLong { .. }) => too_long = Some(error),
                Err(error) => return Err(error),
                Ok(opened) => {
                    if !trimmed.is_empty() {
                        self.record.note(format!("trimmed {trimmed}"));
                    }
                    return Ok(Asked { opened, shape, trimmed });
                }
            }
        }
        Err(too_long.unwrap_or(GenerateError::PromptEmpty))
    }

    fn session(&self, class: Class) -> Option<SessionKey> {
        self.options.session.clone().filter(|_| class == Class::Completion)
    }

    /// A streamed answer.
    pub(super) fn stream<F: Framing + 'static>(self, asked: Asked, framing: F, kind: StreamKind) -> Response {
        let Asked { opened, shape, trimmed } = asked;
        let speaker = Spoken::new(shape, framing);
        let interval = kind.keep_alive_interval;
        let body = match opened.first {
            Some(first) => EventBody::begun(opened.choices, first, speaker, self.record, interval),
            None => EventBody::silent(opened.choices, speaker, self.record, interval),
        };
        let mut response = Body::new(body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind.content_type));
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        mark_trimmed(headers, &trimmed);
        response
    }

    pub(super) fn fail(mut self, refusal: Refusal) -> Response {
        self.record.fail(&refusal);
        refusal.into_response()
    }

    /// Writes a body to the log if the operator or GitLab's administrator asked for bodies, with secrets hidden.
    pub(super) fn show(&self, side: &'static str, text: impl FnOnce() -> String) {
        let asked = self.header("x-gitlab-enabled-instance-verbose-ai-logs") == Some("true");
        let settings = &self.state.gitlab.settings;
        if settings.logs_bodies || (asked && settings.honours_verbose_header) {
            let text = text();
            let masked = self.state.gitlab.mask.hide(&text);
            tracing::info!(target: "api.bodies", side, body = &*masked, "body");
        }
    }
}

/// What a kind of stream says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamKind {
    pub content_type: &'static str,
    pub keep_alive_interval: Duration,
}

/// Raw text goes by this name too in GitLab's gateway.
pub(super) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

impl StreamKind {
    pub(super) fn event_stream(state: &AppState) -> Self {
        Self { content_type: EVENT_STREAM, keep_alive_interval: state.limits.keep_alive_interval }
    }
}

pub(super) fn mark_trimmed(headers: &mut HeaderMap, trimmed: &str) {
    if !trimmed.is_empty()
        && let Ok(value) = HeaderValue::from_str(trimmed)
    {
        headers.insert(TRIMMED, value);
    }
}
