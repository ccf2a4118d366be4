//! `sconce health`: asks a running server once whether it takes calls, for scripts and the health checks of containers.
//!
//! The answer is one line and an exit code. Sends nothing that a stranger may not read, and so believes any certificate
//! on loopback: that of the server is for the name by which others call it.

use super::args::HealthArgs;
use super::doctor::own_url;
use super::error::CliError;
use super::output;
use crate::config::{self, Config, Environment};
use crate::egress::{Ask, Egress, EgressError, EgressSettings, Fetched};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Shorter than what container engines give a health check, so that the line is there before they lose patience.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is shown of a server's own words.
const CAUSE_CHARS_MAX: usize = 1000;

pub fn run(args: &HealthArgs) -> Result<(), CliError> {
    let config = config::resolve(&Environment::of_process(), args.config.clone(), &[]).config?;
    let url = args.server.clone().unwrap_or_else(|| own_url(&config));
    let url = url.trim_end_matches('/');
    let door = door(&config, url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let finding = runtime.block_on(ask(&door, url));
    let is_ready = finding.state == State::Ready;
    if args.json {
        let json = serde_json::to_string(&finding).expect("a finding is plain text");
        output::print(&format!("{json}\n"))?;
    } else if is_ready {
        output::print(&format!("{finding}\n"))?;
    }
    if is_ready { Ok(()) } else { Err(CliError::NotReady(finding)) }
}

/// The way to the server: never through a proxy, and to nobody else.
fn door(config: &Config, url: &str) -> Result<Egress, CliError> {
    let settings = EgressSettings {
        allowed: vec![url.to_owned()],
        extra_ca_files: config.tls.extra_ca_files.clone(),
        is_loopback_believed: true,
        ..EgressSettings::default()
    };
    Egress::new(&settings).map_err(|error| CliError::Serve(error.into()))
}

async fn ask(door: &Egress, url: &str) -> Finding {
    let at = format!("{url}/monitoring/ready");
    let answer = match door.send(Ask { timeout: TIMEOUT, ..Ask::get(&at) }).await {
        Ok(answer) => answer.into_fetched().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(fetched) => Finding::of_answer(url, &fetched),
        Err(error) => Finding::unreachable(url, &error),
    }
}

/// What is said of a server.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    server: String,
    state: State,
    found: String,
    /// What to do; empty where there is nothing to do.
    next_step: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ready,
    Starting,
    Restarting,
    Failed,
    Stopping,
    /// The server does not answer to whoever asks from here.
    Refused,
    Unreachable,
    /// Something answers, and not as this server would.
    Unknown,
}

/// Whatever of it an answer holds: a status with its cause, or an error.
#[derive(Default, Deserialize)]
struct Said {
    status: Option<String>,
    cause: Option<String>,
    error: Option<SaidError>,
}

#[derive(Deserialize)]
struct SaidError {
    message: String,
}

impl Finding {
    fn new(server: &str, state: State, found: &str, next_step: &str) -> Self {
        let next_step = next_step.to_owned();
        Self { server: server.to_owned(), state, found: output::one_line(found, CAUSE_CHARS_MAX), next_step }
    }

    fn of_answer(server: &str, fetched: &Fetched) -> Self {
        let said = serde_json::from_slice::<Said>(&fetched.body).ok();
        match (fetched.status, said) {
            (200, Some(_)) => Self::new(server, State::Ready, "takes calls", ""),
            (403, said) => Self::refused(server, said.unwrap_or_default()),
            (503, Some(Said { status: Some(status), cause, .. })) => Self::unready(server, &status, cause),
            (status, said) => Self::unknown(server, status, said.unwrap_or_default(), &fetched.body),
        }
    }

    fn unready(server: &str, status: &str, cause: Option<String>) -> Self {
        let cause = cause.unwrap_or_else(|| status.to_owned());
        let (state, next_step) = match status {
            "starting" => (State::Starting, "wait; its log says how far it is"),
            "restarting" => (State::Restarting, "wait: it comes back by itself, or is failed; its log says more"),
            "failed" => (State::Failed, "look into its log, and start it again"),
            "shutting down" => (State::Stopping, "start it again if that was not meant"),
            _ => (State::Unknown, "look into its log"),
        };
        Self::new(server, state, &cause, next_step)
    }

    /// A list of addresses that may ask, or a server without keys that is called by a name.
    fn refused(server: &str, said: Said) -> Self {
        let message = said.error.map_or_else(|| "status 403 (forbidden)".to_owned(), |error| error.message);
        let next_step = if message.contains("no authentication") {
            "name it by an address of this machine: --server http://127.0.0.1:PORT"
        } else {
            "add the address that this check comes from to access.allow: on the server's machine 127.0.0.1/32 (::1/128)"
        };
        Self::new(server, State::Refused, &message, next_step)
    }

