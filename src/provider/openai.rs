//! Servers of OpenAI's API: vLLM, SGLang, llama.cpp, NIM, Ollama, Mistral, Fireworks, Azure, Bedrock Mantle and
//! others (platform.openai.com/docs/api-reference).
//!
//! What a job says and a server does not know: parameters that only colour the draw (`top_k`, `min_p`, the penalties, a
//! seed) are left out and named by [`OpenAiCompatible::leaves_out`] and in the log; what changes what the answer is (a
//! prefix, biases, probabilities, token ids) is refused with [`GenerateError::NotOffered`].

use super::affinity;
use super::answer::{Counts, Finish, Heard, Plan, REFUSED, Reading, Request, Trouble, stream};
use super::azure;
use super::complaint::Complaint;
use super::endpoint::Remote;
use super::failure::{GAVE_UP, TOOL_NOT_OFFERED};
use super::habits::{AnswerPrefix, Habits, KeyHeader};
use super::infill::InfillForm;
use super::text::{Filter, Repeated};
use crate::domain::{Chat, Event, FinishReason, Generate, GenerateError, Job, Prompt, Role, SamplingParams};
use crate::egress::Egress;
use crate::wire::event_reader::Event as Frame;
use crate::wire::openai::{IncomingChunk, IncomingUsage};
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream::once};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct OpenAiSettings {
    pub remote: Remote,
    pub habits: Habits,
    pub infill: InfillForm,
    /// The operator's own fields, sent with every request: they never take the place of ours.
    pub extra: Map<String, Value>,
}

pub struct OpenAiCompatible {
    egress: Egress,
    remote: Arc<Remote>,
    habits: Habits,
    infill: InfillForm,
    extra: Map<String, Value>,
    has_affinity: bool,
}

/// A body and what belongs to it.
struct Phrased {
    path: &'static str,
    body: Map<String, Value>,
    repeated: Repeated,
    /// Strings that end the answer besides the job's.
    stops: Vec<String>,
}

impl OpenAiCompatible {
    pub fn new(egress: Egress, settings: OpenAiSettings) -> Self {
        let OpenAiSettings { mut remote, mut habits, infill, extra } = settings;
        if habits.has_deployments {
            (remote.endpoint, habits) = azure::settle(&remote.endpoint, &remote.model, habits);
        }
        Self { egress, remote: Arc::new(remote), habits, infill, extra, has_affinity: false }
    }

    /// Says with every request which of them belong together, for the router of a cluster.
    pub fn with_affinity(self) -> Self {
        Self { has_affinity: true, ..self }
    }

