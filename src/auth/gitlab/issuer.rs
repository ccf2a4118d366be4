//! Where one issuer publishes its keys (OpenID Connect Discovery 1.0) and the ways around what goes wrong on the road:
//! a GitLab under a relative root, and one that is reached by an internal name while it announces its external one.

use super::fetch::{FetchError, FetchErrorKind, FetchKeys};
use super::key::{KeySet, KeySetProblem};
use serde::Deserialize;
use std::fmt;
use std::time::Duration;

/// Whose keys they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IssuerName {
    Gitlab,
    Portal,
}

impl IssuerName {
    /// The setting that holds its URL.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Gitlab => "gitlab.url (AIGW_GITLAB_URL)",
            Self::Portal => "gitlab.portal_url (AIGW_CUSTOMER_PORTAL_URL)",
        }
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gitlab => "gitlab",
            Self::Portal => "portal",
        })
    }
}

/// An issuer's address, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IssuerUrl {
    base: String,
    /// Scheme, host and port.
    origin_bytes: usize,
}

const URL_BYTES_MAX: usize = 2048;

impl IssuerUrl {
    /// Nothing if `url` is empty. Errors if it is no `http` or `https` URL with a host, or holds a user, query or fragment.
    pub(super) fn parse(url: &str) -> Result<Option<Self>, UrlProblem> {
        let base = url.trim().trim_end_matches('/');
        if base.is_empty() {
            return Ok(None);
        }
        let scheme_bytes = ["https://", "http://"].iter().find_map(|scheme| {
            let head = base.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then_some(scheme.len())
        });
        let scheme_bytes = scheme_bytes.ok_or(UrlProblem::Scheme)?;
        let rest = &base[scheme_bytes..];
        let host_bytes = rest.find('/').unwrap_or(rest.len());
        let is_plain = base.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#\\\"<>".contains(&byte));
        if host_bytes == 0 || !is_plain || base.len() > URL_BYTES_MAX {
            return Err(UrlProblem::Form);
        }
        Ok(Some(Self { base: base.to_owned(), origin_bytes: scheme_bytes + host_bytes }))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.base
    }

    fn origin(&self) -> &str {
        &self.base[..self.origin_bytes]
    }

    /// The relative root, for example `/gitlab`; empty for most.
    fn root(&self) -> &str {
        &self.base[self.origin_bytes..]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    #[error("it has to begin with https:// or http://")]
    Scheme,
    #[error("it has to be a scheme, a host and perhaps a path, without user, query or fragment")]
    Form,
}

/// Why the keys of an issuer could not be had: every address that was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFetchFailure {
    pub issuer: IssuerName,
    pub attempts: Vec<KeyFetchAttempt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFetchAttempt {
    pub url: String,
    pub problem: KeyFetchProblem,
}

/// What went wrong at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFetchProblem {
    Fetch(FetchError),
    /// A login page, a maintenance page, a portal of the network.
    Html,
    /// No JSON, or not of the form that discovery has.
    Discovery,
    /// The document at the origin belongs to another site than the one under the relative root.
    OtherSite,
    KeySet(KeySetProblem),
}

