//! Calls from end to end: what reaches the lane, and what comes back.

use crate::client::{CHAT, COMPLETION, COMPLETIONS, ask, post, state, with};
use crate::support::{Fake, finished, started, text};
use sconce::domain::{Class, GenerateError};
use sconce::http::app;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_completion() {
    let fake = Fake::hello();
    let headers = [("host", "localhost"), ("content-type", "application/json"), ("x-request-id", "abc-1")];
    let body = r#"{"model": "m", "prompt": "a", "user": "eve"}"#;
    let answer = ask(&app(state(fake.clone())), with(&headers, "POST", COMPLETIONS, body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    assert_eq!(answer.header("x-sconce-ignored"), Some("user"));
    assert_eq!(
        answer.json(),
        json!({"id": "cmpl-abc-1", "object": "text_completion", "created": 1_700_000_000, "model": "m",
            "choices": [{"text": "Hello world", "index": 0, "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 2}}})
    );
    assert_eq!(&*fake.jobs()[0].id.0, "abc-1");
}

#[tokio::test]
async fn a_chat_with_two_answers() {
    let body = r#"{"model": "m", "messages": [{"role": "user", "content": "a"}], "n": 2}"#;
    let fake = Fake::hello();
    let answer = ask(&app(state(fake.clone())), post(CHAT, body)).await;
    let json = answer.json();
    for choice_index in 0..2 {
        assert_eq!(json["choices"][choice_index]["message"]["content"], "Hello world");
        assert_eq!(json["choices"][choice_index]["index"], choice_index);
    }
    assert_eq!(json["usage"]["completion_tokens"], 4);
    assert_eq!(json["usage"]["prompt_tokens"], 5);
    assert_eq!(fake.jobs().len(), 2);
}

#[tokio::test]
async fn odd_request_ids_are_replaced() {
    let app = app(state(Fake::hello()));
    let long = "x".repeat(129);
    for ids in [&["a b"][..], &["\"}"], &["\u{fc}"], &[""], &["a", "b"], &[&long], &[]] {
        let mut headers = vec![("host", "localhost"), ("content-type", "application/json")];
        headers.extend(ids.iter().map(|id| ("x-request-id", *id)));
        let answer = ask(&app, with(&headers, "POST", COMPLETIONS, COMPLETION)).await;
        let id = answer.header("x-request-id").expect("every answer has an id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[tokio::test]
async fn headers_choose_class_deadline_and_session() {
    let fake = Fake::hello();
    let app = app(state(fake.clone()));
    let ask_with = async |extra: &[(&'static str, &'static str)]| {
        let mut headers = vec![("host", "localhost"), ("content-type", "application/json")];
        headers.extend(extra);
        ask(&app, with(&headers, "POST", COMPLETIONS, COMPLETION)).await
    };
    let deadline = ("x-sconce-deadline-ms", "250");
    assert_eq!(ask_with(&[("x-sconce-class", "chat"), deadline, ("x-session-id", "s")]).await.status, 200);
    assert_eq!(ask_with(&[("x-session-id", "s")]).await.status, 200);
    let jobs = fake.jobs();
    assert_eq!((jobs[0].class, jobs[0].deadline), (Class::Chat, Some(Duration::from_millis(250))));
    assert_eq!((jobs[1].class, jobs[1].deadline), (Class::Completion, None));
    // A chat supersedes nothing.
    assert_eq!(jobs[0].session, None);
    assert!(jobs[1].session.is_some());
    for (name, value, message) in [
        ("x-sconce-class", "batch", "has to be \"completion\" or \"chat\""),
        ("x-sconce-deadline-ms", "-5", "whole number of milliseconds"),
        ("x-sconce-deadline-ms", "0", "is zero or beyond"),
        ("x-sconce-deadline-ms", "99999999999", "is zero or beyond"),
        ("x-session-id", "", "has to have 1 to 256 characters"),
    ] {
        let answer = ask_with(&[(name, value)]).await;
        assert_eq!(answer.status, 400, "{name}: {value}");
        assert!(answer.error().message.contains(message), "{}", answer.text);
    }
    let twice = ask_with(&[("x-session-id", "a"), ("x-session-id", "b")]).await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn every_error_of_a_lane_has_its_status() {
    let model = || "m".to_owned();
    let soon = Duration::from_millis(1500);
    let check = async |error: GenerateError, status: u16, kind: &str, code: &str, retry_after: Option<&str>| {
        for stream in [false, true] {
            let body = format!(r#"{{"model": "m", "prompt": "a", "stream": {stream}}}"#);
            let answer = ask(&app(state(Fake::failing(error.clone()))), post(COMPLETIONS, body)).await;
            let found = answer.error();
            assert_eq!((answer.status.as_u16(), found.kind.as_str(), found.code.as_str()), (status, kind, code));
            assert_eq!(found.message, error.to_string());
            assert_eq!(answer.header("retry-after"), retry_after, "{code}");
            assert_eq!(answer.header("x-should-retry"), (status == 409).then_some("false"));
        }
    };
    let invalid = "invalid_request_error";
    let too_long =
        GenerateError::PromptTooLong { model: model(), prompt_tokens: 3000, max_tokens: 16, context_tokens: 2048 };
    check(too_long, 400, invalid, "context_length_exceeded", None).await;
    check(GenerateError::PromptEmpty, 400, invalid, "invalid_value", None).await;
    check(GenerateError::NoInfill { model: model() }, 400, invalid, "unsupported_by_model", None).await;
    let full = GenerateError::QueueFull { waiting: 9, waiting_max: 9, retry_after: soon };
    check(full, 429, "rate_limit_error", "queue_full", Some("2")).await;
    check(GenerateError::Superseded, 409, "conflict_error", "superseded", None).await;
    let late = GenerateError::DeadlineExceeded { deadline: soon, phase: "waiting", retry_after: soon };
    check(late, 503, "service_unavailable_error", "deadline_exceeded", Some("2")).await;
    check(GenerateError::ShuttingDown, 503, "service_unavailable_error", "shutting_down", Some("5")).await;
    let down = |retry_after| GenerateError::EngineDown { model: model(), cause: "its device failed", retry_after };
    check(down(Some(soon)), 503, "service_unavailable_error", "engine_down", Some("2")).await;
    check(down(None), 503, "service_unavailable_error", "engine_down", None).await;
    let broken = GenerateError::StepFailed { reason: "x".to_owned() };
    check(broken, 500, "server_error", "engine_error", None).await;
}

#[tokio::test]
async fn a_failure_in_the_middle_of_a_whole_answer_is_a_failure() {
    let fake = Fake::saying(vec![started(1, 0), text("a"), Err(GenerateError::Superseded)]);
    assert_eq!(ask(&app(state(fake)), post(COMPLETIONS, COMPLETION)).await.status, 409);
}

#[tokio::test]
async fn a_lane_that_ends_early_is_our_fault() {
    let check = async |fake| {
        let answer = ask(&app(state(fake)), post(COMPLETIONS, COMPLETION)).await;
        assert_eq!((answer.status.as_u16(), answer.error().kind.as_str()), (500, "server_error"));
    };
    check(Fake::saying(Vec::new())).await;
    check(Fake::saying(vec![started(1, 0), text("a")])).await;
}

#[tokio::test]
async fn a_lane_is_heard_no_longer_than_it_has_to_say() {
    let fake = Fake::saying(vec![started(1, 0), finished(1, 0, 0), text("more"), Err(GenerateError::Superseded)]);
    let answer = ask(&app(state(fake)), post(COMPLETIONS, COMPLETION)).await;
    assert_eq!(answer.json()["choices"][0]["text"], "");
}
