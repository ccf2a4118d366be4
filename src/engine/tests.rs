//! The worker over a device without arithmetic, at depth 0 and 1. Driven turn by turn on the test's own thread, with
//! a clock that the test moves.

mod priorities;
mod restart;
mod speculation;

use super::fake::{FakeRunner, Fault, Ledger, next_token};
use super::health::HealthCell;
use super::runner::Runner;
use super::speaker::event_channel;
use super::supervisor::{Reports, Supervisor};
use super::worker::{Clock, Command, Settings, Submission, Turn, Worker};
use super::{EngineMetrics, Restart};
use crate::domain::{CacheSalt, CallId, Class, Event, FinishReason, GenerateError, SamplingParams, SessionKey};
use crate::scheduler::{Scheduler, SchedulerConfig};
use crate::tokenizer::{JsonFiles, Tokenizer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const BLOCK_TOKENS: usize = 4;
/// Small enough that random tokens stay inside the test tokenizer's vocabulary.
const VOCAB: u32 = 200;

struct Bench {
    worker: Worker,
    commands: SyncSender<Command>,
    metrics: EngineMetrics,
    now_us: Arc<AtomicU64>,
    ledger: Arc<Ledger>,
    health: HealthCell,
    tokenizer: Arc<Tokenizer>,
}

/// A device, and the clock of its bench.
struct Made {
    runner: Box<dyn Runner>,
    vocab_size: usize,
    step_drafts_max: usize,
    now_us: Arc<AtomicU64>,
}

struct Answer {
    events: mpsc::Receiver<Result<Event, GenerateError>>,
}

struct Ask {
    prompt: Vec<u32>,
    max_tokens: usize,
    stop: Vec<String>,
    stop_tokens: Vec<u32>,
    class: Class,
    session: Option<&'static str>,
    deadline: Duration,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            prompt: vec![1, 2, 3, 4, 5],
            max_tokens: 8,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            class: Class::Completion,
            session: None,
            deadline: Duration::from_secs(60),
        }
    }
}

impl Ask {
    fn submission(self, received_us: u64) -> (Submission, Answer) {
        let (events, receiver) = event_channel(self.max_tokens);
        let submission = Submission {
            id: CallId("test".into()),
            prompt: self.prompt,
            stop_tokens: self.stop_tokens.into(),
            stop: self.stop,
            params: Arc::new(SamplingParams::default()),
            seed: 0,
            max_tokens: self.max_tokens,
            class: self.class,
            session: self.session.map(|name| SessionKey(name.into())),
            cache_salt: CacheSalt(1),
            received_us,
            deadline: self.deadline,
            events,
        };
        (submission, Answer { events: receiver })
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let json = std::fs::read("models/golden/tokenizers/gpt-2/tokenizer.json").expect("golden tokenizer");
    let files = JsonFiles { tokenizer: &json, ..JsonFiles::default() };
    Arc::new(Tokenizer::from_json(files, 4096).expect("loads"))
}

fn config(depth: usize, num_blocks: usize) -> SchedulerConfig {
    SchedulerConfig {
        block_tokens: BLOCK_TOKENS,
        num_blocks,
        step_tokens_max: 16,
        running_max: 4,
        waiting_max: 64,
        context_tokens: 64,
        depth,
        chat_share: 0.125,
        promote_after_us: 1_000_000,
        prefill_chunk_max: 8,
    }
}

impl Bench {
    fn new(depth: usize, num_blocks: usize) -> Self {
        Self::with(depth, num_blocks, |_| {})
    }

    fn with(depth: usize, num_blocks: usize, adjust: impl FnOnce(&mut FakeRunner)) -> Self {
        let ledger = Arc::new(Ledger::default());
        let config = config(depth, num_blocks);
        let mut runner = FakeRunner::new(&config, VOCAB, &ledger);
        adjust(&mut runner);
        Self::over(config, runner, Restart::Never, ledger)
    }

    fn over(config: SchedulerConfig, runner: FakeRunner, restart: Restart, ledger: Arc<Ledger>) -> Self {
        Self::speaking(tokenizer(), config, runner, restart, ledger)
    }

