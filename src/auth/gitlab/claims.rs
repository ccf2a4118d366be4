//! The claims of a token, each of the one type it may have. A claim of another type is refused, never converted: a
//! lenient reading of `exp` has let tokens live for ever elsewhere.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far the clocks of GitLab and this host may be apart.
pub(super) const LEEWAY_S: u64 = 30;

/// What a token says. An absent text is an empty one: the contract treats both alike.
#[derive(Clone)]
pub(super) struct Claims {
    pub(super) issuer: Arc<str>,
    pub(super) audience: Vec<String>,
    pub(super) subject: String,
    pub(super) realm: Arc<str>,
    pub(super) instance_id: String,
    pub(super) duo_seat_count: String,
    pub(super) scopes: Arc<BTreeSet<String>>,
    pub(super) issued_at_s: Option<u64>,
    pub(super) not_before_s: Option<u64>,
    pub(super) expires_at_s: Option<u64>,
    /// Carried over into user access tokens as they are.
    pub(super) passed_on: PassedOn,
}

/// Claims that a user access token repeats.
#[derive(Clone, Default)]
pub(super) struct PassedOn {
    pub(super) instance_uid: Option<String>,
    pub(super) project_id: Option<String>,
    pub(super) namespace_id: Option<String>,
    pub(super) root_namespace_id: Option<String>,
}

/// Every claim that is looked at, before its type is. Absent and `null` are told apart.
#[derive(Deserialize)]
pub(super) struct RawClaims {
    #[serde(default, deserialize_with = "present")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    sub: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    scopes: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    gitlab_realm: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    gitlab_instance_id: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    duo_seat_count: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    gitlab_instance_uid: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    gitlab_project_id: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    gitlab_namespace_id: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    gitlab_root_namespace_id: Option<Value>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What is wrong with a claim. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimProblem {
    #[error("the claim `{claim}` has to be {expected}, found {found}")]
    Type { claim: &'static str, expected: &'static str, found: &'static str },
    #[error(
        "the token expired {ago_s} s ago, {LEEWAY_S} s are forgiven; if GitLab has only just issued it, the clocks of GitLab and this host differ (clock skew)"
    )]
    Expired { ago_s: u64 },
    #[error(
        "the token becomes valid in {in_s} s, {LEEWAY_S} s are forgiven: the clocks of GitLab and this host differ (clock skew)"
    )]
    NotYetValid { in_s: u64 },
    #[error("the token is for {found}, not for {expected:?}")]
    Audience { found: String, expected: String },
}

impl Claims {
    pub(super) fn read(raw: RawClaims) -> Result<Self, ClaimProblem> {
        Ok(Self {
            issuer: text("iss", raw.iss)?.into(),
            audience: audience(raw.aud)?,
            subject: text("sub", raw.sub)?,
            realm: text("gitlab_realm", raw.gitlab_realm)?.into(),
            instance_id: text_or_number("gitlab_instance_id", raw.gitlab_instance_id)?.unwrap_or_default(),
            duo_seat_count: text_or_number("duo_seat_count", raw.duo_seat_count)?.unwrap_or_default(),
            scopes: Arc::new(scopes(raw.scopes)?),
            issued_at_s: time("iat", raw.iat)?,
            not_before_s: time("nbf", raw.nbf)?,
            expires_at_s: time("exp", raw.exp)?,
            passed_on: PassedOn {
                instance_uid: text_or_number("gitlab_instance_uid", raw.gitlab_instance_uid)?,
                project_id: text_or_number("gitlab_project_id", raw.gitlab_project_id)?,
                namespace_id: text_or_number("gitlab_namespace_id", raw.gitlab_namespace_id)?,
                root_namespace_id: text_or_number("gitlab_root_namespace_id", raw.gitlab_root_namespace_id)?,
            },
        })
    }

    pub(super) fn check_audience(&self, service: &str) -> Result<(), ClaimProblem> {
        if self.audience.iter().any(|audience| audience == service) {
            return Ok(());
        }
        let found: Vec<String> = self.audience.iter().take(8).map(|audience| quoted(audience)).collect();
        let found = if found.is_empty() { "nobody".to_owned() } else { found.join(", ") };
        Err(ClaimProblem::Audience { found, expected: service.to_owned() })
    }

    /// `exp` and `nbf` are held to where they are present, as the contract has it.
    pub(super) fn check_times(&self, now_s: u64) -> Result<(), ClaimProblem> {
        if let Some(expires_at_s) = self.expires_at_s
            && now_s >= expires_at_s.saturating_add(LEEWAY_S)
        {
            return Err(ClaimProblem::Expired { ago_s: now_s - expires_at_s });
        }
        if let Some(not_before_s) = self.not_before_s
            && not_before_s > now_s.saturating_add(LEEWAY_S)
        {
            return Err(ClaimProblem::NotYetValid { in_s: not_before_s - now_s });
        }
        Ok(())
    }
}

/// A word of the caller's, safe to log: short and without control characters.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{cut}")
}

fn text(claim: &'static str, value: Option<Value>) -> Result<String, ClaimProblem> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(claim, "a text", &other)),
    }
}

/// Ids and counts are texts in some versions of GitLab and integers in others.
fn text_or_number(claim: &'static str, value: Option<Value>) -> Result<Option<String>, ClaimProblem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(Some(number.to_string())),
        Some(other) => Err(wrong_type(claim, "a text or an integer", &other)),
    }
}

fn audience(value: Option<Value>) -> Result<Vec<String>, ClaimProblem> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(audience)) => Ok(vec![audience]),
        Some(Value::Array(values)) => values.into_iter().map(|value| text_in("aud", value)).collect(),
        Some(other) => Err(wrong_type("aud", "a text or a list of texts", &other)),
    }
}

fn scopes(value: Option<Value>) -> Result<BTreeSet<String>, ClaimProblem> {
    match value {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::Array(values)) => values.into_iter().map(|value| text_in("scopes", value)).collect(),
        Some(other) => Err(wrong_type("scopes", "a list of texts", &other)),
    }
}

fn text_in(claim: &'static str, value: Value) -> Result<String, ClaimProblem> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(claim, "a list of texts", &other)),
    }
}

/// An integer that is not negative. `1.0`, `"1"` and `null` are not.
fn time(claim: &'static str, value: Option<Value>) -> Result<Option<u64>, ClaimProblem> {
    let Some(value) = value else { return Ok(None) };
    match value.as_u64() {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(wrong_type(claim, "an integer that is not negative", &value)),
    }
}

fn wrong_type(claim: &'static str, expected: &'static str, found: &Value) -> ClaimProblem {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_u64() => "an integer",
        Value::Number(number) if number.is_i64() => "a negative integer",
        Value::Number(_) => "a number that is no integer, or too large",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    ClaimProblem::Type { claim, expected, found }
}
