//! What a lane is asked to do, and the one trait every lane implements.

use super::{CacheSalt, CallId, Event, GenerateError, Prompt, SamplingParams, SessionKey, StopRules};
use futures::stream::BoxStream;
use std::time::Duration;

/// Who goes first. A completion is awaited by somebody typing; a chat answer is read as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Completion,
    Chat,
}

/// One generation.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: CallId,
    pub prompt: Prompt,
    pub sampling: SamplingParams,
    pub stop: StopRules,
    pub class: Class,
    pub session: Option<SessionKey>,
    pub cache_salt: CacheSalt,
    /// Counted from submission; when it has passed the job ends with [`GenerateError::DeadlineExceeded`].
    /// Earlier deadlines go first within a class. `None` takes the class's default.
    pub deadline: Option<Duration>,
}

/// A way to answer: the local engine, a remote provider, or a double in tests.
///
/// Dropping the stream cancels the work behind it, whether it waits or runs.
pub trait Generate: Send + Sync {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>>;
}

/// What callers may know of a model served here.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    pub name: String,
    /// For example `qwen2`.
    pub architecture: String,
    /// Prompt and output together fit in this many tokens.
    pub context_tokens: usize,
    pub vocab_size: usize,
    pub parameters: u64,
    pub has_infill: bool,
    pub has_chat: bool,
    /// Seconds since the Unix epoch at which the model was loaded.
    pub created: u64,
}
