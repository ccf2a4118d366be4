//! Who holds which block of the key-value cache, and which block is given out next.
//!
//! A block that nobody references is free; if the prefix cache knows its content it stays matchable until it is given
//! out again. The free list is kept in order of last use: blocks without content in front, then the one whose content
//! was used longest ago. A sequence gives its blocks back last one first, so that a prefix outlives its tail.

use super::BlockId;
use super::prefix_cache::{Chain, PartialMatch, PrefixCache};
use crate::domain::CacheSalt;
use std::collections::HashMap;

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
    references: Vec<u32>,
    free: FreeList,
    cache: PrefixCache,
}

impl BlockManager {
    pub fn new(num_blocks: usize, block_tokens: usize) -> Self {
        let mut free = FreeList { links: vec![Link::default(); num_blocks], front: None, back: None, len: 0 };
        for block in 0..num_blocks {
            free.push_back(block as BlockId);
        }
        let cache = PrefixCache::new(num_blocks, block_tokens);
        Self { block_tokens, references: vec![0; num_blocks], free, cache }
    }

    /// Blocks that nobody references.
    pub fn num_free(&self) -> usize {
        self.free.len
    }

    pub fn num_cached(&self) -> usize {
        self.cache.len()
    }

    /// Gives out the block used longest ago; its content is forgotten. `None` when all are referenced.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let block = self.free.front?;
        self.free.remove(block);
        self.forget(block);
        self.references[block as usize] = 1;
        Some(block)
    }

    /// One more reference to a block.
    pub fn acquire(&mut self, block: BlockId) {
        let references = &mut self.references[block as usize];
        if *references == 0 {
            self.free.remove(block);
        }
        *references += 1;
    }

    /// One reference less. The last one frees the block.
    pub fn release(&mut self, block: BlockId) {
        let references = &mut self.references[block as usize];
        assert!(*references > 0, "block {block} is released but nobody holds it");
        *references -= 1;
        if *references > 0 {
            return;
        }
        if self.cache.contains(block) {
            self.free.push_back(block);
        } else {
            self.free.push_front(block);
        }
    }

    /// How many of these blocks become free if their holder gives up its reference to each. `given_up` carries the
    /// references that others were counted to give up before.
    pub fn num_freed(&self, blocks: &[BlockId], given_up: &mut HashMap<BlockId, u32>) -> usize {
        let mut freed = 0;
        for block in blocks {
            let gone = given_up.entry(*block).or_default();
            *gone += 1;
            freed += usize::from(*gone == self.references[*block as usize]);
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
            if self.references[covered as usize] == 0 {
                self.forget(covered);
            }
        }
        self.cache.insert(block, parent, salt, tokens);
    }

    /// Makes a block, and what stands on it, unmatchable; what is free of it is given out first.
    fn forget(&mut self, block: BlockId) {
        for removed in self.cache.remove(block) {
            if self.free.contains(removed) {
                self.free.remove(removed);
                self.free.push_front(removed);
            }
        }
    }
}

/// Free blocks as a doubly linked list over block numbers, so that one can be taken out of the middle.
struct FreeList {
    links: Vec<Link>,
    front: Option<BlockId>,
    back: Option<BlockId>,
    len: usize,
}

#[derive(Clone, Copy, Default)]
struct Link {
    is_free: bool,
    previous: Option<BlockId>,
    next: Option<BlockId>,
}

impl FreeList {
    fn contains(&self, block: BlockId) -> bool {
        self.links[block as usize].is_free
    }

    fn push_front(&mut self, block: BlockId) {
        self.link(block, None, self.front);
    }

    fn push_back(&mut self, block: BlockId) {
        self.link(block, self.back, None);
    }

    fn link(&mut self, block: BlockId, previous: Option<BlockId>, next: Option<BlockId>) {
        assert!(!self.contains(block), "block {block} is free already");
        self.links[block as usize] = Link { is_free: true, previous, next };
        *self.next_of(previous) = Some(block);
        *self.previous_of(next) = Some(block);
        self.len += 1;
    }

    fn remove(&mut self, block: BlockId) {
        assert!(self.contains(block), "block {block} is not free");
        let Link { previous, next, .. } = std::mem::take(&mut self.links[block as usize]);
        *self.next_of(previous) = next;
        *self.previous_of(next) = previous;
        self.len -= 1;
    }

    /// Where the block after `block` is written; without a block, the front of the list.
    fn next_of(&mut self, block: Option<BlockId>) -> &mut Option<BlockId> {
        block.map_or(&mut self.front, |block| &mut self.links[block as usize].next)
    }

    fn previous_of(&mut self, block: Option<BlockId>) -> &mut Option<BlockId> {
        block.map_or(&mut self.back, |block| &mut self.links[block as usize].previous)
    }
}

#[cfg(test)]
impl BlockManager {
    pub fn references(&self) -> &[u32] {
        &self.references
    }

    pub fn matchable(&self, block: BlockId) -> usize {
        self.cache.path(block).map_or(0, |(_, tokens)| (tokens.len() - 1) % self.block_tokens + 1)
    }

    /// Salt and all tokens up to the end of a matchable block.
    pub fn path(&self, block: BlockId) -> Option<(CacheSalt, Vec<u32>)> {
        self.cache.path(block)
    }

    pub fn keep_hash_bits(&mut self, bits: u32) {
        self.cache.keep_hash_bits(bits);
    }

    /// Panics if the free list is not exactly the unreferenced blocks, or a block is not found where it is entered.
    pub fn check(&self) {
        let walk = std::iter::successors(self.free.front, |block| self.free.links[*block as usize].next);
        assert_eq!(walk.count(), self.free.len);
        for (block, references) in self.references.iter().enumerate() {
            assert_eq!(self.free.links[block].is_free, *references == 0, "block {block} is free or referenced");
        }
        self.cache.check();
    }
}