    fn speaking(
        tokenizer: Arc<Tokenizer>,
        config: SchedulerConfig,
        runner: FakeRunner,
        restart: Restart,
        ledger: Arc<Ledger>,
    ) -> Self {
        let step_drafts_max = runner.step_drafts_max;
        let (vocab_size, now_us) = (runner.vocab as usize, Arc::new(AtomicU64::new(0)));
        let made = Made { runner: Box::new(runner), vocab_size, step_drafts_max, now_us };
        Self::of(tokenizer, config, made, restart, ledger)
    }

    fn of(
        tokenizer: Arc<Tokenizer>,
        config: SchedulerConfig,
        made: Made,
        restart: Restart,
        ledger: Arc<Ledger>,
    ) -> Self {
        let scheduler = Scheduler::new(config).expect("valid");
        let (commands, receiver) = sync_channel(256);
        let metrics = EngineMetrics::register(&prometheus::Registry::new(), "fake").expect("fresh registry");
        let health = HealthCell::new(metrics.healthy.clone());
        let reports = Reports {
            model: "fake".to_owned(),
            health: health.clone(),
            restarts: metrics.restarts.clone(),
            started: Instant::now(),
        };
        let Made { runner, vocab_size, step_drafts_max, now_us } = made;
        let device = Supervisor::new(runner, restart, reports).expect("a thread");
        let now = Arc::clone(&now_us);
        let clock: Clock = Box::new(move || now.load(Ordering::SeqCst));
        let settings =
            Settings { block_tokens: BLOCK_TOKENS, step_drafts_max, vocab_size, metrics: metrics.clone(), clock };
        let worker = Worker::new(scheduler, device, receiver, Arc::clone(&tokenizer), settings);
        Self { worker, commands, metrics, now_us, ledger, health, tokenizer }
    }

    fn ask(&self, ask: Ask) -> Answer {
        let (submission, answer) = ask.submission(self.now_us.load(Ordering::SeqCst));
        self.commands.send(Command::Submit(Box::new(submission))).expect("the worker listens");
        answer
    }

    /// One turn that never blocks.
    fn turn(&mut self) -> Turn {
        self.now_us.fetch_add(1000, Ordering::SeqCst);
        self.worker.turn(Turn::Worked)
    }

    /// Turns until nothing is left to do. Fails when that takes implausibly long.
    fn drive(&mut self) {
        for _ in 0..10_000 {
            if self.turn() == Turn::Idle {
                return;
            }
        }
        panic!("the worker did not come to rest");
    }

    fn assert_nothing_held(&self) {
        assert_eq!(self.metrics.held_blocks(), 0, "blocks are still held");
        assert_eq!(self.metrics.running_and_waiting(), (0, 0));
    }

