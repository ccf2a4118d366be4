//! Thousands of seeded steps against a fake device whose keys and values are hashes of everything before them, so that
//! a wrong, stale or foreign position is noticed the moment it is read. Answers are compared with what the model says
//! when it is asked alone and without a cache.

use super::{BlockCopy, Chunk, Input, NewSequence, Outcome, Sampled, Scheduler, SchedulerConfig, SchedulerStats};
use super::{SequenceId, Step};
use crate::domain::{CacheSalt, Class, FinishReason, SessionKey};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

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
    is_over: bool,
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
            let last = self.compute_chunk(chunk);
            if chunk.sampled_rows == 1 {
                let token = next_token(last, self.vocab);
                self.slots[chunk.slot as usize] = Some((chunk.sequence, token));
                sampled.push(Sampled { sequence: chunk.sequence, token });
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

    /// Checks everything the chunk reads, writes its positions; answers with what the last one holds.
    fn compute_chunk(&mut self, chunk: &Chunk) -> u64 {
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
        let end = chunk.start + tokens.len();
        assert!(!is_sound || tokens == expected.tokens[chunk.start..end], "the chunk has other tokens");
        let mut last = chunk.start.checked_sub(1).and_then(|position| self.positions[self.at(chunk, position)]);
        for (position, token) in (chunk.start..).zip(tokens) {
            last = Some(history(last, salt, token));
            let at = self.at(chunk, position);
            self.positions[at] = last;
        }
        last.expect("a chunk has tokens")
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
            let Some((salt, tokens)) = scheduler.blocks.path(block as u32) else { continue };
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

/// One seeded world.
struct World {
    random: Random,
    scheduler: Scheduler,
    device: FakeDevice,
    now_us: u64,
    live: Vec<SequenceId>,
    /// What each developer's editor holds.
    texts: Vec<Vec<u32>>,
    salts: usize,
    refused: usize,
    hash_bits: Option<u32>,
    lost_devices: usize,
}

impl World {
    fn new(seed: u64, depth: usize, hash_bits: Option<u32>) -> Self {
        let mut random = Random(seed);
        let running_max = 1 + random.below(8);
        let block_tokens = [1, 2, 4, 16][random.below(4)];
        let config = SchedulerConfig {
            block_tokens,
            num_blocks: 1 + 60 / block_tokens + random.below(1 + 160 / block_tokens),
            step_tokens_max: running_max + random.below(40),
            running_max,
            waiting_max: 1 + random.below(12),
            context_tokens: 100 + random.below(80),
            depth,
            chat_share: [0.0, 0.125, 0.5, 1.0][random.below(4)],
            promote_after_us: [0, 50_000, 1_000_000][random.below(3)],
            prefill_chunk_max: 1 + random.below(40),
        };
        let vocab = 2 + random.below(5);
        let mut scheduler = Scheduler::new(config.clone()).expect("the configuration is sound");
        if let Some(bits) = hash_bits {
            scheduler.blocks.keep_hash_bits(bits);
        }
        let device = FakeDevice::new(&config, vocab);
        let texts = (0..3).map(|_| (0..20 + random.below(40)).map(|_| random.below(vocab) as u32).collect()).collect();
        let salts = 1 + random.below(2);
        let (live, now_us, refused, lost_devices) = (Vec::new(), 0, 0, 0);
        Self { random, scheduler, device, now_us, live, texts, salts, refused, hash_bits, lost_devices }
    }

    fn arrive(&mut self) {
        let random = &mut self.random;
        let developer = random.below(self.texts.len());
        let text = &mut self.texts[developer];
        match random.below(6) {
            0 => text.truncate(1 + random.below(text.len())),
            1 | 2 => text.push(random.below(self.device.vocab) as u32),
            _ => {}
        }
        if text.len() > 150 {
            text.truncate(10);
        }
        let keep = if random.one_in(4) { 1 + random.below(text.len()) } else { text.len() };
        let class = if random.one_in(3) { Class::Chat } else { Class::Completion };
        let new = NewSequence {
            prompt: text[..keep].to_vec(),
            class,
            session: random.one_in(2).then(|| SessionKey(format!("editor {developer}").into())),
            cache_salt: CacheSalt(random.below(self.salts) as u64),
            deadline_us: self.now_us + 1_000 * (1 + random.next() % 3_000),
            max_tokens: 1 + random.below(60),
            stop_tokens: if random.one_in(3) { Arc::new([1]) } else { Arc::new([]) },
        };
        let surplus = self.scheduler.config.depth + 1;
        let expected = Expected::of(&new, self.device.vocab, surplus);
        match self.scheduler.add(new, self.now_us) {
            Ok(admission) => {
                for id in admission.superseded {
                    self.device.over(id);
                }
                self.device.expected.insert(admission.id, expected);
                self.live.push(admission.id);
            }
            Err(_) => self.refused += 1,
        }
    }

    fn disturb(&mut self) {
        if self.random.one_in(12) && !self.live.is_empty() {
            let id = self.live[self.random.below(self.live.len())];
            if self.scheduler.contains(id) {
                self.device.over(id);
            }
            self.scheduler.cancel(id);
            assert!(!self.scheduler.contains(id));
        }
        if self.random.one_in(60) && self.device.in_flight.len() > 1 {
            // Could not even be submitted.
            let step = self.device.in_flight.pop_back().expect("not empty");
            self.fail(step);
        }
        if self.random.one_in(150) {
            self.lose_device();
        }
    }

    /// The device fails as a whole, and another takes its place.
    fn lose_device(&mut self) {
        self.device.lose();
        for id in self.scheduler.reset() {
            self.device.over(id);
            assert!(!self.scheduler.contains(id));
        }
        if let Some(bits) = self.hash_bits {
            self.scheduler.blocks.keep_hash_bits(bits);
        }
        self.scheduler.check();
        let SchedulerStats { running, steps_in_flight, blocks_cached, blocks_free, .. } = self.scheduler.stats();
        let num_blocks = self.scheduler.config.num_blocks;
        assert_eq!((running, steps_in_flight, blocks_cached, blocks_free), (0, 0, 0, num_blocks));
        self.lost_devices += 1;
    }

    fn fail(&mut self, step: Step) {
        self.device.spoil(&step);
        let concerned = self.scheduler.fail(step.id);
        for id in &concerned {
            self.device.over(*id);
        }
        assert!(step.chunks.iter().all(|chunk| !self.scheduler.contains(chunk.sequence)));
        assert!(concerned.iter().all(|id| step.chunks.iter().any(|chunk| chunk.sequence == *id)));
    }

    fn collect(&mut self, may_fail: bool) {
        if may_fail && self.random.one_in(80) {
            let step = self.device.break_down();
            self.fail(step);
            return;
        }
        let (step, sampled) = self.device.compute();
        let outcomes = self.scheduler.commit(step.id, &sampled);
        for outcome in &outcomes {
            if let Outcome::Token { sequence, token, sampled_index } = *outcome {
                assert_eq!(sampled[sampled_index], Sampled { sequence, token });
            }
        }
        self.device.receive(&outcomes);
    }

    fn expire(&mut self) {
        for id in self.scheduler.expire(self.now_us) {
            self.device.over(id);
        }
    }

    /// One turn of an engine that keeps as many steps in flight as it may, more or less.
    fn turn(&mut self, is_stormy: bool) {
        self.now_us += self.random.next() % 20_000;
        if is_stormy {
            while self.random.one_in(3) {
                self.arrive();
            }
            self.disturb();
            self.expire();
        }
        self.scheduler.check();
        let step = if is_stormy && self.random.one_in(10) { None } else { self.scheduler.schedule(self.now_us) };
        let is_stuck = !is_stormy && step.is_none() && self.device.in_flight.is_empty();
        assert!(!is_stuck || self.scheduler.is_idle(), "somebody waits and nothing moves");
        if let Some(step) = step {
            self.scheduler.check_step(&step);
            self.device.submit(step);
        }
        self.scheduler.check();
        if is_stormy {
            self.disturb();
        }
        let depth = self.scheduler.config.depth;
        while self.device.in_flight.len() > depth || !self.device.in_flight.is_empty() && self.random.one_in(4) {
            self.collect(is_stormy);
            self.scheduler.check();
        }
        self.live.retain(|id| self.scheduler.contains(*id));
    }
}

fn simulate(seed: u64, depth: usize, steps: usize, hash_bits: Option<u32>) -> World {
    let mut world = World::new(seed, depth, hash_bits);
    for turn in 0..steps {
        world.turn(true);
        if turn % 50 == 0 {
            world.device.check_matchable(&world.scheduler);
        }
    }
    let mut calm = 0;
    while !world.scheduler.is_idle() {
        world.turn(false);
        while world.scheduler.stats().waiting == 0 && world.device.in_flight.len() > 1 {
            world.collect(false);
        }
        if world.scheduler.stats().running == 0 && !world.device.in_flight.is_empty() {
            world.collect(false);
        }
        calm += 1;
        assert!(calm < 20_000, "everyone finishes");
    }
    world.scheduler.check();
    world.device.check_matchable(&world.scheduler);
    assert!(world.scheduler.is_drained(), "{:?}", world.scheduler);
    assert!(world.device.expected.values().all(|expected| expected.is_over), "everyone got an end");
    world
}

/// What has happened over many worlds, so that a simulation that stopped exercising something is noticed.
fn simulate_all(depth: usize, hash_bits: Option<u32>) {
    let mut seen: [u64; 9] = [0; 9];
    for seed in 0..24 {
        let world = simulate(1_000 * depth as u64 + seed, depth, 400, hash_bits);
        let stats = world.scheduler.stats();
        let counts = [
            stats.steps_total,
            stats.cached_tokens_total,
            stats.preemptions_total,
            stats.promotions_total,
            stats.superseded_total,
            stats.expired_total,
            world.refused as u64,
            stats.discarded_tokens_total,
            world.lost_devices as u64,
        ];
        for (sum, count) in seen.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    println!("steps, cached, preempted, promoted, superseded, expired, refused, discarded, lost devices: {seen:?}");
    assert!(seen.iter().all(|sum| *sum > 0), "{seen:?}");
    assert!(seen[0] > 5_000);
}

#[test]
fn every_answer_is_the_models_at_depth_0() {
    simulate_all(0, None);
}

#[test]
fn every_answer_is_the_models_at_depth_1() {
    simulate_all(1, None);
}

#[test]
fn every_answer_is_the_models_at_depth_2() {
    simulate_all(2, None);
}

#[test]
fn colliding_hashes_never_serve_wrong_tokens() {
    simulate_all(1, Some(2));
}
