//! What OpenAI's clients see, byte for byte: requests in, domain calls; events in, bodies and streams out.

mod chat;
mod completions;
mod errors;
mod refused;

use sconce::dialect::openai::{Call, Head, RequestLimits, Speaker, Ticket, Whole};
use sconce::domain::{CacheSalt, CallId, Event, FinishReason, Job, SessionKey, TokenLogprob, TopLogprob, Usage};
use std::sync::Arc;
use std::time::Duration;

const CREATED: u64 = 1_700_000_000;

fn completion(body: &str) -> Call {
    sconce::dialect::openai::completion(body.as_bytes(), &RequestLimits::default()).expect("a valid completion")
}

fn chat(body: &str) -> Call {
    sconce::dialect::openai::chat(body.as_bytes(), &RequestLimits::default()).expect("a valid chat")
}

fn jobs(mut call: Call) -> Vec<Job> {
    let ticket = Ticket {
        id: CallId(Arc::from("id")),
        cache_salt: CacheSalt(7),
        class: call.class,
        session: Some(SessionKey(Arc::from("s"))),
        deadline: None,
    };
    call.take_jobs(&ticket)
}

/// The whole answer to `call` when its choices say `events`.
fn whole(call: &Call, events: Vec<(usize, Event)>) -> String {
    let mut whole = Whole::new(Head::new(call, &CallId(Arc::from("1")), CREATED));
    for (choice_index, event) in events {
        whole.add(choice_index, event);
    }
    String::from_utf8(whole.into_body()).expect("JSON is UTF-8")
}

/// The same as a stream.
fn spoken(call: &Call, events: Vec<(usize, Event)>) -> String {
    let mut speaker = Speaker::new(Head::new(call, &CallId(Arc::from("1")), CREATED), call.delivery);
    let mut out = Vec::new();
    for (choice_index, event) in events {
        speaker.say(choice_index, event, &mut out);
    }
    speaker.finish(&mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn started() -> Event {
    Event::Started { prompt_tokens: 5, cached_tokens: 2, queue_wait: Duration::ZERO }
}

fn text(text: &str) -> Event {
    Event::Text { text: text.to_owned(), logprobs: Vec::new() }
}

fn finished(reason: FinishReason, completion_tokens: usize) -> Event {
    Event::Finished { reason, usage: Usage { prompt_tokens: 5, completion_tokens, cached_tokens: 2 } }
}

fn token(id: u32, text: &str, bytes: &[u8], logprob: f32) -> TopLogprob {
    TopLogprob { id, text: text.to_owned(), bytes: bytes.to_vec(), logprob }
}

/// "é" in two tokens: the first is half a character, and its runner-up has no probability at all.
fn text_with_logprobs() -> Event {
    let half = token(1, "\u{fffd}", b"\xc3", -0.5);
    let other = token(2, "a", b"a", f32::NEG_INFINITY);
    let rest = token(3, "\u{e9}", "\u{e9}".as_bytes(), -0.25);
    Event::Text {
        text: "\u{e9}\u{e9}".to_owned(),
        logprobs: vec![
            TokenLogprob { token: half.clone(), top: vec![half, other.clone()] },
            TokenLogprob { token: rest, top: vec![other] },
        ],
    }
}
