//! `POST /v2/chat/agent`: one step of the classic chat, as lines of JSON.

use super::answer::{Framing, Opened, Spoken};
use super::authenticate::GitlabCaller;
use super::desk::{Desk, Draft, StreamKind};
use super::error::{Refusal, Surface};
use crate::auth::gitlab::Endpoint;
use crate::dialect::gitlab::agent::{
    AgentCall, CONTENT_TYPE, agent_call, error_line, message_line, refusal_line, write_events,
};
use crate::domain::{Class, Event, FinishReason, GenerateError};
use crate::feature::agent::{AgentError, AgentEvent, AgentParser, Facts, Planned, plan, required_scopes};
use crate::feature::{Flow, Shape};
use crate::http::AppState;
use crate::http::choices::Choices;
use crate::http::dates::today;
use crate::http::stream::{EventBody, Told};
use crate::route::Lane;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderName};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;

const FEATURE: &str = "duo_chat";

pub(super) async fn agent(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    request: Request,
) -> Response {
    let (mut desk, body) = match Desk::sit(&state, caller, request, Surface::Code).await {
        Ok(sat) => sat,
        Err(refusal) => return refusal.into_response(),
    };
    let call = match understand(&desk, &body) {
        Ok(call) => call,
        Err(refusal) => return desk.fail(refusal),
    };
    drop(body);
    // From here on whatever goes wrong is a line of its own, with status 200.
    let lane = match desk.lane(FEATURE, &call.model, Class::Chat, Surface::Code) {
        Ok(lane) => lane,
        Err(refusal) => return say_refusal(desk, &refusal),
    };
    answer(desk, lane, call).await
}

fn understand(desk: &Desk<'_>, body: &[u8]) -> Result<AgentCall, Refusal> {
    let call = agent_call(body).map_err(Refusal::from)?;
    let mentions_gitlab_duo = call.input.mentions_gitlab_duo();
    desk.may(Endpoint::ChatAgent { mentions_gitlab_duo })?;
    for scope in required_scopes(&call.input) {
        let category = scope.strip_prefix("include_").and_then(|scope| scope.strip_suffix("_context"));
        desk.may(Endpoint::ChatContext { category: category.unwrap_or(&scope) })?;
    }
    Ok(call)
}

async fn answer(mut desk: Desk<'_>, lane: Lane, call: AgentCall) -> Response {
    match take_step(&mut desk, &lane, &call, Asking::Freely).await {
        Ok(Step::Repeated) => match take_step(&mut desk, &lane, &call, Asking::ForTheAnswer).await {
            Ok(step) => step.into_response(desk),
            Err(failed) => failed.into_response(desk),
        },
        Ok(step) => step.into_response(desk),
        Err(failed) => failed.into_response(desk),
    }
}

/// How a model is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Freely,
    /// It has asked for the same twice: now it has to say what it knows.
    ForTheAnswer,
}

/// What a step came to.
enum Step {
    /// Nothing was said: the model wants what it was told already.
    Repeated,
    Whole(String),
    /// The first lines, and the rest to come.
    Begun(Box<Begun>),
}

struct Begun {
    lines: Lines,
    said: String,
    choices: Choices,
}

enum Failed {
    Plan(Vec<u8>),
    Generate(GenerateError),
}

impl Step {
    fn into_response(self, mut desk: Desk<'_>) -> Response {
        match self {
            Self::Repeated => fail_repeating(desk),
            Self::Whole(said) => {
                desk.record.finish();
                desk.show("answer", || said.clone());
                lines_response(Body::from(said))
            }
            Self::Begun(begun) => {
                let Begun { lines, said, choices } = *begun;
                let interval = StreamKind::event_stream(desk.state).keep_alive_interval;
                let speaker = Spoken::resumed(Box::new(lines), Lined);
                let body = EventBody::resumed(choices, speaker, desk.record, said.into_bytes(), interval);
                lines_response(Body::new(body))
            }
        }
    }
}

/// A model that is asked for its answer is not read as one that acts, so this cannot be; if it is, GitLab hears a line.
fn fail_repeating(mut desk: Desk<'_>) -> Response {
    let error = GenerateError::StepFailed { reason: "the model repeats itself".to_owned() };
    desk.record.fail(&error);
    lines_response(Body::from(error_line(&error)))
}

