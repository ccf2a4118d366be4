//! Apps to ask, and two ways to ask them.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use prometheus::Registry;
use sconce::auth::Auth;
use sconce::domain::Generate;
use sconce::http::{AppState, CallLimits, Drained, Health, HttpLimits, Readiness, app, serve_http};
use sconce::route::{Lane, Routes};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

pub const COMPLETIONS: &str = "/v1/completions";
pub const CHAT: &str = "/v1/chat/completions";
pub const COMPLETION: &str = r#"{"model": "m", "prompt": "a"}"#;
pub const COMPLETION_STREAM: &str = r#"{"model": "m", "prompt": "a", "stream": true}"#;
pub const CHAT_STREAM: &str = r#"{"model": "m", "messages": [{"role": "user", "content": "a"}], "stream": true}"#;

/// The state of an app that serves `lane` as the model "m", without authentication and in no hurry.
pub fn state(lane: Arc<dyn Generate>) -> AppState {
    state_with(lane, Auth::Disabled, CallLimits::default())
}

pub fn state_with(lane: Arc<dyn Generate>, auth: Auth, limits: CallLimits) -> AppState {
    let lane = Lane::local(super::support::model("m"), Vec::new(), lane);
    let routes = Routes::new(vec![lane]).expect("one name");
    let health = Health::new(Readiness::Ready);
    let mut state =
        AppState::new(routes, super::support::gate(auth), health, limits, &Registry::new()).expect("a new registry");
    state.unix_time = || 1_700_000_000;
    state
}

/// What came back, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Self { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).expect("UTF-8") }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    /// OpenAI's shape: an object with exactly these four fields.
    pub fn error(&self) -> ApiError {
        let json = self.json();
        let error = json["error"].as_object().unwrap_or_else(|| panic!("an error in {json}"));
        let names: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(names, ["code", "message", "param", "type"]);
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        ApiError { message: text("message"), kind: text("type"), code: text("code") }
    }
}

#[derive(Debug)]
pub struct ApiError {
    pub message: String,
    pub kind: String,
    pub code: String,
}

pub fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    with(&[("host", "localhost:5052"), ("content-type", "application/json")], "POST", path, body)
}

pub fn get(path: &str) -> Request<Body> {
    with(&[("host", "localhost:5052")], "GET", path, Body::empty())
}

pub fn with(headers: &[(&str, &str)], method: &str, target: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(target);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(body.into()).expect("a valid request")
}

pub async fn ask(app: &Router, request: Request<Body>) -> Answer {
    Answer::read(app.clone().oneshot(request).await.expect("infallible")).await
}

/// An app behind a socket of this machine.
pub struct Server {
    pub address: SocketAddr,
    pub health: Health,
    stop: oneshot::Sender<()>,
    serving: JoinSet<Drained>,
}

impl Server {
    pub async fn start(state: AppState, limits: HttpLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let health = state.health.clone();
        let mut serving = JoinSet::new();
        serving.spawn(serve_http(listener, app(state), health.clone(), limits, async {
            let _ = stopped.await;
        }));
        Self { address, health, stop, serving }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    /// A connection on which `body` has been posted.
    pub async fn posted(&self, path: &str, body: &str) -> TcpStream {
        let mut socket = self.connect().await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        socket
    }

    /// Begins the shutdown. The future resolves at its end.
    pub fn stop(mut self) -> impl Future<Output = Drained> {
        self.stop.send(()).expect("the server runs");
        async move { self.serving.join_next().await.expect("one task").expect("no panic") }
    }
}

/// Reads until `text` has come; returns all that came.
pub async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    loop {
        let seen = String::from_utf8_lossy(&read).into_owned();
        if seen.contains(text) {
            return seen;
        }
        let mut buffer = [0; 4096];
        let bytes = socket.read(&mut buffer).await.expect("readable");
        assert!(bytes > 0, "the connection ended after {seen:?}");
        read.extend_from_slice(&buffer[..bytes]);
    }
}

/// Reads to the end of the connection.
pub async fn read_to_end(socket: &mut TcpStream) -> String {
    let mut read = Vec::new();
    socket.read_to_end(&mut read).await.expect("readable");
    String::from_utf8_lossy(&read).into_owned()
}
