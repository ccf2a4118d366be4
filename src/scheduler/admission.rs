//! How a sequence gets in: refused or taken into the queue, later given a slot and blocks.

use super::block_manager::PrefixMatch;
use super::prefix_cache::PartialMatch;
use super::schedule::Plan;
use super::sequence::{Hold, Phase, Priority, Rank, Sequence};
use super::{BlockCopy, BlockId, NewSequence, Scheduler, SequenceId, insert_sorted};
use crate::domain::Class;
use std::collections::HashMap;

/// At most this part of the blocks is kept free for running sequences to grow into when another one starts.
const HEADROOM_SHARE: usize = 8;

/// A sequence was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub id: SequenceId,
    /// Ended by it: older completions of the same session.
    pub superseded: Vec<SequenceId>,
}

/// A sequence was refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    #[error("the prompt is empty, at least one token is needed")]
    Empty,
    #[error("0 tokens are asked for, at least one is needed")]
    NothingAsked,
    #[error("a prompt of {prompt_tokens} tokens and {max_tokens} more do not fit a context of {context_tokens} tokens")]
    PromptTooLong { prompt_tokens: usize, max_tokens: usize, context_tokens: usize },
    #[error("{needed_tokens} tokens of key-value cache are needed, the whole cache holds {cache_tokens}")]
    CacheTooSmall { needed_tokens: usize, cache_tokens: usize },
    #[error("{waiting} sequences are waiting already, the limit is {waiting_max}")]
    QueueFull { waiting: usize, waiting_max: usize },
}

/// Whether a waiting sequence could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With this many tokens to compute.
    Started(usize),
    /// Another sequence is computing its prefix.
    Held,
    /// No slot or too few blocks; nobody behind it may take them either.
    NoRoom,
}

impl Scheduler {
    /// Takes a sequence into the queue. An older completion of the same session is ended, but only if the newer one
    /// is not refused; if the older was waiting, the newer takes its place in a full queue.
    pub fn add(&mut self, new: NewSequence, now_us: u64) -> Result<Admission, AdmitError> {
        let older = self.superseded_by(&new);
        self.check_admissible(&new, older)?;
        let superseded: Vec<SequenceId> = older.into_iter().collect();
        for id in &superseded {
            self.end(*id);
        }
        self.totals.superseded += superseded.len() as u64;

        let id = SequenceId(self.next_sequence);
        self.next_sequence += 1;
        let sequence = Sequence::new(id, new, now_us);
        self.deadlines.insert((sequence.deadline_us, id));
        if let (Class::Completion, Some(session)) = (sequence.class, &sequence.session) {
            self.sessions.insert(session.clone(), id);
        }
        if sequence.class == Class::Completion {
            self.num_completions += 1;
            self.pace.note_completion(now_us);
        }
        self.waiting.insert(&sequence);
        self.sequences.insert(id, sequence);
        Ok(Admission { id, superseded })
    }

    fn superseded_by(&self, new: &NewSequence) -> Option<SequenceId> {
        match (new.class, &new.session) {
            (Class::Completion, Some(session)) => self.sessions.get(session).copied(),
            (Class::Completion, None) | (Class::Chat, _) => None,
        }
    }

    fn check_admissible(&self, new: &NewSequence, older: Option<SequenceId>) -> Result<(), AdmitError> {
        let (prompt_tokens, max_tokens) = (new.prompt.len(), new.max_tokens);
        let context_tokens = self.config.context_tokens;
        if prompt_tokens == 0 {
            return Err(AdmitError::Empty);
        }
        if max_tokens == 0 {
            return Err(AdmitError::NothingAsked);
        }
        if prompt_tokens.saturating_add(max_tokens) > context_tokens {
            return Err(AdmitError::PromptTooLong { prompt_tokens, max_tokens, context_tokens });
        }
        // The last token is sampled but never computed.
        let needed_tokens = prompt_tokens + max_tokens - 1;
        if self.config.blocks_for(needed_tokens) > self.config.num_blocks {
            let cache_tokens = self.config.num_blocks * self.config.block_tokens;
            return Err(AdmitError::CacheTooSmall { needed_tokens, cache_tokens });
        }
        let frees_a_place = older.is_some_and(|id| self.sequences[&id].phase == Phase::Waiting);
        let (waiting, waiting_max) = (self.waiting.len(), self.config.waiting_max);
        if waiting >= waiting_max + usize::from(frees_a_place) {
            return Err(AdmitError::QueueFull { waiting, waiting_max });
        }
        Ok(())
    }

