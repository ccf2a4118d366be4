use super::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::path::Path;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A certificate that vouches for itself, and its key.
struct Pair {
    cert: String,
    key: String,
}

fn pair(name: &str, year_of_expiry: i32) -> Pair {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a valid name");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year_of_expiry, 1, 1);
    let key = KeyPair::generate().expect("a key");
    Pair { cert: params.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
}

/// The files of a listener.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(pair: &Pair) -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        files.write(&pair.cert, &pair.key);
        files
    }

    fn write(&self, cert: &str, key: &str) {
        std::fs::write(self.cert(), cert).expect("writable");
        std::fs::write(self.key(), key).expect("writable");
    }

    fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn load(&self) -> Result<TlsListener, TlsFileError> {
        TlsListener::load(self.cert(), self.key(), HANDSHAKE_TIMEOUT)
    }
}

/// Trusts these certificates, and nobody else.
fn connector(trusted: &[&Pair], versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM")).expect("usable");
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("known versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A listener that echoes one message per connection, and the place it listens at.
async fn echo(listener: Arc<TlsListener>, tasks: &mut JoinSet<()>) -> std::net::SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = socket.accept().await {
            let listener = listener.clone();
            connections.spawn(async move {
                let Ok(mut client) = listener.accept(client).await else { return };
                let mut message = [0; 5];
                if client.read_exact(&mut message).await.is_ok() && client.write_all(&message).await.is_ok() {
                    drop(client.shutdown().await);
                }
            });
        }
    });
    address
}

/// Connects, sends a message, and gives back the name on the certificate that was shown.
async fn ask(connector: &TlsConnector, address: std::net::SocketAddr, name: &str) -> io::Result<String> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut stream = connector.connect(name, socket).await?;
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"hello");
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| Certificate::read(chain.first()?));
    Ok(shown.expect("a certificate").subject)
}

#[tokio::test]
async fn speaks_both_versions_and_both_protocols() {
    let pair = pair("gateway.test", 2100);
    let listener = Arc::new(Files::new(&pair).load().expect("good files"));
    let mut tasks = JoinSet::new();
    let address = echo(listener, &mut tasks).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connector = connector(&[&pair], &[version]);
        ask(&connector, address, "gateway.test").await.expect("an answer");
        let socket = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::try_from("gateway.test").expect("a name");
        let stream = connector.connect(name, socket).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }
}

#[tokio::test]
async fn an_older_version_is_refused() {
    // A hello of TLS 1.0 as OpenSSL 1.0 sent it: version 3.1 in the record and in the hello, no extensions.
    let mut hello = vec![22, 3, 1, 0, 47, 1, 0, 0, 43, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0, 0x2f, 0, 0x35, 1, 0]);
    let listener = Arc::new(Files::new(&pair("gateway.test", 2100)).load().expect("good files"));
    let mut tasks = JoinSet::new();
    let address = echo(listener, &mut tasks).await;
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(&hello).await.expect("taken");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("an alert and the end");
    // One record: a fatal (2) alert (21), and nothing of a handshake.
    assert_eq!((answer.len(), answer.first(), answer.get(5)), (7, Some(&21), Some(&2)), "{answer:?}");
}

#[tokio::test]
async fn a_reload_under_load_drops_nothing() {
    const ROUNDS: usize = 20;
    const CLIENTS: usize = 4;
    let (old, new) = (pair("old.test", 2100), pair("new.test", 2100));
    let files = Files::new(&old);
    let listener = Arc::new(files.load().expect("good files"));
    let mut tasks = JoinSet::new();
    let address = echo(listener.clone(), &mut tasks).await;
    let connector = connector(&[&old, &new], &[&rustls::version::TLS13]);
    // A connection from before outlives the change.
    let name = ServerName::try_from("old.test").expect("a name");
    let early = TcpStream::connect(address).await.expect("it listens");
    let mut early = connector.connect(name, early).await.expect("a handshake");
    for round in 0..ROUNDS {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let connector = connector.clone();
            clients.spawn(async move {
                // Either certificate is right while they change places: nothing else is.
                match ask(&connector, address, "old.test").await {
                    Ok(subject) => subject,
                    Err(_) => ask(&connector, address, "new.test").await.expect("one of the two names"),
                }
            });
        }
        let next = if round % 2 == 0 { &new } else { &old };
        files.write(&next.cert, &next.key);
        assert!(matches!(listener.reload(), Reloaded::Fresh), "round {round}");
        assert!(matches!(listener.reload(), Reloaded::Unchanged), "round {round}");
        while let Some(subject) = clients.join_next().await {
            let subject = subject.expect("no connection is dropped");
            assert!(["old.test", "new.test"].contains(&subject.as_str()), "{subject}");
        }
        let current = if round % 2 == 0 { "new.test" } else { "old.test" };
        assert_eq!(ask(&connector, address, current).await.expect("an answer"), current, "round {round}");
    }
    early.write_all(b"hello").await.expect("still open");
    let mut answer = [0; 5];
    early.read_exact(&mut answer).await.expect("still answered");
}

