//! What can be wrong with a configuration. Each says the place, what was found and what is allowed.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything that is wrong, in one go.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    #[error("cannot read the configuration file {}: {reason}", .path.display())]
    FileUnreadable { path: PathBuf, reason: String },
    #[error("the configuration file {} has {bytes} bytes, the limit is {bytes_max}", .path.display())]
    FileTooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    #[error("the configuration file {} is not TOML: {reason}", .path.display())]
    FileSyntax { path: PathBuf, reason: String },
    #[error("{origin}: unknown key `{key}`{}", did_you_mean(.suggestion))]
    UnknownKey { origin: String, key: String, suggestion: Option<String> },
    #[error("{origin}: unknown variable{}", did_you_mean(.suggestion))]
    UnknownVariable { origin: String, suggestion: Option<String> },
    #[error("{origin}: not valid Unicode")]
    NotUnicode { origin: String },
    #[error("{origin}: `{key}` is {found}, expected {expected}")]
    WrongValue { origin: String, key: String, found: String, expected: String },
    #[error("model `{name}` has no path: set `path` below [models.{name}] or pass --model {name}=PATH")]
    ModelWithoutPath { name: String },
    #[error(
        "{origin}: `{name}` cannot name a model: up to 128 letters, digits and any of . _ - / : are allowed, beginning with a letter or digit"
    )]
    ModelName { origin: String, name: String },
    #[error("no model is left to serve: catalog.embedded is off and no other is set; pass --model NAME=PATH")]
    NoModel,
    #[error(
        "{origin}: `server.listen` is {listen}, which other machines can reach, but no API key is configured. \
         Make one with `sconce key new NAME`, put the line it prints into a file, and name that file by \
         `keys_file = \"PATH\"` below [auth] in the configuration file or by SCONCE__AUTH__KEYS_FILE=PATH in the \
         environment; or listen on 127.0.0.1:{}",
        .listen.port()
    )]
    ExposedWithoutKeys { origin: String, listen: SocketAddr },
    #[error("{smaller_key} is {smaller}, which exceeds {larger_key} of {larger}")]
    Exceeds { smaller_key: &'static str, smaller: u64, larger_key: &'static str, larger: u64 },
    #[error("`server.listen` and `metrics.listen` are both {listen}: give the metrics a port of their own")]
    SameAddress { listen: SocketAddr },
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    match suggestion {
        Some(suggestion) => format!("; did you mean `{suggestion}`?"),
        None => "; `sconce check-config` lists every key".to_owned(),
    }
}
