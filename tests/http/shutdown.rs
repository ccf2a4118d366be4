//! What happens to callers when the process goes down.

use crate::client::{CHAT, CHAT_STREAM, COMPLETION, COMPLETIONS, Server, read_to_end, read_until, state};
use crate::support::{Fake, finished, started, text};
use sconce::http::{Drained, HttpLimits};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn streams_finish_and_new_calls_are_sent_away() {
    let (fake, mut jobs) = Fake::by_hand();
    let server = Server::start(state(fake), HttpLimits::default()).await;
    let (health, address) = (server.health.clone(), server.address);
    let mut streaming = server.posted(CHAT, CHAT_STREAM).await;
    let handle = jobs.recv().await.expect("a job");
    handle.say(started(1, 0)).await;
    read_until(&mut streaming, "assistant").await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /monitoring/ready HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    read_until(&mut idle, "{}").await;

    let draining = server.stop();
    // The idle connection is closed by the server: the shutdown has begun.
    assert_eq!(read_to_end(&mut idle).await, "");
    assert!(health.is_stopping());
    let late = |request: String| async move {
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("still listening");
        socket.write_all(request.as_bytes()).await.expect("sent");
        read_to_end(&mut socket).await
    };
    let head = "HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let length = COMPLETION.len();
    let refused = late(format!("POST {COMPLETIONS} {head}Content-Length: {length}\r\n\r\n{COMPLETION}")).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 5\r\n") && refused.contains("shutting_down"), "{refused}");
    let ready = late(format!("GET /monitoring/ready {head}\r\n")).await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("shutting down"), "{ready}");

    handle.say(text("the end")).await;
    handle.say(finished(1, 0, 1)).await;
    let rest = read_to_end(&mut streaming).await;
    assert!(rest.contains("the end") && rest.contains("data: [DONE]"), "{rest}");
    assert_eq!(draining.await, Drained { aborted: 0 });
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn patience_has_an_end() {
    let (fake, mut jobs) = Fake::by_hand();
    let limits = HttpLimits { shutdown_grace: Duration::from_millis(20), ..HttpLimits::default() };
    let server = Server::start(state(fake), limits).await;
    let mut streaming = server.posted(CHAT, CHAT_STREAM).await;
    let handle = jobs.recv().await.expect("a job");
    handle.say(started(1, 0)).await;
    read_until(&mut streaming, "assistant").await;
    assert_eq!(server.stop().await, Drained { aborted: 1 });
    handle.dropped().await;
}
