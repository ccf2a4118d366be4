//! Recorded exchanges with the reference gateway, replayed over a socket. A case that supposes a state of the model, such
//! as busy or failed, finds that state by its name in [`script`].

use crate::calls::{self, Answer};
use crate::shape::differences;
use crate::support::gateway::{Gateway, Options, client};
use crate::support::gitlab::now_s;
use crate::support::gitlab::tokens::{INSTANCE_ID, USER_ID, claims, signed_hs256, unsigned};
use crate::support::{Fake, finished, started, text};
use reqwest::Method;
use sconce::domain::GenerateError;
use sconce::http::Readiness;
use sconce::search::{BASE_URL, ImportOptions, Index, import};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Cases that a replacement cannot reach: it makes itself a key to sign with.
const OUT_OF_REACH: &[&str] = &["no signing key"];

/// What the model says in a case.
fn script(case: &str) -> Arc<Fake> {
    let says = |words: &[&str]| {
        let mut said = vec![started(31, 0)];
        said.extend(words.iter().map(|word| text(word)));
        said.push(finished(31, 0, 9));
        Fake::saying(said)
    };
    match case {
        "empty suggestion" | "empty generation" => says(&["  \n"]),
        "model failed" => Fake::failing(GenerateError::StepFailed { reason: "it broke".to_owned() }),
        "model busy" | "overloaded" => Fake::failing(GenerateError::QueueFull {
            waiting: 256,
            waiting_max: 256,
            retry_after: Duration::from_secs(2),
        }),
        "context window exceeded" => Fake::failing(GenerateError::PromptTooLong {
            model: "example-7b-instruct".to_owned(),
            prompt_tokens: 140_000,
            max_tokens: 0,
            context_tokens: 128_000,
        }),
        "final answer" | "second step with scratchpad" | "17.8 style context" => {
            says(&[" I can say that.\nFinal", " Answer: Hello", "! How can I help?"])
        }
        "tool call" => says(&[" I need the issue\nAction: issue_reader\nAction", " Input: issue 12"]),
        "plain text from the model" => says(&["It is about login."]),
        "resource identification" => says(&["I have no idea"]),
        "documentation answer" => says(&["Select **Fork** on the project page.\n\nATTRS:\nCNT-IDX-0a1b2c3d\n"]),
        "code review" => says(&[
            "<comment file=\"a.rb\" old_line=\"\" new_line=\"3\">\nAdding to nil raises NoMethodError.\n",
            "<from>\n  x = nil + 1\n</from>\n<to>\n  x = 1\n</to>\n</comment>\n</review>",
        ]),
        "prompt_version null" => says(&["Undo it and keep the changes:\n\n```\ngit reset --soft HEAD~1\n```"]),
        "v3 generation" | "v4 generation, not streamed" => {
            says(&["```python\ndef area(radius):\n", "    return 3.14159 * radius ** 2\n```"])
        }
        "v4 generation, streamed: SSE" | "v3 generation, streamed: raw text" => {
            says(&["def area(radius):\n", "    return 3.14159 * radius ** 2\n"])
        }
        _ => says(&["3.14159 ", "* radius"]),
    }
}

/// One page of documentation, imported as an administrator would.
fn docs(folder: &Path) -> Index {
    let tree = folder.join("doc/user");
    std::fs::create_dir_all(&tree).expect("a writable folder");
    let page = "---\ntitle: Forks\n---\n\n# Forks\n\nTo fork a project, select **Fork** on its page.\n";
    std::fs::write(tree.join("forks.md"), page).expect("a writable folder");
    let path = folder.join("docs.sqlite");
    let options = ImportOptions { folder: folder.join("doc"), base_url: BASE_URL.to_owned() };
    import(&path, &options, &mut |_| {}).expect("a small tree");
    Index::open(path)
}

/// What a case says and cannot mean: its file is called LICENSE, and its answer is the one of a Python file.
const SLIPS: &[(&str, &str)] = &[("no language can be found", "$.model.lang")];

