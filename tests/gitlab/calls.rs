//! Calls as GitLab makes them.

use crate::support::gateway::{Gateway, client};
use crate::support::gitlab::tokens::{INSTANCE_ID, USER_ID};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What came back, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.body))
    }
}

pub async fn ask(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("the gateway answers");
    let status = response.status().as_u16();
    let text = |value: &reqwest::header::HeaderValue| value.to_str().expect("visible ASCII").to_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    Answer { status, headers, body: response.text().await.expect("the answer is complete") }
}

pub fn get(gateway: &Gateway, path: &str) -> RequestBuilder {
    with_token(gateway, client().get(gateway.url(path)))
}

pub fn post(gateway: &Gateway, path: &str, body: &Value) -> RequestBuilder {
    let request = client().post(gateway.url(path)).header("content-type", "application/json");
    with_token(gateway, request).body(body.to_string())
}

fn with_token(gateway: &Gateway, request: RequestBuilder) -> RequestBuilder {
    token_headers(gateway).into_iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// The headers that say who calls.
pub fn token_headers(gateway: &Gateway) -> Vec<(&'static str, String)> {
    vec![
        ("authorization", format!("Bearer {}", gateway.gitlab.token())),
        ("x-gitlab-authentication-type", "oidc".to_owned()),
        ("x-gitlab-realm", "self-managed".to_owned()),
        ("x-gitlab-instance-id", INSTANCE_ID.to_owned()),
        ("x-gitlab-global-user-id", USER_ID.to_owned()),
        ("x-gitlab-version", "18.9.0".to_owned()),
    ]
}

/// A completion in a Python file.
pub fn completion(is_streamed: bool) -> Value {
    json!({
        "project_path": "demo/app",
        "current_file": {
            "file_name": "src/area.py",
            "language_identifier": "python",
            "content_above_cursor": "def area(radius):\n    return ",
            "content_below_cursor": "\n\nprint(area(2))\n",
        },
        "stream": is_streamed,
        "model_provider": "litellm",
        "model_name": "codestral",
        "prompt_version": 2,
        "prompt": null,
    })
}

/// A question about code.
pub fn prompt(is_streamed: bool) -> Value {
    json!({
        "stream": is_streamed,
        "inputs": {"input": "Explain it.", "selected_text": "puts 1", "file_content": "", "language_info": ""},
        "prompt_version": "^1.0.0",
    })
}
