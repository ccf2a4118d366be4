//! What a bench of servers asks, of whom, how hard and how often.

use super::error::ServeBenchError;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

pub const TARGETS_MAX: usize = 2;
pub const CONCURRENCY_MAX: usize = 1_024;
/// Requests a second.
pub const RATE_MAX: f64 = 10_000.0;
pub const TOKENS_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One, or two that take turns.
    pub targets: Vec<Target>,
    pub workload: Workload,
    pub loads: Vec<Load>,
    /// Rounds that count. One more, shorter, goes before them.
    pub rounds: usize,
    /// Of one round at one load.
    pub amount: Amount,
    pub texts: Texts,
    pub typing: Typing,
    /// Chats that run beside the typing of [`Workload::Mixed`], one after the other in each of these streams.
    pub chats: usize,
    pub goals: Goals,
    /// Of one request, from sending to its last byte.
    pub timeout: Duration,
    pub seed: u64,
}

/// A server under measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What people call it in the report.
    pub label: String,
    /// With or without `/v1` at its end.
    pub url: String,
    pub dialect: Dialect,
    /// `None`: the first model that the server lists, where the dialect needs one.
    pub model: Option<String>,
    pub headers: SecretHeaders,
    /// Fields added to every request's body, in place of ours where both have one.
    pub extra: Map<String, Value>,
}

/// Headers whose values nobody is shown.
#[derive(Clone, Default, PartialEq)]
pub struct SecretHeaders(pub Vec<(&'static str, String)>);

impl fmt::Debug for SecretHeaders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| (name, "(hidden)"))).finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `/v1/completions` and `/v1/chat/completions`, streamed.
    Openai,
    /// `/v2/code/completions` of GitLab's gateway, streamed.
    Gitlab,
}

impl Dialect {
    pub fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Gitlab => "gitlab",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Code to go on with.
    Completion,
    /// A question about code.
    Chat,
    /// Bursts of keystrokes: each asks for a completion and gives up the one before; the last of a burst is waited for.
    Typing,
    /// Typing, while chats run.
    Mixed,
}

impl Workload {
    pub fn name(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Chat => "chat",
            Self::Typing => "typing",
            Self::Mixed => "mixed",
        }
    }

    pub fn is_typing(self) -> bool {
        matches!(self, Self::Typing | Self::Mixed)
    }

    pub fn has_chats(self) -> bool {
        matches!(self, Self::Chat | Self::Mixed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Closed loop: this many streams, each of which asks again when it has been answered.
    Concurrency(usize),
    /// Open loop: this many requests (typing: bursts) begin in a second, at random moments, whatever the server does.
    Rate(f64),
}

impl Load {
    pub fn is_open(self) -> bool {
        matches!(self, Self::Rate(_))
    }

    /// Streams, or requests a second.
    pub fn value(self) -> f64 {
        match self {
            Self::Concurrency(streams) => streams as f64,
            Self::Rate(per_second) => per_second,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concurrency(1) => formatter.write_str("1 stream"),
            Self::Concurrency(streams) => write!(formatter, "{streams} streams"),
            Self::Rate(per_second) => write!(formatter, "{per_second}/s"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Requests, of typing bursts, all streams together.
    Requests(usize),
    /// Nothing begins after this time; what has begun is waited for.
    Duration(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Texts {
    pub prompt_tokens: usize,
    /// Behind the cursor.
    pub suffix_tokens: usize,
    pub output_tokens: usize,
    /// Of the prompt that all requests of a stream begin with, from 0 to 1. Typing shares what it does not type.
    pub shared: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Of one burst.
    pub keys: usize,
    /// Between two keys, on average: between 60 % and 140 % of it.
    pub gap: Duration,
}

/// What a request has to keep to be good. Without any, all that are answered are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goals {
    pub first_token: Option<Duration>,
    pub end_to_end: Option<Duration>,
}

impl Goals {
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl Target {
    /// The address without `/v1` and without a slash at its end.
    pub fn base(&self) -> &str {
        self.url.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches('/')
    }
}

impl Plan {
    /// Servers get the same texts, unless they are the same server: its cache would know what the other asked.
    pub(super) fn salt(&self, target_index: usize) -> u64 {
        let base = self.targets[target_index].base();
        self.targets[..target_index].iter().filter(|before| before.base() == base).count() as u64
    }

    /// Refuses what cannot be measured, or would measure something else than it says.
    pub fn check(&self) -> Result<(), ServeBenchError> {
        if !(1..=TARGETS_MAX).contains(&self.targets.len()) {
            return Err(ServeBenchError::Targets { given: self.targets.len(), targets_max: TARGETS_MAX });
        }
        let counts = [
            ("the number of loads", self.loads.len()),
            ("the number of rounds", self.rounds),
            ("the prompt", self.texts.prompt_tokens),
            ("the answer", self.texts.output_tokens),
            ("the number of keys", self.typing.keys),
            ("the number of chats", if self.workload == Workload::Mixed { self.chats } else { 1 }),
        ];
        if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(ServeBenchError::Zero { what });
        }
        for load in &self.loads {
            let is_possible = match load {
                Load::Concurrency(streams) => (1..=CONCURRENCY_MAX).contains(streams),
                Load::Rate(per_second) => *per_second > 0.0 && *per_second <= RATE_MAX,
            };
            if !is_possible {
                return Err(ServeBenchError::Load { load: *load });
            }
        }
        let has_gitlab = self.targets.iter().any(|target| target.dialect == Dialect::Gitlab);
        if has_gitlab && self.workload.has_chats() {
            return Err(ServeBenchError::NoChats { workload: self.workload.name() });
        }
        Ok(())
    }
}
