//! Completions among chats with endless long prompts, through the worker: on a device whose steps take time of the test's
//! own clock, who completes takes at most twice as long as alone, because the worker tells the scheduler what steps took.

use super::*;
use crate::engine::batch::Batch;
use crate::engine::runner::{Collected, Runner, StepError};
use std::collections::VecDeque;

const COMPLETIONS: usize = 150;

/// What a step and each of its rows take.
const STEP_US: u64 = 10_000;
const ROW_US: u64 = 1_000;

/// A fake device that moves the clock by what its steps take.
struct SlowRunner {
    device: FakeRunner,
    now_us: Arc<AtomicU64>,
    busy_until_us: u64,
    /// When each step in flight will be done.
    done_at_us: VecDeque<u64>,
}

impl Runner for SlowRunner {
    fn depth(&self) -> usize {
        self.device.depth()
    }

    fn submit(&mut self, batch: Batch) -> Result<(), StepError> {
        let start_us = self.busy_until_us.max(self.now_us.load(Ordering::SeqCst));
        self.busy_until_us = start_us + STEP_US + ROW_US * batch.rows() as u64;
        self.done_at_us.push_back(self.busy_until_us);
        self.device.submit(batch)
    }

    fn collect(&mut self) -> Collected {
        let done_us = self.done_at_us.pop_front().expect("a step is in flight");
        self.now_us.fetch_max(done_us, Ordering::SeqCst);
        self.device.collect()
    }
}

fn bench(depth: usize, chat_share: f32) -> Bench {
    let config = SchedulerConfig {
        num_blocks: 2_000,
        step_tokens_max: 128,
        prefill_chunk_max: 64,
        running_max: 16,
        context_tokens: 600,
        chat_share,
        promote_after_us: 2_000_000,
        ..config(depth, 0)
    };
    let ledger = Arc::new(Ledger::default());
    let now_us = Arc::new(AtomicU64::new(0));
    let device = FakeRunner::new(&config, VOCAB, &ledger);
    let (busy_until_us, done_at_us) = (0, VecDeque::new());
    let runner = Box::new(SlowRunner { device, now_us: Arc::clone(&now_us), busy_until_us, done_at_us });
    Bench::of(
        tokenizer(),
        config,
        Made { runner, vocab_size: VOCAB as usize, step_drafts_max: 0, now_us },
        Restart::Never,
        ledger,
    )
}

/// Prompts that nobody has asked before.
struct Prompts(u32);

impl Prompts {
    fn next(&mut self, tokens: usize) -> Vec<u32> {
        self.0 += 1;
        (0..tokens as u32).map(|index| (self.0.wrapping_mul(2_654_435_761) >> (index % 20)) % VOCAB).collect()
    }
}

/// A completion that is being waited for.
struct Asked {
    at_us: u64,
    expected: String,
    answer: Answer,
    said: String,
}

impl Asked {
    fn has_ended(&mut self) -> bool {
        let (text, finished) = self.answer.text();
        self.said.push_str(&text);
        finished.is_some()
    }
}

/// How long each completion took, sorted, and how many chats were answered meanwhile.
fn day(depth: usize, num_chats: usize, chat_share: f32) -> (Vec<u64>, usize) {
    let mut bench = bench(depth, chat_share);
    let mut prompts = Prompts(0);
    let now_us = Arc::clone(&bench.now_us);
    let now = || now_us.load(Ordering::SeqCst);
    let mut chats: Vec<Answer> = Vec::new();
    let mut asked: Option<Asked> = None;
    let (mut ask_at_us, mut latencies_us, mut answered) = (500_000, Vec::new(), 0);
    while latencies_us.len() < COMPLETIONS {
        while chats.len() < num_chats {
            let prompt = prompts.next(300 + chats.len() * 20);
            let class = Class::Chat;
            let deadline = Duration::from_secs(1 << 20);
            chats.push(bench.ask(Ask { prompt, max_tokens: 6, class, deadline, ..Ask::default() }));
        }
        if asked.is_none() && now() >= ask_at_us {
            let prompt = prompts.next(24);
            let answer = bench.ask(Ask { prompt: prompt.clone(), max_tokens: 10, ..Ask::default() });
            asked = Some(Asked { at_us: ask_at_us, expected: bench.oracle(&prompt, 10), answer, said: String::new() });
        }
        if bench.worker.turn(Turn::Worked) == Turn::Idle {
            now_us.fetch_add(1_000, Ordering::SeqCst);
        }
        chats.retain_mut(|chat| {
            let is_over = chat.collect().iter().any(|event| matches!(event, Ok(Event::Finished { .. })));
            answered += usize::from(is_over);
            !is_over
        });
        if let Some(ended) = asked.take_if(Asked::has_ended) {
            assert_eq!(ended.said, ended.expected);
            latencies_us.push(now() - ended.at_us);
            // Pauses of all lengths, so that completions come at all moments of a step.
            ask_at_us = now() + 150_000 + (latencies_us.len() as u64 * 77_777) % 900_000;
        }
    }
    latencies_us.sort_unstable();
    (latencies_us, answered)
}

#[test]
fn who_completes_takes_twice_as_long_among_chats_at_most() {
    for depth in [0, 1] {
        let p99 = |latencies_us: &[u64]| latencies_us[latencies_us.len() * 99 / 100];
        let (alone, _) = day(depth, 0, 0.25);
        let (among, answered) = day(depth, 12, 0.25);
        println!("depth {depth}: alone {} us, among chats {} us, {answered} chats", p99(&alone), p99(&among));
        assert!(p99(&among) <= 2 * p99(&alone), "depth {depth}: {} and {} us", p99(&among), p99(&alone));
        assert!(answered > 100, "depth {depth}: {answered} chats were answered");
        // Where chats may have all of a step's time the same day is too hard.
        let (crowded, _) = day(depth, 12, 1.0);
        assert!(p99(&crowded) > 3 * p99(&alone), "depth {depth}: {} us prove nothing", p99(&crowded));
    }
}
