//! A GitLab on a port of this machine, as far as a gateway sees one: discovery, a key set, tokens. It can rotate its
//! keys, and fail in each way that GitLabs and what stands before them have failed.

#![allow(dead_code, reason = "each crate of tests uses a part")]

#[path = "gitlab/tokens.rs"]
pub mod tokens;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokens::{GITLAB_1, GITLAB_2, TestKey};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How the fake answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Healthy,
    /// Status 500.
    Outage,
    /// A login page with status 200.
    Html,
    /// Healthy, after a while.
    Slow(Duration),
    /// 10 MB of key set.
    Oversize,
    /// Two different keys of one name.
    DuplicateKid,
    /// To this URL.
    Redirect(String),
    /// A key set without keys.
    Empty,
    /// A key set with one key that cannot be read, and one that can.
    Partial,
    /// Discovery is missing, the key set is not.
    NoDiscovery,
    /// A key set of the wrong type.
    WrongType,
}

/// Dropping it closes the port.
pub struct FakeGitlab {
    address: SocketAddr,
    root: String,
    state: Arc<Mutex<Served>>,
    _serving: JoinSet<()>,
}

struct Served {
    mode: Mode,
    root: String,
    /// What discovery says GitLab is called.
    announced: String,
    has_rotated: bool,
    /// Whether the key before the rotation is still published.
    has_former_key: bool,
    paths: Vec<String>,
}

impl FakeGitlab {
    pub async fn start() -> Self {
        Self::start_under("").await
    }

    /// `root` is a relative root such as `/gitlab`.
    pub async fn start_under(root: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(Served {
            mode: Mode::Healthy,
            root: root.to_owned(),
            announced: format!("http://{address}{root}"),
            has_rotated: false,
            has_former_key: true,
            paths: Vec::new(),
        }));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.expect("serves until it is dropped") });
        Self { address, root: root.to_owned(), state, _serving: serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.root)
    }

    /// What GitLab would send now.
    pub fn token(&self) -> String {
        self.token_with(json!({}))
    }

    /// The same with some claims replaced or added.
    pub fn token_with(&self, overrides: Value) -> String {
        let key = self.signing_key();
        tokens::signed(&key.header(), &tokens::claims_with(now_s(), overrides), &key)
    }

    pub fn signing_key(&self) -> TestKey {
        if self.lock().has_rotated { GITLAB_2 } else { GITLAB_1 }
    }

    /// From now on tokens are signed with another key. The former one stays in the set.
    pub fn rotate(&self) {
        self.lock().has_rotated = true;
    }

    /// Takes the former key out of the set.
    pub fn retire_former_key(&self) {
        self.lock().has_former_key = false;
    }

    /// Discovery says GitLab has this URL, as it does when the gateway uses an internal name.
    pub fn announce(&self, url: &str) {
        url.clone_into(&mut self.lock().announced);
    }

    pub fn fail_with(&self, mode: Mode) {
        self.lock().mode = mode;
    }

    pub fn recover(&self) {
        self.fail_with(Mode::Healthy);
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.lock().paths.len()
    }

    /// Their paths, in order.
    pub fn paths(&self) -> Vec<String> {
        self.lock().paths.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Served> {
        self.state.lock().expect("no test panics while it holds this")
    }
}

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

impl Served {
    fn keys(&self) -> Vec<Value> {
        match (self.has_rotated, self.has_former_key) {
            (false, _) => vec![GITLAB_1.jwk()],
            (true, true) => vec![GITLAB_1.jwk(), GITLAB_2.jwk()],
            (true, false) => vec![GITLAB_2.jwk()],
        }
    }

    fn discovery(&self) -> Response {
        let document = json!({
            "issuer": self.announced,
            "jwks_uri": format!("{}/oauth/discovery/keys", self.announced),
        });
        json_body(document.to_string())
    }

    fn key_set(&self) -> Response {
        let keys = match self.mode {
            Mode::DuplicateKid => {
                vec![GITLAB_1.jwk(), tokens::merged(GITLAB_2.jwk(), json!({ "kid": GITLAB_1.id() }))]
            }
            Mode::Empty => Vec::new(),
            Mode::Partial => vec![GITLAB_2.jwk(), tokens::merged(GITLAB_1.jwk(), json!({ "n": "&" }))],
            Mode::WrongType => return json_body(json!({ "keys": { "kid": 1 } }).to_string()),
            Mode::Oversize => {
                let filler = "A".repeat(10_000_000);
                return json_body(json!({ "keys": self.keys(), "filler": filler }).to_string());
            }
            _ => self.keys(),
        };
        json_body(json!({ "keys": keys }).to_string())
    }

    fn answer(&self, path: &str) -> Response {
        let page = "<!DOCTYPE html><html><title>Sign in</title></html>";
        match &self.mode {
            Mode::Outage => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            Mode::Html => return axum::response::Html(page).into_response(),
            Mode::Redirect(to) => {
                let to = HeaderValue::from_str(to).expect("a URL");
                return (StatusCode::FOUND, [(LOCATION, to)]).into_response();
            }
            _ => {}
        }
        match path.strip_prefix(self.root.as_str()) {
            Some("/.well-known/openid-configuration") if self.mode != Mode::NoDiscovery => self.discovery(),
            Some("/oauth/discovery/keys") => self.key_set(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

async fn answer(State(served): State<Arc<Mutex<Served>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let (response, delay) = {
        let mut served = served.lock().expect("no test panics while it holds this");
        served.paths.push(path.clone());
        let delay = if let Mode::Slow(delay) = served.mode { delay } else { Duration::ZERO };
        (served.answer(&path), delay)
    };
    tokio::time::sleep(delay).await;
    response
}

fn json_body(text: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(text)).into_response()
}
