//! AWS Bedrock by its Converse API (docs.aws.amazon.com/bedrock, `ConverseStream`): conversations with every model that
//! holds them. The key of the endpoint is sent as a bearer, or each request is signed.
//!
//! What a job says and the API does not know: `top_k`, `min_p`, the penalties and a seed are left out, and temperature or
//! `top_p` where a model does not take it; [`Bedrock::leaves_out`] names them. Raw prompts, code around a cursor, biases,
//! probabilities and temperatures above 1 are refused.

mod event;
mod frames;
mod refusal;

pub use refusal::judge_aws;

use super::answer::{Plan, Request, stream};
use super::conversation::{Conversation, alternate};
use super::credentials::aws_domain;
use super::endpoint::{Remote, segment};
use super::openai::decimal;
use super::text::Filter;
use crate::domain::{Event, Generate, GenerateError, Job, Prompt, SamplingParams};
use crate::egress::Egress;
use event::ConverseEvents;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream::once};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Nova takes four, others more and some none; all of them are found here too.
const STOPS_MAX: usize = 4;

#[derive(Clone, Debug)]
pub struct BedrockSettings {
    /// With a base such as [`bedrock_address`] gives, or that of a VPC endpoint. The model is an id, the id of an
    /// inference profile or the ARN of either.
    pub remote: Remote,
    pub sampling: BedrockSampling,
    /// Whether the model goes on from a last assistant message; most refuse that.
    pub has_answer_prefix: bool,
    /// The operator's own fields, sent with every request: `additionalModelRequestFields`, `guardrailConfig`,
    /// `serviceTier` and others. They never take the place of ours.
    pub extra: Map<String, Value>,
}

/// Which parameters of sampling the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BedrockSampling {
    Both,
    /// Either a temperature or `top_p`: what Claude takes since 4.1, and the others too.
    #[default]
    Either,
    Neither,
}

pub struct Bedrock {
    egress: Egress,
    remote: Arc<Remote>,
    sampling: BedrockSampling,
    has_answer_prefix: bool,
    extra: Map<String, Value>,
}

/// Where Bedrock answers in a region, as AWS names it.
pub fn bedrock_address(region: &str) -> String {
    format!("https://bedrock-runtime.{region}.{}", aws_domain(region))
}

/// The parameters that are sent.
#[derive(Default)]
struct Sent {
    temperature: Option<f32>,
    top_p: Option<f32>,
}

impl Bedrock {
    pub fn new(egress: Egress, settings: BedrockSettings) -> Self {
        let BedrockSettings { remote, sampling, has_answer_prefix, extra } = settings;
        Self { egress, remote: Arc::new(remote), sampling, has_answer_prefix, extra }
    }

    /// The parameters of a job that the API or the model does not know and that are not sent.
    pub fn leaves_out(&self, sampling: &SamplingParams) -> Vec<&'static str> {
        let sent = self.sent(sampling);
        [
            ("temperature", sampling.temperature != 1.0 && sent.temperature.is_none()),
            ("top_p", sampling.top_p != 1.0 && sent.top_p.is_none()),
            ("top_k", sampling.top_k.is_some()),
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

    /// A temperature of 1 is that of a request that names none, and so is a `top_p` of 1.
    fn sent(&self, sampling: &SamplingParams) -> Sent {
        let temperature = Some(sampling.temperature);
        let top_p = Some(sampling.top_p).filter(|top_p| *top_p != 1.0);
        match self.sampling {
            BedrockSampling::Both => Sent { temperature, top_p },
            BedrockSampling::Either if sampling.temperature == 1.0 && top_p.is_some() => {
                Sent { temperature: None, top_p }
            }
            BedrockSampling::Either => Sent { temperature, top_p: None },
            BedrockSampling::Neither => Sent::default(),
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
        if job.sampling.temperature > 1.0 && self.sampling != BedrockSampling::Neither {
            return Err(self.not_offered("temperatures above 1"));
        }
        let Conversation { system, turns, repeated } = alternate(chat, self.has_answer_prefix, &self.remote.name)?;
        let left_out = self.leaves_out(&job.sampling);
        if !left_out.is_empty() {
            tracing::info!(provider = %self.remote.name, call = %job.id, ?left_out, "a provider does not know all parameters");
        }
        let turns = turns.iter().map(|turn| json!({ "role": turn.role, "content": [{ "text": turn.text }] }));
        let mut body = Map::from_iter([("messages".to_owned(), turns.collect())]);
        if !system.is_empty() {
            body.insert("system".to_owned(), json!([{ "text": system }]));
        }
        body.insert("inferenceConfig".to_owned(), self.inference(&job));
        for (name, value) in &self.extra {
            body.entry(name).or_insert_with(|| value.clone());
        }
        let path = format!("/model/{}/converse-stream", segment(&self.remote.model));
        Ok(Plan {
            egress: self.egress.clone(),
            remote: self.remote.clone(),
            max_tokens: self.max_tokens(&job),
            id: job.id,
            deadline: job.deadline,
            request: Request {
                url: self.remote.endpoint.url(&path),
                headers: self.headers(),
                body: Value::Object(body).to_string(),
            },
            sign: self.remote.endpoint.sign(),
            reading: Box::new(ConverseEvents::default()),
            filter: Filter::new(repeated, &job.stop.stop),
        })
    }

    /// Without a maximum the quota of the model's longest answer is taken up.
    fn max_tokens(&self, job: &Job) -> usize {
        job.stop.max_tokens.unwrap_or(self.remote.max_tokens)
    }

    fn inference(&self, job: &Job) -> Value {
        let sent = self.sent(&job.sampling);
        // Blanks alone are refused by some models, and found here.
        let stops = job.stop.stop.iter().filter(|stop| !stop.trim().is_empty()).take(STOPS_MAX);
        let stops: Vec<&str> = stops.map(String::as_str).collect();
        let mut config = json!({ "maxTokens": self.max_tokens(job) });
        if let Some(temperature) = sent.temperature {
            config["temperature"] = decimal(temperature);
        }
        if let Some(top_p) = sent.top_p {
            config["topP"] = decimal(top_p);
        }
        if !stops.is_empty() {
            config["stopSequences"] = json!(stops);
        }
        config
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let key = self.remote.endpoint.key().map(|key| ("authorization", format!("Bearer {key}")));
        [("accept", "application/vnd.amazon.eventstream".to_owned())].into_iter().chain(key).collect()
    }

    fn not_offered(&self, what: &'static str) -> GenerateError {
        GenerateError::NotOffered { provider: self.remote.name.to_string(), what }
    }
}

impl Generate for Bedrock {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        match self.plan(job) {
            Ok(plan) => stream(plan),
            Err(error) => once(std::future::ready(Err(error))).boxed(),
        }
    }
}
