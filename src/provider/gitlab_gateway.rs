//! Another AI gateway of GitLab's kind, by the endpoints it has for GitLab itself: code around a cursor by
//! `POST /v2/code/completions`, conversations by `POST /v1/chat/agent`. Answers are raw text.
//!
//! It is the narrowest of all lanes. A completion cannot be told how to draw, how long it may be, or what file it is for;
//! a conversation is told a temperature, a length and stop strings. Nobody counts tokens, and no mark stands behind the
//! text: that it is whole shows in the end of the body alone. A server with an API of OpenAI's kind, another Sconce among
//! them, is asked better by that.

use super::answer::{Cut, Finish, Heard, Plan, Reading, Request, Trouble, Uncut, stream};
use super::conversation::{Conversation, alternate};
use super::endpoint::Remote;
use super::failure::CUT_SHORT;
use super::openai::decimal;
use super::text::Filter;
use crate::domain::{Chat, Event, FinishReason, Generate, GenerateError, Infill, Job, Prompt, SamplingParams};
use crate::egress::Egress;
use crate::wire::event_reader::Event as Frame;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream::once};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Characters on either side of the cursor.
const CODE_CHARS_MAX: usize = 100_000;
const MESSAGES_MAX: usize = 100;
const STOPS_MAX: usize = 10;
const STOP_CHARS_MAX: usize = 225;
const TOKENS_MAX: usize = 8192;
/// A job names no file, and without an ending no model is asked over there. This one tells nothing about the language.
const FILE_NAME: &str = "completion.txt";
/// Names the frame behind the last text.
const END: &[u8] = b"end";

#[derive(Clone, Debug)]
pub struct GitLabGatewaySettings {
    /// With the gateway's address as the base, and a token that it takes.
    pub remote: Remote,
    /// As it calls who serves the model: `anthropic`, `vertex-ai` and others. Without one the choice of the model is its
    /// own, and the remote's model is a name for messages.
    pub provider: Option<String>,
    pub instance: GitLabInstance,
}

/// The instance of GitLab that the token was issued to: a gateway compares the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitLabInstance {
    /// `self-managed` or `saas`.
    pub realm: String,
    pub id: String,
    pub host: String,
    pub version: String,
    /// Whom calls are counted for.
    pub global_user_id: String,
}

pub struct GitLabGateway {
    egress: Egress,
    remote: Arc<Remote>,
    provider: Option<String>,
    instance: GitLabInstance,
}

impl GitLabGateway {
    pub fn new(egress: Egress, settings: GitLabGatewaySettings) -> Self {
        let GitLabGatewaySettings { remote, provider, instance } = settings;
        Self { egress, remote: Arc::new(remote), provider, instance }
    }

