//! From the errors of the HTTP client to ours: finds the cause in the chain that the client hands back.

use super::error::{ConnectFailure, EgressError, Origin, Refusal, TlsCause};
use super::gate::{Nameless, Vetoed};
use crate::certificate::Certificate;
use std::error::Error;
use std::io;
use std::time::Duration;

/// What is known about a request besides its error.
#[derive(Clone, Debug)]
pub struct Context {
    pub at: Origin,
    pub host: String,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub proxy: Option<String>,
}

/// `chain` is what the host showed, where it got that far.
pub fn classify(error: &reqwest::Error, context: &Context, chain: Vec<Certificate>) -> EgressError {
    let Context { at, host, timeout, connect_timeout, proxy } = context.clone();
    if let Some(Vetoed(ip)) = find::<Vetoed>(error) {
        return EgressError::Refused { at, why: Refusal::Reserved(*ip) };
    }
    if find::<Nameless>(error).is_some() {
        return EgressError::Dns { at, host };
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return EgressError::Tls { at, cause: tls_cause(tls), chain };
    }
    if error.is_timeout() {
        let after = if error.is_connect() { connect_timeout.min(timeout) } else { timeout };
        return EgressError::Timeout { at, after, proxy };
    }
    if error.is_connect() {
        let reason = match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => ConnectFailure::Refused,
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => ConnectFailure::Unreachable,
            None if proxy.is_some() => ConnectFailure::Tunnel,
            _ => ConnectFailure::Other,
        };
        return EgressError::Connect { at, proxy, reason };
    }
    EgressError::Broken { at, proxy, reason: causes(error) }
}

fn tls_cause(error: &rustls::Error) -> TlsCause {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(cause) => match cause {
            Certificate::UnknownIssuer => TlsCause::UnknownIssuer,
            Certificate::Expired | Certificate::ExpiredContext { .. } => TlsCause::Expired,
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => TlsCause::NotValidYet,
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => TlsCause::WrongName,
            // An authority that shows itself as a server's certificate: nobody else vouches for it.
            Certificate::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => TlsCause::UnknownIssuer,
            other => TlsCause::Certificate(other.to_string()),
        },
        rustls::Error::InvalidMessage(_) => TlsCause::NotTls,
        rustls::Error::AlertReceived(alert) => TlsCause::Alert(format!("{alert:?}")),
        other => TlsCause::Other(other.to_string()),
    }
}

/// The first error of this type in the chain. An `io::Error` hides what it carries from `source`, so it is opened.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The causes of an error without the address it happened at, which may hold a query.
pub fn causes(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    if texts.is_empty() { "no cause is given".to_owned() } else { texts.join(": ") }
}
