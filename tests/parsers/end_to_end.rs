//! Every feature of Duo as GitLab calls it, over a socket, with the model inside the binary behind it: small models write
//! much nonsense, and GitLab's parsers have to accept what comes of it.

use super::support::gateway::{Gateway, Options, client};
use super::support::gitlab::tokens::{INSTANCE_ID, USER_ID};
use super::{documentation, identifier, resolver, review};
use kernels::Pool;
use sconce::catalog::Catalog;
use sconce::device::Device;
use sconce::engine::{Engine, EngineSettings, KvMemory, LoadOptions, Source, load, plan};
use sconce::feature::prompts::all;
use sconce::nn::Quantise;
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

fn embedded() -> Engine {
    let options = LoadOptions {
        name: "sconce".to_owned(),
        quantise: Quantise::None,
        context_tokens: None,
        kv_memory: KvMemory::AtMost(64 << 20),
        card: None,
        settings: EngineSettings {
            step_tokens_max: 512,
            prefill_chunk_max: 256,
            running_max: 16,
            waiting_max: 64,
            is_batch_invariant: true,
            speculates: true,
            chat_share: 0.25,
            promote_after: Duration::from_secs(2),
            completion_deadline: Duration::from_secs(600),
            chat_deadline: Duration::from_secs(600),
        },
    };
    let device = Device::Cpu(Arc::new(Pool::new(NonZeroUsize::new(2).expect("above 0"))));
    let plan = plan(&Source::Embedded, options, &device).expect("the embedded model");
    let catalog = Catalog::load(None).expect("embedded cards");
    load(plan, &catalog, &prometheus::Registry::new(), &mut |_| {}).expect("loads")
}

async fn ask(gateway: &Gateway, path: &str, body: &Value) -> String {
    let request = client()
        .post(gateway.url(path))
        .bearer_auth(gateway.gitlab.token_with(json!({"scopes": scopes()})))
        .header("content-type", "application/json")
        .header("x-gitlab-authentication-type", "oidc")
        .header("x-gitlab-realm", "self-managed")
        .header("x-gitlab-instance-id", INSTANCE_ID)
        .header("x-gitlab-global-user-id", USER_ID)
        .header("x-gitlab-version", "18.9.0")
        .body(body.to_string());
    let response = request.send().await.expect("the gateway answers");
    let status = response.status();
    let text = response.text().await.expect("the answer is complete");
    assert_eq!(status, 200, "{path}: {text}");
    text
}

/// Every unit primitive there is.
fn scopes() -> Vec<&'static str> {
    let of_prompts = all().iter().flat_map(|card| card.unit_primitives.iter().map(String::as_str));
    ["complete_code", "generate_code", "duo_chat", "duo_classic_chat"].into_iter().chain(of_prompts).collect()
}

/// What GitLab sends as the model of a feature.
fn model() -> Value {
    json!({
        "provider": "openai", "name": "general", "endpoint": "http://127.0.0.1:5052/v1", "api_key": null,
        "identifier": "custom_openai/sconce"
    })
}

/// The answer of a prompt, whole and streamed.
async fn prompt(gateway: &Gateway, id: &str, inputs: &Value) -> [String; 2] {
    let mut body = json!({"inputs": inputs, "stream": false, "prompt_version": "^1.0.0", "model_metadata": model()});
    let whole = ask(gateway, &format!("/v1/prompts/{id}"), &body).await;
    body["stream"] = json!(true);
    let streamed = ask(gateway, &format!("/v1/prompts/{id}"), &body).await;
    [serde_json::from_str(&whole).expect("a bare JSON string"), streamed]
}

