//! Google Cloud: tokens that a service account signs for itself (google.aip.dev/auth/4111), in every build; application
//! default credentials through Google's library, with the feature `google`.

use super::bearer::{Bearer, Clock, FetchToken, Token};
use super::error::{CredentialError, setup};
use crate::provider::answer::Sign;
use crate::provider::endpoint::Key;
use crate::provider::failure::Verdict;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a token may be used for; the roles of the account say how much of it.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The longest that Google takes.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Tokens from the future are refused, and clocks differ.
const SKEW: Duration = Duration::from_secs(10);

/// The key file of a service account, as the console hands it out. Not shown.
pub struct ServiceAccountKey {
    email: String,
    id: String,
    project: Option<String>,
    signing: EncodingKey,
}

impl ServiceAccountKey {
    pub fn read(path: &Path) -> Result<Self, CredentialError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| CredentialError::Unreadable { path: path.to_owned(), kind: error.kind() })?;
        Self::parse(&text)
    }

    /// From the text of the file. Signs once, so that a key which cannot is found now.
    pub fn parse(json: &str) -> Result<Self, CredentialError> {
        let fields: Map<String, Value> = serde_json::from_str(json).map_err(|_| CredentialError::NotJson)?;
        let text = |field: &'static str| {
            let text = fields.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            text.ok_or(CredentialError::Missing { field })
        };
        if fields.get("type").and_then(Value::as_str) != Some("service_account") {
            return Err(CredentialError::NotServiceAccount);
        }
        let signing =
            EncodingKey::from_rsa_pem(text("private_key")?.as_bytes()).map_err(|_| CredentialError::PrivateKey)?;
        let key = Self {
            email: text("client_email")?.to_owned(),
            id: text("private_key_id")?.to_owned(),
            project: text("project_id").ok().map(str::to_owned),
            signing,
        };
        key.signed(UNIX_EPOCH).ok_or(CredentialError::PrivateKey)?;
        Ok(key)
    }

    /// The project that the account belongs to: a good default for the one that is billed.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    fn signed(&self, now: SystemTime) -> Option<Token> {
        let issued_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SKEW).as_secs();
        let ends_s = issued_s + LIFE.as_secs();
        let claims = json!({ "iss": self.email, "sub": self.email, "scope": SCOPE, "iat": issued_s, "exp": ends_s });
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::RS256) };
        let value = Key::new(encode(&header, &claims, &self.signing).ok()?);
        Some(Token { value, ends_at: UNIX_EPOCH + Duration::from_secs(ends_s) })
    }
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServiceAccountKey(..)")
    }
}

struct SelfSigned {
    key: ServiceAccountKey,
    clock: Clock,
}

impl FetchToken for SelfSigned {
    fn fetch(&self) -> BoxFuture<'static, Result<Token, Verdict>> {
        let unsigned = setup("cannot be asked: the key of its service account does not sign");
        std::future::ready(self.key.signed(self.clock.now()).ok_or(unsigned)).boxed()
    }
}

/// Opens Google's APIs by tokens that the account signs for itself: nothing is asked for them.
pub fn service_account(key: ServiceAccountKey, clock: Clock) -> Arc<Bearer> {
    Arc::new(Bearer::new(Arc::new(SelfSigned { key, clock: clock.clone() }), clock))
}

/// Application default credentials: what `GOOGLE_APPLICATION_CREDENTIALS` names (a key, workload identity federation,
/// impersonation), what `gcloud auth application-default login` left, or the metadata server of the machine.
///
/// Connects past our own door and reads the environment: never to be called in air-gap mode. Has to be called within the
/// runtime, which renews the tokens.
#[cfg(feature = "google")]
pub fn application_default() -> Result<Arc<dyn Sign>, CredentialError> {
    let built = google_cloud_auth::credentials::Builder::default().with_scopes([SCOPE]).build();
    let hint = "see that GOOGLE_APPLICATION_CREDENTIALS names a file that Google's tools made";
    let credentials = built.map_err(|_| CredentialError::Settings { what: ADC, hint })?;
    Ok(Arc::new(library::ApplicationDefault(credentials)))
}

