//! Bodies of Gemini's `generateContent` (cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference).

use serde::{Deserialize, Serialize};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerateContentRequest<'a> {
    /// A user begins.
    pub contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<Content<'a>>,
    pub generation_config: GenerationConfig<'a>,
}

#[derive(Serialize)]
pub struct Content<'a> {
    /// `user` or `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    pub parts: [TextPart<'a>; 1],
}

#[derive(Serialize)]
pub struct TextPart<'a> {
    pub text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationConfig<'a> {
    /// What the model thinks counts too.
    pub max_output_tokens: usize,
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Five at most.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub stop_sequences: &'a [String],
}

/// One event of a stream, read for what is answered.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IncomingContent {
    pub candidates: Option<Vec<Candidate>>,
    /// Says why a prompt was not answered.
    pub prompt_feedback: Option<PromptFeedback>,
    /// Sums so far; the last event has all of them.
    pub usage_metadata: Option<UsageMetadata>,
    /// May come after the status 200.
    pub error: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Candidate {
    pub content: Option<IncomingParts>,
    pub finish_reason: Option<String>,
}

/// Absent where nothing but a reason is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct IncomingParts {
    pub parts: Option<Vec<Part>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Part {
    pub text: Option<String>,
    /// Whether the text is what the model thinks, and not what it answers.
    pub thought: Option<bool>,
    pub function_call: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PromptFeedback {
    pub block_reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UsageMetadata {
    pub prompt_token_count: Option<u64>,
    pub cached_content_token_count: Option<u64>,
    pub candidates_token_count: Option<u64>,
    /// Not part of `candidates_token_count`.
    pub thoughts_token_count: Option<u64>,
}