    /// Gives a waiting sequence a slot, the matchable part of its prefix and blocks for all its tokens, so that a
    /// prefill once started never runs out of blocks. Completions may preempt chats for it.
    pub(super) fn start(&mut self, priority: Priority, plan: &Plan, now_us: u64) -> Start {
        if self.is_held(priority.id) {
            return Start::Held;
        }
        if self.slots.is_empty() && self.chat_to_leave_its_slot(priority).is_none() {
            return Start::NoRoom;
        }
        let sequence = &self.sequences[&priority.id];
        // The last token is computed in any case: its row is sampled from.
        let known = sequence.tokens.len() - 1;
        let mut found = self.blocks.lookup(sequence.cache_salt, &sequence.tokens[..known]);
        if let Some(hold) = self.find_hold(sequence, &found.blocks, plan) {
            self.sequences.get_mut(&priority.id).expect("a waiting sequence is known").hold = Some(hold);
            return Start::Held;
        }

        let fresh = self.config.blocks_for(known + 1) - found.blocks.len();
        // Held first, so that neither eviction nor preemption below takes away what was found.
        self.blocks.acquire_match(&found);
        if self.slots.is_empty()
            && let Some(chat) = self.chat_to_leave_its_slot(priority)
        {
            self.preempt(chat, now_us);
        }
        if self.blocks.num_free() < fresh
            && let Some(partial) = found.partial.take()
        {
            self.blocks.release(partial.block);
        }
        if self.slots.is_empty() || !self.find_blocks(priority, fresh, now_us) {
            self.blocks.release_match(&found);
            return Start::NoRoom;
        }
        Start::Started(self.seat(priority, found, fresh, now_us))
    }

    /// From waiting to running: `found` is held already, `fresh` blocks and a slot are free. Answers with the number of
    /// tokens to compute.
    fn seat(&mut self, priority: Priority, found: PrefixMatch, fresh: usize, now_us: u64) -> usize {
        let sequence = self.sequences.get_mut(&priority.id).expect("a waiting sequence is known");
        self.waiting.remove(sequence);
        insert_sorted(&mut self.running, priority);
        sequence.phase = Phase::Running;
        sequence.hold = None;
        sequence.waited_us += now_us.saturating_sub(sequence.waiting_since_us);
        sequence.slot = Some(self.slots.pop().expect("a slot was found free"));
        sequence.has_entered = false;

        self.blocks.credit(&found);
        let PrefixMatch { blocks: mut table, partial } = found;
        sequence.chain = self.blocks.chain(&table);
        sequence.computed = table.len() * self.config.block_tokens;
        sequence.scheduled = sequence.computed;
        table.extend((0..fresh).map(|_| self.blocks.allocate().expect("as many blocks were found free")));
        if let Some(PartialMatch { block: from, tokens }) = partial {
            sequence.copy = Some(BlockCopy { from, to: table[sequence.chain.blocks], tokens });
            sequence.scheduled += tokens;
        }
        sequence.blocks = table;
        if sequence.cached_tokens.is_none() {
            sequence.cached_tokens = Some(sequence.scheduled);
            sequence.served_from_us = self.pace.served_us();
            self.totals.prompt_tokens += sequence.prompt_len as u64;
            self.totals.cached_tokens += sequence.scheduled as u64;
        }
        sequence.tokens.len() - sequence.scheduled
    }

