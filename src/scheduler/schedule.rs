//! What the next step computes: a row for everybody who decodes, then prefills of completions, then of chats.

use super::admission::Start;
use super::commit::{Flight, FlightChunk};
use super::sequence::{Phase, Priority, Rank, Sequence, Want};
use super::{BlockCopy, Chunk, Drafter, Input, NoDrafts, Scheduler, SequenceId, Step, StepId};
use std::collections::HashMap;
use std::num::NonZeroUsize;

/// The step in the making. Kept between steps for its allocations.
#[derive(Default)]
pub(super) struct Plan {
    /// Running, with one token to compute.
    pub decodes: Vec<SequenceId>,
    /// What may follow that token, for each of them.
    pub drafts: Vec<Vec<u32>>,
    /// Running, with known tokens to compute.
    prefills: Vec<Prefill>,
    /// Running, with known tokens that no committed step has computed yet.
    pub prefilling: Vec<Priority>,
    /// Copy of the running list to walk while it changes.
    turn: Vec<Priority>,
}

#[derive(Clone, Copy)]
struct Prefill {
    priority: Priority,
    /// Tokens it would compute in this step if it were alone.
    tokens: usize,
}

impl Plan {
    /// Tokens to compute in all, without drafts and before the budget cuts prefills.
    pub fn tokens(&self) -> usize {
        self.decodes.len() + self.demand(Rank::Completion) + self.demand(Rank::Chat)
    }

    fn demand(&self, rank: Rank) -> usize {
        self.prefills.iter().filter(|prefill| prefill.priority.rank == rank).map(|prefill| prefill.tokens).sum()
    }
}

impl Scheduler {
    /// Plans the next step. `None` when nothing can be computed now: nobody wants anything, all that is wanted waits
    /// for a step in flight, or as many steps are in flight as may be.
    pub fn schedule(&mut self, now_us: u64) -> Option<Step> {
        self.schedule_with(now_us, &mut NoDrafts)
    }

    /// As [`Self::schedule`], with drafts behind decode rows where there is room for them.
    pub fn schedule_with(&mut self, now_us: u64, drafter: &mut dyn Drafter) -> Option<Step> {
        if self.in_flight.len() > self.config.depth {
            return None;
        }
        for id in self.ended.drain(..) {
            self.sequences.remove(&id);
        }
        self.promote(now_us);
        let mut plan = std::mem::take(&mut self.plan);
        self.plan_running(&mut plan, now_us);
        self.start_waiting(&mut plan, Rank::Completion, now_us);
        // A completion that starts may have preempted chats; one of them may start again right away.
        plan.decodes.retain(|id| self.sequences[id].is_running());
        plan.prefills.retain(|prefill| self.sequences[&prefill.priority.id].is_running());
        self.start_waiting(&mut plan, Rank::Chat, now_us);
        self.plan_drafts(&mut plan, drafter);
        let step = self.submit(&mut plan);
        self.plan = plan;
        step
    }

    /// Chats that have waited too long become completions, no more at once than chat has slots.
    fn promote(&mut self, now_us: u64) {
        let promoted_max = self.config.chat_slots().max(1);
        while self.num_promoted < promoted_max
            && let Some((due_us, id)) = self.waiting.due_promotion(now_us)
        {
            let sequence = self.sequences.get_mut(&id).expect("a waiting sequence is known");
            self.waiting.remove(sequence);
            sequence.promoted_at_us = Some(due_us);
            self.waiting.insert(sequence);
            self.num_promoted += 1;
            self.totals.promotions += 1;
        }
    }

    /// Who runs already: finds the block that each decode row writes to, and counts prefills.
    fn plan_running(&mut self, plan: &mut Plan, now_us: u64) {
        plan.decodes.clear();
        plan.prefills.clear();
        plan.prefilling.clear();
        plan.turn.clear();
        plan.turn.extend_from_slice(&self.running);
        for priority in plan.turn.iter().copied() {
            let sequence = &self.sequences[&priority.id];
            if !sequence.is_running() {
                continue; // preempted by one before it
            }
            if sequence.is_prefilling() {
                plan.prefilling.push(priority);
            }
            match sequence.want() {
                Want::Nothing => {}
                Want::Prefill(tokens) => {
                    plan.prefills.push(Prefill { priority, tokens: tokens.min(self.config.prefill_chunk_max) });
                }
                Want::Decode => {
                    let has_room = sequence.scheduled < sequence.blocks.len() * self.config.block_tokens;
                    if has_room || self.grow(priority, now_us) {
                        plan.decodes.push(priority.id);
                    }
                }
            }
        }
    }