async fn replay(file: &str, golden: &str) {
    let golden: Value = serde_json::from_str(golden).expect("a golden file is JSON");
    let cases = golden["cases"].as_array().expect("a golden file has cases");
    let mut failures = Vec::new();
    for case in cases {
        let name = case["name"].as_str().expect("a case has a name");
        if OUT_OF_REACH.contains(&name) {
            continue;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Options {
            models: vec!["example-coder", "example-7b-instruct"],
            docs: Some(docs(folder.path())),
            ..Options::default()
        };
        let gateway = Gateway::start(script(name), options).await;
        if name == "not ready" {
            gateway.health.set(Readiness::Starting { cause: "loading".to_owned() });
        }
        let answer = ask(&gateway, &case["request"]).await;
        let mut found = check(&case["response"], &answer);
        found.retain(|what| !SLIPS.iter().any(|(case, slip)| *case == name && what.starts_with(slip)));
        failures.extend(found.into_iter().map(|what| format!("{file}: {name}: {what}\n    {}", answer.body)));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

async fn ask(gateway: &Gateway, request: &Value) -> Answer {
    let method = Method::from_bytes(request["method"].as_str().expect("a method").as_bytes()).expect("a method");
    let path = request["path"].as_str().expect("a path");
    let url = match path.strip_prefix("http://host:8082") {
        Some(path) => gateway.metrics_url(path),
        None => gateway.url(path),
    };
    let mut builder = client().request(method, url);
    let no_headers = Map::new();
    for (name, value) in request["headers"].as_object().unwrap_or(&no_headers) {
        let value = fill_in(gateway, value.as_str().expect("header values are text")).await;
        builder = builder.header(name, value);
    }
    match &request["body"] {
        Value::Null => {}
        Value::String(text) => builder = builder.body(text.clone()),
        body => builder = builder.body(body.to_string()),
    }
    calls::ask(builder).await
}

/// Puts tokens in place of `${…}`.
async fn fill_in(gateway: &Gateway, value: &str) -> String {
    let Some((before, rest)) = value.split_once("${") else { return value.to_owned() };
    let (name, after) = rest.split_once('}').expect("a placeholder is closed");
    let token = match name.split_once(' ') {
        None if name == "SELF_ISSUED_JWT" => gateway.gitlab.token(),
        None if name == "USER_ACCESS_JWT" => user_access_token(gateway).await,
        None if name == "MODEL_KEY" => "model-key".to_owned(),
        Some(("JWT", "alg=HS256")) => hs256(gateway),
        Some(("JWT", "alg=none")) => without_signature(gateway),
        Some(("JWT", change)) => {
            let (claim, value) = change.split_once('=').expect("a change is claim=value");
            gateway.gitlab.token_with(json!({ claim: claim_value(value) }))
        }
        _ => panic!("unknown placeholder {name}"),
    };
    format!("{before}{token}{after}")
}

/// A token that the gateway made for an IDE.
async fn user_access_token(gateway: &Gateway) -> String {
    let response = client()
        .post(gateway.url("/v1/code/user_access_token"))
        .header("authorization", format!("Bearer {}", gateway.gitlab.token()))
        .header("x-gitlab-authentication-type", "oidc")
        .header("x-gitlab-realm", "self-managed")
        .header("x-gitlab-instance-id", INSTANCE_ID)
        .header("x-gitlab-global-user-id", USER_ID)
        .send()
        .await
        .expect("the gateway answers");
    let body: Value = serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
    body["token"].as_str().unwrap_or_else(|| panic!("a token in {body}")).to_owned()
}

/// Signed with the public key as if it were a secret.
fn hs256(gateway: &Gateway) -> String {
    let key = gateway.gitlab.signing_key();
    signed_hs256(&json!({"alg": "HS256", "typ": "JWT", "kid": key.id()}), &claims(now_s()), key.pem.as_bytes())
}

fn without_signature(gateway: &Gateway) -> String {
    let id = gateway.gitlab.signing_key().id();
    unsigned(&json!({"alg": "none", "typ": "JWT", "kid": id}), &claims(now_s()))
}

fn claim_value(text: &str) -> Value {
    let now = now_s();
    match text.strip_prefix("NOW") {
        Some(offset) => json!(now.checked_add_signed(offset.parse().expect("a number of seconds"))),
        None => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    }
}

fn check(expected: &Value, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if expected["status"].is_number() && expected["status"] != json!(answer.status) {
        found.push(format!("expected status {}, found {}", expected["status"], answer.status));
    }
    for (name, value) in expected["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().expect("header values are text");
        match answer.headers.get(name) {
            Some(sent) if fits_header(value, sent) => {}
            sent => found.push(format!("expected header {name}: {value}, found {sent:?}")),
        }
    }
    if let Some(exact) = expected["body_exact"].as_str()
        && exact != answer.body
    {
        found.push(format!("expected exactly {exact}"));
    }
    match &expected["body_shape"] {
        Value::Null => {}
        shape => match serde_json::from_str(&answer.body) {
            Ok(body) => found.extend(differences(shape, &body)),
            Err(error) => found.push(format!("the body is not JSON: {error}")),
        },
    }
    if let Some(example) = expected["body_text_example"].as_str() {
        found.extend(check_text(example, &answer.body));
    }
    if expected["body_text_shape"].is_string() && (answer.body.is_empty() || answer.body.starts_with("data:")) {
        found.push("expected raw text".to_owned());
    }
    if let Some(decoded) = expected["decoded_example"].as_str() {
        let text: String = serde_json::from_str(&answer.body).unwrap_or_default();
        let first_tag = decoded.lines().next().expect("an example has lines");
        if !text.starts_with(first_tag) {
            found.push(format!("expected text that begins with {first_tag}, found {text:?}"));
        }
    }
    if let Some(events) = expected["sse_events"].as_array() {
        found.extend(check_events(events, &answer.body));
    }
    if let Some(lines) = expected["lines_shape"].as_array() {
        for (shape, line) in lines.iter().zip(answer.body.lines()) {
            found.extend(differences(shape, &serde_json::from_str(line).unwrap_or_default()));
        }
    }
    found
}

fn fits_header(expected: &str, sent: &str) -> bool {
    match expected {
        "<number text>" | "<seconds>" => sent.parse::<f64>().is_ok(),
        _ if expected.ends_with('…') => sent.starts_with(expected.trim_end_matches('…')),
        _ => sent == expected,
    }
}

/// An example shows the framing. Lines of JSON have to have the same types and keys, in the same order; other text only
/// has to be there.
fn check_text(example: &str, body: &str) -> Vec<String> {
    let is_lines = example.starts_with("{\"type\"") || example.starts_with("{\"content\"");
    if !is_lines {
        return if body.is_empty() { vec!["expected some text".to_owned()] } else { Vec::new() };
    }
    let mut found = Vec::new();
    if !body.ends_with('\n') {
        found.push("the last line does not end".to_owned());
    }
    let key_order = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (first, example) = (body.lines().next().unwrap_or_default(), example.lines().next().expect("an example"));
    let (keys, expected) = (key_order(first), key_order(example));
    if keys.first() != expected.first() || keys.get(1) != expected.get(1) && first.starts_with("{\"type\"") {
        found.push(format!("expected a line like {example}"));
    }
    let parsed: Value = serde_json::from_str(first).unwrap_or_default();
    let model: Value = serde_json::from_str(example).expect("an example is JSON");
    let names = |value: &Value| value.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    if names(&parsed) != names(&model) || names(&parsed["data"]) != names(&model["data"]) {
        found.push(format!("expected the keys of {example}"));
    }
    if model["data"]["retryable"] != parsed["data"]["retryable"] {
        found.push(format!("expected retryable as in {example}"));
    }
    found
}

fn check_events(expected: &[Value], body: &str) -> Vec<String> {
    let mut found = Vec::new();
    let events: Vec<(String, Value)> = body
        .split_terminator("\r\n\r\n")
        .map(|event| {
            let (name, data) = event.split_once("\r\n").expect("an event has two lines");
            let name = name.strip_prefix("event: ").expect("the name comes first").to_owned();
            let data = data.strip_prefix("data: ").expect("then its data");
            (name, serde_json::from_str(data).expect("data is JSON"))
        })
        .collect();
    let names = |events: &[&str]| {
        events.iter().fold(Vec::new(), |mut names: Vec<String>, name| {
            if names.last().is_none_or(|last| last != name) {
                names.push((*name).to_owned());
            }
            names
        })
    };
    let expected_names: Vec<&str> = expected.iter().filter_map(|event| event["event"].as_str()).collect();
    let found_names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    if names(&expected_names) != names(&found_names) {
        found.push(format!("expected the events {expected_names:?}, found {found_names:?}"));
    }
    for (name, data) in &events {
        let shape = expected.iter().find(|event| event["event"] == json!(name)).map(|event| &event["data"]);
        // What is written differs, how it is written does not.
        if let Some(shape) = shape.filter(|_| name != "content_chunk") {
            found.extend(differences(shape, data));
        }
        if name == "content_chunk" && !data["choices"][0]["delta"]["content"].is_string() {
            found.push(format!("a chunk without content: {data}"));
        }
    }
    found
}

macro_rules! goldens {
    ($($name:ident: $file:literal;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                replay($file, include_str!(concat!("golden/", $file, ".json"))).await;
            }
        )*
    };
}

goldens! {
    authentication: "auth";
    legacy_chat: "chat-v1-legacy";
    chat_agent: "chat-v2-agent";
    code_completions: "code-completions-v2";
    code_suggestions: "code-suggestions-v3-v4";
    monitoring: "monitoring";
    prompts: "prompts";
    documentation_search: "search-docs";
    own_tokens: "user-access-token";
}