impl KeyFetchProblem {
    /// Stable, for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fetch(error) => match error.kind {
                FetchErrorKind::Dns => "dns",
                FetchErrorKind::Connect => "connect",
                FetchErrorKind::Tls => "tls",
                FetchErrorKind::Timeout => "timeout",
                FetchErrorKind::Status(_) => "status",
                FetchErrorKind::TooLarge => "too_large",
                FetchErrorKind::Redirect => "redirect",
                FetchErrorKind::Refused => "refused",
                FetchErrorKind::Broken => "broken",
            },
            Self::Html => "html",
            Self::Discovery => "json",
            Self::OtherSite => "other_site",
            Self::KeySet(KeySetProblem::Json) => "json",
            Self::KeySet(KeySetProblem::TooMany { .. }) => "too_large",
            Self::KeySet(KeySetProblem::DuplicateId { .. }) => "duplicate_kid",
            Self::KeySet(KeySetProblem::NoKeys { .. }) => "no_keys",
        }
    }

    /// What an admin does about it.
    pub fn next_step(&self, issuer: IssuerName) -> String {
        let setting = issuer.setting();
        match self {
            Self::Fetch(error) => match error.kind {
                FetchErrorKind::Dns => format!("check the host name in {setting} and this host's DNS"),
                FetchErrorKind::Connect => format!("check that this host may connect there, and the port in {setting}"),
                FetchErrorKind::Tls => {
                    "add the CA of the certificate with tls.extra_ca_files (SSL_CERT_FILE)".to_owned()
                }
                FetchErrorKind::Timeout => "check firewalls and proxies on the way".to_owned(),
                FetchErrorKind::Status(_) | FetchErrorKind::Broken => {
                    format!(
                        "open the address in a browser; {setting} has to be GitLab's base URL, with its relative root"
                    )
                }
                FetchErrorKind::TooLarge => format!("something else than a key set is there: check {setting}"),
                FetchErrorKind::Redirect => {
                    format!("set {setting} to the address it redirects to, if that is the right one")
                }
                FetchErrorKind::Refused => "the egress settings do not allow this address".to_owned(),
            },
            Self::Html => {
                format!(
                    "a login or error page came back: check {setting}, and that nothing on the way asks for a login"
                )
            }
            Self::Discovery | Self::OtherSite | Self::KeySet(_) => {
                format!("open the address in a browser: GitLab's own answer is a JSON document; check {setting}")
            }
        }
    }
}

impl fmt::Display for KeyFetchProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch(FetchError { kind, detail }) => {
                match kind {
                    FetchErrorKind::Dns => formatter.write_str("the host name has no address")?,
                    FetchErrorKind::Connect => formatter.write_str("no connection")?,
                    FetchErrorKind::Tls => formatter.write_str("the TLS certificate is not trusted")?,
                    FetchErrorKind::Timeout => formatter.write_str("no answer in time")?,
                    FetchErrorKind::Status(status) => write!(formatter, "status {status}")?,
                    FetchErrorKind::TooLarge => formatter.write_str("the answer is larger than 1 MiB")?,
                    FetchErrorKind::Redirect => formatter.write_str("redirected to another host")?,
                    FetchErrorKind::Refused => formatter.write_str("not allowed by the configuration")?,
                    FetchErrorKind::Broken => formatter.write_str("the answer broke off or is not HTTP")?,
                }
                if detail.is_empty() { Ok(()) } else { write!(formatter, " ({detail})") }
            }
            Self::Html => formatter.write_str("the answer is an HTML page"),
            Self::Discovery => formatter.write_str("the answer is no discovery document with a jwks_uri"),
            Self::OtherSite => formatter.write_str("the discovery document is about another site"),
            Self::KeySet(problem) => write!(formatter, "the key set cannot be used: {problem}"),
        }
    }
}

