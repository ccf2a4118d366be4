//! Streamed answers: when the status is decided, silence, failures, and the pace of the client.

use crate::client::{Answer, CHAT, CHAT_STREAM, COMPLETION_STREAM, COMPLETIONS, ask, post, state, state_with};
use crate::support::{Fake, finished, started, text};
use axum::body::Body;
use http_body_util::BodyExt as _;
use sconce::auth::Auth;
use sconce::domain::GenerateError;
use sconce::http::{CallLimits, app};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tower::ServiceExt as _;

/// The next bytes of a body.
async fn frame(body: &mut Body) -> String {
    let frame = body.frame().await.expect("more to come").expect("no error");
    String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn a_stream_is_complete_and_not_to_be_kept() {
    let answer = ask(&app(state(Fake::hello())), post(COMPLETIONS, COMPLETION_STREAM)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let events: Vec<&str> = answer.text.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 4);
    assert!(events[0].contains(r#""text":"Hello""#) && events[1].contains(r#""text":" world""#));
    assert!(events[2].contains(r#""finish_reason":"stop""#));
    assert_eq!(events[3], "data: [DONE]");
}

#[tokio::test]
async fn a_failure_after_the_first_event_ends_the_stream() {
    let fake = Fake::saying(vec![started(1, 0), text("a"), Err(GenerateError::Superseded), text("b")]);
    let answer = ask(&app(state(fake)), post(COMPLETIONS, COMPLETION_STREAM)).await;
    assert_eq!(answer.status, 200);
    let events: Vec<&str> = answer.text.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 2);
    assert!(events[1].starts_with(r#"data: {"error":{"message":"a newer request"#), "{}", events[1]);
}

#[tokio::test]
async fn events_are_sent_as_they_come() {
    let (fake, mut jobs) = Fake::by_hand();
    let app = app(state(fake));
    let (response, handle) = tokio::join!(app.oneshot(post(CHAT, CHAT_STREAM)), async {
        let handle = jobs.recv().await.expect("a job");
        handle.say(started(1, 0)).await;
        handle
    });
    let response = response.expect("infallible");
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert!(frame(&mut body).await.contains(r#""delta":{"role":"assistant","content":""}"#));
    for word in ["one", "two"] {
        handle.say(text(word)).await;
        assert!(frame(&mut body).await.contains(&format!(r#""delta":{{"content":"{word}"}}"#)));
    }
    handle.say(finished(1, 0, 2)).await;
    let last = frame(&mut body).await;
    assert!(last.contains(r#""finish_reason":"stop""#) && last.ends_with("data: [DONE]\n\n"), "{last}");
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_comments() {
    let (fake, mut jobs) = Fake::by_hand();
    let limits = CallLimits { keep_alive_interval: Duration::from_secs(10), ..CallLimits::default() };
    let app = app(state_with(fake, Auth::Disabled, limits));
    let begun = tokio::time::Instant::now();
    // Ten seconds without an event: the status is given away, errors come as events from now on.
    let response = app.oneshot(post(CHAT, CHAT_STREAM)).await.expect("infallible");
    let handle = jobs.recv().await.expect("a job");
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for elapsed in [10, 20, 30] {
        assert_eq!(frame(&mut body).await, ": keep-alive\n\n");
        assert_eq!(begun.elapsed().as_secs(), elapsed);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    handle.say(started(1, 0)).await;
    assert!(frame(&mut body).await.contains("assistant"));
    // The next comment comes ten seconds after the last event, not after the last comment.
    assert_eq!(frame(&mut body).await, ": keep-alive\n\n");
    assert_eq!(begun.elapsed().as_secs(), 45);
    handle.say(Err(GenerateError::Superseded)).await;
    assert!(frame(&mut body).await.starts_with("data: {\"error\""));
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_may_take_its_time() {
    let (fake, mut jobs) = Fake::by_hand();
    let app = app(state(fake));
    let (response, ()) = tokio::join!(app.oneshot(post(COMPLETIONS, crate::client::COMPLETION)), async {
        let handle = jobs.recv().await.expect("a job");
        tokio::time::sleep(Duration::from_secs(600)).await;
        handle.say(started(1, 0)).await;
        handle.say(finished(1, 0, 0)).await;
    });
    assert_eq!(Answer::read(response.expect("infallible")).await.status, 200);
}

#[tokio::test]
async fn a_reader_sets_the_pace_of_the_lane() {
    let (fake, said) = Fake::endless(&"x".repeat(1000));
    let response = app(state(fake)).oneshot(post(COMPLETIONS, COMPLETION_STREAM)).await.expect("infallible");
    assert_eq!(said.load(Ordering::Relaxed), 0);
    let mut body = response.into_body();
    for frames in 1..=10 {
        let bytes = frame(&mut body).await.len();
        assert!(bytes < 18 * 1024, "{bytes}");
        assert!(said.load(Ordering::Relaxed) <= frames * 16);
    }
}

#[tokio::test]
async fn dropping_a_body_drops_every_choice() {
    let (fake, mut jobs) = Fake::by_hand();
    let app = app(state(fake));
    let body = r#"{"model": "m", "prompt": "a", "n": 3, "stream": true}"#;
    let (response, handles) = tokio::join!(app.oneshot(post(COMPLETIONS, body)), async {
        let mut handles = Vec::new();
        for _ in 0..3 {
            handles.push(jobs.recv().await.expect("a job"));
        }
        handles[1].say(started(1, 0)).await;
        handles
    });
    drop(response.expect("infallible"));
    for handle in handles {
        handle.dropped().await;
    }
}

#[tokio::test]
async fn the_failure_of_one_choice_drops_the_others() {
    let (fake, mut jobs) = Fake::by_hand();
    let app = app(state(fake));
    let body = r#"{"model": "m", "prompt": "a", "n": 2}"#;
    let (response, first) = tokio::join!(app.oneshot(post(COMPLETIONS, body)), async {
        let first = jobs.recv().await.expect("a job");
        let second = jobs.recv().await.expect("a job");
        first.say(started(1, 0)).await;
        second.say(Err(GenerateError::Superseded)).await;
        first
    });
    first.dropped().await;
    assert_eq!(response.expect("infallible").status(), 409);
}