#[cfg(not(feature = "google"))]
pub fn application_default() -> Result<Arc<dyn Sign>, CredentialError> {
    let instead = "the key of a service account, or a token";
    Err(CredentialError::NotBuilt { what: ADC, feature: "google", instead })
}

const ADC: &str = "Google's application default credentials";

#[cfg(feature = "google")]
mod library {
    use super::{BoxFuture, Sign, Verdict, setup};
    use crate::provider::answer::Request;
    use crate::provider::complaint::Complaint;
    use crate::provider::credentials::error::failed;
    use futures::FutureExt as _;
    use google_cloud_auth::credentials::{CacheableResource, Credentials};
    use google_cloud_auth::errors::CredentialsError;

    /// The library keeps the tokens, and renews them.
    pub struct ApplicationDefault(pub Credentials);

    impl Sign for ApplicationDefault {
        fn sign<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Verdict>> {
            async move {
                let headers = self.0.headers(Default::default()).await.map_err(|error| verdict(&error))?;
                let CacheableResource::New { data, .. } = headers else { return Err(NO_TOKEN) };
                // The second names the project that pays, where a person's own credentials are used.
                for name in ["authorization", "x-goog-user-project"] {
                    let value = data.get(name).and_then(|value| value.to_str().ok());
                    request.headers.extend(value.map(|value| (name, value.to_owned())));
                }
                Ok(())
            }
            .boxed()
        }
    }

    const NO_TOKEN: Verdict = setup("cannot be asked: Google's application default credentials give no token");

