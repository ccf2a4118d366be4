//! Why a caller was turned away: the exact words that GitLab's side knows, and the finer cause for our log.

use super::claims::{ClaimProblem, quoted};
use super::token::TokenProblem;
use crate::domain::ErrorKind;

/// The text of the 401 (`Display`), and behind it what the log says ([`GitlabAuthError::reason`]).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitlabAuthError {
    #[error("No authorization header presented")]
    Missing,
    #[error("Invalid authorization header")]
    Scheme,
    #[error("Invalid authentication token type - only OIDC is supported")]
    AuthenticationType,
    #[error("Forbidden by auth provider")]
    Forbidden(Box<Reason>),
    #[error("Header mismatch '{}'", .0.header)]
    Mismatch(Box<Mismatch>),
    #[error("Header is missing: '{header}'")]
    HeaderMissing { header: &'static str },
}

/// A claim and the header that has to repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub header: &'static str,
    pub claim: &'static str,
    /// Quoted for the log; absent where it tells who a person is.
    values: Option<(String, String)>,
}

impl Mismatch {
    pub(super) fn new(header: &'static str, claim: &'static str, claimed: &str, sent: Option<&str>) -> Self {
        let sent = sent.map_or("nothing".to_owned(), quoted);
        Self { header, claim, values: Some((quoted(claimed), sent)) }
    }

    pub(super) fn of_person(header: &'static str, claim: &'static str) -> Self {
        Self { header, claim, values: None }
    }
}

impl GitlabAuthError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing
            | Self::Scheme
            | Self::AuthenticationType
            | Self::Forbidden(_)
            | Self::Mismatch(_)
            | Self::HeaderMissing { .. } => ErrorKind::Unauthenticated,
        }
    }

    /// Stable, for logs and counters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "no_authorization",
            Self::Scheme => "not_bearer",
            Self::AuthenticationType => "not_oidc",
            Self::Forbidden(reason) => reason.code(),
            Self::Mismatch(mismatch) => match mismatch.claim {
                "gitlab_realm" => "realm_mismatch",
                "duo_seat_count" => "seat_count_mismatch",
                _ if mismatch.values.is_none() => "user_mismatch",
                _ => "instance_mismatch",
            },
            Self::HeaderMissing { .. } => "header_missing",
        }
    }

    /// What the log says: never a token or a part of one.
    pub fn reason(&self) -> String {
        match self {
            Self::Missing | Self::Scheme | Self::HeaderMissing { .. } => self.to_string(),
            Self::AuthenticationType => "the header X-Gitlab-Authentication-Type is not `oidc`".to_owned(),
            Self::Forbidden(reason) => reason.to_string(),
            Self::Mismatch(mismatch) => match &mismatch.values {
                Some((claimed, sent)) => {
                    format!("the token says {} {claimed}, the header {} {sent}", mismatch.claim, mismatch.header)
                }
                None => format!("the header {} is not the {} of the token", mismatch.header, mismatch.claim),
            },
        }
    }
}

/// The many things that `Forbidden by auth provider` stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error(transparent)]
    Token(#[from] TokenProblem),
    #[error("the token is signed with {algorithm}, only RS256 is accepted")]
    Algorithm { algorithm: String },
    #[error("no key named {key_id} is known; there are: {known}{}", .failure.as_ref().map(|failure| format!(". The keys could not be refreshed: {failure}")).unwrap_or_default())]
    UnknownKey { key_id: String, known: String, failure: Option<String> },
    #[error("no key of GitLab is known: {why}")]
    NoKeys { why: String },
    #[error("the signature of the token is not by {key}")]
    Signature { key: String },
    #[error("the token was over {ago_s} s ago, whatever the clock says since")]
    Over { ago_s: u64 },
}

impl Reason {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(TokenProblem::Empty) => "empty_token",
            Self::Token(TokenProblem::Claim(problem)) => problem.code(),
            Self::Token(_) => "malformed_token",
            Self::Algorithm { .. } => "algorithm",
            Self::UnknownKey { .. } => "unknown_key",
            Self::NoKeys { .. } => "no_keys",
            Self::Signature { .. } => "bad_signature",
            Self::Over { .. } => "expired",
        }
    }
}

impl ClaimProblem {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Type { .. } => "claim_type",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Audience { .. } => "audience",
        }
    }
}

impl From<Mismatch> for GitlabAuthError {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(Box::new(mismatch))
    }
}

impl From<Reason> for GitlabAuthError {
    fn from(reason: Reason) -> Self {
        Self::Forbidden(Box::new(reason))
    }
}

impl From<ClaimProblem> for Reason {
    fn from(problem: ClaimProblem) -> Self {
        Self::Token(TokenProblem::Claim(problem))
    }
}