fn code() -> Value {
    json!({
        "input": "Explain the code.", "selected_text": "def total(xs):\n    return sum(xs)\n", "file_content": "",
        "language_info": "The code is Python, stored as a.py", "libraries": [], "file_content_reuse": ""
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_feature_gives_gitlab_what_it_parses() {
    let engine = embedded();
    let mut info = engine.info().clone();
    info.name = "sconce".to_owned();
    let options = Options { models: vec!["sconce"], info: Some(info), ..Options::default() };
    let gateway = Gateway::start(engine.handle(), options).await;

    for id in ["chat/explain_code", "chat/write_tests", "chat/refactor_code", "chat/fix_code", "chat/troubleshoot_job"]
    {
        prompt(&gateway, id, &code()).await;
    }
    let vulnerability = json!({
        "title": "SQL injection", "identifiers": "CWE-89", "vulnerability_info": "", "vulnerability_description": null,
        "language_info": "", "selected_text": "run(q)", "file_content": ""
    });
    prompt(&gateway, "chat/explain_vulnerability", &vulnerability).await;
    let notes = json!({"notes_content": "<comment>ok</comment>", "input": "", "selected_text": ""});
    prompt(&gateway, "chat/summarize_comments", &notes).await;
    for [whole, streamed] in [
        prompt(&gateway, "chat/issue_reader", &json!({"input": "What is demo/app#12 about?", "suggestions": ""})).await,
        prompt(
            &gateway,
            "chat/epic_reader",
            &json!({"input": "Summarise the epic that 3 people like", "suggestions": "x 4"}),
        )
        .await,
        prompt(&gateway, "chat/build_reader", &json!({"input": "why did this fail", "suggestions": ""})).await,
    ] {
        for answer in [whole, streamed] {
            identifier::parse(&answer).unwrap_or_else(|problem| panic!("{problem}: {answer}"));
        }
    }
    for answer in prompt(&gateway, "chat/documentation_search", &documentation::inputs()).await {
        documentation::parse(&answer, &[]);
        assert!(!answer.trim().is_empty());
    }
    let inputs = review::inputs();
    for answer in prompt(&gateway, "review_merge_request", &inputs).await {
        let diff = inputs["diff_lines"].as_str().expect("text");
        review::parse(&answer, diff).unwrap_or_else(|problem| panic!("{problem}: {answer}"));
    }
    for answer in prompt(&gateway, "resolve_vulnerability", &resolver::inputs()).await {
        resolver::parse(&answer).unwrap_or_else(|problem| panic!("{problem}: {answer}"));
    }
    let diff = "diff --git a/a.rb b/a.rb\n--- a/a.rb\n+++ b/a.rb\n@@ -1 +1 @@\n-a\n+b";
    for (id, inputs) in [
        ("generate_commit_message", json!({"diff": diff})),
        ("summarize_new_merge_request", json!({"extracted_diff": diff})),
        ("summarize_review", json!({"draft_notes_content": "Comment: rename it"})),
    ] {
        for answer in prompt(&gateway, id, &inputs).await {
            assert!(!answer.trim().is_empty() && !answer.starts_with("```"), "{id}: {answer}");
        }
    }
    for answer in prompt(&gateway, "model_configuration%2Fcheck", &json!({})).await {
        assert!(!answer.trim().is_empty(), "any text is a sign of life");
    }
    prompt(&gateway, "glab_ask_git_command", &json!({"prompt": "undo last commit"})).await;
    prompt(&gateway, "generate_description", &json!({"content": "Login fails", "template": null})).await;
    for answer in prompt(&gateway, "categorize_question", &json!({"question": "How?", "previous_answer": null})).await {
        let category: Value = serde_json::from_str(&answer).expect("a JSON object");
        assert!(category["labels"].is_array() && category["language"].as_str().is_some_and(|code| code.len() == 2));
    }
    chat(&gateway).await;
    suggestions(&gateway).await;
    drop(gateway);
    engine.stop();
}

async fn chat(gateway: &Gateway) {
    let step =
        json!({"action": {"thought": "t", "tool": "issue_reader", "tool_input": "12"}, "observation": "title: x"});
    for messages in [
        json!([{"role": "user", "content": "Hi"}]),
        json!([{"role": "user", "content": "What is issue 12 about?", "context": {"type": "issue", "title": "Login"}},
               {"role": "assistant", "agent_scratchpad": [step]}]),
    ] {
        let answer = ask(gateway, "/v2/chat/agent", &json!({"messages": messages, "model_metadata": model()})).await;
        assert!(answer.ends_with('\n'));
        let kinds: Vec<String> = answer
            .lines()
            .map(|line| {
                let event: Value = serde_json::from_str(line).expect("a line is an object");
                event["type"].as_str().expect("of a type").to_owned()
            })
            .collect();
        let is_answer = kinds.iter().all(|kind| kind == "final_answer_delta");
        assert!(is_answer || kinds == ["action"] || kinds == ["unknown"], "{answer}");
    }
    let payload = json!({"content": [{"role": "user", "content": "Say hi"}], "provider": "litellm", "model": "general",
        "model_identifier": "custom_openai/sconce", "params": {"max_tokens_to_sample": 16}});
    let body = json!({"prompt_components": [{"type": "prompt", "metadata": {"source": "s", "version": "1"}, "payload": payload}]});
    let answer: Value = serde_json::from_str(&ask(gateway, "/v1/chat/agent", &body).await).expect("an object");
    assert!(answer["response"].is_string() && answer["metadata"]["model"] == "general");
}

async fn suggestions(gateway: &Gateway) {
    let file = json!({
        "file_name": "total.py", "language_identifier": "python",
        "content_above_cursor": "def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return ",
        "content_below_cursor": "\n\nprint(total([1, 2, 3]))\n"
    });
    let body = json!({"current_file": file, "prompt_version": 2, "model_provider": "litellm", "model_name": "general",
        "model_identifier": "custom_openai/sconce", "stream": false});
    let answer: Value = serde_json::from_str(&ask(gateway, "/v2/code/completions", &body).await).expect("an object");
    assert_eq!(answer["model"]["name"], "general");
    assert!(answer["choices"][0]["text"].as_str().is_some_and(|text| text.starts_with("result")), "{answer}");
    let mut payload = file.clone();
    payload["stream"] = json!(true);
    payload["prompt_id"] = json!("code_suggestions/generations");
    payload["prompt_version"] = json!("^1.0.0");
    let body = json!({"prompt_components": [{"type": "code_editor_generation", "payload": payload}], "model_metadata": model()});
    let answer = ask(gateway, "/v4/code/suggestions", &body).await;
    assert!(answer.starts_with("event: stream_start\r\ndata: {\"metadata\""), "{answer}");
    assert!(answer.ends_with("event: stream_end\r\ndata: null\r\n\r\n"), "{answer}");
}