impl fmt::Display for KeyFetchFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, attempt) in self.attempts.iter().enumerate() {
            let then = if index == 0 { "" } else { "; then " };
            write!(formatter, "{then}{}: {}", attempt.url, attempt.problem)?;
        }
        match self.attempts.first() {
            Some(first) => write!(formatter, ". Next step: {}", first.problem.next_step(self.issuer)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for KeyFetchFailure {}

/// A set, and the addresses that were tried before the one that had it.
pub(super) struct FetchedSet {
    pub(super) set: KeySet,
    pub(super) detours: Vec<KeyFetchAttempt>,
}

/// Tries the ways to an issuer's keys in order, until one leads there.
pub(super) async fn fetch_key_set(
    issuer: IssuerName,
    url: &IssuerUrl,
    fetch: &dyn FetchKeys,
) -> Result<FetchedSet, KeyFetchFailure> {
    const DISCOVERY: &str = "/.well-known/openid-configuration";
    const GITLAB_KEYS: &str = "/oauth/discovery/keys";
    let mut road = Road { fetch, attempts: Vec::new() };
    let mut discoveries = vec![format!("{}{DISCOVERY}", url.as_str())];
    if !url.root().is_empty() {
        discoveries.push(format!("{}{DISCOVERY}", url.origin()));
    }
    for (index, discovery) in discoveries.iter().enumerate() {
        let root = if index == 0 { None } else { Some(url.root()) };
        if let Some(keys_url) = road.keys_url(discovery, root).await
            && let Some(set) = road.key_set(&keys_url).await
        {
            return Ok(FetchedSet { set, detours: road.attempts });
        }
    }
    if issuer == IssuerName::Gitlab {
        let keys_url = format!("{}{GITLAB_KEYS}", url.as_str());
        let was_tried = road.attempts.iter().any(|attempt| attempt.url == keys_url);
        if !was_tried && let Some(set) = road.key_set(&keys_url).await {
            return Ok(FetchedSet { set, detours: road.attempts });
        }
    }
    Err(KeyFetchFailure { issuer, attempts: road.attempts })
}

/// One journey, and what was found on it so far.
struct Road<'a> {
    fetch: &'a dyn FetchKeys,
    attempts: Vec<KeyFetchAttempt>,
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    #[serde(default)]
    issuer: String,
    jwks_uri: String,
}

impl Road<'_> {
    /// `root` is the relative root that the document has to be about, where it could be another site's.
    async fn keys_url(&mut self, discovery: &str, root: Option<&str>) -> Option<String> {
        let found = match self.get(discovery).await {
            Ok(body) => read_discovery(&body, root),
            Err(problem) => Err(problem),
        };
        found.map_err(|problem| self.note(discovery, problem)).ok()
    }

    async fn key_set(&mut self, url: &str) -> Option<KeySet> {
        let found = match self.get(url).await {
            Ok(body) => KeySet::parse(&body).map_err(KeyFetchProblem::KeySet),
            Err(problem) => Err(problem),
        };
        found.map_err(|problem| self.note(url, problem)).ok()
    }

    fn note(&mut self, url: &str, problem: KeyFetchProblem) {
        self.attempts.push(KeyFetchAttempt { url: url.to_owned(), problem });
    }

    /// The body, unless it is a page for people.
    async fn get(&self, url: &str) -> Result<Vec<u8>, KeyFetchProblem> {
        const TIMEOUT: Duration = Duration::from_secs(10);
        const BODY_BYTES_MAX: usize = 1 << 20;
        let timeout = || FetchError::new(FetchErrorKind::Timeout, format!("{} s", TIMEOUT.as_secs()));
        let fetched = tokio::time::timeout(TIMEOUT, self.fetch.get(url)).await;
        let body = fetched.unwrap_or_else(|_| Err(timeout())).map_err(KeyFetchProblem::Fetch)?;
        if body.len() > BODY_BYTES_MAX {
            return Err(KeyFetchProblem::Fetch(FetchError::new(FetchErrorKind::TooLarge, "")));
        }
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'<') => Err(KeyFetchProblem::Html),
            _ => Ok(body),
        }
    }
}

fn read_discovery(body: &[u8], root: Option<&str>) -> Result<String, KeyFetchProblem> {
    let document: DiscoveryDocument = serde_json::from_slice(body).map_err(|_| KeyFetchProblem::Discovery)?;
    if !matches!(IssuerUrl::parse(&document.jwks_uri), Ok(Some(_))) {
        return Err(KeyFetchProblem::Discovery);
    }
    if let Some(root) = root {
        let issuer = IssuerUrl::parse(&document.issuer);
        if !matches!(issuer, Ok(Some(issuer)) if issuer.root() == root) {
            return Err(KeyFetchProblem::OtherSite);
        }
    }
    Ok(document.jwks_uri)
}