    /// The chat to preempt so that a completion gets a slot. None while slots come back anyway, nor when chat is down
    /// to its share.
    fn chat_to_leave_its_slot(&self, priority: Priority) -> Option<SequenceId> {
        if priority.rank == Rank::Chat || !self.leaving.is_empty() {
            return None;
        }
        let num_chats = self.running.iter().rev().take_while(|other| other.rank == Rank::Chat).count();
        let last = self.running.last()?;
        (num_chats > self.config.chat_slots()).then_some(last.id)
    }

    /// Whether `fresh` blocks may be taken now, leaving those that go no later a block each to grow into. A chat takes no
    /// retained ones as long as somebody else runs: it waits until they leave. For a completion chats are preempted, the
    /// last first, if that yields enough; blocks that come back anyway are waited for.
    fn find_blocks(&mut self, priority: Priority, fresh: usize, now_us: u64) -> bool {
        let num_sooner = self.running.partition_point(|other| other.rank <= priority.rank);
        let needed = fresh + num_sooner.min(self.config.num_blocks / HEADROOM_SHARE);
        if priority.rank == Rank::Chat {
            return self.num_free_for(priority) >= needed;
        }
        if self.blocks.num_free() >= needed {
            return true;
        }
        let mut given_up = HashMap::new();
        let mut expected = self.blocks.num_free() + self.num_leaving_blocks(&mut given_up);
        let mut victims = Vec::new();
        for chat in self.running[num_sooner..].iter().rev() {
            if expected >= needed {
                break;
            }
            expected += self.blocks.num_freed(&self.sequences[&chat.id].blocks, &mut given_up);
            victims.push(chat.id);
        }
        if expected < needed {
            return false;
        }
        for victim in victims {
            self.preempt(victim, now_us);
        }
        self.blocks.num_free() >= needed
    }

    /// Free blocks that somebody may take, who runs or is about to.
    pub(super) fn num_free_for(&self, priority: Priority) -> usize {
        let goes_first = self.running.first().is_none_or(|first| *first == priority);
        match priority.rank {
            Rank::Chat if !goes_first => self.blocks.num_free_ordinary(),
            Rank::Chat | Rank::Completion => self.blocks.num_free(),
        }
    }

    /// Blocks that come free when the steps in flight are collected, without further preemption. `given_up` counts
    /// the references they lose.
    pub(super) fn num_leaving_blocks(&self, given_up: &mut HashMap<BlockId, u32>) -> usize {
        self.leaving.iter().map(|id| self.blocks.num_freed(&self.sequences[id].blocks, given_up)).sum()
    }

    fn is_held(&self, id: SequenceId) -> bool {
        self.sequences[&id].hold.is_some_and(|hold| {
            let other = self.sequences.get(&hold.by);
            other.is_some_and(|other| other.is_running() && other.chain.blocks < hold.until_blocks)
        })
    }

    /// Somebody who goes no later and is just computing the block this sequence would have to compute first.
    fn find_hold(&self, sequence: &Sequence, matched: &[BlockId], plan: &Plan) -> Option<Hold> {
        let chain = self.blocks.chain(matched);
        let block_tokens = self.config.block_tokens;
        let start = matched.len() * block_tokens;
        let wanted = &sequence.tokens[start..sequence.tokens.len() - 1];
        plan.prefilling.iter().find_map(|priority| {
            let other = &self.sequences[&priority.id];
            let is_sooner = priority.rank <= sequence.priority().rank && other.is_running();
            if !is_sooner || other.cache_salt != sequence.cache_salt || other.chain != chain {
                return None;
            }
            let shared = other.tokens[start..].iter().zip(wanted).take_while(|(have, want)| have == want).count();
            let until_blocks = matched.len() + shared / block_tokens;
            (until_blocks > matched.len()).then_some(Hold { by: other.id, until_blocks })
        })
    }
}
