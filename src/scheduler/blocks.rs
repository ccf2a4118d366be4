//! All blocks, and the free ones in the order in which they are given out: those without content, then ordinary ones,
//! then retained ones, within each by what they are worth.
//!
//! What a block is worth is when it came free, moved by what it has saved, and blocks come free one after the other. So
//! those that have saved equally much are piles that only ever grow at their end, and the block that is worth least is
//! the first of a pile: nothing is searched for either. What comes late, because nobody retains it any more, has piles
//! of its own, since such blocks often come in their order too; those that belong between others go on a heap.

use super::BlockId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// More savings than these say nothing new.
const SAVINGS_MAX: u64 = 8;

/// Of each rank: for each number of savings one, and one for those that come late.
const PILES: usize = 2 * (SAVINGS_MAX as usize + 1);

/// What a block or a context is worth, on a clock that counts blocks as they come free: its last use, moved into the
/// future by an eighth of the cache's turnover for each time that it has saved all its tokens, up to a whole one.
pub(super) fn worth(used_at: u64, savings: u64, num_blocks: usize) -> u64 {
    used_at + savings.min(SAVINGS_MAX) * num_blocks as u64 / SAVINGS_MAX
}

/// In which order free blocks are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Nothing is found in it.
    Empty,
    Ordinary,
    Retained,
}

/// Of each block its place, and `T` that its owner knows of it: both are read together, so they lie in one cache line.
pub(super) struct Blocks<T> {
    blocks: Vec<Block<T>>,
    /// By [`Rank`].
    ranks: [Ranked; 3],
    num_free: usize,
}

/// Free blocks of one rank. What the ends of its piles are worth is compared without a look at any block.
struct Ranked {
    rank: Rank,
    piles: [Ends; PILES],
    /// `u64::MAX` for a pile without blocks.
    first_worths: [u64; PILES],
    /// 0 for a pile without blocks.
    last_worths: [u64; PILES],
    /// By worth, least first; those that fit behind none of their piles. Who has left stays in it until it is the first.
    others: BinaryHeap<Reverse<(u64, BlockId)>>,
    len: usize,
}

/// The ends of a pile.
#[derive(Clone, Copy, Default)]
struct Ends {
    first: BlockId,
    last: BlockId,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block<T> {
    link: Link,
    known: T,
}

#[derive(Clone, Copy)]
struct Link {
    previous: Option<BlockId>,
    next: Option<BlockId>,
    worth: u64,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not free.
    Nowhere,
    Pile(Rank, u8),
    Others(Rank),
}

impl<T: Clone + Default> Blocks<T> {
    /// No block of `num_blocks` is free.
    pub fn new(num_blocks: usize) -> Self {
        let link = Link { previous: None, next: None, worth: 0, place: Place::Nowhere };
        let blocks = (0..num_blocks).map(|_| Block { link, known: T::default() }).collect();
        let ranks = [Rank::Empty, Rank::Ordinary, Rank::Retained].map(Ranked::new);
        Self { blocks, ranks, num_free: 0 }
    }
}

impl<T> Blocks<T> {
    pub fn num_free(&self) -> usize {
        self.num_free
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    pub fn num_free_of(&self, rank: Rank) -> usize {
        self.ranks[rank as usize].len
    }

    /// What is known of a block, free or not.
    pub fn of(&self, block: BlockId) -> &T {
        &self.blocks[block as usize].known
    }

    pub fn of_mut(&mut self, block: BlockId) -> &mut T {
        &mut self.blocks[block as usize].known
    }

    /// Of a free block.
    pub fn rank(&self, block: BlockId) -> Option<Rank> {
        match self.link(block).place {
            Place::Nowhere => None,
            Place::Pile(rank, _) | Place::Others(rank) => Some(rank),
        }
    }

    /// The one that is given out next.
    pub fn first_free(&self) -> Option<BlockId> {
        self.ranks.iter().find(|ranked| ranked.len > 0).map(Ranked::first)
    }

    /// A block that came free at `used_at`, which says nothing of an empty one.
    pub fn enter_free(&mut self, block: BlockId, rank: Rank, used_at: u64, savings: u64) {
        assert!(self.rank(block).is_none(), "block {block} is free already");
        let savings = savings.min(SAVINGS_MAX);
        let worth = if rank == Rank::Empty { 0 } else { worth(used_at, savings, self.blocks.len()) };
        let ranked = &mut self.ranks[rank as usize];
        ranked.len += 1;
        self.num_free += 1;
        let (previous, place) = match ranked.pile_for(savings, worth) {
            Some(index) => (ranked.push(index, block, worth), Place::Pile(rank, index as u8)),
            None => {
                ranked.others.push(Reverse((worth, block)));
                (None, Place::Others(rank))
            }
        };
        *self.link_mut(block) = Link { previous, next: None, worth, place };
        if let Some(previous) = previous {
            self.link_mut(previous).next = Some(block);
        }
    }

    pub fn leave_free(&mut self, block: BlockId) {
        let Link { previous, next, place, .. } = *self.link(block);
        self.link_mut(block).place = Place::Nowhere;
        let (rank, pile) = match place {
            Place::Nowhere => panic!("block {block} is not free"),
            Place::Pile(rank, index) => (rank as usize, Some(index as usize)),
            Place::Others(rank) => (rank as usize, None),
        };
        self.ranks[rank].len -= 1;
        self.num_free -= 1;
        let Some(index) = pile else {
            self.clear_others(rank);
            return;
        };
        if let Some(previous) = previous {
            self.link_mut(previous).next = next;
        } else {
            let first_worth = next.map_or(u64::MAX, |next| self.link(next).worth);
            self.ranks[rank].piles[index].first = next.unwrap_or_default();
            self.ranks[rank].first_worths[index] = first_worth;
        }
        if let Some(next) = next {
            self.link_mut(next).previous = previous;
        } else {
            let last_worth = previous.map_or(0, |previous| self.link(previous).worth);
            self.ranks[rank].piles[index].last = previous.unwrap_or_default();
            self.ranks[rank].last_worths[index] = last_worth;
        }
    }

    /// Takes those who have left off the top of the others, and all of them out where they are most of it.
    fn clear_others(&mut self, rank: usize) {
        let ranked = &mut self.ranks[rank];
        let is_there = |worth: u64, block: BlockId| {
            let link = &self.blocks[block as usize].link;
            link.place == Place::Others(ranked.rank) && link.worth == worth
        };
        while let Some(Reverse((worth, block))) = ranked.others.peek()
            && !is_there(*worth, *block)
        {
            ranked.others.pop();
        }
        if ranked.others.len() > 2 * ranked.len + 64 {
            ranked.others.retain(|Reverse((worth, block))| is_there(*worth, *block));
        }
    }

    fn link(&self, block: BlockId) -> &Link {
        &self.blocks[block as usize].link
    }

    fn link_mut(&mut self, block: BlockId) -> &mut Link {
        &mut self.blocks[block as usize].link
    }
}

impl Ranked {
    const fn new(rank: Rank) -> Self {
        Self {
            rank,
            piles: [Ends { first: 0, last: 0 }; PILES],
            first_worths: [u64::MAX; PILES],
            last_worths: [0; PILES],
            others: BinaryHeap::new(),
            len: 0,
        }
    }