    fn unknown(server: &str, status: u16, said: Said, body: &[u8]) -> Self {
        if body.starts_with(b"This port speaks HTTPS") {
            let next_step = "write https:// in --server URL, or give this check the server's configuration";
            return Self::new(server, State::Unknown, "this port speaks HTTPS", next_step);
        }
        let found = match said.error {
            Some(error) => format!("status {status}: {}", error.message),
            None => format!("answers with status {status}"),
        };
        let next_step = "something else may listen there: name the server with --server URL";
        Self::new(server, State::Unknown, &found, next_step)
    }

    fn unreachable(server: &str, error: &EgressError) -> Self {
        let next_step = match error {
            EgressError::Connect { .. } => {
                "start it with `sconce serve`, or name the address that it listens on with --server URL".to_owned()
            }
            EgressError::Timeout { .. } => "the machine may be overloaded, or the server hangs: see its log".to_owned(),
            error => error.next_step(),
        };
        Self::new(server, State::Unreachable, &error.to_string(), &next_step)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Stopping => "shutting down",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unknown => "not ready",
        })
    }
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, state, found, next_step } = self;
        match state {
            State::Ready => write!(formatter, "{state}: {server} {found}"),
            // What the door says begins with the address.
            State::Unreachable => write!(formatter, "{state}: {found}; {next_step}"),
            _ => write!(formatter, "{state}: {server}: {found}; {next_step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{ConnectFailure, Origin};
    use url::Url;

    const URL: &str = "http://127.0.0.1:5052";

    fn check(finding: &Finding, state: State, line: &str) {
        assert_eq!((finding.state, finding.to_string().as_str()), (state, line));
        assert!((state == State::Ready) == finding.next_step.is_empty(), "{finding:?}");
    }

    #[test]
    fn every_answer_becomes_one_line() {
        for (status, body, state, line) in [
            (200, "{}", State::Ready, "ready: http://127.0.0.1:5052 takes calls"),
            (
                503,
                r#"{"status":"starting","cause":"the models are being loaded"}"#,
                State::Starting,
                "starting: http://127.0.0.1:5052: the models are being loaded; wait; its log says how far it is",
            ),
            (
                503,
                r#"{"status":"restarting","cause":"the engine of a is restarting, 2 attempts so far:\n\u001b[31mx"}"#,
                State::Restarting,
                "restarting: http://127.0.0.1:5052: the engine of a is restarting, 2 attempts so far:[31mx; \
                 wait: it comes back by itself, or is failed; its log says more",
            ),
            (
                503,
                r#"{"status":"failed","cause":"the engine of a has failed: x"}"#,
                State::Failed,
                "failed: http://127.0.0.1:5052: the engine of a has failed: x; look into its log, and start it again",
            ),
            (
                503,
                r#"{"status":"shutting down","cause":null}"#,
                State::Stopping,
                "shutting down: http://127.0.0.1:5052: shutting down; start it again if that was not meant",
            ),
            (
                403,
                r#"{"error":{"message":"it is not in access.allow"}}"#,
                State::Refused,
                "refused: http://127.0.0.1:5052: it is not in access.allow; add the address that this check comes \
                 from to access.allow: on the server's machine 127.0.0.1/32 (::1/128)",
            ),
            (
                403,
                r#"{"error":{"message":"this server has no authentication"}}"#,
                State::Refused,
                "refused: http://127.0.0.1:5052: this server has no authentication; name it by an address of this \
                 machine: --server http://127.0.0.1:PORT",
            ),
            (
                400,
                "This port speaks HTTPS\n",
                State::Unknown,
                "not ready: http://127.0.0.1:5052: this port speaks HTTPS; write https:// in --server URL, or give \
                 this check the server's configuration",
            ),
            (
                200,
                "<html>Sign in</html>",
                State::Unknown,
                "not ready: http://127.0.0.1:5052: answers with status 200; something else may listen there: name the \
                 server with --server URL",
            ),
            (
                404,
                r#"{"error":{"message":"nothing here"}}"#,
                State::Unknown,
                "not ready: http://127.0.0.1:5052: status 404: nothing here; something else may listen there: name \
                 the server with --server URL",
            ),
        ] {
            let fetched = Fetched { status, content_type: None, date: None, body: body.as_bytes().to_vec() };
            check(&Finding::of_answer(URL, &fetched), state, line);
        }
    }

    #[test]
    fn what_does_not_answer_is_unreachable() {
        let at = || Origin::of(&Url::parse(URL).expect("a URL"));
        for (error, line) in [
            (
                EgressError::Connect { at: at(), proxy: None, reason: ConnectFailure::Refused },
                "unreachable: http://127.0.0.1:5052: cannot connect: the connection is refused, so nothing listens \
                 there; start it with `sconce serve`, or name the address that it listens on with --server URL",
            ),
            (
                EgressError::Timeout { at: at(), after: TIMEOUT, proxy: None },
                "unreachable: http://127.0.0.1:5052: no answer within 5 s; the machine may be overloaded, or the \
                 server hangs: see its log",
            ),
        ] {
            check(&Finding::unreachable(URL, &error), State::Unreachable, line);
        }
    }
}
