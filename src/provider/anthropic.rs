//! Anthropic's Messages API (docs.anthropic.com/en/api/messages): conversations only.
//!
//! What a job says and the API does not know: `min_p`, the penalties and a seed are left out, and `top_p` beside a
//! temperature where a model takes one of them; [`Anthropic::leaves_out`] names them. Raw prompts, code around a cursor,
//! biases, probabilities and temperatures above 1 are refused.

use super::answer::{Counts, Finish, Heard, Plan, REFUSED, Reading, Request, Trouble, stream};
use super::complaint::Complaint;
use super::conversation::{Conversation, Turn, alternate};
use super::endpoint::Remote;
use super::failure::{GAVE_UP, TOOL_NOT_OFFERED};
use super::gemini::with_extra;
use super::openai::decimal;
use super::text::Filter;
use crate::domain::{Event, FinishReason, Generate, GenerateError, Job, Prompt, SamplingParams};
use crate::egress::Egress;
use crate::wire::anthropic::{Delta, Message, MessagesRequest, StreamEvent, Usage, VERSION};
use crate::wire::event_reader::Event as Frame;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream::once};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Takes the place of the header on Vertex AI, in the body.
const VERTEX_VERSION: &str = "vertex-2023-10-16";

#[derive(Clone, Debug)]
pub struct AnthropicSettings {
    /// With a base such as `https://api.anthropic.com/v1`.
    pub remote: Remote,
    pub sampling: AnthropicSampling,
    /// Whether the model goes on from a last assistant message; newer ones refuse that.
    pub has_answer_prefix: bool,
}

/// Which parameters of sampling the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnthropicSampling {
    All,
    /// Either a temperature or `top_p`: what models since Claude 4.1 take, and older ones too.
    #[default]
    One,
    None,
}

pub struct Anthropic {
    egress: Egress,
    remote: Arc<Remote>,
    sampling: AnthropicSampling,
    has_answer_prefix: bool,
    server: Server,
}

/// Who serves the API.
enum Server {
    /// Anthropic itself.
    Anthropic,
    /// Google, at an address that names the model, with fields of the operator's own.
    Vertex { extra: Map<String, Value> },
}

/// The parameters that are sent.
#[derive(Default)]
struct Sent {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
}

impl Anthropic {
    pub fn new(egress: Egress, settings: AnthropicSettings) -> Self {
        let AnthropicSettings { remote, sampling, has_answer_prefix } = settings;
        Self { egress, remote: Arc::new(remote), sampling, has_answer_prefix, server: Server::Anthropic }
    }

    /// The same API as Vertex AI serves it. The endpoint is the whole address.
    pub(super) fn on_vertex(egress: Egress, settings: AnthropicSettings, extra: Map<String, Value>) -> Self {
        Self { server: Server::Vertex { extra }, ..Self::new(egress, settings) }
    }

