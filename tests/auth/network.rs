//! A network that counts: it answers as a test says and remembers what was asked.

use sconce::auth::gitlab::{FetchError, FetchErrorKind, FetchKeys};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;

pub const GITLAB: &str = "https://gitlab.example.test";
pub const PORTAL: &str = "https://customers.example.test";
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
pub const KEYS: &str = "/oauth/discovery/keys";

#[derive(Clone)]
pub enum Answer {
    Body(Vec<u8>),
    Error(FetchErrorKind),
    /// Answers after a while.
    Late(Duration, Vec<u8>),
    Never,
}

impl Answer {
    pub fn json(value: &Value) -> Self {
        Self::Body(value.to_string().into_bytes())
    }
}

#[derive(Default)]
pub struct Network {
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<Vec<String>>,
}

impl Network {
    /// Sites that are not told to answer cannot be reached.
    pub fn answer(&self, url: &str, answer: Answer) {
        self.answers.lock().expect("not poisoned").insert(url.to_owned(), answer);
    }

    /// Discovery and key set of an issuer under `base`.
    pub fn publish(&self, base: &str, keys: &[Value]) {
        let discovery = json!({ "issuer": base, "jwks_uri": format!("{base}{KEYS}") });
        self.answer(&format!("{base}{DISCOVERY}"), Answer::json(&discovery));
        self.answer(&format!("{base}{KEYS}"), Answer::json(&json!({ "keys": keys })));
    }

    /// Nothing under `base` answers.
    pub fn cut(&self, base: &str) {
        self.answers.lock().expect("not poisoned").retain(|url, _| !url.starts_with(base));
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// How often this URL was asked for.
    pub fn count(&self, url: &str) -> usize {
        self.asked().iter().filter(|asked| *asked == url).count()
    }

    pub fn key_fetches(&self) -> usize {
        self.count(&format!("{GITLAB}{KEYS}"))
    }
}

impl FetchKeys for Network {
    fn get(&self, url: &str) -> BoxFuture<'static, Result<Vec<u8>, FetchError>> {
        self.asked.lock().expect("not poisoned").push(url.to_owned());
        let answer = self.answers.lock().expect("not poisoned").get(url).cloned();
        Box::pin(async move {
            match answer.unwrap_or(Answer::Error(FetchErrorKind::Connect)) {
                Answer::Body(body) => Ok(body),
                Answer::Error(kind) => Err(FetchError::new(kind, "")),
                Answer::Late(delay, body) => {
                    tokio::time::sleep(delay).await;
                    Ok(body)
                }
                Answer::Never => std::future::pending().await,
            }
        })
    }
}
