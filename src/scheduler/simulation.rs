//! Thousands of seeded steps against a fake device that notices wrong, stale and foreign positions: worlds in which
//! sequences come, go, fail, and lose their device.

use super::fake::{Expected, FakeDevice, FakeDrafter, Random};
use super::{NewSequence, Outcome, Sampled, Scheduler, SchedulerConfig, SchedulerStats, SequenceId, Step};
use crate::domain::{CacheSalt, Class, SessionKey};
use std::sync::Arc;

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
    /// Blocks of contexts that were kept, summed over the turns.
    retained: usize,
    /// Of eight guesses, so many are right; `None` guesses nothing.
    rightness: Option<usize>,
    drafted: u64,
    accepted: u64,
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
        Self {
            random,
            scheduler,
            device,
            now_us: 0,
            live: Vec::new(),
            texts,
            salts,
            refused: 0,
            hash_bits,
            lost_devices: 0,
            retained: 0,
            rightness: None,
            drafted: 0,
            accepted: 0,
        }
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
        let SchedulerStats { running, steps_in_flight, blocks_cached, blocks_retained, blocks_free, .. } =
            self.scheduler.stats();
        let num_blocks = self.scheduler.config.num_blocks;
        assert_eq!((running, steps_in_flight, blocks_cached + blocks_retained, blocks_free), (0, 0, 0, num_blocks));
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
        if self.random.one_in(2) {
            self.scheduler.note_time(step.id, self.random.next() % 200_000);
        }
        let outcomes = self.scheduler.commit(step.id, &sampled);
        let sampling = step.chunks.iter().filter(|chunk| chunk.sampled_rows > 0).count();
        self.accepted += (sampled.len() - sampling) as u64;
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

    fn schedule(&mut self) -> Option<Step> {
        let Some(rightness) = self.rightness else { return self.scheduler.schedule(self.now_us) };
        let mut drafter = FakeDrafter { device: &self.device, random: &mut self.random, rightness, drafted: 0 };
        let step = self.scheduler.schedule_with(self.now_us, &mut drafter);
        self.drafted += drafter.drafted;
        step
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
        let step = if is_stormy && self.random.one_in(10) { None } else { self.schedule() };
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
        self.retained += self.scheduler.stats().blocks_retained;
    }
}

/// Whatever happens to it, a world ends with everybody served and everything given back.
fn simulate(mut world: World) -> World {
    for turn in 0..400 {
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

/// What has happened over many worlds, so that a simulation that stopped exercising something is noticed. Answers with
/// the guesses made and those that were right.
fn simulate_all(depth: usize, hash_bits: Option<u32>, rightness: Option<usize>) -> (u64, u64) {
    let mut seen: [u64; 10] = [0; 10];
    let (mut drafted, mut accepted) = (0, 0);
    for seed in 0..24 {
        let mut world = World::new(1_000 * depth as u64 + seed, depth, hash_bits);
        world.rightness = rightness;
        let world = simulate(world);
        drafted += world.drafted;
        accepted += world.accepted;
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
            world.retained as u64,
        ];
        for (sum, count) in seen.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    println!(
        "steps, cached, preempted, promoted, superseded, expired, refused, discarded, lost devices, retained: {seen:?}"
    );
    assert!(seen.iter().all(|sum| *sum > 0), "{seen:?}");
    assert!(seen[0] > 5_000);
    (drafted, accepted)
}

#[test]
fn every_answer_is_the_models_at_depth_0() {
    simulate_all(0, None, None);
}

#[test]
fn every_answer_is_the_models_at_depth_1() {
    simulate_all(1, None, None);
}

#[test]
fn every_answer_is_the_models_at_depth_2() {
    simulate_all(2, None, None);
}

#[test]
fn colliding_hashes_never_serve_wrong_tokens() {
    simulate_all(1, Some(2), None);
}

#[test]
fn guesses_change_no_answer_however_often_they_are_right() {
    for rightness in [0, 4, 7, 8] {
        let (drafted, accepted) = simulate_all(0, None, Some(rightness));
        println!("{rightness} of 8: {drafted} guesses, {accepted} right");
        assert!(drafted > 5_000, "{drafted} guesses");
        assert!(accepted > drafted * rightness as u64 / 20 && accepted < drafted, "{accepted} of {drafted} were right");
    }
}

#[test]
fn a_device_that_runs_ahead_is_given_no_guesses() {
    assert_eq!(simulate_all(1, None, Some(8)), (0, 0));
}