    /// The parameters of a job that this server does not know and will not be sent.
    pub fn leaves_out(&self, sampling: &SamplingParams) -> Vec<&'static str> {
        let habits = &self.habits;
        let has_penalty = |penalty: f32| penalty != 0.0 && !habits.has_penalties;
        [
            ("top_k", sampling.top_k.is_some() && habits.top_k.is_none()),
            ("min_p", sampling.min_p != 0.0 && habits.min_p.is_none()),
            ("repetition_penalty", sampling.repetition_penalty != 1.0 && habits.repetition_penalty.is_none()),
            ("presence_penalty", has_penalty(sampling.presence_penalty)),
            ("frequency_penalty", has_penalty(sampling.frequency_penalty)),
            ("seed", sampling.seed.is_some() && habits.seed.is_none()),
        ]
        .into_iter()
        .filter_map(|(name, is_left_out)| is_left_out.then_some(name))
        .collect()
    }

    fn plan(&self, job: Job) -> Result<Plan, GenerateError> {
        let headers = self.headers(&job);
        let Phrased { path, mut body, repeated, stops } = self.phrase(&job.prompt)?;
        let max_tokens = job.stop.max_tokens.unwrap_or(self.remote.max_tokens);
        body.insert("model".to_owned(), json!(self.remote.model));
        body.insert("stream".to_owned(), json!(true));
        if self.habits.asks_for_usage {
            body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        }
        body.insert(self.habits.max_tokens.to_owned(), json!(max_tokens));
        self.sample(&job.sampling, &mut body)?;
        let stops = [job.stop.stop, stops].concat();
        let sent_stops = &stops[..stops.len().min(self.habits.stops_max)];
        if !sent_stops.is_empty() {
            body.insert("stop".to_owned(), json!(sent_stops));
        }
        for (name, value) in &self.extra {
            body.entry(name).or_insert_with(|| value.clone());
        }
        let left_out = self.leaves_out(&job.sampling);
        if !left_out.is_empty() {
            tracing::info!(provider = %self.remote.name, call = %job.id, ?left_out, "a provider does not know all parameters");
        }
        Ok(Plan {
            egress: self.egress.clone(),
            remote: self.remote.clone(),
            id: job.id,
            deadline: job.deadline,
            max_tokens,
            request: Request { url: self.remote.endpoint.url(path), headers, body: Value::Object(body).to_string() },
            sign: self.remote.endpoint.sign(),
            reading: Box::new(Chunks),
            filter: Filter::new(repeated, &stops),
        })
    }

    /// The call's id stands in the log of both sides.
    fn headers(&self, job: &Job) -> Vec<(&'static str, String)> {
        let affinity = self.has_affinity.then(|| (affinity::HEADER, affinity::affinity(job)));
        let id = ("x-request-id", job.id.to_string());
        let millis = |deadline: Duration| deadline.as_millis().max(1).to_string();
        let deadline = self.habits.deadline_header.zip(job.deadline.map(millis));
        let key = self.remote.endpoint.key().map(|key| match self.habits.key_header {
            KeyHeader::Bearer => ("authorization", format!("Bearer {key}")),
            KeyHeader::ApiKey => ("api-key", key.to_owned()),
        });
        [("accept", "text/event-stream".to_owned()), id]
            .into_iter()
            .chain(deadline)
            .chain(affinity)
            .chain(key)
            .collect()
    }

    fn phrase(&self, prompt: &Prompt) -> Result<Phrased, GenerateError> {
        let completion = |prompt: Value, stops: &[String]| {
            let body = Map::from_iter([("prompt".to_owned(), prompt)]);
            Phrased { path: "/completions", body, repeated: Repeated::Nothing, stops: stops.to_vec() }
        };
        match prompt {
            Prompt::Chat(chat) => self.phrase_chat(chat),
            Prompt::Infill(infill) => match &self.infill {
                InfillForm::None => Err(GenerateError::NoInfill { model: self.remote.model.clone() }),
                InfillForm::Template(template) => Ok(completion(json!(template.render(infill)), &template.stop)),
                InfillForm::Suffix | InfillForm::Fim => {
                    let mut phrased = completion(json!(infill.prefix), &[]);
                    phrased.body.insert("suffix".to_owned(), json!(infill.suffix));
                    if self.infill == InfillForm::Fim {
                        phrased.path = "/fim/completions";
                    }
                    Ok(phrased)
                }
            },
            Prompt::Text(_) | Prompt::Tokens(_) if !self.habits.has_completions => {
                Err(self.not_offered("completions of raw text"))
            }
            Prompt::Text(text) => Ok(completion(json!(text), &[])),
            Prompt::Tokens(tokens) if self.habits.has_token_prompts => Ok(completion(json!(tokens), &[])),
            Prompt::Tokens(_) => Err(self.not_offered("prompts of token ids")),
        }
    }

    fn phrase_chat(&self, chat: &Chat) -> Result<Phrased, GenerateError> {
        let mut messages = Vec::with_capacity(chat.messages.len() + 1);
        for message in &chat.messages {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
                // What a tool answered has to name a call, which our conversations do not keep.
                Role::Tool => return Err(self.not_offered("messages of tools")),
            };
            messages.push(json!({ "role": role, "content": message.content }));
        }
        let mut body = Map::new();
        let mut repeated = Repeated::Nothing;
        if !chat.answer_prefix.is_empty() {
            let mut last = json!({ "role": "assistant", "content": chat.answer_prefix });
            match self.habits.answer_prefix {
                AnswerPrefix::NotOffered => return Err(self.not_offered("answers that begin as they are told")),
                AnswerPrefix::ContinueFinalMessage => {
                    body.insert("continue_final_message".to_owned(), json!(true));
                    body.insert("add_generation_prompt".to_owned(), json!(false));
                }
                AnswerPrefix::Flag => {
                    last["prefix"] = json!(true);
                    repeated = Repeated::Prefix(chat.answer_prefix.clone());
                }
                AnswerPrefix::LastMessage => {}
            }
            messages.push(last);
        }
        body.insert("messages".to_owned(), Value::Array(messages));
        Ok(Phrased { path: "/chat/completions", body, repeated, stops: Vec::new() })
    }

    /// What has no effect is not sent: a server that does not know a parameter refuses even its neutral value.
    fn sample(&self, sampling: &SamplingParams, body: &mut Map<String, Value>) -> Result<(), GenerateError> {
        let habits = &self.habits;
        if sampling.top_logprobs.is_some() {
            return Err(self.not_offered("log probabilities with token ids"));
        }
        if !sampling.logit_bias.is_empty() && !habits.has_logit_bias {
            return Err(self.not_offered("logit_bias"));
        }
        let mut put = |name: Option<&str>, value: Value| name.map(|name| body.insert(name.to_owned(), value));
        put(Some("temperature"), decimal(sampling.temperature));
        put((sampling.top_p != 1.0).then_some("top_p"), decimal(sampling.top_p));
        put(habits.top_k.filter(|_| sampling.top_k.is_some()), json!(sampling.top_k));
        put(habits.min_p.filter(|_| sampling.min_p != 0.0), decimal(sampling.min_p));
        let repetition_penalty = habits.repetition_penalty.filter(|_| sampling.repetition_penalty != 1.0);
        put(repetition_penalty, decimal(sampling.repetition_penalty));
        for (name, penalty) in
            [("presence_penalty", sampling.presence_penalty), ("frequency_penalty", sampling.frequency_penalty)]
        {
            put((penalty != 0.0 && habits.has_penalties).then_some(name), decimal(penalty));
        }
        // Seeds are signed over there, and some take none below zero.
        let seed = sampling.seed.map(|seed| seed & (u64::MAX >> 1));
        put(habits.seed.filter(|_| seed.is_some()), json!(seed));
        if !sampling.logit_bias.is_empty() {
            let biases = sampling.logit_bias.iter().map(|(token, bias)| (token.to_string(), decimal(*bias)));
            put(Some("logit_bias"), Value::Object(biases.collect()));
        }
        Ok(())
    }

    fn not_offered(&self, what: &'static str) -> GenerateError {
        GenerateError::NotOffered { provider: self.remote.name.to_string(), what }
    }
}

