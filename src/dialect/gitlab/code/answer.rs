//! Answers to code suggestions: JSON bodies, and the events of a stream.

use super::{CodeCall, CodeInput, CodeKind};
use crate::wire::gitlab::code::{
    Choice, CompletionBody, CompletionModel, ContentChoice, ContentChunk, ContentDelta, FlagsMetadata, StreamMetadata,
    StreamModel, StreamStart, SuggestionBody, SuggestionMetadata, SuggestionModel, TokensConsumption,
};
use crate::wire::gitlab::sse;

/// What answers call the prompt of a generation; editors show it.
const GENERATION_NAME: &str = "Code generation";

/// What an answer says besides its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered<'a> {
    /// The model's name, said where the call named no family.
    pub model_name: &'a str,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The value of the header `x-gitlab-enabled-feature-flags`.
    pub feature_flags: Option<&'a str>,
    /// Said of completions only.
    pub tokens: TokenCounts,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct TokenCounts {
    pub input: usize,
    pub output: usize,
    pub is_output_cut: bool,
    pub context_sent: usize,
    pub context_used: usize,
}

impl CodeCall {
    /// The body of `/v2/code/*`. No text means no choice.
    pub fn version_two_body(&self, text: &str, answered: &Answered<'_>) -> Vec<u8> {
        let tokens = match self.kind() {
            CodeKind::Completion => Some(consumption(answered.tokens)),
            CodeKind::Generation => None,
        };
        let body = CompletionBody {
            id: "id",
            model: CompletionModel {
                engine: &self.provider,
                name: self.family_or(answered.model_name),
                lang: self.lang,
                tokens_consumption_metadata: tokens,
                region: None,
            },
            experiments: [],
            object: "text_completion",
            created: answered.created,
            choices: choices(text),
            metadata: FlagsMetadata { enabled_feature_flags: flags(answered.feature_flags) },
        };
        serde_json::to_vec(&body).expect("answers hold only strings, numbers, lists and structs")
    }

    /// The body of `/v3/code/completions` and `/v4/code/suggestions`. No text means no choice.
    pub fn suggestion_body(&self, text: &str, answered: &Answered<'_>) -> Vec<u8> {
        let name = self.suggestion_name(answered);
        let model = SuggestionModel { engine: &self.provider, name, lang: self.lang };
        let metadata = SuggestionMetadata {
            model,
            timestamp: answered.created,
            enabled_feature_flags: self.suggestion_flags(answered),
            region: None,
        };
        let body = SuggestionBody { choices: choices(text), metadata, model };
        serde_json::to_vec(&body).expect("answers hold only strings, numbers, lists and structs")
    }

    /// The first event of a stream of `/v4/code/suggestions`.
    pub fn stream_start(&self, answered: &Answered<'_>, out: &mut Vec<u8>) {
        let lang = Some(self.lang).filter(|lang| !lang.is_empty() && self.kind() == CodeKind::Completion);
        let metadata = StreamMetadata {
            model: StreamModel { engine: &self.provider, name: self.suggestion_name(answered), lang },
            timestamp: answered.created,
            enabled_feature_flags: self.suggestion_flags(answered),
        };
        sse::event("stream_start", &StreamStart { metadata }, out);
    }

    fn family_or<'a>(&'a self, model_name: &'a str) -> &'a str {
        if self.model.family_name.is_empty() { model_name } else { &self.model.family_name }
    }

    fn suggestion_name<'a>(&'a self, answered: &'a Answered<'_>) -> &'a str {
        match self.input {
            CodeInput::Completion(_) => self.family_or(answered.model_name),
            CodeInput::Generation(_) => GENERATION_NAME,
        }
    }

    /// Completions by component list no flag where the header is empty, generations an empty one.
    fn suggestion_flags<'a>(&self, answered: &Answered<'a>) -> Vec<&'a str> {
        match self.kind() {
            CodeKind::Completion => flags(answered.feature_flags.filter(|header| !header.is_empty())),
            CodeKind::Generation => flags(answered.feature_flags),
        }
    }
}

/// A piece of a stream of `/v4/code/suggestions`.
pub fn content_chunk(text: &str, out: &mut Vec<u8>) {
    let choice = ContentChoice { delta: ContentDelta { content: text }, index: 0 };
    sse::event("content_chunk", &ContentChunk { choices: [choice] }, out);
}

/// The last event of a stream that went well.
pub fn stream_end(out: &mut Vec<u8>) {
    sse::event("stream_end", &(), out);
}

/// Sent after 15 seconds of silence.
pub fn ping(timestamp: u64, out: &mut Vec<u8>) {
    sse::ping(timestamp, out);
}

/// The flags of a header; an empty header lists one empty flag, as the reference does.
fn flags(header: Option<&str>) -> Vec<&str> {
    header.map(|header| header.split(',').map(str::trim).collect()).unwrap_or_default()
}

fn choices(text: &str) -> Vec<Choice<'_>> {
    let choice = Choice { text, index: 0, finish_reason: "length" };
    if text.trim().is_empty() { Vec::new() } else { vec![choice] }
}

fn consumption(tokens: TokenCounts) -> TokensConsumption {
    TokensConsumption {
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        max_output_tokens_used: tokens.is_output_cut,
        context_tokens_sent: tokens.context_sent,
        context_tokens_used: tokens.context_used,
    }
}
