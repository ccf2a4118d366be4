//! Drafts: guesses at what a decoding sequence says next, verified in the same step as the token they follow.
//!
//! The scheduler decides how much room a draft may have; who guesses, and whether that pays, is its caller's business.
//! Drafts only take what nobody else wants in this step: tokens that planned rows leave, blocks that are free while
//! nobody waits. They need the tokens of the step before, so that a device that runs ahead of the host gets none.

use super::schedule::Plan;
use super::sequence::Sequence;
use super::{Scheduler, SequenceId};

/// Guesses tokens. A wrong guess costs its row and nothing else.
pub trait Drafter {
    /// Tokens that all drafts of one step may have together.
    fn step_drafts_max(&self) -> usize;

    /// At most `request.tokens_max` tokens; none where no guess is worth its rows.
    fn draft(&mut self, request: DraftRequest<'_>) -> Vec<u32>;
}

/// A sequence that decodes in the step being planned.
#[derive(Clone, Copy)]
pub struct DraftRequest<'a> {
    pub sequence: SequenceId,
    /// Prompt and output; the draft goes on from here.
    pub tokens: &'a [u32],
    /// At least 1.
    pub tokens_max: usize,
    /// Sequences that decode in this step.
    pub step_decodes: usize,
    /// Tokens that this step computes already, drafts of sequences before this one among them.
    pub step_tokens: usize,
}

/// Guesses nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoDrafts;

impl Drafter for NoDrafts {
    fn step_drafts_max(&self) -> usize {
        0
    }

    fn draft(&mut self, _: DraftRequest<'_>) -> Vec<u32> {
        Vec::new()
    }
}

impl Scheduler {
    /// Asks for a draft behind each decode row of the plan, and finds the blocks that it writes to.
    pub(super) fn plan_drafts(&mut self, plan: &mut Plan, drafter: &mut dyn Drafter) {
        plan.drafts.clear();
        plan.drafts.resize_with(plan.decodes.len(), Vec::new);
        let mut step_tokens = plan.tokens();
        let left = self.config.step_tokens_max.saturating_sub(step_tokens);
        let mut left = left.min(drafter.step_drafts_max());
        if self.config.depth > 0 || left == 0 {
            return;
        }
        for (id, draft) in plan.decodes.iter().zip(&mut plan.drafts) {
            let sequence = &self.sequences[id];
            let tokens_max = left.min(self.draft_room(sequence));
            if tokens_max == 0 {
                continue;
            }
            let (tokens, step_decodes) = (&sequence.tokens, plan.decodes.len());
            *draft = drafter.draft(DraftRequest { sequence: *id, tokens, tokens_max, step_decodes, step_tokens });
            assert!(draft.len() <= tokens_max, "a draft keeps to its room");
            left -= draft.len();
            step_tokens += draft.len();
            let needed = self.config.blocks_for(sequence.scheduled + 1 + draft.len());
            let sequence = self.sequences.get_mut(id).expect("a running sequence is known");
            while sequence.blocks.len() < needed {
                sequence.blocks.push(self.blocks.allocate().expect("the room for drafts was free"));
            }
        }
    }

    /// Positions that a draft may fill: no more than the sequence may still say besides the token that is sampled in
    /// any case, and no block that somebody could miss. Each running sequence keeps one to grow into.
    fn draft_room(&self, sequence: &Sequence) -> usize {
        let wanted = sequence.max_tokens - sequence.output_len() - 1;
        let spare =
            if self.waiting.len() > 0 { 0 } else { self.blocks.num_free_ordinary().saturating_sub(self.running.len()) };
        let positions = (sequence.blocks.len() + spare) * self.config.block_tokens;
        wanted.min(positions - sequence.scheduled - 1)
    }
}
