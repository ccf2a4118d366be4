//! Response bodies, whole and in chunks. Fields are in the order in which OpenAI sends them.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// Every answer and every chunk of one, with `C` the kind of its choices.
#[derive(Debug, serde::Serialize)]
pub struct Reply<'a, C> {
    pub id: &'a str,
    pub object: &'static str,
    pub created: u64,
    pub model: &'a str,
    pub choices: Vec<C>,
    /// Absent in chunks, unless they were asked to end with usage: then `null` in all but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    pub total_tokens: usize,
    pub prompt_tokens_details: PromptTokensDetails,
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct PromptTokensDetails {
    pub cached_tokens: usize,
}

/// A choice of `text_completion`, whole or a part of it.
#[derive(Debug, serde::Serialize)]
pub struct TextChoice<'a> {
    pub text: &'a str,
    pub index: usize,
    pub logprobs: Option<TextLogprobs>,
    pub finish_reason: Option<&'static str>,
}

/// Parallel lists, one entry a token.
#[derive(Debug, Default, serde::Serialize)]
pub struct TextLogprobs {
    pub tokens: Vec<String>,
    pub token_logprobs: Vec<f32>,
    pub top_logprobs: Vec<TopLogprobMap>,
    /// In characters from the start of the choice's text.
    pub text_offset: Vec<usize>,
}

/// A map from token to log probability that keeps its order.
#[derive(Debug)]
pub struct TopLogprobMap(pub Vec<(String, f32)>);

impl Serialize for TopLogprobMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, logprob) in &self.0 {
            map.serialize_entry(token, logprob)?;
        }
        map.end()
    }
}

/// A choice of `chat.completion`.
#[derive(Debug, serde::Serialize)]
pub struct ChatChoice<'a> {
    pub index: usize,
    pub message: ChatMessage<'a>,
    pub logprobs: Option<ChatLogprobs>,
    pub finish_reason: Option<&'static str>,
}

#[derive(Debug, serde::Serialize)]
pub struct ChatMessage<'a> {
    pub role: &'static str,
    pub content: &'a str,
    /// Always `null`: a model's refusal is text like any other.
    pub refusal: Option<&'static str>,
}

/// A choice of `chat.completion.chunk`.
#[derive(Debug, serde::Serialize)]
pub struct ChunkChoice<'a> {
    pub index: usize,
    pub delta: Delta<'a>,
    pub logprobs: Option<ChatLogprobs>,
    pub finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, serde::Serialize)]
pub struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
}

#[derive(Debug, Default, serde::Serialize)]
pub struct ChatLogprobs {
    pub content: Vec<ChatTokenLogprob>,
    pub refusal: Option<&'static str>,
}

#[derive(Debug, serde::Serialize)]
pub struct ChatTokenLogprob {
    #[serde(flatten)]
    pub token: ChatTopLogprob,
    pub top_logprobs: Vec<ChatTopLogprob>,
}

#[derive(Debug, serde::Serialize)]
pub struct ChatTopLogprob {
    pub token: String,
    pub logprob: f32,
    pub bytes: Vec<u8>,
}

#[derive(Debug, serde::Serialize)]
pub struct ErrorBody<'a> {
    pub error: ErrorDetail<'a>,
}

#[derive(Debug, serde::Serialize)]
pub struct ErrorDetail<'a> {
    pub message: &'a str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub param: Option<&'a str>,
    pub code: Option<&'static str>,
}

/// `GET /v1/models`.
#[derive(Debug, serde::Serialize)]
pub struct ModelList<'a> {
    pub object: &'static str,
    pub data: Vec<Model<'a>>,
}

#[derive(Debug, serde::Serialize)]
pub struct Model<'a> {
    pub id: &'a str,
    pub object: &'static str,
    pub created: u64,
    pub owned_by: &'static str,
    /// Not part of OpenAI's API.
    pub sconce: ModelCard<'a>,
}

#[derive(Debug, serde::Serialize)]
pub struct ModelCard<'a> {
    pub architecture: &'a str,
    pub context_tokens: usize,
    pub parameters: u64,
    pub infill: bool,
    pub chat: bool,
}
