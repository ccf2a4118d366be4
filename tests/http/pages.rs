//! Models, monitoring, metrics, and paths that lead nowhere.

use crate::client::{COMPLETION, COMPLETIONS, ask, get, post, state, with};
use crate::support::{Fake, gate, model};
use axum::body::Body;
use prometheus::Registry;
use sconce::auth::Auth;
use sconce::http::{AppState, CallLimits, Health, Readiness, app, metrics_app};
use sconce::route::{Lane, Routes};
use serde_json::{Value, json};

#[tokio::test]
async fn models_are_listed_and_found() {
    let lane = |name| Lane::local(model(name), Vec::new(), Fake::hello());
    let routes = Routes::new(vec![lane("m"), lane("org/coder-1.5b")]).expect("two names");
    let health = Health::new(Readiness::Ready);
    let state = AppState::new(routes, gate(Auth::Disabled), health, CallLimits::default(), &Registry::new());
    let app = app(state.expect("a new registry"));
    let entry = |name| {
        json!({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "sconce", "sconce":
            {"architecture": "llama", "context_tokens": 2048, "parameters": 1_000_000, "infill": true, "chat": true}})
    };
    let list = ask(&app, get("/v1/models")).await;
    assert_eq!(list.json(), json!({"object": "list", "data": [entry("m"), entry("org/coder-1.5b")]}));
    assert_eq!(ask(&app, get("/v1/models/org/coder-1.5b")).await.json(), entry("org/coder-1.5b"));
    assert_eq!(ask(&app, get("/v1/models/org%2Fcoder-1.5b")).await.json(), entry("org/coder-1.5b"));
    let unknown = ask(&app, get("/v1/models/org/coder-1.6b")).await;
    assert_eq!((unknown.status.as_u16(), unknown.error().code.as_str()), (404, "model_not_found"));
    assert!(unknown.error().message.contains("did you mean \"org/coder-1.5b\"?"), "{}", unknown.text);
}

#[tokio::test]
async fn a_wrong_turn_is_shown_the_way() {
    let app = app(state(Fake::hello()));
    for path in ["/", "/v1", "/v1/v1/models", "/v1/completions/", "/v1/embeddings", "/v1/models/", "/%ff"] {
        let answer = ask(&app, get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().message.contains("POST /v1/completions"), "{path}");
    }
    let check = async |method: &str, path: &str, allow: &str| {
        let answer = ask(&app, with(&[("host", "localhost")], method, path, Body::empty())).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some(allow)), "{method} {path}");
        assert!(answer.error().message.contains("does not take the method"));
    };
    check("GET", COMPLETIONS, "POST").await;
    check("OPTIONS", COMPLETIONS, "POST").await;
    check("DELETE", "/v1/models/m", "GET,HEAD").await;
    check("BREW", "/monitoring/ready", "GET,HEAD").await;
}

#[tokio::test]
async fn readiness_says_why() {
    let state = state(Fake::hello());
    let health = state.health.clone();
    let app = app(state);
    let check = async |readiness: Readiness, status: u16, json: Value| {
        health.set(readiness);
        let answer = ask(&app, get("/monitoring/ready")).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (status, json));
        let alive = ask(&app, get("/monitoring/healthz")).await;
        assert_eq!((alive.status.as_u16(), alive.text.as_str()), (200, r#"{"status":"ok"}"#));
    };
    check(
        Readiness::Starting { cause: "loading m".to_owned() },
        503,
        json!({"status": "starting", "cause": "loading m"}),
    )
    .await;
    check(Readiness::Ready, 200, json!({})).await;
    check(
        Readiness::Restarting { cause: "the device of m failed".to_owned() },
        503,
        json!({"status": "restarting", "cause": "the device of m failed"}),
    )
    .await;
    check(
        Readiness::Failed { cause: "a step failed".to_owned() },
        503,
        json!({"status": "failed", "cause": "a step failed"}),
    )
    .await;
    check(Readiness::Stopping, 503, json!({"status": "shutting down", "cause": null})).await;
}

#[tokio::test]
async fn metrics_count_calls_and_nothing_of_the_callers_choosing() {
    let registry = Registry::new();
    let routes = Routes::new(vec![Lane::local(model("m"), Vec::new(), Fake::hello())]).expect("one name");
    let health = Health::new(Readiness::Ready);
    let state = AppState::new(routes, gate(Auth::Disabled), health, CallLimits::default(), &registry);
    let app = app(state.expect("a new registry"));
    ask(&app, post(COMPLETIONS, COMPLETION)).await;
    ask(&app, post(COMPLETIONS, r#"{"model": "made-up", "prompt": "a"}"#)).await;
    ask(&app, get("/made-up")).await;
    ask(&app, get("/v1/models/made-up")).await;
    let answer = ask(&metrics_app(registry), get("/metrics")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    for line in [
        "sconce_http_calls_in_flight 0",
        r#"sconce_http_calls_total{class="completion",outcome="finished"} 1"#,
        r#"sconce_http_calls_total{class="completion",outcome="failed"} 1"#,
        r#"sconce_http_responses_total{endpoint="/v1/completions",status="404"} 1"#,
        r#"sconce_http_responses_total{endpoint="other",status="404"} 1"#,
        r#"sconce_http_tokens_total{kind="prompt"} 5"#,
        r#"sconce_http_tokens_total{kind="completion"} 2"#,
        r#"sconce_http_first_text_seconds_count{class="completion"} 1"#,
    ] {
        assert!(answer.text.lines().any(|found| found == line), "{line} in\n{}", answer.text);
    }
    assert!(!answer.text.contains("made-up"));
}
