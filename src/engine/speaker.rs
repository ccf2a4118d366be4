//! From tokens to events, for one sequence: text, stop strings, log probabilities, usage.

use crate::domain::{Event, FinishReason, GenerateError, TokenLogprob, TopLogprob, Usage};
use crate::sampler::SampledToken;
use crate::tokenizer::{Detokenizer, StopMatcher, Tokenizer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

pub(super) type EventSender = mpsc::Sender<Result<Event, GenerateError>>;

/// Room in the channel besides one event per token: start, rest of the text, finish, error.
const EXTRA_EVENTS: usize = 4;

/// The channel of one answer. It has room for every event the answer can have, so the engine never waits for a slow
/// reader and a slow reader never holds more than `max_tokens` events.
pub(super) fn event_channel(max_tokens: usize) -> (EventSender, mpsc::Receiver<Result<Event, GenerateError>>) {
    mpsc::channel(max_tokens.saturating_add(EXTRA_EVENTS).min(tokio::sync::Semaphore::MAX_PERMITS))
}

/// Turns the tokens of one sequence into events.
pub(super) struct Speaker {
    events: EventSender,
    tokenizer: Arc<Tokenizer>,
    detokenizer: Detokenizer,
    stops: StopMatcher,
    prompt_tokens: usize,
    completion_tokens: usize,
    cached_tokens: usize,
    has_started: bool,
    /// Bytes of text that came out of the detokeniser, and bytes that were sent on.
    text_bytes: usize,
    sent_bytes: usize,
    /// Log probabilities whose text is still held back by the stop matcher, with where their text begins.
    held: VecDeque<(usize, TokenLogprob)>,
}

/// Whether a sequence has more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Continues,
    /// A stop string was found: the answer is complete and has been finished.
    Stopped,
}

impl Speaker {
    pub(super) fn new(events: EventSender, tokenizer: Arc<Tokenizer>, stop: &[String], prompt_tokens: usize) -> Self {
        Self {
            events,
            detokenizer: Detokenizer::new(Arc::clone(&tokenizer)),
            tokenizer,
            stops: StopMatcher::new(stop),
            prompt_tokens,
            completion_tokens: 0,
            cached_tokens: 0,
            has_started: false,
            text_bytes: 0,
            sent_bytes: 0,
            held: VecDeque::new(),
        }
    }

    /// Nobody listens any more: the work behind it can stop.
    pub(super) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// The prompt has been computed; said once, before the first token.
    pub(super) fn start(&mut self, cached_tokens: usize, queue_wait: Duration) {
        if !self.has_started {
            self.has_started = true;
            self.cached_tokens = cached_tokens;
            self.send(Ok(Event::Started { prompt_tokens: self.prompt_tokens, cached_tokens, queue_wait }));
        }
    }

    pub(super) fn token(&mut self, sampled: &SampledToken) -> Spoken {
        self.completion_tokens += 1;
        if let Some(logprobs) = &sampled.logprobs {
            let token = self.describe(sampled.token, logprobs.chosen);
            let top = logprobs.top.iter().map(|&(id, logprob)| self.describe(id, logprob)).collect();
            self.held.push_back((self.text_bytes, TokenLogprob { token, top }));
        }
        let text = self.detokenizer.push(sampled.token);
        self.text_bytes += text.len();
        let emitted = self.stops.push(&text);
        self.emit(emitted.text);
        if emitted.stopped {
            self.held.clear();
            self.close(FinishReason::Stop);
            return Spoken::Stopped;
        }
        Spoken::Continues
    }

    /// Sends what is still held back and ends the answer.
    pub(super) fn finish(&mut self, reason: FinishReason) {
        let rest = self.detokenizer.flush();
        self.text_bytes += rest.len();
        let emitted = self.stops.push(&rest);
        let mut text = emitted.text;
        if !emitted.stopped {
            text.push_str(&self.stops.flush());
        }
        self.emit(text);
        self.close(if emitted.stopped { FinishReason::Stop } else { reason });
    }

    pub(super) fn fail(&mut self, error: GenerateError) {
        self.send(Err(error));
    }

    fn close(&mut self, reason: FinishReason) {
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            cached_tokens: self.cached_tokens,
        };
        self.send(Ok(Event::Finished { reason, usage }));
    }

    fn emit(&mut self, text: String) {
        self.sent_bytes += text.len();
        let mut logprobs = Vec::new();
        while self.held.front().is_some_and(|(begins, _)| {
            *begins < self.sent_bytes || (*begins == self.sent_bytes && self.sent_bytes == self.text_bytes)
        }) {
            logprobs.extend(self.held.pop_front().map(|(_, logprob)| logprob));
        }
        if !text.is_empty() || !logprobs.is_empty() {
            self.send(Ok(Event::Text { text, logprobs }));
        }
    }

    fn describe(&self, id: u32, logprob: f32) -> TopLogprob {
        let bytes = self.tokenizer.token_bytes(id).to_vec();
        TopLogprob { id, text: String::from_utf8_lossy(&bytes).into_owned(), bytes, logprob }
    }

    /// A closed channel is noticed at the next step; a full one cannot be, see [`event_channel`].
    fn send(&self, event: Result<Event, GenerateError>) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            unreachable!("the channel has room for an event per token and {EXTRA_EVENTS} more");
        }
    }
}
