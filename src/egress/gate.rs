//! What may be called. Decides on the address as it is written, before any name is resolved, and on the addresses a
//! name resolves to, before any of them is dialled: the resolver is the one the connection uses, so there is no second
//! look-up that could answer differently.

use super::error::{Origin, Refusal};
use super::{EgressError, EgressSettings, Mode, SettingsError};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use url::{Host, Url};

const URL_BYTES_MAX: usize = 2048;

#[derive(Debug)]
pub struct Gate {
    allowed: Vec<Named>,
    /// Hosts that were named, the proxies among them: wherever they resolve to, they were meant.
    trusted_hosts: BTreeSet<String>,
    mode: Mode,
    https_proxy: Option<String>,
    http_proxy: Option<String>,
    /// What is reached without a proxy, in lower case.
    direct: Vec<String>,
}

/// Scheme, host and port that the configuration named.
#[derive(Debug, PartialEq)]
struct Named {
    scheme: String,
    host: Host<String>,
    port: Option<u16>,
}

impl Named {
    fn of(url: &Url) -> Option<Self> {
        let host = url.host()?.to_owned();
        Some(Self { scheme: url.scheme().to_owned(), host, port: url.port_or_known_default() })
    }
}

impl Gate {
    pub fn new(settings: &EgressSettings) -> Result<Self, SettingsError> {
        let mut allowed = Vec::new();
        let mut trusted_hosts = BTreeSet::new();
        for text in &settings.allowed {
            let url = parse(text).ok_or_else(|| SettingsError::Address { text: text.clone() })?;
            trusted_hosts.extend(url.host_str().map(str::to_owned));
            allowed.extend(Named::of(&url));
        }
        let mut proxy = |scheme, address: &Option<String>| -> Result<Option<String>, SettingsError> {
            let Some(address) = address else { return Ok(None) };
            let url = parse(address).ok_or(SettingsError::Proxy { scheme })?;
            trusted_hosts.extend(url.host_str().map(str::to_owned));
            Ok(Some(Origin::of(&url).to_string()))
        };
        let (https_proxy, http_proxy) = (proxy("https", &settings.https_proxy)?, proxy("http", &settings.http_proxy)?);
        let direct = settings.no_proxy.as_deref().unwrap_or_default().split(',');
        let direct = direct.map(|host| host.trim().trim_start_matches('.').to_lowercase());
        let direct = direct.filter(|host| !host.is_empty()).collect();
        Ok(Self { allowed, trusted_hosts, mode: settings.mode, https_proxy, http_proxy, direct })
    }

    /// The address, if its scheme, host and port were named.
    pub fn named(&self, text: &str) -> Result<Url, EgressError> {
        let url = check(text)?;
        if self.is_named(&url) { Ok(url) } else { Err(refuse(&url, Refusal::NotNamed)) }
    }

    /// The address, if a named issuer may point there.
    pub fn pointed_to(&self, text: &str) -> Result<Url, EgressError> {
        let url = check(text)?;
        let host = url.host().map(|host| host.to_owned());
        if self.allowed.iter().any(|named| Some(&named.host) == host.as_ref()) {
            return Ok(url);
        }
        if self.mode == Mode::Airgap {
            return Err(refuse(&url, Refusal::Airgap));
        }
        if url.scheme() != "https" {
            return Err(refuse(&url, Refusal::NotHttps));
        }
        let literal = match host {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        match literal.filter(|ip| is_reserved(*ip)) {
            Some(ip) => Err(refuse(&url, Refusal::Reserved(ip))),
            None => Ok(url),
        }
    }

    /// The proxy that stands between us and `url`, without its password. For messages: the client decides by itself, and
    /// by the same rules.
    pub fn proxy_for(&self, url: &Url) -> Option<String> {
        let proxy = if url.scheme() == "https" { &self.https_proxy } else { &self.http_proxy };
        proxy.clone().filter(|_| !self.is_direct(url))
    }

    /// Whether every address is reached without a proxy.
    pub fn is_all_direct(&self) -> bool {
        self.direct.iter().any(|host| host == "*")
    }

    fn is_direct(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        self.is_all_direct()
            || self.direct.iter().any(|direct| match host.parse::<IpAddr>() {
                Ok(ip) => {
                    let is_in_network = direct.parse::<IpNet>().is_ok_and(|network| network.contains(&ip));
                    is_in_network || direct.parse() == Ok(ip)
                }
                Err(_) => host.strip_suffix(direct.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            })
    }

    fn is_named(&self, url: &Url) -> bool {
        Named::of(url).is_some_and(|wanted| self.allowed.contains(&wanted))
    }
}

fn parse(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX)?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// An address that can be called at all. One with a user name in it is not: it would end up in logs.
fn check(text: &str) -> Result<Url, EgressError> {
    let url = parse(text).ok_or(EgressError::NoAddress)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(&url, Refusal::Credentials));
    }
    Ok(url)
}

