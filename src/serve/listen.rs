//! Sockets to listen on, and what to say when one is not to be had.

use super::error::ServeError;
use crate::config::Metrics;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The socket of the API.
pub fn api(listen: SocketAddr) -> Result<TcpListener, ServeError> {
    bind(listen).map_err(|error| explain(error, "server.listen", listen, "--listen 127.0.0.1:0"))
}

/// The socket of the metrics. Not getting the default address is told and survived: a second server on one machine
/// should start without a setting more.
pub fn metrics(metrics: Option<&Metrics>) -> Result<Option<TcpListener>, ServeError> {
    let Some(metrics) = metrics else { return Ok(None) };
    if !metrics.listen.ip().to_canonical().is_loopback() {
        tracing::warn!(listen = %metrics.listen, "the metrics are open to other machines, and ask for no key");
    }
    match bind(metrics.listen) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if !metrics.is_required => {
            tracing::warn!(listen = %metrics.listen, %error, "no metrics: set metrics.listen to a free address, or to off");
            Ok(None)
        }
        Err(error) => Err(explain(error, "metrics.listen", metrics.listen, "SCONCE__METRICS__LISTEN=127.0.0.1:0")),
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn explain(error: io::Error, setting: &'static str, listen: SocketAddr, remedy: &'static str) -> ServeError {
    match error.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortTaken { setting, listen, remedy },
        _ => ServeError::Listen { setting, listen, source: error },
    }
}
