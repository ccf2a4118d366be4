//! Which blocks hold the keys and values of which tokens: a tree of blocks, one per salt, found through a hash.
//!
//! A block's content depends on every token before it, so a block is known by its parent in the tree and its own
//! tokens. The hash (over the parent's hash, the tokens and the salt) only finds candidates; salt, parent and tokens
//! are compared before one is believed. A parent leaves the tree together with everything below it, so a parent's
//! number never means another prefix than when the child was entered.
//!
//! Sources: block hashing with reuse of unreferenced blocks as in vLLM (arXiv:2309.06180), the tree view of SGLang
//! (arXiv:2312.07104).

use super::BlockId;
use crate::domain::CacheSalt;
use std::collections::HashMap;
use std::num::NonZeroU32;

/// Blocks compared before a search gives up: bounds the work on crafted hashes and on many prompts that part at the
/// same place. The youngest are looked at first.
const CANDIDATES_MAX: usize = 64;

/// Odd numbers with well mixed bits: the first digits of pi and of the golden ratio.
const HASH_START: u64 = 0x243F_6A88_85A3_08D3;
const HASH_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// A node, and which of those that have lived in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeRef {
    pub block: BlockId,
    pub generation: u64,
}

/// How far a sequence's own blocks are entered: `blocks` full ones, the last of which is `parent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub parent: Option<NodeRef>,
    pub blocks: usize,
}

/// The part of a block that agrees with the tokens looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartialMatch {
    pub block: BlockId,
    pub tokens: usize,
}

/// Of one block; a cache line.
#[repr(align(64))]
struct Node {
    /// `None`: the block is not in the tree.
    entry: Option<Entry>,
    /// Counts the entries that have lived here.
    generation: u64,
}

/// A block's number and one, so that a link that may lead nowhere takes four bytes: memory is what a search costs.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Link(NonZeroU32);

impl Link {
    fn to(block: BlockId) -> Self {
        Self(NonZeroU32::MIN.saturating_add(block))
    }

    fn block(self) -> BlockId {
        self.0.get() - 1
    }
}

#[derive(Clone, Copy)]
struct Entry {
    parent: Option<Link>,
    salt: CacheSalt,
    hash: u64,
    /// Matchable positions; less than a whole block for a tail, which has no children and no place in `buckets`.
    len: u32,
    first_child: Option<Link>,
    next_sibling: Option<Link>,
    previous_sibling: Option<Link>,
    next_in_bucket: Option<Link>,
}

pub(super) struct PrefixCache {
    block_tokens: usize,
    nodes: Vec<Node>,
    /// `[num_blocks * block_tokens]`, by block.
    tokens: Vec<u32>,
    roots: HashMap<CacheSalt, Link>,
    /// By the low bits of the hash; a power of two, at least one for each block.
    buckets: Vec<Option<Link>>,
    len: usize,
    hash_mask: u64,
}

impl PrefixCache {
    pub fn new(num_blocks: usize, block_tokens: usize) -> Self {
        Self {
            block_tokens,
            nodes: (0..num_blocks).map(|_| Node { entry: None, generation: 0 }).collect(),
            tokens: vec![0; num_blocks * block_tokens],
            roots: HashMap::new(),
            buckets: vec![None; num_blocks.next_power_of_two()],
            len: 0,
            hash_mask: u64::MAX,
        }
    }

