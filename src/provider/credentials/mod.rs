//! What opens the clouds: tokens that end, made here or fetched by the cloud's own library. Each of those comes with a
//! feature; all but Google's call through our own door, and that one is never constructed in air-gap mode, which whoever
//! constructs it sees to. Nothing of a credential is in any `Debug` output, log line or error.

mod aws;
mod azure;
mod bearer;
mod error;
mod file;
mod google;
mod google_machine;

pub use aws::{AwsChain, AwsKeys, AwsSignature, FindAwsKeys, aws_chain, aws_domain};
pub use azure::{Entra, EntraIdentity, entra};
pub use bearer::{Bearer, Clock, FixedToken};
pub use error::CredentialError;
pub use file::token_file;
pub use google::{ServiceAccountKey, application_default, service_account};
pub use google_machine::{GOOGLE_METADATA, google_machine};
