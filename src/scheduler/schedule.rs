//! What the next step computes: a row for everybody who decodes, then prefills of completions, then of chats.

use super::admission::Start;
use super::commit::{Flight, FlightChunk};
use super::pace::{Company, Terms};
use super::sequence::{Phase, Priority, Rank, Sequence, Want};
use super::step_times::Work;
use super::{BlockCopy, Chunk, Drafter, Input, NoDrafts, Scheduler, SequenceId, Step, StepId};
use crate::domain::Class;
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
    /// Prompt tokens of chats, promoted or not, that the step has time for.
    pub chat_tokens_max: usize,
    /// Running, with known tokens that no committed step has computed yet.
    pub prefilling: Vec<Priority>,
    /// Copy of the running list to walk while it changes.
    turn: Vec<Priority>,
}

#[derive(Clone, Copy)]
struct Prefill {
    priority: Priority,
    is_chat: bool,
    /// Tokens it would compute in this step if it were alone.
    tokens: usize,
}

impl Plan {
    /// Tokens to compute in all, without drafts and before the budget cuts prefills.
    pub fn tokens(&self) -> usize {
        self.decodes.len() + self.demand_of(false) + self.demand_of(true).min(self.chat_tokens_max)
    }

    /// Of chats, promoted or not, or of completions.
    fn demand_of(&self, is_chat: bool) -> usize {
        self.prefills.iter().filter(|prefill| prefill.is_chat == is_chat).map(|prefill| prefill.tokens).sum()
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
        let company = self.pace.look_around(self.num_completions, now_us);
        plan.chat_tokens_max = self.chat_tokens_in_time(&plan, company);
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
                    let tokens = tokens.min(self.config.prefill_chunk_max);
                    plan.prefills.push(Prefill { priority, is_chat: sequence.class == Class::Chat, tokens });
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
        let chats_reserve = self.config.chat_tokens().min(budget);
        let (mut completions_demand, mut chats_demand) = (plan.demand_of(false), plan.demand_of(true));
        let mut after = None;
        while let Some(priority) = self.waiting.next(rank, after) {
            after = Some(priority);
            let is_chat = self.sequences[&priority.id].class == Class::Chat;
            // What promoted chats ask for keeps no completion from starting: they may wait for time.
            let has_tokens = if is_chat {
                completions_demand + chats_demand < budget || chats_demand < chats_reserve
            } else {
                completions_demand < budget
            };
            if !has_tokens && is_chat && rank == Rank::Completion {
                continue;
            }
            if !has_tokens {
                break;
            }
            match self.start(priority, plan, now_us) {
                Start::Held => {}
                Start::NoRoom => break,
                Start::Started(left) => {
                    let tokens = left.min(self.config.prefill_chunk_max);
                    let demand = if is_chat { &mut chats_demand } else { &mut completions_demand };
                    *demand += tokens;
                    plan.prefills.push(Prefill { priority, is_chat, tokens });
                    plan.prefilling.push(priority);
                }
            }
        }
    }

    /// Prompt tokens of chats that the step may have beside what it computes for others, so that nobody waits long for it.
    /// At least one, so that every chat goes on.
    fn chat_tokens_in_time(&mut self, plan: &Plan, company: Company) -> usize {
        let has_chats = plan.prefills.iter().any(|prefill| prefill.is_chat);
        if company == Company::Nobody || !has_chats || !self.pace.times.is_known() {
            return usize::MAX;
        }
        let start = |id: &SequenceId| self.sequences[id].scheduled;
        let mut own = Work::default();
        for id in &plan.decodes {
            own.add_decode(start(id), 1);
        }
        let mut left = self.config.step_tokens_max - plan.decodes.len();
        for prefill in plan.prefills.iter().filter(|prefill| !prefill.is_chat) {
            let tokens = prefill.tokens.min(left);
            left -= tokens;
            own.add_prefill(start(&prefill.priority.id), tokens);
        }
        let terms = Terms { chat_share: self.config.chat_share.into(), steps_waited: self.config.depth + 1 };
        let Some(mut left_us) = self.pace.chat_us(company, own, terms) else { return usize::MAX };
        let times = &mut self.pace.times;
        // What is far larger than anything measured is not believed to be fast.
        let mut left = times.prefill_tokens_max().max(self.config.block_tokens);
        let mut room = 0;
        for prefill in plan.prefills.iter().filter(|prefill| prefill.is_chat) {
            let start = start(&prefill.priority.id);
            let asked = prefill.tokens.min(left);
            let tokens = times.prefill_in(start, asked, left_us);
            room += tokens;
            if tokens < asked || tokens == left {
                break;
            }
            left -= tokens;
            left_us -= times.prefill_us(start, tokens);
        }
        room.max(1)
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
        let reserve = plan.demand(Rank::Chat).min(self.config.chat_tokens()).min(left / 2).min(plan.chat_tokens_max);
        let mut chat_left = plan.chat_tokens_max;
        for (rank, kept) in [(Rank::Completion, reserve), (Rank::Chat, 0)] {
            for prefill in plan.prefills.iter().filter(|prefill| prefill.priority.rank == rank) {
                let in_time = if prefill.is_chat { chat_left } else { usize::MAX };
                let tokens = prefill.tokens.min(left - kept).min(in_time);
                if tokens == 0 {
                    continue;
                }
                left -= tokens;
                chat_left -= if prefill.is_chat { tokens } else { 0 };
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
        let StepBuilder { flights: chunks, work, chats_work, .. } = builder;
        let has_completion = self.num_completions > 0;
        self.in_flight.push_back(Flight { id, chunks, work, chats_work, has_completion, pins });
        Some(Step { id, copies: builder.copies, chunks: builder.chunks })
    }
}

#[derive(Default)]
struct StepBuilder {
    copies: Vec<BlockCopy>,
    chunks: Vec<Chunk>,
    flights: Vec<FlightChunk>,
    work: Work,
    /// What of it chats' prompts are.
    chats_work: Work,
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
        if sampled_rows == end - start {
            self.work.add_decode(start, sampled_rows);
        } else {
            self.work.add_prefill(start, tokens);
            if sequence.class == Class::Chat {
                self.chats_work.add_prefill(start, tokens);
            }
        }
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
