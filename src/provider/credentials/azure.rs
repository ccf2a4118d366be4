//! Entra ID (learn.microsoft.com/entra/identity-platform), through Azure's library with the feature `azure`.

#[cfg(feature = "azure")]
mod library;

use super::bearer::Clock;
use super::error::CredentialError;
use crate::egress::Egress;
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

    /// What is called for tokens, and the door therefore has to be open for. App Service gives a machine of its own
    /// another address (`IDENTITY_ENDPOINT`).
    pub fn addresses(&self) -> Vec<String> {
        match self.identity {
            EntraIdentity::ClientSecret { .. } | EntraIdentity::WorkloadIdentity { .. } => vec![self.authority.clone()],
            EntraIdentity::Managed { .. } => vec!["http://169.254.169.254".to_owned()],
        }
    }
}

const WHAT: &str = "Entra ID";

/// Opens Azure by tokens of Entra ID, fetched through Azure's library. What it calls, it calls through `egress`, which has
/// to be open for [`Entra::addresses`].
#[cfg(feature = "azure")]
pub fn entra(settings: Entra, egress: Egress, clock: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    library::open(settings, egress, clock)
}

#[cfg(not(feature = "azure"))]
pub fn entra(_: Entra, _: Egress, _: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    let instead = "a key of the resource, or a token";
    Err(CredentialError::NotBuilt { what: WHAT, feature: "azure", instead })
}

#[cfg(all(test, not(feature = "azure")))]
mod tests {
    use super::*;
    use crate::egress::EgressSettings;

    #[test]
    fn what_is_not_built_names_what_builds_it() {
        let identity = EntraIdentity::Managed { client: None };
        let (scope, authority) = (Entra::SCOPE.to_owned(), Entra::AUTHORITY.to_owned());
        let settings = Entra { identity, scope, authority };
        assert_eq!(settings.addresses(), ["http://169.254.169.254"]);
        let egress = Egress::new(&EgressSettings::default()).expect("settings that can be used");
        let error = entra(settings, egress, Clock::system()).err().expect("not built").to_string();
        assert!(error.contains("--features azure"), "{error}");
    }
}