impl Generate for OpenAiCompatible {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        match self.plan(job) {
            Ok(plan) => stream(plan),
            Err(error) => once(std::future::ready(Err(error))).boxed(),
        }
    }
}

/// The number that was meant: 0.7 in half the precision is another one in the whole.
pub(super) fn decimal(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().expect("what a float prints is a float"))
}

/// Reads chunks of `chat.completion.chunk` and `text_completion`.
struct Chunks;

impl Reading for Chunks {
    fn read(&mut self, frame: &Frame) -> Result<Heard, Trouble> {
        if frame.data.trim_ascii() == b"[DONE]" {
            return Ok(Heard { is_last: true, ..Heard::default() });
        }
        let chunk: IncomingChunk = serde_json::from_slice(&frame.data).map_err(|_| Trouble::Unreadable)?;
        if chunk.error.is_some() || chunk.object.as_deref() == Some("error") {
            return Err(Trouble::Said(Box::new(Complaint::parse(&frame.data))));
        }
        let mut heard = Heard { counts: chunk.usage.map(counts).unwrap_or_default(), ..Heard::default() };
        // One choice is asked for; a chunk of counts or of a filter's findings has none.
        if let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() {
            let delta = choice.delta.unwrap_or_default();
            heard.text = [choice.text, delta.content, delta.refusal].into_iter().flatten().collect();
            heard.finish = choice.finish_reason.as_deref().map(finish);
        }
        Ok(heard)
    }
}

fn finish(reason: &str) -> Finish {
    match reason {
        "length" | "max_tokens" | "model_length" => Finish::Done(FinishReason::Length),
        "content_filter" => REFUSED,
        "tool_calls" | "function_call" => Finish::Failed(TOOL_NOT_OFFERED),
        "error" | "abort" => Finish::Failed(GAVE_UP),
        // `stop`, and the names that servers have for their models' end tokens.
        _ => Finish::Done(FinishReason::Stop),
    }
}

fn counts(usage: IncomingUsage) -> Counts {
    let count = |tokens: Option<u64>| tokens.map(|tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
    Counts {
        prompt_tokens: count(usage.prompt_tokens),
        cached_tokens: count(usage.prompt_tokens_details.and_then(|details| details.cached_tokens)),
        completion_tokens: count(usage.completion_tokens),
    }
}
