//! Gemini as Vertex AI serves it: conversations only
//! (cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference).
//!
//! What a job says and the API does not know, or newer models refuse: `min_p` and the penalties are left out;
//! [`Gemini::leaves_out`] names them. Raw prompts, code around a cursor, answers that begin as they are told, biases and
//! probabilities are refused. What a model thinks is dropped, and counts as what it answers, as it does in the bill.

use super::answer::{Counts, Finish, Heard, Plan, REFUSED, Reading, Request, Trouble, stream};
use super::complaint::Complaint;
use super::conversation::{Conversation, alternate};
use super::endpoint::Remote;
use super::failure::{GAVE_UP, TOOL_NOT_OFFERED};
use super::openai::decimal;
use super::text::Filter;
use crate::domain::{Event, FinishReason, Generate, GenerateError, Job, Prompt, SamplingParams};
use crate::egress::Egress;
use crate::wire::event_reader::Event as Frame;
use crate::wire::gemini::{
    Content, GenerateContentRequest, GenerationConfig, IncomingContent, TextPart, UsageMetadata,
};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream::once};
use serde_json::{Map, Value};
use std::sync::Arc;

/// More are refused; the others are found here.
const STOPS_MAX: usize = 5;

pub struct Gemini {
    egress: Egress,
    /// Its endpoint is the whole address.
    remote: Arc<Remote>,
    extra: Map<String, Value>,
}

impl Gemini {
    pub(super) fn new(egress: Egress, remote: Remote, extra: Map<String, Value>) -> Self {
        Self { egress, remote: Arc::new(remote), extra }
    }

    pub fn leaves_out(&self, sampling: &SamplingParams) -> Vec<&'static str> {
        [
            ("min_p", sampling.min_p != 0.0),
            ("repetition_penalty", sampling.repetition_penalty != 1.0),
            ("presence_penalty", sampling.presence_penalty != 0.0),
            ("frequency_penalty", sampling.frequency_penalty != 0.0),
        ]
        .into_iter()
        .filter_map(|(name, is_left_out)| is_left_out.then_some(name))
        .collect()
    }

    fn plan(&self, job: Job) -> Result<Plan, GenerateError> {
        let not_offered = |what| Err(GenerateError::NotOffered { provider: self.remote.name.to_string(), what });
        let chat = match &job.prompt {
            Prompt::Chat(chat) => chat,
            Prompt::Infill(_) => return Err(GenerateError::NoInfill { model: self.remote.model.clone() }),
            Prompt::Text(_) | Prompt::Tokens(_) => return not_offered("completions of raw text"),
        };
        if job.sampling.top_logprobs.is_some() {
            return not_offered("log probabilities");
        }
        if !job.sampling.logit_bias.is_empty() {
            return not_offered("logit_bias");
        }
        let Conversation { system, turns, repeated } = alternate(chat, false, &self.remote.name)?;
        let left_out = self.leaves_out(&job.sampling);
        if !left_out.is_empty() {
            tracing::info!(provider = %self.remote.name, call = %job.id, ?left_out, "a provider does not know all parameters");
        }
        let max_tokens = job.stop.max_tokens.unwrap_or(self.remote.max_tokens);
        let content = |role, text| Content { role, parts: [TextPart { text }] };
        let turns = turns.iter().map(|turn| {
            let role = if turn.role == "assistant" { "model" } else { turn.role };
            content(Some(role), turn.text.as_str())
        });
        let request = GenerateContentRequest {
            contents: turns.collect(),
            system_instruction: Some(system.as_str()).filter(|text| !text.is_empty()).map(|text| content(None, text)),
            generation_config: config(&job, max_tokens),
        };
        let body = serde_json::to_value(&request).expect("a request holds only strings, finite numbers and lists");
        let body = with_extra(body, &self.extra);
        let accept = ("accept", "text/event-stream".to_owned());
        let bearer = self.remote.endpoint.key().map(|key| ("authorization", format!("Bearer {key}")));
        Ok(Plan {
            egress: self.egress.clone(),
            remote: self.remote.clone(),
            id: job.id,
            deadline: job.deadline,
            max_tokens,
            request: Request {
                url: self.remote.endpoint.url(""),
                headers: [accept].into_iter().chain(bearer).collect(),
                body: body.to_string(),
            },
            sign: self.remote.endpoint.sign(),
            reading: Box::new(Contents),
            filter: Filter::new(repeated, &job.stop.stop),
        })
    }
}

