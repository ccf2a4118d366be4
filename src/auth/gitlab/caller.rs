//! Who called, as far as a verified token says.

use super::access::Scopes;
use super::claims::{Claims, PassedOn};
use crate::auth::Principal;
use crate::domain::CacheSalt;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;

/// A caller that was let in.
#[derive(Clone)]
pub struct Caller {
    /// The name tells users apart and not who they are; the cache salt is one for each GitLab instance, so that
    /// colleagues share what their prompts have in common.
    pub principal: Principal,
    pub kind: CallerKind,
    pub scopes: Scopes,
    /// Who signed the token, as it says itself; empty for a caller without one.
    pub issuer: Arc<str>,
    /// `self-managed`, `saas`, or empty.
    pub realm: Arc<str>,
    /// The way around the checks, if one was taken. Whoever sees it logs it.
    pub bypass: Option<Bypass>,
    pub(super) passed_on: PassedOn,
}

/// Enough for a log line.
impl fmt::Debug for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Caller({:?}, {})", self.kind, self.principal.name)
    }
}

/// Whose token it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// GitLab's, or the portal's.
    Gitlab,
    /// The gateway's own: an IDE that calls directly.
    Own,
    /// None was asked for.
    Bypass,
}

/// Authentication, or a part of it, is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    External,
    Header,
    Signature,
}

impl Bypass {
    /// The setting that opens this way.
    pub fn setting(self) -> &'static str {
        match self {
            Self::External => "gitlab.bypass_external (AIGW_AUTH__BYPASS_EXTERNAL)",
            Self::Header => "gitlab.bypass_external_with_header (AIGW_AUTH__BYPASS_EXTERNAL_WITH_HEADER)",
            Self::Signature => "gitlab.bypass_jwt_signature (AIGW_AUTH__BYPASS_JWT_SIGNATURE)",
        }
    }
}

/// The realm of an instance that its owner runs.
pub(super) const SELF_MANAGED: &str = "self-managed";

impl Caller {
    /// The caller of a request that was not asked for a token.
    pub(super) fn debug(bypass: Bypass) -> Self {
        Self {
            principal: Principal { name: Arc::from("debug"), cache_salt: salt("bypass", "") },
            kind: CallerKind::Bypass,
            scopes: Scopes::all(),
            issuer: Arc::from(""),
            realm: Arc::from(""),
            bypass: Some(bypass),
            passed_on: PassedOn::default(),
        }
    }

    /// `user` is the value of `X-Gitlab-Global-User-Id`.
    pub(super) fn of_token(claims: &Claims, kind: CallerKind, user: Option<&str>, scopes: Scopes) -> Self {
        let (tenant_kind, tenant) = tenant(claims, kind);
        let name = format!("gitlab-{}", short_hash(tenant_kind, tenant, user.unwrap_or_default()));
        Self {
            principal: Principal { name: Arc::from(name), cache_salt: salt(tenant_kind, tenant) },
            kind,
            scopes,
            issuer: Arc::clone(&claims.issuer),
            realm: Arc::clone(&claims.realm),
            bypass: None,
            passed_on: claims.passed_on.clone(),
        }
    }

    pub fn is_self_managed(&self) -> bool {
        &*self.realm == SELF_MANAGED
    }
}

/// The instance a token speaks for. Taken from the token alone: headers are whatever a caller writes.
fn tenant(claims: &Claims, kind: CallerKind) -> (&'static str, &str) {
    let instance = match kind {
        CallerKind::Own => &claims.instance_id,
        CallerKind::Gitlab | CallerKind::Bypass => &claims.subject,
    };
    if instance.is_empty() { ("issuer", &claims.issuer) } else { ("instance", instance) }
}

fn salt(tenant_kind: &str, tenant: &str) -> CacheSalt {
    let hash = hash(&["sconce prefix cache of GitLab", tenant_kind, tenant]);
    let salt = hash[..8].iter().fold(0_u64, |salt, byte| salt << 8 | u64::from(*byte));
    CacheSalt(salt.max(2))
}

fn short_hash(tenant_kind: &str, tenant: &str, user: &str) -> String {
    let hash = hash(&["sconce principal of GitLab", tenant_kind, tenant, user]);
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lengths go in too: no two lists of texts are one text.
fn hash(texts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}
