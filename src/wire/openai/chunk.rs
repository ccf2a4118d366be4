//! Chunks of a streamed answer as other servers send them: what is read of them, and nothing that would make an unknown
//! field an error.

use serde::Deserialize;

/// A chunk of `chat.completion.chunk` or `text_completion`, or an error in its place.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct IncomingChunk {
    pub object: Option<String>,
    /// Empty in a chunk that only counts, and in one that only says what a filter found.
    pub choices: Option<Vec<IncomingChoice>>,
    pub usage: Option<IncomingUsage>,
    pub error: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct IncomingChoice {
    pub text: Option<String>,
    pub delta: Option<IncomingDelta>,
    pub finish_reason: Option<String>,
}

/// Reasoning, which some servers send beside the answer, is none of it and not read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct IncomingDelta {
    pub content: Option<String>,
    pub refusal: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IncomingUsage {
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub prompt_tokens_details: Option<IncomingPromptDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct IncomingPromptDetails {
    pub cached_tokens: Option<u64>,
}
