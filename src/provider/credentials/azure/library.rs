//! Azure's library, which knows how identities are proved to Entra ID, on our own door: it makes requests, and we send
//! them, once each.

use super::{Clock, CredentialError, Entra, EntraIdentity, Sign, WHAT};
use crate::egress::{Egress, Method, Relay, Relayed, TIMEOUT};
use crate::provider::credentials::bearer::{Bearer, FetchToken, Token};
use crate::provider::credentials::error::{failed, setup};
use crate::provider::endpoint::Key;
use crate::provider::failure::Verdict;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{
    AsyncRawResponse, ClientOptions, HttpClient, Method as Verb, Request as Asked, RetryOptions, StatusCode, Transport,
};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::Arc;

pub fn open(settings: Entra, egress: Egress, clock: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    through(Transport::new(Arc::new(Door(egress))), settings, clock)
}

fn through(transport: Transport, settings: Entra, clock: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    let Entra { identity, scope, authority } = settings;
    let hint = match &identity {
        EntraIdentity::ClientSecret { .. } => "look at the ids of tenant and client and at the secret",
        EntraIdentity::WorkloadIdentity { .. } => "look at the ids of tenant and client, and that the file is there",
        EntraIdentity::Managed { .. } => "look at the id of the client",
    };
    let mut cloud = CustomConfiguration::default();
    cloud.authority_host = authority;
    let client_options = ClientOptions {
        cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
        transport: Some(transport),
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    };
    let credential = credential(identity, client_options);
    let credential = credential.map_err(|_| CredentialError::Settings { what: WHAT, hint })?;
    Ok(Arc::new(Bearer::new(Arc::new(Fetching { credential, scope }), clock)))
}

fn credential(identity: EntraIdentity, client_options: ClientOptions) -> azure_core::Result<Arc<dyn TokenCredential>> {
    Ok(match identity {
        EntraIdentity::ClientSecret { tenant, client, secret } => {
            let options = ClientSecretCredentialOptions { client_options };
            ClientSecretCredential::new(&tenant, client, Secret::new(secret.reveal().to_owned()), Some(options))?
        }
        EntraIdentity::WorkloadIdentity { tenant, client, token_file } => {
            WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: Some(client),
                tenant_id: Some(tenant),
                token_file_path: Some(token_file),
            }))?
        }
        EntraIdentity::Managed { client } => {
            let user_assigned_id = client.map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            ManagedIdentityCredential::new(Some(options))?
        }
    })
}

struct Fetching {
    credential: Arc<dyn TokenCredential>,
    scope: String,
}

impl FetchToken for Fetching {
    fn fetch(&self) -> BoxFuture<'static, Result<Token, Verdict>> {
        let (credential, scope) = (self.credential.clone(), self.scope.clone());
        async move {
            match credential.get_token(&[&scope], None).await {
                Ok(token) => {
                    let value = Key::new(token.token.secret().to_owned());
                    Ok(Token { value, ends_at: token.expires_on.into() })
                }
                Err(error) => Err(verdict(&error.to_string())),
            }
        }
        .boxed()
    }
}

/// Of what the library says only Entra's own code is kept: the rest may repeat the request.
fn verdict(said: &str) -> Verdict {
    let code = said.find("AADSTS").map(|at| {
        let digits = said[at + 6..].bytes().take_while(u8::is_ascii_digit).count();
        &said[at..at + 6 + digits]
    });
    tracing::warn!(code, "no token of Entra ID");
    match code {
        // `A transient error has occurred`.
        Some("AADSTS90033") | None => failed("cannot be asked: Entra ID gives no token for the moment"),
        Some(_) => setup("cannot be asked: Entra ID refuses the identity that is set for it"),
    }
}

/// Sends what the library asks for.
#[derive(Debug)]
struct Door(Egress);

