//! Settings of lanes: which providers there are, and who is asked for what.

use super::Secret;
use super::cloud::{Credentials, Place};
use crate::domain::LaneName;
use crate::route::policy::RemoteRule;
use serde_json::{Map, Value};
use std::num::NonZeroUsize;
use std::time::Duration;

/// A server of somebody else's that may answer. Nothing is sent to it unless a route or an identifier leads there.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    pub name: String,
    pub kind: ProviderKind,
    /// Without a slash at the end.
    pub url: String,
    pub api_key: Option<Secret>,
    pub max_tokens: NonZeroUsize,
    pub context_tokens: NonZeroUsize,
    pub infill: ProviderInfill,
    pub place: Place,
    pub credentials: Credentials,
    pub sampling: ProviderSampling,
    /// Whether its model goes on from the beginning of an answer.
    pub has_answer_prefix: bool,
    /// Fields that are sent with every request beside ours.
    pub extra: Map<String, Value>,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
    /// Whether it answers for models that GitLab names by this kind of provider.
    pub by_identifier: bool,
    /// Whether it is told which calls belong together.
    pub has_affinity: bool,
    /// Failures in a row after which it is left alone for a while.
    pub failures_max: u32,
}

impl Provider {
    /// What a provider is sent for a job that leaves the length open.
    pub const MAX_TOKENS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
    /// What a provider's models are taken to hold: those in use today hold more.
    pub const CONTEXT_TOKENS: NonZeroUsize = NonZeroUsize::new(131_072).expect("not zero");
    pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
    pub const FAILURES_MAX: u32 = 5;

    /// What is assumed of an address that a call named.
    pub fn at_endpoint(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: ProviderKind::OpenAi,
            url: url.to_owned(),
            api_key: None,
            max_tokens: Self::MAX_TOKENS,
            context_tokens: Self::CONTEXT_TOKENS,
            infill: ProviderInfill::Auto,
            place: Place::Anywhere,
            credentials: Credentials::Key,
            sampling: ProviderSampling::Either,
            has_answer_prefix: false,
            extra: Map::new(),
            head_timeout: Self::HEAD_TIMEOUT,
            idle_timeout: Self::IDLE_TIMEOUT,
            by_identifier: false,
            has_affinity: false,
            failures_max: Self::FAILURES_MAX,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    OpenAi,
    Vllm,
    Sglang,
    LlamaCpp,
    Nim,
    Ollama,
    Mistral,
    Fireworks,
    Azure,
    BedrockMantle,
    Anthropic,
    /// Another of us.
    Sconce,
    Bedrock,
    Vertex,
    /// Another AI gateway of GitLab's kind.
    Gitlab,
}

/// Which of temperature and `top_p` a model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderSampling {
    Both,
    #[default]
    Either,
    Neither,
}

impl ProviderSampling {
    pub const NAMED: &[(&str, Self)] = &[("both", Self::Both), ("either", Self::Either), ("neither", Self::Neither)];
}

impl ProviderKind {
    pub const NAMED: &[(&str, Self)] = &[
        ("openai", Self::OpenAi),
        ("vllm", Self::Vllm),
        ("sglang", Self::Sglang),
        ("llama_cpp", Self::LlamaCpp),
        ("nim", Self::Nim),
        ("ollama", Self::Ollama),
        ("mistral", Self::Mistral),
        ("fireworks", Self::Fireworks),
        ("azure", Self::Azure),
        ("bedrock_mantle", Self::BedrockMantle),
        ("anthropic", Self::Anthropic),
        ("sconce", Self::Sconce),
        ("bedrock", Self::Bedrock),
        ("vertex", Self::Vertex),
        ("gitlab", Self::Gitlab),
    ];

    /// Its address, where everybody has the same.
    pub fn url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com/v1"),
            Self::Mistral => Some("https://api.mistral.ai/v1"),
            Self::Fireworks => Some("https://api.fireworks.ai/inference/v1"),
            Self::Anthropic => Some("https://api.anthropic.com/v1"),
            Self::Vllm
            | Self::Sglang
            | Self::LlamaCpp
            | Self::Nim
            | Self::Ollama
            | Self::Azure
            | Self::BedrockMantle
            | Self::Sconce
            | Self::Bedrock
            | Self::Vertex
            | Self::Gitlab => None,
        }
    }

    /// Whether it takes raw text, which markers around code are.
    pub fn has_completions(self) -> bool {
        match self {
            Self::Vllm
            | Self::Sglang
            | Self::LlamaCpp
            | Self::Nim
            | Self::Ollama
            | Self::Fireworks
            | Self::OpenAi
            | Self::Sconce => true,
            Self::Mistral
            | Self::Azure
            | Self::BedrockMantle
            | Self::Anthropic
            | Self::Bedrock
            | Self::Vertex
            | Self::Gitlab => false,
        }
    }

    /// What GitLab writes before the names of its models.
    pub fn identifier_prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Fireworks => &["fireworks_ai"],
            Self::Azure => &["azure"],
            Self::Bedrock => &["bedrock"],
            Self::BedrockMantle => &["bedrock", "bedrock_mantle"],
            Self::Vertex => &["vertex_ai"],
            Self::Gitlab => &["gitlab"],
            Self::Anthropic => &["anthropic"],
            Self::Mistral => &["mistral", "codestral"],
            Self::OpenAi | Self::Vllm | Self::Sglang | Self::LlamaCpp | Self::Nim | Self::Ollama | Self::Sconce => {
                &["custom_openai"]
            }
        }
    }
}

/// How code around a cursor is put to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderInfill {
    /// As the model's card says, where its name leads to one and raw text is taken.
    Auto,
    None,
    Suffix,
    Fim,
    /// By the markers on this model card.
    Card(String),
}

/// Who is asked, and under which rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    /// Empty leaves it to the model that the call names.
    pub lanes: Vec<LaneName>,
    /// `None` says nothing: without lanes the rule of the model holds, with lanes it is never.
    pub remote: Option<RemoteRule>,
    pub leave_after: Option<Duration>,
    pub hedge_after: Option<Duration>,
    pub longer_elsewhere: bool,
}

/// A model that is a route to others.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedModel {
    pub name: String,
    pub aliases: Vec<String>,
    pub route: Route,
}
