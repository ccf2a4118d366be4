//! AWS's event streams, written byte by byte after their description and not by the library that reads them: what is
//! heard of them however they are cut, cut off or damaged.

use super::bedrock::{bedrock, settings};
use super::server::{Play, Server};
use super::{Told, job, question, tell};
use futures::StreamExt as _;
use sconce::domain::{Event, FinishReason, Generate as _, UpstreamClass, Usage};
use sconce::egress::{Egress, EgressSettings};
use sconce::provider::Bedrock;
use serde_json::{Value, json};

pub fn event_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\nConnection: close\r\n\r\n".to_vec()
}

/// CRC-32 (ISO-HDLC), a bit at a time.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum)))
}

/// A frame with headers of text.
pub fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).expect("short").to_be_bytes();
    let mut said = Vec::new();
    for (name, value) in headers {
        said.push(u8::try_from(name.len()).expect("short"));
        said.extend_from_slice(name.as_bytes());
        said.push(7);
        said.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        said.extend_from_slice(value.as_bytes());
    }
    let mut frame = [length(16 + said.len() + payload.len()), length(said.len())].concat();
    frame.extend_from_slice(&checksum(&frame).to_be_bytes());
    frame.extend_from_slice(&said);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&checksum(&frame).to_be_bytes());
    frame
}

pub fn event(kind: &str, data: Value) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, data.to_string().as_bytes())
}

pub fn exception(kind: &str, message: &str) -> Vec<u8> {
    let headers = [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
    frame(&headers, json!({ "message": message }).to_string().as_bytes())
}

pub fn text(text: &str) -> Vec<u8> {
    event("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": { "text": text }, "p": "abcdefgh" }))
}

pub fn stop(reason: &str) -> Vec<u8> {
    event("messageStop", json!({ "stopReason": reason, "p": "abc" }))
}

pub fn counts() -> Vec<u8> {
    let usage = json!({ "inputTokens": 5, "outputTokens": 7, "totalTokens": 16, "cacheReadInputTokens": 4 });
    event("metadata", json!({ "usage": usage, "metrics": { "latencyMs": 9 } }))
}

const COUNTED: Usage = Usage { prompt_tokens: 9, completion_tokens: 7, cached_tokens: 4 };

async fn hear(frames: &[Vec<u8>]) -> Told {
    let plays = vec![Play::Send(event_head()), Play::Send(frames.concat())];
    tell(&bedrock(&Server::playing(plays).await), job(question())).await
}

/// What is heard of each of many bodies, sent in pieces. A door takes longer to make than an answer, so many share one.
async fn hear_all(bodies: Vec<Vec<Vec<u8>>>) -> Vec<Told> {
    let mut told = Vec::new();
    for bodies in bodies.chunks(100) {
        let mut servers = Vec::new();
        for pieces in bodies {
            let plays = [vec![event_head()], pieces.clone()].concat().into_iter().map(Play::Send);
            servers.push(Server::playing(plays.collect()).await);
        }
        let allowed = servers.iter().map(Server::url).collect();
        let door = Egress::new(&EgressSettings { allowed, ..EgressSettings::default() }).expect("usable settings");
        for server in &servers {
            told.push(tell(&Bedrock::new(door.clone(), settings(server)), job(question())).await);
        }
    }
    told
}

fn whole(text: &str, reason: FinishReason, usage: Usage) -> Told {
    Told { text: text.to_owned(), end: Ok((reason, usage)) }
}

#[tokio::test]
async fn streams_are_heard_with_all_that_may_be_in_them() {
    let noise = [
        frame(&[(":message-type", "event"), (":event-type", "initial-response")], b""),
        event("messageStart", json!({ "role": "assistant" })),
        event("contentBlockStart", json!({ "contentBlockIndex": 0, "start": {} })),
        event("contentBlockDelta", json!({ "delta": { "reasoningContent": { "text": "sesame" } } })),
        event("contentBlockDelta", json!({ "delta": { "citation": { "title": "sesame" } } })),
        event("somethingNew", json!([1])),
        frame(&[(":message-type", "event"), (":event-type", "empty")], b""),
    ]
    .concat();
    for (reason, expected) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
    ] {
        let ended = event("contentBlockStop", json!({ "contentBlockIndex": 0 }));
        let told = hear(&[noise.clone(), text("é"), text("😀"), ended, stop(reason), counts()]).await;
        assert_eq!(told, whole("é😀", expected, COUNTED), "{reason}");
    }
    let uncounted = Usage { completion_tokens: 1, ..Usage::default() };
    assert_eq!(hear(&[text("a"), stop("end_turn")]).await, whole("a", FinishReason::Stop, uncounted));
    // Counts that come early are no end.
    assert_eq!(hear(&[counts(), text("a"), stop("end_turn")]).await, whole("a", FinishReason::Stop, COUNTED));
    let late = exception("throttlingException", "sesame");
    assert_eq!(hear(&[text("a"), stop("end_turn"), late]).await, whole("a", FinishReason::Stop, uncounted));
}

