//! Who holds which block of the key-value cache, and which block is given out next.
//!
//! A block that nobody references is free; if the prefix cache knows its content it stays matchable until it is given
//! out again. Free blocks are given out in the order of [`Blocks`]: those without content, then those that no context
//! retains, then the retained ones, within each by what they are worth. A sequence gives its blocks back last
//! one first, so that a prefix outlives its tail.

use super::BlockId;
use super::blocks::{Blocks, Rank};
use super::prefix_cache::{Chain, NodeRef, PartialMatch, PrefixCache};
use super::retention::{Context, Owner, Retention};
use crate::domain::CacheSalt;
use std::collections::HashMap;

/// At most one block in so many is retained: the rest is whoever comes next's, however many type.
const RETAINED_SHARE: usize = 2;

/// What the cache already holds of a sequence's tokens: whole blocks to share, then part of one to copy.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PrefixMatch {
    pub blocks: Vec<BlockId>,
    pub partial: Option<PartialMatch>,
}

/// A sequence's tokens as far as they are computed, and the blocks that hold them.
#[derive(Clone, Copy)]
pub(super) struct Computed<'a> {
    pub salt: CacheSalt,
    pub tokens: &'a [u32],
    pub blocks: &'a [BlockId],
}

/// Whether the last, partly filled block becomes matchable too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Leave,
    Enter,
}

pub(super) struct BlockManager {
    block_tokens: usize,
    /// Free are those that nobody references.
    blocks: Blocks<BlockState>,
    cache: PrefixCache,
    /// What left the cache last; kept for its allocation.
    removed: Vec<BlockId>,
    retention: Retention,
    num_retained: usize,
    /// Counts blocks as they come free.
    clock: u64,
}

#[derive(Clone, Copy, Default)]
struct BlockState {
    references: u32,
    /// Contexts that retain it.
    retainers: u32,
    /// Computed by nobody because they were found in it, since its content was entered.
    saved_tokens: u32,
    /// The prefix cache holds it.
    is_cached: bool,
    /// Reading of the clock when it came free.
    used_at: u64,
    /// As in [`NodeRef`]. It and `is_cached` are kept here too, so that blocks change their place without a look at
    /// the tree.
    generation: u64,
}

impl BlockManager {
    pub fn new(num_blocks: usize, block_tokens: usize) -> Self {
        let mut manager = Self {
            block_tokens,
            blocks: Blocks::new(num_blocks),
            cache: PrefixCache::new(num_blocks, block_tokens),
            removed: Vec::new(),
            retention: Retention::new(num_blocks, block_tokens),
            num_retained: 0,
            clock: 0,
        };
        for block in 0..num_blocks {
            manager.enter_free(block as BlockId);
        }
        manager
    }

    /// Blocks that nobody references.
    pub fn num_free(&self) -> usize {
        self.blocks.num_free()
    }

    /// Free blocks that no context retains.
    pub fn num_free_ordinary(&self) -> usize {
        self.blocks.num_free() - self.blocks.num_free_of(Rank::Retained)
    }

    pub fn num_cached(&self) -> usize {
        self.cache.len()
    }

    /// Blocks that contexts retain, referenced or not.
    pub fn num_retained(&self) -> usize {
        self.num_retained
    }

    pub fn num_contexts(&self) -> usize {
        self.retention.num_contexts()
    }

