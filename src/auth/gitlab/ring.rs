//! Every key that is trusted at a moment, from whichever source. A ring is never changed: a new one takes its place.

use super::key::{Fingerprint, VerifyingKey};
use super::token::Token;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct KeyRing {
    all: Vec<Arc<VerifyingKey>>,
    by_id: HashMap<Arc<str>, Vec<Arc<VerifyingKey>>>,
    fingerprints: HashSet<Fingerprint>,
    /// Whether a key of GitLab or the portal is among them.
    has_issuer_keys: bool,
}

impl KeyRing {
    /// `own_ids` name any of `own`: after a rotation the former key answers to the name of the present one.
    pub(super) fn new<'a>(
        own_ids: &[String; 2],
        own: &[Arc<VerifyingKey>],
        issuers: impl Iterator<Item = &'a Arc<VerifyingKey>>,
    ) -> Self {
        let mut ring = Self::default();
        for id in own_ids {
            ring.by_id.insert(Arc::from(id.as_str()), own.to_vec());
        }
        own.iter().for_each(|key| ring.add(key));
        for key in issuers {
            ring.has_issuer_keys = true;
            ring.add(key);
            if let Some(id) = &key.id {
                ring.by_id.entry(Arc::clone(id)).or_default().push(Arc::clone(key));
            }
        }
        ring
    }

    fn add(&mut self, key: &Arc<VerifyingKey>) {
        if self.fingerprints.insert(key.fingerprint) {
            self.all.push(Arc::clone(key));
        }
    }

    /// The keys a token with this key id may be signed with; all of them for a token that names none.
    pub(super) fn candidates(&self, id: Option<&str>) -> &[Arc<VerifyingKey>] {
        match id {
            None => &self.all,
            Some(id) => self.by_id.get(id).map_or(&[], Vec::as_slice),
        }
    }

    /// The key whose signature a token carries. The token's header chooses among our keys and nothing else.
    pub(super) fn signer_of(&self, token: &Token<'_>) -> Option<Arc<VerifyingKey>> {
        let candidates = self.candidates(token.key_id.as_deref());
        candidates.iter().find(|key| key.verifies(token.signed, &token.signature)).cloned()
    }

    pub(super) fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.fingerprints.contains(&fingerprint)
    }

    pub(super) fn has_issuer_keys(&self) -> bool {
        self.has_issuer_keys
    }
}