    /// Of at least one block.
    fn first(&self) -> BlockId {
        let mut least = 0;
        for index in 1..PILES {
            if self.first_worths[index] < self.first_worths[least] {
                least = index;
            }
        }
        match self.others.peek() {
            Some(Reverse((worth, block))) if *worth < self.first_worths[least] => *block,
            Some(_) | None => self.piles[least].first,
        }
    }

    /// The pile of so many savings, or else the one for those that come late, if what is last there is worth no more.
    fn pile_for(&self, savings: u64, worth: u64) -> Option<usize> {
        let index = 2 * savings as usize;
        [index, index + 1].into_iter().find(|index| self.last_worths[*index] <= worth)
    }

    /// Answers with the block that was the last until now.
    fn push(&mut self, index: usize, block: BlockId, worth: u64) -> Option<BlockId> {
        let is_empty = self.first_worths[index] == u64::MAX;
        if is_empty {
            self.piles[index].first = block;
            self.first_worths[index] = worth;
        }
        self.last_worths[index] = worth;
        let last = std::mem::replace(&mut self.piles[index].last, block);
        (!is_empty).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Random;
    use super::*;
    use std::collections::BTreeSet;

    const RANKS: [Rank; 3] = [Rank::Empty, Rank::Ordinary, Rank::Retained];

    /// Whatever comes and goes, the block that is worth least is the first, as if all were sorted anew each time.
    #[test]
    fn the_block_that_is_worth_least_is_always_the_first() {
        const BLOCKS: usize = 60;
        let mut between = 0;
        for seed in 0..20 {
            let mut random = Random(seed);
            let mut blocks: Blocks<()> = Blocks::new(BLOCKS);
            let mut sorted: BTreeSet<(Rank, u64, BlockId)> = BTreeSet::new();
            for now in 0..2_000 {
                let block = random.below(BLOCKS) as BlockId;
                if let Some(known) = sorted.iter().find(|(_, _, known)| *known == block).copied() {
                    blocks.leave_free(block);
                    sorted.remove(&known);
                } else {
                    let rank = RANKS[random.below(3)];
                    // Mostly now, sometimes long ago.
                    let used_at = if random.one_in(5) { random.below(now + 1) as u64 } else { now as u64 };
                    let savings = random.below(12) as u64;
                    blocks.enter_free(block, rank, used_at, savings);
                    let worth = if rank == Rank::Empty { 0 } else { worth(used_at, savings, BLOCKS) };
                    sorted.insert((rank, worth, block));
                }
                between += blocks.ranks.iter().map(|ranked| ranked.others.len()).sum::<usize>();
                for rank in RANKS {
                    // Of those that are worth the same any may be the first.
                    let ranked = &blocks.ranks[rank as usize];
                    let first = (ranked.len > 0).then(|| blocks.link(ranked.first()).worth);
                    let mut of_rank = sorted.iter().filter(|(other, _, _)| *other == rank);
                    assert_eq!(blocks.num_free_of(rank), of_rank.clone().count());
                    assert_eq!(first, of_rank.next().map(|(_, worth, _)| *worth));
                }
                let first = blocks.first_free().and_then(|block| blocks.rank(block));
                assert_eq!(first, sorted.first().map(|(rank, _, _)| *rank));
                assert_eq!(blocks.num_free(), sorted.len());
                assert_eq!(blocks.rank(block).is_some(), sorted.iter().any(|(_, _, known)| *known == block));
            }
        }
        assert!(between > 1_000, "hardly anything belonged between others: {between}");
    }
}