    /// Gives out the free block that is worth least; its content is forgotten. `None` when all are referenced.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let block = self.blocks.first_free()?;
        self.blocks.leave_free(block);
        self.forget(block);
        self.blocks.of_mut(block).references = 1;
        Some(block)
    }

    /// One more reference to a block.
    pub fn acquire(&mut self, block: BlockId) {
        if self.blocks.of(block).references == 0 {
            self.blocks.leave_free(block);
        }
        self.blocks.of_mut(block).references += 1;
    }

    /// One reference less. The last one frees the block.
    pub fn release(&mut self, block: BlockId) {
        let clock = self.clock;
        let state = self.blocks.of_mut(block);
        assert!(state.references > 0, "block {block} is released but nobody holds it");
        state.references -= 1;
        if state.references == 0 {
            state.used_at = clock;
            self.clock += 1;
            self.enter_free(block);
        }
    }

    /// How many of these blocks become free if their holder gives up its reference to each. `given_up` carries the
    /// references that others were counted to give up before.
    pub fn num_freed(&self, blocks: &[BlockId], given_up: &mut HashMap<BlockId, u32>) -> usize {
        let mut freed = 0;
        for block in blocks {
            let gone = given_up.entry(*block).or_default();
            *gone += 1;
            freed += usize::from(*gone == self.blocks.of(*block).references);
        }
        freed
    }

    pub fn acquire_match(&mut self, found: &PrefixMatch) {
        for block in found.blocks.iter().copied().chain(found.partial.map(|partial| partial.block)) {
            self.acquire(block);
        }
    }

    pub fn release_match(&mut self, found: &PrefixMatch) {
        for block in found.partial.map(|partial| partial.block).into_iter().chain(found.blocks.iter().rev().copied()) {
            self.release(block);
        }
    }

    /// Counts what a sequence need not compute, for the blocks that spare it.
    pub fn credit(&mut self, found: &PrefixMatch) {
        let whole = found.blocks.iter().map(|block| (*block, self.block_tokens));
        for (block, tokens) in whole.chain(found.partial.map(|partial| (partial.block, partial.tokens))) {
            let state = self.blocks.of_mut(block);
            state.saved_tokens = state.saved_tokens.saturating_add(tokens as u32);
        }
    }

    /// Retains the context of a completion that gives its blocks back, in place of the one that it continues. What it
    /// has computed has been entered. `saved_tokens` of its prompt were found in the cache.
    pub fn retain(&mut self, owner: &Owner, chain: &Chain, computed: Computed<'_>, saved_tokens: usize) {
        let retained_max = self.blocks.len() / RETAINED_SHARE;
        let mut path = self.path(chain, computed);
        path.truncate(retained_max);
        if path.is_empty() {
            return;
        }
        for node in &path {
            self.blocks.of_mut(node.block).retainers += 1;
            if self.blocks.of(node.block).retainers == 1 {
                self.num_retained += 1;
                self.weigh(node.block);
            }
        }
        let context = Context { path, used_at: self.clock, saved_tokens: saved_tokens as u64 };
        for dropped in self.retention.remember(owner, context) {
            self.let_go(&dropped);
        }
        while self.num_retained > retained_max {
            let least = self.retention.drop_least(owner).expect("one context alone is within the share");
            self.let_go(&least);
        }
    }

    /// Where the cache holds what a sequence has computed.
    fn path(&self, chain: &Chain, computed: Computed<'_>) -> Vec<NodeRef> {
        let parent = chain.parent.map(|parent| parent.block);
        let rest = &computed.tokens[chain.blocks * self.block_tokens..];
        let last = self.cache.longest(parent, computed.salt, rest).map(|tail| tail.block).or(parent);
        last.map(|block| self.cache.path_to(block, &computed.blocks[..chain.blocks])).unwrap_or_default()
    }

    fn let_go(&mut self, context: &Context) {
        // Last block first, as they came free.
        for node in context.path.iter().rev() {
            let state = self.blocks.of_mut(node.block);
            if state.generation != node.generation {
                continue; // given out since, to be known for something else
            }
            state.retainers -= 1;
            if state.retainers == 0 {
                self.num_retained -= 1;
                self.weigh(node.block);
            }
        }
    }

    /// What is matchable of these tokens. References nothing: a match holds until the next call that changes anything.
    pub fn lookup(&self, salt: CacheSalt, tokens: &[u32]) -> PrefixMatch {
        let mut found = PrefixMatch::default();
        let mut rest = tokens;
        while let Some((block_tokens, behind)) = rest.split_at_checked(self.block_tokens)
            && let Some(block) = self.cache.child(found.blocks.last().copied(), salt, block_tokens)
        {
            found.blocks.push(block);
            rest = behind;
        }
        let rest = &rest[..rest.len().min(self.block_tokens)];
        found.partial = self.cache.longest(found.blocks.last().copied(), salt, rest);
        found
    }

    /// The chain of a sequence that starts with these matched blocks.
    pub fn chain(&self, matched: &[BlockId]) -> Chain {
        Chain { parent: matched.last().map(|block| self.cache.node(*block)), blocks: matched.len() }
    }

    /// Makes a sequence's computed blocks matchable, from where its chain ends. Where the same content is known already
    /// the older block keeps its place and the chain goes on below it.
    pub fn enter(&mut self, chain: &mut Chain, computed: Computed<'_>, tail: Tail) {
        if !self.cache.holds(chain) {
            *chain = Chain::default();
        }
        let Computed { salt, tokens, blocks } = computed;
        let full = tokens.chunks_exact(self.block_tokens);
        let rest = full.remainder();
        for (index, block_tokens) in full.enumerate().skip(chain.blocks) {
            let parent = chain.parent.map(|parent| parent.block);
            let node = match self.cache.child(parent, salt, block_tokens) {
                Some(known) => known,
                None => {
                    self.place(blocks[index], parent, salt, block_tokens);
                    blocks[index]
                }
            };
            if node != blocks[index] {
                self.forget(blocks[index]);
            }
            *chain = Chain { parent: Some(self.cache.node(node)), blocks: index + 1 };
        }
        if tail == Tail::Enter && !rest.is_empty() {
            let parent = chain.parent.map(|parent| parent.block);
            let known = self.cache.longest(parent, salt, rest).map_or(0, |known| known.tokens);
            if known < rest.len() {
                self.place(blocks[chain.blocks], parent, salt, rest);
            }
        }
    }

    /// Puts a block into the tree, in place of what it was known for and of unused tails it continues.
    fn place(&mut self, block: BlockId, parent: Option<BlockId>, salt: CacheSalt, tokens: &[u32]) {
        self.forget(block);
        for covered in self.cache.covered_tails(parent, salt, tokens) {
            if self.blocks.of(covered).references == 0 {
                self.forget(covered);
            }
        }
        self.cache.insert(block, parent, salt, tokens);
        self.blocks.of_mut(block).is_cached = true;
    }

    /// Makes a block, and what stands on it, unmatchable; what is free of it is given out first.
    fn forget(&mut self, block: BlockId) {
        if !self.blocks.of(block).is_cached {
            return;
        }
        let mut removed = std::mem::take(&mut self.removed);
        self.cache.remove(block, &mut removed);
        for removed in removed.iter().copied() {
            let state = self.blocks.of_mut(removed);
            state.saved_tokens = 0;
            state.generation += 1;
            state.is_cached = false;
            self.num_retained -= usize::from(state.retainers > 0);
            state.retainers = 0;
            self.weigh(removed);
        }
        self.removed = removed;
    }

    fn enter_free(&mut self, block: BlockId) {
        let state = self.blocks.of(block);
        let rank = match (state.is_cached, state.retainers) {
            (false, _) => Rank::Empty,
            (true, 0) => Rank::Ordinary,
            (true, _) => Rank::Retained,
        };
        let savings = state.saved_tokens as usize / self.block_tokens;
        self.blocks.enter_free(block, rank, state.used_at, savings as u64);
    }

    /// Finds a block's place among the free ones anew, if it is one of them.
    fn weigh(&mut self, block: BlockId) {
        if self.blocks.rank(block).is_some() {
            self.blocks.leave_free(block);
            self.enter_free(block);
        }
    }
}

