//! Why credentials cannot be used, told when they are set up: an operator reads it, and it holds no secret. And what is
//! told of a provider when a token is missing.

use crate::domain::UpstreamClass;
use crate::provider::failure::Verdict;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The kind needs a library that this binary was built without.
    #[error("{what} is not built into this binary: build it with `--features {feature}`, or use {instead}")]
    NotBuilt { what: &'static str, feature: &'static str, instead: &'static str },
    #[error("the key file {} cannot be read: {kind}", .path.display())]
    Unreadable { path: PathBuf, kind: io::ErrorKind },
    #[error("the key of a service account is not JSON text")]
    NotJson,
    #[error("that is no key of a service account: its `type` has to be `service_account`")]
    NotServiceAccount,
    #[error("the key of a service account has no `{field}`")]
    Missing { field: &'static str },
    #[error("the `private_key` of a service account is no RSA key in PEM text")]
    PrivateKey,
    /// A library that was asked to take them said no; what it said may hold parts of them.
    #[error("{what} does not accept its settings: {hint}")]
    Settings { what: &'static str, hint: &'static str },
}

/// Somebody has to put it right.
pub const fn setup(cause: &'static str) -> Verdict {
    Verdict { class: UpstreamClass::Setup, cause }
}

/// It may pass.
#[cfg(any(feature = "azure", feature = "google"))]
pub const fn failed(cause: &'static str) -> Verdict {
    Verdict { class: UpstreamClass::Failed, cause }
}
