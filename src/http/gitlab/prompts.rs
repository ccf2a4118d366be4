//! `/v1/prompts/*` and `/v2/prompts/*`: every feature that is one question and one answer.

use super::answer::{Framing, whole as hear_whole};
use super::authenticate::GitlabCaller;
use super::desk::{Asked, Desk, Draft, StreamKind, mark_trimmed};
use super::error::{Refusal, Surface};
use crate::auth::gitlab::Endpoint;
use crate::dialect::gitlab::prompts::{ApiVersion, Cost, PromptCall, PromptRefusal, piece, prompt_id, whole};
use crate::domain::{GenerateError, Usage};
use crate::feature::prompts::{Ask, Facts, Note, Prepared, PromptCard, lookup, prepare, smaller_budget};
use crate::http::AppState;
use crate::http::dates::today;
use crate::http::error::json;
use crate::route::Lane;
use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

pub(super) async fn v1(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answer(&state, caller, &id, request, ApiVersion::V1).await
}

pub(super) async fn v2(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    answer(&state, caller, &id, request, ApiVersion::V2).await
}

async fn answer(state: &AppState, caller: GitlabCaller, path: &str, request: Request, version: ApiVersion) -> Response {
    let (mut desk, body) = match Desk::sit(state, caller, request, Surface::Prompts).await {
        Ok(sat) => sat,
        Err(refusal) => return refusal.into_response(),
    };
    let understood = understand(&mut desk, &prompt_id(path), &body);
    drop(body);
    match understood {
        Ok(question) => ask(desk, question, version).await,
        Err(refusal) => desk.fail(refusal),
    }
}

/// A call, the prompt it is of, and the lane that answers.
struct Question {
    call: PromptCall,
    card: &'static PromptCard,
    lane: Lane,
}

/// Body before scopes, scopes before versions, as GitLab's gateway has it; a model that is not there comes last.
fn understand(desk: &mut Desk<'_>, id: &str, body: &[u8]) -> Result<Question, Refusal> {
    let call = PromptCall::parse(body).map_err(PromptRefusal::from)?;
    let card = lookup(id).map_err(PromptRefusal::from)?;
    let unit_primitives: Vec<&str> = card.unit_primitives.iter().map(String::as_str).collect();
    desk.may(Endpoint::Prompt { id, unit_primitives: &unit_primitives })?;
    call.check_version()?;
    // A prompt that no setting of GitLab's stands for is routed by its own name.
    let feature = card.feature_setting.as_deref().unwrap_or(&card.id);
    let lane = desk.lane(feature, &call.model, card.class, Surface::Prompts)?;
    Ok(Question { call, card, lane })
}

async fn ask(mut desk: Desk<'_>, question: Question, version: ApiVersion) -> Response {
    let Question { call, card, lane } = question;
    let current_date = today((desk.state.unix_time)());
    let chat_max_tokens = desk.state.gitlab.settings.chat_max_tokens.filter(|_| card.id.starts_with("chat/"));
    let mut drafts = Drafts {
        call: &call,
        card,
        lane: &lane,
        current_date: &current_date,
        chat_max_tokens,
        estimate: 0,
        note: Note::default(),
    };
    let first = match drafts.prepare(None) {
        Ok(Prepared::Answer(text)) => return decided(desk, &call, version, text),
        Ok(Prepared::Ask(ask)) => drafts.draft(*ask),
        Err(refusal) => return desk.fail(refusal.into()),
    };
    let mut first = Some(first);
    let patience = call.stream.then_some(desk.state.limits.keep_alive_interval);
    let asked = desk.ask(&lane, patience, |error| first.take().or_else(|| drafts.smaller(error?))).await;
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return desk.fail(Refusal::Generate { error, surface: Surface::Prompts }),
    };
    let note = drafts.note;
    if call.stream {
        let kind = StreamKind::event_stream(desk.state);
        return desk.stream(asked, Pieces { version, note }, kind);
    }
    let Asked { opened, shape, trimmed } = asked;
    match hear_whole(opened, shape, &mut desk.record).await {
        Ok(answered) => {
            if let Some(note) = note.get() {
                desk.record.note(note.to_owned());
            }
            let cost = Cost { model: name_of(&call, &lane), usage: answered.usage };
            let mut response = json(StatusCode::OK, whole(version, &answered.text, Some(cost)));
            mark_trimmed(response.headers_mut(), &trimmed);
            desk.show("answer", || answered.text);
            response
        }
        Err(error) => desk.fail(Refusal::Generate { error, surface: Surface::Prompts }),
    }
}

/// The name the administrator gave the model in GitLab, without what stands before it there.
fn name_of<'a>(call: &'a PromptCall, lane: &'a Lane) -> &'a str {
    let identifier = call.model.identifier.as_deref().map(|name| name.split_once('/').map_or(name, |(_, name)| name));
    identifier.unwrap_or(&lane.info.name)
}

/// An answer that the inputs alone decide.
fn decided(mut desk: Desk<'_>, call: &PromptCall, version: ApiVersion, text: String) -> Response {
    desk.record.note("answered from the inputs alone".to_owned());
    desk.record.finish();
    if call.stream {
        let mut bytes = Vec::new();
        piece(version, &text, &mut bytes);
        let headers = [(axum::http::header::CONTENT_TYPE, super::desk::EVENT_STREAM)];
        return (headers, bytes).into_response();
    }
    json(StatusCode::OK, whole(version, &text, None))
}

/// Plans of one call, each smaller than the one before.
struct Drafts<'a> {
    call: &'a PromptCall,
    card: &'static PromptCard,
    lane: &'a Lane,
    current_date: &'a str,
    /// An operator's limit of chat answers, in place of the card's.
    chat_max_tokens: Option<usize>,
    /// What the last plan was thought to have.
    estimate: usize,
    /// What its shape has to say of the answer, once there is one.
    note: Note,
}

impl Drafts<'_> {
    fn prepare(&self, prompt_tokens_max: Option<usize>) -> Result<Prepared, PromptRefusal> {
        let facts = Facts {
            model: &self.lane.info,
            family: self.call.model.family,
            current_date: self.current_date,
            prompt_tokens_max,
        };
        Ok(prepare(self.card, &self.call.inputs, &facts)?)
    }

    fn draft(&mut self, ask: Ask) -> Draft {
        self.estimate = ask.prompt_tokens_estimate;
        self.note = ask.note;
        let trimmed: Vec<String> = ask.trimmed.iter().map(ToString::to_string).collect();
        let mut plan = ask.plan;
        if let Some(limit) = self.chat_max_tokens {
            let room = self.lane.info.context_tokens.saturating_sub(self.estimate);
            plan.stop.max_tokens = Some(limit.min(room).max(1));
        }
        Draft { plan, trimmed: trimmed.join(", ") }
    }

    fn smaller(&mut self, error: &GenerateError) -> Option<Draft> {
        let budget = smaller_budget(self.card, self.estimate, error)?;
        match self.prepare(Some(budget)) {
            Ok(Prepared::Ask(ask)) => Some(self.draft(*ask)),
            Ok(Prepared::Answer(_)) | Err(_) => None,
        }
    }
}

/// Raw text, or a line of JSON for each piece.
struct Pieces {
    version: ApiVersion,
    note: Note,
}

impl Framing for Pieces {
    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        piece(self.version, text, out);
    }

    fn end(&mut self, _usage: Usage, _out: &mut Vec<u8>) {
        if let Some(note) = self.note.get() {
            tracing::info!(note, "the model's answer was not used as it was");
        }
    }
}
