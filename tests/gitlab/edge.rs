//! What stands at the edge of the gateway: headers that two readers could read differently, addresses, hang-ups, streams
//! that break, and the order in which a stranger is told things.

use crate::calls::{ask, completion, get, post, prompt, token_headers};
use crate::support::gateway::{Gateway, Options, client};
use crate::support::gitlab::tokens::INSTANCE_ID;
use crate::support::{Fake, finished, started, text};
use sconce::auth::{AllowList, ModelApiKeys};
use sconce::domain::GenerateError;
use sconce::http::{GitlabSettings, Readiness};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn saying(words: &[&str]) -> std::sync::Arc<Fake> {
    let said = words.iter().map(|word| text(word));
    Fake::saying([started(9, 0)].into_iter().chain(said).chain([finished(9, 0, words.len())]).collect())
}

async fn gateway() -> Gateway {
    Gateway::start(saying(&["x"]), Options::default()).await
}

#[tokio::test]
async fn an_identity_is_said_once_and_in_one_way() {
    let gateway = gateway().await;
    let check = async |name: &str, value: &str, said: &str| {
        let request = post(&gateway, "/v2/code/completions", &completion(false)).header(name, value);
        let answer = ask(request).await;
        assert_eq!(answer.status, 400, "{name}: {value}: {}", answer.body);
        assert!(answer.body.contains(said), "{}", answer.body);
    };
    check("x-gitlab-instance-id", INSTANCE_ID, "was sent twice").await;
    check("authorization", "Bearer x", "was sent twice").await;
    check("x_gitlab_realm", "saas", "was sent with underscores").await;
    check("X-GITLAB_Instance_Id", "other", "was sent with underscores").await;
    check("connection", "x-gitlab-realm", "is named by the header connection").await;
    check("connection", "keep-alive, Authorization", "is named by the header connection").await;
}

#[tokio::test]
async fn header_values_are_visible_ascii_or_nothing() {
    let gateway = gateway().await;
    let mut socket = TcpStream::connect(gateway.address()).await.expect("the gateway listens");
    let head =
        b"GET /v2/code/completions HTTP/1.1\r\nHost: g\r\nX-Gitlab-Realm: self\xe9managed\r\nConnection: close\r\n\r\n";
    socket.write_all(head).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer in ASCII");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("visible ASCII"), "{answer}");
}

