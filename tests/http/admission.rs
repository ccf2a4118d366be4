//! Who may ask: keys, hosts and origins.

use crate::client::{Answer, CHAT, COMPLETION, COMPLETIONS, ask, get, post, state, state_with, with};
use crate::support::Fake;
use axum::body::Body;
use sconce::auth::{ApiKey, ApiKeys, Auth};
use sconce::domain::CacheSalt;
use sconce::http::{CallLimits, app};

const ALICE: &str = "sk-sconce-alice-0123456789";
const BOB: &str = "sk-sconce-bob-0123456789";

fn keys() -> Auth {
    let key = |name, key| ApiKey::from_plain(name, key).expect("long enough");
    Auth::Keys(ApiKeys::new(vec![key("alice", ALICE), key("bob", BOB)]).expect("two keys"))
}

#[tokio::test]
async fn without_the_right_key_there_is_no_answer() {
    let app = app(state_with(Fake::hello(), keys(), CallLimits::default()));
    let check = async |authorization: &[&str], status: u16, message: &str| {
        for (method, path) in [("POST", COMPLETIONS), ("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/models/m")] {
            let mut headers = vec![("host", "sconce.example"), ("content-type", "application/json")];
            headers.extend(authorization.iter().map(|value| ("authorization", *value)));
            let answer = ask(&app, with(&headers, method, path, COMPLETION)).await;
            assert_eq!(answer.status, status, "{path}");
            let error = answer.error();
            assert!(error.message.contains(message), "{error:?}");
            if status == 401 {
                assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"sconce\""));
                assert_eq!((error.kind.as_str(), error.code.as_str()), ("invalid_request_error", "invalid_api_key"));
            }
        }
    };
    check(&[], 401, "no API key was sent").await;
    check(&["Basic abc"], 401, "not of the form").await;
    check(&["Bearer sk-sconce-mallory-0123456789"], 401, "incorrect API key ending in 6789").await;
    check(&["Bearer short"], 401, "incorrect API key").await;
    let right = format!("Bearer {ALICE}");
    check(&[&right, &right], 400, "the header authorization was sent twice").await;
}

#[tokio::test]
async fn callers_have_caches_and_sessions_of_their_own() {
    let fake = Fake::hello();
    let app = app(state_with(fake.clone(), keys(), CallLimits::default()));
    for key in [ALICE, BOB, ALICE] {
        let authorization = format!("Bearer {key}");
        let headers = [
            ("host", "sconce.example"),
            ("content-type", "application/json"),
            ("authorization", authorization.as_str()),
            ("x-session-id", "editor-1"),
        ];
        assert_eq!(ask(&app, with(&headers, "POST", COMPLETIONS, COMPLETION)).await.status, 200);
    }
    let jobs = fake.jobs();
    assert!(jobs.iter().all(|job| job.cache_salt != CacheSalt(0) && job.session.is_some()));
    assert_eq!((jobs[0].cache_salt, &jobs[0].session), (jobs[2].cache_salt, &jobs[2].session));
    assert_ne!(jobs[0].cache_salt, jobs[1].cache_salt);
    assert_ne!(jobs[0].session, jobs[1].session);
}

#[tokio::test]
async fn monitoring_needs_no_key() {
    let app = app(state_with(Fake::hello(), keys(), CallLimits::default()));
    for path in ["/monitoring/healthz", "/monitoring/ready"] {
        assert_eq!(ask(&app, get(path)).await.status, 200);
    }
}

async fn ask_as(headers: &[(&str, &str)], target: &str) -> Answer {
    ask(&app(state(Fake::hello())), with(headers, "GET", target, Body::empty())).await
}