fn refuse(url: &Url, why: Refusal) -> EgressError {
    EgressError::Refused { at: Origin::of(url), why }
}

/// Addresses that no issuer's keys can be at: those where cloud machines hand out their credentials, and those that are
/// no host's.
fn is_reserved(ip: IpAddr) -> bool {
    // Where machines of Alibaba, of Azure and (in IPv6) of Amazon ask for their credentials.
    const METADATA_V4: [[u8; 4]; 2] = [[100, 100, 100, 200], [168, 63, 129, 16]];
    const METADATA_V6: [u16; 8] = [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254];
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let is_nobody = ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast();
            is_nobody || ip.is_link_local() || METADATA_V4.contains(&ip.octets())
        }
        IpAddr::V6(ip) => {
            let is_nobody = ip.is_unspecified() || ip.is_multicast();
            let is_embedded = embedded_v4(ip.segments()).is_some_and(is_reserved);
            is_nobody || ip.is_unicast_link_local() || ip.segments() == METADATA_V6 || is_embedded
        }
    }
}

/// The IPv4 address that a gateway to IPv4 makes of an IPv6 one: NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn embedded_v4(segments: [u16; 8]) -> Option<IpAddr> {
    let (high, low) = match segments {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(IpAddr::from([a, b, c, d]))
}

/// Resolves names, and gives back no address that may not be dialled.
pub struct VettingResolver {
    gate: Arc<Gate>,
}

/// A name without an address.
#[derive(Debug, thiserror::Error)]
#[error("the name does not resolve")]
pub struct Nameless;

/// A name with nothing but addresses that may not be dialled.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to a reserved address")]
pub struct Vetoed(pub IpAddr);

impl VettingResolver {
    pub fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let is_trusted = self.gate.trusted_hosts.contains(&name);
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| Nameless)?.collect();
            let vetted = vet(found, is_trusted)?;
            Ok(Box::new(vetted.into_iter()) as Addrs)
        })
    }
}

