//! Code suggestions: `/v2/code/*`, `/v3/code/completions` and `/v4/code/suggestions`.

use super::answer::{Answered as Heard, Framing, Raw, whole};
use super::authenticate::GitlabCaller;
use super::desk::{Asked, Desk, Draft, EVENT_STREAM, StreamKind, mark_trimmed};
use super::error::{Refusal, Surface};
use crate::auth::gitlab::Endpoint;
use crate::dialect::gitlab::code::{
    self, Answered, CodeCall, CodeInput, CodeKind, TokenCounts, content_chunk, ping, stream_end,
};
use crate::dialect::gitlab::validation::{Form, ValidationError};
use crate::domain::{Class, FinishReason, GenerateError, Usage};
use crate::feature::completion::{self, Trimmed};
use crate::feature::generation;
use crate::http::AppState;
use crate::http::error::json;
use crate::route::Lane;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::time::Duration;

/// Silence after which `/v4/code/suggestions` sends a comment.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Endpoints that differ in how they read a body, in scopes and in how they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V2,
    V3,
    V4,
}

pub(super) async fn completions(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    request: Request,
) -> Response {
    answer(&state, caller, request, Version::V2, |body, _| code::completion(body)).await
}

pub(super) async fn generations(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    request: Request,
) -> Response {
    answer(&state, caller, request, Version::V2, |body, _| code::generation(body)).await
}

pub(super) async fn suggestions_v3(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    request: Request,
) -> Response {
    answer(&state, caller, request, Version::V3, code::suggestion).await
}

pub(super) async fn suggestions_v4(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    request: Request,
) -> Response {
    answer(&state, caller, request, Version::V4, code::suggestion).await
}

/// How an endpoint reads its body; the second argument is the version of the editor's language server.
type Understand = fn(&[u8], Option<&str>) -> Result<CodeCall, ValidationError>;

async fn answer(
    state: &AppState,
    caller: GitlabCaller,
    request: Request,
    version: Version,
    understand: Understand,
) -> Response {
    let (mut desk, body) = match Desk::sit(state, caller, request, Surface::Code).await {
        Ok(sat) => sat,
        Err(refusal) => return refusal.into_response(),
    };
    let prepared = prepare(&mut desk, &body, version, understand);
    drop(body);
    match prepared {
        Ok((call, lane)) => ask(desk, call, lane, version).await,
        Err(refusal) => desk.fail(refusal),
    }
}

fn prepare(
    desk: &mut Desk<'_>,
    body: &[u8],
    version: Version,
    understand: Understand,
) -> Result<(CodeCall, Lane), Refusal> {
    let refused = |error| Refusal::Body { error, form: Form::Plain };
    let call = understand(body, desk.header("x-gitlab-language-server-version")).map_err(refused)?;
    let (feature, class) = match call.kind() {
        CodeKind::Completion => ("code_completions", Class::Completion),
        CodeKind::Generation => ("code_generations", Class::Chat),
    };
    desk.may(match (version, call.kind()) {
        (Version::V2, CodeKind::Completion) => Endpoint::CodeCompletions,
        (Version::V2, CodeKind::Generation) => Endpoint::CodeGenerations,
        (Version::V3 | Version::V4, CodeKind::Completion) => Endpoint::SuggestedCompletion,
        (Version::V3 | Version::V4, CodeKind::Generation) => Endpoint::SuggestedGeneration,
    })?;
    let lane = desk.lane(feature, &call.model, class, Surface::Code)?;
    Ok((call, lane))
}

async fn ask(mut desk: Desk<'_>, call: CodeCall, lane: Lane, version: Version) -> Response {
    let mut drafts = Drafts::new(&desk, &call, &lane);
    if drafts.next(None).is_none() {
        // Nobody says what language the file is in: no suggestion.
        desk.record.finish();
        return body(&desk, &call, &lane, version, &Spoken::default());
    }
    drafts.reset();
    let patience = call.stream.then_some(desk.state.limits.keep_alive_interval);
    let asked = match desk.ask(&lane, patience, |error| drafts.next(error)).await {
        Ok(asked) => asked,
        Err(error) => return desk.fail(Refusal::Generate { error, surface: Surface::Code }),
    };
    let context = drafts.context;
    if call.stream {
        return stream(desk, call, lane, version, asked);
    }
    let Asked { opened, shape, trimmed } = asked;
    match whole(opened, shape, &mut desk.record).await {
        Ok(Heard { text, usage, reason }) => {
            let spoken = Spoken { text, usage, is_cut: reason == FinishReason::Length, context };
            let mut response = body(&desk, &call, &lane, version, &spoken);
            mark_trimmed(response.headers_mut(), &trimmed);
            desk.show("answer", || spoken.text);
            response
        }
        Err(error) => desk.fail(Refusal::Generate { error, surface: Surface::Code }),
    }
}

/// What was said, and what it took.
#[derive(Default)]
struct Spoken {
    text: String,
    usage: Usage,
    is_cut: bool,
    context: ContextTokens,
}

/// Estimates of the further files of a completion.
#[derive(Clone, Copy, Default)]
struct ContextTokens {
    sent: usize,
    used: usize,
}

