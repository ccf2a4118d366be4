//! What opens the clouds: tokens that end, made here or fetched by the cloud's own library. Those libraries connect past
//! our own door, so they come only with a feature each and are never constructed in air-gap mode; whoever constructs them
//! sees to that. Nothing of a credential is in any `Debug` output, log line or error.

mod aws;
mod azure;
mod bearer;
mod error;
mod file;
mod google;
mod google_machine;

pub use aws::{AwsKeys, AwsSignature, FindAwsKeys};
pub use azure::{Entra, EntraIdentity, entra};
pub use bearer::{Bearer, Clock, FixedToken};
pub use error::CredentialError;
pub use file::token_file;
pub use google::{ServiceAccountKey, application_default, service_account};
pub use google_machine::{GOOGLE_METADATA, google_machine};