    /// The parameters of a job that the API or the model does not know and that are not sent.
    pub fn leaves_out(&self, sampling: &SamplingParams) -> Vec<&'static str> {
        let sent = self.sent(sampling);
        [
            ("temperature", sampling.temperature != 1.0 && sent.temperature.is_none()),
            ("top_p", sampling.top_p != 1.0 && sent.top_p.is_none()),
            ("top_k", sampling.top_k.is_some() && sent.top_k.is_none()),
            ("min_p", sampling.min_p != 0.0),
            ("repetition_penalty", sampling.repetition_penalty != 1.0),
            ("presence_penalty", sampling.presence_penalty != 0.0),
            ("frequency_penalty", sampling.frequency_penalty != 0.0),
            ("seed", sampling.seed.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_left_out)| is_left_out.then_some(name))
        .collect()
    }

    fn sent(&self, sampling: &SamplingParams) -> Sent {
        let SamplingParams { temperature, top_p, top_k, .. } = sampling;
        let top_k = top_k.map(std::num::NonZeroU32::get);
        let has_top_p = *top_p != 1.0;
        match self.sampling {
            AnthropicSampling::All => {
                Sent { temperature: Some(*temperature), top_p: has_top_p.then_some(*top_p), top_k }
            }
            // 1 is the temperature of a request that names none.
            AnthropicSampling::One if has_top_p && *temperature == 1.0 => {
                Sent { temperature: None, top_p: Some(*top_p), top_k }
            }
            AnthropicSampling::One => Sent { temperature: Some(*temperature), top_p: None, top_k },
            AnthropicSampling::None => Sent::default(),
        }
    }

    fn plan(&self, job: Job) -> Result<Plan, GenerateError> {
        let chat = match &job.prompt {
            Prompt::Chat(chat) => chat,
            Prompt::Infill(_) => return Err(GenerateError::NoInfill { model: self.remote.model.clone() }),
            Prompt::Text(_) | Prompt::Tokens(_) => return Err(self.not_offered("completions of raw text")),
        };
        if job.sampling.top_logprobs.is_some() {
            return Err(self.not_offered("log probabilities"));
        }
        if !job.sampling.logit_bias.is_empty() {
            return Err(self.not_offered("logit_bias"));
        }
        if job.sampling.temperature > 1.0 && self.sampling != AnthropicSampling::None {
            return Err(self.not_offered("temperatures above 1"));
        }
        let Conversation { system, turns, repeated } = alternate(chat, self.has_answer_prefix, &self.remote.name)?;
        let messages: Vec<_> = turns.into_iter().map(|Turn { role, text }| Message { role, content: text }).collect();
        let left_out = self.leaves_out(&job.sampling);
        if !left_out.is_empty() {
            tracing::info!(provider = %self.remote.name, call = %job.id, ?left_out, "a provider does not know all parameters");
        }
        let max_tokens = job.stop.max_tokens.unwrap_or(self.remote.max_tokens);
        let sent = self.sent(&job.sampling);
        let number = |value: Option<f32>| value.and_then(|value| decimal(value).as_f64());
        let body = MessagesRequest {
            model: &self.remote.model,
            max_tokens,
            system: Some(system.as_str()).filter(|system| !system.is_empty()),
            messages: &messages,
            temperature: number(sent.temperature),
            top_p: number(sent.top_p),
            top_k: sent.top_k,
            // Blanks alone are refused over there, and found here.
            stop_sequences: job.stop.stop.iter().map(String::as_str).filter(|stop| !stop.trim().is_empty()).collect(),
            stream: true,
        };
        let body = serde_json::to_value(&body).expect("a request holds only strings, finite numbers and lists");
        Ok(Plan {
            egress: self.egress.clone(),
            remote: self.remote.clone(),
            id: job.id,
            deadline: job.deadline,
            max_tokens,
            request: Request {
                url: self.remote.endpoint.url("/messages"),
                headers: self.headers(),
                body: self.server.body(body).to_string(),
            },
            sign: self.remote.endpoint.sign(),
            reading: Box::new(StreamEvents),
            filter: Filter::new(repeated, &job.stop.stop),
        })
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let accept = ("accept", "text/event-stream".to_owned());
        let key = self.remote.endpoint.key();
        match self.server {
            Server::Anthropic => {
                let key = key.map(|key| ("x-api-key", key.to_owned()));
                [accept, ("anthropic-version", VERSION.to_owned())].into_iter().chain(key).collect()
            }
            Server::Vertex { .. } => {
                let key = key.map(|key| ("authorization", format!("Bearer {key}")));
                [accept].into_iter().chain(key).collect()
            }
        }
    }

    fn not_offered(&self, what: &'static str) -> GenerateError {
        GenerateError::NotOffered { provider: self.remote.name.to_string(), what }
    }
}

impl Server {
    fn body(&self, mut body: Value) -> Value {
        let (Self::Vertex { extra }, Value::Object(fields)) = (self, &mut body) else { return body };
        fields.remove("model");
        fields.insert("anthropic_version".to_owned(), json!(VERTEX_VERSION));
        with_extra(body, extra)
    }
}

impl Generate for Anthropic {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        match self.plan(job) {
            Ok(plan) => stream(plan),
            Err(error) => once(std::future::ready(Err(error))).boxed(),
        }
    }
}

/// Reads the events of a streamed message.
struct StreamEvents;

impl Reading for StreamEvents {
    fn read(&mut self, frame: &Frame) -> Result<Heard, Trouble> {
        let event: StreamEvent = serde_json::from_slice(&frame.data).map_err(|_| Trouble::Unreadable)?;
        Ok(match event {
            StreamEvent::MessageStart { message } => Heard {
                // What it says of output here is a beginning, not a count.
                counts: Counts { completion_tokens: None, ..message.usage.map(counts).unwrap_or_default() },
                ..Heard::default()
            },
            StreamEvent::ContentBlockDelta { delta: Delta::TextDelta { text } } => Heard { text, ..Heard::default() },
            StreamEvent::MessageDelta { delta, usage } => Heard {
                finish: delta.stop_reason.as_deref().map(finish),
                counts: usage.map(counts).unwrap_or_default(),
                ..Heard::default()
            },
            StreamEvent::MessageStop => Heard { is_last: true, ..Heard::default() },
            StreamEvent::Error { error } => return Err(Trouble::Said(Box::new(Complaint::read(&error)))),
            StreamEvent::ContentBlockDelta { delta: Delta::Other } | StreamEvent::Other => Heard::default(),
        })
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Done(FinishReason::Length),
        "refusal" => REFUSED,
        "tool_use" => Finish::Failed(TOOL_NOT_OFFERED),
        "pause_turn" => Finish::Failed(GAVE_UP),
        // `end_turn` and `stop_sequence`.
        _ => Finish::Done(FinishReason::Stop),
    }
}

fn counts(usage: Usage) -> Counts {
    let count = |tokens: u64| usize::try_from(tokens).unwrap_or(usize::MAX);
    let cached = [usage.cache_creation_input_tokens, usage.cache_read_input_tokens];
    let cached_tokens = cached.into_iter().flatten().fold(0, u64::saturating_add);
    Counts {
        prompt_tokens: usage.input_tokens.map(|tokens| count(tokens.saturating_add(cached_tokens))),
        cached_tokens: usage.cache_read_input_tokens.map(count),
        completion_tokens: usage.output_tokens.map(count),
    }
}
