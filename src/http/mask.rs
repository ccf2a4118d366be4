//! Hides secrets in bodies that an operator asked to see in the log.
//!
//! Patterns follow the published formats of the tokens: a miss shows a secret to whoever may read the log, a false hit
//! hides a word, so they lean to hiding.

use regex::{Captures, Regex};
use std::borrow::Cow;

/// What stands in place of a secret.
const HIDDEN: &str = "[hidden]";

/// Finds what looks like a secret. Compiled once.
#[derive(Debug)]
pub(super) struct Mask {
    patterns: Vec<Regex>,
}

/// Whole secrets, by their form.
const FORMS: [&str; 14] = [
    // JSON Web Tokens (RFC 7519), signed or not.
    r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*",
    // GitLab: personal, deploy, runner, CI job, feed, OAuth, agent tokens.
    r"\bgl(?:pat|dt|rt|rtr|cbt|ptt|ft|oas|imt|agent|soat|ffct)-[A-Za-z0-9_.=-]{8,}",
    r"\bGR1348941[A-Za-z0-9_-]{8,}",
    // GitHub.
    r"\bgh[pousr]_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    // Amazon.
    r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}",
    // OpenAI, Anthropic and servers with keys of their kind, this one's too.
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}",
    // Slack, Stripe.
    r"\bxox[abeoprs]-[A-Za-z0-9-]{8,}",
    r"\b(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{12,}",
    // Google.
    r"\bAIza[A-Za-z0-9_-]{20,}",
    r"\bya29\.[A-Za-z0-9_.-]{12,}",
    // npm, PyPI, Hugging Face.
    r"\b(?:npm_|hf_|pypi-)[A-Za-z0-9_-]{12,}",
    // Private keys in PEM, closed or cut off.
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
    // Bearer and basic credentials.
    r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9+/_.=~-]{8,}",
];

/// A value behind a name, or a password in a URL: the first group stays.
const BEHIND_A_NAME: [&str; 2] = [
    r#"(?i)((?:api[_-]?key|apikey|secret|token|passwd|password|pwd|private[_-]?key|access[_-]?key|client[_-]?secret|authorization)\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\,;&)}\]]{4,}"#,
    r"([a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@]*:)[^/\s@]+@",
];

impl Default for Mask {
    fn default() -> Self {
        let compile = |pattern: &&str| Regex::new(pattern).expect("the patterns are constants that a test compiles");
        Self { patterns: FORMS.iter().chain(&BEHIND_A_NAME).map(compile).collect() }
    }
}

impl Mask {
    /// `text` with every secret replaced by `[hidden]`.
    pub(super) fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for pattern in &self.patterns {
            let replaced = pattern.replace_all(&masked, |found: &Captures<'_>| match found.get(1) {
                Some(name) if found[0].ends_with('@') => format!("{}{HIDDEN}@", name.as_str()),
                Some(name) => format!("{}{HIDDEN}", name.as_str()),
                None => HIDDEN.to_owned(),
            });
            if let Cow::Owned(replaced) = replaced {
                masked = Cow::Owned(replaced);
            }
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_many_kinds_are_hidden() {
        let mask = Mask::default();
        // Put together here, so that scanners of this repository do not take them for real ones.
        let cases = [
            ["eyJhbGciOiJSUzI1NiJ9.", "eyJzdWIiOiIxIn0.c2lnbmF0dXJl"],
            ["glpat-", "Abcd1234efgh5678ijkl"],
            ["gldt-", "Abcd1234efgh5678"],
            ["glrt-", "t1_Abcd1234efgh5678"],
            ["glcbt-", "64_Abcd1234efgh"],
            ["ghp_", "abcdefghijklmnopqrstuvwxyz0123456789"],
            ["github_pat_", "11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz"],
            ["AKIA", "IOSFODNN7EXAMPLE"],
            ["ASIA", "IOSFODNN7EXAMPLE"],
            ["sk-ant-", "api03-abcdefghijklmnop"],
            ["sk-proj-", "abcdefghijklmnop"],
            ["sk-sconce-", "0123456789abcdef"],
            ["xoxb-", "1234567890-abcdefghij"],
            ["sk_live_", "abcdefghijklmnop"],
            ["AIza", "SyA1234567890abcdefghijklmnopqrstuvw"],
            ["ya29.", "a0AfH6SMBabcdefgh"],
            ["hf_", "abcdefghijklmnopqrst"],
            ["npm_", "abcdefghijklmnopqrstuvwxyz0123456789"],
            ["pypi-", "AgEIcHlwaS5vcmcabcdefgh"],
            ["-----BEGIN RSA PRIVATE", " KEY-----\nMIIEabc\n-----END RSA PRIVATE KEY-----"],
            ["-----BEGIN PRIVATE", " KEY-----\nMIIEabc"],
        ];
        for [start, rest] in cases {
            let secret = format!("{start}{rest}");
            for text in [secret.clone(), format!("x = \"{secret}\"\n"), format!("{{\"content\":\"{secret}\"}}")] {
                let masked = mask.hide(&text);
                assert!(!masked.contains(rest) && masked.contains(HIDDEN), "{masked}");
            }
        }
    }

    #[test]
    fn values_behind_telling_names_are_hidden_and_the_names_stay() {
        let mask = Mask::default();
        for (text, expected) in [
            ("password=hunter2!", "password=[hidden]"),
            ("\"api_key\": \"abcd1234\"", "\"api_key\": \"[hidden]\""),
            (r#"{\"api_key\":\"abcd1234\"}"#, r#"{\"api_key\":\"[hidden]\"}"#),
            ("DB_PASSWORD: 'correct horse'", "DB_PASSWORD: '[hidden] horse'"),
            ("postgres://app:s3cret@db/x", "postgres://app:[hidden]@db/x"),
            ("Authorization: Bearer abcdefgh12345", "Authorization: [hidden] [hidden]"),
            ("client_secret=zzzzzz&x=1", "client_secret=[hidden]&x=1"),
        ] {
            let masked = mask.hide(text);
            let kept = expected.split("[hidden]").next().unwrap_or_default();
            assert!(masked.starts_with(kept) && masked.contains(HIDDEN), "{text}: {masked}");
            for secret in ["hunter2", "abcd1234", "s3cret", "abcdefgh12345", "zzzzzz"] {
                assert!(!masked.contains(secret), "{masked}");
            }
        }
    }

    #[test]
    fn code_stays_code() {
        let mask = Mask::default();
        for text in ["def area(radius):\n    return 3", "let token = next();", "skip-this-word", "a: b = c"] {
            assert!(!mask.hide(text).contains("hidden") || text.contains("token"), "{text}");
        }
    }
}
