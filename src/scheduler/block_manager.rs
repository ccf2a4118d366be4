//! Who holds which block of the key-value cache, and which block is given out next.
//!
//! A block that nobody references is free; if the prefix cache knows its content it stays matchable until it is given
//! out again. Free blocks are kept in the order in which they are given out: those without content, then those that no
//! context retains, then the retained ones, within each by what they are worth. A sequence gives its blocks back last
//! one first, so that a prefix outlives its tail.

use super::BlockId;
use super::prefix_cache::{Chain, NodeRef, PartialMatch, PrefixCache};
use super::retention::{Context, Owner, Retention, worth};
use crate::domain::CacheSalt;
use std::collections::{BTreeSet, HashMap};

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
    states: Vec<BlockState>,
    /// Blocks that nobody references; the next one to be given out first.
    free: BTreeSet<(Worth, BlockId)>,
    cache: PrefixCache,
    retention: Retention,
    num_retained: usize,
    num_free_retained: usize,
    /// Counts blocks as they come free.
    clock: u64,
}

#[derive(Clone, Copy, Default)]
struct BlockState {
    references: u32,
    /// Contexts that retain it.
    retainers: u32,
    /// Computed by nobody because they were found in it, since its content was entered.
    saved_tokens: u64,
    /// Reading of the clock when it came free.
    used_at: u64,
    /// Its key among the free blocks; `None` while it is referenced.
    worth: Option<Worth>,
}

/// In which order free blocks are given out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Nothing is found in it.
    Empty,
    Ordinary(u64),
    Retained(u64),
}

impl BlockManager {
    pub fn new(num_blocks: usize, block_tokens: usize) -> Self {
        let mut manager = Self {
            block_tokens,
            states: vec![BlockState::default(); num_blocks],
            free: BTreeSet::new(),
            cache: PrefixCache::new(num_blocks, block_tokens),
            retention: Retention::new(num_blocks, block_tokens),
            num_retained: 0,
            num_free_retained: 0,
            clock: 0,
        };
        for block in 0..num_blocks {
            manager.enter_free(block as BlockId);
        }
        manager
    }

    /// Blocks that nobody references.
    pub fn num_free(&self) -> usize {
        self.free.len()
    }

    /// Free blocks that no context retains.
    pub fn num_free_ordinary(&self) -> usize {
        self.free.len() - self.num_free_retained
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
        let (_, block) = self.free.first().copied()?;
        self.leave_free(block);
        self.forget(block);
        self.states[block as usize].references = 1;
        Some(block)
    }

    /// One more reference to a block.
    pub fn acquire(&mut self, block: BlockId) {
        if self.states[block as usize].references == 0 {
            self.leave_free(block);
        }
        self.states[block as usize].references += 1;
    }

    /// One reference less. The last one frees the block.
    pub fn release(&mut self, block: BlockId) {
        let clock = self.clock;
        let state = &mut self.states[block as usize];
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
            freed += usize::from(*gone == self.states[*block as usize].references);
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
        for block in &found.blocks {
            self.states[*block as usize].saved_tokens += self.block_tokens as u64;
        }
        if let Some(PartialMatch { block, tokens }) = found.partial {
            self.states[block as usize].saved_tokens += tokens as u64;
        }
    }

    /// Retains the context of a completion that gives its blocks back, in place of the one that it continues. What it
    /// has computed has been entered. `saved_tokens` of its prompt were found in the cache.
    pub fn retain(&mut self, owner: &Owner, chain: &Chain, computed: Computed<'_>, saved_tokens: usize) {
        let retained_max = self.states.len() / RETAINED_SHARE;
        let mut path = self.path(chain, computed);
        path.truncate(retained_max);
        if path.is_empty() {
            return;
        }
        for node in &path {
            self.states[node.block as usize].retainers += 1;
            if self.states[node.block as usize].retainers == 1 {
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
        last.map(|block| self.cache.path_to(block)).unwrap_or_default()
    }

    fn let_go(&mut self, context: &Context) {
        for node in &context.path {
            if !self.cache.has(*node) {
                continue; // given out since, to be known for something else
            }
            let state = &mut self.states[node.block as usize];
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
            if self.states[covered as usize].references == 0 {
                self.forget(covered);
            }
        }
        self.cache.insert(block, parent, salt, tokens);
    }

    /// Makes a block, and what stands on it, unmatchable; what is free of it is given out first.
    fn forget(&mut self, block: BlockId) {
        for removed in self.cache.remove(block) {
            let state = &mut self.states[removed as usize];
            state.saved_tokens = 0;
            self.num_retained -= usize::from(state.retainers > 0);
            state.retainers = 0;
            self.weigh(removed);
        }
    }

    fn enter_free(&mut self, block: BlockId) {
        let state = &self.states[block as usize];
        let savings = state.saved_tokens / self.block_tokens as u64;
        let score = worth(state.used_at, savings, self.states.len());
        let worth = match (self.cache.contains(block), state.retainers) {
            (false, _) => Worth::Empty,
            (true, 0) => Worth::Ordinary(score),
            (true, _) => Worth::Retained(score),
        };
        self.num_free_retained += usize::from(matches!(worth, Worth::Retained(_)));
        self.states[block as usize].worth = Some(worth);
        self.free.insert((worth, block));
    }

    fn leave_free(&mut self, block: BlockId) {
        let worth = self.states[block as usize].worth.take().expect("a block that nobody references is free");
        self.num_free_retained -= usize::from(matches!(worth, Worth::Retained(_)));
        self.free.remove(&(worth, block));
    }

    /// Finds a block's place among the free ones anew, if it is one of them.
    fn weigh(&mut self, block: BlockId) {
        if self.states[block as usize].worth.is_some() {
            self.leave_free(block);
            self.enter_free(block);
        }
    }
}

#[cfg(test)]
impl BlockManager {
    pub fn references(&self) -> Vec<u32> {
        self.states.iter().map(|state| state.references).collect()
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
        let mut retainers = vec![0; self.states.len()];
        for node in self.retention.contexts().flat_map(|context| &context.path) {
            retainers[node.block as usize] += u32::from(self.cache.has(*node));
        }
        let (mut num_free, mut num_retained, mut num_free_retained) = (0, 0, 0);
        for (block, state) in self.states.iter().enumerate() {
            let is_free = state.worth.is_some_and(|worth| self.free.contains(&(worth, block as BlockId)));
            let is_cached = self.cache.contains(block as BlockId);
            assert_eq!(is_free, state.references == 0, "block {block} is free or referenced");
            assert_eq!(state.worth.is_some(), is_free);
            assert_eq!(state.retainers, retainers[block], "contexts retain block {block}");
            assert!(is_cached || state.retainers == 0 && state.saved_tokens == 0, "block {block} was forgotten");
            num_free += usize::from(is_free);
            num_retained += usize::from(state.retainers > 0);
            num_free_retained += usize::from(is_free && state.retainers > 0);
            match state.worth {
                Some(Worth::Empty) => assert!(!is_cached),
                Some(Worth::Ordinary(_)) => assert!(is_cached && state.retainers == 0),
                Some(Worth::Retained(_)) => assert!(is_cached && state.retainers > 0),
                None => {}
            }
        }
        assert_eq!((num_free, num_retained), (self.free.len(), self.num_retained));
        assert_eq!(num_free_retained, self.num_free_retained);
        assert!(num_retained <= self.states.len() / RETAINED_SHARE, "{num_retained} blocks are retained");
        self.cache.check();
    }
}
