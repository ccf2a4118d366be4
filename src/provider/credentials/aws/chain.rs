//! AWS's library, which knows where keys may lie, on our own door: it makes requests, and we send them.

use super::{AwsChain, AwsKeys, FindAwsKeys};
use crate::domain::UpstreamClass;
use crate::egress::{Egress, EgressError, Method, Relay, Relayed};
use crate::provider::credentials::bearer::{Clock, FetchToken, Renewed, Token};
use crate::provider::credentials::error::setup;
use crate::provider::endpoint::Key;
use crate::provider::failure::Verdict;
use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

/// Keys that do not say when they end are looked for again after this: somebody may have changed them.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Where the library sets no limits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(10);

const NOT_FOUND: Verdict = setup(
    "has no AWS credentials: none are in the environment or a profile, and neither pod, container nor machine has a role",
);
const MISCONFIGURED: Verdict =
    setup("has AWS credentials that are not set up right: look at the profile, its role and the token file");
const UNUSABLE: Verdict = setup("has AWS credentials that no request can be signed with");
const REFUSED: Verdict = failed("was not given AWS credentials: the log says by whom");
const LATE: Verdict = failed("was not given AWS credentials in time");

/// It may pass.
const fn failed(cause: &'static str) -> Verdict {
    Verdict { class: UpstreamClass::Failed, cause }
}

pub fn keys(chain: AwsChain, egress: Egress, clock: Clock) -> Arc<dyn FindAwsKeys> {
    let search = Search { chain, egress, clock: clock.clone() };
    Arc::new(Renewed::new(Arc::new(search), clock))
}

impl FindAwsKeys for Renewed<AwsKeys> {
    fn find(&self) -> BoxFuture<'_, Result<AwsKeys, Verdict>> {
        self.get().boxed()
    }
}

/// Begins anew each time, so that changed files are seen.
#[derive(Clone)]
struct Search {
    chain: AwsChain,
    egress: Egress,
    clock: Clock,
}

impl FetchToken<AwsKeys> for Search {
    fn fetch(&self) -> BoxFuture<'static, Result<Token<AwsKeys>, Verdict>> {
        let search = self.clone();
        async move {
            let Search { chain, egress, clock } = search;
            let troubles = Troubles::default();
            let config = ProviderConfig::without_region().with_http_client(client(egress, troubles.clone()));
            let region = Region::new(chain.region);
            let mut builder = DefaultCredentialsChain::builder().configure(config).region(region);
            if let Some(profile) = chain.profile {
                builder = builder.profile_name(&profile);
            }
            ask(&builder.build().await, &troubles, &clock).await
        }
        .boxed()
    }
}

/// What the library was told on its way. It tries the next place then, and at the end names none.
type Troubles = Arc<Mutex<Vec<EgressError>>>;

async fn ask(
    provider: &impl ProvideCredentials,
    troubles: &Troubles,
    clock: &Clock,
) -> Result<Token<AwsKeys>, Verdict> {
    // The library may log nothing: among what it does log are answers with keys in them.
    let found = provider.provide_credentials().with_subscriber(Dispatch::none()).await;
    if found.is_err() {
        for trouble in troubles.lock().expect("nobody panics while holding it").iter() {
            // Holds an address and no more.
            tracing::warn!("on the way to AWS credentials: {trouble}");
        }
    }
    let found = found.map_err(|error| match error {
        CredentialsError::CredentialsNotLoaded(_) => NOT_FOUND,
        CredentialsError::InvalidConfiguration(_) => MISCONFIGURED,
        CredentialsError::ProviderTimedOut(_) => LATE,
        // What else it says may hold parts of them.
        _ => REFUSED,
    })?;
    token(&found, clock).ok_or(UNUSABLE)
}

fn token(found: &Credentials, clock: &Clock) -> Option<Token<AwsKeys>> {
    let key = |text: &str| Key::new(text.to_owned());
    let session_token = found.session_token().map(key);
    let value = AwsKeys::new(found.access_key_id().to_owned(), key(found.secret_access_key()), session_token).ok()?;
    Some(Token { value, ends_at: found.expiry().unwrap_or_else(|| clock.now() + LIFE) })
}

fn client(egress: Egress, troubles: Troubles) -> SharedHttpClient {
    http_client_fn(move |settings: &HttpConnectorSettings, _| {
        let connect = settings.connect_timeout().unwrap_or(CONNECT_TIMEOUT);
        let timeout = connect + settings.read_timeout().unwrap_or(READ_TIMEOUT);
        SharedHttpConnector::new(Door { egress: egress.clone(), timeout, troubles: troubles.clone() })
    })
}

