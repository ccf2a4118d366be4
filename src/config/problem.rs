//! What can be wrong with a configuration. Each says the place, what was found and what is allowed.

use crate::route::policy::PolicyError;
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
    #[error(
        "model `{name}` has no path: set `path` below [models.{name}] or pass --model {name}=PATH; or set `lanes` to \
         lead it to others"
    )]
    ModelWithoutPath { name: String },
    #[error(
        "{origin}: `{name}` cannot name a model: up to 128 letters, digits and any of . _ - / : are allowed, beginning with a letter or digit"
    )]
    ModelName { origin: String, name: String },
    #[error("no model is left to serve: catalog.embedded is off and no other is set; pass --model NAME=PATH")]
    NoModel,
    #[error(
        "{origin}: `server.listen` is {listen}, which other machines can reach, but nobody would have to prove who they \
         are. Either name your GitLab, whose tokens are then asked for: `url = \"https://gitlab.example.com\"` below \
         [gitlab] in the configuration file, or AIGW_GITLAB_URL=URL in the environment. Or make an API key with \
         `sconce key new NAME`, put the line it prints into a file, and name that file by `keys_file = \"PATH\"` below \
         [auth] or by SCONCE__AUTH__KEYS_FILE=PATH. Or listen on 127.0.0.1:{}",
        .listen.port()
    )]
    ExposedWithoutKeys { origin: String, listen: SocketAddr },
    #[error(
        "{origin}: `{key}` lets callers in without a valid token, which is allowed on loopback only, and \
         `server.listen` is {listen}; remove it, or listen on 127.0.0.1:{}",
        .listen.port()
    )]
    ExposedBypass { origin: String, key: &'static str, listen: SocketAddr },
    #[error("`{key}` and `{file_key}` are both set ({origin}, {file_origin}): keep one of them")]
    SecretTwice { key: String, origin: String, file_key: String, file_origin: String },
    #[error("{origin}: `{file_key}`: cannot read {}: {reason}", .path.display())]
    SecretFile { origin: String, file_key: String, path: PathBuf, reason: String },
    #[error(
        "{origin}: `{key}` holds no PEM: text that begins with -----BEGIN and ends with a line -----END is needed, \
         line ends real or written as \\n"
    )]
    NoPem { origin: String, key: String },
    #[error(
        "{origin}: HTTPS is asked for, but `{missing}` is not set: name the certificate and its key, both as PEM files"
    )]
    TlsIncomplete { origin: String, missing: &'static str },
    #[error(
        "`egress.mode` is airgap, which allows calls to `gitlab.url` only, but `gitlab.portal_url` is set ({origin}): \
         remove one of them"
    )]
    PortalInAirgap { origin: String },
    #[error(
        "`egress.mode` is airgap, which allows calls to `gitlab.url` only, but `{key}` is set ({origin}): remove one of \
         them"
    )]
    RemoteInAirgap { origin: String, key: String },
    #[error(
        "{origin}: `{name}` cannot name a provider: up to 64 letters, digits, - and _ are allowed, and not `local`, \
         which is this machine"
    )]
    ProviderName { origin: String, name: String },
    #[error("provider `{name}` has no kind: set `kind` below [providers.{name}] to one of {kinds}")]
    ProviderWithoutKind { name: String, kinds: String },
    #[error("provider `{name}` has no {key}: set `{key}` below [providers.{name}]; {reason}")]
    ProviderLacks { name: String, key: &'static str, reason: &'static str },
    #[error(
        "provider `{name}` has no address: set `url` below [providers.{name}], such as https://models.example.com/v1"
    )]
    ProviderWithoutUrl { name: String },
    #[error("{origin}: `{key}` names {lane}, and there is no such {hint}")]
    LaneUnknown { origin: String, key: String, lane: String, hint: String },
    #[error("{origin}: `{key}`: {reason}")]
    Route { origin: String, key: String, reason: PolicyError },
    #[error("[{key}] says nothing: set `lanes`, or `remote` to limit what the model of the call may do")]
    RouteEmpty { key: String },
    #[error("{origin}: `features.{feature}` names a model and `routes.{feature}.lanes` names lanes: keep one of them")]
    FeatureTwice { origin: String, feature: &'static str },
    #[error("model `{name}` has both a path and lanes: a path is a model to load, lanes lead to others; keep one")]
    ModelTwice { name: String },
    #[error("the name `{name}` is given to two models: {first} and {second}")]
    NameTwice { name: String, first: String, second: String },
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
