//! Looks at a token for whoever holds it: what it says, and what each check makes of it. Trusts nothing, and shows
//! neither the token nor its signature.

use super::claims::{Claims, quoted};
use super::ring::KeyRing;
use super::token::{ALGORITHM, Token, TokenProblem};
use serde::Serialize;

/// Everything there is to say about a token.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the gateway would take the token, if the headers agree with it.
    pub is_accepted: bool,
    /// In the order the gateway makes them.
    pub checks: Vec<Check>,
    /// Nothing if the text is no token.
    pub contents: Option<Contents>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// Empty where nothing is to be done.
    pub next_step: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What the token says of itself, believed or not. Times are seconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct Contents {
    pub algorithm: String,
    pub key_id: Option<String>,
    pub issuer: String,
    pub audience: Vec<String>,
    pub subject: String,
    pub realm: String,
    pub issued_at_s: Option<u64>,
    pub not_before_s: Option<u64>,
    pub expires_at_s: Option<u64>,
    pub scopes: Vec<String>,
}

/// Makes every check that needs no headers.
pub(super) fn inspect(text: &str, ring: &KeyRing, service: &str, now_s: u64) -> Report {
    let text = text.trim();
    let text = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    let token = match Token::parse(text) {
        Ok(token) => token,
        Err(problem) => {
            let check = fail("form", problem.to_string(), form_next_step(&problem));
            return Report { is_accepted: false, checks: vec![check], contents: None };
        }
    };
    let claims = &token.claims;
    let checks = vec![
        ok("form", format!("{} bytes, three parts", text.len())),
        algorithm(&token),
        signature(&token, ring),
        audience(claims, service),
        times(claims, now_s),
        scopes(claims),
        headers(claims, service),
    ];
    let is_accepted = checks.iter().all(|check| check.verdict != Verdict::Fail);
    Report { is_accepted, checks, contents: Some(contents(&token)) }
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Ok, found: found.into(), next_step: String::new() }
}

fn warn(name: &'static str, found: &str, next_step: &str) -> Check {
    Check { name, verdict: Verdict::Warn, found: found.to_owned(), next_step: next_step.to_owned() }
}

fn fail(name: &'static str, found: impl Into<String>, next_step: &str) -> Check {
    Check { name, verdict: Verdict::Fail, found: found.into(), next_step: next_step.to_owned() }
}

fn form_next_step(problem: &TokenProblem) -> &'static str {
    match problem {
        TokenProblem::Empty => {
            "set the feature to a self-hosted model in GitLab's admin area, so that GitLab signs its own tokens"
        }
        TokenProblem::Claim(_) => "a token of GitLab does not look like this: ask where it comes from",
        TokenProblem::TooLong { .. }
        | TokenProblem::Parts { .. }
        | TokenProblem::Encoding { .. }
        | TokenProblem::Json { .. }
        | TokenProblem::Header { .. }
        | TokenProblem::KeyIdTooLong { .. }
        | TokenProblem::Critical => "copy the whole token, from behind `Bearer ` to the end of the line",
    }
}

fn algorithm(token: &Token<'_>) -> Check {
    match token.algorithm.as_str() {
        ALGORITHM => ok("algorithm", ALGORITHM),
        other => {
            let found = format!("{}, only {ALGORITHM} is accepted", quoted(other));
            fail("algorithm", found, "GitLab signs with RS256: this token is somebody else's")
        }
    }
}

fn signature(token: &Token<'_>, ring: &KeyRing) -> Check {
    let id = token.key_id.as_deref();
    let named = id.map_or("no key id".to_owned(), |id| format!("key id {}", quoted(id)));
    if token.algorithm == ALGORITHM && ring.signer_of(token).is_some() {
        return ok("signature", format!("valid, {named}"));
    }
    if !ring.has_issuer_keys() {
        let next_step = "set gitlab.url (AIGW_GITLAB_URL), and see with `sconce doctor` why no key could be fetched";
        return fail("signature", "no key of GitLab is known", next_step);
    }
    if ring.candidates(id).is_empty() {
        let next_step = "the token comes from another GitLab than gitlab.url, or its keys were replaced since";
        return fail("signature", format!("{named} is unknown"), next_step);
    }
    fail("signature", format!("not valid, {named}"), "the token was changed on the way, or forged")
}

fn audience(claims: &Claims, service: &str) -> Check {
    match claims.check_audience(service) {
        Ok(()) => ok("audience", service),
        Err(problem) => {
            fail("audience", problem.to_string(), "the token is meant for another service, or gitlab.audience is wrong")
        }
    }
}

fn times(claims: &Claims, now_s: u64) -> Check {
    if let Err(problem) = claims.check_times(now_s) {
        let next_step = "take a fresh token; if it is one, set the clocks of both hosts by NTP";
        return fail("time", problem.to_string(), next_step);
    }
    match claims.expires_at_s {
        Some(at_s) => ok("time", format!("good for {} s more", at_s.saturating_sub(now_s))),
        None => warn("time", "the token never expires", "GitLab's tokens do: ask where this one comes from"),
    }
}

fn scopes(claims: &Claims) -> Check {
    match claims.scopes.len() {
        0 => {
            let next_step = "check in GitLab that the user has a seat for GitLab Duo";
            warn("scopes", "none: every feature will answer 403", next_step)
        }
        count => ok("scopes", count.to_string()),
    }
}

/// What a request has to carry beside the token.
fn headers(claims: &Claims, service: &str) -> Check {
    let mut needed = vec!["X-Gitlab-Authentication-Type: oidc".to_owned()];
    if !claims.realm.is_empty() {
        needed.push(format!("X-Gitlab-Realm: {}", shown(&claims.realm)));
    }
    if !claims.subject.is_empty() {
        let name = if *claims.issuer == *service { "X-Gitlab-Global-User-Id" } else { "X-Gitlab-Instance-Id" };
        needed.push(format!("{name}: {}", shown(&claims.subject)));
    }
    ok("headers", format!("a request has to carry {}", needed.join(", ")))
}

fn contents(token: &Token<'_>) -> Contents {
    let claims = &token.claims;
    Contents {
        algorithm: shown(&token.algorithm),
        key_id: token.key_id.as_deref().map(shown),
        issuer: shown(&claims.issuer),
        audience: claims.audience.iter().map(|audience| shown(audience)).collect(),
        subject: shown(&claims.subject),
        realm: shown(&claims.realm),
        issued_at_s: claims.issued_at_s,
        not_before_s: claims.not_before_s,
        expires_at_s: claims.expires_at_s,
        scopes: claims.scopes.iter().map(|scope| shown(scope)).collect(),
    }
}

/// A terminal obeys control characters, and this text is a stranger's.
fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 256;
    text.chars().filter(|character| !character.is_control()).take(SHOWN_CHARS).collect()
}
