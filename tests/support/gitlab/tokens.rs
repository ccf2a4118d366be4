//! Tokens as GitLab signs them, and as nobody should. Made with jsonwebtoken, which the gateway does not use: a second
//! opinion on what a token is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

pub const INSTANCE_ID: &str = "5f3c1c2e-7a0b-4f0e-9a2f-2f6f1d9f1a11";
pub const USER_ID: &str = "u7Qk0mF3r1m0yq1a2H7m5l1nq0G6sX0b8b2v4w6x8y0=";

/// A key of `tests/auth/keys`.
pub struct TestKey {
    pub pem: &'static str,
    jwk: &'static str,
}

pub const GITLAB_1: TestKey = TestKey {
    pem: include_str!("../../auth/keys/gitlab-1.pem"),
    jwk: include_str!("../../auth/keys/gitlab-1.jwk.json"),
};
pub const GITLAB_2: TestKey = TestKey {
    pem: include_str!("../../auth/keys/gitlab-2.pem"),
    jwk: include_str!("../../auth/keys/gitlab-2.jwk.json"),
};
/// Published by nobody.
pub const STRANGER: TestKey = TestKey {
    pem: include_str!("../../auth/keys/stranger.pem"),
    jwk: include_str!("../../auth/keys/stranger.jwk.json"),
};
/// 1024 bits: can be published, and nothing here signs with it.
pub const SHORT: TestKey =
    TestKey { pem: include_str!("../../auth/keys/short.pem"), jwk: include_str!("../../auth/keys/short.jwk.json") };

impl TestKey {
    /// The entry of a key set.
    pub fn jwk(&self) -> Value {
        serde_json::from_str(self.jwk).expect("a JSON file")
    }

    pub fn id(&self) -> String {
        self.jwk()["kid"].as_str().expect("a thumbprint").to_owned()
    }

    /// The header of a token that GitLab signs with this key.
    pub fn header(&self) -> Value {
        json!({ "alg": "RS256", "typ": "JWT", "kid": self.id() })
    }
}

/// What GitLab says in a token for a self-hosted gateway, at `now_s`.
pub fn claims(now_s: u64) -> Value {
    json!({
        "iss": "https://gitlab.example.test",
        "aud": ["gitlab-ai-gateway", "gitlab-duo-workflow-service"],
        "sub": INSTANCE_ID,
        "gitlab_realm": "self-managed",
        "scopes": [
            "complete_code", "generate_code", "code_suggestions", "ai_gateway_model_provider_proxy", "duo_chat",
            "duo_classic_chat", "documentation_search", "explain_code", "write_tests", "refactor_code", "fix_code",
            "troubleshoot_job", "explain_vulnerability", "summarize_comments", "resolve_vulnerability",
            "generate_commit_message", "summarize_new_merge_request", "summarize_review", "review_merge_request",
            "glab_ask_git_command", "ask_issue", "ask_epic", "ask_merge_request", "ask_commit", "ask_build",
            "ask_work_item", "include_file_context", "include_snippet_context", "include_issue_context",
            "include_merge_request_context", "duo_agent_platform", "duo_workflow_execute_workflow",
            "self_hosted_models",
        ],
        "jti": "7c8f8a52-3f0a-4c0a-8f9e-1b1f0f3b6f00",
        "iat": now_s,
        "nbf": now_s - 5,
        "exp": now_s + 3600,
        "skip_usage_cutoff": false,
    })
}

/// The same with some claims replaced or added.
pub fn claims_with(now_s: u64, overrides: Value) -> Value {
    merged(claims(now_s), overrides)
}

pub fn merged(mut base: Value, overrides: Value) -> Value {
    let Value::Object(overrides) = overrides else { panic!("overrides are an object") };
    base.as_object_mut().expect("an object").extend(overrides);
    base
}

/// Signed by `key` with RS256, whatever the header says.
pub fn signed(header: &Value, claims: &Value, key: &TestKey) -> String {
    signed_text(&header.to_string(), &claims.to_string(), key)
}

/// The same for texts that no JSON writer would write.
pub fn signed_text(header: &str, claims: &str, key: &TestKey) -> String {
    let message = message(header, claims);
    let key = EncodingKey::from_rsa_pem(key.pem.as_bytes()).expect("an RSA key");
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::RS256).expect("signed");
    format!("{message}.{signature}")
}

/// Signed with HS256, `secret` being what an attacker takes for one.
pub fn signed_hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = message(&header.to_string(), &claims.to_string());
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("signed");
    format!("{message}.{signature}")
}

/// With nothing behind the second dot.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", message(&header.to_string(), &claims.to_string()))
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// The claims of a token that was signed with the public key in `public_pem`. Panics if it was not.
pub fn verified_claims(token: &str, public_pem: &str, audience: &str) -> Value {
    let key = jsonwebtoken::DecodingKey::from_rsa_pem(public_pem.as_bytes()).expect("a public key");
    let mut validation = jsonwebtoken::Validation::new(Algorithm::RS256);
    validation.set_audience(&[audience]);
    validation.validate_exp = false;
    jsonwebtoken::decode::<Value>(token, &key, &validation).expect("a good token").claims
}
