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
use super::sequence::NumberHasher;
use crate::domain::CacheSalt;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

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
    generation: u64,
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

struct Node {
    /// `None`: the block is not in the tree.
    entry: Option<Entry>,
    /// Counts the entries that have lived here.
    generation: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    parent: Option<BlockId>,
    salt: CacheSalt,
    hash: u64,
    /// Matchable positions; less than a whole block for a tail, which has no children and no place in `buckets`.
    len: usize,
    first_child: Option<BlockId>,
    next_sibling: Option<BlockId>,
    previous_sibling: Option<BlockId>,
    next_in_bucket: Option<BlockId>,
}

pub(super) struct PrefixCache {
    block_tokens: usize,
    nodes: Vec<Node>,
    /// `[num_blocks * block_tokens]`, by block.
    tokens: Vec<u32>,
    roots: HashMap<CacheSalt, BlockId>,
    buckets: HashMap<u64, BlockId, BuildHasherDefault<NumberHasher>>,
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
            buckets: HashMap::default(),
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

    /// The blocks from the first one down to `block`.
    pub fn path_to(&self, block: BlockId) -> Vec<NodeRef> {
        let upwards = std::iter::successors(Some(block), |block| self.entry(*block).parent);
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
        let mut candidate = self.buckets.get(&hash).copied();
        for _ in 0..CANDIDATES_MAX {
            let block = candidate?;
            let entry = self.entry(block);
            if entry.parent == parent && entry.salt == salt && self.tokens(block) == tokens {
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
        let next_in_bucket = if is_full { self.buckets.insert(hash, block) } else { None };
        let next_sibling = match parent {
            Some(parent) => self.entry_mut(parent).first_child.replace(block),
            None => self.roots.insert(salt, block),
        };
        if let Some(next) = next_sibling {
            self.entry_mut(next).previous_sibling = Some(block);
        }
        let at = block as usize * self.block_tokens;
        self.tokens[at..at + tokens.len()].copy_from_slice(tokens);
        self.nodes[block as usize].entry = Some(Entry {
            parent,
            salt,
            hash,
            len: tokens.len(),
            first_child: None,
            next_sibling,
            previous_sibling: None,
            next_in_bucket,
        });
        self.len += 1;
    }

    /// Takes `block` and everything below it out of the tree; answers with all of them. Nothing if it was not in it.
    pub fn remove(&mut self, block: BlockId) -> Vec<BlockId> {
        let Some(entry) = self.nodes[block as usize].entry else { return Vec::new() };
        self.unlink_from_siblings(&entry);
        let mut removed = vec![block];
        let mut visited = 0;
        while visited < removed.len() {
            let parent = removed[visited];
            let mut child = self.entry(parent).first_child;
            while let Some(block) = child {
                removed.push(block);
                child = self.entry(block).next_sibling;
            }
            visited += 1;
        }
        for block in &removed {
            self.unlink_from_bucket(*block);
            let node = &mut self.nodes[*block as usize];
            node.entry = None;
            node.generation += 1;
        }
        self.len -= removed.len();
        removed
    }

    fn children(&self, parent: Option<BlockId>, salt: CacheSalt) -> impl Iterator<Item = BlockId> {
        let first = match parent {
            Some(parent) => self.entry(parent).first_child,
            None => self.roots.get(&salt).copied(),
        };
        std::iter::successors(first, |block| self.entry(*block).next_sibling).take(CANDIDATES_MAX)
    }

    fn unlink_from_siblings(&mut self, entry: &Entry) {
        if let Some(next) = entry.next_sibling {
            self.entry_mut(next).previous_sibling = entry.previous_sibling;
        }
        match (entry.previous_sibling, entry.parent, entry.next_sibling) {
            (Some(previous), _, next) => self.entry_mut(previous).next_sibling = next,
            (None, Some(parent), next) => self.entry_mut(parent).first_child = next,
            (None, None, Some(next)) => _ = self.roots.insert(entry.salt, next),
            (None, None, None) => _ = self.roots.remove(&entry.salt),
        }
    }

    fn unlink_from_bucket(&mut self, block: BlockId) {
        let Entry { hash, len, next_in_bucket, .. } = *self.entry(block);
        if len < self.block_tokens {
            return;
        }
        let first = self.buckets[&hash];
        if first == block {
            match next_in_bucket {
                Some(next) => _ = self.buckets.insert(hash, next),
                None => _ = self.buckets.remove(&hash),
            }
            return;
        }
        let mut previous = first;
        while let Some(next) = self.entry(previous).next_in_bucket {
            if next == block {
                self.entry_mut(previous).next_in_bucket = next_in_bucket;
                return;
            }
            previous = next;
        }
        unreachable!("full block {block} is in the tree but not in its bucket");
    }

    fn tokens(&self, block: BlockId) -> &[u32] {
        let at = block as usize * self.block_tokens;
        &self.tokens[at..at + self.entry(block).len]
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
            Some(parent) => self.path(parent).expect("a parent is in the tree").1,
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
        let siblings = |first| std::iter::successors(first, |block: &BlockId| self.entry(*block).next_sibling);
        linked += self.roots.values().map(|first| siblings(Some(*first)).count()).sum::<usize>();
        for (block, node) in self.nodes.iter().enumerate() {
            let Some(entry) = &node.entry else { continue };
            len += 1;
            linked += siblings(entry.first_child).count();
            let is_full = entry.len == self.block_tokens;
            assert!(is_full || entry.first_child.is_none(), "a tail has no children");
            assert!(entry.parent.is_none_or(|parent| self.entry(parent).salt == entry.salt), "salts are apart");
            let mut bucket = std::iter::successors(self.buckets.get(&entry.hash).copied(), |block| {
                self.entry(*block).next_in_bucket
            });
            assert_eq!(bucket.any(|other| other as usize == block), is_full, "full blocks are found by hash");
        }
        assert_eq!((len, linked), (self.len, self.len), "every block in the tree hangs in one place");
    }
}
