//! The header values a caller shows, and whether they agree with what its token says. Looked at on every request: a token
//! may be remembered, headers are not.

use super::caller::CallerKind;
use super::claims::Claims;
use super::error::{GitlabAuthError, Mismatch};
use std::fmt;

/// The values of the headers that say who calls.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// `Authorization`
    pub authorization: Option<&'a str>,
    /// `X-Gitlab-Authentication-Type`
    pub authentication_type: Option<&'a str>,
    /// `X-Gitlab-Realm`
    pub realm: Option<&'a str>,
    /// `X-Gitlab-Instance-Id`
    pub instance_id: Option<&'a str>,
    /// `X-Gitlab-Global-User-Id`
    pub global_user_id: Option<&'a str>,
    /// `X-Gitlab-Duo-Seat-Count`
    pub seat_count: Option<&'a str>,
    /// `X-Gitlab-Version`
    pub gitlab_version: Option<&'a str>,
    /// `Bypass-Auth`
    pub bypass_auth: Option<&'a str>,
}

/// Holds a token and a person's id.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(..)")
    }
}

impl<'a> Credentials<'a> {
    /// The first three checks, in the contract's order.
    pub(super) fn bearer_token(&self) -> Result<&'a str, GitlabAuthError> {
        let authorization = self.authorization.ok_or(GitlabAuthError::Missing)?;
        // Servers strip the space after `Bearer` when nothing follows it.
        let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(GitlabAuthError::Scheme);
        }
        if self.authentication_type != Some("oidc") {
            return Err(GitlabAuthError::AuthenticationType);
        }
        Ok(token.trim())
    }

    /// Claims that a header has to repeat. An empty claim asks for nothing.
    pub(super) fn agree_with(&self, claims: &Claims, kind: CallerKind) -> Result<(), GitlabAuthError> {
        if !claims.realm.is_empty() && self.realm != Some(&*claims.realm) {
            return Err(Mismatch::new("X-Gitlab-Realm", "gitlab_realm", &claims.realm, self.realm).into());
        }
        let subject = claims.subject.as_str();
        if !subject.is_empty() && kind == CallerKind::Own && self.global_user_id != Some(subject) {
            return Err(Mismatch::of_person("X-Gitlab-Global-User-Id", "sub").into());
        }
        if !subject.is_empty() && kind != CallerKind::Own && self.instance_id != Some(subject) {
            return Err(Mismatch::new("X-Gitlab-Instance-Id", "sub", subject, self.instance_id).into());
        }
        self.agrees_with_seats(&claims.duo_seat_count)
    }

    /// Only GitLab 17 sends the header; later ones may still have the claim.
    fn agrees_with_seats(&self, claimed: &str) -> Result<(), GitlabAuthError> {
        const HEADER: &str = "X-Gitlab-Duo-Seat-Count";
        let is_17 = self.gitlab_version.is_some_and(|version| version.starts_with("17."));
        match self.seat_count {
            _ if claimed.is_empty() => Ok(()),
            Some(sent) if sent == claimed => Ok(()),
            Some(sent) => Err(Mismatch::new(HEADER, "duo_seat_count", claimed, Some(sent)).into()),
            None if is_17 => Err(GitlabAuthError::HeaderMissing { header: HEADER }),
            None => Ok(()),
        }
    }
}
