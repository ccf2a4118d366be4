//! Where a provider is, and what opens it. A key is born together with the address it is for and there is no way to give
//! it another: a caller's key goes to the caller's endpoint and ours to ours.

use super::answer::Sign;
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

/// A base address, such as `https://models.example.com/v1`, and what opens it. What stands behind a question mark is kept
/// behind every path.
#[derive(Clone, Debug)]
pub struct Endpoint {
    base: String,
    /// With its question mark, or empty.
    query: String,
    /// Whether the base is the whole address, whatever is asked.
    is_whole: bool,
    opener: Opener,
}

#[derive(Clone)]
enum Opener {
    Nothing,
    Key(Key),
    Sign(Arc<dyn Sign>),
}

impl fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Key(_) => "Key(..)",
            Self::Sign(_) => "Sign(..)",
        })
    }
}

impl Endpoint {
    pub fn new(base: &str, key: Option<Key>) -> Self {
        Self::opened(base, key.map_or(Opener::Nothing, Opener::Key))
    }

    /// One that is opened by what is made for each request, or expires.
    pub fn signed(base: &str, sign: Arc<dyn Sign>) -> Self {
        Self::opened(base, Opener::Sign(sign))
    }

    fn opened(base: &str, opener: Opener) -> Self {
        let base = base.trim();
        let (base, query) = base.split_at(base.find('?').unwrap_or(base.len()));
        let query = if query == "?" { "" } else { query };
        Self { base: base.trim_end_matches('/').to_owned(), query: query.to_owned(), is_whole: false, opener }
    }

    /// The same place and opener with another path.
    pub(super) fn moved(&self, base: String, query: String) -> Self {
        Self { base, query, ..self.clone() }
    }

    /// The same opener for one address alone.
    pub(super) fn whole(&self, url: String) -> Self {
        Self { base: url, is_whole: true, ..self.clone() }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn query(&self) -> &str {
        &self.query
    }

    pub(super) fn url(&self, path: &str) -> String {
        let Self { base, query, is_whole, .. } = self;
        if *is_whole { base.clone() } else { format!("{base}{path}{query}") }
    }

    pub(super) fn key(&self) -> Option<&str> {
        match &self.opener {
            Opener::Key(key) => Some(key.reveal()),
            Opener::Nothing | Opener::Sign(_) => None,
        }
    }

    pub(super) fn sign(&self) -> Option<Arc<dyn Sign>> {
        match &self.opener {
            Opener::Sign(sign) => Some(sign.clone()),
            Opener::Nothing | Opener::Key(_) => None,
        }
    }
}

/// A name as one part of a path, whatever it holds: names of models may be a caller's. Dots alone, which would lead
/// upwards however they are written, become a name that nobody has.
pub(super) fn segment(name: &str) -> String {
    if matches!(name, "." | "..") {
        return "_".repeat(name.len());
    }
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_stays_behind_every_path() {
        let check = |base: &str, expected: &str| assert_eq!(Endpoint::new(base, None).url("/chat"), expected, "{base}");
        check("https://a.test/v1", "https://a.test/v1/chat");
        check(" https://a.test/v1// ", "https://a.test/v1/chat");
        check("https://a.test/v1/?x=1&y=2", "https://a.test/v1/chat?x=1&y=2");
        check("https://a.test/v1?", "https://a.test/v1/chat");
    }

    #[test]
    fn a_name_stays_one_part_of_a_path() {
        for (name, expected) in [
            ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5@20250929"),
            ("../../x?y#z", "..%2F..%2Fx%3Fy%23z"),
            ("..", "__"),
            (".", "_"),
            ("é :", "%C3%A9%20%3A"),
        ] {
            assert_eq!(segment(name), expected);
        }
    }
}
