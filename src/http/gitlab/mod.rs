//! The endpoints of GitLab's AI gateway: what an unmodified GitLab calls, in its own words, statuses and framings.
//!
//! Knows the calls through `dialect::gitlab`, what to ask through `feature`, and the callers through `auth::gitlab`.

mod agent;
mod answer;
mod authenticate;
mod code;
mod desk;
mod error;
mod legacy;
mod pages;
mod prompts;
mod search;
mod token;

pub(super) use authenticate::{authenticate, identify};
pub(super) use pages::{is_preflight, method_not_allowed, open_models, preflight, unknown_path};

use super::AppState;
use super::mask::Mask;
use crate::auth::ModelApiKeys;
use crate::auth::gitlab::GitlabAuth;
use crate::search::Index;
use axum::Router;
use axum::routing::{get, post};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What serves GitLab's calls.
pub struct Gitlab {
    /// `None` refuses everybody.
    pub auth: Option<Arc<GitlabAuth>>,
    pub settings: GitlabSettings,
    /// The documentation, if any was imported.
    pub docs: Option<Index>,
    mask: Mask,
}

/// Settings of GitLab's calls.
#[derive(Debug)]
pub struct GitlabSettings {
    /// Whether there is a GitLab to serve: everything without credentials is then refused in its words.
    pub is_enabled: bool,
    /// Whether every caller has to show who it is. Only then may web pages of all origins call.
    pub is_authenticated: bool,
    /// What GitLab has to send as a model's key; `None` asks for nothing.
    pub model_api_key: Option<ModelApiKeys>,
    pub completion_prompt_tokens_max: usize,
    /// An operator's limit of chat answers.
    pub chat_max_tokens: Option<usize>,
    /// How long a call may take; `None` leaves it to the engine.
    pub request_deadline: Option<Duration>,
    /// Bodies go to the log.
    pub logs_bodies: bool,
    /// They do too where GitLab's administrator has asked for verbose logs.
    pub honours_verbose_header: bool,
}

impl Default for GitlabSettings {
    fn default() -> Self {
        Self {
            is_enabled: false,
            is_authenticated: true,
            model_api_key: None,
            completion_prompt_tokens_max: 4096,
            chat_max_tokens: None,
            request_deadline: None,
            logs_bodies: false,
            honours_verbose_header: true,
        }
    }
}

impl fmt::Debug for Gitlab {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gitlab").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Gitlab {
    pub fn new(auth: Arc<GitlabAuth>, settings: GitlabSettings, docs: Option<Index>) -> Self {
        Self { auth: Some(auth), settings, docs, mask: Mask::default() }
    }

    /// Whether callers come from anywhere, each with credentials.
    pub(super) fn is_open(&self) -> bool {
        self.settings.is_enabled && self.settings.is_authenticated
    }

    /// Without a GitLab to serve.
    pub fn off() -> Self {
        Self { auth: None, settings: GitlabSettings::default(), docs: None, mask: Mask::default() }
    }
}

/// Everything that asks for a token of GitLab's.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/v2/code/completions", post(code::completions))
        .route("/v2/completions", post(code::completions))
        .route("/v2/code/generations", post(code::generations))
        .route("/v3/code/completions", post(code::suggestions_v3))
        .route("/v4/code/suggestions", post(code::suggestions_v4))
        .route("/v1/code/user_access_token", post(token::user_access_token))
        .route("/v1/prompts/{*id}", post(prompts::v1))
        .route("/v2/prompts/{*id}", post(prompts::v2))
        .route("/v2/chat/agent", post(agent::agent))
        .route("/v1/chat/{name}", post(legacy::chat))
        .route("/v1/search/gitlab-docs", post(search::documentation))
}

/// What answers without credentials.
pub(super) fn open_routes() -> Router<AppState> {
    // The metrics have a port of their own; GitLab's gateway says so without asking who wants to know.
    let mut router = Router::new().route("/metrics", get(async || pages::unknown_path()));
    // Rails encodes the slash.
    for path in ["/v1/models/definitions", "/v1/models%2Fdefinitions", "/v1/models%2fdefinitions"] {
        router = router.route(path, get(pages::definitions));
    }
    router
}
