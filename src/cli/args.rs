//! The command line as clap reads it, with the help a person reads.

use super::{bench, docs, export};
use crate::config::Flag;
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};

const ABOUT: &str =
    "Code completion and chat on a machine you own: an OpenAI-compatible server and its models in one process.";

const AFTER_HELP: &str = "\
Examples:
  sconce serve                              serve the built-in model on 127.0.0.1:5052
  sconce serve --model coder=qwen.gguf      serve a model of yours
  sconce complete src/main.rs:12            fill in at the end of line 12
  sconce chat \"what does Box<dyn Fn()> do?\" ask one question
  sconce check-config                       see every setting and where it came from
  sconce doctor --gitlab https://gitlab.example.com   find out why GitLab and sconce do not talk
  sconce bench engine                       measure how fast models are on this machine
  sconce bench serve http://127.0.0.1:5052  measure a server as its clients see it

Settings come from defaults, then the file (--config or SCONCE_CONFIG), then the
environment (SCONCE__SECTION__KEY), then flags; the later wins.

Exit codes:
  0  done
  1  the command failed
  2  the command line was not understood
  3  the configuration was refused
  4  a model could not be loaded";

const SERVE_HELP: &str = "\
Examples:
  sconce serve
  sconce serve --listen 127.0.0.1:0         take a free port and print it
  sconce serve --model coder=models/qwen2.5-coder-7b-q4_k_m.gguf --kv-memory 4GiB
  sconce serve --config /etc/sconce.toml

Other machines can reach the server only once it knows whom to let in. The AI gateway
of a GitLab, whose tokens it then asks for (docs/gitlab.md):
  AIGW_GITLAB_URL=https://gitlab.example.com sconce serve --listen 0.0.0.0:5052
Or with API keys:
  sconce key new alice                      prints a key and a line for the key file
  SCONCE__AUTH__KEYS_FILE=keys.txt sconce serve --listen 0.0.0.0:5052

SIGTERM or Ctrl-C lets running answers finish; a second one ends at once.";

const COMPLETE_HELP: &str = "\
Examples:
  sconce complete src/main.rs:12            at the end of line 12
  sconce complete src/main.rs:12:5          before the fifth character of line 12
  sconce complete lib.py:40 --model coder=qwen.gguf --max-tokens 64";

const CHAT_HELP: &str = "\
Examples:
  sconce chat                               talk; Ctrl-D ends it
  sconce chat \"write a haiku about mutexes\"
  git diff | sconce chat --system \"Review this change.\"";

const KEY_HELP: &str = "\
Example:
  sconce key new alice

Only the hash of a key is kept, in the file named by auth.keys_file. Clients send
the key itself as `Authorization: Bearer KEY`.";

const DOCTOR_HELP: &str = "\
Examples:
  sconce doctor                             check what the configuration names
  sconce doctor --gitlab https://gitlab.example.com
  sconce doctor --server https://gateway.example.com:5052 --token-file token.txt --stream

Run it where the server runs, in its container: names, certificates and proxies are
those of that place. Exits with 1 when a check fails. Nothing is changed.";

const HEALTH_HELP: &str = "\
Examples:
  sconce health                             ask the server that the configuration describes
  sconce health --server https://127.0.0.1:8443 --json

For scripts and the health checks of containers. Exits with 0 when the server takes
calls, and otherwise with 1 and a line that says why and what to do. Waits 5 seconds at
most. At an address of this machine (127.0.0.1, not localhost) any certificate will do.";

const TOKEN_HELP: &str = "\
Examples:
  sconce token inspect < token.txt
  sconce token inspect --file token.txt --gitlab https://gitlab.example.com --json

The token is neither taken from the command line nor ever shown. Exits with 1 when it
would be refused.";

#[derive(Debug, Parser)]
#[command(name = "sconce", version, about = ABOUT, after_help = AFTER_HELP, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve models over HTTP
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Fill in code at a cursor in a file
    #[command(after_help = COMPLETE_HELP)]
    Complete(CompleteArgs),
    /// Talk with a model
    #[command(after_help = CHAT_HELP)]
    Chat(ChatArgs),
    /// List the models that would be served
    Models(ModelsArgs),
    /// Show every effective setting, where it came from, and what is wrong
    CheckConfig(CheckConfigArgs),
    /// Find out why GitLab and the gateway do not talk
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Ask a running server whether it takes calls
    #[command(after_help = HEALTH_HELP)]
    Health(HealthArgs),
    /// Look at tokens of GitLab
    #[command(subcommand, after_help = TOKEN_HELP)]
    Token(TokenVerb),
    /// Import documentation for the chat to look into
    #[command(subcommand, after_help = docs::HELP)]
    Docs(docs::DocsVerb),
    /// Measure how fast this machine is
    #[command(subcommand)]
    Bench(bench::BenchVerb),
    /// Write what serves the same models from a cluster
    #[command(after_help = export::HELP)]
    Export(export::ExportArgs),
    /// Make API keys
    #[command(subcommand, after_help = KEY_HELP)]
    Key(KeyVerb),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the version, and what it can compute on
    Version,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address of the API; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Serve a GGUF file or a Hugging Face folder under this name (repeatable)
    #[arg(long = "model", value_name = "NAME=PATH")]
    pub models: Vec<String>,
    /// Format of the log on stderr: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What every verb that runs a model takes.
