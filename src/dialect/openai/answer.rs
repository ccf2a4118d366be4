//! From events to answers: folded into one body, or spoken as they come.

use super::logprobs::{chat_logprobs, text_logprobs};
use super::{Call, Delivery};
use crate::domain::{CallId, Class, Event, FinishReason, TokenLogprob, Usage};
use crate::wire::openai as wire;
use crate::wire::sse;

/// What all parts of one answer repeat.
#[derive(Clone, Debug)]
pub struct Head {
    id: String,
    created: u64,
    model: String,
    shape: Shape,
    /// Whether probabilities were asked for.
    has_logprobs: bool,
    /// The prompt that each choice answers.
    prompt_indices: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Chat,
}

impl Head {
    /// `created` in seconds since the Unix epoch. To be made before the call's jobs are taken.
    pub fn new(call: &Call, id: &CallId, created: u64) -> Self {
        let (shape, prefix) = match call.class {
            Class::Completion => (Shape::Text, "cmpl"),
            Class::Chat => (Shape::Chat, "chatcmpl"),
        };
        Self {
            id: format!("{prefix}-{id}"),
            created,
            model: call.model.clone(),
            shape,
            has_logprobs: call.has_logprobs(),
            prompt_indices: (0..call.choices()).map(|choice_index| call.prompt_index(choice_index)).collect(),
        }
    }

    fn reply<C>(
        &self,
        object: &'static str,
        choices: Vec<C>,
        usage: Option<Option<wire::Usage>>,
    ) -> wire::Reply<'_, C> {
        wire::Reply { id: &self.id, object, created: self.created, model: &self.model, choices, usage }
    }

    /// A prompt is counted once, however many answers it got.
    fn total(&self, usages: impl Iterator<Item = Usage>) -> wire::Usage {
        let mut total = Usage::default();
        for (choice_index, usage) in usages.enumerate() {
            let is_first =
                choice_index == 0 || self.prompt_indices[choice_index - 1] != self.prompt_indices[choice_index];
            if is_first {
                total.prompt_tokens += usage.prompt_tokens;
                total.cached_tokens += usage.cached_tokens;
            }
            total.completion_tokens += usage.completion_tokens;
        }
        wire::Usage {
            prompt_tokens: total.prompt_tokens,
            completion_tokens: total.completion_tokens,
            total_tokens: total.prompt_tokens + total.completion_tokens,
            prompt_tokens_details: wire::PromptTokensDetails { cached_tokens: total.cached_tokens },
        }
    }
}

/// An answer that is sent when it is complete.
#[derive(Debug)]
pub struct Whole {
    head: Head,
    choices: Vec<WholeChoice>,
}

#[derive(Debug, Default)]
struct WholeChoice {
    text: String,
    logprobs: Vec<TokenLogprob>,
    finish_reason: Option<&'static str>,
    usage: Usage,
}

impl Whole {
    pub fn new(head: Head) -> Self {
        let choices = head.prompt_indices.iter().map(|_| WholeChoice::default()).collect();
        Self { head, choices }
    }

    pub fn add(&mut self, choice_index: usize, event: Event) {
        let choice = &mut self.choices[choice_index];
        match event {
            Event::Taken(_) | Event::Started { .. } => {}
            Event::Text { text, logprobs } => {
                choice.text.push_str(&text);
                choice.logprobs.extend(logprobs);
            }
            Event::Finished { reason, usage } => {
                choice.finish_reason = Some(finish_reason(reason));
                choice.usage = usage;
            }
        }
    }

    pub fn into_body(self) -> Vec<u8> {
        let usage = Some(Some(self.head.total(self.choices.iter().map(|choice| choice.usage))));
        let choices = self.choices.iter().enumerate();
        match self.head.shape {
            Shape::Text => {
                let choices = choices.map(|(index, choice)| wire::TextChoice {
                    text: &choice.text,
                    index,
                    logprobs: self.head.has_logprobs.then(|| text_logprobs(&choice.logprobs, &mut 0)),
                    finish_reason: choice.finish_reason,
                });
                to_body(&self.head.reply("text_completion", choices.collect(), usage))
            }
            Shape::Chat => {
                let choices = choices.map(|(index, choice)| wire::ChatChoice {
                    index,
                    message: wire::ChatMessage { role: "assistant", content: &choice.text, refusal: None },
                    logprobs: self.head.has_logprobs.then(|| chat_logprobs(&choice.logprobs)),
                    finish_reason: choice.finish_reason,
                });
                to_body(&self.head.reply("chat.completion", choices.collect(), usage))
            }
        }
    }
}

