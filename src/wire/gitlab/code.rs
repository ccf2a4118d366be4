//! Answers of the code suggestion endpoints. Absent values are written as `null` in bodies and left out of streams.

use serde::Serialize;

/// `/v2/code/completions` and `/v2/code/generations`.
#[derive(Debug, Serialize)]
pub struct CompletionBody<'a> {
    pub id: &'static str,
    pub model: CompletionModel<'a>,
    pub experiments: [(); 0],
    pub object: &'static str,
    pub created: u64,
    pub choices: Vec<Choice<'a>>,
    pub metadata: FlagsMetadata<'a>,
}

#[derive(Debug, Serialize)]
pub struct CompletionModel<'a> {
    pub engine: &'a str,
    pub name: &'a str,
    pub lang: &'a str,
    pub tokens_consumption_metadata: Option<TokensConsumption>,
    pub region: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct TokensConsumption {
    pub input_tokens: usize,
    pub output_tokens: usize,
    pub max_output_tokens_used: bool,
    pub context_tokens_sent: usize,
    pub context_tokens_used: usize,
}

#[derive(Debug, Serialize)]
pub struct Choice<'a> {
    pub text: &'a str,
    pub index: usize,
    pub finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
pub struct FlagsMetadata<'a> {
    pub enabled_feature_flags: Vec<&'a str>,
}

/// `/v3/code/completions` and `/v4/code/suggestions`.
#[derive(Debug, Serialize)]
pub struct SuggestionBody<'a> {
    pub choices: Vec<Choice<'a>>,
    pub metadata: SuggestionMetadata<'a>,
    pub model: SuggestionModel<'a>,
}

#[derive(Debug, Serialize)]
pub struct SuggestionMetadata<'a> {
    pub model: SuggestionModel<'a>,
    pub timestamp: u64,
    pub enabled_feature_flags: Vec<&'a str>,
    pub region: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct SuggestionModel<'a> {
    pub engine: &'a str,
    pub name: &'a str,
    pub lang: &'a str,
}

/// The first event of a stream of `/v4/code/suggestions`.
#[derive(Debug, Serialize)]
pub struct StreamStart<'a> {
    pub metadata: StreamMetadata<'a>,
}

#[derive(Debug, Serialize)]
pub struct StreamMetadata<'a> {
    pub model: StreamModel<'a>,
    pub timestamp: u64,
    pub enabled_feature_flags: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
pub struct StreamModel<'a> {
    pub engine: &'a str,
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lang: Option<&'a str>,
}

/// A piece of the answer.
#[derive(Debug, Serialize)]
pub struct ContentChunk<'a> {
    pub choices: [ContentChoice<'a>; 1],
}

#[derive(Debug, Serialize)]
pub struct ContentChoice<'a> {
    pub delta: ContentDelta<'a>,
    pub index: usize,
}

#[derive(Debug, Serialize)]
pub struct ContentDelta<'a> {
    pub content: &'a str,
}
