//! GitLab's callers: signed tokens (RS256) of GitLab, of its Customers Portal and of the gateway itself, the headers that
//! have to agree with them, and what each caller may do.
//!
//! Knows no HTTP: it is handed header values and fetches keys through [`FetchKeys`]. Nothing but a token that verifies is
//! believed, and of a token's own header nothing but the name of a key.

mod access;
mod cache;
mod caller;
mod claims;
mod clock;
mod credentials;
mod error;
mod fetch;
mod files;
mod inspect;
mod issuer;
mod keeper;
mod key;
mod last_good;
mod mint;
mod own_keys;
mod pem;
mod ring;
#[cfg(test)]
mod tests;
mod token;

pub use access::{Endpoint, Enforcement, Forbidden, Scopes};
pub use caller::{Bypass, Caller, CallerKind};
pub use claims::ClaimProblem;
pub use clock::WallClock;
pub use credentials::Credentials;
pub use error::{GitlabAuthError, Mismatch, Reason};
pub use fetch::{FetchError, FetchErrorKind, FetchKeys};
pub use inspect::{Check, Contents, Report, Verdict};
pub use issuer::{IssuerName, KeyFetchAttempt, KeyFetchFailure, KeyFetchProblem, UrlProblem};
pub use keeper::IssuerStatus;
pub use key::{KeyProblem, KeySetProblem};
pub use mint::{MintError, MintHeaders, Minted, USER_TOKEN_S};
pub use own_keys::{OwnKeyError, OwnKeySettings, OwnKeys};
pub use pem::PemProblem;
pub use token::TokenProblem;

use cache::{Found, TokenCache, TokenDigest};
use claims::Claims;
use issuer::IssuerUrl;
use keeper::KeyKeeper;
use key::VerifyingKey;
use ring::KeyRing;
use std::path::PathBuf;
use std::sync::Arc;
use token::{ALGORITHM, Token};

/// What is trusted, and what is switched off.
#[derive(Clone, Debug)]
pub struct GitlabAuthSettings {
    /// GitLab's base URL; empty for none.
    pub gitlab_url: String,
    /// The Customers Portal's; empty for none.
    pub portal_url: String,
    /// The service's name: what tokens have to be for.
    pub service: String,
    /// Where the last good key sets are kept.
    pub state_folder: Option<PathBuf>,
    pub enforcement: Enforcement,
    pub bypass: BypassSettings,
}

/// The switches that turn authentication off, all off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BypassSettings {
    pub external: bool,
    pub external_with_header: bool,
    pub signature: bool,
}

impl BypassSettings {
    /// The ways around the checks that are open.
    pub fn open(self) -> Vec<Bypass> {
        let switches = [
            (self.external, Bypass::External),
            (self.external_with_header, Bypass::Header),
            (self.signature, Bypass::Signature),
        ];
        switches.into_iter().filter(|(is_open, _)| *is_open).map(|(_, bypass)| bypass).collect()
    }
}

/// Why there is no authentication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitlabAuthSetupError {
    #[error("{setting} cannot be used: {problem}")]
    Url { setting: &'static str, problem: UrlProblem },
}

impl GitlabAuthSettings {
    /// The issuers that are configured.
    fn urls(&self) -> Result<Vec<(IssuerName, IssuerUrl)>, GitlabAuthSetupError> {
        let urls = [(IssuerName::Gitlab, &self.gitlab_url), (IssuerName::Portal, &self.portal_url)];
        let parsed = urls.into_iter().filter_map(|(name, url)| {
            let setting = name.setting();
            let url = IssuerUrl::parse(url).map_err(|problem| GitlabAuthSetupError::Url { setting, problem });
            url.map(|url| url.map(|url| (name, url))).transpose()
        });
        parsed.collect()
    }
}

/// Identifies GitLab's callers.
pub struct GitlabAuth {
    keeper: Arc<KeyKeeper>,
    cache: TokenCache,
    clock: WallClock,
    service: Arc<str>,
    enforcement: Enforcement,
    bypass: BypassSettings,
}

impl GitlabAuth {
    /// Starts with the keys that are on disk. Errors if a URL is none.
    pub fn new(
        settings: GitlabAuthSettings,
        own: OwnKeys,
        fetch: Arc<dyn FetchKeys>,
        clock: WallClock,
    ) -> Result<Self, GitlabAuthSetupError> {
        let urls = settings.urls()?;
        for name in [IssuerName::Gitlab, IssuerName::Portal] {
            if !urls.iter().any(|(known, _)| *known == name) {
                tracing::info!("{} is not set: tokens signed by the {name} are refused", name.setting());
            }
        }
        Ok(Self {
            keeper: Arc::new(KeyKeeper::new(urls, own, fetch, settings.state_folder, clock.clone())),
            cache: TokenCache::default(),
            clock,
            service: Arc::from(settings.service),
            enforcement: settings.enforcement,
            bypass: settings.bypass,
        })
    }

    /// Keeps the keys fresh. Never ends; to be run beside the server.
    pub async fn keep_fresh(self: Arc<Self>) {
        Arc::clone(&self.keeper).keep_fresh().await;
    }