/// An answer that is sent as it comes, as server-sent events.
#[derive(Debug)]
pub struct Speaker {
    head: Head,
    include_usage: bool,
    choices: Vec<SpokenChoice>,
}

#[derive(Clone, Debug, Default)]
struct SpokenChoice {
    /// Characters of the tokens sent so far.
    text_offset: usize,
    usage: Usage,
}

impl Speaker {
    pub fn new(head: Head, delivery: Delivery) -> Self {
        let choices = vec![SpokenChoice::default(); head.prompt_indices.len()];
        Self { head, include_usage: delivery == Delivery::Streamed { include_usage: true }, choices }
    }

    /// Appends what `event` makes a client hear, which may be nothing.
    pub fn say(&mut self, choice_index: usize, event: Event, out: &mut Vec<u8>) {
        match (self.head.shape, event) {
            (_, Event::Taken(_)) | (Shape::Text, Event::Started { .. }) => {}
            (Shape::Chat, Event::Started { .. }) => {
                let delta = wire::Delta { role: Some("assistant"), content: Some("") };
                self.chat_chunk(choice_index, delta, None, None, out);
            }
            (Shape::Text, Event::Text { text, logprobs }) => {
                let text_offset = &mut self.choices[choice_index].text_offset;
                let logprobs = self.head.has_logprobs.then(|| text_logprobs(&logprobs, text_offset));
                self.text_chunk(choice_index, &text, logprobs, None, out);
            }
            (Shape::Chat, Event::Text { text, logprobs }) => {
                let logprobs = self.head.has_logprobs.then(|| chat_logprobs(&logprobs));
                let delta = wire::Delta { role: None, content: Some(&text) };
                self.chat_chunk(choice_index, delta, logprobs, None, out);
            }
            (shape, Event::Finished { reason, usage }) => {
                self.choices[choice_index].usage = usage;
                let reason = Some(finish_reason(reason));
                match shape {
                    Shape::Text => self.text_chunk(choice_index, "", None, reason, out),
                    Shape::Chat => self.chat_chunk(choice_index, wire::Delta::default(), None, reason, out),
                }
            }
        }
    }

    /// Appends the end of a stream that went well.
    pub fn finish(&self, out: &mut Vec<u8>) {
        if self.include_usage {
            let usage = self.head.total(self.choices.iter().map(|choice| choice.usage));
            let object = match self.head.shape {
                Shape::Text => "text_completion",
                Shape::Chat => "chat.completion.chunk",
            };
            sse::event(&self.head.reply::<()>(object, Vec::new(), Some(Some(usage))), out);
        }
        out.extend_from_slice(sse::DONE);
    }

    fn text_chunk(
        &self,
        index: usize,
        text: &str,
        logprobs: Option<wire::TextLogprobs>,
        finish_reason: Option<&'static str>,
        out: &mut Vec<u8>,
    ) {
        let choice = wire::TextChoice { text, index, logprobs, finish_reason };
        sse::event(&self.head.reply("text_completion", vec![choice], self.include_usage.then_some(None)), out);
    }

    fn chat_chunk(
        &self,
        index: usize,
        delta: wire::Delta<'_>,
        logprobs: Option<wire::ChatLogprobs>,
        finish_reason: Option<&'static str>,
        out: &mut Vec<u8>,
    ) {
        let choice = wire::ChunkChoice { index, delta, logprobs, finish_reason };
        sse::event(&self.head.reply("chat.completion.chunk", vec![choice], self.include_usage.then_some(None)), out);
    }
}

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
    }
}

fn to_body<T: serde::Serialize>(reply: &T) -> Vec<u8> {
    serde_json::to_vec(reply).expect("responses hold only strings, finite numbers, lists and structs")
}