#[tokio::test]
async fn without_keys_only_this_machine_is_answered() {
    for host in ["localhost", "LOCALHOST:80", "127.0.0.1:5052", "127.1.2.3", "[::1]:5052", "[::ffff:127.0.0.1]"] {
        assert_eq!(ask_as(&[("host", host)], "/v1/models").await.status, 200, "{host}");
    }
    for host in ["example.com", "localhost.example.com", "localhost.", "192.168.0.1:5052", "[2001:db8::1]", "0.0.0.0"] {
        let answer = ask_as(&[("host", host)], "/v1/models").await;
        assert_eq!(answer.status, 403, "{host}");
        assert!(answer.error().message.contains("configure API keys"), "{host}");
    }
    assert_eq!(ask_as(&[("host", "example.com")], "/monitoring/ready").await.status, 403);
}

#[tokio::test]
async fn without_keys_no_web_page_is_answered() {
    let check = async |origins: &[&str], status: u16| {
        let mut headers = vec![("host", "localhost:5052")];
        headers.extend(origins.iter().map(|origin| ("origin", *origin)));
        assert_eq!(ask_as(&headers, "/v1/models").await.status, status, "{origins:?}");
    };
    check(&["http://localhost:5052"], 200).await;
    check(&["https://127.0.0.1"], 200).await;
    check(&["https://example.com"], 403).await;
    check(&["http://localhost.example.com"], 403).await;
    check(&["null"], 403).await;
    check(&["file://"], 403).await;
    check(&["vscode-webview://abc"], 403).await;
    check(&["http://localhost:5052", "https://example.com"], 403).await;
}

#[tokio::test]
async fn with_keys_hosts_and_origins_are_free() {
    let app = app(state_with(Fake::hello(), keys(), CallLimits::default()));
    let authorization = format!("Bearer {ALICE}");
    let headers = [("host", "sconce.example"), ("origin", "https://example.com"), ("authorization", &authorization)];
    assert_eq!(ask(&app, with(&headers, "GET", "/v1/models", Body::empty())).await.status, 200);
}

#[tokio::test]
async fn odd_hosts_are_refused_and_do_not_change_the_route() {
    let check = async |headers: &[(&str, &str)], target: &str, status: u16, message: &str| {
        let answer = ask_as(headers, target).await;
        assert_eq!(answer.status, status, "{headers:?} {target}");
        assert!(answer.text.contains(message), "{}", answer.text);
    };
    check(&[], "/v1/models", 400, "the header host is missing").await;
    check(&[("host", "localhost"), ("host", "localhost")], "/v1/models", 400, "the header host was sent twice").await;
    check(&[("host", "localhost/x?")], "/v1/models", 400, "is not HOST or HOST:PORT").await;
    check(&[("host", "user@localhost")], "/v1/models", 400, "is not HOST or HOST:PORT").await;
    check(&[("host", "")], "/v1/models", 400, "is not HOST or HOST:PORT").await;
    check(&[("host", "b\u{fc}cher")], "/v1/models", 400, "other characters than visible ASCII").await;
    // A target in absolute form: the path decides, and its name must be the header's.
    check(&[("host", "localhost")], "http://localhost/v1/models/m", 200, "llama").await;
    check(&[("host", "localhost")], "http://example.com/v1/models", 400, "differs from the request's target").await;
    check(&[], "http://example.com/v1/models", 403, "configure API keys").await;
    check(&[("host", "example.com")], "http://example.com/v1/models", 403, "configure API keys").await;
}

#[tokio::test]
async fn a_form_of_a_web_page_is_not_json() {
    let app = app(state(Fake::hello()));
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let headers = [("host", "localhost"), ("content-type", content_type)];
        let answer = ask(&app, with(&headers, "POST", COMPLETIONS, COMPLETION)).await;
        assert_eq!(answer.status, 415, "{content_type}");
        assert!(answer.error().message.contains("application/json"));
    }
    let headers = [("host", "localhost"), ("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(ask(&app, with(&headers, "POST", COMPLETIONS, COMPLETION)).await.status, 200);
    let headers = [("host", "localhost"), ("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(ask(&app, with(&headers, "POST", COMPLETIONS, COMPLETION)).await.status, 415);
    assert_eq!(ask(&app, post(COMPLETIONS, COMPLETION)).await.status, 200);
}