#[tokio::test]
async fn strangers_learn_nothing_and_a_strange_host_is_no_reason() {
    let gateway = gateway().await;
    for path in
        ["/", "/docs", "/v2/code/completions", "/v1/prompts/chat/explain_code", "/v9/nope", "/monitoring/healthz/"]
    {
        let answer = ask(client().get(gateway.url(path)).header("host", "my_gateway:5052")).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, r#"{"error":"No authorization header presented"}"#),
            "{path}"
        );
        assert!(!answer.headers.contains_key("www-authenticate"));
    }
    let answer = ask(client().get(gateway.url("/metrics"))).await;
    assert_eq!((answer.status, answer.body.as_str()), (404, r#"{"detail":"Not Found"}"#));
    let answer = ask(get(&gateway, "/v9/nope")).await;
    assert_eq!((answer.status, answer.body.as_str()), (404, r#"{"detail":"Not Found"}"#));
    let answer = ask(get(&gateway, "/v1/prompts/chat/explain_code")).await;
    assert_eq!((answer.status, answer.body.as_str()), (405, r#"{"detail":"Method Not Allowed"}"#));
}

#[tokio::test]
async fn models_are_named_to_everybody_and_served_to_nobody_without_a_key() {
    let gateway = gateway().await;
    for path in ["/v1/models", "/v1/v1/models"] {
        let answer = ask(client().get(gateway.url(path)).bearer_auth("the-model-key")).await;
        let entry = json!({"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "sconce"});
        assert_eq!((answer.status, answer.json()), (200, json!({"object": "list", "data": [entry]})), "{path}");
    }
    let body = json!({"model": "m", "prompt": "a"}).to_string();
    for authorization in [None, Some("Bearer nonsense".to_owned()), Some(format!("Bearer {}", gateway.gitlab.token()))]
    {
        let mut request = client().post(gateway.url("/v1/completions")).header("content-type", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let answer = ask(request.body(body.clone())).await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.body.contains("sconce key new"), "{}", answer.body);
    }
}

#[tokio::test]
async fn only_allowed_addresses_may_ask() {
    let list = |allowed: &[&str], proxies: &[&str]| {
        let owned = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        AllowList::new(&owned(allowed), &owned(proxies)).expect("networks")
    };
    let check = async |allow_list: AllowList, forwarded: &str, status: u16| {
        let gateway = Gateway::start(saying(&["x"]), Options { allow_list, ..Options::default() }).await;
        let request = post(&gateway, "/v2/code/completions", &completion(false)).header("x-forwarded-for", forwarded);
        let answer = ask(request).await;
        assert_eq!(answer.status, status, "{forwarded}: {}", answer.body);
    };
    check(list(&["127.0.0.0/8"], &[]), "203.0.113.9", 200).await;
    // An untrusted peer may write what it likes.
    check(list(&["10.0.0.0/8"], &[]), "10.1.2.3", 403).await;
    check(list(&["10.0.0.0/8"], &["127.0.0.1"]), "10.1.2.3", 200).await;
    check(list(&["10.0.0.0/8"], &["127.0.0.1"]), "10.1.2.3, 203.0.113.9", 403).await;
    check(list(&["10.0.0.0/8"], &["127.0.0.1"]), "::ffff:10.1.2.3", 200).await;
}

#[tokio::test]
async fn pages_of_all_origins_may_call_only_where_everybody_shows_a_token() {
    let preflight = async |settings: GitlabSettings| {
        let gateway = Gateway::start(saying(&["x"]), Options { settings, ..Options::default() }).await;
        let request = client().request(reqwest::Method::OPTIONS, gateway.url("/v2/code/completions"));
        let request =
            request.header("origin", "https://ide.example.test").header("access-control-request-method", "POST");
        ask(request).await
    };
    let on = GitlabSettings { is_enabled: true, ..GitlabSettings::default() };
    assert_eq!(preflight(on).await.headers.get("access-control-allow-origin").map(String::as_str), Some("*"));
    let bypassed = GitlabSettings { is_enabled: true, is_authenticated: false, ..GitlabSettings::default() };
    let answer = preflight(bypassed).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin") && answer.status == 403, "{}", answer.body);
}

#[tokio::test]
async fn the_work_ends_when_the_client_goes() {
    for is_streamed in [false, true] {
        let (lane, mut jobs) = Fake::by_hand();
        let gateway = Gateway::start(lane, Options::default()).await;
        let request = post(&gateway, "/v2/code/completions", &completion(is_streamed));
        let asking = tokio::task::JoinSet::from_iter([async move { drop(request.send().await) }]);
        let job = jobs.recv().await.expect("the lane is asked");
        job.say(started(9, 0)).await;
        job.say(text("a")).await;
        drop(asking);
        job.dropped().await;
    }
}

#[tokio::test]
async fn the_work_ends_when_the_suggestion_is_complete() {
    // Code follows on the cursor's line: the suggestion is one line, and the lane would speak for ever.
    let (lane, said) = Fake::endless("x\n");
    let gateway = Gateway::start(lane, Options::default()).await;
    let mut body = completion(false);
    body["current_file"]["content_below_cursor"] = json!(" + rest\n");
    let answer = ask(post(&gateway, "/v2/code/completions", &body)).await;
    assert_eq!(answer.json()["choices"][0]["text"], "x", "{}", answer.body);
    assert!(said.load(std::sync::atomic::Ordering::Relaxed) < 100);
}

#[tokio::test]
async fn a_stream_that_breaks_does_not_look_complete() {
    let failing = || {
        let error = GenerateError::StepFailed { reason: "it broke".to_owned() };
        Fake::saying(vec![started(9, 0), text("value = "), Err(error)])
    };
    let gateway = Gateway::start(failing(), Options::default()).await;
    for (path, body) in [
        ("/v2/code/completions", completion(true)),
        ("/v1/prompts/chat/explain_code", prompt(true)),
        ("/v2/prompts/summarize_new_merge_request", json!({"inputs": {"extracted_diff": "+a"}, "stream": true})),
    ] {
        let response = post(&gateway, path, &body).send().await.expect("an answer begins");
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.text().await.is_err(), "{path}");
    }
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let answer = ask(post(&gateway, "/v2/chat/agent", &chat)).await;
    let last = answer.body.lines().last().expect("a line");
    assert!(answer.body.ends_with('\n') && last.starts_with(r#"{"type": "error""#), "{}", answer.body);
}

#[tokio::test]
async fn a_model_that_is_not_there_is_told_in_the_words_of_each_endpoint() {
    let gateway = gateway().await;
    let metadata =
        json!({"provider": "openai", "name": "mistral", "identifier": "custom_openai/nope", "endpoint": "http://h/v1"});
    let with = |mut body: serde_json::Value| {
        body["model_metadata"] = metadata.clone();
        body
    };
    let answer = ask(post(&gateway, "/v1/prompts/chat/explain_code", &with(prompt(false)))).await;
    assert_eq!((answer.status, answer.body.as_str()), (421, r#"{"detail":"404: Not Found"}"#));
    let mut body = completion(false);
    body["model_identifier"] = json!("custom_openai/nope");
    let answer = ask(post(&gateway, "/v2/code/completions", &body)).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("served: m"), "{}", answer.body);
    let answer =
        ask(post(&gateway, "/v2/chat/agent", &with(json!({"messages": [{"role": "user", "content": "Hi"}]})))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(r#"{"type": "error", "data": {"message": "no model called"#), "{}", answer.body);
}

#[tokio::test]
async fn models_that_are_being_loaded_are_told_apart_from_models_that_are_not_there() {
    let gateway = gateway().await;
    gateway.health.set(Readiness::Starting { cause: "loading m".to_owned() });
    let answer = ask(post(&gateway, "/v1/prompts/model_configuration%2Fcheck", &json!({"inputs": {}}))).await;
    assert_eq!((answer.status, answer.body.as_str()), (421, r#"{"detail":"503: Service Unavailable"}"#));
    let answer = ask(post(&gateway, "/v2/code/completions", &completion(false))).await;
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"detail":"Inference failed"}"#));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_model_whose_engine_is_down_is_told_in_the_words_of_each_endpoint() {
    let retry_after = Some(std::time::Duration::from_secs(6));
    let error = GenerateError::EngineDown { model: "m".to_owned(), cause: "it restarts", retry_after };
    let gateway = Gateway::start(Fake::failing(error), Options::default()).await;
    let check = async |path: &str, body: serde_json::Value, status: u16, said: &str| {
        let answer = ask(post(&gateway, path, &body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, said), "{path}");
        assert_eq!(answer.headers.get("retry-after").map(|value| value.as_bytes()), Some(&b"6"[..]), "{path}");
    };
    let unavailable = r#"{"detail":"503: Service Unavailable"}"#;
    check("/v1/prompts/model_configuration%2Fcheck", json!({"inputs": {}}), 421, unavailable).await;
    check("/v2/code/completions", completion(false), 503, r#"{"detail":"Inference failed"}"#).await;
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let answer = ask(post(&gateway, "/v2/chat/agent", &chat)).await;
    assert!(answer.body.contains(r#""message": "overloaded_error", "retryable": true"#), "{}", answer.body);
}

#[tokio::test]
async fn a_model_key_is_asked_for_where_one_is_configured() {
    let settings = GitlabSettings {
        is_enabled: true,
        model_api_key: Some(ModelApiKeys::new(["right"])),
        ..GitlabSettings::default()
    };
    let gateway = Gateway::start(saying(&["x"]), Options { settings, ..Options::default() }).await;
    let check = async |key: serde_json::Value, status: u16, detail: &str| {
        let metadata =
            json!({"provider": "openai", "name": "mistral", "identifier": "custom_openai/m", "api_key": key});
        let body = json!({"inputs": {}, "model_metadata": metadata});
        let answer = ask(post(&gateway, "/v1/prompts/model_configuration/check", &body)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(detail), "{}", answer.body);
    };
    check(json!("right"), 200, "x").await;
    check(json!("wrong"), 421, "401: Unauthorized").await;
    check(json!(null), 421, "401: Unauthorized").await;
}

#[tokio::test]
async fn a_request_may_arrive_in_any_two_pieces() {
    let gateway = gateway().await;
    let body = completion(true).to_string();
    let mut head = "POST /v2/code/completions HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n".to_owned();
    for (name, value) in token_headers(&gateway) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    let mut socket = TcpStream::connect(gateway.address()).await.expect("the gateway listens");
    socket.set_nodelay(true).expect("a TCP socket");
    for cut in 1..request.len() {
        for piece in [&request[..cut], &request[cut..]] {
            socket.write_all(piece).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"0\r\n\r\n") {
            assert_ne!(socket.read_buf(&mut answer).await.expect("readable"), 0, "hung up at {cut}");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"1\r\nx\r\n0\r\n\r\n"), "cut at {cut}");
    }
}
