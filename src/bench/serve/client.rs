//! One server and how it is asked: bodies and headers of its dialect on the way out, times and counts on the way back.
//! Giving up is dropping the future of [`Server::answer`]: the connection is closed, as an editor closes it.

use super::call::{Call, system_message};
use super::error::ServeBenchError;
use super::plan::{Dialect, Target};
use super::reply::{DONE, Piece, message_in};
use super::sample::{Failure, Kind, Trace};
use super::stream::Events;
use crate::egress::{Answer, Ask, Egress, EgressError, EgressSettings, Method};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How much of a server's message is kept.
const MESSAGE_CHARS_MAX: usize = 200;
/// How much one answer may hold.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const MODELS_TIMEOUT: Duration = Duration::from_secs(10);

/// Whoever answers calls: a server, or what stands in for one in tests.
pub trait Answers: Send + Sync + 'static {
    /// Asks, and writes down in `trace` what comes when. A failure is written down too.
    fn answer(&self, call: &Call, trace: &mut Trace) -> impl Future<Output = ()> + Send;
}

/// A server on the network.
pub struct Server {
    egress: Egress,
    target: Target,
    model: Option<String>,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl Server {
    /// Asks a server that has not been told which model, which one it has. `extra_ca_files` are trusted besides the
    /// system's authorities. No proxy stands between: it would be measured too.
    pub async fn open(
        target: &Target,
        extra_ca_files: Vec<PathBuf>,
        timeout: Duration,
    ) -> Result<Self, ServeBenchError> {
        let allowed = vec![target.url.clone()];
        let egress = Egress::new(&EgressSettings { allowed, extra_ca_files, ..EgressSettings::default() })?;
        let model = target.model.clone();
        let mut server = Self { egress, target: target.clone(), model, timeout };
        if server.model.is_none() && target.dialect == Dialect::Openai {
            server.model = Some(server.first_model().await?);
        }
        Ok(server)
    }

    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    async fn first_model(&self) -> Result<String, ServeBenchError> {
        let label = || self.target.label.clone();
        let lacking = |problem: String| ServeBenchError::NoModels { label: label(), problem };
        let url = format!("{}/v1/models", self.target.base());
        let headers = self.headers(None);
        let ask = Ask { headers: &headers, timeout: MODELS_TIMEOUT, ..Ask::get(&url) };
        let answer = self.egress.send(ask).await;
        let answer = answer.map_err(|source| ServeBenchError::Address { label: label(), source })?;
        let fetched = answer.into_fetched().await;
        let fetched = fetched.map_err(|source| ServeBenchError::Address { label: label(), source })?;
        if fetched.status != 200 {
            let message = self.shown(&message_in(&fetched.body));
            return Err(lacking(format!("status {}: {message}", fetched.status)));
        }
        let models = serde_json::from_slice::<Models>(&fetched.body).map_err(|_| lacking("no list".to_owned()))?;
        let first = models.data.into_iter().next().ok_or_else(|| lacking("the list is empty".to_owned()))?;
        Ok(first.id)
    }

    fn headers<'a>(&'a self, session: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
        let ours = self.target.headers.0.iter().map(|(name, value)| (*name, value.as_str()));
        ours.chain(session.map(|session| ("x-session-id", session))).collect()
    }