#[tokio::test]
async fn ends_and_exceptions_have_their_classes() {
    use UpstreamClass::{Broken, Failed, Limited, Overloaded, Policy, Request, TooLong};
    let error = frame(&[(":message-type", "error"), (":error-code", "Odd"), (":error-message", "sesame")], b"");
    let tool = event("contentBlockDelta", json!({ "delta": { "toolUse": { "input": "{\"sesame\"" } } }));
    for (end, class, after_text) in [
        (exception("throttlingException", "sesame"), Limited, Broken),
        (exception("modelStreamErrorException", "sesame"), Failed, Broken),
        (exception("validationException", "sesame"), Request, Broken),
        (exception("validationException", "Input is too long for requested model."), TooLong, Broken),
        (exception("internalServerException", "sesame"), Failed, Broken),
        (exception("serviceUnavailableException", "sesame"), Overloaded, Broken),
        (exception("somethingNewException", "sesame"), Failed, Broken),
        (error, Failed, Broken),
        (stop("guardrail_intervened"), Policy, Policy),
        (stop("content_filtered"), Policy, Policy),
        ([tool, stop("tool_use")].concat(), Failed, Broken),
        (stop("malformed_model_output"), Failed, Broken),
        (event("contentBlockDelta", json!(["sesame"])), Failed, Broken),
        (Vec::new(), Failed, Broken),
    ] {
        for (begin, expected) in [(Vec::new(), class), (text("a"), after_text)] {
            let told = hear(&[begin.clone(), end.clone(), counts()]).await;
            assert_eq!(told.text, if begin.is_empty() { "" } else { "a" });
            let error = told.upstream();
            let shown = String::from_utf8_lossy(&end);
            assert_eq!(error.class, expected, "{shown}");
            assert!(!error.to_string().contains("sesame"), "{error}");
        }
    }
}

fn answer() -> Vec<Vec<u8>> {
    vec![text("é"), text("😀"), stop("end_turn"), counts()]
}

#[tokio::test]
async fn an_answer_does_not_depend_on_how_its_bytes_are_cut() {
    let bytes = answer().concat();
    let bodies = (0..bytes.len()).map(|cut| vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()]);
    for (cut, told) in hear_all(bodies.collect()).await.into_iter().enumerate() {
        assert_eq!(told, whole("é😀", FinishReason::Stop, COUNTED), "cut at {cut}");
    }
}

/// Whether what was heard is a beginning of the answer, and whole only where the end of its text was heard.
#[track_caller]
fn check_beginning(told: &Told, is_text_whole: bool, case: &str) {
    assert!("é😀".starts_with(&told.text), "{case}: {:?}", told.text);
    match &told.end {
        Ok((reason, _)) => assert!(is_text_whole && told.text == "é😀" && *reason == FinishReason::Stop, "{case}"),
        Err(error) => assert!(!is_text_whole, "{case}: {error:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_never_whole() {
    let bytes = answer().concat();
    let text_ends_at = bytes.len() - counts().len();
    let bodies = (0..=bytes.len()).map(|cut| vec![bytes[..cut].to_vec()]);
    for (cut, told) in hear_all(bodies.collect()).await.into_iter().enumerate() {
        check_beginning(&told, cut >= text_ends_at, &format!("cut off at {cut}"));
    }
}

#[tokio::test]
async fn a_damaged_byte_damages_no_text() {
    let bytes = answer().concat();
    let text_ends_at = bytes.len() - counts().len();
    let bodies = (0..bytes.len()).map(|at| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        vec![damaged]
    });
    for (at, told) in hear_all(bodies.collect()).await.into_iter().enumerate() {
        check_beginning(&told, at >= text_ends_at, &format!("damaged at {at}"));
    }
}

#[tokio::test]
async fn lengths_that_no_frame_has_end_the_stream_at_once() {
    let too_long = (1_u32 << 20) + 1;
    for length in [0, 15, too_long, u32::MAX] {
        let plays = vec![Play::Send(event_head()), Play::Send(length.to_be_bytes().to_vec()), Play::AwaitClose];
        let mut server = Server::playing(plays).await;
        let error = tell(&bedrock(&server), job(question())).await.upstream();
        assert_eq!(
            (error.class, error.cause),
            (UpstreamClass::Failed, "answers with what is no stream of its protocol")
        );
        assert_eq!(server.noticed.recv().await, Some("closed"), "{length}");
    }
}

/// Checksums are right, what they guard is not.
#[tokio::test]
async fn frames_of_nonsense_are_errors_or_nothing() {
    let long = "x".repeat(100);
    let damaged = |at: usize, byte: u8| {
        let mut frame = text("sesame");
        frame[at] = byte;
        let prelude = checksum(&frame[..8]).to_be_bytes();
        frame[8..12].copy_from_slice(&prelude);
        let end = frame.len() - 4;
        let sum = checksum(&frame[..end]).to_be_bytes();
        frame[end..].copy_from_slice(&sum);
        frame
    };
    // The length of the headers, the length of a name, the type of a value and its length.
    for (at, byte) in [(7, 1), (7, 255), (12, 0), (12, 255), (24, 9), (24, 10), (25, 255), (26, 255)] {
        let told = hear(&[damaged(at, byte), stop("end_turn"), counts()]).await;
        assert!(!told.text.contains("sesame"), "{byte} at {at}");
        assert!(told.end.is_err() || told.text.is_empty(), "{byte} at {at}");
    }
    let unnamed = frame(&[("other", &long)], long.as_bytes());
    assert_eq!(hear(&[unnamed, stop("end_turn"), counts()]).await, whole("", FinishReason::Stop, COUNTED));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let plays = vec![Play::Send(event_head()), Play::Send(text("a")), Play::AwaitClose];
    let mut server = Server::playing(plays).await;
    let mut events = bedrock(&server).generate(job(question()));
    assert!(matches!(events.next().await, Some(Ok(Event::Started { .. }))));
    drop(events);
    assert_eq!(server.noticed.recv().await, Some("closed"));
}