#[tokio::test]
async fn a_broken_new_file_changes_nothing_and_is_told_once() {
    let good = pair("gateway.test", 2100);
    let files = Files::new(&good);
    let listener = Arc::new(files.load().expect("good files"));
    let mut tasks = JoinSet::new();
    let address = echo(listener.clone(), &mut tasks).await;
    let connector = connector(&[&good], &[&rustls::version::TLS13]);
    let expired = pair("gateway.test", 2021);
    for (cert, key) in [
        ("", good.key.as_str()),
        (&good.cert[..good.cert.len() / 2], &good.key),
        (&pair("gateway.test", 2100).cert, &good.key),
        (&expired.cert, &expired.key),
    ] {
        files.write(cert, key);
        assert!(matches!(listener.reload(), Reloaded::Kept(_)), "{cert}");
        assert!(matches!(listener.reload(), Reloaded::Unchanged), "told already: {cert}");
        ask(&connector, address, "gateway.test").await.expect("the old certificate serves");
    }
    std::fs::remove_file(files.key()).expect("it is there");
    assert!(matches!(listener.reload(), Reloaded::Kept(TlsFileError::Unreadable { .. })));
    assert!(matches!(listener.reload(), Reloaded::Unchanged), "told already");
    files.write(&good.cert, &good.key);
    assert!(matches!(listener.reload(), Reloaded::Fresh), "it is back");
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let listener = Arc::new(Files::new(&pair("gateway.test", 2100)).load().expect("good files"));
    let mut tasks = JoinSet::new();
    let address = echo(listener, &mut tasks).await;
    let body = "x".repeat(100_000);
    let post = format!("POST /v2/code/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{body}");
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &post] {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        socket.write_all(request.as_bytes()).await.expect("taken");
        socket.shutdown().await.expect("half closed");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("an answer, not a reset");
        let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 400 ") && text.contains("https://"), "{answer}");
        assert!(head.contains(&format!("Content-Length: {}", text.len())), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_stall_or_stammer_are_let_go() {
    let listener = Files::new(&pair("gateway.test", 2100)).load().expect("good files");
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let mut outcomes = Vec::new();
    for said in [&b""[..], b"\x16\x03\x01", b"\x00\x01", b"\xffabc"] {
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(said).await.expect("taken");
        let (accepted, _) = socket.accept().await.expect("a client");
        outcomes.push(listener.accept(accepted).await.expect_err("no TLS").to_string());
    }
    let slow = "no handshake within 10 s".to_owned();
    assert_eq!(outcomes, [slow.clone(), slow, "neither TLS nor HTTP".to_owned(), "neither TLS nor HTTP".to_owned()]);
}

#[test]
fn wrong_files_are_explained() {
    let good = pair("gateway.test", 2100);
    let other = pair("other.test", 2100);
    let expired = pair("old.test", 2021);
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (cert, key, parts) in [
        (good.cert.as_str(), other.key.as_str(), &["key.pem", "cert.pem", "gateway.test", "is not that of"][..]),
        (&good.key, &good.key, &["cert.pem holds no certificate"]),
        (&good.cert, &good.cert, &["key.pem holds no private key"]),
        (&good.cert, locked, &["locked with a password", "openssl pkey"]),
        (&expired.cert, &expired.key, &["old.test", "has expired on 2021-01-01"]),
        (broken, &good.key, &["cert.pem cannot be read"]),
        ("", "", &["holds no certificate"]),
    ] {
        let files = Files::new(&good);
        files.write(cert, key);
        let error = files.load().expect_err("wrong files").to_string();
        for part in parts {
            assert!(error.contains(part), "`{part}` is missing from: {error}");
        }
        assert!(!error.contains("MIIB") && !error.contains("AAAA"), "shows what is in the files: {error}");
    }
    let nowhere = TlsListener::load("/nowhere/c.pem".into(), "/nowhere/k.pem".into(), HANDSHAKE_TIMEOUT);
    assert!(nowhere.expect_err("missing").to_string().contains("/nowhere/c.pem"));
    let folder = Files::new(&good);
    let error = TlsListener::load(Path::new("/").into(), folder.key(), HANDSHAKE_TIMEOUT).expect_err("a folder");
    assert!(error.to_string().starts_with("cannot read"), "{error}");
}