fn vet(found: Vec<SocketAddr>, is_trusted: bool) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let first = found.first().copied().ok_or(Nameless)?;
    let vetted: Vec<SocketAddr> =
        found.into_iter().filter(|address| is_trusted || !is_reserved(address.ip())).collect();
    if vetted.is_empty() { Err(Vetoed(first.ip()).into()) } else { Ok(vetted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(mode: Mode) -> Gate {
        let allowed = vec!["https://gitlab.example.com/root".to_owned(), "http://169.254.1.1:8080".to_owned()];
        Gate::new(&EgressSettings { allowed, mode, ..EgressSettings::default() }).expect("valid addresses")
    }

    #[test]
    fn only_what_was_named_is_called() {
        let gate = gate(Mode::Configured);
        for (url, is_named) in [
            ("https://gitlab.example.com/oauth/discovery/keys", true),
            ("https://GITLAB.example.com:443/x?y=z", true),
            ("http://169.254.1.1:8080/x", true),
            ("http://gitlab.example.com/", false),
            ("https://gitlab.example.com:8443/", false),
            ("https://gitlab.example.com.evil.test/", false),
            ("https://evil.test/https://gitlab.example.com/", false),
            ("https://me:secret@gitlab.example.com/", false),
            ("https://gitlab.example.com@evil.test/", false),
            ("https://gitlab.example.com./", false),
            ("http://169.254.1.1/", false),
            ("file:///etc/passwd", false),
            ("gopher://gitlab.example.com/", false),
            ("https:///", false),
            ("", false),
        ] {
            assert_eq!(gate.named(url).is_ok(), is_named, "{url}");
        }
        let long = format!("https://gitlab.example.com/{}", "a".repeat(URL_BYTES_MAX));
        assert!(gate.named(&long).is_err());
    }

    #[test]
    fn keys_may_be_elsewhere_but_not_everywhere() {
        let (open, closed) = (gate(Mode::Configured), gate(Mode::Airgap));
        for (url, configured, airgap) in [
            ("https://gitlab.example.com/keys", true, true),
            ("http://gitlab.example.com:8080/keys", true, true),
            ("https://public.example.com/keys", true, false),
            ("http://public.example.com/keys", false, false),
            ("https://10.0.0.7/keys", true, false),
            ("https://169.254.169.254/latest/meta-data", false, false),
            ("https://[fe80::1]/", false, false),
            ("https://[::ffff:169.254.169.254]/", false, false),
            ("https://[fd00:ec2::254]/", false, false),
            ("https://[64:ff9b::a9fe:a9fe]/", false, false),
            ("https://[2002:a9fe:a9fe::]/", false, false),
            ("https://2852039166/", false, false),
            ("https://0xa9fea9fe/", false, false),
            ("https://0251.0376.0251.0376/", false, false),
            ("https://0/", false, false),
            ("https://169.254.1.1:8443/x", true, true),
            ("https://me@public.example.com/", false, false),
        ] {
            assert_eq!(open.pointed_to(url).is_ok(), configured, "{url}");
            assert_eq!(closed.pointed_to(url).is_ok(), airgap, "{url} in an air gap");
        }
    }

    #[test]
    fn exceptions_from_the_proxy_are_known() {
        let settings = |no_proxy: &str| EgressSettings {
            https_proxy: Some("http://me:sesame@proxy:3128".to_owned()),
            no_proxy: Some(no_proxy.to_owned()),
            ..EgressSettings::default()
        };
        for (no_proxy, url, is_direct) in [
            ("", "https://gitlab.example.com/", false),
            ("example.com", "https://gitlab.example.com/", true),
            (".Example.com", "https://gitlab.example.com/", true),
            ("ample.com", "https://gitlab.example.com/", false),
            ("10.0.0.0/8, ::1", "https://10.1.2.3/", true),
            ("10.0.0.0/8, ::1", "https://[::1]:8443/", true),
            ("10.0.0.0/8", "https://11.1.2.3/", false),
            ("*", "https://anything.test/", true),
            ("", "http://gitlab.example.com/", true),
        ] {
            let gate = Gate::new(&settings(no_proxy)).expect("valid");
            let proxy = gate.proxy_for(&Url::parse(url).expect("a URL"));
            let expected = (!is_direct).then(|| "http://proxy:3128".to_owned());
            assert_eq!(proxy, expected, "{no_proxy} {url}");
        }
    }

    #[test]
    fn a_name_that_leads_to_a_reserved_address_is_not_dialled() {
        let address = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 0);
        let (good, bad) = (address("10.0.0.1"), address("169.254.169.254"));
        assert_eq!(vet(vec![bad, good], false).expect("one is left"), [good]);
        assert!(vet(vec![bad], false).expect_err("nothing is left").is::<Vetoed>());
        assert_eq!(vet(vec![bad], true).expect("it was named"), [bad]);
        assert!(vet(vec![], true).expect_err("there was none").is::<Nameless>());
    }
}
