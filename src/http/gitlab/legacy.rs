//! `POST /v1/chat/{name}`: the chats of older versions of GitLab, and what its documentation tells administrators to
//! try by hand.

use super::answer::{Raw, whole};
use super::authenticate::GitlabCaller;
use super::desk::{Desk, Draft, StreamKind};
use super::error::{Refusal, Surface};
use crate::auth::gitlab::Endpoint;
use crate::dialect::gitlab::legacy::{LegacyCall, LegacyName, legacy_answer, legacy_call};
use crate::domain::Class;
use crate::feature::chat::plan;
use crate::http::AppState;
use crate::http::error::json;
use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

pub(super) async fn chat(
    State(state): State<AppState>,
    Extension(caller): Extension<GitlabCaller>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (desk, body) = match Desk::sit(&state, caller, request, Surface::Code).await {
        Ok(sat) => sat,
        Err(refusal) => return refusal.into_response(),
    };
    match understand(&desk, &name, &body) {
        Ok(call) => answer(desk, call).await,
        Err(refusal) => desk.fail(refusal),
    }
}

fn understand(desk: &Desk<'_>, name: &str, body: &[u8]) -> Result<LegacyCall, Refusal> {
    let call = legacy_call(name, body).map_err(|error| Refusal::Legacy { error })?;
    desk.may(Endpoint::LegacyChat { name })?;
    Ok(call)
}

async fn answer(mut desk: Desk<'_>, call: LegacyCall) -> Response {
    let feature = feature(call.name);
    let lane = match desk.lane(feature, &call.model, Class::Chat, Surface::Code) {
        Ok(lane) => lane,
        Err(refusal) => return desk.fail(refusal),
    };
    let mut draft = Some(Draft { plan: plan(call.input.clone(), &lane.info), trimmed: String::new() });
    let patience = call.is_streamed.then_some(desk.state.limits.keep_alive_interval);
    let failed = |error| Refusal::Generate { error, surface: Surface::Code };
    let asked = match desk.ask(&lane, patience, |_| draft.take()).await {
        Ok(asked) => asked,
        Err(error) => return desk.fail(failed(error)),
    };
    if call.is_streamed {
        let kind = StreamKind::event_stream(desk.state);
        return desk.stream(asked, Raw, kind);
    }
    match whole(asked.opened, asked.shape, &mut desk.record).await {
        Ok(answered) => {
            let body = legacy_answer(&call, &lane.info.name, &answered.text, (desk.state.unix_time)());
            desk.show("answer", || answered.text);
            json(StatusCode::OK, body)
        }
        Err(error) => desk.fail(failed(error)),
    }
}

/// The feature setting of today that stands for a chat of then.
fn feature(name: LegacyName) -> &'static str {
    match name {
        LegacyName::Agent => "duo_chat",
        LegacyName::ExplainCode => "duo_chat_explain_code",
        LegacyName::WriteTests => "duo_chat_write_tests",
        LegacyName::RefactorCode => "duo_chat_refactor_code",
        LegacyName::ExplainVulnerability => "duo_chat_explain_vulnerability",
        LegacyName::SummarizeComments => "duo_chat_summarize_comments",
        LegacyName::TroubleshootJob => "duo_chat_troubleshoot_job",
    }
}
