//! A device that fails: who is told what and when, and what is left of it afterwards. The maker of the next device
//! waits until the test lets it succeed or fail, so that a restart takes as long as the test wants.

use super::{Answer, Ask, BLOCK_TOKENS, Bench, VOCAB, config, tokenizer};
use crate::domain::{Class, Event, FinishReason, GenerateError, ModelInfo};
use crate::engine::fake::{FakeRunner, Fault, Ledger};
use crate::engine::health::{DeathNotice, EngineHealth, HealthCell};
use crate::engine::worker::{Command, Turn};
use crate::engine::{
    DefaultDeadlines, Engine, EngineMetrics, LoadError, MemoryKind, MemoryPlan, Parts, Restart, RestartPolicy, Runner,
};
use crate::scheduler::Scheduler;
use crate::tokenizer::{Renderer, RendererOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

const NUM_BLOCKS: usize = 60;

/// Why the maker of these tests fails.
const NO_DEVICE: &str = "no device";

/// What the next attempt to restart comes to: a device with this fault, or none.
type Next = Option<Option<(usize, Fault)>>;

/// A worker over a device with a fault, and the hand that gives it its next devices.
struct Failing {
    bench: Bench,
    next: SyncSender<Next>,
}

impl Failing {
    fn new(depth: usize, fault: (usize, Fault)) -> Self {
        Self::with(depth, fault, RestartPolicy::default())
    }

    fn with(depth: usize, fault: (usize, Fault), policy: RestartPolicy) -> Self {
        let ledger = Arc::new(Ledger::default());
        let config = config(depth, NUM_BLOCKS);
        let mut runner = FakeRunner::new(&config, VOCAB, &ledger);
        runner.fault = Some(fault);
        let (next, nexts) = sync_channel::<Next>(8);
        let made = (config.clone(), Arc::clone(&ledger));
        let make = Box::new(move || {
            let (config, ledger) = &made;
            let no_device = || LoadError::Thread(std::io::Error::other(NO_DEVICE));
            let fault = nexts.recv().ok().flatten().ok_or_else(no_device)?;
            assert_eq!(ledger.alive.load(Ordering::SeqCst), 0, "the old device is gone before the next is made");
            let mut runner = FakeRunner::new(config, VOCAB, ledger);
            runner.fault = fault;
            Ok(Box::new(runner) as Box<dyn Runner>)
        });
        Self { bench: Bench::over(config, runner, Restart::With { make, policy }, ledger), next }
    }

    /// Turns until the device has failed.
    fn fail(&mut self) {
        for _ in 0..100 {
            if self.bench.health.get() != EngineHealth::Healthy {
                return;
            }
            self.bench.turn();
        }
        panic!("the device did not fail");
    }

    /// Lets the time pass after which the next attempt begins, and that attempt come to an end.
    fn attempt(&mut self, wait: Duration, next: Next) {
        let mut health = self.bench.health.get();
        self.bench.now_us.fetch_add(wait.as_micros() as u64, Ordering::SeqCst);
        self.next.send(next).expect("the maker lives");
        let mut changes = 0;
        for _ in 0..2_000 {
            // Sleeps for a moment while there is nothing to do, so that the maker's thread gets its turn.
            self.bench.worker.turn(Turn::Idle);
            let now = self.bench.health.get();
            changes += usize::from(now != health);
            health = now;
            if changes == 2 {
                return;
            }
        }
        panic!("the attempt did not begin and end: {health:?}");
    }

    /// Attempts begun since the failure, and the last error.
    fn restarting(&self) -> (u32, String) {
        match self.bench.health.get() {
            EngineHealth::Restarting { attempts, last_error, .. } => (attempts, last_error),
            other => panic!("not restarting: {other:?}"),
        }
    }

    /// Nothing begins before `wait` has passed.
    fn assert_waits(&mut self, wait: Duration) {
        let before = self.restarting();
        let spent_us = 20_000;
        self.bench.now_us.fetch_add(wait.as_micros() as u64 - spent_us, Ordering::SeqCst);
        for _ in 0..10 {
            self.bench.turn();
        }
        assert_eq!(self.restarting(), before, "an attempt began within {wait:?}");
    }

    fn assert_sound(&self) {
        self.bench.assert_nothing_held();
        assert_eq!(self.bench.ledger.late_calls.load(Ordering::SeqCst), 0, "a failed device was called");
    }
}

/// The end of an answer that the failure has reached, and when to come back.
fn down(answer: &mut Answer) -> (&'static str, Option<Duration>) {
    match answer.collect().pop() {
        Some(Err(GenerateError::EngineDown { model, cause, retry_after })) => {
            assert_eq!(model, "fake");
            (cause, retry_after)
        }
        other => panic!("not told that the engine is down: {other:?}"),
    }
}

fn cached(answer: &mut Answer) -> (usize, String) {
    let (mut cached, mut text) = (None, String::new());
    for event in answer.collect() {
        match event.expect("no error") {
            Event::Started { cached_tokens, .. } => cached = Some(cached_tokens),
            Event::Text { text: more, .. } => text.push_str(&more),
            Event::Taken(_) | Event::Finished { .. } => {}
        }
    }
    (cached.expect("started"), text)
}

const CUT_OFF: &str = "its device failed while it answered, and the engine is restarting";
const REFUSED: &str = "its engine is restarting after a failure of the device";
const FINAL: &str = "its engine has failed for good, and the log says why";

const FATAL: [Fault; 7] = [
    Fault::Submit,
    Fault::Collect,
    Fault::SubmitPanics,
    Fault::CollectPanics,
    Fault::TokenTooFew,
    Fault::TokenOutOfRange,
    Fault::WrongStep,
];

#[test]
fn whatever_the_device_does_the_engine_comes_back_as_it_was() {
    for depth in [0, 1] {
        for fault in FATAL {
            for step in [2, 5] {
                let case = format!("depth {depth}, {fault:?} at step {step}");
                let mut failing = Failing::new(depth, (step, fault));
                // Four find a place, two wait.
                let ask = |index: u32| Ask { prompt: (index..index + 6).collect(), max_tokens: 12, ..Ask::default() };
                let mut answers: Vec<Answer> = (0..6).map(|index| failing.bench.ask(ask(10 * index))).collect();
                failing.fail();
                assert_eq!(failing.bench.metrics.healthy.get(), 0, "{case}");
                assert_eq!(failing.bench.metrics.held_blocks(), 0, "{case}: no block is leaked");
                assert_eq!(failing.bench.metrics.running_and_waiting(), (0, 2), "{case}");
                for answer in &mut answers[..4] {
                    assert_eq!(down(answer), (CUT_OFF, Some(Duration::from_secs(6))), "{case}");
                }
                let mut late = failing.bench.ask(ask(90));
                failing.bench.turn();
                assert_eq!(down(&mut late), (REFUSED, Some(Duration::from_secs(6))), "{case}");

                failing.attempt(Duration::from_secs(1), Some(None));
                assert_eq!(failing.bench.health.get(), EngineHealth::Healthy, "{case}");
                assert_eq!(failing.bench.metrics.healthy.get(), 1, "{case}");
                assert_eq!(failing.bench.metrics.restarts.get(), 1, "{case}");
                failing.bench.drive();
                for (index, answer) in answers.iter_mut().enumerate().skip(4) {
                    let prompt = ask(10 * index as u32).prompt;
                    let whole = (failing.bench.oracle(&prompt, 12), Some(FinishReason::Length));
                    assert_eq!(answer.text(), whole, "{case}: who waited is served");
                }
                failing.assert_sound();
            }
        }
    }
}

#[test]
fn what_the_lost_cache_held_is_computed_again() {
    for depth in [0, 1] {
        let mut failing = Failing::new(depth, (12, Fault::Collect));
        let ask = || Ask { prompt: (0..12).collect(), max_tokens: 4, ..Ask::default() };
        let whole = failing.bench.oracle(&ask().prompt, 4);
        for known in [0, 11] {
            let mut answer = failing.bench.ask(ask());
            failing.bench.drive();
            assert_eq!(cached(&mut answer), (known, whole.clone()), "depth {depth}, before");
        }
        let mut last = failing.bench.ask(Ask { max_tokens: 30, ..ask() });
        failing.fail();
        assert_eq!(down(&mut last).0, CUT_OFF);
        failing.attempt(Duration::from_secs(1), Some(None));
        for known in [0, 11] {
            let mut answer = failing.bench.ask(ask());
            failing.bench.drive();
            assert_eq!(cached(&mut answer), (known, whole.clone()), "depth {depth}, afterwards");
        }
        failing.assert_sound();
    }
}

#[test]
fn waits_double_while_failures_follow_each_other_and_are_forgiven_after_long_health() {
    let second = Duration::from_secs(1);
    let mut failing = Failing::new(1, (1, Fault::Submit));
    let mut answers = vec![failing.bench.ask(Ask::default())];
    failing.fail();
    assert_eq!(failing.restarting(), (0, "the device failed: asked to fail".to_owned()));
    failing.assert_waits(second);
    // The next device fails at once, and the three attempts after it.
    failing.attempt(second, Some(Some((1, Fault::Collect))));
    answers.push(failing.bench.ask(Ask::default()));
    failing.fail();
    for (attempts, wait) in [(0, 2), (1, 4), (2, 8)] {
        assert_eq!(failing.restarting().0, attempts);
        failing.assert_waits(wait * second);
        failing.attempt(second, None);
        let reason = format!("no thread for the engine: {NO_DEVICE}");
        assert_eq!(failing.restarting(), (attempts + 1, reason));
    }
    failing.assert_waits(16 * second);
    failing.attempt(second, Some(Some((2, Fault::Submit))));
    // Health of ten minutes: the count begins anew.
    failing.bench.now_us.fetch_add(600_000_000, Ordering::SeqCst);
    answers.push(failing.bench.ask(Ask::default()));
    failing.fail();
    failing.assert_waits(second);
    failing.attempt(second, Some(None));
    for answer in &mut answers {
        assert_eq!(down(answer).0, CUT_OFF);
    }
    assert_eq!(failing.bench.metrics.restarts.get(), 3);
    let mut answer = failing.bench.ask(Ask::default());
    failing.bench.drive();
    assert_eq!(answer.text().0, failing.bench.oracle(&[1, 2, 3, 4, 5], 8));
    failing.assert_sound();
}

#[test]
fn who_waits_is_sent_away_when_the_first_attempt_fails() {
    let mut failing = Failing::new(1, (1, Fault::Collect));
    let mut answers: Vec<Answer> = (0..5).map(|_| failing.bench.ask(Ask::default())).collect();
    failing.fail();
    assert_eq!(failing.bench.metrics.running_and_waiting(), (0, 4), "the others wait for the first one's prefix");
    assert_eq!(down(&mut answers[0]).0, CUT_OFF);
    failing.attempt(Duration::from_secs(1), None);
    for answer in &mut answers[1..] {
        assert_eq!(down(answer), (REFUSED, Some(Duration::from_secs(7))));
    }
    assert_eq!(failing.bench.metrics.running_and_waiting(), (0, 0));
    failing.attempt(Duration::from_secs(2), Some(None));
    failing.assert_sound();
}

#[test]
fn an_engine_that_cannot_be_restarted_stays_down_and_goes_on_answering() {
    let policy = RestartPolicy { failures_max: 3, ..RestartPolicy::default() };
    let mut failing = Failing::with(1, (2, Fault::Collect), policy);
    let mut first = failing.bench.ask(Ask::default());
    failing.fail();
    assert_eq!(down(&mut first).0, CUT_OFF);
    failing.attempt(Duration::from_secs(1), None);
    failing.attempt(Duration::from_secs(2), None);
    let reason = format!("no thread for the engine: {NO_DEVICE}");
    assert_eq!(failing.bench.health.get(), EngineHealth::Failed { last_error: reason });
    failing.bench.now_us.fetch_add(3_600_000_000, Ordering::SeqCst);
    let mut late = failing.bench.ask(Ask::default());
    failing.bench.turn();
    assert_eq!(down(&mut late), (FINAL, None));
    assert_eq!((failing.bench.metrics.healthy.get(), failing.bench.metrics.restarts.get()), (0, 0));
    failing.assert_sound();
    failing.bench.commands.send(Command::Stop).expect("the worker listens");
    failing.bench.worker.run();
    assert_eq!(failing.bench.ledger.alive.load(Ordering::SeqCst), 0);
}

#[test]
fn without_a_way_to_restart_the_first_failure_is_the_last() {
    let mut bench = Bench::with(1, NUM_BLOCKS, |runner| runner.fault = Some((2, Fault::Collect)));
    let ask = || Ask { prompt: (0..6).collect(), max_tokens: 12, ..Ask::default() };
    let mut answers: Vec<Answer> = (0..6).map(|_| bench.ask(ask())).collect();
    for _ in 0..4 {
        bench.turn();
    }
    assert!(matches!(bench.health.get(), EngineHealth::Failed { .. }));
    for answer in &mut answers {
        assert_eq!(down(answer), (FINAL, None), "running and waiting alike");
    }
    bench.assert_nothing_held();
    assert_eq!(bench.ledger.alive.load(Ordering::SeqCst), 0, "the device is given back");
}

#[test]
fn clients_leave_and_deadlines_pass_during_a_restart() {
    let mut failing = Failing::new(0, (2, Fault::Submit));
    let ask = |deadline| Ask { prompt: (0..6).collect(), max_tokens: 12, deadline, ..Ask::default() };
    let long = Duration::from_secs(60);
    let _running: Vec<Answer> = (0..4).map(|_| failing.bench.ask(ask(long))).collect();
    let leaver = failing.bench.ask(ask(long));
    let hurry = Duration::from_millis(500);
    let mut hurried = failing.bench.ask(Ask { class: Class::Chat, ..ask(hurry) });
    failing.fail();
    let steps = failing.bench.ledger.steps.load(Ordering::SeqCst);
    assert_eq!(failing.bench.metrics.running_and_waiting(), (0, 2));
    drop(leaver);
    failing.bench.turn();
    assert_eq!(failing.bench.metrics.running_and_waiting(), (0, 1));
    failing.bench.now_us.fetch_add(600_000, Ordering::SeqCst);
    failing.bench.turn();
    let phase = "it was still waiting for a place";
    let last = hurried.collect().pop();
    assert!(
        matches!(last, Some(Err(GenerateError::DeadlineExceeded { phase: said, .. })) if said == phase),
        "{last:?}"
    );
    failing.attempt(Duration::from_secs(1), Some(None));
    failing.bench.drive();
    assert_eq!(failing.bench.ledger.steps.load(Ordering::SeqCst), steps, "nobody is left to compute for");
    failing.assert_sound();
}

#[test]
fn a_stop_does_not_wait_for_a_restart() {
    let mut failing = Failing::new(1, (2, Fault::Collect));
    let ask = || Ask { prompt: (0..6).collect(), max_tokens: 12, ..Ask::default() };
    let mut answers: Vec<Answer> = (0..5).map(|_| failing.bench.ask(ask())).collect();
    failing.fail();
    failing.bench.now_us.fetch_add(1_000_000, Ordering::SeqCst);
    failing.bench.turn();
    assert_eq!(failing.restarting().0, 1, "the maker is at work, and is never told to end it");
    failing.bench.commands.send(Command::Stop).expect("the worker listens");
    failing.bench.worker.run();
    assert_eq!(down(&mut answers[0]).0, CUT_OFF);
    assert_eq!(answers[4].collect().pop(), Some(Err(GenerateError::ShuttingDown)));
}

#[test]
fn a_stop_finds_a_device_that_fails_in_its_last_step() {
    let mut failing = Failing::new(1, (2, Fault::Collect));
    let mut answer = failing.bench.ask(Ask { max_tokens: 40, ..Ask::default() });
    failing.bench.turn();
    failing.bench.commands.send(Command::Stop).expect("the worker listens");
    failing.bench.worker.run();
    assert_eq!(down(&mut answer).0, CUT_OFF);
}

#[test]
fn a_thread_that_panics_leaves_a_notice() {
    let metrics = EngineMetrics::register(&prometheus::Registry::new(), "fake").expect("fresh registry");
    let health = HealthCell::new(metrics.healthy.clone());
    let check = |panics: bool, expected: &EngineHealth| {
        let notice = DeathNotice { model: "fake".to_owned(), health: health.clone() };
        let thread = std::thread::spawn(move || {
            let _notice = notice;
            assert!(!panics, "asked to panic");
        });
        assert_eq!(thread.join().is_err(), panics);
        assert_eq!(health.get(), *expected);
    };
    check(false, &EngineHealth::Healthy);
    check(true, &EngineHealth::Failed { last_error: "the engine's thread panicked".to_owned() });
    assert_eq!(metrics.healthy.get(), 0);
}

fn engine(ledger: &Arc<Ledger>) -> Engine {
    let config = config(0, NUM_BLOCKS);
    let renderer = Renderer::new(tokenizer(), None, RendererOptions::default()).expect("a renderer");
    let hour = Duration::from_secs(3600);
    let parts = Parts {
        info: ModelInfo {
            name: "fake".to_owned(),
            architecture: "fake".to_owned(),
            context_tokens: config.context_tokens,
            vocab_size: VOCAB as usize,
            parameters: 0,
            has_infill: false,
            has_chat: false,
            created: 0,
        },
        renderer,
        runner: Box::new(FakeRunner::new(&config, VOCAB, ledger)),
        restart: Restart::Never,
        scheduler: Scheduler::new(config).expect("valid"),
        block_tokens: BLOCK_TOKENS,
        step_drafts_max: 0,
        deadlines: DefaultDeadlines { completion: hour, chat: hour },
        metrics: EngineMetrics::register(&prometheus::Registry::new(), "fake").expect("fresh registry"),
        memory: MemoryPlan {
            kind: MemoryKind::Host,
            weights_bytes: 0,
            kv_bytes: 0,
            kv_tokens: 0,
            workspace_bytes: 0,
            available_bytes: None,
        },
    };
    Engine::start(parts).expect("a thread")
}

/// Would never end if stopping waited for the device.
#[test]
fn a_device_that_hangs_does_not_keep_the_process_from_ending() {
    let ledger = Arc::new(Ledger::default());
    let mut engine = engine(&ledger);
    let hung = ledger.gate.lock().expect("nobody panics with it");
    let (submission, mut answer) = Ask::default().submission(0);
    engine.handle.shared.commands.send(Command::Submit(Box::new(submission))).expect("the thread listens");
    while ledger.calls.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    engine.end(Duration::from_millis(20));
    assert!(answer.collect().is_empty(), "the device hangs");
    drop(hung);
    let told = std::iter::from_fn(|| answer.events.blocking_recv()).last();
    assert_eq!(told, Some(Err(GenerateError::ShuttingDown)));
}