    /// What the answer to a prompt must be: no cache, no batch, no step.
    fn oracle(&self, prompt: &[u32], max_tokens: usize) -> String {
        let mut history = prompt.to_vec();
        let mut bytes = Vec::new();
        for _ in 0..max_tokens {
            let token = next_token(&history, VOCAB);
            bytes.extend_from_slice(self.tokenizer.token_bytes(token));
            history.push(token);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Answer {
    fn collect(&mut self) -> Vec<Result<Event, GenerateError>> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    fn text(&mut self) -> (String, Option<FinishReason>) {
        let mut text = String::new();
        let mut finished = None;
        for event in self.collect() {
            match event.expect("no error") {
                Event::Text { text: more, .. } => text.push_str(&more),
                Event::Finished { reason, .. } => finished = Some(reason),
                Event::Taken(_) | Event::Started { .. } => {}
            }
        }
        (text, finished)
    }
}

fn prompts() -> Vec<Vec<u32>> {
    (0..24u32)
        .map(|index| {
            let shared = 4 + (index % 5) * 3;
            (0..shared).chain((0..index % 7).map(|tail| 50 + index + tail)).map(|token| token % VOCAB).collect()
        })
        .collect()
}

#[test]
fn a_device_one_step_ahead_says_what_the_oracle_says() {
    for depth in [0, 1] {
        for num_blocks in [12, 200] {
            let mut bench = Bench::new(depth, num_blocks);
            let mut answers: Vec<(Vec<u32>, Answer)> = prompts()
                .into_iter()
                .enumerate()
                .map(|(index, prompt)| {
                    let class = if index % 3 == 0 { Class::Chat } else { Class::Completion };
                    let answer = bench.ask(Ask { prompt: prompt.clone(), max_tokens: 12, class, ..Ask::default() });
                    (prompt, answer)
                })
                .collect();
            bench.drive();
            for (prompt, answer) in &mut answers {
                let (text, finished) = answer.text();
                assert_eq!(finished, Some(FinishReason::Length), "depth {depth}, {num_blocks} blocks");
                assert_eq!(text, bench.oracle(prompt, 12), "depth {depth}, {num_blocks} blocks, prompt {prompt:?}");
            }
            bench.assert_nothing_held();
        }
    }
}

#[test]
fn a_stop_string_found_while_a_step_is_in_flight_drops_the_surplus_token() {
    for depth in [0, 1] {
        let mut bench = Bench::new(depth, 40);
        let whole = bench.oracle(&[9, 8, 7], 12);
        let middle: String = whole.chars().skip(whole.chars().count() / 2).take(2).collect();
        let cut = whole.find(&middle).expect("taken from it");
        let mut answer = bench.ask(Ask { prompt: vec![9, 8, 7], max_tokens: 12, stop: vec![middle], ..Ask::default() });
        bench.drive();
        assert_eq!(answer.text(), (whole[..cut].to_owned(), Some(FinishReason::Stop)), "depth {depth}");
        bench.assert_nothing_held();
    }
}

#[test]
fn the_stop_token_ends_without_being_said() {
    for depth in [0, 1] {
        let mut bench = Bench::new(depth, 40);
        let prompt = vec![3, 1, 4];
        let mut history = prompt.clone();
        for _ in 0..5 {
            history.push(next_token(&history, VOCAB));
        }
        let stop_token = history[prompt.len() + 4];
        let first = history[prompt.len()..].iter().position(|token| *token == stop_token).expect("present");
        let ask = Ask { prompt: prompt.clone(), max_tokens: 12, stop_tokens: vec![stop_token], ..Ask::default() };
        let mut answer = bench.ask(ask);
        bench.drive();
        assert_eq!(answer.text(), (bench.oracle(&prompt, first), Some(FinishReason::Stop)), "depth {depth}");
        bench.assert_nothing_held();
    }
}

#[test]
fn a_client_that_leaves_is_let_go_within_a_step() {
    for depth in [0, 1] {
        for turns_before in [0, 1, 2, 5] {
            let mut bench = Bench::new(depth, 40);
            let leaver = bench.ask(Ask { prompt: (0..30).collect(), max_tokens: 30, ..Ask::default() });
            let mut stayer = bench.ask(Ask { prompt: vec![5, 6], max_tokens: 3, ..Ask::default() });
            for _ in 0..turns_before {
                bench.turn();
            }
            drop(leaver);
            bench.drive();
            assert_eq!(stayer.text().0, bench.oracle(&[5, 6], 3));
            bench.assert_nothing_held();
            let steps = bench.ledger.steps.load(Ordering::SeqCst);
            assert!(steps <= turns_before + 6 + depth, "{steps} steps after {turns_before} turns: work went on");
        }
    }
}

#[test]
fn what_a_cancelled_sequence_computed_serves_the_next_keystroke() {
    for depth in [0, 1] {
        let mut bench = Bench::new(depth, 60);
        let typed: Vec<u32> = (0..30).collect();
        let first = bench.ask(Ask { prompt: typed.clone(), max_tokens: 20, ..Ask::default() });
        for _ in 0..6 {
            bench.turn();
        }
        drop(first);
        bench.drive();
        let next: Vec<u32> = typed.iter().copied().chain([77]).collect();
        let mut answer = bench.ask(Ask { prompt: next, max_tokens: 1, ..Ask::default() });
        bench.drive();
        let started = answer.collect().into_iter().find_map(|event| match event {
            Ok(Event::Started { cached_tokens, .. }) => Some(cached_tokens),
            _ => None,
        });
        assert_eq!(started, Some(30), "depth {depth}: every token of the cancelled prompt is reused");
    }
}

#[test]
fn a_newer_completion_of_the_session_takes_the_place_of_the_older() {
    for depth in [0, 1] {
        let mut bench = Bench::new(depth, 60);
        let mut older = bench.ask(Ask { session: Some("a"), max_tokens: 20, ..Ask::default() });
        let mut other = bench.ask(Ask { session: Some("b"), max_tokens: 4, ..Ask::default() });
        bench.turn();
        bench.turn();
        let mut newer = bench.ask(Ask { session: Some("a"), prompt: vec![1, 2, 3, 4, 5, 6], ..Ask::default() });
        bench.drive();
        assert_eq!(older.collect().pop(), Some(Err(GenerateError::Superseded)));
        assert_eq!(newer.text().1, Some(FinishReason::Length));
        assert_eq!(other.text().1, Some(FinishReason::Length));
        bench.assert_nothing_held();
    }
}

#[test]
fn an_older_completion_that_was_rendered_more_slowly_does_not_displace_the_newer() {
    let mut bench = Bench::new(1, 60);
    bench.now_us.store(5000, Ordering::SeqCst);
    let mut newer = bench.ask(Ask { session: Some("a"), ..Ask::default() });
    bench.turn();
    bench.now_us.store(4000, Ordering::SeqCst);
    let mut older = bench.ask(Ask { session: Some("a"), ..Ask::default() });
    let mut other = bench.ask(Ask { session: Some("b"), ..Ask::default() });
    bench.now_us.store(7000, Ordering::SeqCst);
    bench.drive();
    assert_eq!(older.collect().pop(), Some(Err(GenerateError::Superseded)));
    assert_eq!(newer.text().1, Some(FinishReason::Length));
    assert_eq!(other.text().1, Some(FinishReason::Length));
    bench.assert_nothing_held();
}

#[test]
fn a_deadline_ends_a_sequence_and_says_in_which_phase() {
    let mut bench = Bench::new(1, 60);
    let mut answer = bench.ask(Ask { max_tokens: 40, deadline: Duration::from_millis(8), ..Ask::default() });
    bench.drive();
    let last = answer.collect().pop().expect("an event");
    assert!(
        matches!(last, Err(GenerateError::DeadlineExceeded { phase: "it was being generated", .. })),
        "got {last:?}"
    );
    bench.assert_nothing_held();
}

#[test]
fn a_failed_step_fails_its_sequences_and_the_engine_goes_on() {
    for depth in [0, 1] {
        let mut bench = Bench::with(depth, 60, |runner| runner.fault = Some((2, Fault::Step)));
        let mut unlucky = bench.ask(Ask { prompt: (0..12).collect(), ..Ask::default() });
        bench.drive();
        let last = unlucky.collect().pop().expect("an event");
        assert!(matches!(last, Err(GenerateError::StepFailed { .. })), "got {last:?}");
        let mut lucky = bench.ask(Ask::default());
        bench.drive();
        assert_eq!(lucky.text().0, bench.oracle(&[1, 2, 3, 4, 5], 8), "depth {depth}");
        bench.assert_nothing_held();
    }
}

#[test]
fn stopping_tells_everybody_and_loses_nobody() {
    for depth in [0, 1] {
        let mut bench = Bench::new(depth, 60);
        let mut running = bench.ask(Ask { max_tokens: 40, ..Ask::default() });
        bench.turn();
        bench.turn();
        let mut waiting = bench.ask(Ask::default());
        bench.commands.send(Command::Stop).expect("the worker listens");
        let Bench { worker, .. } = bench;
        worker.run();
        assert_eq!(running.collect().pop(), Some(Err(GenerateError::ShuttingDown)));
        assert_eq!(waiting.collect().pop(), Some(Err(GenerateError::ShuttingDown)));
    }
}

#[test]
fn two_hundred_long_requests_on_a_small_cache_all_end() {
    for depth in [0, 1] {
        let mut bench = Bench::new(depth, 16);
        let mut answers: Vec<Answer> = (0..200u32)
            .map(|index| {
                let prompt = (0..20).map(|token| (index + token) % VOCAB).collect();
                bench.ask(Ask { prompt, max_tokens: 30, ..Ask::default() })
            })
            .collect();
        bench.drive();
        let (mut finished, mut refused) = (0, 0);
        for answer in &mut answers {
            match answer.collect().pop() {
                Some(Ok(Event::Finished { .. })) => finished += 1,
                Some(Err(GenerateError::QueueFull { waiting_max: 64, .. })) => refused += 1,
                other => panic!("neither finished nor refused: {other:?}"),
            }
        }
        assert_eq!(finished + refused, 200);
        assert!(finished >= 64, "{finished} finished");
        bench.assert_nothing_held();
    }
}