/// Plans of one call, each smaller than the one before.
struct Drafts<'a> {
    call: &'a CodeCall,
    lane: &'a Lane,
    completion_tokens_max: usize,
    budget_tokens: usize,
    context: ContextTokens,
}

impl<'a> Drafts<'a> {
    fn new(desk: &Desk<'_>, call: &'a CodeCall, lane: &'a Lane) -> Self {
        let completion_tokens_max = desk.state.gitlab.settings.completion_prompt_tokens_max;
        let mut drafts =
            Self { call, lane, completion_tokens_max, budget_tokens: 0, context: ContextTokens::default() };
        drafts.reset();
        drafts
    }

    fn reset(&mut self) {
        self.budget_tokens = match self.call.kind() {
            CodeKind::Completion => self.completion_tokens_max,
            // Asked for once, not with every key: as much as the model takes.
            CodeKind::Generation => self.lane.info.context_tokens,
        };
    }

    /// The next plan. `error` is what the lane said of the one before, whose estimate of its tokens was wrong.
    fn next(&mut self, error: Option<&GenerateError>) -> Option<Draft> {
        const BUDGET_TOKENS_MIN: usize = 16;
        if let Some(GenerateError::PromptTooLong { prompt_tokens, max_tokens, context_tokens, .. }) = error {
            let allowed = context_tokens.saturating_sub(*max_tokens);
            let tried = self.budget_tokens.min(*context_tokens);
            self.budget_tokens = tried * allowed / (*prompt_tokens).max(1) * 9 / 10;
            if self.budget_tokens < BUDGET_TOKENS_MIN {
                return None;
            }
        }
        let (family, prompt_tokens_max) = (self.call.model.family, self.budget_tokens);
        let info = &self.lane.info;
        match &self.call.input {
            CodeInput::Completion(input) => {
                let settings = completion::Settings { family, prompt_tokens_max, max_tokens: None };
                let planned = completion::plan(input, info, &settings)?;
                self.context = ContextTokens { sent: planned.context_tokens_sent, used: planned.context_tokens_used };
                Some(Draft { plan: planned.plan, trimmed: in_words(planned.trimmed) })
            }
            CodeInput::Generation(input) => {
                let settings = generation::Settings { family, prompt_tokens_max, max_tokens: None };
                let planned = generation::plan(input, info, &settings);
                Some(Draft { plan: planned.plan, trimmed: in_words(planned.trimmed) })
            }
        }
    }
}

/// `prefix=1200, suffix=0, context=0`: characters that found no room. Nothing where all did.
fn in_words(trimmed: Trimmed) -> String {
    if trimmed.is_nothing() {
        return String::new();
    }
    let Trimmed { prefix_chars_dropped, suffix_chars_dropped, context_chars_dropped } = trimmed;
    format!("prefix={prefix_chars_dropped}, suffix={suffix_chars_dropped}, context={context_chars_dropped}")
}

fn body(desk: &Desk<'_>, call: &CodeCall, lane: &Lane, version: Version, spoken: &Spoken) -> Response {
    let answered = Answered {
        model_name: &lane.info.name,
        created: (desk.state.unix_time)(),
        feature_flags: desk.header("x-gitlab-enabled-feature-flags"),
        tokens: TokenCounts {
            input: spoken.usage.prompt_tokens,
            output: spoken.usage.completion_tokens,
            is_output_cut: spoken.is_cut,
            context_sent: spoken.context.sent,
            context_used: spoken.context.used,
        },
    };
    json(
        StatusCode::OK,
        match version {
            Version::V2 => call.version_two_body(&spoken.text, &answered),
            Version::V3 | Version::V4 => call.suggestion_body(&spoken.text, &answered),
        },
    )
}

fn stream(desk: Desk<'_>, call: CodeCall, lane: Lane, version: Version, asked: Asked) -> Response {
    if version != Version::V4 {
        let kind = StreamKind::event_stream(desk.state);
        return desk.stream(asked, Raw, kind);
    }
    let mut start = Vec::new();
    let answered = Answered {
        model_name: &lane.info.name,
        created: (desk.state.unix_time)(),
        feature_flags: desk.header("x-gitlab-enabled-feature-flags"),
        tokens: TokenCounts::default(),
    };
    call.stream_start(&answered, &mut start);
    let framing = Events { start, unix_time: desk.state.unix_time };
    let kind = StreamKind { content_type: EVENT_STREAM, keep_alive_interval: PING_INTERVAL };
    let mut response = desk.stream(asked, framing, kind);
    // By this clients tell events from raw text.
    const FORMAT: HeaderName = HeaderName::from_static("x-streaming-format");
    response.headers_mut().insert(FORMAT, HeaderValue::from_static("sse"));
    response
}

/// Server-sent events.
struct Events {
    start: Vec<u8>,
    unix_time: fn() -> u64,
}

impl Framing for Events {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.start);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        content_chunk(text, out);
    }

    fn end(&mut self, _usage: Usage, out: &mut Vec<u8>) {
        stream_end(out);
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        ping((self.unix_time)(), out);
    }
}
