//! `sconce bench serve`: asks one or two servers as clients would, with a line of progress on a terminal. Keys and
//! tokens come from files, never from the command line, and are not shown.

use super::args::EngineArgs;
use super::error::CliError;
use super::{output, quiet_config, token};
use crate::bench::serve::{
    self, Amount, CONCURRENCY_MAX, Dialect, Goals, Load, Plan, Progress, RATE_MAX, SecretHeaders, ServeBenchError,
    ServeReport, TARGETS_MAX, TOKENS_MAX, Target, Texts, Typing, Workload,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const HELP: &str = "\
Examples:
  sconce bench serve http://127.0.0.1:5052
  sconce bench serve http://127.0.0.1:5052 --workload typing --concurrency 1,4 --html report.html
  sconce bench serve http://127.0.0.1:5052 --rate 2,5,10 --target-ttft-ms 200
  sconce bench serve http://127.0.0.1:5052 http://127.0.0.1:8080 --label sconce --label other
  sconce bench serve https://gateway.example.com --dialect gitlab --token-file token.txt

Any server that speaks OpenAI's API can be measured. Two take turns, round by round, with
the same texts, and are compared within each round. --model, --label, --extra and the
files may be given twice: first for the first server, then for the second; given once,
they are for both.

Streams (--concurrency) ask again once they are answered. Arrivals (--rate) come whatever
the server does, and their latency counts from the moment they were due: take those to
see what a stall does to people.

Ctrl-C ends it without a report, with exit code 130. Exits with 1 when requests failed.";

const REQUESTS_MAX: usize = 1_000_000;
const ROUNDS_MAX: usize = 1_000;
const KEYS_MAX: usize = 100;
const MILLISECONDS_MAX: usize = 3_600_000;
const SECONDS_MAX: usize = 86_400;
const WHOLE: &str = "application/json";

#[derive(Debug, Args)]
pub struct ServeBenchArgs {
    /// One base address, or two that take turns
    #[arg(value_name = "URL", required = true, num_args = 1..=TARGETS_MAX)]
    pub urls: Vec<String>,
    /// What is asked
    #[arg(long, value_enum, default_value_t = WorkloadArg::Completion)]
    pub workload: WorkloadArg,
    /// Closed loop: streams that ask one after the other [default: 1,4,8, unless --rate is given]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = count(CONCURRENCY_MAX))]
    pub concurrency: Vec<u64>,
    /// Open loop: requests (typing: bursts) a second, at random moments
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = rate)]
    pub rate: Vec<f64>,
    /// Rounds that count; a shorter one goes before them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count(ROUNDS_MAX))]
    pub rounds: u64,
    /// Requests (typing: bursts) of a round, all streams together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count(REQUESTS_MAX))]
    pub requests: u64,
    /// Begin requests for this long in each round, in place of a number of them
    #[arg(long, value_name = "SECONDS", conflicts_with = "requests", value_parser = count(SECONDS_MAX))]
    pub duration: Option<u64>,
    #[command(flatten)]
    pub texts: TextArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub report: ReportArgs,
    /// Read settings from this TOML file: tls.extra_ca_files is what counts here
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// How long texts are and how they are typed.
#[derive(Debug, Args)]
pub struct TextArgs {
    /// Length of prompts, about
    #[arg(long, value_name = "TOKENS", default_value_t = 256, value_parser = count(TOKENS_MAX))]
    pub prompt_tokens: u64,
    /// Code behind the cursor, about
    #[arg(long, value_name = "TOKENS", default_value_t = 0, value_parser = from_zero(TOKENS_MAX))]
    pub suffix_tokens: u64,
    /// Length of answers at most; a gateway of GitLab decides itself
    #[arg(long, value_name = "TOKENS", default_value_t = 32, value_parser = count(TOKENS_MAX))]
    pub max_tokens: u64,
    /// How much of a prompt is the same in all requests of a stream, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = from_zero(100))]
    pub shared: u64,
    /// Typing: keystrokes of a burst
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count(KEYS_MAX))]
    pub keys: u64,
    /// Typing: time between two keystrokes on average
    #[arg(long, value_name = "MS", default_value_t = 150, value_parser = count(MILLISECONDS_MAX))]
    pub key_ms: u64,
    /// Mixed: chats that run beside the typing
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count(CONCURRENCY_MAX))]
    pub chats: u64,
    /// Other seeds give other texts: a cache that is warm from a run before knows only the same ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Who is asked, and as whom.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Which API the servers speak
    #[arg(long, value_enum, default_value_t = DialectArg::Openai)]
    pub dialect: DialectArg,
    /// The model to ask for [default: the first that the server lists]
    #[arg(long, value_name = "MODEL", num_args = 1)]
    pub model: Vec<String>,
    /// What to call a server in the report [default: host and port]
    #[arg(long, value_name = "NAME", num_args = 1)]
    pub label: Vec<String>,
    /// A file that holds an API key
    #[arg(long, value_name = "FILE", num_args = 1, conflicts_with = "token_file")]
    pub api_key_file: Vec<PathBuf>,
    /// A file that holds a token of GitLab
    #[arg(long, value_name = "FILE", num_args = 1)]
    pub token_file: Vec<PathBuf>,
    /// Fields to add to every request's body
    #[arg(long, value_name = "JSON", num_args = 1, value_parser = fields)]
    pub extra: Vec<Map<String, Value>>,
    /// How long one request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = count(SECONDS_MAX))]
    pub timeout: u64,
}

