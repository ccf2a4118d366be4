//! Entra ID (learn.microsoft.com/entra/identity-platform), through Azure's library with the feature `azure`.

use super::bearer::Clock;
use super::error::CredentialError;
use crate::provider::answer::Sign;
use crate::provider::endpoint::Key;
use std::path::PathBuf;
use std::sync::Arc;

/// Who asks, whom and for what. Every part is said: the library reads none of it from the environment.
#[derive(Clone, Debug)]
pub struct Entra {
    pub identity: EntraIdentity,
    /// [`Entra::SCOPE`], or that of another cloud (`https://cognitiveservices.azure.us/.default`), or
    /// `https://ai.azure.com/.default`.
    pub scope: String,
    /// [`Entra::AUTHORITY`], or that of another cloud.
    pub authority: String,
}

#[derive(Clone, Debug)]
pub enum EntraIdentity {
    /// An application and its secret.
    ClientSecret { tenant: String, client: String, secret: Key },
    /// A pod's own token, which Kubernetes keeps renewing in a file.
    WorkloadIdentity { tenant: String, client: String, token_file: PathBuf },
    /// The machine's own, or that of its identities which the client id names.
    Managed { client: Option<String> },
}

impl Entra {
    pub const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
    pub const AUTHORITY: &str = "https://login.microsoftonline.com";
}

const WHAT: &str = "Entra ID";

/// Opens Azure by tokens of Entra ID, fetched through Azure's library, which connects past our own door: never to be
/// called in air-gap mode.
#[cfg(feature = "azure")]
pub fn entra(settings: Entra, clock: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    library::open(settings, clock, None)
}

#[cfg(not(feature = "azure"))]
pub fn entra(_: Entra, _: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    let instead = "a key of the resource, or a token";
    Err(CredentialError::NotBuilt { what: WHAT, feature: "azure", instead })
}

#[cfg(feature = "azure")]
mod library {
    use super::{Arc, Clock, CredentialError, Entra, EntraIdentity, Sign, WHAT};
    use crate::provider::credentials::bearer::{Bearer, FetchToken, Token};
    use crate::provider::credentials::error::{failed, setup};
    use crate::provider::endpoint::Key;
    use crate::provider::failure::Verdict;
    use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
    use azure_core::credentials::{Secret, TokenCredential};
    use azure_core::http::{ClientOptions, Transport};
    use azure_identity::{
        ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
        ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
        WorkloadIdentityCredentialOptions,
    };
    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    /// Tests hand in what stands for the network.
    pub fn open(settings: Entra, clock: Clock, transport: Option<Transport>) -> Result<Arc<dyn Sign>, CredentialError> {
        let Entra { identity, scope, authority } = settings;
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = authority;
        let cloud = Some(Arc::new(CloudConfiguration::Custom(cloud)));
        let client_options = ClientOptions { cloud, transport, ..ClientOptions::default() };
        let hint = match &identity {
            EntraIdentity::ClientSecret { .. } => "look at the ids of tenant and client and at the secret",
            EntraIdentity::WorkloadIdentity { .. } => {
                "look at the ids of tenant and client, and that the file is there"
            }
            EntraIdentity::Managed { .. } => "look at the id of the client",
        };
        let credential =
            credential(identity, client_options).map_err(|_| CredentialError::Settings { what: WHAT, hint })?;
        Ok(Arc::new(Bearer::new(Arc::new(Fetching { credential, scope }), clock)))
    }

    fn credential(
        identity: EntraIdentity,
        client_options: ClientOptions,
    ) -> azure_core::Result<Arc<dyn TokenCredential>> {
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
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id,
                    client_options,
                }))?
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

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::domain::UpstreamClass::{Failed, Setup};
        use crate::provider::answer::Request;
        use azure_core::http::headers::Headers;
        use azure_core::http::{AsyncRawResponse, HttpClient, Request as Asked, StatusCode};
        use std::sync::Mutex;
        use std::time::{Duration, SystemTime};

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
            let sign = open(settings, clock, Some(Transport::new(fake.clone()))).expect("settings that can be used");
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
            let error = open(settings, Clock::system(), None).err().expect("refused").to_string();
            assert!(error.contains("Entra ID") && !error.contains("sesame"), "{error}");
        }
    }
}

#[cfg(all(test, not(feature = "azure")))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_names_what_builds_it() {
        let identity = EntraIdentity::Managed { client: None };
        let (scope, authority) = (Entra::SCOPE.to_owned(), Entra::AUTHORITY.to_owned());
        let error = entra(Entra { identity, scope, authority }, Clock::system()).err().expect("not built").to_string();
        assert!(error.contains("--features azure"), "{error}");
    }
}
