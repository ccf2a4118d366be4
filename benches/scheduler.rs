//! What planning and accounting cost per step, without any model: `cargo bench --bench scheduler [-- --json]`.
//!
//! Workloads, all with seed 1 and blocks of 16 tokens:
//! - `decode`: 256 sequences of 1,000 tokens, each one decode row per step.
//! - `decode ahead`: the same, one step ahead of the commits.
//! - `mixed`: 256 slots kept full by arrivals of 200 to 2,000 prompt tokens, three in four of them sharing a prefix
//!   with an earlier one, chunked prefill under 2,048 tokens a step, 64 tokens of output, one cancel in 20 steps.
//! - `mixed, timed`: the same, and the scheduler is told what each step took: 3 ms and 16 µs for each token.

use sconce::domain::{CacheSalt, Class};
use sconce::scheduler::{NewSequence, Outcome, Sampled, Scheduler, SchedulerConfig, SequenceId, Step};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SEED: u64 = 1;
const SEQUENCES: usize = 256;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn tokens(&mut self, count: u64) -> Vec<u32> {
        (0..count).map(|_| self.below(32_000) as u32).collect()
    }
}

struct Figures {
    workload: &'static str,
    steps: usize,
    /// Chunks over all measured steps.
    chunks: usize,
    tokens: usize,
    schedule: Duration,
    commit: Duration,
    add: Duration,
}

impl Figures {
    fn new(workload: &'static str) -> Self {
        let zero = Duration::ZERO;
        Self { workload, steps: 0, chunks: 0, tokens: 0, schedule: zero, commit: zero, add: zero }
    }

    fn schedule(&mut self, scheduler: &mut Scheduler) -> Option<Step> {
        let start = Instant::now();
        let step = scheduler.schedule(0);
        self.schedule += start.elapsed();
        if let Some(step) = &step {
            self.steps += 1;
            self.chunks += step.chunks.len();
            self.tokens += step.chunks.iter().map(|chunk| chunk.tokens.get()).sum::<usize>();
        }
        step
    }

    /// Says what the step took, if the workload does.
    fn note_time(&mut self, scheduler: &mut Scheduler, step: &Step) {
        let tokens: usize = step.chunks.iter().map(|chunk| chunk.tokens.get()).sum();
        let start = Instant::now();
        scheduler.note_time(step.id, 3_000 + 16 * tokens as u64);
        self.commit += start.elapsed();
    }

    fn commit(&mut self, scheduler: &mut Scheduler, step: &Step, random: &mut Random) -> Vec<Outcome> {
        let sampled: Vec<Sampled> = step
            .chunks
            .iter()
            .filter(|chunk| chunk.sampled_rows == 1)
            .map(|chunk| Sampled { sequence: chunk.sequence, token: random.below(32_000) as u32 })
            .collect();
        let start = Instant::now();
        let outcomes = scheduler.commit(step.id, &sampled);
        self.commit += start.elapsed();
        outcomes
    }

    fn print(&self, is_json: bool) {
        let per_step = |time: Duration| time.as_nanos() as f64 / self.steps as f64;
        let (schedule, commit, add) = (per_step(self.schedule), per_step(self.commit), per_step(self.add));
        let total = schedule + commit + add;
        let per_chunk = total * self.steps as f64 / self.chunks as f64;
        let Self { workload, steps, .. } = self;
        if is_json {
            println!(
                "{{\"bench\":\"scheduler\",\"workload\":\"{workload}\",\"seed\":{SEED},\"steps\":{steps},\
                 \"ns_per_step\":{total:.0},\"schedule_ns\":{schedule:.0},\"commit_ns\":{commit:.0},\
                 \"add_ns\":{add:.0},\"ns_per_chunk\":{per_chunk:.0}}}"
            );
            return;
        }
        let rows = self.chunks as f64 / *steps as f64;
        let tokens = self.tokens as f64 / *steps as f64;
        println!(
            "{workload:<14} {steps:>6} steps of {rows:>5.1} chunks, {tokens:>6.1} tokens: {total:>8.0} ns per step \
             (schedule {schedule:.0}, commit {commit:.0}, add {add:.0}), {per_chunk:.0} ns per chunk"
        );
    }
}