#[cfg(test)]
impl BlockManager {
    pub fn references(&self) -> Vec<u32> {
        (0..self.blocks.len()).map(|block| self.blocks.of(block as BlockId).references).collect()
    }

    pub fn matchable(&self, block: BlockId) -> usize {
        self.cache.path(block).map_or(0, |(_, tokens)| (tokens.len() - 1) % self.block_tokens + 1)
    }

    /// Salt and all tokens up to the end of a matchable block.
    pub fn content(&self, block: BlockId) -> Option<(CacheSalt, Vec<u32>)> {
        self.cache.path(block)
    }

    pub fn keep_hash_bits(&mut self, bits: u32) {
        self.cache.keep_hash_bits(bits);
    }

    /// Panics if the free blocks are not exactly the unreferenced ones in their order, a count is wrong, more is
    /// retained than may be, or a block is not found where it is entered.
    pub fn check(&self) {
        let mut retainers = vec![0; self.blocks.len()];
        for node in self.retention.contexts().flat_map(|context| &context.path) {
            retainers[node.block as usize] += u32::from(self.cache.has(*node));
        }
        let (mut num_free, mut num_retained, mut num_free_retained) = (0, 0, 0);
        for (block, retainers) in retainers.into_iter().enumerate() {
            let state = self.blocks.of(block as BlockId);
            assert_eq!(state.generation, self.cache.node(block as BlockId).generation, "block {block}");
            let rank = self.blocks.rank(block as BlockId);
            let is_free = rank.is_some();
            let is_cached = self.cache.contains(block as BlockId);
            assert_eq!(state.is_cached, is_cached, "block {block}");
            assert_eq!(is_free, state.references == 0, "block {block} is free or referenced");
            assert_eq!(state.retainers, retainers, "contexts retain block {block}");
            assert!(is_cached || state.retainers == 0 && state.saved_tokens == 0, "block {block} was forgotten");
            num_free += usize::from(is_free);
            num_retained += usize::from(state.retainers > 0);
            num_free_retained += usize::from(is_free && state.retainers > 0);
            match rank {
                Some(Rank::Empty) => assert!(!is_cached),
                Some(Rank::Ordinary) => assert!(is_cached && state.retainers == 0),
                Some(Rank::Retained) => assert!(is_cached && state.retainers > 0),
                None => {}
            }
        }
        assert_eq!((num_free, num_retained), (self.blocks.num_free(), self.num_retained));
        assert_eq!(num_free_retained, self.blocks.num_free_of(Rank::Retained));
        assert!(num_retained <= self.blocks.len() / RETAINED_SHARE, "{num_retained} blocks are retained");
        self.cache.check();
    }
}
