//! Settings: defaults < file < environment < flags, resolved once into a plain [`Config`] whose parts are passed down
//! by value.
//!
//! The only room that reads the environment. Variables of GitLab's own gateway (`gitlab_env`) stand between the file
//! and ours, so that a set-up written for that gateway keeps its meaning. Every key is listed in `keys`; a key that is not there is an error with a
//! suggestion, wherever it was written. [`resolve`] gives back both the configuration (or everything that is wrong with
//! it, at once) and a [`Report`] that says where each value came from.

mod build;
mod build_cloud;
mod build_gateway;
mod build_routing;
mod cloud;
mod gateway;
mod gitlab_env;
mod keys;
mod layers;
mod problem;
mod reader;
mod report;
mod routing;
mod size;
mod table;
#[cfg(test)]
mod tests;

pub use cloud::{Credentials, Entra, EntraIdentity, GitlabInstance, Place};
pub use gateway::{Access, Bypass, Egress, EgressMode, Gitlab, ProxyUrl, State, Tls, TlsFiles};
pub use gitlab_env::Notice;
pub use layers::{Environment, Flag};
pub use problem::{ConfigError, Problem};
pub use report::Report;
pub use routing::{Provider, ProviderInfill, ProviderKind, ProviderSampling, Route, RoutedModel};
pub use size::Bytes;
pub use table::{RouteRow, RouteTable};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// What the model inside the binary is called.
pub const EMBEDDED_NAME: &str = "sconce";

/// Everything that can be set, checked and ready to be handed out.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub server: Server,
    /// `None` switches the metrics port off.
    pub metrics: Option<Metrics>,
    pub auth: Auth,
    pub engine: Engine,
    pub limits: Limits,
    /// Models read from disk, in the order of their names.
    pub models: Vec<Model>,
    pub catalog: Catalog,
    /// Models that lead to others, in the order of their names.
    pub routed_models: Vec<RoutedModel>,
    /// Servers of somebody else's, in the order of their names.
    pub providers: Vec<Provider>,
    /// Name of the model that answers a feature of GitLab; `default` is for the features not named.
    pub features: BTreeMap<&'static str, String>,
    /// Who is asked for a feature of GitLab, and whether it may leave this machine; `default` is for calls that name no
    /// model.
    pub routes: BTreeMap<&'static str, Route>,
    pub gitlab: Gitlab,
    pub state: State,
    pub access: Access,
    pub tls: Tls,
    pub egress: Egress,
    pub log: Log,
    /// Variables of GitLab's gateway that change nothing here: each is worth a line in the log.
    pub notices: Vec<Notice>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    pub connections_max: usize,
    pub streams_per_connection_max: u32,
    pub header_bytes_max: usize,
    pub header_read_timeout: Duration,
    pub body_bytes_max: usize,
    pub body_read_timeout: Duration,
    pub write_stall_timeout: Duration,
    pub keep_alive_interval: Duration,
    pub deadline_max: Duration,
    pub shutdown_grace: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    pub listen: SocketAddr,
    /// Somebody asked for this address, so not getting it is an error. The default address may be taken: then the
    /// server says so and goes on without metrics.
    pub is_required: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// API keys as given in the environment or the file.
    pub keys: Vec<Secret>,
    /// One key per line, hashed: see `sconce key new`.
    pub keys_file: Option<PathBuf>,
}

impl Auth {
    /// Whether anybody has to show a key.
    pub fn is_configured(&self) -> bool {
        !self.keys.is_empty() || self.keys_file.is_some()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Engine {
    pub threads: NonZeroUsize,
    pub device: DeviceChoice,
    /// Memory for keys and values, per model; `None` leaves it to the device.
    pub kv_memory: Option<Bytes>,
    pub quantise: Quantise,
    /// Caps the context of every model; `None` takes what the model was trained for.
    pub context_tokens_max: Option<NonZeroUsize>,
    /// `None` leaves it to the device, as for the two below.
    pub step_tokens_max: Option<NonZeroUsize>,
    pub prefill_chunk_max: Option<NonZeroUsize>,
    pub running_max: Option<NonZeroUsize>,
    pub waiting_max: NonZeroUsize,
    /// Whether reductions on a GPU have one order for every batch. On the CPU they always have.
    pub is_batch_invariant: bool,
    /// Whether guessed tokens are verified where that pays. It changes no answer.
    pub speculates: bool,
    /// Share of a step's tokens that chat gets even while completions wait.
    pub chat_share: f64,
    pub promote_after: Duration,
    pub completion_deadline: Duration,
    pub chat_deadline: Duration,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where there is one, the CPU elsewhere.
    Auto,
    Cpu,
    /// This GPU and nothing else.
    Cuda {
        ordinal: usize,
    },
}

/// What the weights become on the way into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantise {
    None,
    Q8_0,
    /// On a GPU only.
    Fp8,
    /// On a GPU only.
    Int4,
}

/// What one request may ask for at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Prompts times `n`.
    pub choices_max: usize,
    pub max_tokens_max: usize,
    pub messages_max: usize,
    pub stop_strings_max: usize,
    pub stop_bytes_max: usize,
    pub logit_bias_entries_max: usize,
    pub top_logprobs_max: usize,
    pub json_values_max: usize,
    pub json_depth_max: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub name: String,
    /// A GGUF file or a folder with config.json, tokenizer.json and safetensors.
    pub path: PathBuf,
    pub quantise: Quantise,
    pub context_tokens: Option<NonZeroUsize>,
    pub kv_memory: Option<Bytes>,
    /// Name of the card that describes it, where the guess would be wrong.
    pub card: Option<String>,
    /// Further names it answers to.
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// More cards than the built-in ones.
    pub cards_dir: Option<PathBuf>,
    /// Whether the model inside the binary is served.
    pub is_embedded_served: bool,
    pub embedded_aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or directives such as `info,sconce::engine=debug`.
    pub level: String,
    /// False when `NO_COLOR` is set (no-color.org).
    pub may_colour: bool,
    /// Prompts and answers of every call are logged, secrets masked.
    pub has_bodies: bool,
    /// They are logged for calls of a GitLab that asks for it.
    pub honours_instance_verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON lines elsewhere.
    Auto,
    Text,
    Json,
}

/// Text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// The outcome of [`resolve`].
#[derive(Debug)]
pub struct Resolution {
    pub config: Result<Config, ConfigError>,
    pub report: Report,
}

/// Puts the layers on top of each other and checks the result. Reads the configuration file and the
/// files that secrets were put into, nothing else.
///
/// `file` is the path of `--config`; without it `SCONCE_CONFIG` is asked.
pub fn resolve(environment: &Environment, file: Option<PathBuf>, flags: &[Flag]) -> Resolution {
    let layers::Stack { figment, problems, notices } = layers::stack(environment, file, flags);
    let mut reader = reader::Reader::new(&figment, problems);
    let config = build::config(&mut reader, environment, notices.clone());
    let (settings, problems) = reader.finish();
    let report = Report {
        settings,
        notices: notices.iter().map(Notice::to_string).collect(),
        problems: problems.iter().map(Problem::to_string).collect(),
        routes: if problems.is_empty() { RouteTable::new(&config) } else { RouteTable::default() },
    };
    let config = if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) };
    Resolution { config, report }
}
