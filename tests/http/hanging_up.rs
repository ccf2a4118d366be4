//! Clients that go away, over a real socket: whatever the call was doing, its job is dropped.

use crate::client::{COMPLETION, COMPLETION_STREAM, COMPLETIONS, Server, read_until, state};
use crate::support::{Fake, started, text};
use sconce::http::HttpLimits;
use tokio::io::AsyncWriteExt as _;

/// How far a job gets before its client goes away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Progress {
    Waiting,
    Started,
    FirstText,
}

async fn check(body: &str, progress: Progress) {
    let (fake, mut jobs) = Fake::by_hand();
    let server = Server::start(state(fake), HttpLimits::default()).await;
    let mut socket = server.posted(COMPLETIONS, body).await;
    let handle = jobs.recv().await.expect("a job");
    if progress != Progress::Waiting {
        handle.say(started(1, 0)).await;
    }
    if progress == Progress::FirstText {
        handle.say(text("one")).await;
        if body.contains("stream") {
            read_until(&mut socket, "one").await;
        }
    }
    drop(socket);
    handle.dropped().await;
    let aborted = server.stop().await.aborted;
    assert_eq!(aborted, 0, "{progress:?}");
}

#[tokio::test]
async fn of_a_whole_answer_before_the_first_token() {
    check(COMPLETION, Progress::Waiting).await;
}

#[tokio::test]
async fn of_a_whole_answer_during_the_first_token() {
    check(COMPLETION, Progress::Started).await;
}

#[tokio::test]
async fn of_a_whole_answer_after_the_first_token() {
    check(COMPLETION, Progress::FirstText).await;
}

#[tokio::test]
async fn of_a_stream_before_the_first_token() {
    check(COMPLETION_STREAM, Progress::Waiting).await;
}

#[tokio::test]
async fn of_a_stream_during_the_first_token() {
    check(COMPLETION_STREAM, Progress::Started).await;
}

#[tokio::test]
async fn of_a_stream_after_the_first_token() {
    check(COMPLETION_STREAM, Progress::FirstText).await;
}

#[tokio::test]
async fn before_the_body_is_complete() {
    let fake = Fake::hello();
    let server = Server::start(state(fake.clone()), HttpLimits::default()).await;
    let mut socket = server.connect().await;
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    socket.write_all(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes()).await.expect("sent");
    drop(socket);
    assert_eq!(server.stop().await.aborted, 0);
    assert!(fake.jobs().is_empty());
}
