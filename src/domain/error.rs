//! Why a job was refused or ended early. `http` alone turns the kind into a status.

use super::{Exhausted, UpstreamError};
use std::time::Duration;

/// Who is to blame, and whether another lane may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will be wrong again.
    Invalid,
    /// No or wrong credentials.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// No such model or path.
    NotFound,
    /// The body is larger than the limit.
    TooLarge,
    /// Full for the moment: the same request may succeed after a wait.
    Overloaded,
    /// A newer request of the same session took its place.
    Superseded,
    /// The deadline passed before the answer was complete.
    Deadline,
    /// The server is not able to answer yet.
    Starting,
    /// The server is going down and takes no new work.
    ShuttingDown,
    /// What computes for this model has failed; other models may be well.
    Unavailable,
    /// A remote lane failed.
    Upstream,
    /// Our fault.
    Internal,
}

/// Why a lane did not, or not fully, answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    #[error(
        "the prompt has {prompt_tokens} tokens and {max_tokens} more may be generated, the context of {model} holds {context_tokens}"
    )]
    PromptTooLong { model: String, prompt_tokens: usize, max_tokens: usize, context_tokens: usize },
    #[error("the prompt is empty: at least one token is needed")]
    PromptEmpty,
    #[error("token id {token} is outside the vocabulary of {model}, which has {vocab_size} tokens")]
    TokenOutOfRange { model: String, token: u32, vocab_size: usize },
    #[error(
        "{model} has no fill-in-the-middle template: send the request without suffix, or name a model trained for infilling"
    )]
    NoInfill { model: String },
    #[error("{model} has no chat template: use /v1/completions, or name a model trained for chat")]
    NoChat { model: String },
    #[error("{model}: {reason}")]
    Template { model: String, reason: String },
    #[error(
        "the request needs {needed_tokens} tokens of key-value cache and the whole cache holds {cache_tokens}: raise --kv-memory or ask for fewer tokens"
    )]
    CacheTooSmall { needed_tokens: usize, cache_tokens: usize },
    #[error("{waiting} requests are waiting already, the limit is {waiting_max}")]
    QueueFull { waiting: usize, waiting_max: usize, retry_after: Duration },
    #[error("a newer request of the same session took the place of this one")]
    Superseded,
    #[error("not finished within its deadline of {} ms ({phase})", .deadline.as_millis())]
    DeadlineExceeded { deadline: Duration, phase: &'static str, retry_after: Duration },
    #[error("the server is still starting: {cause}")]
    Starting { cause: String },
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("{model} is not available: {cause}")]
    EngineDown { model: String, cause: &'static str, retry_after: Option<Duration> },
    #[error("the engine failed on this step: {reason}")]
    StepFailed { reason: String },
    /// What was asked cannot be said in this provider's words. Another lane may know how.
    #[error("the provider {provider} does not offer {what}")]
    NotOffered { provider: String, what: &'static str },
    /// Boxed, because it is larger than all others together.
    #[error(transparent)]
    Upstream(#[from] Box<UpstreamError>),
    /// Every lane that may be asked was asked, or left out for a reason.
    #[error(transparent)]
    Exhausted(#[from] Box<Exhausted>),
}

impl GenerateError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PromptTooLong { .. }
            | Self::PromptEmpty
            | Self::TokenOutOfRange { .. }
            | Self::NoInfill { .. }
            | Self::NoChat { .. }
            | Self::Template { .. }
            | Self::CacheTooSmall { .. }
            | Self::NotOffered { .. } => ErrorKind::Invalid,
            Self::QueueFull { .. } => ErrorKind::Overloaded,
            Self::Superseded => ErrorKind::Superseded,
            Self::DeadlineExceeded { .. } => ErrorKind::Deadline,
            Self::Starting { .. } => ErrorKind::Starting,
            Self::ShuttingDown => ErrorKind::ShuttingDown,
            Self::EngineDown { .. } => ErrorKind::Unavailable,
            Self::StepFailed { .. } => ErrorKind::Internal,
            Self::Upstream(error) => error.kind(),
            Self::Exhausted(exhausted) => exhausted.last.kind(),
        }
    }

    /// How long a client should wait before it tries again, where waiting helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } | Self::DeadlineExceeded { retry_after, .. } => Some(*retry_after),
            Self::EngineDown { retry_after, .. } => *retry_after,
            Self::Upstream(error) => error.retry_after,
            Self::Exhausted(exhausted) => exhausted.last.retry_after(),
            Self::Starting { .. } | Self::ShuttingDown => Some(Duration::from_secs(5)),
            Self::PromptTooLong { .. }
            | Self::PromptEmpty
            | Self::TokenOutOfRange { .. }
            | Self::NoInfill { .. }
            | Self::NoChat { .. }
            | Self::Template { .. }
            | Self::CacheTooSmall { .. }
            | Self::Superseded
            | Self::StepFailed { .. }
            | Self::NotOffered { .. } => None,
        }
    }
}
