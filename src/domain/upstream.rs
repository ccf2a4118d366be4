//! Why a remote lane did not, or not fully, answer: in classes that say who may be tried next.

use super::{ErrorKind, Usage};
use std::sync::Arc;
use std::time::Duration;

/// What a failure of a provider means for whoever chooses the next lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamClass {
    /// The request is wrong for this provider, and will be wrong again.
    Request,
    /// More than the provider's model can hold: only a larger one helps.
    TooLong,
    /// The provider's rules about content forbid it. Never to be asked elsewhere silently.
    Policy,
    /// Key, bill, name of the model or address: somebody has to put it right. Another lane may be tried.
    Setup,
    /// Too many requests for the moment; the wait is often known.
    Limited,
    /// Too much to do for the moment.
    Overloaded,
    /// Not reached, or failed before it said anything.
    Failed,
    /// Failed in the middle of an answer: no other lane can go on from there.
    Broken,
}

/// Texts are ours: what a provider wrote never gets this far.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the provider {provider} {cause}{}", .status.map(|status| format!(" (status {status})")).unwrap_or_default())]
pub struct UpstreamError {
    /// The operator's name for it.
    pub provider: Arc<str>,
    pub class: UpstreamClass,
    /// Goes on after the provider's name.
    pub cause: &'static str,
    pub status: Option<u16>,
    /// As the provider said it, at most a day.
    pub retry_after: Option<Duration>,
    /// What was counted until then.
    pub usage: Usage,
}

impl UpstreamError {
    /// A provider that refuses our credentials is our trouble, and not the caller's: 401 would blame the wrong one.
    pub fn kind(&self) -> ErrorKind {
        match self.class {
            UpstreamClass::Request | UpstreamClass::TooLong | UpstreamClass::Policy => ErrorKind::Invalid,
            UpstreamClass::Limited => ErrorKind::Overloaded,
            UpstreamClass::Overloaded => ErrorKind::Unavailable,
            UpstreamClass::Setup | UpstreamClass::Failed | UpstreamClass::Broken => ErrorKind::Upstream,
        }
    }

    /// OpenAI's `code` for it.
    pub fn code(&self) -> &'static str {
        match self.class {
            UpstreamClass::Request => "upstream_refused",
            UpstreamClass::TooLong => "context_length_exceeded",
            UpstreamClass::Policy => "content_filter",
            UpstreamClass::Setup => "upstream_setup",
            UpstreamClass::Limited => "upstream_rate_limit",
            UpstreamClass::Overloaded => "upstream_overloaded",
            UpstreamClass::Failed | UpstreamClass::Broken => "upstream_error",
        }
    }
}