    /// How the keys of each issuer that is configured stand.
    pub fn status(&self) -> Vec<IssuerStatus> {
        self.keeper.status()
    }

    /// Does no I/O for a key that is known. An unknown one waits at most two seconds for a refresh that all share.
    pub async fn identify(&self, credentials: Credentials<'_>) -> Result<Caller, GitlabAuthError> {
        if self.bypass.external {
            return Ok(Caller::debug(Bypass::External));
        }
        if self.bypass.external_with_header && credentials.bypass_auth == Some("true") {
            return Ok(Caller::debug(Bypass::Header));
        }
        let text = credentials.bearer_token()?;
        let (claims, bypass) = match self.bypass.signature {
            true => (self.unverified(text)?, Some(Bypass::Signature)),
            false => (self.verified(text).await?, None),
        };
        let kind = if *claims.issuer == *self.service { CallerKind::Own } else { CallerKind::Gitlab };
        credentials.agree_with(&claims, kind)?;
        let scopes = Scopes::of(&claims.scopes, self.enforcement);
        let caller = Caller::of_token(&claims, kind, credentials.global_user_id, scopes);
        Ok(Caller { bypass, ..caller })
    }

    /// Makes a user access token for `caller`.
    pub fn mint(&self, caller: &Caller, headers: MintHeaders<'_>) -> Result<Minted, MintError> {
        mint::mint(self.keeper.own(), &self.service, caller, headers, self.clock.unix_s())
    }

    /// Says of a token what each check makes of it. To be shown only to whoever holds the token already.
    pub fn inspect(&self, token: &str) -> Report {
        inspect::inspect(token, &self.keeper.ring(), &self.service, self.clock.unix_s())
    }

    fn unverified(&self, text: &str) -> Result<Arc<Claims>, Reason> {
        let token = Token::parse(text)?;
        self.check_claims(&token.claims)?;
        Ok(Arc::new(token.claims))
    }

    async fn verified(&self, text: &str) -> Result<Arc<Claims>, Reason> {
        let digest = TokenDigest::of(text);
        match self.cache.find(&digest) {
            Found::Over { since } => return Err(Reason::Over { ago_s: since.as_secs() }),
            Found::Verified { claims, signed_by } if self.keeper.ring().holds(signed_by) => {
                claims.check_times(self.clock.unix_s())?;
                return Ok(claims);
            }
            Found::Verified { .. } | Found::Unknown => {}
        }
        let token = Token::parse(text)?;
        if token.algorithm != ALGORITHM {
            return Err(Reason::Algorithm { algorithm: claims::quoted(&token.algorithm) });
        }
        let key = self.signer(&token).await?;
        self.check_claims(&token.claims)?;
        let claims = Arc::new(token.claims);
        self.cache.keep(digest, Arc::clone(&claims), key.fingerprint, self.clock.unix_s());
        Ok(claims)
    }

    fn check_claims(&self, claims: &Claims) -> Result<(), ClaimProblem> {
        claims.check_audience(&self.service)?;
        claims.check_times(self.clock.unix_s())
    }

    /// The key that signed the token.
    async fn signer(&self, token: &Token<'_>) -> Result<Arc<VerifyingKey>, Reason> {
        let mut ring = self.keeper.ring();
        let key_id = token.key_id.as_deref();
        if let Some(id) = key_id
            && ring.candidates(key_id).is_empty()
        {
            // A token that would be refused in any case is not worth a wait.
            self.check_claims(&token.claims)?;
            ring = self.keeper.ring_with(id).await;
        }
        if let Some(key) = ring.signer_of(token) {
            return Ok(key);
        }
        let is_own = key_id.is_some_and(|id| self.keeper.own().key_ids().iter().any(|own| own == id));
        if is_own && self.keeper.reread_own_keys().await {
            // Another replica signs with a newer key already.
            ring = self.keeper.ring();
            if let Some(key) = ring.signer_of(token) {
                return Ok(key);
            }
        }
        Err(self.unsigned(&ring, key_id))
    }

    /// Why no key fits.
    fn unsigned(&self, ring: &KeyRing, key_id: Option<&str>) -> Reason {
        let status = self.keeper.status();
        let failures = status.iter().filter_map(|status| status.failure.as_ref());
        let failure = failures.map(ToString::to_string).reduce(|all, one| format!("{all}; {one}"));
        let is_known = !ring.candidates(key_id).is_empty();
        match key_id {
            Some(id) if is_known => Reason::Signature { key: claims::quoted(id) },
            _ if !ring.has_issuer_keys() => {
                let is_off = || format!("{} is not set", IssuerName::Gitlab.setting());
                let not_yet = || "they have not been fetched yet".to_owned();
                Reason::NoKeys { why: if status.is_empty() { is_off() } else { failure.unwrap_or_else(not_yet) } }
            }
            None => Reason::Signature { key: "any key that is known".to_owned() },
            Some(id) => {
                let known: Vec<String> = status.into_iter().flat_map(|status| status.key_ids).collect();
                Reason::UnknownKey { key_id: claims::quoted(id), known: known.join(", "), failure }
            }
        }
    }
}
