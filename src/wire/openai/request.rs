//! Request bodies, read field by field: types are checked here, ranges in `dialect`.

use crate::wire::json::Json;
use crate::wire::read::{Field, Fields, ReadError};

/// `POST /v1/completions`.
#[derive(Debug)]
pub struct CompletionRequest {
    pub model: String,
    pub prompt: PromptInput,
    pub suffix: Option<String>,
    pub best_of: Option<i128>,
    pub echo: Option<bool>,
    /// How many of the most likely tokens to report.
    pub logprobs: Option<i128>,
    pub shared: Shared,
}

impl CompletionRequest {
    pub fn read(body: Json) -> Result<Self, ReadError> {
        let mut fields = Field::body(body).object()?;
        let request = Self {
            model: fields.required("model")?.string()?,
            prompt: PromptInput::read(fields.required("prompt")?)?,
            suffix: fields.take("suffix").map(Field::string).transpose()?,
            best_of: fields.take("best_of").map(Field::integer).transpose()?,
            echo: fields.take("echo").map(Field::boolean).transpose()?,
            logprobs: fields.take("logprobs").map(Field::integer).transpose()?,
            shared: Shared::read(&mut fields)?,
        };
        fields.finish()?;
        Ok(request)
    }
}

/// The four forms of a completion's prompt.
#[derive(Clone, PartialEq)]
pub enum PromptInput {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<i128>),
    TokenLists(Vec<Vec<i128>>),
}

impl std::fmt::Debug for PromptInput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PromptInput(..)")
    }
}

impl PromptInput {
    /// The first item of an array decides what the others have to be.
    fn read(field: Field) -> Result<Self, ReadError> {
        const EXPECTED: &str = "a string, an array of strings, an array of token ids or an array of such arrays";
        match &field.value {
            Json::String(_) => Ok(Self::Text(field.string()?)),
            Json::Array(items) => match items.first() {
                None | Some(Json::String(_)) => Ok(Self::Texts(field.each(Field::string)?)),
                Some(Json::Integer(_)) => Ok(Self::Tokens(field.integers()?)),
                Some(Json::Array(_)) => Ok(Self::TokenLists(field.each(Field::integers)?)),
                Some(_) => Err(field.wrong_type(EXPECTED)),
            },
            _ => Err(field.wrong_type(EXPECTED)),
        }
    }
}

/// `POST /v1/chat/completions`.
#[derive(Debug)]
pub struct ChatRequest {
    pub model: String,
    pub messages: Vec<Message>,
    pub max_completion_tokens: Option<i128>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<i128>,
    /// `{"type": …}` of `response_format`.
    pub response_format: Option<String>,
    pub shared: Shared,
}

impl ChatRequest {
    pub fn read(body: Json) -> Result<Self, ReadError> {
        let mut fields = Field::body(body).object()?;
        let request = Self {
            model: fields.required("model")?.string()?,
            messages: fields.required("messages")?.each(Message::read)?,
            max_completion_tokens: fields.take("max_completion_tokens").map(Field::integer).transpose()?,
            logprobs: fields.take("logprobs").map(Field::boolean).transpose()?,
            top_logprobs: fields.take("top_logprobs").map(Field::integer).transpose()?,
            response_format: fields.take("response_format").map(response_format).transpose()?,
            shared: Shared::read(&mut fields)?,
        };
        fields.finish()?;
        Ok(request)
    }
}

/// Only the type is read: all but one are refused, whatever else they hold.
fn response_format(field: Field) -> Result<String, ReadError> {
    field.object()?.required("type")?.string()
}

/// One message of a chat.
#[derive(Debug)]
pub struct Message {
    pub path: String,
    pub role: String,
    pub content: Option<Content>,
    /// Fields that a client may send and that say something nobody here would act on.
    pub unsupported: Vec<&'static str>,
    /// `name` is accepted and has no effect.
    pub has_name: bool,
}

#[derive(Clone, PartialEq)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// Messages never reach logs.
impl std::fmt::Debug for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Content(..)")
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Part(..)")
    }
}

/// One part of a message's content.
#[derive(Clone, PartialEq)]
pub enum Part {
    Text(String),
    /// Of any other type, which is all that was read.
    Other {
        path: String,
        kind: String,
    },
}

impl Message {
    fn read(field: Field) -> Result<Self, ReadError> {
        let path = field.path.clone();
        let mut fields = field.object()?;
        let role = fields.required("role")?.string()?;
        let content = fields.take("content").map(Content::read).transpose()?;
        let has_name = fields.take("name").map(Field::string).transpose()?.is_some();
        // OpenAI's own answers carry empty lists, and clients send answers back as they came.
        for name in ["tool_calls", "annotations"] {
            if fields.is_empty_list(name) {
                fields.take(name);
            }
        }
        let unsupported =
            fields.take_present(&["tool_calls", "tool_call_id", "function_call", "audio", "refusal", "annotations"]);
        fields.finish()?;
        Ok(Self { path, role, content, unsupported, has_name })
    }
}

