//! Connections: options, both versions of HTTP, and clients that do not behave.

use crate::client::{COMPLETION, COMPLETION_STREAM, COMPLETIONS, Server, read_to_end, read_until, state};
use crate::support::Fake;
use axum::body::Body;
use axum::http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sconce::http::{HttpLimits, accept};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

#[tokio::test]
async fn tokens_do_not_wait_for_acknowledgements() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (accepted, _client) = tokio::join!(accept(&listener), TcpStream::connect(address));
    assert!(accepted.expect("accepted").0.nodelay().expect("a TCP socket"));
}

#[tokio::test]
async fn a_connection_takes_one_request_after_another() {
    let server = Server::start(state(Fake::hello()), HttpLimits::default()).await;
    let mut socket = server.connect().await;
    for _ in 0..3 {
        let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{COMPLETION}", COMPLETION.len());
        socket.write_all(request.as_bytes()).await.expect("sent");
        let answer = read_until(&mut socket, "Hello world").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        read_rest(&mut socket, &answer).await;
    }
}

/// Reads what the headers of `answer` announce and has not come yet.
async fn read_rest(socket: &mut TcpStream, answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let rest = length.parse::<usize>().expect("a number") - body.len();
    socket.read_exact(&mut vec![0; rest]).await.expect("the rest");
}

#[tokio::test]
async fn http2_is_spoken_without_tls() {
    let server = Server::start(state(Fake::hello()), HttpLimits::default()).await;
    let io = TokioIo::new(server.connect().await);
    let handshake = hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), io).await;
    let (mut client, connection) = handshake.expect("HTTP/2");
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    for (body, text) in [(COMPLETION, "Hello world"), (COMPLETION_STREAM, "data: [DONE]")] {
        let request = Request::post(format!("http://{}{COMPLETIONS}", server.address))
            .version(Version::HTTP_2)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .expect("a valid request");
        let response = client.send_request(request).await.expect("answered");
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(text));
    }
    drop(client);
    driving.join_next().await.expect("one task").expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn http2_clients_that_reset_a_stream_drop_its_job() {
    let (fake, mut jobs) = Fake::by_hand();
    let server = Server::start(state(fake), HttpLimits::default()).await;
    let io = TokioIo::new(server.connect().await);
    let handshake = hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), io).await;
    let (mut client, connection) = handshake.expect("HTTP/2");
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let request = Request::post(format!("http://{}{COMPLETIONS}", server.address))
        .header("content-type", "application/json")
        .body(Body::from(COMPLETION))
        .expect("a valid request");
    let handle = tokio::select! {
        _ = client.send_request(request) => panic!("nothing was said"),
        handle = jobs.recv() => handle.expect("a job"),
    };
    handle.dropped().await;
}

#[tokio::test]
async fn a_body_of_50_mb_is_refused_in_words() {
    let server = Server::start(state(Fake::hello()), HttpLimits::default()).await;
    let mut socket = server.connect().await;
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    socket.write_all(format!("{head}Content-Length: 50000000\r\n\r\n").as_bytes()).await.expect("sent");
    socket.write_all(&vec![b' '; 50_000_000]).await.expect("taken, and thrown away");
    let answer = read_until(&mut socket, "the body is larger than 10000000 bytes").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // A client that asks first is spared the work.
    let mut socket = server.connect().await;
    let expect = format!("{head}Content-Length: 50000000\r\nExpect: 100-continue\r\n\r\n");
    socket.write_all(expect.as_bytes()).await.expect("sent");
    assert!(read_to_end(&mut socket).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn ambiguous_requests_are_refused_and_the_connection_closed() {
    let server = Server::start(state(Fake::hello()), HttpLimits::default()).await;
    let start = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let smuggled = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for rest in [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Transfer-Encoding: gzip\r\n\r\nhello",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "X-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut socket = server.connect().await;
        socket.write_all(format!("{start}{rest}{smuggled}").as_bytes()).await.expect("sent");
        let answer = read_to_end(&mut socket).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{rest:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{rest:?}: {answer}");
    }
}

#[tokio::test]
async fn headers_have_a_limit() {
    let server = Server::start(state(Fake::hello()), HttpLimits::default()).await;
    let mut socket = server.connect().await;
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(40_000));
    socket.write_all(request.as_bytes()).await.expect("sent");
    assert!(read_to_end(&mut socket).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn connections_have_a_limit() {
    let limits = HttpLimits { connections_max: 1, ..HttpLimits::default() };
    let server = Server::start(state(Fake::hello()), limits).await;
    let mut first = server.posted(COMPLETIONS, COMPLETION).await;
    read_until(&mut first, "Hello world").await;
    // The second is taken when the first has gone.
    let mut second = server.posted(COMPLETIONS, COMPLETION).await;
    let waited = tokio::time::timeout(Duration::from_millis(50), second.readable()).await;
    assert!(waited.is_err());
    drop(first);
    read_until(&mut second, "Hello world").await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_stops_its_lane() {
    let (fake, said) = Fake::endless(&"x".repeat(16 * 1024));
    let limits = HttpLimits { write_stall_timeout: Duration::from_millis(50), ..HttpLimits::default() };
    let server = Server::start(state(fake), limits).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut client = socket.connect(server.address).await.expect("the server listens");
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{COMPLETION_STREAM}", COMPLETION_STREAM.len());
    client.write_all(request.as_bytes()).await.expect("sent");
    read_until(&mut client, "data: ").await;
    // The lane never waits: only the client's pace, and then its being cut off, can end this.
    let drained = server.stop().await;
    assert_eq!(drained.aborted, 0);
    assert!(said.load(Ordering::Relaxed) < 1024, "{said:?} times 16 KiB went somewhere");
}