fn config(depth: usize) -> SchedulerConfig {
    SchedulerConfig {
        block_tokens: 16,
        num_blocks: 131_072,
        step_tokens_max: 2_048,
        running_max: SEQUENCES,
        waiting_max: 1_024,
        context_tokens: 32_768,
        depth,
        chat_share: 0.125,
        promote_after_us: u64::MAX,
        prefill_chunk_max: 512,
    }
}

fn sequence(prompt: Vec<u32>, max_tokens: usize) -> NewSequence {
    NewSequence {
        prompt,
        class: Class::Completion,
        session: None,
        cache_salt: CacheSalt(7),
        deadline_us: u64::MAX,
        max_tokens,
        stop_tokens: Arc::new([32_001]),
    }
}

fn decode(workload: &'static str, depth: usize, steps: usize) -> Figures {
    let mut random = Random(SEED);
    let mut scheduler = Scheduler::new(config(depth)).expect("the configuration is sound");
    let mut warm_up = Figures::new("warm-up");
    for _ in 0..SEQUENCES {
        scheduler.add(sequence(random.tokens(1_000), 30_000), 0).expect("the queue has room");
    }
    while scheduler.stats().running < SEQUENCES || warm_up.steps < 256 {
        let step = warm_up.schedule(&mut scheduler).expect("somebody runs");
        warm_up.commit(&mut scheduler, &step, &mut random);
    }
    let mut figures = Figures::new(workload);
    let mut in_flight = VecDeque::new();
    while figures.steps < steps {
        in_flight.push_back(figures.schedule(&mut scheduler).expect("everybody runs"));
        if in_flight.len() > depth {
            let step = in_flight.pop_front().expect("it was just pushed");
            figures.commit(&mut scheduler, &step, &mut random);
        }
    }
    figures
}

/// Whether the scheduler is told what steps took.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    Told,
    Untold,
}

fn mixed(workload: &'static str, times: Times, steps: usize) -> Figures {
    let mut random = Random(SEED);
    let mut scheduler = Scheduler::new(config(0)).expect("the configuration is sound");
    let mut figures = Figures::new(workload);
    let mut prompts: Vec<Vec<u32>> = (0..32).map(|_| random.tokens(1_000)).collect();
    let mut live: Vec<SequenceId> = Vec::new();
    while figures.steps < steps {
        while scheduler.stats().running + scheduler.stats().waiting < SEQUENCES {
            let own = 200 + random.below(1_000);
            let mut prompt = random.tokens(own);
            let place = random.below(32) as usize;
            if random.below(4) > 0 {
                let keep = prompts[place].len().min(800);
                prompt.splice(0..0, prompts[place][..keep].iter().copied());
            }
            prompts[place].clone_from(&prompt);
            let class = if random.below(4) == 0 { Class::Chat } else { Class::Completion };
            let new = NewSequence { class, ..sequence(prompt, 64) };
            let start = Instant::now();
            let admission = scheduler.add(new, 0).expect("the queue has room");
            figures.add += start.elapsed();
            live.push(admission.id);
        }
        if figures.steps.is_multiple_of(20) && !live.is_empty() {
            let index = random.below(live.len() as u64) as usize;
            scheduler.cancel(live.swap_remove(index));
        }
        let step = figures.schedule(&mut scheduler).expect("somebody runs");
        if times == Times::Told {
            figures.note_time(&mut scheduler, &step);
        }
        for outcome in figures.commit(&mut scheduler, &step, &mut random) {
            if let Outcome::Finished { sequence, .. } = outcome {
                live.retain(|id| *id != sequence);
            }
        }
    }
    figures
}

fn main() {
    let is_json = std::env::args().any(|argument| argument == "--json");
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let steps = if is_test { 50 } else { 5_000 };
    let workloads = [
        decode("decode", 0, steps),
        decode("decode ahead", 1, steps),
        mixed("mixed", Times::Untold, steps),
        mixed("mixed, timed", Times::Told, steps),
    ];
    for figures in workloads {
        figures.print(is_json);
    }
}
