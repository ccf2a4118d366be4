//! One generation as the scheduler sees it: its tokens, how far they are computed, and who holds what for it.

use super::prefix_cache::Chain;
use super::retention::Owner;
use super::{BlockCopy, BlockId, SequenceId, SlotIndex};
use crate::domain::{CacheSalt, Class, SessionKey};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// What is asked of the scheduler.
#[derive(Clone)]
pub struct NewSequence {
    pub prompt: Vec<u32>,
    pub class: Class,
    /// A newer completion of the same session supersedes the older.
    pub session: Option<SessionKey>,
    pub cache_salt: CacheSalt,
    /// Absolute, on the clock whose readings are passed as `now_us`.
    pub deadline_us: u64,
    /// Prompt and this many tokens fit the context.
    pub max_tokens: usize,
    /// Any of these ends the sequence and is not part of its output.
    pub stop_tokens: Arc<[u32]>,
}

/// Prompts never reach logs: only their sizes do.
impl fmt::Debug for NewSequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NewSequence")
            .field("prompt_tokens", &self.prompt.len())
            .field("class", &self.class)
            .field("deadline_us", &self.deadline_us)
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

/// Who goes first: smaller is sooner. Constant while a sequence runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Priority {
    pub rank: Rank,
    pub deadline_us: u64,
    pub id: SequenceId,
}

/// The class, after promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Completion,
    Chat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Running,
    /// Preempted with steps in flight: keeps slot and blocks, and still takes their tokens, until they are collected.
    Draining,
    /// Wanted no more; keeps slot and blocks until its steps in flight are collected, their tokens are dropped.
    Ended,
}

/// What a running sequence asks of the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Nothing,
    /// One token, sampled from.
    Decode,
    /// This many known tokens, the last of which is sampled from.
    Prefill(usize),
}

/// A waiting sequence that lets another one compute the prefix both share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub by: SequenceId,
    /// Over when the other has made this many blocks matchable.
    pub until_blocks: usize,
}

pub(super) struct Sequence {
    pub id: SequenceId,
    pub class: Class,
    pub session: Option<SessionKey>,
    pub cache_salt: CacheSalt,
    pub deadline_us: u64,
    pub max_tokens: usize,
    pub stop_tokens: Arc<[u32]>,
    /// Prompt and committed output.
    pub tokens: Vec<u32>,
    pub prompt_len: usize,
    pub phase: Phase,
    /// A step it was part of failed: what its steps in flight computed is not to be trusted.
    pub is_failed: bool,
    /// Since when a chat counts as a completion.
    pub promoted_at_us: Option<u64>,
    pub waiting_since_us: u64,
    /// Waiting in earlier turns, before preemptions.
    pub waited_us: u64,
    pub hold: Option<Hold>,
    pub slot: Option<SlotIndex>,
    /// A chunk has been scheduled since it got its slot.
    pub has_entered: bool,
    pub blocks: Vec<BlockId>,
    /// To be done with the next chunk; its source is pinned.
    pub copy: Option<BlockCopy>,
    /// Positions `0..scheduled` are computed or submitted.
    pub scheduled: usize,
    /// Positions `0..computed` are computed by committed steps, and their tokens are known.
    pub computed: usize,
    /// Tokens being sampled by steps in flight.
    pub pending: usize,
    /// Steps in flight with a chunk of this sequence.
    pub in_flight: usize,
    /// How far its blocks are in the prefix cache.
    pub chain: Chain,
    /// Prompt tokens found in the prefix cache when it first ran; `None` before.
    pub cached_tokens: Option<usize>,
    /// Reading of [`super::pace::Pace::served_us`] when it first ran.
    pub served_from_us: f64,
}

impl Sequence {
    pub fn new(id: SequenceId, new: NewSequence, now_us: u64) -> Self {
        Self {
            id,
            class: new.class,
            session: new.session,
            cache_salt: new.cache_salt,
            deadline_us: new.deadline_us,
            max_tokens: new.max_tokens,
            stop_tokens: new.stop_tokens,
            prompt_len: new.prompt.len(),
            tokens: new.prompt,
            phase: Phase::Waiting,
            is_failed: false,
            promoted_at_us: None,
            waiting_since_us: now_us,
            waited_us: 0,
            hold: None,
            slot: None,
            has_entered: false,
            blocks: Vec::new(),
            copy: None,
            scheduled: 0,
            computed: 0,
            pending: 0,
            in_flight: 0,
            chain: Chain::default(),
            cached_tokens: None,
            served_from_us: 0.0,
        }
    }

    pub fn priority(&self) -> Priority {
        let (rank, deadline_us) = match (self.class, self.promoted_at_us) {
            (Class::Completion, _) => (Rank::Completion, self.deadline_us),
            (Class::Chat, Some(promoted_at_us)) => (Rank::Completion, promoted_at_us.min(self.deadline_us)),
            (Class::Chat, None) => (Rank::Chat, self.deadline_us),
        };
        Priority { rank, deadline_us, id: self.id }
    }

    pub fn is_live(&self) -> bool {
        self.phase != Phase::Ended
    }

    pub fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    pub fn output_len(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    pub fn want(&self) -> Want {
        match self.tokens.len() + self.pending - self.scheduled {
            _ if self.output_len() + self.pending >= self.max_tokens => Want::Nothing,
            0 => Want::Nothing,
            1 => Want::Decode,
            remaining => Want::Prefill(remaining),
        }
    }

    /// For whom its context is kept when it ends: somebody typing comes back to it with the next keystroke.
    pub fn retains_for(&self) -> Option<Owner> {
        match (self.class, &self.session) {
            (Class::Chat, _) => None,
            (Class::Completion, Some(session)) => Some(Owner::Session(session.clone())),
            (Class::Completion, None) => Some(Owner::Tenant(self.cache_salt)),
        }
    }

    /// Forgets where it was computed, for the next turn.
    pub fn leave_device(&mut self) {
        assert!(self.blocks.is_empty() && self.slot.is_none() && self.copy.is_none(), "everything was given back");
        assert!(self.in_flight == 0 && self.pending == 0, "every step was collected");
        self.phase = Phase::Waiting;
        self.scheduled = 0;
        self.computed = 0;
        self.chain = Chain::default();
    }

    /// Committed steps still lack part of the tokens it already has, besides the newest one.
    pub fn is_prefilling(&self) -> bool {
        self.tokens.len() - self.computed > 1
    }
}

/// Sequences by id. Ids are counted up by the scheduler itself, so one multiplication spreads them well enough.
pub(super) type SequenceMap = HashMap<SequenceId, Sequence, BuildHasherDefault<NumberHasher>>;

/// For keys that are numbers of our own making.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        // The table takes its bucket from the low and its tag from the high bits; the product is best in the middle.
        self.0 ^ (self.0 >> 32)
    }
}