    /// The parameters of a job that are not sent. Of a completion neither are its temperature and its length.
    pub fn leaves_out(&self, sampling: &SamplingParams) -> Vec<&'static str> {
        [
            ("top_p", sampling.top_p != 1.0),
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

    fn plan(&self, job: Job) -> Result<Plan, GenerateError> {
        if job.sampling.top_logprobs.is_some() {
            return Err(self.not_offered("log probabilities"));
        }
        if !job.sampling.logit_bias.is_empty() {
            return Err(self.not_offered("logit_bias"));
        }
        let max_tokens = job.stop.max_tokens.unwrap_or(self.remote.max_tokens);
        let mut left_out = self.leaves_out(&job.sampling);
        let (path, body) = match &job.prompt {
            Prompt::Infill(infill) => {
                left_out.extend(["temperature", "max_tokens"]);
                ("/v2/code/completions", self.completion(infill))
            }
            Prompt::Chat(chat) => ("/v1/chat/agent", self.conversation(chat, &job, max_tokens)?),
            Prompt::Text(_) | Prompt::Tokens(_) => return Err(self.not_offered("completions of raw text")),
        };
        if !left_out.is_empty() {
            tracing::info!(provider = %self.remote.name, call = %job.id, ?left_out, "a provider does not know all parameters");
        }
        // An answer to a conversation says something; that nothing comes to mind at a cursor is an answer too.
        let reading = RawText { has_to_speak: matches!(job.prompt, Prompt::Chat(_)) };
        Ok(Plan {
            egress: self.egress.clone(),
            remote: self.remote.clone(),
            deadline: job.deadline,
            max_tokens,
            request: Request {
                url: self.remote.endpoint.url(path),
                headers: self.headers(&job),
                body: body.to_string(),
            },
            id: job.id,
            sign: self.remote.endpoint.sign(),
            reading: Box::new(reading),
            filter: Filter::new(Default::default(), &job.stop.stop),
        })
    }

    fn completion(&self, infill: &Infill) -> Value {
        let Infill { prefix, suffix } = infill;
        let above = prefix.char_indices().rev().nth(CODE_CHARS_MAX - 1).map_or(0, |(at, _)| at);
        let below = suffix.char_indices().nth(CODE_CHARS_MAX).map_or(suffix.len(), |(at, _)| at);
        let mut body = json!({
            "prompt_version": 1,
            "current_file": {
                "file_name": FILE_NAME,
                "content_above_cursor": &prefix[above..],
                "content_below_cursor": &suffix[..below],
            },
            "stream": true,
        });
        if let Some(provider) = &self.provider {
            body["model_provider"] = json!(provider);
            body["model_name"] = json!(self.remote.model);
        }
        body
    }

    fn conversation(&self, chat: &Chat, job: &Job, max_tokens: usize) -> Result<Value, GenerateError> {
        let SamplingParams { temperature, .. } = job.sampling;
        if temperature > 1.0 {
            return Err(self.not_offered("temperatures above 1"));
        }
        let Conversation { system, turns, .. } = alternate(chat, false, &self.remote.name)?;
        let message = |role: &str, content: &str| json!({ "role": role, "content": content });
        let system = Some(system.as_str()).filter(|text| !text.is_empty()).map(|text| message("system", text));
        let messages: Vec<Value> =
            system.into_iter().chain(turns.iter().map(|turn| message(turn.role, &turn.text))).collect();
        if messages.len() > MESSAGES_MAX {
            return Err(self.not_offered("conversations of more than 100 messages"));
        }
        let mut params = Map::new();
        params.insert("temperature".to_owned(), decimal(temperature));
        params.insert("max_tokens_to_sample".to_owned(), json!(max_tokens.clamp(1, TOKENS_MAX)));
        let stops = job.stop.stop.iter().filter(|stop| stop.chars().count() <= STOP_CHARS_MAX);
        let stops: Vec<&String> = stops.take(STOPS_MAX).collect();
        if !stops.is_empty() {
            params.insert("stop_sequences".to_owned(), json!(stops));
        }
        let mut payload = json!({ "content": messages, "params": params });
        if let Some(provider) = &self.provider {
            payload["provider"] = json!(provider);
            payload["model"] = json!(self.remote.model);
        }
        let metadata = json!({ "source": "sconce", "version": env!("CARGO_PKG_VERSION") });
        let component = json!({ "type": "prompt", "metadata": metadata, "payload": payload });
        Ok(json!({ "prompt_components": [component], "stream": true }))
    }

    fn headers(&self, job: &Job) -> Vec<(&'static str, String)> {
        let GitLabInstance { realm, id, host, version, global_user_id } = &self.instance;
        let fixed = [
            ("accept", "text/event-stream"),
            ("x-gitlab-authentication-type", "oidc"),
            ("x-gitlab-realm", realm),
            ("x-gitlab-instance-id", id),
            ("x-gitlab-host-name", host),
            ("x-gitlab-version", version),
            ("x-gitlab-global-user-id", global_user_id),
            ("x-request-id", &*job.id.0),
        ];
        let bearer = self.remote.endpoint.key().map(|key| ("authorization", format!("Bearer {key}")));
        fixed.into_iter().map(|(name, value)| (name, value.to_owned())).chain(bearer).collect()
    }

    fn not_offered(&self, what: &'static str) -> GenerateError {
        GenerateError::NotOffered { provider: self.remote.name.to_string(), what }
    }
}

impl Generate for GitLabGateway {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        match self.plan(job) {
            Ok(plan) => stream(plan),
            Err(error) => once(std::future::ready(Err(error))).boxed(),
        }
    }
}

/// Reads text that is nothing but text.
struct RawText {
    has_to_speak: bool,
}

impl Reading for RawText {
    fn read(&mut self, frame: &Frame) -> Result<Heard, Trouble> {
        if frame.name == END {
            let reason = if self.has_to_speak { Finish::Failed(CUT_SHORT) } else { Finish::Done(FinishReason::Stop) };
            return Ok(Heard { finish: Some(reason), is_last: true, ..Heard::default() });
        }
        self.has_to_speak = false;
        let text = std::str::from_utf8(&frame.data).map_err(|_| Trouble::Unreadable)?;
        Ok(Heard { text: text.to_owned(), ..Heard::default() })
    }

    fn cutter(&self) -> Box<dyn Cut> {
        Box::<Characters>::default()
    }
}

/// Cuts where a character ends.
#[derive(Default)]
struct Characters {
    /// The beginning of one.
    held: Vec<u8>,
}

impl Cut for Characters {
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Frame>) -> Result<(), Uncut> {
        self.held.extend_from_slice(bytes);
        let whole_bytes = match std::str::from_utf8(&self.held) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(Uncut),
        };
        let rest = self.held.split_off(whole_bytes);
        let data = std::mem::replace(&mut self.held, rest);
        if !data.is_empty() {
            events.push(Frame { data, ..Frame::default() });
        }
        Ok(())
    }

    /// The end, unless it is one within a character.
    fn finish(&mut self) -> Option<Frame> {
        self.held.is_empty().then(|| Frame { name: END.to_vec(), data: Vec::new() })
    }
}