#[derive(Debug)]
struct Door {
    egress: Egress,
    timeout: Duration,
    troubles: Troubles,
}

impl HttpConnector for Door {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { egress, timeout, troubles } = self;
        let (egress, timeout, troubles) = (egress.clone(), *timeout, troubles.clone());
        HttpConnectorFuture::new(async move {
            let relay = relay(&request, timeout)?;
            match egress.relay(relay).await {
                Ok(relayed) => response(relayed),
                Err(error) => {
                    troubles.lock().expect("nobody panics while holding it").push(error.clone());
                    let is_late = matches!(error, EgressError::Timeout { .. });
                    let error = Box::new(error);
                    Err(if is_late { ConnectorError::timeout(error) } else { ConnectorError::io(error) })
                }
            }
        })
    }
}

fn relay(request: &HttpRequest, timeout: Duration) -> Result<Relay, ConnectorError> {
    let method = match request.method() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        other => return Err(ConnectorError::user(format!("the method {other} is not sent").into())),
    };
    let body = request.body().bytes().ok_or_else(|| ConnectorError::user("a body in pieces is not sent".into()))?;
    let headers = request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Relay { method, url: request.uri().to_owned(), headers: headers.collect(), body: body.to_vec(), timeout })
}

fn response(relayed: Relayed) -> Result<HttpResponse, ConnectorError> {
    let Relayed { status, headers, body } = relayed;
    let status = status.try_into().map_err(|error| ConnectorError::user(Box::new(error)))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in headers {
        // One that it cannot take is one that it does not need.
        response.headers_mut().try_append(name, value).ok();
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::EgressSettings;
    use aws_config::imds;
    use aws_config::imds::credentials::ImdsCredentialsProvider;
    use std::io::Write;
    use std::time::SystemTime;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    /// A server on loopback that answers by the first line of a request, and keeps what it was asked.
    struct Server {
        url: String,
        asked: Arc<Mutex<Vec<String>>>,
        _task: JoinSet<()>,
    }

    impl Server {
        async fn answering(answer: fn(&str) -> (u16, &'static str)) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            let asked = Arc::new(Mutex::new(Vec::new()));
            let kept = asked.clone();
            let mut task = JoinSet::new();
            task.spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    let mut request = vec![0; 64 << 10];
                    let length = socket.read(&mut request).await.expect("a request");
                    let request = String::from_utf8(request[..length].to_vec()).expect("text");
                    let (status, body) = answer(request.lines().next().expect("a first line"));
                    let fixed = "Connection: close\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600";
                    let head = format!("HTTP/1.1 {status} Said\r\n{fixed}\r\nContent-Length: {}\r\n\r\n", body.len());
                    kept.lock().expect("nobody panics with it").push(request);
                    socket.write_all(format!("{head}{body}").as_bytes()).await.expect("somebody listens");
                }
            });
            Self { url, asked, _task: task }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().expect("nobody panics with it").clone()
        }
    }

    fn door(allowed: &str) -> Egress {
        let allowed = vec![allowed.to_owned()];
        Egress::new(&EgressSettings { allowed, ..EgressSettings::default() }).expect("settings that can be used")
    }

    /// 2026-11-22T06:00:00Z.
    fn clock() -> Clock {
        Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_327_200))
    }

    /// The machine's service, but for its address, as the chain asks it.
    async fn ask_machine(server: &Server, egress: Egress) -> Result<Token<AwsKeys>, Verdict> {
        let troubles = Troubles::default();
        let config = ProviderConfig::without_region().with_http_client(client(egress, troubles.clone()));
        let service = imds::Client::builder().configure(&config).endpoint(&server.url).expect("an address");
        let service = service.max_attempts(1).build();
        let provider = ImdsCredentialsProvider::builder().configure(&config).imds_client(service).build();
        ask(&provider, &troubles, &clock()).await
    }

    fn metadata(line: &str) -> (u16, &'static str) {
        let role = "/latest/meta-data/iam/security-credentials/";
        match line.split(' ').nth(1).expect("a path") {
            "/latest/api/token" => (200, "ask-machine"),
            path if path == role => (200, "role"),
            path if path.strip_prefix(role) == Some("role") => (
                200,
                r#"{"Code": "Success", "LastUpdated": "2026-11-22T06:00:00Z", "Type": "AWS-HMAC",
                    "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "open", "Token": "sesame",
                    "Expiration": "2099-11-22T12:00:00Z"}"#,
            ),
            _ => (404, ""),
        }
    }

    #[tokio::test]
    async fn keys_of_a_machine_come_through_the_door() {
        let server = Server::answering(metadata).await;
        let token = ask_machine(&server, door(&server.url)).await.expect("keys");
        let AwsKeys { access_key_id, secret_access_key, session_token } = &token.value;
        let session_token = session_token.as_ref().map(Key::reveal);
        assert_eq!((access_key_id.as_str(), secret_access_key.reveal()), ("ASIAEXAMPLE", "open"));
        assert_eq!(session_token, Some("sesame"));
        assert_eq!(token.ends_at, SystemTime::UNIX_EPOCH + Duration::from_secs(4_099_032_000));
        let asked = server.asked();
        assert!(asked[0].starts_with("PUT /latest/api/token HTTP/1.1\r\n"), "{}", asked[0]);
        let shown = |request: &String| request.to_ascii_lowercase().contains("x-aws-ec2-metadata-token: ask-machine");
        assert!(asked.len() > 2 && asked[1..].iter().all(shown), "{asked:?}");
    }

    /// A log that is kept.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_most_talkative_log_holds_no_keys() {
        let log = Log::default();
        let kept = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || kept.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        // With one alone, what other tests reach first on their threads would be taken for unwanted everywhere.
        let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
        let server = Server::answering(metadata).await;
        assert!(ask_machine(&server, door(&server.url)).await.is_ok());
        assert!(ask_machine(&server, door("http://127.0.0.1:1")).await.is_err());
        let text = String::from_utf8(log.0.lock().expect("nobody panics with it").clone()).expect("text");
        assert!(text.contains(&format!("{} is not called", server.url)), "{text}");
        for secret in ["sesame", "open", "ask-machine"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }

    #[tokio::test]
    async fn what_goes_wrong_on_the_way_says_what_to_put_right() {
        let server = Server::answering(metadata).await;
        let closed = ask_machine(&server, door("http://127.0.0.1:1")).await;
        assert_eq!((closed.err(), server.asked().len()), (Some(NOT_FOUND), 0));
        let without_role = Server::answering(|line| if line.starts_with("PUT") { (200, "t") } else { (404, "") }).await;
        let error = ask_machine(&without_role, door(&without_role.url)).await.err();
        assert_eq!(error, Some(NOT_FOUND));
        let ill = Server::answering(|line| if line.starts_with("PUT") { (200, "t") } else { (500, "sesame") }).await;
        let error = ask_machine(&ill, door(&ill.url)).await.err();
        assert_eq!(error, Some(REFUSED));
    }

    #[tokio::test]
    async fn requests_are_sent_as_the_library_made_them() {
        let server = Server::answering(|_| (403, "no")).await;
        let mut request = HttpRequest::new(SdkBody::from("Action=AssumeRoleWithWebIdentity"));
        request.set_method("POST").expect("a method");
        request.set_uri(format!("{}/?x=1", server.url)).expect("an address");
        for (name, value) in [("content-type", "application/x-www-form-urlencoded"), ("content-length", "32")] {
            request.headers_mut().insert(name, value);
        }
        let door = Door { egress: door(&server.url), timeout: READ_TIMEOUT, troubles: Troubles::default() };
        let response = door.call(request).await.expect("an answer");
        assert_eq!((response.status().as_u16(), response.body().bytes()), (403, Some(b"no".as_slice())));
        assert_eq!(response.headers().get("x-aws-ec2-metadata-token-ttl-seconds"), Some("21600"));
        let asked = server.asked().pop().expect("a request").to_ascii_lowercase();
        let (head, body) = asked.split_once("\r\n\r\n").expect("an end of the head");
        assert_eq!(body, "action=assumerolewithwebidentity");
        assert!(head.starts_with("post /?x=1 http/1.1"), "{head}");
        for header in ["content-type: application/x-www-form-urlencoded", "content-length: 32"] {
            assert_eq!(head.matches(header).count(), 1, "{head}");
        }
    }

    #[test]
    fn keys_end_when_they_say_or_are_looked_for_again_after_a_while() {
        let check = |expiry: Option<SystemTime>, expected: SystemTime| {
            let found = Credentials::new("AKIDEXAMPLE", "open", None, expiry, "test");
            assert_eq!(token(&found, &clock()).expect("keys").ends_at, expected);
        };
        let now = clock().now();
        check(Some(now + Duration::from_secs(900)), now + Duration::from_secs(900));
        check(None, now + LIFE);
        assert!(token(&Credentials::new("", "open", None, None, "test"), &clock()).is_none());
    }
}
