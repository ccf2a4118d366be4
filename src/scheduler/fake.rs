//! A device without a model, for tests: its keys and values are hashes of everything before them, so that a wrong, stale
//! or foreign position is noticed the moment it is read, and answers are compared with what the model says when it is
//! asked alone and without a cache.

use super::{
    BlockCopy, Chunk, DraftRequest, Drafter, Input, NewSequence, Outcome, Sampled, Scheduler, SchedulerConfig,
    SequenceId, Step,
};
use crate::domain::{CacheSalt, FinishReason};
use std::collections::{HashMap, VecDeque};

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// `0..bound`
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What a position holds: everything before it, under a salt.
fn history(before: Option<u64>, salt: CacheSalt, token: u32) -> u64 {
    let before = before.unwrap_or(salt.0.wrapping_add(1).wrapping_mul(0xA24B_AED4_963E_E407));
    Random(before ^ (u64::from(token) << 17)).next()
}

/// The fake model: which token follows.
fn next_token(history: u64, vocab: usize) -> u32 {
    Random(history ^ 0x5EED).below(vocab) as u32
}

/// What one sequence must look like, from asking the model alone.
pub(super) struct Expected {
    salt: CacheSalt,
    prompt_len: usize,
    /// Prompt, then output as if nothing stopped it.
    tokens: Vec<u32>,
    /// What each of these positions holds.
    histories: Vec<u64>,
    /// Output before the stop token or the limit.
    output_len: usize,
    reason: FinishReason,
    /// Received so far.
    received: usize,
    pub is_over: bool,
    /// A step of it failed: what it computes since is garbage.
    is_failed: bool,
}

impl Expected {
    pub fn of(new: &NewSequence, vocab: usize, surplus: usize) -> Self {
        let mut tokens = Vec::new();
        let mut histories: Vec<u64> = Vec::new();
        while tokens.len() < new.prompt.len() + new.max_tokens + surplus {
            let token = match new.prompt.get(tokens.len()) {
                Some(token) => *token,
                None => next_token(histories[histories.len() - 1], vocab),
            };
            histories.push(history(histories.last().copied(), new.cache_salt, token));
            tokens.push(token);
        }
        let output = &tokens[new.prompt.len()..new.prompt.len() + new.max_tokens];
        let stop = output.iter().position(|token| new.stop_tokens.contains(token));
        Self {
            salt: new.cache_salt,
            prompt_len: new.prompt.len(),
            histories,
            output_len: stop.unwrap_or(new.max_tokens),
            reason: if stop.is_some() { FinishReason::Stop } else { FinishReason::Length },
            tokens,
            received: 0,
            is_over: false,
            is_failed: false,
        }
    }
}

impl Expected {
    /// As if nothing stopped it.
    pub fn output(&self) -> &[u32] {
        &self.tokens[self.prompt_len..]
    }
}

/// Guesses right so often, and about nothing that is right by chance.
pub(super) struct FakeDrafter<'a> {
    pub device: &'a FakeDevice,
    pub random: &'a mut Random,
    /// Of eight guesses, so many are right.
    pub rightness: usize,
    pub drafted: u64,
}

impl Drafter for FakeDrafter<'_> {
    fn step_drafts_max(&self) -> usize {
        24
    }

    fn draft(&mut self, request: DraftRequest<'_>) -> Vec<u32> {
        let expected = &self.device.expected[&request.sequence];
        let tokens = self.random.below(1 + request.tokens_max.min(10));
        self.drafted += tokens as u64;
        let truth = expected.tokens[request.tokens.len()..].iter().take(tokens);
        truth
            .map(|token| if self.random.below(8) < self.rightness { *token } else { self.random.below(7) as u32 })
            .collect()
    }
}

/// Computes submitted steps in order, each when it is collected.
pub(super) struct FakeDevice {
    pub block_tokens: usize,
    pub vocab: usize,
    positions: Vec<Option<u64>>,
    slots: Vec<Option<(SequenceId, u32)>>,
    pub in_flight: VecDeque<Step>,
    pub expected: HashMap<SequenceId, Expected>,
}

impl FakeDevice {
    pub fn new(config: &SchedulerConfig, vocab: usize) -> Self {
        Self {
            block_tokens: config.block_tokens,
            vocab,
            positions: vec![None; config.num_blocks * config.block_tokens],
            slots: vec![None; config.running_max],
            in_flight: VecDeque::new(),
            expected: HashMap::new(),
        }
    }

    pub fn submit(&mut self, step: Step) {
        for other in &self.in_flight {
            self.check_apart(other, &step);
        }
        self.in_flight.push_back(step);
    }

    /// Nothing that a step in flight uses is given to another sequence.
    fn check_apart(&self, in_flight: &Step, new: &Step) {
        for chunk in &new.chunks {
            let written = &chunk.block_table[chunk.start / self.block_tokens..];
            for other in in_flight.chunks.iter().filter(|other| other.sequence != chunk.sequence) {
                assert_ne!(other.slot, chunk.slot, "a slot in flight is given away");
                let is_shared = written.iter().any(|block| other.block_table.contains(block));
                assert!(!is_shared, "a block in flight is given away");
            }
            for copy in &in_flight.copies {
                let first = chunk.start % self.block_tokens;
                let is_behind = written[0] == copy.from && first >= copy.tokens;
                assert!(!written.contains(&copy.from) || is_behind, "the source of a copy in flight is written");
            }
        }
    }

