use super::*;
use crate::auth::gitlab::{Check, Verdict};
use crate::config::Flag;
use report::Findings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// From the method and the path of a request to status and body. `{self}` in a body is the server's address.
type Handler = fn(&str) -> (u16, &'static str);

struct Server {
    url: String,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let mut tasks = JoinSet::new();
        let own = url.clone();
        tasks.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = socket.read_u8().await else { break };
                    head.push(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
                let (status, body) = handler(&line);
                let body = body.replace("{self}", &own);
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n");
                let date = httpdate::fmt_http_date(std::time::SystemTime::now());
                let answer = format!("{head}Date: {date}\r\n\r\n{body}");
                // The other side may have heard enough.
                drop(socket.write_all(answer.as_bytes()).await);
            }
        });
        Self { url, _tasks: tasks }
    }
}

/// 2048 bits: 342 digits of base64url.
const KEYS: &str = concat!(
    r#"{"keys":[{"kty":"EC","kid":"curve"},{"kty":"RSA","kid":"short","n":"AQAB"},{"kty":"RSA","kid":"good","n":""#,
    "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu",
    "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu",
    "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu",
    r#""}]}"#
);

fn config(flags: &[(&'static str, &str)]) -> Config {
    let flags: Vec<Flag> = flags.iter().map(|(key, value)| Flag::new("--test", key, *value)).collect();
    config::resolve(&Environment::default(), None, &flags).config.expect("valid")
}

async fn issuer(handler: Handler) -> Vec<Check> {
    let server = Server::start(handler).await;
    let config = config(&[("gitlab.url", &server.url)]);
    let door = serve::egress(&config).expect("a door");
    issuer::section(&door, &server.url).await.checks
}

async fn gateway(handler: Handler, serves_gitlab: bool) -> Vec<Check> {
    let server = Server::start(handler).await;
    let config = config(&[]);
    let door = server_door(&config, &server.url).expect("a door");
    let probe = Probe {
        egress: &door,
        url: server.url.clone(),
        is_named: true,
        serves_gitlab,
        caller: None,
        wants_stream: !serves_gitlab,
    };
    probe.section().await.checks
}

#[track_caller]
fn check(checks: &[Check], name: &str, verdict: Verdict, parts: &[&str]) {
    let check = checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}: {checks:?}"));
    let text = format!("{} {}", check.found, check.next_step);
    assert_eq!(check.verdict, verdict, "{check:?}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing from {check:?}");
    }
    assert!(verdict == Verdict::Ok || !check.next_step.is_empty(), "no next step: {check:?}");
}

const DISCOVERY: &str = r#"{"issuer":"https://gitlab.example.com","jwks_uri":"{self}/oauth/discovery/keys"}"#;

#[tokio::test]
async fn a_good_issuer_passes() {
    let checks = issuer(|line| match line {
        "GET /.well-known/openid-configuration" => (200, DISCOVERY),
        "GET /oauth/discovery/keys" => (200, KEYS),
        _ => (404, ""),
    })
    .await;
    check(&checks, "name", Verdict::Ok, &["127.0.0.1"]);
    check(&checks, "certificate", Verdict::Warn, &["not encrypted"]);
    check(&checks, "discovery", Verdict::Ok, &["https://gitlab.example.com", "/oauth/discovery/keys"]);
    check(&checks, "keys", Verdict::Ok, &["1: good (2048 bits)", "2 of another kind"]);
    check(&checks, "clock", Verdict::Ok, &["0 s"]);
}

