//! What a lane says while it answers. A stream of these is the only primitive; a whole answer is a fold over it.

use super::Taken;
use std::sync::Arc;
use std::time::Duration;

/// One item of an answer's stream. `Started` comes first, exactly one `Finished` comes last; an error replaces whatever
/// was still to come. Where there was a choice of lanes, `Taken` comes before all.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Which of several lanes answers. No other lane is asked after it.
    Taken(Arc<Taken>),
    /// The prompt has been computed and the first token is about to come.
    Started {
        prompt_tokens: usize,
        cached_tokens: usize,
        /// From the submission of the job to its first step; what is left until this event is prefill.
        queue_wait: Duration,
    },
    /// More text, never splitting a UTF-8 character. `logprobs` holds the tokens the text came from, when asked for.
    Text {
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    Finished {
        reason: FinishReason,
        usage: Usage,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model's end token or a stop string.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
}

/// Token counts of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    /// Prompt tokens whose keys and values were found in the prefix cache.
    pub cached_tokens: usize,
}

/// A generated token with its natural-log probability under the model before temperature and filters.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    pub token: TopLogprob,
    pub top: Vec<TopLogprob>,
}

/// One token and its natural-log probability. `bytes` is exact where `text` had to be replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct TopLogprob {
    pub id: u32,
    pub text: String,
    pub bytes: Vec<u8>,
    pub logprob: f32,
}
