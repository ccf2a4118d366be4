//! The words every room shares: what is asked ([`Job`], [`Prompt`], [`SamplingParams`]), what comes back
//! ([`Event`], [`Usage`], [`FinishReason`]) and who can answer ([`Generate`]).
//!
//! Knows nobody. Nothing here is serialised: wire formats live in `wire`, and are translated by `dialect`.

mod error;
mod event;
mod ids;
mod job;
mod lane;
mod prompt;
mod sampling;
mod upstream;

pub use error::{ErrorKind, GenerateError};
pub use event::{Event, FinishReason, TokenLogprob, TopLogprob, Usage};
pub use ids::{CacheSalt, CallId, SessionKey};
pub use job::{Class, Generate, Job, ModelInfo};
pub use lane::{Exhausted, LaneName, Passed, Taken, Why};
pub use prompt::{Chat, Infill, Message, Prompt, Role};
pub use sampling::{SamplingParams, StopRules};
pub use upstream::{UpstreamClass, UpstreamError};