impl Generate for Gemini {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        match self.plan(job) {
            Ok(plan) => stream(plan),
            Err(error) => once(std::future::ready(Err(error))).boxed(),
        }
    }
}

fn config(job: &Job, max_tokens: usize) -> GenerationConfig<'_> {
    let SamplingParams { temperature, top_k, top_p, seed, .. } = job.sampling;
    let stops = &job.stop.stop;
    GenerationConfig {
        max_output_tokens: max_tokens,
        temperature: decimal(temperature).as_f64(),
        top_p: decimal(top_p).as_f64().filter(|top_p| *top_p != 1.0),
        top_k: top_k.map(std::num::NonZeroU32::get),
        // Seeds are signed and of 32 bits over there.
        seed: seed.map(|seed| u32::try_from(seed & 0x7fff_ffff).expect("31 bits fit")),
        stop_sequences: &stops[..stops.len().min(STOPS_MAX)],
    }
}

/// The operator's own fields beside ours, also within an object that both have: they never take the place of ours.
pub(super) fn with_extra(mut body: Value, extra: &Map<String, Value>) -> Value {
    let Value::Object(fields) = &mut body else { return body };
    for (name, value) in extra {
        match (fields.get_mut(name), value) {
            (None, _) => drop(fields.insert(name.clone(), value.clone())),
            (Some(Value::Object(ours)), Value::Object(theirs)) => {
                for (name, value) in theirs {
                    ours.entry(name).or_insert_with(|| value.clone());
                }
            }
            (Some(_), _) => {}
        }
    }
    body
}

/// Reads the events of `streamGenerateContent`.
struct Contents;

impl Reading for Contents {
    fn read(&mut self, frame: &Frame) -> Result<Heard, Trouble> {
        let event: IncomingContent = serde_json::from_slice(&frame.data).map_err(|_| Trouble::Unreadable)?;
        if event.error.is_some() {
            return Err(Trouble::Said(Box::new(Complaint::parse(&frame.data))));
        }
        let mut heard = Heard { counts: event.usage_metadata.map(counts).unwrap_or_default(), ..Heard::default() };
        if event.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some()) {
            heard.finish = Some(REFUSED);
            return Ok(heard);
        }
        // One candidate is asked for.
        let Some(candidate) = event.candidates.unwrap_or_default().into_iter().next() else { return Ok(heard) };
        heard.finish = candidate.finish_reason.as_deref().and_then(finish);
        for part in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
            if part.function_call.is_some() {
                heard.finish = Some(Finish::Failed(TOOL_NOT_OFFERED));
            }
            if part.thought != Some(true) {
                heard.text.push_str(&part.text.unwrap_or_default());
            }
        }
        Ok(heard)
    }
}

fn finish(reason: &str) -> Option<Finish> {
    Some(match reason {
        "FINISH_REASON_UNSPECIFIED" => return None,
        "STOP" => Finish::Done(FinishReason::Stop),
        "MAX_TOKENS" => Finish::Done(FinishReason::Length),
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "MODEL_ARMOR" => REFUSED,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => Finish::Failed(TOOL_NOT_OFFERED),
        // `OTHER`, `LANGUAGE`, and what comes to be: none of the good ends is missing above.
        _ => Finish::Failed(GAVE_UP),
    })
}

fn counts(usage: UsageMetadata) -> Counts {
    let count = |tokens: u64| usize::try_from(tokens).unwrap_or(usize::MAX);
    let written = [usage.candidates_token_count, usage.thoughts_token_count];
    let written = written.into_iter().flatten().reduce(u64::saturating_add);
    Counts {
        prompt_tokens: usage.prompt_token_count.map(count),
        cached_tokens: usage.cached_content_token_count.map(count),
        completion_tokens: written.map(count),
    }
}
