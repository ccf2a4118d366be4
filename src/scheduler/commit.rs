//! What a computed step means: positions become matchable, tokens are appended or dropped, blocks and slots come back.

use super::block_manager::{Computed, Tail};
use super::sequence::{Phase, Sequence};
use super::step_times::Work;
use super::{BlockId, Outcome, Sampled, Scheduler, SequenceId, StepId};
use crate::domain::{Class, FinishReason};

/// A step that was submitted and not yet collected.
pub(super) struct Flight {
    pub id: StepId,
    pub chunks: Vec<FlightChunk>,
    pub work: Work,
    /// What of it chats' prompts are.
    pub chats_work: Work,
    /// A completion waited or ran when it was planned.
    pub has_completion: bool,
    /// Sources of its copies.
    pub pins: Vec<BlockId>,
}

pub(super) struct FlightChunk {
    pub sequence: SequenceId,
    /// Position behind its last token that is not a guess.
    pub end: usize,
    pub sampled_rows: usize,
    /// Guesses at the tokens from `end` on.
    pub draft: Vec<u32>,
}

impl FlightChunk {
    /// Its own of the tokens that are left.
    fn own<'a>(&self, sampled: &'a [Sampled]) -> &'a [Sampled] {
        let rows = sampled.iter().take(self.sampled_rows).take_while(|row| row.sequence == self.sequence).count();
        &sampled[..rows]
    }

    /// How many guesses were right.
    fn accepted(&self, own: &[Sampled]) -> usize {
        self.draft.iter().zip(own).take_while(|(guess, row)| **guess == row.token).count()
    }

    /// Positions that were computed from what the sequence says. Those behind a wrong guess will be computed anew.
    fn note_computed(&self, sequence: &mut Sequence, accepted: usize) {
        if sequence.is_failed {
            return;
        }
        // A surplus token was computed but is not part of the sequence.
        let end = (self.end + accepted).min(sequence.tokens.len());
        sequence.computed = sequence.computed.max(end);
        if !self.draft.is_empty() {
            sequence.scheduled = sequence.computed;
        }
    }
}

impl Scheduler {
    /// The oldest step in flight kept the device busy for so long. To be said before it is committed; what nobody says is
    /// not learned from.
    pub fn note_time(&mut self, step: StepId, micros: u64) {
        let flight = self.in_flight.front().expect("a step in flight was timed");
        assert_eq!(flight.id, step, "steps end in order of submission");
        self.pace.learn(flight.work, flight.chats_work, flight.has_completion, micros);
    }

    /// Takes the tokens of the oldest step in flight, in the order of its chunks: of each sampled row one, up to and
    /// with the first of a chunk that is not what the draft says. None of a chunk whose row could not be sampled: its
    /// sequence is to be cancelled. Tokens of sequences that have ended meanwhile are dropped.
    ///
    /// Panics if `step` is not the oldest in flight or the tokens are not those of its rows.
    pub fn commit(&mut self, step: StepId, sampled: &[Sampled]) -> Vec<Outcome> {
        let flight = self.in_flight.pop_front().expect("a step in flight is committed");
        assert_eq!(flight.id, step, "steps are committed in order of submission");
        self.release_pins(&flight);
        let mut outcomes = Vec::with_capacity(sampled.len());
        let mut sampled_index = 0;
        for chunk in &flight.chunks {
            let sequence = self.sequences.get_mut(&chunk.sequence).expect("a sequence in flight is known");
            sequence.pending -= chunk.sampled_rows;
            let own = chunk.own(&sampled[sampled_index..]);
            let accepted = chunk.accepted(own);
            assert!(own.len() <= accepted + 1, "no token comes from behind a wrong guess");
            for row in own {
                self.take_token(row, sampled_index, &mut outcomes);
                sampled_index += 1;
            }
            self.collect_chunk(chunk, accepted);
        }
        assert_eq!(sampled_index, sampled.len(), "tokens come in the order of their chunks, no more than rows");
        outcomes
    }

    /// A step could not be computed, and nothing of it runs any more: the sequences it concerned end. Nothing it wrote
    /// is ever matchable; what later steps in flight compute for these sequences is dropped when they are collected.
    /// Answers with the sequences that were still wanted.
    ///
    /// Panics if `step` is not in flight.
    pub fn fail(&mut self, step: StepId) -> Vec<SequenceId> {
        let index = self.in_flight.iter().position(|flight| flight.id == step).expect("a step in flight fails");
        let flight = self.in_flight.remove(index).expect("it was just found");
        self.release_pins(&flight);
        let mut failed = Vec::new();
        for chunk in &flight.chunks {
            let sequence = self.sequences.get_mut(&chunk.sequence).expect("a sequence in flight is known");
            sequence.in_flight -= 1;
            sequence.pending -= chunk.sampled_rows;
            sequence.is_failed = true;
            if sequence.is_live() {
                failed.push(chunk.sequence);
                self.end(chunk.sequence);
            } else if sequence.in_flight == 0 {
                self.settle(chunk.sequence);
            }
        }
        failed
    }

    fn release_pins(&mut self, flight: &Flight) {
        for block in &flight.pins {
            self.blocks.release(*block);
        }
    }

    /// Appends a sampled token, or ends the sequence by it.
    fn take_token(&mut self, row: &Sampled, sampled_index: usize, outcomes: &mut Vec<Outcome>) {
        let Sampled { sequence: id, token } = *row;
        let sequence = self.sequences.get_mut(&id).expect("a sequence in flight is known");
        if !sequence.is_live() {
            self.totals.discarded_tokens += 1;
            return;
        }
        let reason = if sequence.stop_tokens.contains(&token) {
            Some(FinishReason::Stop)
        } else {
            sequence.tokens.push(token);
            outcomes.push(Outcome::Token { sequence: id, token, sampled_index });
            (sequence.output_len() >= sequence.max_tokens).then_some(FinishReason::Length)
        };
        if let Some(reason) = reason {
            outcomes.push(Outcome::Finished { sequence: id, reason });
            if sequence.class == Class::Completion {
                self.pace.learn_completion(sequence.served_from_us);
            }
            self.end(id);
        }
    }

    /// Makes blocks that this chunk has filled matchable, or gives everything back after the last step in flight.
    fn collect_chunk(&mut self, chunk: &FlightChunk, accepted: usize) {
        let sequence = self.sequences.get_mut(&chunk.sequence).expect("a sequence in flight is known");
        chunk.note_computed(sequence, accepted);
        sequence.in_flight -= 1;
        if sequence.phase != Phase::Running {
            if sequence.in_flight == 0 {
                self.settle(chunk.sequence);
            }
            return;
        }
        let Sequence { computed, prompt_len, .. } = *sequence;
        let fills_block = computed / self.config.block_tokens > sequence.chain.blocks;
        let ends_prompt = chunk.end == prompt_len;
        if fills_block || ends_prompt {
            let tail = if ends_prompt { Tail::Enter } else { Tail::Leave };
            let computed =
                Computed { salt: sequence.cache_salt, tokens: &sequence.tokens[..computed], blocks: &sequence.blocks };
            self.blocks.enter(&mut sequence.chain, computed, tail);
        }
    }
}