/// What is shown, and what is good.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A good request has its first token within this time
    #[arg(long, value_name = "MS", value_parser = count(MILLISECONDS_MAX))]
    pub target_ttft_ms: Option<u64>,
    /// A good request is over within this time
    #[arg(long, value_name = "MS", value_parser = count(MILLISECONDS_MAX))]
    pub target_e2e_ms: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write a page with plots that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum WorkloadArg {
    /// Code to go on with
    Completion,
    /// Questions about code
    Chat,
    /// Bursts of keys, each of which cancels the request of the one before
    Typing,
    /// Typing, while chats run
    Mixed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DialectArg {
    /// /v1/completions and /v1/chat/completions
    Openai,
    /// /v2/code/completions of GitLab's gateway
    Gitlab,
}

fn count(max: usize) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=max as u64)
}

fn from_zero(max: usize) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(0..=max as u64)
}

fn rate(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= RATE_MAX);
    parsed.ok_or_else(|| format!("a number above 0 and up to {RATE_MAX} is needed"))
}

fn fields(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|_| "an object is needed, for example {\"ignore_eos\": true}".to_owned())
}

pub fn run(args: &ServeBenchArgs) -> Result<(), CliError> {
    let engine = EngineArgs { config: args.config.clone(), ..EngineArgs::default() };
    let config = quiet_config(&engine, &[])?;
    let plan = args.plan()?;
    let line = Line::new();
    // Clients must not take from servers what is measured: one thread reads and writes, this one waits and draws.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let report = runtime.map_err(CliError::Runtime)?.block_on(async {
        let mut show = |progress: Progress<'_>| line.show(&progress);
        tokio::select! {
            report = serve::run(&plan, &config.tls.extra_ca_files, &mut show) => report,
            _ = tokio::signal::ctrl_c() => Err(ServeBenchError::Interrupted),
        }
    });
    line.clear();
    show(&report?, &args.report)
}

fn show(report: &ServeReport, args: &ReportArgs) -> Result<(), CliError> {
    if let Some(path) = &args.html {
        let written = std::fs::write(path, serve::serve_report_html(report));
        written.map_err(|source| CliError::ReportFile { path: path.clone(), source })?;
    }
    let text = match args.json {
        true => format!("{:#}\n", serve::serve_report_json(report)),
        false => serve::serve_report_text(report),
    };
    output::print(&output::without_controls(&text))?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(CliError::RequestsFailed { failed }),
    }
}

impl ServeBenchArgs {
    fn plan(&self) -> Result<Plan, CliError> {
        let targets = self.urls.iter().enumerate().map(|(index, url)| self.server.target(url, index));
        let milliseconds = |given: u64| Duration::from_millis(given);
        Ok(Plan {
            targets: targets.collect::<Result<_, CliError>>()?,
            workload: match self.workload {
                WorkloadArg::Completion => Workload::Completion,
                WorkloadArg::Chat => Workload::Chat,
                WorkloadArg::Typing => Workload::Typing,
                WorkloadArg::Mixed => Workload::Mixed,
            },
            loads: self.loads(),
            rounds: number(self.rounds),
            amount: match self.duration {
                Some(seconds) => Amount::Duration(Duration::from_secs(seconds)),
                None => Amount::Requests(number(self.requests)),
            },
            texts: Texts {
                prompt_tokens: number(self.texts.prompt_tokens),
                suffix_tokens: number(self.texts.suffix_tokens),
                output_tokens: number(self.texts.max_tokens),
                shared: self.texts.shared as f64 / 100.0,
            },
            typing: Typing { keys: number(self.texts.keys), gap: milliseconds(self.texts.key_ms) },
            chats: number(self.texts.chats),
            goals: Goals {
                first_token: self.report.target_ttft_ms.map(milliseconds),
                end_to_end: self.report.target_e2e_ms.map(milliseconds),
            },
            timeout: Duration::from_secs(self.server.timeout),
            seed: self.texts.seed,
        })
    }

