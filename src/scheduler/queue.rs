//! Sequences that wait, in the order in which they may start, and the moments at which waiting chats are promoted.

use super::SequenceId;
use super::sequence::{Priority, Rank, Sequence};
use std::collections::BTreeSet;
use std::ops::Bound;

#[derive(Default)]
pub(super) struct WaitingQueue {
    order: BTreeSet<Priority>,
    /// Chats not yet promoted, by the moment at which they have waited long enough.
    promotions: BTreeSet<(u64, SequenceId)>,
    promote_after_us: u64,
}

impl WaitingQueue {
    pub fn new(promote_after_us: u64) -> Self {
        Self { promote_after_us, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn insert(&mut self, sequence: &Sequence) {
        let priority = sequence.priority();
        self.order.insert(priority);
        if priority.rank == Rank::Chat {
            self.promotions.insert((self.promote_at_us(sequence), sequence.id));
        }
    }

    pub fn remove(&mut self, sequence: &Sequence) {
        let priority = sequence.priority();
        self.order.remove(&priority);
        if priority.rank == Rank::Chat {
            self.promotions.remove(&(self.promote_at_us(sequence), sequence.id));
        }
    }

    /// The chat that has waited longest beyond its time, and since when.
    pub fn due_promotion(&self, now_us: u64) -> Option<(u64, SequenceId)> {
        self.promotions.first().copied().filter(|(promote_at_us, _)| *promote_at_us <= now_us)
    }

    /// The first of a rank, or the next one behind `after`.
    pub fn next(&self, rank: Rank, after: Option<Priority>) -> Option<Priority> {
        let first = Priority { rank, deadline_us: 0, id: SequenceId(0) };
        let from = after.map_or(Bound::Included(first), Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).next().copied().filter(|priority| priority.rank == rank)
    }

    fn promote_at_us(&self, sequence: &Sequence) -> u64 {
        let left_us = self.promote_after_us.saturating_sub(sequence.waited_us);
        sequence.waiting_since_us.saturating_add(left_us)
    }
}