    fn verdict(error: &CredentialsError) -> Verdict {
        let said = Complaint { message: error.to_string(), ..Complaint::default() }.excerpt();
        tracing::warn!(said, "no token of Google's application default credentials");
        if error.is_transient() {
            failed("cannot be asked: Google's application default credentials cannot be reached")
        } else {
            NO_TOKEN
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::domain::UpstreamClass::{Failed, Setup};
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        use tokio::net::TcpListener;

        /// The metadata server of a machine, as the library asks it.
        #[tokio::test]
        async fn the_librarys_token_is_sent_and_fetched_once() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = format!("http://{}", listener.local_addr().expect("bound"));
            let serving = async {
                let (mut socket, _) = listener.accept().await.expect("somebody asks");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.expect("a request"));
                }
                let body = r#"{"access_token": "ya29", "expires_in": 3599, "token_type": "Bearer"}"#;
                let kind = "Content-Type: application/json";
                let answer = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await.expect("somebody listens");
                // A second request would find nobody.
                (head, socket)
            };
            let asking = async {
                let built =
                    google_cloud_auth::credentials::mds::Builder::default().with_endpoint(address.clone()).build();
                let sign = ApplicationDefault(built.expect("credentials"));
                for _ in 0..2 {
                    let mut request = Request { url: String::new(), headers: Vec::new(), body: String::new() };
                    assert_eq!(sign.sign(&mut request).await, Ok(()));
                    assert_eq!(request.headers, [("authorization", "Bearer ya29".to_owned())]);
                }
            };
            let ((head, _socket), ()) = tokio::join!(serving, asking);
            assert!(head.starts_with(b"GET /computeMetadata/v1/instance/service-accounts/default/token"));
        }

        #[test]
        fn what_may_pass_is_told_from_what_has_to_be_put_right() {
            for (is_transient, class) in [(true, Failed), (false, Setup)] {
                assert_eq!(verdict(&CredentialsError::from_msg(is_transient, "sesame")).class, class);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::answer::Request;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use std::sync::atomic::{AtomicU64, Ordering};

    const EMAIL: &str = "sconce@p.iam.gserviceaccount.com";

    /// A key that was made for this test, and the public half.
    fn made() -> (String, Vec<u8>) {
        let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
        (pair.serialize_pem(), pair.public_key_pem().into_bytes())
    }

    fn file(private_key: &str) -> Value {
        json!({
            "type": "service_account", "project_id": "p", "private_key_id": "key-1", "private_key": private_key,
            "client_email": EMAIL, "token_uri": "https://oauth2.googleapis.com/token",
        })
    }

    #[tokio::test]
    async fn tokens_are_signed_for_an_hour_and_signed_anew_before_it_ends() {
        let (private, public) = made();
        let key = ServiceAccountKey::parse(&file(&private).to_string()).expect("a key");
        assert_eq!(key.project(), Some("p"));
        let now_s = Arc::new(AtomicU64::new(1_700_000_000));
        let clock = {
            let now_s = now_s.clone();
            Clock::new(move || UNIX_EPOCH + Duration::from_secs(now_s.load(Ordering::SeqCst)))
        };
        let bearer = service_account(key, clock);
        let mut tokens = Vec::new();
        for after_s in [0, 3000, 3289, 3290] {
            now_s.store(1_700_000_000 + after_s, Ordering::SeqCst);
            let mut request = Request { url: String::new(), headers: Vec::new(), body: String::new() };
            bearer.sign(&mut request).await.expect("a token");
            let [(name, value)] = &request.headers[..] else { panic!("{:?}", request.headers.len()) };
            assert_eq!(*name, "authorization");
            tokens.push(value.strip_prefix("Bearer ").expect("a bearer").to_owned());
        }
        tokens.dedup();
        assert_eq!(tokens.len(), 2);
        let mut validation = Validation::new(Algorithm::RS256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        for (token, issued_s) in tokens.iter().zip([1_699_999_990_u64, 1_700_003_280]) {
            let header = decode_header(token).expect("a header");
            assert_eq!((header.alg, header.kid.as_deref()), (Algorithm::RS256, Some("key-1")));
            let decoding = DecodingKey::from_rsa_pem(&public).expect("a public key");
            let claims = decode::<Value>(token, &decoding, &validation).expect("signed by the key").claims;
            let expected = json!({
                "iss": EMAIL, "sub": EMAIL, "scope": SCOPE, "iat": issued_s, "exp": issued_s + 3600,
            });
            assert_eq!(claims, expected);
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_told_apart_without_their_secrets() {
        let (private, _) = made();
        let whole = file(&private);
        let changed = |field: &str, value: Value| {
            let mut file = whole.clone();
            file[field] = value;
            file.to_string()
        };
        for (text, expected) in [
            ("sesame".to_owned(), "is not JSON text"),
            ("[]".to_owned(), "is not JSON text"),
            (changed("type", json!("authorized_user")), "has to be `service_account`"),
            (changed("client_email", json!("")), "no `client_email`"),
            (changed("private_key_id", json!(7)), "no `private_key_id`"),
            (changed("private_key", json!(null)), "no `private_key`"),
            (changed("private_key", json!("sesame")), "no RSA key"),
            (
                changed("private_key", json!("-----BEGIN PRIVATE KEY-----\nc2VzYW1l\n-----END PRIVATE KEY-----")),
                "no RSA",
            ),
        ] {
            let error = ServiceAccountKey::parse(&text).expect_err("refused").to_string();
            assert!(error.contains(expected) && !error.contains("sesame"), "{error}");
        }
        let error = ServiceAccountKey::read(Path::new("/nowhere/key.json")).expect_err("not there").to_string();
        assert!(error.contains("/nowhere/key.json"), "{error}");
    }

    #[cfg(not(feature = "google"))]
    #[test]
    fn what_is_not_built_names_what_builds_it() {
        let error = application_default().err().expect("not built").to_string();
        assert!(error.contains("--features google"), "{error}");
    }
}
