//! What strangers send. Each ends in a clear error, and in an app that goes on.

use crate::client::{CHAT, COMPLETION, COMPLETIONS, ask, post, state, state_with};
use crate::support::Fake;
use axum::Router;
use axum::body::{Body, Bytes};
use futures::stream;
use sconce::auth::Auth;
use sconce::http::{CallLimits, app};
use std::convert::Infallible;
use std::time::Duration;

async fn check(app: &Router, path: &str, body: impl Into<Body>, status: u16, message: &str) {
    let answer = ask(app, post(path, body)).await;
    assert_eq!(answer.status, status, "{}", answer.text);
    let error = answer.error();
    assert!(error.message.contains(message), "{error:?}");
    assert_eq!(error.kind, "invalid_request_error");
    assert_eq!(ask(app, post(COMPLETIONS, COMPLETION)).await.status, 200);
}

#[tokio::test]
async fn bodies_that_are_no_requests() {
    let app = app(state(Fake::hello()));
    for path in [COMPLETIONS, CHAT] {
        check(&app, path, "", 400, "the body is empty").await;
        check(&app, path, "{", 400, "not valid JSON").await;
        check(&app, path, "null", 400, "the body has to be an object, found null").await;
        check(&app, path, "{}", 400, "model is required").await;
        check(&app, path, r#"{"model": 5}"#, 400, "model has to be a string, found an integer").await;
        check(&app, path, r#"{"model": "m"}"#, 400, "is required").await;
        check(&app, path, r#"{"model": NaN}"#, 400, "expected value at line 1 column 11").await;
        check(&app, path, vec![0xff; 1000], 400, "not valid JSON").await;
        check(&app, path, "[".repeat(100_000), 400, "nests deeper than 32 levels").await;
        check(&app, path, "{\"a\":".repeat(100_000), 400, "nests deeper than 32 levels").await;
        check(&app, path, format!("[{}0]", "0,".repeat(2_000_000)), 400, "more than 1000000 values").await;
        check(&app, path, format!("{{\"model\": \"{}\"}}", "\\ud800".repeat(10)), 400, "not valid JSON").await;
    }
    check(&app, COMPLETIONS, r#"{"model": "m", "prompt": ""}"#, 400, "prompt is empty").await;
    check(&app, COMPLETIONS, r#"{"model": "m", "prompt": "a", "n": -1}"#, 400, "n is -1").await;
    check(&app, COMPLETIONS, r#"{"model": "m", "prompt": "a", "tools": []}"#, 400, "tools is not supported").await;
}

#[tokio::test]
async fn models_that_are_not_served() {
    let app = app(state(Fake::hello()));
    check(&app, COMPLETIONS, r#"{"model": "gpt-4o", "prompt": "a"}"#, 404, "served: m").await;
    let name = "x".repeat(1 << 20);
    let body = format!(r#"{{"model": "{name}", "prompt": "a"}}"#);
    check(&app, COMPLETIONS, body, 404, "xxx\"… does not exist here").await;
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let limits = CallLimits { body_bytes_max: 1000, ..CallLimits::default() };
    let app = app(state_with(Fake::hello(), Auth::Disabled, limits));
    let fits = |bytes: usize| format!(r#"{{"model": "m", "prompt": "{}"}}"#, "a".repeat(bytes - 28));
    assert_eq!(fits(1000).len(), 1000);
    assert_eq!(ask(&app, post(COMPLETIONS, fits(1000))).await.status, 200);
    check(&app, COMPLETIONS, fits(1001), 413, "the body is larger than 1000 bytes").await;
    check(&app, COMPLETIONS, " ".repeat(50_000_000), 413, "the body is larger than 1000 bytes").await;
    // Without an announced length.
    let chunks = stream::iter((0..50).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b' '; 1 << 20]))));
    check(&app, COMPLETIONS, Body::from_stream(chunks), 413, "the body is larger than 1000 bytes").await;
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b' '; 1 << 20])));
    check(&app, COMPLETIONS, Body::from_stream(endless), 413, "the body is larger than 1000 bytes").await;
}

#[tokio::test]
async fn a_megabyte_of_text_is_nothing_special() {
    let fake = Fake::hello();
    let body = format!(r#"{{"model": "m", "prompt": "{}"}}"#, "a\\n".repeat(1 << 20));
    assert_eq!(ask(&app(state(fake.clone())), post(COMPLETIONS, body)).await.status, 200);
    assert_eq!(format!("{:?}", fake.jobs()[0].prompt), "Text(2097152 bytes)");
}

#[tokio::test(start_paused = true)]
async fn bodies_that_come_too_slowly_or_not_at_all() {
    let app = app(state(Fake::hello()));
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
    });
    check(&app, COMPLETIONS, Body::from_stream(drops), 408, "the body was not complete within 30 s").await;
    let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    check(&app, COMPLETIONS, never, 408, "the body was not complete within 30 s").await;
    let broken = Body::from_stream(stream::iter([Ok(Bytes::from_static(b"{")), Err("reset")]));
    check(&app, COMPLETIONS, broken, 400, "the body ended before it was complete").await;
}
