//! TLS on the listener: the certificate and its key, read again when their files change, and what a connection has to
//! go through before it speaks HTTP.
//!
//! TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN. A client that speaks plain HTTP to this port is told so in HTTP.

mod files;
mod stream;

pub use files::TlsFileError;
pub use stream::Stream;

use crate::certificate::{Certificate, date};
use files::Content;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

/// How often the files are looked at. Certificates are renewed days before they have to be.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// The first byte of every TLS handshake (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
const USE_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 64\r\n\
Connection: close\r\n\r\nThis port speaks HTTPS: write https:// instead of http:// here.\n";

/// Why a connection did not become one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("plain HTTP on the port of HTTPS")]
    PlainHttp,
    #[error("neither TLS nor HTTP")]
    NotTls,
    #[error("closed before it said anything")]
    Closed,
    #[error("no handshake within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("the handshake failed: {0}")]
    Handshake(io::Error),
}

/// Takes connections through the handshake. Shared by reference count; [`TlsListener::keep_fresh`] belongs into the
/// process's set of tasks.
pub struct TlsListener {
    cert_file: PathBuf,
    key_file: PathBuf,
    handshake_timeout: Duration,
    acceptor: tokio_rustls::TlsAcceptor,
    current: Arc<Current>,
    /// What the files held when they were last looked at, good or not.
    seen: Mutex<Option<Content>>,
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsListener").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}

/// What became of a look at the files.
#[derive(Debug)]
pub enum Reloaded {
    Unchanged,
    /// New connections get the new certificate.
    Fresh,
    /// The one before stays.
    Kept(TlsFileError),
}

impl TlsListener {
    /// Reads the files; `handshake_timeout` is what a client has from connecting to the end of the handshake.
    pub fn load(cert_file: PathBuf, key_file: PathBuf, handshake_timeout: Duration) -> Result<Self, TlsFileError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let content = Content::read(&cert_file, &key_file)?;
        let certified = content.parse(&cert_file, &key_file, &provider)?;
        let current = Arc::new(Current { certified: RwLock::new(Arc::new(certified)) });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider speaks the versions it was made for")
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Ok(Self { cert_file, key_file, handshake_timeout, acceptor, current, seen: Mutex::new(Some(content)) })
    }

    /// The certificate that new connections are shown.
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::read(self.current.get().cert.first()?)
    }

    /// Does the handshake. To be called in the connection's own task: a slow client must not hold up the others.
    pub async fn accept(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let limit = self.handshake_timeout;
        timeout(limit, self.shake_hands(socket)).await.unwrap_or(Err(TlsError::Slow(limit)))
    }

    async fn shake_hands(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let mut first = [0];
        match socket.peek(&mut first).await {
            Ok(0) => Err(TlsError::Closed),
            Ok(_) if first[0] == HANDSHAKE_RECORD => self.acceptor.accept(socket).await.map_err(TlsError::Handshake),
            Ok(_) if first[0].is_ascii_alphabetic() => {
                say_use_https(socket).await;
                Err(TlsError::PlainHttp)
            }
            Ok(_) => Err(TlsError::NotTls),
            Err(error) => Err(TlsError::Handshake(error)),
        }
    }

    /// Looks at the files now and then until dropped. A broken new file is told once, and changes nothing.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            sleep(RELOAD_INTERVAL).await;
            let listener = self.clone();
            let Ok(reloaded) = tokio::task::spawn_blocking(move || listener.reload()).await else { return };
            match reloaded {
                Reloaded::Unchanged => {}
                Reloaded::Fresh => {
                    let valid_until = self.certificate().map(|certificate| date(certificate.not_after));
                    tracing::info!(valid_until, "the certificate of the listener was read again");
                }
                Reloaded::Kept(error) => {
                    tracing::error!(%error, "the new certificate cannot be used: the one before stays");
                }
            }
        }
    }

    /// Looks at the files, and takes them up if they changed and fit together. Reads files: not for the async threads.
    pub fn reload(&self) -> Reloaded {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let content = match Content::read(&self.cert_file, &self.key_file) {
            Ok(content) if seen.as_ref() == Some(&content) => return Reloaded::Unchanged,
            Ok(content) => content,
            // Told when it begins; files that come back unchanged are then read as if they were new.
            Err(error) => return if seen.take().is_some() { Reloaded::Kept(error) } else { Reloaded::Unchanged },
        };
        let parsed = content.parse(&self.cert_file, &self.key_file, &aws_lc_rs::default_provider());
        *seen = Some(content);
        match parsed {
            Ok(certified) => {
                self.current.set(certified);
                Reloaded::Fresh
            }
            Err(error) => Reloaded::Kept(error),
        }
    }
}

/// The certificate of now. Handshakes under way keep the one they began with.
#[derive(Debug)]
struct Current {
    certified: RwLock<Arc<CertifiedKey>>,
}

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        self.certified.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, certified: CertifiedKey) {
        *self.certified.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

/// Answers a request that has not been read. What the client still sends is taken in before the socket closes:
/// otherwise the kernel would answer it with a reset, and the client would never see the text.
async fn say_use_https(mut socket: TcpStream) {
    const DISCARDED_BYTES_MAX: u64 = 256 * 1024;
    if socket.write_all(USE_HTTPS).await.is_ok() && socket.shutdown().await.is_ok() {
        drop(tokio::io::copy(&mut socket.take(DISCARDED_BYTES_MAX), &mut tokio::io::sink()).await);
    }
}

#[cfg(test)]
mod tests;
