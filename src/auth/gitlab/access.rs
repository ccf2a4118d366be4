//! What a caller may do: the scopes of its token (GitLab calls them unit primitives) against what each endpoint asks for,
//! with the exact words of the 403.

use super::caller::{Caller, CallerKind};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The unit primitives of a token.
#[derive(Clone, Debug)]
pub struct Scopes {
    named: Arc<BTreeSet<String>>,
    has_all: bool,
}

impl Scopes {
    pub(super) fn all() -> Self {
        Self { named: Arc::default(), has_all: true }
    }

    /// With `Enforcement::ValidToken` a token with any scope may do everything. One without any may not: GitLab signs
    /// tokens for other purposes with keys of the same set, those of CI jobs for example, and they carry none.
    pub(super) fn of(named: &Arc<BTreeSet<String>>, enforcement: Enforcement) -> Self {
        let has_all = enforcement == Enforcement::ValidToken && !named.is_empty();
        Self { named: Arc::clone(named), has_all }
    }

    pub fn has(&self, scope: &str) -> bool {
        self.has_all || self.named.contains(scope)
    }

    /// As the token lists them, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(String::as_str)
    }
}

/// Whether the scopes of a token are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Scopes,
    /// GitLab checks its licences itself before it calls.
    ValidToken,
}

/// What a caller wants to use. What needs the body to tell is asked by the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// `/v2/code/completions` and its alias.
    CodeCompletions,
    /// `/v2/code/generations`.
    CodeGenerations,
    /// `/v3/code/completions` and `/v4/code/suggestions`, asked for a completion.
    SuggestedCompletion,
    /// The same, asked for a generation.
    SuggestedGeneration,
    /// `/v1/code/user_access_token`.
    UserAccessToken,
    /// `/v1/prompts/{id}`: any of the unit primitives will do, none at all asks for no scope.
    Prompt { id: &'a str, unit_primitives: &'a [&'a str] },
    /// `/v2/chat/agent`.
    ChatAgent { mentions_gitlab_duo: bool },
    /// An entry of `additional_context` there.
    ChatContext { category: &'a str },
    /// `/v1/chat/{name}`.
    LegacyChat { name: &'a str },
    /// `/v1/search/gitlab-docs`.
    DocumentationSearch,
    /// `/v1/proxy/*`, by the header `X-Gitlab-Unit-Primitive`.
    Proxy { unit_primitive: &'a str },
    /// `/v1/embeddings/*`.
    Embeddings,
}

/// The `detail` of a 403.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Forbidden {
    pub detail: String,
}

pub(super) const COMPLETE_CODE: &str = "complete_code";
pub(super) const MODEL_PROXY: &str = "ai_gateway_model_provider_proxy";
const GENERATE_CODE: &str = "generate_code";
const CHAT: &str = "duo_chat";
const CLASSIC_CHAT: &str = "duo_classic_chat";

impl Caller {
    /// Errors with the words of the 403 if the caller may not use `endpoint`.
    pub fn may(&self, endpoint: Endpoint<'_>) -> Result<(), Forbidden> {
        let is_allowed = match endpoint {
            Endpoint::CodeCompletions => self.scopes.has(COMPLETE_CODE),
            Endpoint::CodeGenerations => self.is_not_own() && self.scopes.has(GENERATE_CODE),
            Endpoint::SuggestedCompletion => self.is_not_own() && self.scopes.has(COMPLETE_CODE),
            Endpoint::SuggestedGeneration => self.scopes.has(GENERATE_CODE),
            Endpoint::UserAccessToken => {
                self.is_not_own() && [COMPLETE_CODE, MODEL_PROXY].iter().any(|scope| self.scopes.has(scope))
            }
            Endpoint::Prompt { unit_primitives, .. } => {
                unit_primitives.is_empty() || unit_primitives.iter().any(|scope| self.scopes.has(scope))
            }
            Endpoint::ChatAgent { mentions_gitlab_duo } => self.may_chat(mentions_gitlab_duo),
            Endpoint::ChatContext { category } => self.scopes.has(&context_scope(category)),
            Endpoint::LegacyChat { name } => {
                let scope = legacy_chat_scope(name);
                // A token for today's chat need not name the former one.
                self.scopes.has(scope) || (scope == CHAT && self.scopes.has(CLASSIC_CHAT))
            }
            Endpoint::DocumentationSearch => self.scopes.has("documentation_search"),
            Endpoint::Proxy { unit_primitive } => self.scopes.has(unit_primitive),
            Endpoint::Embeddings => self.scopes.has("generate_embeddings_codebase"),
        };
        if is_allowed { Ok(()) } else { Err(Forbidden { detail: self.refusal(endpoint) }) }
    }

    fn is_not_own(&self) -> bool {
        self.kind != CallerKind::Own
    }

    /// Instances before 18.7 have no scope of the newer name. Of those that their owners run either is taken, since
    /// GitLab has checked the licence before it calls.
    fn may_chat(&self, mentions_gitlab_duo: bool) -> bool {
        self.scopes.has(CLASSIC_CHAT) || (self.scopes.has(CHAT) && (self.is_self_managed() || mentions_gitlab_duo))
    }

    fn refusal(&self, endpoint: Endpoint<'_>) -> String {
        match endpoint {
            Endpoint::CodeCompletions => "Unauthorized to access code completions".to_owned(),
            Endpoint::CodeGenerations => "Unauthorized to access code generations".to_owned(),
            Endpoint::SuggestedCompletion | Endpoint::SuggestedGeneration => {
                "Unauthorized to access code suggestions".to_owned()
            }
            Endpoint::UserAccessToken => "Unauthorized to create user access token".to_owned(),
            Endpoint::Prompt { id, .. } => format!("Unauthorized to access '{id}'"),
            Endpoint::ChatAgent { .. } if self.scopes.has(CHAT) => {
                "Duo Core no longer authorized to access Duo Classic Chat".to_owned()
            }
            Endpoint::ChatAgent { .. } => "Unauthorized to access duo chat".to_owned(),
            Endpoint::ChatContext { category } => format!("Unauthorized to access {}", context_scope(category)),
            Endpoint::LegacyChat { name } => format!("Unauthorized to access {}", legacy_chat_scope(name)),
            Endpoint::DocumentationSearch => "Unauthorized to search documentations".to_owned(),
            Endpoint::Proxy { unit_primitive } => format!("Unauthorized to access {unit_primitive}"),
            Endpoint::Embeddings => "Unauthorized to access generate_embeddings_codebase".to_owned(),
        }
    }
}

fn context_scope(category: &str) -> String {
    format!("include_{category}_context")
}

fn legacy_chat_scope(name: &str) -> &str {
    match name {
        "explain_vulnerability" | "summarize_comments" | "troubleshoot_job" => name,
        _ => CHAT,
    }
}
