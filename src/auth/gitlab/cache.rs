//! Tokens that were verified a short while ago, so that their signatures need not be computed again.
//!
//! The key is the whole SHA-256 of the token: no two tokens share an entry. Entries age by the monotonic clock, and keep
//! the end that the wall clock gave them when they were first verified: turning the wall clock back prolongs nothing.

use super::claims::{Claims, LEEWAY_S};
use super::key::Fingerprint;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const ENTRIES_MAX: usize = 4096;
/// How long a verification holds.
const FRESH: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

#[derive(Default)]
pub(super) struct TokenCache {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_digest: HashMap<TokenDigest, Entry>,
    /// Oldest first.
    order: VecDeque<TokenDigest>,
}

struct Entry {
    claims: Arc<Claims>,
    signed_by: Fingerprint,
    fresh_until: Instant,
    ends_at: Option<Instant>,
}

/// What the cache knows of a token.
pub(super) enum Found {
    Verified {
        claims: Arc<Claims>,
        signed_by: Fingerprint,
    },
    /// Verified once, and over since, whatever the wall clock says now.
    Over {
        since: Duration,
    },
    /// To be verified again.
    Unknown,
}

impl TokenCache {
    pub(super) fn find(&self, digest: &TokenDigest) -> Found {
        let entries = self.lock();
        let Some(entry) = entries.by_digest.get(digest) else { return Found::Unknown };
        let now = Instant::now();
        match entry.ends_at {
            Some(ends_at) if now >= ends_at => Found::Over { since: now - ends_at },
            _ if now < entry.fresh_until => {
                Found::Verified { claims: Arc::clone(&entry.claims), signed_by: entry.signed_by }
            }
            _ => Found::Unknown,
        }
    }

    /// `now_s` is the wall clock's time at which the token was found valid.
    pub(super) fn keep(&self, digest: TokenDigest, claims: Arc<Claims>, signed_by: Fingerprint, now_s: u64) {
        let now = Instant::now();
        let left = claims.expires_at_s.map(|at_s| at_s.saturating_add(LEEWAY_S).saturating_sub(now_s));
        // A time that far away that no clock can hold it is as good as none.
        let mut ends_at = left.and_then(|left_s| now.checked_add(Duration::from_secs(left_s)));
        let mut entries = self.lock();
        if let Some(known) = entries.by_digest.get(&digest) {
            ends_at = match (known.ends_at, ends_at) {
                (Some(first), Some(second)) => Some(first.min(second)),
                (first, second) => first.or(second),
            };
        } else {
            while entries.order.len() >= ENTRIES_MAX {
                let Some(oldest) = entries.order.pop_front() else { break };
                entries.by_digest.remove(&oldest);
            }
            entries.order.push_back(digest);
        }
        entries.by_digest.insert(digest, Entry { claims, signed_by, fresh_until: now + FRESH, ends_at });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().by_digest.len()
    }

    /// Nothing panics while the lock is held; if something did, the entries would still be whole.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