impl Failed {
    fn into_response(self, mut desk: Desk<'_>) -> Response {
        match self {
            Self::Plan(line) => {
                desk.record.fail(&"the model has no chat template");
                lines_response(Body::from(line))
            }
            Self::Generate(error) => {
                desk.record.fail(&error);
                lines_response(Body::from(error_line(&error)))
            }
        }
    }
}

async fn take_step(desk: &mut Desk<'_>, lane: &Lane, call: &AgentCall, asking: Asking) -> Result<Step, Failed> {
    let planned = plan_step(desk, lane, call, asking).map_err(|error| Failed::Plan(refusal_line(&error)))?;
    let dropped = planned.context_chars_dropped;
    let trimmed = if dropped > 0 { format!("context: {dropped} characters left out") } else { String::new() };
    let mut draft = Some(Draft { plan: planned.plan, trimmed });
    // A conversation is never cut: GitLab asks its user to clear it.
    let asked = desk.ask(lane, None, |_| draft.take()).await.map_err(Failed::Generate)?;
    listen(desk, asked.opened, Lines::new(planned.parser)).await.map_err(Failed::Generate)
}

fn plan_step(desk: &Desk<'_>, lane: &Lane, call: &AgentCall, asking: Asking) -> Result<Planned, AgentError> {
    let scopes = &desk.caller.caller.scopes;
    let has_scope = |scope: &str| scopes.has(scope);
    let current_date = today((desk.state.unix_time)());
    let facts = Facts {
        model: &lane.info,
        family: call.model.family,
        has_scope: &has_scope,
        gitlab_version: desk.header("x-gitlab-version"),
        current_date: &current_date,
        max_tokens: desk.state.gitlab.settings.chat_max_tokens,
        answer_now: asking == Asking::ForTheAnswer,
    };
    plan(call.input.clone(), &facts)
}

/// Hears the model until the first line can be said, or to its end.
async fn listen(desk: &mut Desk<'_>, opened: Opened, mut lines: Lines) -> Result<Step, GenerateError> {
    let Opened { mut choices, first } = opened;
    let (mut said, mut reason) = (String::new(), None);
    let mut next = first.map(|(_, event)| Ok(event));
    while let Some(event) = next {
        let event = event?;
        desk.record.hear(&event);
        let flow = match event {
            Event::Taken(_) | Event::Started { .. } => Flow::More,
            Event::Text { text, .. } => lines.push(&text, &mut said),
            Event::Finished { reason: ended, .. } => {
                reason = Some(ended);
                Flow::Enough
            }
        };
        match flow {
            Flow::Enough => break,
            Flow::More if !said.is_empty() => return Ok(Step::Begun(Box::new(Begun { lines, said, choices }))),
            Flow::More => {}
        }
        next = choices.next().await.map(|(_, said)| said);
    }
    drop(choices);
    if said.is_empty() && lines.parser.repeats_itself() {
        return Ok(Step::Repeated);
    }
    lines.finish(reason.unwrap_or(FinishReason::Stop), &mut said);
    Ok(Step::Whole(said))
}

/// What the model says, as GitLab's lines.
struct Lines {
    parser: AgentParser,
    events: Vec<AgentEvent>,
}

impl Lines {
    fn new(parser: AgentParser) -> Self {
        Self { parser, events: Vec::new() }
    }

    fn write(&mut self, out: &mut String) {
        let mut bytes = Vec::new();
        write_events(&self.events, &mut bytes);
        self.events.clear();
        out.push_str(std::str::from_utf8(&bytes).expect("JSON is UTF-8"));
    }
}

impl Shape for Lines {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        let flow = self.parser.push(text, &mut self.events);
        self.write(out);
        flow
    }

    fn finish(&mut self, reason: FinishReason, out: &mut String) {
        self.parser.finish(reason, &mut self.events);
        self.write(out);
    }
}

/// Lines as they are; a failure is one more.
struct Lined;

impl Framing for Lined {
    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(text.as_bytes());
    }

    fn fail(&mut self, error: &GenerateError, out: &mut Vec<u8>) -> Told {
        out.extend_from_slice(&error_line(error));
        Told::InWords
    }
}

fn say_refusal(mut desk: Desk<'_>, refusal: &Refusal) -> Response {
    desk.record.fail(refusal);
    lines_response(Body::from(message_line(&refusal.to_string())))
}

fn lines_response(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE_HEADER, CONTENT_TYPE),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}
