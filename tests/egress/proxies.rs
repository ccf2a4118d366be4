use super::servers::{Authority, Leaf, Server, closed_port, json, ok, read_head};
use super::{check, egress, only};
use sconce::egress::{ConnectFailure, EgressError, EgressSettings};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A proxy that opens every tunnel to one port of this machine, and remembers what it was asked.
struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let heads = asked.clone();
        tasks.spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let heads = heads.clone();
                tunnels.spawn(async move {
                    let Some(head) = read_head(&mut client).await else { return };
                    heads.lock().expect("nobody panics with it").push(head);
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
                        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                    }
                });
            }
        });
        Self { port, asked, _tasks: tasks }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_http_by_its_whole_address() {
    let authority = Authority::new("Example Corp Root");
    let server = Server::https(&authority.issue(&Leaf::good("gitlab.invalid")), ok).await;
    let proxy = Proxy::to(server.port).await;
    let plain_proxy = Server::http(|head| json("200 OK", &format!("{head:?}"))).await;
    let settings = EgressSettings {
        allowed: vec!["https://gitlab.invalid".to_owned(), "http://gitlab.invalid".to_owned()],
        extra_ca_files: vec![authority.file()],
        https_proxy: Some(format!("http://me:sesame@127.0.0.1:{}", proxy.port)),
        http_proxy: Some(format!("http://127.0.0.1:{}", plain_proxy.port)),
        ..EgressSettings::default()
    };
    assert!(!format!("{settings:?}").contains("sesame"), "the password of a proxy");
    let egress = egress(settings);
    // The name does not resolve: only the proxy could know where it is.
    assert_eq!(egress.get("https://gitlab.invalid/keys").await.expect("tunnelled").body, b"{\"keys\":[]}");
    let [head] = &proxy.asked()[..] else { panic!("one tunnel") };
    assert!(head.starts_with("CONNECT gitlab.invalid:443 "), "{head}");
    // `me:sesame`
    assert!(head.to_lowercase().contains("proxy-authorization: basic") && head.contains("bWU6c2VzYW1l"), "{head}");
    let answer = egress.get("http://gitlab.invalid/keys").await.expect("forwarded").body;
    assert!(String::from_utf8_lossy(&answer).contains("GET http://gitlab.invalid/keys"), "{answer:?}");
}

#[tokio::test]
async fn no_proxy_goes_straight() {
    let server = Server::http(ok).await;
    let url = format!("http://127.0.0.1:{}/", server.port);
    for (no_proxy, goes_through) in [
        (None, true),
        (Some("example.com"), true),
        (Some("127.0.0.1"), false),
        (Some("example.com, 127.0.0.0/8"), false),
        (Some("*"), false),
    ] {
        let proxy = Server::http(ok).await;
        let settings = EgressSettings {
            http_proxy: Some(format!("http://127.0.0.1:{}", proxy.port)),
            no_proxy: no_proxy.map(str::to_owned),
            ..only(&url)
        };
        egress(settings).get(&url).await.expect("an answer");
        assert_eq!(proxy.requests() == 1, goes_through, "{no_proxy:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_gone_is_named() {
    let refusing = Server::http(|_| json("403 Forbidden", "{}")).await;
    let gone = closed_port();
    for (port, wanted, parts) in [
        (refusing.port, ConnectFailure::Tunnel, &["the proxy does not open", "proxy's log", "NO_PROXY"][..]),
        (gone, ConnectFailure::Refused, &["nothing listens", "check that the proxy runs", "egress.no_proxy"]),
    ] {
        let url = "https://gitlab.invalid/";
        let https_proxy = Some(format!("http://me:sesame@127.0.0.1:{port}"));
        let error = egress(EgressSettings { https_proxy, ..only(url) }).get(url).await.expect_err("no way");
        let EgressError::Connect { reason, .. } = &error else { panic!("another error: {error}") };
        assert_eq!(*reason, wanted, "{error}");
        check(&error, parts);
        check(&error, &[&format!("http://127.0.0.1:{port}")]);
    }
}
