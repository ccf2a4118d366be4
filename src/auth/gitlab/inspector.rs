//! A look at tokens and issuers from outside of a running gateway: fetches every key set once, makes and writes nothing.

use super::clock::WallClock;
use super::fetch::FetchKeys;
use super::inspect::{Report, inspect};
use super::issuer::{IssuerName, KeyFetchAttempt, KeyFetchFailure, fetch_key_set};
use super::key::KeySet;
use super::own_keys::{self, OwnKeySettings};
use super::ring::KeyRing;
use super::{GitlabAuthSettings, GitlabAuthSetupError};
use std::fmt;

/// Explains tokens by the keys it found.
pub struct Inspector {
    ring: KeyRing,
    service: String,
    clock: WallClock,
    issuers: Vec<FetchedIssuer>,
    own_keys_problem: Option<String>,
}

/// What an issuer publishes, or why that is not known.
#[derive(Clone, Debug)]
pub struct FetchedIssuer {
    pub issuer: IssuerName,
    pub url: String,
    pub keys: Result<Vec<PublishedKey>, KeyFetchFailure>,
    /// Keys of the set that are passed over, one sentence each.
    pub skipped: Vec<String>,
    /// Addresses that failed before the keys were found at another.
    pub detours: Vec<KeyFetchAttempt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    pub id: Option<String>,
    pub bits: usize,
}

impl fmt::Debug for Inspector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inspector").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}

impl Inspector {
    /// Asks every issuer that is configured, one after the other. Errors only if a URL is none.
    pub async fn fetch(
        settings: &GitlabAuthSettings,
        own: &OwnKeySettings,
        fetch: &dyn FetchKeys,
        clock: WallClock,
    ) -> Result<Self, GitlabAuthSetupError> {
        let (mut issuers, mut sets) = (Vec::new(), Vec::new());
        for (issuer, url) in settings.urls()? {
            let (keys, skipped, detours) = match fetch_key_set(issuer, &url, fetch).await {
                Ok(fetched) => {
                    let keys = published(&fetched.set);
                    let skipped = fetched.set.skipped.clone();
                    sets.push(fetched.set);
                    (Ok(keys), skipped, fetched.detours)
                }
                Err(failure) => (Err(failure), Vec::new(), Vec::new()),
            };
            issuers.push(FetchedIssuer { issuer, url: url.as_str().to_owned(), keys, skipped, detours });
        }
        let (own_keys, own_keys_problem) = match own_keys::look(own, clock.unix_s()) {
            Ok(keys) => (keys, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let ring = KeyRing::new(&own.key_ids(), &own_keys, sets.iter().flat_map(|set| &set.keys));
        Ok(Self { ring, service: settings.service.clone(), clock, issuers, own_keys_problem })
    }

    pub fn issuers(&self) -> &[FetchedIssuer] {
        &self.issuers
    }

    /// Why the gateway's own keys could not be read, if they could not.
    pub fn own_keys_problem(&self) -> Option<&str> {
        self.own_keys_problem.as_deref()
    }

    /// Says of a token what each check makes of it. To be shown only to whoever holds the token already.
    pub fn inspect(&self, token: &str) -> Report {
        inspect(token, &self.ring, &self.service, self.clock.unix_s())
    }
}

fn published(set: &KeySet) -> Vec<PublishedKey> {
    let keys = set.keys.iter();
    keys.map(|key| PublishedKey { id: key.id.as_deref().map(str::to_owned), bits: key.bits }).collect()
}
