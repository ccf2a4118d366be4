//! Connections: accepts, bounds and ends them. HTTP/1.1 and HTTP/2 on one port, with TLS or without.

use super::connection::Guarded;
use super::peer::Peer;
use super::tls::{Stream, TlsError, TlsListener};
use super::{Health, HttpLimits, Readiness};
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still answering when the grace period was over.
    pub aborted: usize,
}

/// Serves `app` until `shutdown` resolves, then lets the answers under way finish for up to
/// [`HttpLimits::shutdown_grace`].
///
/// From the first moment of a shutdown `health` says [`Readiness::Stopping`]; connections are still accepted, so that
/// new callers are told to go elsewhere instead of being reset. Dropping the future aborts every connection at once.
pub async fn serve_http(
    listener: impl Into<Listener>,
    app: Router,
    health: Health,
    limits: HttpLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let server = Server { listener: listener.into(), app, builder: builder(&limits), slots: slots(&limits), limits };
    let drain = watch::Sender::new(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = server.accept() => server.spawn(accepted, &drain, &mut connections),
            Some(_) = connections.join_next() => {}
        }
    }
    health.set(Readiness::Stopping);
    drain.send_replace(());
    server.drain(connections, &drain).await
}

/// A port, and what a connection to it has to go through before it speaks HTTP.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    /// `None` speaks plain HTTP.
    pub tls: Option<Arc<TlsListener>>,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

struct Server {
    listener: Listener,
    app: Router,
    builder: auto::Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    limits: HttpLimits,
}

/// An accepted connection and its place among [`HttpLimits::connections_max`].
struct Accepted {
    socket: TcpStream,
    peer: Peer,
    slot: OwnedSemaphorePermit,
}

impl Server {
    async fn accept(&self) -> Accepted {
        let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match accept(&self.listener.socket).await {
                Ok((socket, peer)) => return Accepted { socket, peer: Peer(peer), slot },
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would spin.
                    const PAUSE: Duration = Duration::from_millis(100);
                    tracing::warn!(%error, "could not accept a connection");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, accepted: Accepted, drain: &watch::Sender<()>, connections: &mut JoinSet<()>) {
        let builder = self.builder.clone();
        let peer = accepted.peer;
        let service = self.app.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request
        });
        let service = TowerToHyperService::new(service);
        let tls = self.listener.tls.clone();
        let (preface_timeout, write_stall_timeout) = (self.limits.header_read_timeout, self.limits.write_stall_timeout);
        // Subscribed here and not in the task: a connection accepted during the shutdown is not told to close before
        // it could ask anything.
        let mut draining = drain.subscribe();
        connections.spawn(async move {
            let socket = match shake_hands(tls, accepted.socket).await {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::info!(%peer, %error, "a connection did not get through TLS");
                    return;
                }
            };
            let guarded = Guarded::new(socket, preface_timeout, write_stall_timeout);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(guarded), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = draining.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error = &*error, "a connection ended early");
            }
            drop(accepted.slot);
        });
    }

    async fn drain(self, mut connections: JoinSet<()>, drain: &watch::Sender<()>) -> Drained {
        /// Enough to tell a caller that there is no more service.
        const LATE_CALLS: Duration = Duration::from_secs(1);
        let mut late = JoinSet::new();
        let mut grace = pin!(sleep(self.limits.shutdown_grace));
        loop {
            tokio::select! {
                () = &mut grace => break,
                ended = connections.join_next() => if ended.is_none() { break },
                accepted = self.accept() => self.spawn(accepted, drain, &mut late),
            }
        }
        let aborted = connections.len();
        connections.shutdown().await;
        drop(self.listener);
        drain.send_replace(());
        let _ = timeout(LATE_CALLS, async { while late.join_next().await.is_some() {} }).await;
        Drained { aborted }
    }
}

async fn shake_hands(tls: Option<Arc<TlsListener>>, socket: TcpStream) -> Result<Stream, TlsError> {
    match tls {
        None => Ok(Stream::Plain(socket)),
        Some(tls) => tls.accept(socket).await.map(|socket| Stream::Tls(Box::new(socket))),
    }
}

/// Accepts one connection, with Nagle's algorithm off: a token must not wait for the acknowledgement of the one before
/// it, which a client delays by 40 ms.
pub async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok((socket, peer))
}

fn slots(limits: &HttpLimits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)))
}

fn builder(limits: &HttpLimits) -> auto::Builder<TokioExecutor> {
    /// What hyper asks of a buffer at least.
    const BUFFER_BYTES_MIN: usize = 8192;
    const PING_INTERVAL: Duration = Duration::from_secs(20);
    const RESET_STREAMS_MAX: usize = 20;
    const SEND_BUFFER_BYTES: usize = 64 * 1024;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.header_bytes_max.max(BUFFER_BYTES_MIN));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}
