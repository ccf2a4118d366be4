//! Reads request headers strictly: once, in visible ASCII, or not at all.

use super::CallLimits;
use super::error::EdgeError;
use crate::auth::Principal;
use crate::domain::{CallId, Class, SessionKey};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

pub(super) const REQUEST_ID: &str = "x-request-id";
const SESSION_ID: &str = "x-session-id";
const CLASS: &str = "x-sconce-class";
const DEADLINE_MS: &str = "x-sconce-deadline-ms";

/// What a caller may say about a call beside its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallOptions {
    pub class: Option<Class>,
    pub session: Option<SessionKey>,
    pub deadline: Option<Duration>,
}

impl CallOptions {
    pub(super) fn read(headers: &HeaderMap, principal: &Principal, limits: &CallLimits) -> Result<Self, EdgeError> {
        Ok(Self {
            class: single(headers, CLASS)?.map(class).transpose()?,
            session: single(headers, SESSION_ID)?.map(|id| session(id, principal)).transpose()?,
            deadline: single(headers, DEADLINE_MS)?.map(|text| deadline(text, limits)).transpose()?,
        })
    }
}

/// The caller's own id for the call if it is fit for logs, else a new one.
pub(super) fn call_id(headers: &HeaderMap) -> CallId {
    const LENGTH_MAX: usize = 128;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~,;#".contains(&byte);
    let is_fit = |id: &&str| (1..=LENGTH_MAX).contains(&id.len()) && id.bytes().all(is_allowed);
    match single(headers, REQUEST_ID).ok().flatten().filter(is_fit) {
        Some(id) => CallId(Arc::from(id)),
        None => CallId(Arc::from(format!("{:032x}", rand::random::<u128>()))),
    }
}

pub(super) fn authorization(headers: &HeaderMap) -> Result<Option<&str>, EdgeError> {
    single(headers, AUTHORIZATION.as_str())
}

/// Anything but JSON could be sent by a web page without asking first.
pub(super) fn check_json(headers: &HeaderMap) -> Result<(), EdgeError> {
    let content_type = single(headers, CONTENT_TYPE.as_str())?.ok_or(EdgeError::ContentType)?;
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(EdgeError::ContentType);
    }
    match single(headers, CONTENT_ENCODING.as_str())? {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(_) => Err(EdgeError::ContentEncoding),
    }
}

/// The name by which the caller reached this server: exactly one, whether in the request's target or in `Host`.
pub(super) fn authority(uri: &Uri, headers: &HeaderMap) -> Result<Authority, EdgeError> {
    let problem = |problem| EdgeError::Header { name: "host", problem };
    let header = single(headers, HOST.as_str())?;
    let header: Option<Authority> =
        header.map(str::parse).transpose().map_err(|_| problem("is not HOST or HOST:PORT"))?;
    let authority = match (uri.authority(), header) {
        (Some(target), Some(header)) if *target != header => return Err(problem("differs from the request's target")),
        (Some(target), _) => target.clone(),
        (None, Some(header)) => header,
        (None, None) => return Err(problem("is missing")),
    };
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(problem("is not HOST or HOST:PORT"));
    }
    Ok(authority)
}

/// Refuses what a web page could send from a browser on this machine: a request of another origin, or one for a name
/// that its owner has pointed at this machine's address.
pub(super) fn check_local(authority: &Authority, headers: &HeaderMap) -> Result<(), EdgeError> {
    if !is_loopback(authority.host()) {
        return Err(EdgeError::ForeignHost);
    }
    let origin = single(headers, ORIGIN.as_str()).map_err(|_| EdgeError::ForeignOrigin)?;
    let Some(origin) = origin else { return Ok(()) };
    let origin: Uri = origin.parse().map_err(|_| EdgeError::ForeignOrigin)?;
    let is_web = matches!(origin.scheme_str(), Some("http" | "https"));
    if is_web && origin.host().is_some_and(is_loopback) { Ok(()) } else { Err(EdgeError::ForeignOrigin) }
}

fn is_loopback(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback());
    }
    host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// A header as it may be written to a log: in visible ASCII and not endless, or not at all.
pub(super) fn plain(headers: &HeaderMap, name: &'static str) -> Option<String> {
    const LENGTH_MAX: usize = 256;
    let text = headers.get(name)?.to_str().ok()?;
    (!text.is_empty() && text.len() <= LENGTH_MAX).then(|| text.to_owned())
}

/// Two headers of one name are how a request is made to look different to two readers.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, EdgeError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(EdgeError::Header { name, problem: "was sent twice" });
    }
    let text = value.map(|value| value.to_str()).transpose();
    text.map_err(|_| EdgeError::Header { name, problem: "holds other characters than visible ASCII" })
}

fn class(text: &str) -> Result<Class, EdgeError> {
    match text {
        "completion" => Ok(Class::Completion),
        "chat" => Ok(Class::Chat),
        _ => Err(EdgeError::Header { name: CLASS, problem: "has to be \"completion\" or \"chat\"" }),
    }
}

fn session(id: &str, principal: &Principal) -> Result<SessionKey, EdgeError> {
    const LENGTH_MAX: usize = 256;
    if !(1..=LENGTH_MAX).contains(&id.len()) {
        return Err(EdgeError::Header { name: SESSION_ID, problem: "has to have 1 to 256 characters" });
    }
    Ok(SessionKey(Arc::from(format!("{}\0{id}", principal.name))))
}

fn deadline(text: &str, limits: &CallLimits) -> Result<Duration, EdgeError> {
    let problem = |problem| EdgeError::Header { name: DEADLINE_MS, problem };
    let millis: u64 = text.parse().map_err(|_| problem("has to be a whole number of milliseconds"))?;
    let deadline = Duration::from_millis(millis);
    if deadline.is_zero() || deadline > limits.deadline_max {
        return Err(problem("is zero or beyond the largest deadline allowed"));
    }
    Ok(deadline)
}
