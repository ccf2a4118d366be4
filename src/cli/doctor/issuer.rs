//! Looks at an issuer of tokens the way the gateway does: its name, the connection, what it says of itself, its keys,
//! its clock.

use super::report::{Section, fail, ok, warn};
use super::{clock, here};
use crate::auth::gitlab::Check;
use crate::cli::output;
use crate::egress::{Egress, EgressError, Fetched};
use serde::Deserialize;
use std::time::SystemTime;
use url::Url;

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where GitLab keeps its keys, whatever it says.
const KEYS: &str = "/oauth/discovery/keys";
const KEY_IDS_SHOWN_MAX: usize = 8;
const RSA_BITS_MIN: usize = 2048;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    kty: String,
    /// The modulus in base64url, without padding and without leading zeros (RFC 7518, section 6.3.1).
    #[serde(default)]
    n: String,
}

impl Key {
    fn bits(&self) -> usize {
        self.n.trim_end_matches('=').len() * 6 / 8 * 8
    }
}

pub async fn section(egress: &Egress, url: &str) -> Section {
    let mut checks = vec![name(url, egress.proxy_for(url)).await];
    let found = discover(egress, url).await;
    let chain = host_of(url).map(|host| egress.certificates(&host)).unwrap_or_default();
    match (&found, chain.is_empty()) {
        (Err(error @ EgressError::Tls { .. }), _) => checks.push(explained("certificate", error)),
        (_, false) => checks.extend(chain.iter().map(|certificate| here::validity("certificate", certificate))),
        (Ok(_), true) => checks.push(warn("certificate", "none: the connection is not encrypted", "give GitLab HTTPS")),
        (Err(_), true) => {}
    }
    match found {
        Ok(found) => {
            checks.push(clock::compare(found.document.date.as_deref(), SystemTime::now()));
            checks.extend(read(egress, url, &found).await);
        }
        Err(EgressError::Tls { .. }) => {}
        Err(error) => checks.push(explained("discovery", &error)),
    }
    Section { title: format!("issuer {url}"), checks }
}

fn explained(name: &'static str, error: &EgressError) -> Check {
    fail(name, error.to_string(), error.next_step())
}

fn host_of(url: &str) -> Option<String> {
    Some(Url::parse(url).ok()?.host_str()?.to_owned())
}

async fn name(url: &str, proxy: Option<String>) -> Check {
    const NAME: &str = "name";
    if let Some(proxy) = proxy {
        return ok(NAME, format!("left to the proxy {proxy}"));
    }
    let Some(host) = host_of(url) else { return fail(NAME, "no host in the address", "correct gitlab.url") };
    let found = match tokio::net::lookup_host((host.trim_matches(['[', ']']), 0)).await {
        Ok(addresses) => addresses.map(|address| address.ip().to_string()).collect::<Vec<_>>(),
        Err(_) => Vec::new(),
    };
    if found.is_empty() {
        let step = format!("run `getent hosts {host}` here; correct gitlab.url or this machine's resolver");
        return fail(NAME, format!("{host} has no address"), step);
    }
    let mut found = found;
    found.sort();
    found.dedup();
    ok(NAME, format!("{host} is {}", found.join(", ")))
}

struct Discovered {
    document: Fetched,
    url: String,
}

/// The document below the address, or at its origin: a GitLab under a relative root may have it at either.
async fn discover(egress: &Egress, url: &str) -> Result<Discovered, EgressError> {
    let below = format!("{}{DISCOVERY}", url.trim_end_matches('/'));
    let first = egress.get(&below).await;
    let origin = Url::parse(url).ok().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let at_origin = format!("{origin}{DISCOVERY}");
    match first {
        Err(EgressError::Status { .. }) if at_origin != below => {
            let document = egress.get(&at_origin).await?;
            Ok(Discovered { document, url: at_origin })
        }
        first => Ok(Discovered { document: first?, url: below }),
    }
}

async fn read(egress: &Egress, url: &str, found: &Discovered) -> Vec<Check> {
    const NAME: &str = "discovery";
    if found.document.is_html() {
        let step = "let this path through without a login, and check that the address is that of GitLab itself";
        return vec![fail(NAME, format!("{} answers with a page for people", found.url), step)];
    }
    let Ok(discovery) = serde_json::from_slice::<Discovery>(&found.document.body) else {
        let step = "check that the address is that of GitLab itself";
        return vec![fail(NAME, format!("{} names no issuer and no jwks_uri", found.url), step)];
    };
    let issuer = readable(&discovery.issuer);
    let jwks_uri = readable(&discovery.jwks_uri);
    let mut checks = vec![ok(NAME, format!("the issuer is {issuer}, its keys are at {jwks_uri}"))];
    match egress.get_keys(&discovery.jwks_uri).await {
        Ok(fetched) => checks.push(keys(&fetched, &jwks_uri)),
        Err(error) => {
            let fallback = format!("{}{KEYS}", url.trim_end_matches('/'));
            match egress.get(&fallback).await {
                Ok(fetched) => {
                    let found = format!("{error}; the gateway takes {fallback} instead");
                    checks.push(warn("address of the keys", found, error.next_step()));
                    checks.push(keys(&fetched, &fallback));
                }
                Err(_) => checks.push(explained("keys", &error)),
            }
        }
    }
    checks
}

fn keys(fetched: &Fetched, at: &str) -> Check {
    const NAME: &str = "keys";
    let step = "open that address in a browser: a JSON document with a list `keys` belongs there";
    let Ok(set) = serde_json::from_slice::<KeySet>(&fetched.body) else {
        return fail(NAME, format!("{at} holds no set of keys"), step);
    };
    let (usable, others): (Vec<&Key>, Vec<&Key>) =
        set.keys.iter().partition(|key| key.kty == "RSA" && key.bits() >= RSA_BITS_MIN);
    if usable.is_empty() {
        let found = format!("none of {} keys is RSA with at least {RSA_BITS_MIN} bits", set.keys.len());
        return fail(NAME, found, "`sudo gitlab-rake cloud_connector:keys:create` makes one on GitLab's side");
    }
    let shown = usable.iter().take(KEY_IDS_SHOWN_MAX);
    let shown: Vec<String> = shown.map(|key| format!("{} ({} bits)", readable(&key.kid), key.bits())).collect();
    let found = format!("{}: {}", usable.len(), shown.join(", "));
    match others.len() {
        0 => ok(NAME, found),
        others => ok(NAME, format!("{found}; {others} of another kind are passed over")),
    }
}

/// Text of another server, on its way to a terminal.
fn readable(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    output::one_line(text, CHARS_MAX)
}