impl HttpClient for Door {
    fn execute_request<'a, 'b, 'c>(&'a self, request: &'b Asked) -> BoxFuture<'c, azure_core::Result<AsyncRawResponse>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        async move {
            let method = match request.method() {
                Verb::Get => Method::Get,
                Verb::Post => Method::Post,
                _ => return Err(unsent("this method is not sent")),
            };
            let headers = request.headers().iter();
            let relay = Relay {
                method,
                url: request.url().to_string(),
                headers: headers.map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned())).collect(),
                body: azure_core::Bytes::from(request.body()).to_vec(),
                timeout: TIMEOUT,
            };
            let Relayed { status, headers, body } = self.0.relay(relay).await.map_err(|error| {
                // Holds an address and no more.
                tracing::warn!("on the way to a token of Entra ID: {error}");
                unsent("the request was not answered")
            })?;
            let mut answered = Headers::new();
            for (name, value) in headers {
                answered.insert(name, value);
            }
            Ok(AsyncRawResponse::from_bytes(StatusCode::from(status), answered, body))
        }
        .boxed()
    }
}

fn unsent(why: &'static str) -> azure_core::Error {
    azure_core::Error::with_message(ErrorKind::Io, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UpstreamClass::{Failed, Setup};
    use crate::egress::EgressSettings;
    use crate::provider::answer::Request;
    use std::sync::Mutex;
    use std::time::{Duration, SystemTime};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What is written to the log, at any level.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Stands for Entra: answers the same to everybody, and keeps what it was asked.
    #[derive(Debug)]
    struct Fake {
        status: u16,
        body: &'static str,
        asked: Mutex<Vec<String>>,
    }

    impl HttpClient for Fake {
        fn execute_request<'a, 'b, 'c>(
            &'a self,
            request: &'b Asked,
        ) -> BoxFuture<'c, azure_core::Result<AsyncRawResponse>>
        where
            'a: 'c,
            'b: 'c,
            Self: 'c,
        {
            let body = azure_core::Bytes::from(request.body());
            let text = format!("{} {}", request.url(), String::from_utf8_lossy(&body));
            self.asked.lock().expect("nobody panics with it").push(text);
            let status = StatusCode::from(self.status);
            std::future::ready(Ok(AsyncRawResponse::from_bytes(status, Headers::new(), self.body))).boxed()
        }
    }

    fn secret() -> EntraIdentity {
        EntraIdentity::ClientSecret {
            tenant: "tenant-1".to_owned(),
            client: "client-1".to_owned(),
            secret: Key::new("sesame".to_owned()),
        }
    }

    async fn sign(identity: EntraIdentity, status: u16, body: &'static str, times: usize) -> (Told, Vec<String>) {
        let fake = Arc::new(Fake { status, body, asked: Mutex::default() });
        let settings =
            Entra { identity, scope: Entra::SCOPE.to_owned(), authority: "https://login.entra.test".to_owned() };
        let clock = Clock::new(|| SystemTime::now() + Duration::from_secs(1));
        let sign = through(Transport::new(fake.clone()), settings, clock).expect("settings that can be used");
        let mut told = Err(setup("nobody asked"));
        for _ in 0..times {
            let mut request = Request { url: String::new(), headers: Vec::new(), body: String::new() };
            told = sign.sign(&mut request).await.map(|()| request.headers);
        }
        let asked = fake.asked.lock().expect("nobody panics with it").clone();
        (told, asked)
    }

    type Told = Result<Vec<(&'static str, String)>, Verdict>;

    #[tokio::test]
    async fn secrets_and_tokens_of_pods_are_exchanged_once() {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
        // Beside one subscriber alone, a thread without it that first comes by a place silences that place for all.
        let _other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let _guard = tracing::subscriber::set_default(log.finish());
        let body = r#"{"token_type": "Bearer", "expires_in": 3599, "access_token": "entra-token"}"#;
        let folder = tempfile::tempdir().expect("a folder to write to");
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, "pod-token").expect("a folder to write to");
        let pod = EntraIdentity::WorkloadIdentity {
            tenant: "tenant-1".to_owned(),
            client: "client-1".to_owned(),
            token_file,
        };
        for (identity, proof) in [(secret(), "client_secret=sesame"), (pod, "client_assertion=pod-token")] {
            let (told, asked) = sign(identity, 200, body, 3).await;
            assert_eq!(told, Ok(vec![("authorization", "Bearer entra-token".to_owned())]));
            let [asked] = &asked[..] else { panic!("asked {} times", asked.len()) };
            let scope = "scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default";
            for part in ["https://login.entra.test/tenant-1/oauth2/v2.0/token", proof, "client-1", scope] {
                assert!(asked.contains(part), "{part}");
            }
        }
        let log = String::from_utf8(written.0.lock().expect("nobody panics with it").clone()).expect("text");
        assert!(log.contains("login.entra.test"), "the library writes too: {log}");
        for secret in ["sesame", "pod-token", "entra-token"] {
            assert!(!log.contains(secret), "{log}");
        }
    }

    #[tokio::test]
    async fn refusals_are_told_from_what_may_pass() {
        let wrong = r#"{"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."}"#;
        let passing = r#"{"error": "invalid_request", "error_description": "AADSTS90033: A transient error."}"#;
        for (status, body, class) in [(401, wrong, Setup), (400, passing, Failed), (400, "<html>", Failed)] {
            let (told, _) = sign(secret(), status, body, 1).await;
            assert_eq!(told.map_err(|verdict| verdict.class), Err(class), "{body}");
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused_without_their_secrets() {
        let identity = EntraIdentity::ClientSecret {
            tenant: "sesame/..".to_owned(),
            client: "client-1".to_owned(),
            secret: Key::new("sesame".to_owned()),
        };
        let (scope, authority) = (Entra::SCOPE.to_owned(), Entra::AUTHORITY.to_owned());
        let settings = Entra { identity, scope, authority };
        let egress = Egress::new(&EgressSettings::default()).expect("settings that can be used");
        let error = open(settings, egress, Clock::system()).err().expect("refused").to_string();
        assert!(error.contains("Entra ID") && !error.contains("sesame"), "{error}");
    }

    #[tokio::test]
    async fn the_librarys_requests_go_through_our_door_as_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let settings = EgressSettings { allowed: vec![address.clone()], ..EgressSettings::default() };
        let door = Door(Egress::new(&settings).expect("settings that can be used"));
        let request = |address: &str| {
            let mut asked = Asked::new(format!("{address}/token?a=b").parse().expect("an address"), Verb::Post);
            asked.insert_header("content-type", "application/x-www-form-urlencoded");
            asked.set_body("client_secret=sesame");
            asked
        };
        let serving = async {
            let (mut socket, _) = listener.accept().await.expect("somebody asks");
            let mut heard = Vec::new();
            while !heard.ends_with(b"client_secret=sesame") {
                heard.push(socket.read_u8().await.expect("a request"));
            }
            let answer = "HTTP/1.1 401 No\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}";
            socket.write_all(answer.as_bytes()).await.expect("somebody listens");
            String::from_utf8(heard).expect("text").to_lowercase()
        };
        let asked = request(&address);
        let (heard, answered) = tokio::join!(serving, door.execute_request(&asked));
        assert!(heard.starts_with("post /token?a=b http/1.1\r\n"), "{heard}");
        let kinds: Vec<_> = heard.lines().filter(|line| line.starts_with("content-type:")).collect();
        assert_eq!(kinds, ["content-type: application/x-www-form-urlencoded"]);
        let (status, headers, body) = answered.expect("an answer").deconstruct();
        assert_eq!(u16::from(status), 401);
        assert_eq!(headers.get_optional_str(&"retry-after".into()), Some("7"));
        assert_eq!(body.collect().await.expect("a body"), "{}".as_bytes());
        // What the configuration does not name is not called, whatever the library wants.
        let error = door.execute_request(&request("http://127.0.0.2:9")).await.expect_err("refused");
        assert!(matches!(error.kind(), ErrorKind::Io), "{error}");
    }
}