    fn path(&self, kind: Kind) -> &'static str {
        match (self.target.dialect, kind) {
            (Dialect::Gitlab, _) => "/v2/code/completions",
            (Dialect::Openai, Kind::Chat) => "/v1/chat/completions",
            (Dialect::Openai, Kind::Completion | Kind::Key) => "/v1/completions",
        }
    }

    fn body(&self, call: &Call) -> String {
        let mut body = match self.target.dialect {
            Dialect::Openai => openai_body(call, self.model.as_deref()),
            Dialect::Gitlab => gitlab_body(call, self.model.as_deref()),
        };
        body.extend(self.target.extra.clone());
        Value::Object(body).to_string()
    }

    async fn read(&self, call: &Call, trace: &mut Trace) -> Result<(), Failure> {
        let url = format!("{}{}", self.target.base(), self.path(call.kind));
        let (headers, body) = (self.headers(call.session.as_deref()), self.body(call));
        let ask = Ask { method: Method::Post, url: &url, headers: &headers, body: Some(&body), timeout: self.timeout };
        let answer = self.egress.send(ask).await.map_err(|error| self.failure(&error))?;
        if answer.status != 200 {
            let status = answer.status;
            let message = match answer.into_fetched().await {
                Ok(fetched) => self.shown(&message_in(&fetched.body)),
                Err(error) => self.shown(&error.to_string()),
            };
            return Err(Failure::Status { status, message });
        }
        let is_json = answer.header("content-type").is_some_and(|kind| kind.contains("json"));
        match (self.target.dialect, is_json) {
            (_, true) => self.read_whole(answer, trace).await,
            (Dialect::Openai, false) => self.read_events(answer, trace).await,
            (Dialect::Gitlab, false) => self.read_raw(answer, trace).await,
        }
    }

    async fn read_events(&self, mut answer: Answer, trace: &mut Trace) -> Result<(), Failure> {
        let mut events = Events::default();
        let mut state = StreamState::default();
        let mut bytes = 0;
        while let Some(piece) = self.next(&mut answer, &mut bytes).await? {
            let now = Instant::now();
            let pushed = events.push(&piece, |data| state.take(data, now, trace));
            if pushed.is_err() {
                return Err(Failure::NotUnderstood { message: "an event is too long".to_owned() });
            }
            if let Some(failure) = state.failure.take() {
                return Err(self.cut(failure));
            }
            // Reading on to the end lets the connection serve the next request; there is nothing more to come.
        }
        let now = Instant::now();
        events.finish(|data| state.take(data, now, trace));
        match state {
            StreamState { failure: Some(failure), .. } => Err(self.cut(failure)),
            StreamState { is_over: true, .. } => Ok(()),
            StreamState { .. } => {
                Err(Failure::Closed { message: "the stream ended without its last event".to_owned() })
            }
        }
    }

    /// A server that does not stream.
    async fn read_whole(&self, answer: Answer, trace: &mut Trace) -> Result<(), Failure> {
        let fetched = answer.into_fetched().await.map_err(|error| self.failure(&error))?;
        let mut state = StreamState::default();
        state.take(&fetched.body, Instant::now(), trace);
        state.failure.map_or(Ok(()), |failure| Err(self.cut(failure)))
    }

    /// The text itself, as it is generated: the gateway's streams know no frames.
    async fn read_raw(&self, mut answer: Answer, trace: &mut Trace) -> Result<(), Failure> {
        let mut bytes = 0;
        while let Some(piece) = self.next(&mut answer, &mut bytes).await? {
            if !piece.is_empty() {
                trace.texts.push(Instant::now());
            }
        }
        Ok(())
    }

    async fn next(&self, answer: &mut Answer, bytes: &mut usize) -> Result<Option<Vec<u8>>, Failure> {
        let piece = answer.chunk().await.map_err(|error| self.failure(&error))?;
        *bytes += piece.as_ref().map_or(0, Vec::len);
        if *bytes > ANSWER_BYTES_MAX {
            return Err(Failure::NotUnderstood { message: "the answer does not end".to_owned() });
        }
        Ok(piece)
    }

    fn failure(&self, error: &EgressError) -> Failure {
        let message = self.shown(&error.to_string());
        match error {
            EgressError::Timeout { .. } => Failure::Timeout { message },
            EgressError::Broken { .. } => Failure::Closed { message },
            EgressError::TooLarge { .. } => Failure::NotUnderstood { message },
            EgressError::NoAddress
            | EgressError::Header { .. }
            | EgressError::Refused { .. }
            | EgressError::Dns { .. }
            | EgressError::Connect { .. }
            | EgressError::Tls { .. }
            | EgressError::Status { .. }
            | EgressError::Redirect { .. } => Failure::Connect { message },
        }
    }

    fn cut(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Event { message } => Failure::Event { message: self.shown(&message) },
            other => other,
        }
    }

    /// A message fit to be shown: short, on one line, and without our credentials, which some servers repeat.
    fn shown(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for (_, value) in &self.target.headers.0 {
            let secret = value.strip_prefix("Bearer ").unwrap_or(value);
            if secret.len() > 3 {
                message = message.replace(secret, "(hidden)");
            }
        }
        let one_line: String = message.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        let words = one_line.split_whitespace().collect::<Vec<_>>().join(" ");
        match words.char_indices().nth(MESSAGE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &words[..end]),
            None => words,
        }
    }
}

impl Answers for Server {
    async fn answer(&self, call: &Call, trace: &mut Trace) {
        if let Err(failure) = self.read(call, trace).await {
            trace.failure = Some(failure);
        }
    }
}

/// Where the reading of a stream has come to.
#[derive(Default)]
struct StreamState {
    is_over: bool,
    failure: Option<Failure>,
}

impl StreamState {
    fn take(&mut self, data: &[u8], now: Instant, trace: &mut Trace) {
        if data == DONE {
            self.is_over = true;
            return;
        }
        let Some(piece) = Piece::read(data) else {
            let message = "an event that is not of OpenAI's API".to_owned();
            self.failure.get_or_insert(Failure::NotUnderstood { message });
            return;
        };
        if let Some(message) = piece.error {
            self.failure.get_or_insert(Failure::Event { message });
            return;
        }
        if piece.has_text {
            trace.texts.push(now);
        }
        self.is_over |= piece.is_last;
        trace.counts.learn(piece.counts);
    }
}

fn openai_body(call: &Call, model: Option<&str>) -> Map<String, Value> {
    let mut body = fields(json!({
        "model": model,
        "max_tokens": call.output_tokens,
        "temperature": 0,
        "stream": true,
        "stream_options": { "include_usage": true },
    }));
    match call.kind {
        Kind::Chat => {
            let messages = json!([
                { "role": "system", "content": system_message() },
                { "role": "user", "content": call.prompt },
            ]);
            body.insert("messages".to_owned(), messages);
        }
        Kind::Completion | Kind::Key => {
            body.insert("prompt".to_owned(), call.prompt.clone().into());
            if !call.suffix.is_empty() {
                body.insert("suffix".to_owned(), call.suffix.clone().into());
            }
        }
    }
    body
}

/// How long the answer becomes is the gateway's decision.
fn gitlab_body(call: &Call, model: Option<&str>) -> Map<String, Value> {
    let mut body = fields(json!({
        "prompt_version": 2,
        "prompt": null,
        "current_file": {
            "file_name": "src/bench.py",
            "language_identifier": "python",
            "content_above_cursor": call.prompt,
            "content_below_cursor": call.suffix,
        },
        "model_provider": "litellm",
        "telemetry": [],
        "stream": true,
    }));
    if let Some(model) = model {
        body.insert("model_identifier".to_owned(), format!("custom_openai/{model}").into());
    }
    body
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("an object was written"),
    }
}