#[tokio::test]
async fn keys_at_an_address_that_is_not_reachable_are_taken_from_the_usual_one() {
    let checks = issuer(|line| match line {
        "GET /.well-known/openid-configuration" => {
            (200, r#"{"issuer":"x","jwks_uri":"http://gitlab.example.com/oauth/discovery/keys"}"#)
        }
        "GET /oauth/discovery/keys" => (200, KEYS),
        _ => (404, ""),
    })
    .await;
    check(&checks, "address of the keys", Verdict::Warn, &["gitlab.example.com", "instead", "external URL"]);
    check(&checks, "keys", Verdict::Ok, &["good (2048 bits)"]);
}

#[tokio::test]
async fn what_is_no_issuer_is_named() {
    let page = issuer(|_| (200, "<html>Sign in</html>")).await;
    check(&page, "discovery", Verdict::Fail, &["a page for people", "without a login"]);
    let absent = issuer(|_| (404, "")).await;
    check(&absent, "discovery", Verdict::Fail, &["status 404", "relative URL root"]);
    let other = issuer(|_| (200, "{}")).await;
    check(&other, "discovery", Verdict::Fail, &["no issuer", "GitLab itself"]);
    let keyless = issuer(|line| match line {
        "GET /.well-known/openid-configuration" => (200, DISCOVERY),
        _ => (200, r#"{"keys":[{"kty":"RSA","kid":"short","n":"AQAB"}]}"#),
    })
    .await;
    check(&keyless, "keys", Verdict::Fail, &["none of 1 keys", "cloud_connector:keys:create"]);
}

#[tokio::test]
async fn a_good_server_passes() {
    let checks = gateway(
        |line| match line {
            "GET /monitoring/healthz" | "GET /monitoring/ready" => (200, "{}"),
            "GET /v1/models" | "GET /v1/v1/models" => (200, r#"{"object":"list","data":[{"id":"coder"}]}"#),
            _ => (401, r#"{"error":"No authorization header presented"}"#),
        },
        true,
    )
    .await;
    check(&checks, "reachable", Verdict::Ok, &["asks for a token"]);
    check(&checks, "ready", Verdict::Ok, &[]);
    check(&checks, "models", Verdict::Ok, &["coder"]);
    check(&checks, "connection test", Verdict::Warn, &["--token-file"]);
}

#[tokio::test]
async fn a_server_in_trouble_is_explained() {
    let checks = gateway(
        |line| match line {
            "GET /" => (200, "<html>nginx</html>"),
            "GET /monitoring/ready" => (503, r#"{"status":"starting","cause":"coder is being loaded"}"#),
            "GET /v1/models" => (200, r#"{"data":[]}"#),
            "POST /v1/prompts/model_configuration%2Fcheck" => (421, r#"{"detail":"404: Not Found"}"#),
            _ => (502, ""),
        },
        true,
    )
    .await;
    check(&checks, "reachable", Verdict::Fail, &["status 200 instead of 401"]);
    check(&checks, "healthz", Verdict::Fail, &["status 502"]);
    check(&checks, "ready", Verdict::Fail, &["starting: coder is being loaded"]);
    check(&checks, "verify task", Verdict::Fail, &["status 502"]);
    check(&checks, "connection test", Verdict::Fail, &["421", "404: Not Found", "identifier"]);
}

#[tokio::test]
async fn an_answer_that_comes_at_once_is_suspicious() {
    let checks = gateway(|_| (200, "the whole answer"), false).await;
    check(&checks, "stream", Verdict::Warn, &["16 bytes in 1 pieces", "all at once", "proxy_buffering off"]);
    let empty = gateway(|_| (200, ""), false).await;
    check(&empty, "stream", Verdict::Warn, &["empty"]);
}

#[test]
fn this_machine_is_looked_at() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("state/sconce");
    let dir = dir.to_str().expect("a plain path");
    let cert = folder.path().join("cert.pem");
    std::fs::write(&cert, "nothing").expect("writable");
    let cert = cert.to_str().expect("a plain path");
    let section = here::section(&config(&[
        ("gitlab.url", "https://gitlab.example.com"),
        ("state.dir", dir),
        ("tls.cert_file", cert),
        ("tls.key_file", cert),
    ]));
    check(&section.checks, "authentication", Verdict::Ok, &["https://gitlab.example.com"]);
    check(&section.checks, "state folder", Verdict::Ok, &["can be made", dir]);
    check(&section.checks, "certificate", Verdict::Fail, &["holds no certificate", "tls.cert_file"]);
    assert!(!folder.path().join("state").exists(), "nothing is left behind");
    let bare = here::section(&config(&[("gitlab.bypass_external", "true")]));
    check(&bare.checks, "state folder", Verdict::Warn, &["none", "state.dir"]);
    check(&bare.checks, "authentication", Verdict::Warn, &["switched off"]);
    let unwritable = here::section(&config(&[("state.dir", "/proc/sconce")]));
    check(&unwritable.checks, "state folder", Verdict::Fail, &["/proc cannot be written to", "mount a volume"]);
    let findings = Findings { sections: vec![bare, unwritable] };
    assert_eq!(findings.failed(), 1);
    let text = findings.to_string();
    assert!(text.contains("FAIL  state folder") && text.contains("-> ") && text.contains("1 failed"), "{text}");
}

#[test]
fn a_server_that_listens_everywhere_is_called_here() {
    for (listen, url) in [
        ("0.0.0.0:5052", "http://127.0.0.1:5052"),
        ("[::]:5052", "http://[::1]:5052"),
        ("10.0.0.1:1", "http://10.0.0.1:1"),
    ] {
        let config = config(&[("server.listen", listen), ("gitlab.url", "https://gitlab.example.com")]);
        assert_eq!(own_url(&config), url);
    }
}
