use super::servers::Server;
use super::{check, egress, only};
use futures::StreamExt as _;
use sconce::egress::{Ask, Egress, EgressError, Method, Refusal, Streamed};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const IDLE: Duration = Duration::from_secs(20);

fn post(url: &str) -> Ask<'_> {
    Ask { method: Method::Post, headers: &[("authorization", "Bearer sesame")], body: Some("{}"), ..Ask::get(url) }
}

/// A door, and the other end of the connection that goes through it.
struct Pair {
    egress: Egress,
    url: String,
    listener: TcpListener,
}

impl Pair {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://127.0.0.1:{}/v1/completions", listener.local_addr().expect("bound").port());
        Self { egress: egress(only(&url)), url, listener }
    }

    /// Opens while the other side does `answer` with its connection, which is handed back.
    async fn open(&self, answer: &[u8]) -> (Result<Streamed, EgressError>, TcpStream) {
        let theirs = async {
            let (mut socket, _) = self.listener.accept().await.expect("a connection");
            let mut request = vec![0; 4096];
            let _ = socket.read(&mut request).await.expect("a request");
            socket.write_all(answer).await.expect("somebody reads");
            socket
        };
        tokio::join!(self.egress.open(post(&self.url), IDLE), theirs)
    }
}

#[tokio::test]
async fn pieces_come_as_they_are_sent() {
    let pair = Pair::new().await;
    let (answer, mut socket) = pair.open(HEAD).await;
    let mut answer = answer.expect("a head");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    for text in ["one", "two"] {
        socket.write_all(format!("3\r\n{text}\r\n").as_bytes()).await.expect("somebody reads");
        assert_eq!(answer.piece().await.expect("a piece").as_deref(), Some(text.as_bytes()));
    }
    socket.write_all(b"3\r\nend\r\n0\r\n\r\n").await.expect("somebody reads");
    let rest: Vec<_> = answer.into_pieces().map(|piece| piece.expect("no error")).collect().await;
    assert_eq!(rest.concat(), b"end");
}

#[tokio::test]
async fn dropping_the_answer_closes_the_connection() {
    let pair = Pair::new().await;
    let (answer, mut socket) = pair.open(HEAD).await;
    let mut pieces = answer.expect("a head").into_pieces();
    socket.write_all(b"3\r\none\r\n").await.expect("somebody reads");
    assert_eq!(pieces.next().await.expect("a piece").expect("no error"), b"one");
    drop(pieces);
    let mut rest = Vec::new();
    // The end of the stream or a reset: either way nobody is there any more.
    let ended = socket.read_to_end(&mut rest).await;
    assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_silence_ends_the_answer_and_a_connection_that_breaks_does() {
    let pair = Pair::new().await;
    let (answer, mut socket) = pair.open(HEAD).await;
    let mut pieces = answer.expect("a head").into_pieces();
    socket.write_all(b"3\r\none\r\n").await.expect("somebody reads");
    pieces.next().await.expect("a piece").expect("no error");
    tokio::time::pause();
    let error = pieces.next().await.expect("an end").expect_err("nothing comes");
    assert!(matches!(error, EgressError::Timeout { after: IDLE, .. }), "{error}");
    assert!(pieces.next().await.is_none(), "nothing follows an error");
    tokio::time::resume();
    let pair = Pair::new().await;
    let (answer, mut socket) = pair.open(HEAD).await;
    socket.write_all(b"3\r\none\r\n").await.expect("somebody reads");
    drop(socket);
    let pieces: Vec<_> = answer.expect("a head").into_pieces().collect().await;
    assert!(matches!(pieces[..], [Ok(_), Err(EgressError::Broken { .. })]), "{pieces:?}");
}

#[tokio::test]
async fn no_head_is_waited_for_longer_than_asked() {
    let server = Server::http(|_| Vec::new()).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    let ask = Ask { timeout: Duration::from_millis(50), ..post(&url) };
    let error = egress(only(&url)).open(ask, IDLE).await.err().expect("no head");
    assert!(matches!(error, EgressError::Timeout { .. }), "{error}");
    check(&error, &["no answer"]);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_a_key() {
    let other = Server::http(super::servers::ok).await;
    let moved =
        format!("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{}/\r\nContent-Length: 0\r\n\r\n", other.port);
    for answer in [moved.as_bytes(), b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"] {
        let error = Pair::new().await.open(answer).await.0.err().expect("a redirect");
        assert!(matches!(error, EgressError::Redirect { .. }), "{error}");
        check(&error, &["redirects to http://127.0.0.1"]);
    }
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn no_spelling_of_an_address_gets_around_the_list() {
    let inside = Server::http(super::servers::ok).await;
    let port = inside.port;
    let egress = egress(only("https://models.example.com/v1"));
    for url in [
        format!("http://127.0.0.1:{port}/v1"),
        format!("http://[::1]:{port}/v1"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        format!("http://0:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0177.0.0.1:{port}/"),
        format!("http://0x7f000001:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://localhost.:{port}/"),
        format!("http://models.example.com@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}/https://models.example.com/v1"),
        "https://models.example.com.:443/v1".to_owned(),
        "https://models.example.com:8443/v1".to_owned(),
        "http://models.example.com/v1".to_owned(),
        "https://key@models.example.com/v1".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://models.example.com/".to_owned(),
        "unix:/run/models.sock".to_owned(),
        "http+unix://%2Frun%2Fmodels.sock/v1".to_owned(),
    ] {
        let error = egress.open(post(&url), IDLE).await.err().expect("refused");
        let is_refused = matches!(
            error,
            EgressError::NoAddress | EgressError::Refused { why: Refusal::NotNamed | Refusal::Credentials, .. }
        );
        assert!(is_refused, "{url}: {error}");
    }
    assert_eq!(inside.requests(), 0);
}
