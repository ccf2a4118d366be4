//! Requests of somebody else's library, sent by us.

use super::servers::{Handler, Server, json};
use super::{check, egress, only};
use sconce::egress::{BODY_BYTES_MAX, EgressError, Method, Refusal, Relay, Relayed};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn request(method: Method, url: String, body: &str) -> Relay {
    let headers = [("X-Secret", "sesame"), ("content-type", "text/plain"), ("Content-Length", "9"), ("host", "other")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Relay { method, url, headers, body: body.as_bytes().to_vec(), timeout: Duration::from_secs(10) }
}

#[tokio::test]
async fn a_request_is_sent_as_it_was_made() {
    for (method, line) in [(Method::Put, "put"), (Method::Post, "post"), (Method::Get, "get")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/path?query=1", listener.local_addr().expect("bound"));
        let theirs = async {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut arrived = Vec::new();
            while !arrived.ends_with(b"\r\n\r\nabc") {
                arrived.push(socket.read_u8().await.expect("more of the request"));
            }
            socket.write_all(b"HTTP/1.1 418 Odd\r\nX-Said: a\r\nContent-Length: 2\r\n\r\nno").await.expect("a reader");
            String::from_utf8(arrived).expect("text").to_ascii_lowercase()
        };
        let door = egress(only(&url));
        let (relayed, arrived) = tokio::join!(door.relay(request(method, url.clone(), "abc")), theirs);
        let Relayed { status, headers, body } = relayed.expect("an answer");
        assert_eq!((status, body.as_slice()), (418, b"no".as_slice()));
        assert!(headers.contains(&("x-said".to_owned(), "a".to_owned())), "{headers:?}");
        assert!(arrived.starts_with(&format!("{line} /path?query=1 http/1.1\r\n")), "{arrived}");
        for header in ["x-secret: sesame\r\n", "content-type: text/plain\r\n", "content-length: 3\r\n"] {
            assert_eq!(arrived.matches(header).count(), 1, "{header:?} in {arrived}");
        }
        assert_eq!(arrived.matches("content-length:").count(), 1, "{arrived}");
        assert_eq!((arrived.matches("host: 127.0.0.1").count(), arrived.matches("other").count()), (1, 0), "{arrived}");
    }
}

async fn relayed(handler: Handler) -> Result<Relayed, EgressError> {
    let server = Server::http(handler).await;
    let url = format!("http://127.0.0.1:{}/path", server.port);
    egress(only(&url)).relay(request(Method::Get, url, "")).await
}

#[tokio::test]
async fn the_bounds_are_those_of_our_own_requests() {
    let server = Server::http(|_| json("200 OK", "{}")).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let error = egress(only("http://127.0.0.1:1/")).relay(request(Method::Put, url, "")).await.err().expect("refused");
    assert!(matches!(error, EgressError::Refused { why: Refusal::NotNamed, .. }), "{error:?}");
    check(&error, &["does not name it"]);
    assert_eq!(server.requests(), 0);
    let error = relayed(|_| json("200 OK", &"x".repeat(BODY_BYTES_MAX + 1))).await.err().expect("too large");
    assert!(matches!(error, EgressError::TooLarge { .. }), "{error:?}");
    let moved = relayed(|_| b"HTTP/1.1 302 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    assert_eq!(moved.expect("an answer").status, 302);
    let mut relay = request(Method::Get, "http://127.0.0.1:1/".to_owned(), "");
    relay.headers.push(("x".to_owned(), "sesame\n".to_owned()));
    let error = egress(only("http://127.0.0.1:1/")).relay(relay).await.err().expect("a header that cannot be sent");
    check(&error, &["the header of a library cannot be sent"]);
}