impl Content {
    fn read(field: Field) -> Result<Self, ReadError> {
        match &field.value {
            Json::String(_) => Ok(Self::Text(field.string()?)),
            Json::Array(_) => Ok(Self::Parts(field.each(Part::read)?)),
            _ => Err(field.wrong_type("a string or an array of parts")),
        }
    }
}

impl Part {
    fn read(field: Field) -> Result<Self, ReadError> {
        let path = field.path.clone();
        let mut fields = field.object()?;
        let kind = fields.required("type")?.string()?;
        if kind != "text" {
            return Ok(Self::Other { path: format!("{path}.type"), kind });
        }
        let text = fields.required("text")?.string()?;
        fields.finish()?;
        Ok(Self::Text(text))
    }
}

/// What both endpoints take.
#[derive(Debug, Default)]
pub struct Shared {
    pub max_tokens: Option<i128>,
    pub n: Option<i128>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i128>,
    pub min_p: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub logit_bias: Vec<(String, f64)>,
    pub seed: Option<i128>,
    pub stop: Vec<String>,
    pub stream: bool,
    pub stream_options: Option<StreamOptions>,
    pub store: Option<bool>,
    pub service_tier: Option<String>,
    /// Accepted, and without effect here.
    pub ignored: Vec<&'static str>,
    /// Part of OpenAI's API, but not of ours.
    pub unsupported: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    pub include_usage: bool,
    /// Padding against an observer of packet sizes: refused when on.
    pub include_obfuscation: bool,
}

/// Labels of the caller's own.
const IGNORED: [&str; 4] = ["user", "metadata", "safety_identifier", "prompt_cache_key"];

const UNSUPPORTED: [&str; 13] = [
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "audio",
    "modalities",
    "prediction",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
    "prompt_cache_retention",
    "moderation",
];

impl Shared {
    fn read(fields: &mut Fields) -> Result<Self, ReadError> {
        Ok(Self {
            max_tokens: fields.take("max_tokens").map(Field::integer).transpose()?,
            n: fields.take("n").map(Field::integer).transpose()?,
            temperature: fields.take("temperature").map(Field::number).transpose()?,
            top_p: fields.take("top_p").map(Field::number).transpose()?,
            top_k: fields.take("top_k").map(Field::integer).transpose()?,
            min_p: fields.take("min_p").map(Field::number).transpose()?,
            presence_penalty: fields.take("presence_penalty").map(Field::number).transpose()?,
            frequency_penalty: fields.take("frequency_penalty").map(Field::number).transpose()?,
            repetition_penalty: fields.take("repetition_penalty").map(Field::number).transpose()?,
            logit_bias: fields.take("logit_bias").map(logit_bias).transpose()?.unwrap_or_default(),
            seed: fields.take("seed").map(Field::integer).transpose()?,
            stop: fields.take("stop").map(stop).transpose()?.unwrap_or_default(),
            stream: fields.take("stream").map(Field::boolean).transpose()?.unwrap_or_default(),
            stream_options: fields.take("stream_options").map(StreamOptions::read).transpose()?,
            store: fields.take("store").map(Field::boolean).transpose()?,
            service_tier: fields.take("service_tier").map(Field::string).transpose()?,
            ignored: fields.take_present(&IGNORED),
            unsupported: fields.take_present(&UNSUPPORTED),
        })
    }
}

impl StreamOptions {
    fn read(field: Field) -> Result<Self, ReadError> {
        let mut fields = field.object()?;
        let options = Self {
            include_usage: fields.take("include_usage").map(Field::boolean).transpose()?.unwrap_or_default(),
            include_obfuscation: fields
                .take("include_obfuscation")
                .map(Field::boolean)
                .transpose()?
                .unwrap_or_default(),
        };
        fields.finish()?;
        Ok(options)
    }
}

fn logit_bias(field: Field) -> Result<Vec<(String, f64)>, ReadError> {
    field.entries()?.into_iter().map(|(token, bias)| Ok((token, bias.number()?))).collect()
}

fn stop(field: Field) -> Result<Vec<String>, ReadError> {
    match &field.value {
        Json::String(_) => Ok(vec![field.string()?]),
        Json::Array(_) => field.each(Field::string),
        _ => Err(field.wrong_type("a string or an array of strings")),
    }
}
