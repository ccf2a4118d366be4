//! What holds between any two calls, recounted from nothing.

use super::sequence::Phase;
use super::{BlockId, Scheduler, Step};
use crate::domain::Class;
use std::collections::HashSet;

impl Scheduler {
    /// Panics if the books do not agree with each other.
    pub(super) fn check(&self) {
        self.check_references();
        self.check_places();
        self.blocks.check();
    }

    fn check_references(&self) {
        let mut references = vec![0; self.config.num_blocks];
        let copies = self.sequences.values().filter_map(|sequence| sequence.copy.map(|copy| copy.from));
        let pins = self.in_flight.iter().flat_map(|flight| flight.pins.iter().copied());
        let tables = self.sequences.values().flat_map(|sequence| sequence.blocks.iter().copied());
        for block in tables.chain(copies).chain(pins) {
            references[block as usize] += 1;
        }
        assert_eq!(references, self.blocks.references(), "blocks are conserved");
    }

    fn check_places(&self) {
        let mut slots: Vec<_> = self.sequences.values().filter_map(|sequence| sequence.slot).collect();
        slots.extend(&self.slots);
        slots.sort_unstable();
        assert!(slots.into_iter().eq(0..self.config.running_max as u32), "every slot is free or held once");
        assert!(self.running.is_sorted(), "the running list is sorted");
        assert_eq!(self.deadlines.len(), self.sequences.values().filter(|sequence| sequence.is_live()).count());
        let (mut num_promoted, mut num_completions) = (0, 0);
        for sequence in self.sequences.values() {
            let in_flight = self.in_flight.iter().flat_map(|flight| &flight.chunks);
            assert_eq!(sequence.in_flight, in_flight.filter(|chunk| chunk.sequence == sequence.id).count());
            num_promoted += usize::from(sequence.is_live() && sequence.promoted_at_us.is_some());
            num_completions += usize::from(sequence.is_live() && sequence.class == Class::Completion);
            let is_listed = self.running.binary_search(&sequence.priority()).is_ok();
            assert_eq!(is_listed, sequence.phase == Phase::Running);
            let is_leaving = matches!(sequence.phase, Phase::Draining | Phase::Ended) && sequence.in_flight > 0;
            assert_eq!(self.leaving.contains(&sequence.id), is_leaving);
            assert!(sequence.computed <= sequence.tokens.len() && sequence.computed <= sequence.scheduled);
            assert!(sequence.phase != Phase::Waiting || sequence.blocks.is_empty() && sequence.slot.is_none());
        }
        assert_eq!((self.num_promoted, self.num_completions), (num_promoted, num_completions));
    }

    /// Panics if a step just scheduled breaks a limit, or writes where somebody else reads or may look up.
    pub(super) fn check_step(&self, step: &Step) {
        let block_tokens = self.config.block_tokens;
        let tokens: usize = step.chunks.iter().map(|chunk| chunk.tokens.get()).sum();
        assert!(!step.chunks.is_empty() && tokens <= self.config.step_tokens_max, "the token budget is kept");
        let slots: HashSet<_> = step.chunks.iter().map(|chunk| chunk.slot).collect();
        assert_eq!(slots.len(), step.chunks.len(), "one chunk per slot");
        let mut written: HashSet<(BlockId, usize)> = HashSet::new();
        for copy in &step.copies {
            assert!(copy.tokens <= block_tokens && copy.from != copy.to);
            assert!(copy.tokens <= self.blocks.matchable(copy.from), "only committed positions are copied");
            for offset in 0..copy.tokens {
                assert!(written.insert((copy.to, offset)), "a position is written once");
            }
        }
        for chunk in &step.chunks {
            let end = chunk.start + chunk.tokens.get();
            let drafts = chunk.sampled_rows.saturating_sub(1);
            assert!(chunk.tokens.get() - drafts <= self.config.prefill_chunk_max && end <= self.config.context_tokens);
            let sequence = &self.sequences[&chunk.sequence];
            assert!(sequence.output_len() + sequence.pending <= sequence.max_tokens, "nothing is guessed past the end");
            assert_eq!(chunk.block_table.len(), end.div_ceil(block_tokens), "the block table covers the chunk");
            for position in chunk.start..end {
                let block = chunk.block_table[position / block_tokens];
                assert!(written.insert((block, position % block_tokens)), "a position is written once");
            }
        }
        for (block, offset) in written {
            assert!(offset >= self.blocks.matchable(block), "a matchable position is not written");
            let holders = self.sequences.values().filter(|sequence| sequence.blocks.contains(&block)).count();
            assert_eq!(holders, 1, "a shared block is not written");
        }
    }
}