    /// One more block for a running sequence, preempting those that go after it, the last first. `false`: not in this
    /// step, because blocks come back anyway or it is itself the last.
    fn grow(&mut self, priority: Priority, now_us: u64) -> bool {
        loop {
            if self.num_free_for(priority) > 0 {
                let block = self.blocks.allocate().expect("a block was found free");
                let sequence = self.sequences.get_mut(&priority.id).expect("a running sequence is known");
                sequence.blocks.push(block);
                return true;
            }
            if self.num_leaving_blocks(&mut HashMap::new()) > 0 {
                return false;
            }
            let last = *self.running.last().expect("the sequence that grows is running");
            if last == priority {
                return false;
            }
            self.preempt(last.id, now_us);
        }
    }

    /// Lets waiting sequences of a rank start, in order, as long as the step has tokens left for them.
    fn start_waiting(&mut self, plan: &mut Plan, rank: Rank, now_us: u64) {
        let budget = self.config.step_tokens_max - plan.decodes.len();
        let reserve = match rank {
            Rank::Completion => 0,
            Rank::Chat => self.config.chat_tokens().min(budget),
        };
        let mut demand = plan.demand(rank);
        let before = if rank == Rank::Chat { plan.demand(Rank::Completion) } else { 0 };
        let mut after = None;
        while before + demand < budget || demand < reserve {
            let Some(priority) = self.waiting.next(rank, after) else { break };
            after = Some(priority);
            match self.start(priority, plan, now_us) {
                Start::Held => {}
                Start::NoRoom => break,
                Start::Started(left) => {
                    let tokens = left.min(self.config.prefill_chunk_max);
                    demand += tokens;
                    plan.prefills.push(Prefill { priority, tokens });
                    plan.prefilling.push(priority);
                }
            }
        }
    }

    /// Turns the plan into chunks under the token budget.
    fn submit(&mut self, plan: &mut Plan) -> Option<Step> {
        let mut builder = StepBuilder::default();
        let mut left = self.config.step_tokens_max;
        for (id, draft) in plan.decodes.iter().zip(plan.drafts.drain(..)) {
            left -= 1 + draft.len();
            let sequence = self.sequences.get_mut(id).expect("a running sequence is known");
            builder.push(sequence, 1, draft, self.config.block_tokens);
        }
        // At most half, so that neither class waits for the other: a prefill of each finds at least two tokens left.
        let reserve = plan.demand(Rank::Chat).min(self.config.chat_tokens()).min(left / 2);
        for (rank, kept) in [(Rank::Completion, reserve), (Rank::Chat, 0)] {
            for prefill in plan.prefills.iter().filter(|prefill| prefill.priority.rank == rank) {
                let tokens = prefill.tokens.min(left - kept);
                if tokens == 0 {
                    break;
                }
                left -= tokens;
                let sequence = self.sequences.get_mut(&prefill.priority.id).expect("a running sequence is known");
                builder.push(sequence, tokens, Vec::new(), self.config.block_tokens);
            }
        }
        if builder.chunks.is_empty() {
            return None;
        }
        let id = StepId(self.next_step);
        self.next_step += 1;
        let pins = builder.copies.iter().map(|copy| copy.from).collect();
        self.in_flight.push_back(Flight { id, chunks: builder.flights, pins });
        Some(Step { id, copies: builder.copies, chunks: builder.chunks })
    }
}

#[derive(Default)]
struct StepBuilder {
    copies: Vec<BlockCopy>,
    chunks: Vec<Chunk>,
    flights: Vec<FlightChunk>,
}

impl StepBuilder {
    /// The next `tokens` tokens of a sequence and a draft behind the newest, whose blocks are there.
    fn push(&mut self, sequence: &mut Sequence, tokens: usize, draft: Vec<u32>, block_tokens: usize) {
        assert_eq!(sequence.phase, Phase::Running, "only running sequences are computed");
        let start = sequence.scheduled;
        let (known, known_end) = (sequence.tokens.len(), start + tokens);
        assert!(draft.is_empty() || known_end == known, "a draft follows the newest token");
        let input = if known_end <= known {
            let mut ids = Vec::with_capacity(tokens + draft.len());
            ids.extend_from_slice(&sequence.tokens[start..known_end]);
            ids.extend_from_slice(&draft);
            Input::Known(ids)
        } else {
            assert!(tokens == 1 && sequence.pending > 0, "only a sampled token is computed before it is known");
            Input::PreviousSample
        };
        let sampled_rows = if known_end >= known { 1 + draft.len() } else { 0 };
        let end = known_end + draft.len();
        self.copies.extend(sequence.copy.take());
        self.chunks.push(Chunk {
            sequence: sequence.id,
            slot: sequence.slot.expect("a running sequence has a slot"),
            enters_slot: !sequence.has_entered,
            start,
            tokens: NonZeroUsize::new(end - start).expect("a chunk has at least one token"),
            input,
            sampled_rows,
            block_table: sequence.blocks[..end.div_ceil(block_tokens)].to_vec(),
        });
        self.flights.push(FlightChunk { sequence: sequence.id, end: known_end, sampled_rows, draft });
        sequence.has_entered = true;
        sequence.scheduled = end;
        sequence.pending += sampled_rows;
        sequence.in_flight += 1;
    }
}
