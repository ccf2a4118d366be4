//! Asks a running server what GitLab's checks ask, and says what GitLab would make of the answers.

use super::report::{Section, fail, ok, warn};
use crate::auth::gitlab::{Check, Contents};
use crate::cli::output;
use crate::egress::{Answer, Ask, Egress, EgressError, Fetched, Method};
use serde::Deserialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// What GitLab waits for the connection test.
const CONNECTION_TEST_TIMEOUT: Duration = Duration::from_secs(3);
const STREAM_TIMEOUT: Duration = Duration::from_secs(120);
const NO_TOKEN: &str = r#"{"error":"No authorization header presented"}"#;

/// What is asked of the server, and by whom.
pub struct Probe<'a> {
    pub egress: &'a Egress,
    /// Without a slash at the end.
    pub url: String,
    /// Whether a person named it; otherwise nobody may have started it.
    pub is_named: bool,
    pub serves_gitlab: bool,
    pub caller: Option<Caller>,
    pub wants_stream: bool,
}

/// A token and the headers that GitLab sends with it.
pub struct Caller {
    token: String,
    realm: String,
    instance_id: String,
    global_user_id: String,
}

impl Caller {
    /// `service` is the issuer of the gateway's own tokens, whose subject is a user.
    pub fn new(token: &str, contents: &Contents, service: &str) -> Self {
        let subject = contents.subject.clone();
        let is_own = contents.issuer == service;
        let (instance_id, global_user_id) = if is_own { (String::new(), subject) } else { (subject, String::new()) };
        Self { token: format!("Bearer {token}"), realm: contents.realm.clone(), instance_id, global_user_id }
    }

    fn headers(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("authorization", &self.token),
            ("x-gitlab-authentication-type", "oidc"),
            ("x-gitlab-realm", &self.realm),
            ("x-gitlab-instance-id", &self.instance_id),
            ("x-gitlab-global-user-id", &self.global_user_id),
        ]
    }
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

#[derive(Deserialize)]
struct Unready {
    status: String,
    cause: Option<String>,
}

impl Probe<'_> {
    pub async fn section(&self) -> Section {
        let title = format!("server {}", self.url);
        let front = match self.get("/").await {
            Ok(fetched) => self.front(&fetched),
            Err(error) => return Section { title, checks: vec![self.absent(&error)] },
        };
        let mut checks = vec![front, self.health().await, self.readiness().await];
        let models = self.get("/v1/models").await;
        checks.push(list("models", &models));
        checks.push(list("verify task", &self.get("/v1/v1/models").await));
        let models = models.ok().and_then(|fetched| serde_json::from_slice::<Models>(&fetched.body).ok());
        let model = models.and_then(|models| models.data.into_iter().next()).map(|model| model.id);
        if self.serves_gitlab {
            checks.push(self.connection_test(model.as_deref()).await);
        }
        if self.wants_stream {
            checks.push(self.stream(model.as_deref()).await);
        }
        Section { title, checks }
    }

    fn absent(&self, error: &EgressError) -> Check {
        const NAME: &str = "reachable";
        match error {
            EgressError::Connect { .. } if !self.is_named => {
                warn(NAME, "no server runs here", "start one with `sconce serve`, or name one with --server URL")
            }
            _ => fail(NAME, error.to_string(), error.next_step()),
        }
    }

    fn front(&self, fetched: &Fetched) -> Check {
        const NAME: &str = "reachable";
        let is_gateway = fetched.status == 401 && fetched.body == NO_TOKEN.as_bytes();
        match (self.serves_gitlab, fetched.status) {
            (true, _) if is_gateway => ok(NAME, "asks for a token, as GitLab's documentation says"),
            (true, status) => fail(
                NAME,
                format!("status {status} instead of 401 with {NO_TOKEN}"),
                "check that this is the gateway, that gitlab.url is set there, and what stands in front of it",
            ),
            (false, status) => ok(NAME, format!("answers with status {status}")),
        }
    }

    async fn health(&self) -> Check {
        const NAME: &str = "healthz";
        match self.get("/monitoring/healthz").await {
            Ok(fetched) if fetched.status == 200 => ok(NAME, "alive"),
            Ok(fetched) => fail(NAME, format!("status {}", fetched.status), "look into the server's log"),
            Err(error) => fail(NAME, error.to_string(), error.next_step()),
        }
    }

    async fn readiness(&self) -> Check {
        const NAME: &str = "ready";
        match self.get("/monitoring/ready").await {
            Ok(fetched) if fetched.status == 200 => ok(NAME, "takes calls"),
            Ok(fetched) => {
                let unready = serde_json::from_slice::<Unready>(&fetched.body).ok();
                let found = unready.map_or_else(
                    || format!("status {}", fetched.status),
                    |Unready { status, cause }| format!("{status}: {}", cause.unwrap_or_else(|| "no cause".to_owned())),
                );
                fail(NAME, found, "wait until the models are loaded, or look into the server's log")
            }
            Err(error) => fail(NAME, error.to_string(), error.next_step()),
        }
    }

    /// What the button of GitLab's form for a model does.
    async fn connection_test(&self, model: Option<&str>) -> Check {
        const NAME: &str = "connection test";
        let body = self.body(model, "{}", false);
        let url = format!("{}/v1/prompts/model_configuration%2Fcheck", self.url);
        let begun = Instant::now();
        let fetched = match self.post(&url, &body, CONNECTION_TEST_TIMEOUT).await {
            Ok(answer) => answer.into_fetched().await,
            Err(error) => Err(error),
        };
        match (fetched, &self.caller) {
            (Ok(fetched), None) if fetched.status == 401 => {
                let step = "pass --token-file FILE with a token of GitLab to go through with it";
                warn(NAME, "asks for a token; the rest was not tried", step)
            }
            (Ok(fetched), _) if fetched.status == 200 => {
                ok(NAME, format!("answered after {} ms; GitLab waits 3000 ms", begun.elapsed().as_millis()))
            }
            (Ok(fetched), _) => {
                let step = "the identifier in GitLab's form has to name a model of /v1/models; see the server's log";
                fail(NAME, format!("status {}: {}", fetched.status, excerpt(&fetched.body)), step)
            }
            (Err(EgressError::Timeout { .. }), _) => {
                let step = "GitLab gives up now: use a smaller model, more threads, or a machine with less load";
                fail(NAME, "no answer within 3 s", step)
            }
            (Err(error), _) => fail(NAME, error.to_string(), error.next_step()),
        }
    }

    /// Whether the pieces of a streamed answer arrive one by one, or are held back by something on the way.
    async fn stream(&self, model: Option<&str>) -> Check {
        const NAME: &str = "stream";
        if self.caller.is_none() && self.serves_gitlab {
            return warn(NAME, "not tried", "pass --token-file FILE with a token of GitLab");
        }
        let inputs = json!({
            "input": "Explain this code in three sentences.",
            "selected_text": "def total(values):\n    return sum(values)",
            "file_content": "",
            "language_info": "The code is Python",
        });
        let url = format!("{}/v1/prompts/chat%2Fexplain_code", self.url);
        match self.post(&url, &self.body(model, &inputs.to_string(), true), STREAM_TIMEOUT).await {
            Ok(answer) if answer.status == 200 => match arrivals(answer).await {
                Ok(arrivals) => judge(NAME, &arrivals),
                Err(error) => fail(NAME, error.to_string(), error.next_step()),
            },
            Ok(answer) => {
                let status = answer.status;
                let excerpt = answer.into_fetched().await.map(|fetched| excerpt(&fetched.body)).unwrap_or_default();
                fail(NAME, format!("status {status}: {excerpt}"), "see the server's log")
            }
            Err(error) => fail(NAME, error.to_string(), error.next_step()),
        }
    }

    /// A prompt's body as GitLab sends it.
    fn body(&self, model: Option<&str>, inputs: &str, stream: bool) -> String {
        let inputs: serde_json::Value = serde_json::from_str(inputs).expect("it was made from JSON");
        let model = model.unwrap_or("default");
        let metadata = json!({
            "provider": "openai",
            "name": "general",
            "endpoint": format!("{}/v1", self.url),
            "api_key": null,
            "identifier": format!("custom_openai/{model}"),
        });
        json!({"inputs": inputs, "stream": stream, "model_metadata": metadata}).to_string()
    }

    async fn get(&self, path: &str) -> Result<Fetched, EgressError> {
        self.egress.send(Ask::get(&format!("{}{path}", self.url))).await?.into_fetched().await
    }

    async fn post(&self, url: &str, body: &str, timeout: Duration) -> Result<Answer, EgressError> {
        let headers = self.caller.as_ref().map(Caller::headers).unwrap_or_default();
        self.egress.send(Ask { method: Method::Post, url, headers: &headers, body: Some(body), timeout }).await
    }
}