#[derive(Debug, Default, Args)]
pub struct EngineArgs {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Compute threads
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// What computes: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Memory for keys and values, per model, such as 512MiB
    #[arg(long, value_name = "SIZE")]
    pub kv_memory: Option<String>,
    /// Quantise weights while loading: q8_0 on the CPU, fp8 or int4 on a GPU
    #[arg(long, value_name = "TYPE", value_parser = ["q8_0", "fp8", "int4", "none"])]
    pub quantize: Option<String>,
}

#[derive(Debug, Args)]
pub struct CompleteArgs {
    /// Where to fill in: lines and columns count from 1, columns count characters
    #[arg(value_name = "FILE:LINE[:COL]")]
    pub cursor: String,
    /// A configured model's name, NAME=PATH, or PATH
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    /// Ask this and print the answer; without it, talk, or take the question from a pipe
    pub message: Option<String>,
    /// Instructions that come before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// A configured model's name, NAME=PATH, or PATH
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Longest answer, in tokens; without it as long as the context allows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token
    #[arg(long, value_name = "0..2", default_value_t = 0.0, value_parser = temperature)]
    pub temperature: f32,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Look at this model too (repeatable)
    #[arg(long = "model", value_name = "NAME=PATH")]
    pub models: Vec<String>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at this GitLab instead of the configured one
    #[arg(long, value_name = "URL")]
    pub gitlab: Option<String>,
    /// Look at the server at this address instead of the configured one
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// A token of GitLab, to go through the connection test with
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Measure whether a streamed answer arrives piece by piece
    #[arg(long)]
    pub stream: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Ask the server at this address instead of the configured one
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Say what a token holds, and why it would be taken or refused
    #[command(after_help = TOKEN_HELP)]
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Read the token from this file instead of standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Take the keys of this GitLab instead of the configured one
    #[arg(long, value_name = "URL")]
    pub gitlab: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl DoctorArgs {
    pub fn flags(&self) -> Vec<Flag> {
        set_flags([("--gitlab", "gitlab.url", &self.gitlab)])
    }
}

impl InspectArgs {
    pub fn flags(&self) -> Vec<Flag> {
        set_flags([("--gitlab", "gitlab.url", &self.gitlab)])
    }
}

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a key for somebody; it is shown once
    New {
        /// Who will use it: letters, digits and . _ @ -
        name: String,
    },
}

impl EngineArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let all = [
            ("--threads", "engine.threads", &self.threads),
            ("--device", "engine.device", &self.device),
            ("--kv-memory", "engine.kv_memory", &self.kv_memory),
            ("--quantize", "engine.quantise", &self.quantize),
        ];
        set_flags(all)
    }
}

impl ServeArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = self.engine.flags();
        flags.extend(set_flags([
            ("--listen", "server.listen", &self.listen),
            ("--log-format", "log.format", &self.log_format),
        ]));
        flags.extend(self.models.iter().map(|model| model_flag(model)));
        flags
    }
}

impl ModelsArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = self.engine.flags();
        flags.extend(self.models.iter().map(|model| model_flag(model)));
        flags
    }
}

/// `NAME=PATH`, or `PATH` alone, which is named after the file or folder.
pub fn model_flag(model: &str) -> Flag {
    let (name, path) = split_model(model);
    Flag::of_model("--model", &name, "path", path)
}

pub fn split_model(model: &str) -> (String, &str) {
    match model.split_once('=') {
        Some((name, path)) => (name.to_owned(), path),
        None => (model_name(Path::new(model)), model),
    }
}

fn model_name(path: &Path) -> String {
    let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let name = if is_gguf { path.file_stem() } else { path.file_name() };
    name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().replace(' ', "-"))
}

pub fn set_flags<const N: usize>(all: [(&'static str, &'static str, &Option<String>); N]) -> Vec<Flag> {
    let set = all.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value.as_ref()?)));
    set.map(|(flag, key, value)| Flag::new(flag, key, value)).collect()
}

fn temperature(text: &str) -> Result<f32, String> {
    let parsed = text.parse::<f32>().ok().filter(|temperature| (0.0..=2.0).contains(temperature));
    parsed.ok_or_else(|| "a number from 0 to 2 is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_model_is_named_or_names_itself() {
        for (given, name, path) in [
            ("coder=a/b.gguf", "coder", "a/b.gguf"),
            ("a/b.gguf", "b", "a/b.gguf"),
            ("a/Qwen2.5-Coder-7B", "Qwen2.5-Coder-7B", "a/Qwen2.5-Coder-7B"),
            ("x=y=z", "x", "y=z"),
        ] {
            assert_eq!(split_model(given), (name.to_owned(), path), "{given}");
        }
    }
}
