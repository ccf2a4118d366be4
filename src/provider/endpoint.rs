//! Where a provider is, and what opens it. A key is born together with the address it is for and there is no way to give
//! it another: a caller's key goes to the caller's endpoint and ours to ours.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a provider knows us by. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    pub fn new(key: String) -> Self {
        Self(key)
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// A base address, such as `https://models.example.com/v1`, and its key.
#[derive(Clone, Debug)]
pub struct Endpoint {
    base: String,
    key: Option<Key>,
}

impl Endpoint {
    pub fn new(base: &str, key: Option<Key>) -> Self {
        Self { base: base.trim().trim_end_matches('/').to_owned(), key }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(Key::reveal)
    }
}

/// What all kinds of providers have in common.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The operator's name for it, in messages and in the log.
    pub name: Arc<str>,
    pub endpoint: Endpoint,
    /// As the provider names it.
    pub model: String,
    /// For jobs that leave it open. Always sent: providers reserve quota by it, and some take 16 where nothing is said.
    pub max_tokens: usize,
    pub patience: Patience,
}

/// How long a provider may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until the head of its answer, which many send with the first token.
    pub head: Duration,
    /// For each piece after it.
    pub idle: Duration,
    /// For the whole answer, of a job without a deadline.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { head: s(60), idle: s(30), whole: s(600) }
    }
}