fn list(name: &'static str, models: &Result<Fetched, EgressError>) -> Check {
    let step = "GitLab's verify task asks there without a token of GitLab: let it through";
    match models {
        Ok(fetched) if fetched.status == 200 => match serde_json::from_slice::<Models>(&fetched.body) {
            Ok(models) => {
                let names: Vec<String> = models.data.into_iter().map(|model| model.id).collect();
                ok(name, names.join(", "))
            }
            Err(_) => fail(name, "no list of models", step),
        },
        Ok(fetched) => fail(name, format!("status {}", fetched.status), step),
        Err(error) => fail(name, error.to_string(), error.next_step()),
    }
}

/// When pieces came, counted from the request, and how long they were.
struct Arrivals {
    pieces: usize,
    bytes: usize,
    first: Duration,
    last: Duration,
}

async fn arrivals(mut answer: Answer) -> Result<Arrivals, EgressError> {
    let begun = Instant::now();
    let mut arrivals = Arrivals { pieces: 0, bytes: 0, first: Duration::ZERO, last: Duration::ZERO };
    while let Some(piece) = answer.chunk().await? {
        arrivals.last = begun.elapsed();
        if arrivals.pieces == 0 {
            arrivals.first = arrivals.last;
        }
        arrivals.pieces += 1;
        arrivals.bytes += piece.len();
    }
    Ok(arrivals)
}

fn judge(name: &'static str, arrivals: &Arrivals) -> Check {
    let Arrivals { pieces, bytes, first, last } = *arrivals;
    let spread = last.saturating_sub(first);
    let found = format!("{bytes} bytes in {pieces} pieces over {} ms", spread.as_millis());
    // An answer held back arrives as a whole: in very few pieces, or all of them within an instant.
    let is_held_back = pieces < 3 || spread < Duration::from_millis(2);
    match bytes {
        0 => warn(name, "the answer is empty", "see the server's log; another model may answer better"),
        _ if is_held_back => {
            let step = "switch off response buffering in the proxy before the server (nginx: `proxy_buffering off`)";
            warn(name, format!("{found}: all at once"), step)
        }
        _ => ok(name, found),
    }
}

/// The beginning of an answer, fit for a terminal.
fn excerpt(body: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    output::one_line(&String::from_utf8_lossy(body), CHARS_MAX)
}
