use super::servers::{Authority, Leaf, Server, Tls, closed_port, ok};
use super::{check, egress, only};
use sconce::egress::{EgressError, EgressSettings, SettingsError, TlsCause};
use std::path::PathBuf;

async fn call(tls: &Tls, extra_ca_files: Vec<PathBuf>) -> Result<Vec<u8>, EgressError> {
    let server = Server::https(tls, ok).await;
    let url = format!("https://localhost:{}", server.port);
    let egress = egress(EgressSettings { extra_ca_files, ..only(&url) });
    let answer = egress.get(&format!("{url}/oauth/discovery/keys")).await;
    let shown = egress.certificates("localhost");
    assert_eq!(shown.len(), 1, "what the server showed is remembered");
    answer.map(|fetched| fetched.body)
}

#[track_caller]
fn cause(result: Result<Vec<u8>, EgressError>) -> (TlsCause, EgressError) {
    match result.expect_err("not believed") {
        EgressError::Tls { cause, at, chain } => (cause.clone(), EgressError::Tls { cause, at, chain }),
        other => panic!("another error: {other}"),
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_added_by_its_file() {
    let authority = Authority::new("Example Corp Root");
    let tls = authority.issue(&Leaf::good("localhost"));
    assert_eq!(call(&tls, vec![authority.file()]).await.expect("believed"), b"{\"keys\":[]}");
    let (cause, error) = cause(call(&tls, Vec::new()).await);
    assert_eq!(cause, TlsCause::UnknownIssuer);
    check(
        &error,
        &["the localhost server", "Example Corp Root", "valid until 2100-01-01", "tls.extra_ca_files", "SSL_CERT_FILE"],
    );
    let other = Authority::new("Somebody Else");
    assert!(call(&tls, vec![other.file()]).await.is_err());
    let bundle = other.write("bundle.pem", &format!("# two of them\n{}\n{}", text(&other), text(&authority)));
    call(&tls, vec![bundle]).await.expect("the second in a file counts as well");
    let damaged = "-----BEGIN CERTIFICATE-----\nc2VzYW1l\n-----END CERTIFICATE-----";
    let bundle = other.write("bundle.pem", &format!("{damaged}\n{}", text(&authority)));
    call(&tls, vec![bundle]).await.expect("one that cannot be used spoils none of the others");
}

fn text(authority: &Authority) -> String {
    std::fs::read_to_string(authority.file()).expect("just written")
}

#[tokio::test]
async fn dates_and_names_are_told_apart() {
    let authority = Authority::new("Example Corp Root");
    for (leaf, wanted, parts) in [
        (
            Leaf { name: "localhost", valid_from: 2020, valid_until: 2021 },
            TlsCause::Expired,
            &["has expired", "2021-01-01", "renew"][..],
        ),
        (
            Leaf { name: "localhost", valid_from: 2099, valid_until: 2100 },
            TlsCause::NotValidYet,
            &["not valid yet", "clock"],
        ),
        (
            Leaf::good("gitlab.internal"),
            TlsCause::WrongName,
            &["another name", "gitlab.internal", "issued for this one"],
        ),
    ] {
        let (cause, error) = cause(call(&authority.issue(&leaf), vec![authority.file()]).await);
        assert_eq!(cause, wanted);
        check(&error, parts);
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_believed_once_it_is_named() {
    let authority = Authority::new("unused");
    let named = |tls: &Tls| vec![authority.write("server.pem", &tls.pem)];
    let good = Tls::self_signed(&Leaf::good("localhost"));
    let (cause_unnamed, error) = cause(call(&good, Vec::new()).await);
    assert_eq!(cause_unnamed, TlsCause::UnknownIssuer);
    check(&error, &["signed by itself", "tls.extra_ca_files"]);
    call(&good, named(&good)).await.expect("believed");
    let elsewhere = Tls::self_signed(&Leaf::good("gitlab.internal"));
    assert_eq!(cause(call(&elsewhere, named(&elsewhere)).await).0, TlsCause::WrongName);
    let old = Tls::self_signed(&Leaf { name: "localhost", valid_from: 2020, valid_until: 2021 });
    assert_eq!(cause(call(&old, named(&old)).await).0, TlsCause::Expired);
    let twin = Tls::self_signed(&Leaf::good("localhost"));
    assert!(call(&twin, named(&good)).await.is_err(), "another key under the same name");
}

#[tokio::test]
async fn on_loopback_any_certificate_is_believed_if_that_is_wished() {
    let elsewhere = Tls::self_signed(&Leaf { name: "gitlab.internal", valid_from: 2020, valid_until: 2021 });
    let server = Server::https(&elsewhere, ok).await;
    let proxy = Some(format!("http://127.0.0.1:{}", closed_port()));
    for (host, is_loopback_believed, http_proxy, is_believed) in [
        ("127.0.0.1", true, None, true),
        ("127.0.0.1", false, None, false),
        ("127.0.0.1", true, proxy, false),
        ("localhost", true, None, false),
    ] {
        let url = format!("https://{host}:{}/", server.port);
        let answer = egress(EgressSettings { is_loopback_believed, http_proxy, ..only(&url) }).get(&url).await;
        match answer {
            Ok(_) => assert!(is_believed, "{host} {is_loopback_believed}"),
            Err(EgressError::Tls { .. }) => assert!(!is_believed, "{host} {is_loopback_believed}"),
            Err(error) => panic!("{host} {is_loopback_believed}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_port_without_tls_is_recognised() {
    let server = Server::http(ok).await;
    let url = format!("https://localhost:{}/", server.port);
    let error = egress(only(&url)).get(&url).await.expect_err("no handshake");
    check(&error, &["does not speak TLS", "http://"]);
}

#[test]
fn files_that_hold_no_authority_are_refused() {
    let authority = Authority::new("unused");
    for (name, text, expected) in [
        ("empty.pem", "", "holds no certificate in PEM"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\nc2VzYW1l\n-----END PRIVATE KEY-----\n", "openssl x509 -inform der"),
        (
            "junk.pem",
            "-----BEGIN CERTIFICATE-----\nc2VzYW1l\n-----END CERTIFICATE-----\n",
            "none of the 1 certificate(s) in",
        ),
    ] {
        let file = authority.write(name, text);
        let settings = EgressSettings { extra_ca_files: vec![file], ..EgressSettings::default() };
        let error = sconce::egress::Egress::new(&settings).expect_err("no authority").to_string();
        assert!(error.contains(expected) && error.contains(name) && !error.contains("c2VzYW1l"), "{error}");
    }
    let missing = EgressSettings { extra_ca_files: vec!["/nowhere/ca.pem".into()], ..EgressSettings::default() };
    let error = sconce::egress::Egress::new(&missing).expect_err("missing");
    assert!(matches!(error, SettingsError::CaFile(_)) && error.to_string().contains("/nowhere/ca.pem"));
}
