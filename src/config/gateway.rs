//! Settings of the gateway: who may call it, what it may call, and what it keeps.

use super::Secret;
use ipnet::IpNet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// The GitLab that calls us.
#[derive(Clone, Debug, PartialEq)]
pub struct Gitlab {
    /// Without a slash at the end; `None` switches the authentication of GitLab's tokens off.
    pub url: Option<String>,
    /// Without a slash at the end; follows `url` unless set.
    pub api_url: Option<String>,
    /// Without a slash at the end.
    pub portal_url: Option<String>,
    pub audience: String,
    /// PEM; `None` lets the gateway make a key of its own.
    pub signing_key: Option<Secret>,
    /// PEM.
    pub validation_key: Option<Secret>,
    pub bypass: Bypass,
    /// What GitLab has to send as the key of a model served here.
    pub model_api_key: Option<Secret>,
    pub enforces_scopes: bool,
    pub completion_prompt_tokens_max: NonZeroUsize,
    pub chat_max_tokens: Option<NonZeroUsize>,
    /// `None` leaves it to the deadlines of the engine.
    pub request_deadline: Option<Duration>,
    pub docs_index: Option<PathBuf>,
}

/// Ways around authentication. Any of them is refused unless the listener is on loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypass {
    pub external: bool,
    pub external_with_header: bool,
    pub jwt_signature: bool,
}

/// What outlives a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `None` keeps everything in memory.
    pub dir: Option<PathBuf>,
}

/// From where one may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Empty allows every address.
    pub allow: Vec<IpNet>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// `None` serves plain HTTP.
    pub listener: Option<TlsFiles>,
    /// PEM files that are trusted besides the system's.
    pub extra_ca_files: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// What may be called from here, and through what.
#[derive(Clone, Debug, PartialEq)]
pub struct Egress {
    pub mode: EgressMode,
    pub https_proxy: Option<ProxyUrl>,
    pub http_proxy: Option<ProxyUrl>,
    /// Hosts, domains and networks, with commas.
    pub no_proxy: Option<String>,
    /// Addresses of model servers that GitLab's calls may name; without a slash at the end.
    pub request_endpoints: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressMode {
    /// The hosts that the configuration names.
    Configured,
    /// `gitlab.url`, and nothing else.
    Airgap,
}

/// The address of a proxy. It may hold a password, so it shows itself without one.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(url::Url);

impl ProxyUrl {
    /// Reads `http://user:password@proxy:3128`; `None` for what is not http or https, or has a path or a query.
    pub fn parse(text: &str) -> Option<Self> {
        let url = url::Url::parse(text).ok()?;
        let is_plain = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        (is_plain && matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(Self(url))
    }

    /// The address with everything it holds.
    pub fn reveal(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Display for ProxyUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        let hidden = if self.0.username().is_empty() && self.0.password().is_none() { "" } else { "(hidden)@" };
        write!(formatter, "{}://{hidden}{host}{port}", self.0.scheme())
    }
}

impl std::fmt::Debug for ProxyUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ProxyUrl({self})")
    }
}
