use super::servers::{Authority, Leaf, Server, closed_port, json, ok};
use super::{check, egress, only};
use sconce::egress::{Ask, BODY_BYTES_MAX, EgressError, EgressSettings, Method, Mode, Refusal};
use std::time::Duration;

#[tokio::test]
async fn what_is_not_named_is_not_called() {
    let server = Server::http(ok).await;
    let named = format!("http://127.0.0.1:{}", server.port);
    let egress = egress(only("http://127.0.0.1:1"));
    for url in [named.clone(), format!("{named}/?token=sesame"), format!("http://localhost:{}/", server.port)] {
        let error = egress.get(&url).await.expect_err("not named");
        assert!(matches!(error, EgressError::Refused { why: Refusal::NotNamed, .. }), "{error}");
        check(&error, &["the configuration does not name it"]);
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn keys_are_fetched_where_the_issuer_says_unless_that_is_forbidden() {
    let authority = Authority::new("Example Corp Root");
    let external = Server::https(&authority.issue(&Leaf::good("localhost")), ok).await;
    let keys = format!("https://localhost:{}/oauth/discovery/keys", external.port);
    let settings = |mode| EgressSettings { mode, extra_ca_files: vec![authority.file()], ..only("http://127.0.0.1:1") };
    let open = egress(settings(Mode::Configured));
    assert_eq!(open.get_keys(&keys).await.expect("https elsewhere").body, b"{\"keys\":[]}");
    assert!(open.get(&keys).await.is_err(), "only keys may be elsewhere");
    let error = egress(settings(Mode::Airgap)).get_keys(&keys).await.expect_err("an air gap");
    check(&error, &["airgap", "gitlab.url"]);
    let error = open.get_keys("http://localhost/keys").await.expect_err("in the clear");
    check(&error, &["https only"]);
    let error = open.get_keys("https://169.254.169.254/latest/").await.expect_err("credentials of the machine");
    check(&error, &["169.254.169.254", "link-local"]);
    assert_eq!(external.requests(), 1);
}

fn redirecting(head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let to = match path {
        "/once" => "/there",
        "/twice" => "/once",
        "/away" => "http://169.254.169.254/latest/meta-data?token=sesame",
        "/port" => "http://127.0.0.1:1/there",
        "/down" => "ftp://127.0.0.1/there",
        "/round" => "/round",
        "/junk" => "http://[",
        _ => return json("200 OK", "\"here\""),
    };
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn one_redirect_within_the_host_is_followed() {
    let server = Server::http(redirecting).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let egress = egress(only(&url));
    assert_eq!(egress.get(&format!("{url}/once")).await.expect("followed").body, b"\"here\"");
    let before = server.requests();
    for (path, parts) in [
        ("/twice", &["/there"][..]),
        ("/round", &["/round"]),
        ("/away", &["http://169.254.169.254/latest/meta-data", "not followed"]),
        ("/port", &["http://127.0.0.1:1/there"]),
        ("/down", &["ftp://"]),
        ("/junk", &["cannot be read"]),
    ] {
        let error = egress.get(&format!("{url}{path}")).await.expect_err(path);
        assert!(matches!(error, EgressError::Redirect { .. }), "{path}: {error}");
        check(&error, parts);
    }
    assert_eq!(server.requests() - before, 8, "the second hop of two of them, and nothing more");
}

fn endless(head: &str) -> Vec<u8> {
    let body = "x".repeat(BODY_BYTES_MAX + 1);
    let path = head.split(' ').nth(1).unwrap_or_default();
    let full = "x".repeat(BODY_BYTES_MAX);
    match path {
        "/declared" => b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx".to_vec(),
        "/undeclared" => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}").into_bytes(),
        "/chunked" => {
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
                .into_bytes()
        }
        _ => json("200 OK", &full),
    }
}

#[tokio::test]
async fn answers_are_read_up_to_a_bound() {
    let server = Server::http(endless).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let egress = egress(only(&url));
    assert_eq!(egress.get(&format!("{url}/full")).await.expect("just fits").body.len(), BODY_BYTES_MAX);
    for path in ["/declared", "/undeclared", "/chunked"] {
        let error = egress.get(&format!("{url}{path}")).await.expect_err(path);
        assert!(matches!(error, EgressError::TooLarge { .. }), "{path}: {error}");
        check(&error, &["1048576 bytes", "gitlab.url"]);
    }
}

fn unfit(head: &str) -> Vec<u8> {
    let page = "<!DOCTYPE html><html>Sign in</html>";
    let length = page.len();
    match head.split([' ', '?']).nth(1).unwrap_or_default() {
        "/404" => json("404 Not Found", "{}"),
        "/500" => json("500 Internal Server Error", "{}"),
        "/login" => format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\n\r\n{page}").into_bytes(),
        "/page" => format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{page}").into_bytes(),
        "/broken" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec(),
        "/nonsense" => b"220 mail.example.com ESMTP\r\n\r\n".to_vec(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn every_failure_says_what_to_do() {
    let server = Server::http(unfit).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let egress = egress(only(&url));
    for (path, parts) in [
        ("/404?token=sesame", &["status 404", "relative URL root"][..]),
        ("/500", &["status 500", "log of the server"]),
        ("/login", &["status 403", "a page for people", "login page"]),
        ("/broken", &["the connection broke", "load balancer"]),
        ("/nonsense", &["the connection broke"]),
    ] {
        check(&egress.get(&format!("{url}{path}")).await.expect_err(path), parts);
    }
    assert!(egress.get(&format!("{url}/page")).await.expect("an answer").is_html());
    let unanswered = format!("{url}/silence");
    let ask = Ask { timeout: Duration::from_millis(50), ..Ask::get(&unanswered) };
    let error = egress.send(ask).await.err().expect("nothing comes");
    assert!(matches!(error, EgressError::Timeout { .. }), "{error}");
    check(&error, &["no answer", "HTTPS_PROXY"]);
}

#[tokio::test]
async fn hosts_that_are_not_there_are_told_apart() {
    // A label of 64 letters cannot be looked up, so that nobody is asked.
    let nameless = format!("http://{}.example.com/", "a".repeat(64));
    let error = egress(only(&nameless)).get(&nameless).await.expect_err("no such name");
    assert!(matches!(error, EgressError::Dns { .. }), "{error}");
    check(&error, &["does not resolve", "getent hosts"]);
    let closed = format!("http://127.0.0.1:{}/", closed_port());
    let error = egress(only(&closed)).get(&closed).await.expect_err("nothing listens");
    check(&error, &["refused", "check host and port"]);
}

fn mirror(head: &str) -> Vec<u8> {
    json("421 Misdirected Request", &format!("{head:?}"))
}

#[tokio::test]
async fn a_request_carries_what_it_should_and_any_status_is_an_answer() {
    let server = Server::http(mirror).await;
    let url = format!("http://127.0.0.1:{}/v1/prompts/model_configuration%2Fcheck", server.port);
    let headers = [("authorization", "Bearer sesame")];
    let ask = Ask { method: Method::Post, headers: &headers, body: Some("{}"), ..Ask::get(&url) };
    let egress = egress(only(&url));
    let fetched = egress.send(ask).await.expect("an answer").into_fetched().await.expect("in full");
    let head = String::from_utf8(fetched.body).expect("text");
    assert_eq!((fetched.status, fetched.date.as_deref()), (421, Some("Sun, 22 Nov 2026 01:00:00 GMT")));
    for part in ["POST /v1/prompts/model_configuration%2Fcheck", "authorization: Bearer sesame", "user-agent: sconce/"]
    {
        assert!(head.contains(part), "{part} is missing from {head}");
    }
    let smuggled = [("authorization", "Bearer sesame\r\nX-Other: 1")];
    let error = egress.send(Ask { headers: &smuggled, ..ask }).await.err().expect("refused");
    check(&error, &["authorization", "line ends"]);
    assert!(!format!("{egress:?}").contains("sesame"));
}