    /// Computes the oldest step in flight.
    pub fn compute(&mut self) -> (Step, Vec<Sampled>) {
        let step = self.in_flight.pop_front().expect("something is in flight");
        self.copy(&step.copies);
        let mut sampled = Vec::new();
        for chunk in &step.chunks {
            let (tokens, histories) = self.compute_chunk(chunk);
            let first = tokens.len() - chunk.sampled_rows;
            for (row, history) in histories.iter().enumerate().take(tokens.len()).skip(first) {
                let token = next_token(*history, self.vocab);
                self.slots[chunk.slot as usize] = Some((chunk.sequence, token));
                sampled.push(Sampled { sequence: chunk.sequence, token });
                if tokens.get(row + 1) != Some(&token) {
                    break;
                }
            }
        }
        (step, sampled)
    }

    /// The oldest step in flight fails halfway: what it was to write is garbage.
    pub fn break_down(&mut self) -> Step {
        let step = self.in_flight.pop_front().expect("something is in flight");
        self.spoil(&step);
        step
    }

    /// Nothing of it is left: another device takes its place, with whatever its memory holds.
    pub fn lose(&mut self) {
        self.in_flight.clear();
        self.positions.fill(Some(0xBAD));
        self.slots.fill(None);
    }

    pub fn spoil(&mut self, step: &Step) {
        for copy in &step.copies {
            self.positions[copy.to as usize * self.block_tokens] = Some(0xBAD);
        }
        for chunk in &step.chunks {
            for position in chunk.start..chunk.start + chunk.tokens.get() {
                let at = self.at(chunk, position);
                self.positions[at] = Some(0xBAD);
            }
            self.expected.get_mut(&chunk.sequence).expect("known").is_failed = true;
        }
    }

    fn copy(&mut self, copies: &[BlockCopy]) {
        for copy in copies {
            for offset in 0..copy.tokens {
                let from = self.positions[copy.from as usize * self.block_tokens + offset];
                self.positions[copy.to as usize * self.block_tokens + offset] = from;
            }
        }
    }

    /// Checks everything the chunk reads, writes its positions; answers with its tokens and what each position holds.
    fn compute_chunk(&mut self, chunk: &Chunk) -> (Vec<u32>, Vec<u64>) {
        let expected = &self.expected[&chunk.sequence];
        let is_sound = !expected.is_failed;
        for position in 0..chunk.start {
            let have = self.positions[self.at(chunk, position)];
            assert!(
                !is_sound || have == Some(expected.histories[position]),
                "position {position} holds something else"
            );
        }
        let slot = &mut self.slots[chunk.slot as usize];
        if chunk.enters_slot {
            *slot = Some((chunk.sequence, u32::MAX));
        }
        let (owner, previous) = slot.unwrap_or((chunk.sequence, 0));
        assert!(!is_sound || slot.is_some() && owner == chunk.sequence, "the slot holds somebody else's state");
        let tokens = match &chunk.input {
            Input::Known(tokens) => tokens.clone(),
            Input::PreviousSample => vec![previous],
        };
        assert_eq!(tokens.len(), chunk.tokens.get());
        let salt = expected.salt;
        let known = &tokens[..tokens.len() - chunk.sampled_rows.saturating_sub(1)];
        let end = chunk.start + known.len();
        assert!(!is_sound || known == &expected.tokens[chunk.start..end], "the chunk has other tokens");
        let mut last = chunk.start.checked_sub(1).and_then(|position| self.positions[self.at(chunk, position)]);
        let histories: Vec<u64> = tokens.iter().map(|token| *last.insert(history(last, salt, *token))).collect();
        for (position, held) in (chunk.start..).zip(&histories) {
            let at = self.at(chunk, position);
            self.positions[at] = Some(*held);
        }
        (tokens, histories)
    }

    fn at(&self, chunk: &Chunk, position: usize) -> usize {
        chunk.block_table[position / self.block_tokens] as usize * self.block_tokens + position % self.block_tokens
    }

    /// Checks outcomes against what the model says alone.
    pub fn receive(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match *outcome {
                Outcome::Token { sequence, token, .. } => {
                    let expected = self.expected.get_mut(&sequence).expect("known");
                    assert!(!expected.is_over, "nothing comes after the end");
                    assert!(expected.received < expected.output_len, "no token comes after the last");
                    assert_eq!(token, expected.tokens[expected.prompt_len + expected.received]);
                    expected.received += 1;
                }
                Outcome::Finished { sequence, reason } => {
                    let expected = self.expected.get_mut(&sequence).expect("known");
                    assert_eq!((reason, expected.received), (expected.reason, expected.output_len));
                    self.over(sequence);
                }
            }
        }
    }

    pub fn over(&mut self, sequence: SequenceId) {
        let expected = self.expected.get_mut(&sequence).expect("known");
        assert!(!expected.is_over, "a sequence ends once");
        expected.is_over = true;
    }

    /// Whatever the prefix cache would serve is there.
    pub fn check_matchable(&self, scheduler: &Scheduler) {
        for block in 0..scheduler.config.num_blocks {
            let Some((salt, tokens)) = scheduler.blocks.content(block as u32) else { continue };
            let mut last = None;
            let histories: Vec<_> = tokens.iter().map(|token| *last.insert(history(last, salt, *token))).collect();
            let len = scheduler.blocks.matchable(block as u32);
            for (offset, want) in histories[histories.len() - len..].iter().enumerate() {
                let have = self.positions[block * self.block_tokens + offset];
                assert_eq!(have, Some(*want), "block {block} is matchable at {offset} but holds something else");
            }
        }
    }
}
