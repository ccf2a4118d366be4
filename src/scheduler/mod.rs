//! Decides what is computed next: which sequences run, which blocks of the key-value cache they hold, which tokens of
//! whom make up a step, and what the tokens sampled in it mean.
//!
//! Pure state: no tensors, no async, no locks, no clock (time comes in as microseconds of the caller's clock), no
//! model names. Knows `domain` only.
//!
//! - [`Scheduler::schedule`] plans a [`Step`]; [`Scheduler::commit`] takes its tokens, in order of submission;
//!   [`Scheduler::fail`] ends what a failed step concerned. With a `depth` of 1 or more the next step may be planned
//!   before the last one is committed: a decode row then says [`Input::PreviousSample`].
//! - [`Scheduler::schedule_with`] asks a [`Drafter`] for guesses at what decoding sequences say next. They are computed
//!   behind the token they follow, and count as far as the device samples the same; nothing of a wrong one is kept.
//! - [`Scheduler::note_time`] says how long a step took. While somebody completes code, chats' prompts are computed in
//!   pieces sized by what steps were measured to take, so that no completion waits long for one.
//! - [`Scheduler::reset`] forgets everything that a device held which failed as a whole.
//! - Whatever a step in flight may read or write (blocks, sources of copies, slots) stays held until that step was
//!   committed or failed, whatever happens to the sequence meanwhile.
//! - A position becomes matchable for others only when the step that computed it is committed, and then never changes.
//! - The last contexts of whoever types are given out last, up to a share of the blocks; chats that start or grow leave
//!   them alone as long as anybody else runs.
//! - Completions go before chats, earlier deadlines first; chats keep a share and are promoted in time. When blocks
//!   run out the last in this order is preempted. The first can always go on, so there is no deadlock.
//!
//! Sources: iteration-level scheduling (Orca, OSDI 2022), paged cache and preemption (vLLM, arXiv:2309.06180), chunked
//! prefill mixed with decodes (Sarathi-Serve, arXiv:2403.02310).

mod admission;
mod block_manager;
mod blocks;
mod commit;
mod config;
mod draft;
mod pace;
mod prefix_cache;
mod queue;
mod reset;
mod retention;
mod schedule;
mod sequence;
mod step;
mod step_times;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use admission::{Admission, AdmitError};
pub use config::{ConfigError, SchedulerConfig};
pub use draft::{DraftRequest, Drafter, NoDrafts};
pub use sequence::NewSequence;
pub use step::{BlockCopy, BlockId, Chunk, Input, Outcome, Sampled, SequenceId, SlotIndex, Step, StepId};

use crate::domain::{Class, SessionKey};
use block_manager::{BlockManager, Computed, Tail};
use commit::Flight;
use pace::Pace;
use queue::WaitingQueue;
use schedule::Plan;
use sequence::{Phase, Priority, Sequence, SequenceMap};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;

/// The state of one engine's sequences, blocks and slots.
pub struct Scheduler {
    config: SchedulerConfig,
    sequences: SequenceMap,
    waiting: WaitingQueue,
    /// Sorted: who goes first is first.
    running: Vec<Priority>,
    /// Draining or ended, with steps in flight: their blocks and slots come back soon.
    leaving: Vec<SequenceId>,
    /// Ended and settled; readable until the next step is scheduled.
    ended: Vec<SequenceId>,
    /// Of every live sequence.
    deadlines: BTreeSet<(u64, SequenceId)>,
    /// The live completion of each session.
    sessions: HashMap<SessionKey, SequenceId>,
    blocks: BlockManager,
    /// Free ones.
    slots: Vec<SlotIndex>,
    /// Live chats that count as completions.
    num_promoted: usize,
    /// Live ones.
    num_completions: usize,
    pace: Pace,
    in_flight: VecDeque<Flight>,
    plan: Plan,
    next_sequence: u64,
    next_step: u64,
    totals: Totals,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    prompt_tokens: u64,
    cached_tokens: u64,
    preemptions: u64,
    promotions: u64,
    superseded: u64,
    expired: u64,
    discarded_tokens: u64,
}

