//! What can go wrong on the way out, told by cause: what happened, and what to do about it. Texts of libraries stay
//! inside, but for the last resort of [`EgressError::Broken`].

use crate::certificate::{Certificate, date};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use url::Url;

/// A place as messages show it: scheme, host, port and perhaps the path; never a query, a user name or a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    const PATH_CHARS_MAX: usize = 200;

    pub fn of(url: &Url) -> Self {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Self(format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default()))
    }

    pub fn with_path(url: &Url) -> Self {
        let path: String = url.path().chars().take(Self::PATH_CHARS_MAX).collect();
        Self(format!("{}{path}", Self::of(url)))
    }

    /// Where nobody can tell what is meant.
    pub fn unreadable() -> Self {
        Self("an address that cannot be read".to_owned())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    #[error("that is no http or https address")]
    NoAddress,
    #[error("the header {name} cannot be sent: it holds a character that headers may not")]
    Header { name: &'static str },
    #[error("{at} is not called: {why}")]
    Refused { at: Origin, why: Refusal },
    #[error("{at}: the name {host} does not resolve")]
    Dns { at: Origin, host: String },
    #[error("{at}: cannot connect{}: {reason}", through(.proxy))]
    Connect { at: Origin, proxy: Option<String>, reason: ConnectFailure },
    #[error("{at}: no secure connection: {cause}{}", shown(.chain))]
    Tls { at: Origin, cause: TlsCause, chain: Vec<Certificate> },
    #[error("{at}: no answer within {} s{}", .after.as_secs(), through(.proxy))]
    Timeout { at: Origin, after: Duration, proxy: Option<String> },
    #[error("{at}: answered with status {status}{}", if *.is_html { " and a page for people" } else { "" })]
    Status { at: Origin, status: u16, is_html: bool },
    #[error("{at}: the answer has more than {bytes_max} bytes")]
    TooLarge { at: Origin, bytes_max: usize },
    #[error("{from}: redirects to {to}, which is not followed")]
    Redirect { from: Origin, to: Origin },
    #[error("{at}: the connection broke{}: {reason}", through(.proxy))]
    Broken { at: Origin, proxy: Option<String>, reason: String },
}

/// Why a host is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the configuration does not name it")]
    NotNamed,
    #[error("egress.mode is airgap, and it is not the host of gitlab.url")]
    Airgap,
    #[error("a host that the configuration does not name is called by https only")]
    NotHttps,
    #[error("{0} is an address that no server's keys are at")]
    Reserved(IpAddr),
    #[error("there is a user name in the address")]
    Credentials,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    #[error("the connection is refused, so nothing listens there")]
    Refused,
    #[error("there is no route to it")]
    Unreachable,
    #[error("the proxy does not open a connection to it")]
    Tunnel,
    #[error("the connection is not accepted")]
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsCause {
    #[error("the certificate comes from an authority that is not trusted here")]
    UnknownIssuer,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotValidYet,
    #[error("the certificate is for another name")]
    WrongName,
    #[error("the certificate is not accepted: {0}")]
    Certificate(String),
    #[error("the other side does not speak TLS")]
    NotTls,
    #[error("the other side ended the handshake: {0}")]
    Alert(String),
    #[error("{0}")]
    Other(String),
}

fn through(proxy: &Option<String>) -> String {
    proxy.as_ref().map_or_else(String::new, |proxy| format!(" (the proxy for this is {proxy})"))
}

/// The chain as it was shown, the host's own certificate first.
fn shown(chain: &[Certificate]) -> String {
    let Some(leaf) = chain.first() else { return String::new() };
    let names = if leaf.names.is_empty() { "no name".to_owned() } else { leaf.names.join(", ") };
    let mut text = format!("; it shows `{}` for {names}, valid until {}", leaf.subject, date(leaf.not_after));
    for certificate in chain {
        if certificate.is_self_signed() {
            text.push_str(", signed by itself");
            break;
        }
        text.push_str(&format!(", issued by `{}`", certificate.issuer));
    }
    text
}

impl EgressError {
    /// What an administrator does about it.
    pub fn next_step(&self) -> String {
        let step = match self {
            Self::NoAddress => "write the address with http:// or https://, and nothing before the host",
            Self::Header { .. } => "remove line ends and characters outside ASCII from the value",
            Self::Refused { why, .. } => why.next_step(),
            Self::Dns { host, .. } => {
                return format!(
                    "run `getent hosts {host}` where the gateway runs (in its container); correct the name, or the \
                     resolver of that machine"
                );
            }
            Self::Connect { reason: ConnectFailure::Tunnel, .. } => {
                "ask the proxy's log why; hosts that need no proxy belong into egress.no_proxy (or NO_PROXY)"
            }
            Self::Connect { proxy: Some(_), .. } => {
                "check that the proxy runs; hosts that need no proxy belong into egress.no_proxy (or NO_PROXY)"
            }
            Self::Connect { .. } => "check host and port, and firewalls between this machine and that one",
            Self::Tls { cause, chain, .. } => return cause.next_step(chain),
            Self::Timeout { .. } => {
                "a firewall that drops packets looks like this; so does a proxy that is needed and not set \
                 (egress.https_proxy or HTTPS_PROXY)"
            }
            Self::Status { is_html: true, .. } => {
                "a login page or a proxy may have answered instead: let this path through without a login"
            }
            Self::Status { status: 404, .. } => {
                "the address leads to something else: check gitlab.url, its path (a relative URL root) included"
            }
            Self::Status { status: 500.., .. } => "look into the log of the server that answered",
            Self::Status { .. } => "let this path through without credentials",
            Self::TooLarge { .. } => "the address leads to something else: check gitlab.url",
            Self::Redirect { to, .. } => return format!("if {to} is meant, name that host in the configuration"),
            Self::Broken { .. } => {
                "try again; if it stays so, look for a proxy, a firewall or a load balancer that ends connections"
            }
        };
        step.to_owned()
    }
}

impl Refusal {
    fn next_step(self) -> &'static str {
        match self {
            Self::NotNamed => "name its scheme, host and port in the configuration, if it is meant",
            Self::Airgap => "make gitlab.url the external URL of GitLab, or set egress.mode to configured",
            Self::NotHttps => "make gitlab.url the external URL of GitLab, or give GitLab an https external URL",
            Self::Reserved(_) => "correct the external URL of GitLab: it must not lead to a link-local address",
            Self::Credentials => "remove what stands before the @",
        }
    }
}

impl TlsCause {
    fn next_step(&self, chain: &[Certificate]) -> String {
        let step = match self {
            Self::UnknownIssuer => {
                let issuer =
                    chain.last().map_or_else(|| "its authority".to_owned(), |last| format!("`{}`", last.issuer));
                return format!(
                    "put the certificate of {issuer} into a PEM file and name it in tls.extra_ca_files (or \
                     SSL_CERT_FILE); if that is a well-known authority, the server leaves out its intermediate certificate"
                );
            }
            Self::Expired => "renew the certificate of that server; if it is new, check this machine's clock",
            Self::NotValidYet => "check this machine's clock",
            Self::WrongName => {
                let names = chain.first().map(|leaf| leaf.names.join(", ")).filter(|names| !names.is_empty());
                let names = names.unwrap_or_else(|| "none: a common name alone does not count".to_owned());
                return format!("use a name that the certificate is for ({names}), or have it issued for this one");
            }
            Self::NotTls => "use http:// instead of https://, or the port that speaks TLS",
            Self::Certificate(_) | Self::Alert(_) | Self::Other(_) => {
                "run `openssl s_client -connect HOST:PORT -servername HOST` on this machine to see the whole exchange"
            }
        };
        step.to_owned()
    }
}
