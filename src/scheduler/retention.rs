//! Which contexts are kept for whoever types: the last ones of each editor, as paths through the prefix cache.
//!
//! A context is what the cache holds of one completion, from its first block to its last. The next keystroke's context
//! takes the place of the one that it continues; another place in the file, or another file, is a context of its own,
//! so that a cursor that comes back finds what it left. Knows blocks by number only: who keeps counts of them is the
//! block manager.
//!
//! What is worth keeping weighs last use and tokens saved, as in GreedyDual-Size-Frequency (Cherkasova, HPL-98-69).

use super::blocks::worth;
use super::prefix_cache::NodeRef;
use crate::domain::{CacheSalt, SessionKey};
use std::collections::HashMap;

/// Sessions with contexts at once. The one that has not typed for longest makes room.
const OWNERS_MAX: usize = 256;
/// Places that a session may return to.
const SESSION_CONTEXTS_MAX: usize = 3;
/// Completions without a session may be of as many editors: GitLab names none.
const TENANT_CONTEXTS_MAX: usize = 64;
/// Whose contexts are counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Session(SessionKey),
    /// All completions of a tenant that name no session.
    Tenant(CacheSalt),
}

/// A completion that has ended, as the cache holds it.
pub(super) struct Context {
    /// From the first block on; some may have left the cache since.
    pub path: Vec<NodeRef>,
    /// Reading of the clock.
    pub used_at: u64,
    /// Prompt tokens that it, and those whose place it took, found in the cache.
    pub saved_tokens: u64,
}

pub(super) struct Retention {
    num_blocks: usize,
    block_tokens: usize,
    /// Each with its contexts, the last used last.
    owners: HashMap<Owner, Vec<Context>>,
}

impl Owner {
    fn contexts_max(&self) -> usize {
        match self {
            Self::Session(_) => SESSION_CONTEXTS_MAX,
            Self::Tenant(_) => TENANT_CONTEXTS_MAX,
        }
    }
}

impl Retention {
    pub fn new(num_blocks: usize, block_tokens: usize) -> Self {
        Self { num_blocks, block_tokens, owners: HashMap::new() }
    }

    pub fn num_contexts(&self) -> usize {
        self.owners.values().map(Vec::len).sum()
    }

    /// Keeps a context. Answers with those that need not be kept any more.
    pub fn remember(&mut self, owner: &Owner, mut context: Context) -> Vec<Context> {
        let mut dropped = Vec::new();
        if !self.owners.contains_key(owner) && self.owners.len() >= OWNERS_MAX {
            dropped.extend(self.drop_idlest_owner());
        }
        let contexts = self.owners.entry(owner.clone()).or_default();
        if let Some(index) = continued_by(contexts, &context.path) {
            let older = contexts.remove(index);
            context.saved_tokens += older.saved_tokens;
            dropped.push(older);
        } else if contexts.len() >= owner.contexts_max() {
            dropped.push(contexts.remove(0));
        }
        contexts.push(context);
        dropped
    }

    /// Drops the context that is worth least, but not the last one of `spared`: a newcomer has saved nothing yet.
    /// `None` when there is no other.
    pub fn drop_least(&mut self, spared: &Owner) -> Option<Context> {
        let droppable = self.owners.iter().flat_map(|(owner, contexts)| {
            let count = contexts.len() - usize::from(owner == spared);
            contexts[..count].iter().enumerate().map(move |(index, context)| (owner, index, context))
        });
        // Readings of the clock may be the same: then the smaller path goes, and else any.
        let (owner, index, _) = droppable.min_by_key(|(_, _, context)| (self.worth_of(context), context.path.len()))?;
        let owner = owner.clone();
        let contexts = self.owners.get_mut(&owner).expect("an owner was just seen");
        let least = contexts.remove(index);
        if contexts.is_empty() {
            self.owners.remove(&owner);
        }
        Some(least)
    }

    fn worth_of(&self, context: &Context) -> u64 {
        let held_tokens = (context.path.len() * self.block_tokens).max(1) as u64;
        worth(context.used_at, context.saved_tokens / held_tokens, self.num_blocks)
    }

    fn drop_idlest_owner(&mut self) -> Vec<Context> {
        let used_at = |contexts: &[Context]| contexts.last().map_or(0, |context| context.used_at);
        let idlest = self.owners.iter().min_by_key(|(_, contexts)| used_at(contexts)).map(|(owner, _)| owner.clone());
        idlest.and_then(|owner| self.owners.remove(&owner)).unwrap_or_default()
    }

    #[cfg(test)]
    pub fn contexts(&self) -> impl Iterator<Item = &Context> {
        assert!(self.owners.len() <= OWNERS_MAX, "the number of owners is bounded");
        for (owner, contexts) in &self.owners {
            assert!((1..=owner.contexts_max()).contains(&contexts.len()), "{} contexts", contexts.len());
            assert!(contexts.is_sorted_by_key(|context| context.used_at));
        }
        self.owners.values().flatten()
    }
}

/// The context that `path` continues: it shares the longest beginning with it, and at least half of it.
fn continued_by(contexts: &[Context], path: &[NodeRef]) -> Option<usize> {
    let shared = |context: &Context| context.path.iter().zip(path).take_while(|(old, new)| old == new).count();
    let best = contexts.iter().enumerate().map(|(index, context)| (shared(context), index)).max()?;
    let (shared, index) = best;
    (shared > 0 && 2 * shared >= contexts[index].path.len()).then_some(index)
}