    /// Streams first, each load once.
    fn loads(&self) -> Vec<Load> {
        let default = if self.rate.is_empty() { &[1, 4, 8][..] } else { &[] };
        let streams = if self.concurrency.is_empty() { default } else { &self.concurrency };
        let closed = streams.iter().map(|streams| Load::Concurrency(number(*streams)));
        let mut loads: Vec<Load> = Vec::new();
        for load in closed.chain(self.rate.iter().copied().map(Load::Rate)) {
            if !loads.contains(&load) {
                loads.push(load);
            }
        }
        loads
    }
}

impl ServerArgs {
    fn target(&self, url: &str, index: usize) -> Result<Target, CliError> {
        let dialect = match self.dialect {
            DialectArg::Openai => Dialect::Openai,
            DialectArg::Gitlab => Dialect::Gitlab,
        };
        let mut headers = vec![("accept", format!("text/event-stream, {WHOLE}"))];
        if let Some(file) = of(&self.api_key_file, index) {
            headers.push(("authorization", format!("Bearer {}", token::bare(&token::read(Some(file))?))));
        }
        if let Some(file) = of(&self.token_file, index) {
            headers.extend(gitlab_headers(file)?);
        }
        Ok(Target {
            label: self.label.get(index).cloned().unwrap_or_else(|| host_of(url).to_owned()),
            url: url.to_owned(),
            dialect,
            model: of(&self.model, index).cloned(),
            headers: SecretHeaders(headers),
            extra: of(&self.extra, index).cloned().unwrap_or_default(),
        })
    }
}

/// What GitLab sends with a token. The gateway compares the headers with what the token says, so they are taken from
/// it; whether its signature is good is the gateway's affair.
fn gitlab_headers(file: &Path) -> Result<Vec<(&'static str, String)>, CliError> {
    let text = token::read(Some(file))?;
    let token = token::bare(&text);
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default();
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(vec![
        ("authorization", format!("Bearer {token}")),
        ("x-gitlab-authentication-type", "oidc".to_owned()),
        ("x-gitlab-realm", claim("gitlab_realm")),
        // An instance's token has the instance as its subject, a user's the user.
        ("x-gitlab-instance-id", claim("sub")),
        ("x-gitlab-global-user-id", claim("sub")),
    ])
}

/// What was given for this server; given once, it is for every one.
fn of<T>(given: &[T], index: usize) -> Option<&T> {
    if given.len() == 1 { given.first() } else { given.get(index) }
}

/// `http://127.0.0.1:5052/v1` without what is around the middle.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    // A name and a password may stand before the host. Such an address is refused, but it is named in the refusal.
    rest.rsplit('@').next().unwrap_or(rest)
}

fn number(given: u64) -> usize {
    usize::try_from(given).expect("the limits above fit")
}

/// One line on a terminal that says what is being measured.
struct Line {
    bar: ProgressBar,
}

impl Line {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{bar:24}  {msg}").expect("the template is a constant that parses");
        // Drawn on a terminal, and nowhere else; seldom, because the client's time is the servers'.
        Self { bar: ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(5)).with_style(style) }
    }

    fn show(&self, progress: &Progress<'_>) {
        let Progress { target, load, rounds, round, done, failed, rounds_done, rounds_total } = *progress;
        if self.bar.is_hidden() {
            return;
        }
        let round = if round == 0 { "warming up".to_owned() } else { format!("round {round} of {rounds}") };
        let failed = if failed > 0 { format!(", {failed} failed") } else { String::new() };
        self.bar.set_length(rounds_total as u64);
        self.bar.set_position(rounds_done as u64);
        self.bar.set_message(format!("{target}, {load}, {round}: {done} requests{failed}"));
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_once_is_for_both() {
        for (given, first, second) in
            [(&[][..], None, None), (&["a"][..], Some("a"), Some("a")), (&["a", "b"][..], Some("a"), Some("b"))]
        {
            assert_eq!((of(given, 0).copied(), of(given, 1).copied()), (first, second));
        }
    }

    #[test]
    fn a_server_is_called_after_its_host() {
        for (url, host) in [
            ("http://127.0.0.1:5052", "127.0.0.1:5052"),
            ("https://llm.example.com/v1", "llm.example.com"),
            ("https://me:secret@llm.example.com/", "llm.example.com"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }

    #[test]
    fn the_headers_of_a_token_say_what_the_token_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"abc","gitlab_realm":"self-managed","iss":"x"}"#);
        std::fs::write(&file, format!("Bearer e30.{claims}.c2ln\n")).expect("written");
        let headers = gitlab_headers(&file).expect("a token");
        let of = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(of("authorization"), Some(format!("Bearer e30.{claims}.c2ln").as_str()));
        assert_eq!(of("x-gitlab-realm"), Some("self-managed"));
        assert_eq!(of("x-gitlab-instance-id"), Some("abc"));
    }
}
