//! Settings of clouds: where a provider is, and what opens it.

use super::Secret;
use std::path::PathBuf;

/// What a provider's kind needs to know besides its address.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Anywhere,
    Bedrock {
        region: String,
    },
    Vertex {
        /// `None` takes the one that the service account belongs to.
        project: Option<String>,
        location: String,
    },
    Gitlab(GitlabInstance),
}

/// The instance of GitLab that a token for another gateway was issued to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitlabInstance {
    pub realm: String,
    pub id: String,
    pub host: String,
    pub version: String,
    pub global_user_id: String,
    /// As the other gateway calls who serves the model.
    pub model_provider: Option<String>,
}

/// What opens a provider.
#[derive(Clone, Debug, PartialEq)]
pub enum Credentials {
    /// `api_key`, or nothing.
    Key,
    /// A token that somebody else renews in a file.
    TokenFile(PathBuf),
    /// The key file of a service account of Google's: its text.
    GoogleServiceAccount(Secret),
    /// The identity of the machine, by Google's metadata server.
    GoogleMachine,
    /// Wherever Google's own tools look.
    GoogleDefault,
    AwsKeys {
        access_key_id: String,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
    /// Wherever AWS's own tools look.
    AwsChain {
        profile: Option<String>,
    },
    Entra(Entra),
}

/// Entra ID: who asks, and for what.
#[derive(Clone, Debug, PartialEq)]
pub struct Entra {
    pub identity: EntraIdentity,
    pub scope: String,
    pub authority: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EntraIdentity {
    Secret { tenant: String, client: String, secret: Secret },
    Workload { tenant: String, client: String, token_file: PathBuf },
    Machine { client: Option<String> },
}