    /// Blocks in the tree.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn contains(&self, block: BlockId) -> bool {
        self.nodes[block as usize].entry.is_some()
    }

    pub fn node(&self, block: BlockId) -> NodeRef {
        NodeRef { block, generation: self.nodes[block as usize].generation }
    }

    /// Whether a chain still ends in the node it was built on.
    pub fn holds(&self, chain: &Chain) -> bool {
        chain.parent.is_none_or(|parent| self.has(parent))
    }

    /// The blocks from the first one down to `block`. They are nearly always the `likely` ones and `block`, which is
    /// found out without waiting for each parent to be read before the next.
    pub fn path_to(&self, block: BlockId, likely: &[BlockId]) -> Vec<NodeRef> {
        let is_last = likely.last() == Some(&block);
        let likely = if is_last { &likely[..likely.len() - 1] } else { likely };
        let mut path = Vec::with_capacity(likely.len() + 1);
        let mut parent = None;
        for here in likely.iter().copied().chain([block]) {
            let node = &self.nodes[here as usize];
            if node.entry.as_ref().is_none_or(|entry| entry.parent != parent) {
                return self.path_upwards(block);
            }
            path.push(NodeRef { block: here, generation: node.generation });
            parent = Some(Link::to(here));
        }
        path
    }

    fn path_upwards(&self, block: BlockId) -> Vec<NodeRef> {
        let upwards = std::iter::successors(Some(block), |block| self.entry(*block).parent.map(Link::block));
        let mut path: Vec<NodeRef> = upwards.map(|block| self.node(block)).collect();
        path.reverse();
        path
    }

    /// Whether this very node is in the tree.
    pub fn has(&self, node: NodeRef) -> bool {
        self.contains(node.block) && self.node(node.block) == node
    }

    /// The full block with exactly these tokens below `parent`.
    pub fn child(&self, parent: Option<BlockId>, salt: CacheSalt, tokens: &[u32]) -> Option<BlockId> {
        let hash = self.hash(parent, salt, tokens);
        let parent = parent.map(Link::to);
        let mut candidate = self.buckets[self.bucket(hash)];
        for _ in 0..CANDIDATES_MAX {
            let block = candidate?.block();
            let entry = self.entry(block);
            let is_alike = entry.hash == hash && entry.parent == parent && entry.salt == salt;
            if is_alike && self.tokens(block) == tokens {
                return Some(block);
            }
            candidate = entry.next_in_bucket;
        }
        None
    }

    /// The child of `parent`, full or a tail, that shares the most leading tokens, if any does.
    pub fn longest(&self, parent: Option<BlockId>, salt: CacheSalt, tokens: &[u32]) -> Option<PartialMatch> {
        let mut best: Option<PartialMatch> = None;
        for block in self.children(parent, salt) {
            let shared = self.tokens(block).iter().zip(tokens).take_while(|(have, want)| have == want).count();
            if shared > best.map_or(0, |best| best.tokens) {
                best = Some(PartialMatch { block, tokens: shared });
                if shared == tokens.len() {
                    break;
                }
            }
        }
        best
    }

    /// Tails below `parent` that `tokens` continue: they answer nothing that a block with `tokens` would not.
    pub fn covered_tails(&self, parent: Option<BlockId>, salt: CacheSalt, tokens: &[u32]) -> Vec<BlockId> {
        let is_covered = |block: &BlockId| {
            let tail = self.tokens(*block);
            tail.len() < tokens.len() && tail.len() < self.block_tokens && tokens.starts_with(tail)
        };
        self.children(parent, salt).filter(is_covered).collect()
    }

    /// Enters `block` with these tokens, at most a whole block of them, below `parent`. It must not be in the tree.
    pub fn insert(&mut self, block: BlockId, parent: Option<BlockId>, salt: CacheSalt, tokens: &[u32]) {
        assert!(!self.contains(block), "block {block} is in the prefix cache already");
        assert!(!tokens.is_empty() && tokens.len() <= self.block_tokens, "{} tokens for one block", tokens.len());
        let hash = self.hash(parent, salt, tokens);
        let is_full = tokens.len() == self.block_tokens;
        let link = Link::to(block);
        let bucket = self.bucket(hash);
        let next_in_bucket = if is_full { self.buckets[bucket].replace(link) } else { None };
        let next_sibling = match parent {
            Some(parent) => self.entry_mut(parent).first_child.replace(link),
            None => self.roots.insert(salt, link),
        };
        if let Some(next) = next_sibling {
            self.entry_mut(next.block()).previous_sibling = Some(link);
        }
        let at = block as usize * self.block_tokens;
        self.tokens[at..at + tokens.len()].copy_from_slice(tokens);
        self.nodes[block as usize].entry = Some(Entry {
            parent: parent.map(Link::to),
            salt,
            hash,
            len: tokens.len() as u32,
            first_child: None,
            next_sibling,
            previous_sibling: None,
            next_in_bucket,
        });
        self.len += 1;
    }

    /// Takes `block` and everything below it out of the tree. `removed` are all of them afterwards: none if it was not
    /// in it.
    pub fn remove(&mut self, block: BlockId, removed: &mut Vec<BlockId>) {
        removed.clear();
        let Some(entry) = self.nodes[block as usize].entry else { return };
        self.unlink_from_siblings(&entry);
        removed.push(block);
        let mut visited = 0;
        while visited < removed.len() {
            let parent = removed[visited];
            let mut child = self.entry(parent).first_child;
            while let Some(link) = child {
                removed.push(link.block());
                child = self.entry(link.block()).next_sibling;
            }
            visited += 1;
        }
        for block in removed.iter() {
            self.unlink_from_bucket(*block);
            let node = &mut self.nodes[*block as usize];
            node.entry = None;
            node.generation += 1;
        }
        self.len -= removed.len();
    }

    fn children(&self, parent: Option<BlockId>, salt: CacheSalt) -> impl Iterator<Item = BlockId> {
        let first = match parent {
            Some(parent) => self.entry(parent).first_child,
            None => self.roots.get(&salt).copied(),
        };
        self.siblings(first).take(CANDIDATES_MAX)
    }

    fn siblings(&self, first: Option<Link>) -> impl Iterator<Item = BlockId> {
        std::iter::successors(first, |link| self.entry(link.block()).next_sibling).map(Link::block)
    }

    fn unlink_from_siblings(&mut self, entry: &Entry) {
        if let Some(next) = entry.next_sibling {
            self.entry_mut(next.block()).previous_sibling = entry.previous_sibling;
        }
        match (entry.previous_sibling, entry.parent, entry.next_sibling) {
            (Some(previous), _, next) => self.entry_mut(previous.block()).next_sibling = next,
            (None, Some(parent), next) => self.entry_mut(parent.block()).first_child = next,
            (None, None, Some(next)) => _ = self.roots.insert(entry.salt, next),
            (None, None, None) => _ = self.roots.remove(&entry.salt),
        }
    }

    fn unlink_from_bucket(&mut self, block: BlockId) {
        let Entry { hash, len, next_in_bucket, .. } = *self.entry(block);
        if (len as usize) < self.block_tokens {
            return;
        }
        let (link, bucket) = (Link::to(block), self.bucket(hash));
        if self.buckets[bucket] == Some(link) {
            self.buckets[bucket] = next_in_bucket;
            return;
        }
        let mut previous = self.buckets[bucket];
        while let Some(here) = previous {
            previous = self.entry(here.block()).next_in_bucket;
            if previous == Some(link) {
                self.entry_mut(here.block()).next_in_bucket = next_in_bucket;
                return;
            }
        }
        unreachable!("full block {block} is in the tree but not in its bucket");
    }

    fn tokens(&self, block: BlockId) -> &[u32] {
        let at = block as usize * self.block_tokens;
        &self.tokens[at..at + self.entry(block).len as usize]
    }

    fn entry(&self, block: BlockId) -> &Entry {
        self.nodes[block as usize].entry.as_ref().expect("links lead to blocks in the tree")
    }

    fn entry_mut(&mut self, block: BlockId) -> &mut Entry {
        self.nodes[block as usize].entry.as_mut().expect("links lead to blocks in the tree")
    }

    fn hash(&self, parent: Option<BlockId>, salt: CacheSalt, tokens: &[u32]) -> u64 {
        let mut hash = parent.map_or(HASH_START, |parent| self.entry(parent).hash) ^ salt.0;
        for token in tokens {
            let product = u128::from(hash ^ u64::from(*token)) * u128::from(HASH_FACTOR);
            hash = ((product >> 64) as u64 ^ product as u64).wrapping_add(HASH_START);
        }
        hash & self.hash_mask
    }

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// Forces collisions.
    #[cfg(test)]
    pub fn keep_hash_bits(&mut self, bits: u32) {
        self.hash_mask = (1 << bits) - 1;
    }

    /// Salt and all tokens up to the end of a block in the tree.
    #[cfg(test)]
    pub fn path(&self, block: BlockId) -> Option<(CacheSalt, Vec<u32>)> {
        let entry = self.nodes[block as usize].entry.as_ref()?;
        let mut tokens = match entry.parent {
            Some(parent) => self.path(parent.block()).expect("a parent is in the tree").1,
            None => Vec::new(),
        };
        tokens.extend_from_slice(self.tokens(block));
        Some((entry.salt, tokens))
    }

    /// Panics if a link leads nowhere or a count is wrong.
    #[cfg(test)]
    pub fn check(&self) {
        let mut len = 0;
        let mut linked = 0;
        linked += self.roots.values().map(|first| self.siblings(Some(*first)).count()).sum::<usize>();
        for (block, node) in self.nodes.iter().enumerate() {
            let Some(entry) = &node.entry else { continue };
            len += 1;
            linked += self.siblings(entry.first_child).count();
            let is_full = entry.len as usize == self.block_tokens;
            assert!(is_full || entry.first_child.is_none(), "a tail has no children");
            assert!(entry.parent.is_none_or(|parent| self.entry(parent.block()).salt == entry.salt), "salts are apart");
            let first = self.buckets[self.bucket(entry.hash)];
            let mut bucket = std::iter::successors(first, |link| self.entry(link.block()).next_in_bucket);
            assert_eq!(bucket.any(|link| link.block() as usize == block), is_full, "full blocks are found by hash");
        }
        assert_eq!((len, linked), (self.len, self.len), "every block in the tree hangs in one place");
    }
}