/// Counts for metrics. `…_total` only rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerStats {
    pub waiting: usize,
    pub running: usize,
    pub blocks_total: usize,
    /// Not referenced by any sequence or step in flight; may still be matchable.
    pub blocks_free: usize,
    /// Matchable, referenced or not.
    pub blocks_cached: usize,
    /// Matchable, and given out last: they hold the last contexts of whoever types.
    pub blocks_retained: usize,
    /// Those contexts.
    pub contexts_retained: usize,
    pub slots_free: usize,
    pub steps_in_flight: usize,
    pub steps_total: u64,
    /// Prompt tokens of sequences that have started.
    pub prompt_tokens_total: u64,
    /// Those of them found in the prefix cache.
    pub cached_tokens_total: u64,
    pub preemptions_total: u64,
    pub promotions_total: u64,
    pub superseded_total: u64,
    pub expired_total: u64,
    /// Sampled for sequences that had ended meanwhile.
    pub discarded_tokens_total: u64,
}

impl Scheduler {
    pub fn new(config: SchedulerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            sequences: SequenceMap::default(),
            waiting: WaitingQueue::new(config.promote_after_us),
            running: Vec::new(),
            leaving: Vec::new(),
            ended: Vec::new(),
            deadlines: BTreeSet::new(),
            sessions: HashMap::new(),
            blocks: BlockManager::new(config.num_blocks, config.block_tokens),
            slots: reset::all_slots(config.running_max),
            num_promoted: 0,
            num_completions: 0,
            pace: Pace::default(),
            in_flight: VecDeque::new(),
            plan: Plan::default(),
            next_sequence: 0,
            next_step: 0,
            totals: Totals::default(),
            config,
        })
    }

    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// Ends a sequence that is wanted no more, waiting or running, with or without a step in flight. What it still
    /// samples is dropped; its computed blocks stay matchable. Does nothing if it has ended already.
    pub fn cancel(&mut self, id: SequenceId) {
        self.end(id);
    }

    /// Cancels every sequence whose deadline lies before `now_us`.
    pub fn expire(&mut self, now_us: u64) -> Vec<SequenceId> {
        let mut expired = Vec::new();
        while let Some((deadline_us, id)) = self.deadlines.first().copied()
            && deadline_us < now_us
        {
            self.end(id);
            expired.push(id);
        }
        self.totals.expired += expired.len() as u64;
        expired
    }

    /// Prompt and committed output. Of a sequence that has ended: until the next step is scheduled.
    pub fn tokens(&self, id: SequenceId) -> Option<&[u32]> {
        self.sequences.get(&id).map(|sequence| sequence.tokens.as_slice())
    }

    /// Prompt tokens found in the prefix cache when the sequence first ran. Readable as long as [`Self::tokens`].
    pub fn cached_tokens(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).and_then(|sequence| sequence.cached_tokens).unwrap_or(0)
    }

    /// Whether the sequence waits or runs.
    pub fn contains(&self, id: SequenceId) -> bool {
        self.sequences.get(&id).is_some_and(Sequence::is_live)
    }

    /// Nobody waits or runs and no step is in flight.
    pub fn is_idle(&self) -> bool {
        self.deadlines.is_empty() && self.in_flight.is_empty()
    }

    /// Idle, and every block and slot has come back.
    pub fn is_drained(&self) -> bool {
        let stats = self.stats();
        self.is_idle() && stats.blocks_free == stats.blocks_total && stats.slots_free == self.config.running_max
    }

    pub fn stats(&self) -> SchedulerStats {
        SchedulerStats {
            waiting: self.waiting.len(),
            running: self.running.len(),
            blocks_total: self.config.num_blocks,
            blocks_free: self.blocks.num_free(),
            blocks_cached: self.blocks.num_cached(),
            blocks_retained: self.blocks.num_retained(),
            contexts_retained: self.blocks.num_contexts(),
            slots_free: self.slots.len(),
            steps_in_flight: self.in_flight.len(),
            steps_total: self.next_step,
            prompt_tokens_total: self.totals.prompt_tokens,
            cached_tokens_total: self.totals.cached_tokens,
            preemptions_total: self.totals.preemptions,
            promotions_total: self.totals.promotions,
            superseded_total: self.totals.superseded,
            expired_total: self.totals.expired,
            discarded_tokens_total: self.totals.discarded_tokens,
        }
    }

    /// From live to ended. Blocks and slot come back now, or when the last step in flight is collected.
    fn end(&mut self, id: SequenceId) {
        let Some(sequence) = self.sequences.get_mut(&id).filter(|sequence| sequence.is_live()) else { return };
        match sequence.phase {
            Phase::Waiting => self.waiting.remove(sequence),
            Phase::Running => remove_sorted(&mut self.running, sequence.priority()),
            Phase::Draining => {}
            Phase::Ended => unreachable!("only live sequences end"),
        }
        let was_leaving = sequence.phase == Phase::Draining;
        sequence.phase = Phase::Ended;
        self.num_promoted -= usize::from(sequence.promoted_at_us.is_some());
        self.num_completions -= usize::from(sequence.class == Class::Completion);
        self.deadlines.remove(&(sequence.deadline_us, id));
        if let Some(session) = &sequence.session
            && self.sessions.get(session) == Some(&id)
        {
            self.sessions.remove(session);
        }
        if sequence.in_flight == 0 {
            self.settle(id);
        } else if !was_leaving {
            self.leaving.push(id);
        }
    }

    /// Sends a running sequence back to wait with all its tokens; it is computed again from what is still matchable.
    fn preempt(&mut self, id: SequenceId, now_us: u64) {
        let sequence = self.sequences.get_mut(&id).expect("a running sequence is known");
        assert_eq!(sequence.phase, Phase::Running, "only running sequences are preempted");
        remove_sorted(&mut self.running, sequence.priority());
        sequence.phase = Phase::Draining;
        sequence.waiting_since_us = now_us;
        self.totals.preemptions += 1;
        if sequence.in_flight == 0 {
            self.settle(id);
        } else {
            self.leaving.push(id);
        }
    }

    /// Takes slot and blocks back from a sequence without steps in flight that is draining or has ended. What it has
    /// computed becomes matchable, the partly filled last block included.
    fn settle(&mut self, id: SequenceId) {
        let sequence = self.sequences.get_mut(&id).expect("a sequence is known until it has settled");
        assert_eq!(sequence.in_flight, 0, "blocks come back after the last step was collected");
        self.leaving.retain(|leaving| *leaving != id);
        let computed = Computed {
            salt: sequence.cache_salt,
            tokens: &sequence.tokens[..sequence.computed],
            blocks: &sequence.blocks,
        };
        self.blocks.enter(&mut sequence.chain, computed, Tail::Enter);
        if sequence.phase == Phase::Ended
            && let Some(owner) = sequence.retains_for()
        {
            self.blocks.retain(&owner, &sequence.chain, computed, sequence.cached_tokens.unwrap_or(0));
        }
        for block in std::mem::take(&mut sequence.blocks).into_iter().rev() {
            self.blocks.release(block);
        }
        if let Some(copy) = sequence.copy.take() {
            self.blocks.release(copy.from);
        }
        self.slots.extend(sequence.slot.take());
        if sequence.phase == Phase::Ended {
            self.ended.push(id);
            return;
        }
        sequence.leave_device();
        self.waiting.insert(sequence);
    }
}

fn remove_sorted(priorities: &mut Vec<Priority>, priority: Priority) {
    let index = priorities.binary_search(&priority).expect("a running sequence is in the running list");
    priorities.remove(index);
}

fn insert_sorted(priorities: &mut Vec<Priority>, priority: Priority) {
    let index = priorities.binary_search(&priority).expect_err("a sequence starts to run once");
    priorities.insert(index, priority);
}

/// Never shows tokens.
impl fmt::Debug for Scheduler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scheduler").field("config", &self.config).field("stats", &self.stats()).finish()
    }
}
