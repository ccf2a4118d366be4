//! A device that failed for good: everything it held is forgotten, and the next one starts from nothing.

use super::block_manager::BlockManager;
use super::prefix_cache::Chain;
use super::sequence::{Phase, Sequence};
use super::{Scheduler, SequenceId, SlotIndex};

impl Scheduler {
    /// The content of every block and slot is lost, and no step in flight will ever be collected. Whoever holds blocks
    /// ends; who waits for a place, preempted or not yet started, keeps it and is computed from its first token.
    /// Afterwards all blocks and slots are free and nothing is matchable. Counts go on. Answers with the sequences
    /// that ended and were still wanted.
    pub fn reset(&mut self) -> Vec<SequenceId> {
        self.in_flight.clear();
        self.blocks = BlockManager::new(self.config.num_blocks, self.config.block_tokens);
        self.slots = all_slots(self.config.running_max);
        let held = self.sequences.values_mut().filter(|sequence| sequence.phase != Phase::Waiting);
        let mut held: Vec<SequenceId> = held.map(Sequence::lose_device).collect();
        held.sort_unstable();
        held.retain(|id| self.contains(*id));
        for id in &held {
            self.end(*id);
        }
        // Those that had ended before, with steps in flight that it was waiting for.
        for id in std::mem::take(&mut self.leaving) {
            self.settle(id);
        }
        held
    }
}

/// The free slots of an idle device: the first is given out first.
pub(super) fn all_slots(running_max: usize) -> Vec<SlotIndex> {
    (0..running_max as SlotIndex).rev().collect()
}

impl Sequence {
    /// Forgets what it holds without giving it back. Answers with its id.
    fn lose_device(&mut self) -> SequenceId {
        self.blocks.clear();
        self.slot = None;
        self.copy = None;
        self.scheduled = 0;
        self.computed = 0;
        self.pending = 0;
        self.in_flight = 0;
        self.chain = Chain::default();
        self.id
    }
}
