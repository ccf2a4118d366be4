//! Servers to call: raw answers over TCP or TLS, and authorities that issue their certificates.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// From the head of a request to the bytes of the answer; empty ones leave the caller waiting.
pub type Handler = fn(&str) -> Vec<u8>;

pub fn ok(_: &str) -> Vec<u8> {
    json("200 OK", "{\"keys\":[]}")
}

pub fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    format!("{head}Date: Sun, 22 Nov 2026 01:00:00 GMT\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

/// A running server. Ends with this value.
pub struct Server {
    pub port: u16,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub async fn http(handler: Handler) -> Self {
        Self::start(None, handler).await
    }

    pub async fn https(tls: &Tls, handler: Handler) -> Self {
        Self::start(Some(tls.acceptor.clone()), handler).await
    }

    /// Requests that arrived so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    async fn start(acceptor: Option<TlsAcceptor>, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counter = requests.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, counter) = (acceptor.clone(), counter.clone());
                connections.spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(socket) = acceptor.accept(socket).await {
                                answer(socket, handler, &counter).await;
                            }
                        }
                        None => answer(socket, handler, &counter).await,
                    }
                });
            }
        });
        Self { port, requests, _tasks: tasks }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S, handler: Handler, requests: &AtomicUsize) {
    let Some(head) = read_head(&mut socket).await else { return };
    requests.fetch_add(1, Ordering::SeqCst);
    let bytes = handler(&head);
    if bytes.is_empty() {
        std::future::pending::<()>().await;
    }
    // The other side may have read enough.
    if socket.write_all(&bytes).await.is_ok() {
        drop(socket.shutdown().await);
    }
}

/// A port that nothing listens at.
pub fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

pub async fn read_head<S: AsyncRead + Unpin>(socket: &mut S) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
        // What cannot be a method is answered at once, as web servers do with a handshake in the wrong place.
        if !head[0].is_ascii_uppercase() {
            return Some(String::new());
        }
    }
    String::from_utf8(head).ok()
}

/// An authority, and a folder for what it issues.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// What a server shows.
pub struct Tls {
    acceptor: TlsAcceptor,
    /// Its own certificate in PEM.
    pub pem: String,
}

pub struct Leaf {
    pub name: &'static str,
    pub valid_from: i32,
    pub valid_until: i32,
}

impl Leaf {
    pub fn good(name: &'static str) -> Self {
        Self { name, valid_from: 2020, valid_until: 2100 }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new([self.name.to_owned()]).expect("a valid name");
        params.distinguished_name.push(DnType::CommonName, format!("the {} server", self.name));
        params.not_before = date_time_ymd(self.valid_from, 1, 1);
        params.not_after = date_time_ymd(self.valid_until, 1, 1);
        params
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        Self { certificate, issuer, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Its certificate as a file.
    pub fn file(&self) -> PathBuf {
        self.write("ca.pem", &self.certificate.pem())
    }

    /// A file beside it.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("writable");
        path
    }

    pub fn issue(&self, leaf: &Leaf) -> Tls {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf.params().signed_by(&key, &self.issuer).expect("a certificate");
        Tls::new(&certificate, &key)
    }
}

impl Tls {
    /// A certificate that vouches for itself, as `openssl req -x509` makes it: an authority that is a server too.
    pub fn self_signed(leaf: &Leaf) -> Self {
        let mut params = leaf.params();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self::new(&certificate, &key)
    }

    fn new(certificate: &Certificate, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a private key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a pair");
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), pem: certificate.pem() }
    }
}
