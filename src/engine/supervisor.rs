//! A runner that is replaced when its device fails: after a wait that doubles from failure to failure, up to a limit.
//!
//! Watches every call of the runner, so that the worker sees a step or a fatal error and nothing else, and keeps the
//! engine's health. The next runner is made in a [`Workshop`]; the engine's thread goes on answering meanwhile.

use super::batch::Batch;
use super::health::{EngineHealth, HealthCell, Outage};
use super::restart::{Made, Restart, RestartPolicy, Workshop};
use super::runner::{Collected, Runner, StepError, panic_message};
use crate::scheduler::StepId;
use prometheus::IntCounter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What is assumed of a restart's length, for callers that ask when to come back, until one was measured.
const EXPECTED_RESTART: Duration = Duration::from_secs(5);

/// What callers are told at least once it was.
const EXPECTED_RESTART_MIN: Duration = Duration::from_secs(1);

/// Who is told, and under which name.
pub(super) struct Reports {
    pub(super) model: String,
    pub(super) health: HealthCell,
    pub(super) restarts: IntCounter,
    /// Zero of the clock whose readings are passed as `now_us`.
    pub(super) started: Instant,
}

pub(super) struct Supervisor {
    state: State,
    workshop: Workshop,
    policy: RestartPolicy,
    reports: Reports,
    /// Since the last long health.
    failures: u32,
    /// Begun since the device failed.
    attempts: u32,
    last_error: String,
    /// Since when it is up, or down.
    since_us: u64,
    attempt_began_us: u64,
    expected_restart: Duration,
}

enum State {
    Up(Box<dyn Runner>),
    Waiting { due_us: u64 },
    Attempting,
    GivenUp,
}

/// What a look at the device has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Up,
    Down,
    /// Down, and an attempt has failed since the last look: it will take longer, if it succeeds at all.
    StillDown(Outage),
}

impl Supervisor {
    /// Errors if the operating system gives no thread for restarts.
    pub(super) fn new(runner: Box<dyn Runner>, restart: Restart, reports: Reports) -> std::io::Result<Self> {
        let depth = runner.depth();
        let (workshop, policy) = match restart {
            Restart::Never => (Workshop::None, RestartPolicy::default()),
            Restart::With { make, policy } => (Workshop::open(make, depth, &reports.model)?, policy),
        };
        Ok(Self {
            state: State::Up(runner),
            workshop,
            policy,
            reports,
            failures: 0,
            attempts: 0,
            last_error: String::new(),
            since_us: 0,
            attempt_began_us: 0,
            expected_restart: EXPECTED_RESTART,
        })
    }

    pub(super) fn submit(&mut self, batch: Batch) -> Result<(), StepError> {
        guarded(self.runner()?, |runner| runner.submit(batch))?
    }

    /// The answer to `step`, which is the oldest in flight. All that it says is within bounds.
    pub(super) fn collect(&mut self, step: StepId, vocab_size: usize) -> Result<Collected, StepError> {
        let collected = guarded(self.runner()?, |runner| runner.collect())?;
        match &collected.tokens {
            Err(error) if error.is_fatal() => return Err(error.clone()),
            Ok(_) | Err(_) => collected.check(step, vocab_size)?,
        }
        Ok(collected)
    }

    fn runner(&mut self) -> Result<&mut dyn Runner, StepError> {
        match &mut self.state {
            State::Up(runner) => Ok(&mut **runner),
            State::Waiting { .. } | State::Attempting | State::GivenUp => {
                Err(StepError::Device { message: "it is not there".to_owned() })
            }
        }
    }

    /// Down, and not for good: the engine's thread has to look again soon.
    pub(super) fn is_restarting(&self) -> bool {
        match self.state {
            State::Waiting { .. } | State::Attempting => true,
            State::Up(_) | State::GivenUp => false,
        }
    }

    /// The device has failed in the middle of its work. Health is red when this returns.
    pub(super) fn fail(&mut self, error: &StepError, now_us: u64) -> Outage {
        let is_long_ago = now_us.saturating_sub(self.since_us) >= micros(self.policy.forgive_after);
        let was = std::mem::replace(&mut self.state, State::GivenUp);
        if let State::Up(_) = was {
            self.failures = if is_long_ago { 0 } else { self.failures };
            self.attempts = 0;
            self.since_us = now_us;
        }
        let outage = self.schedule(error.to_string(), now_us);
        let (model, is_final) = (&self.reports.model, outage.is_final());
        tracing::error!(model, cause = %error, is_final, "the device failed: what was running on it is lost");
        if let State::Up(runner) = was {
            self.workshop.discard(runner);
        }
        outage
    }

    /// Begins attempts that are due and takes what they have made.
    pub(super) fn poll(&mut self, now_us: u64) -> Condition {
        match &self.state {
            State::Up(_) => return Condition::Up,
            State::Waiting { due_us } if *due_us <= now_us => return self.attempt(now_us),
            State::Waiting { .. } | State::GivenUp => return Condition::Down,
            State::Attempting => {}
        }
        match self.workshop.made() {
            Made::NotYet => Condition::Down,
            Made::Runner(runner) => {
                self.come_back(runner, now_us);
                Condition::Up
            }
            Made::Failed(reason) => {
                let outage = self.schedule(reason.clone(), now_us);
                let (model, attempt) = (&self.reports.model, self.attempts);
                if outage.is_final() {
                    tracing::error!(model, attempt, reason, "the engine could not be restarted and stays down");
                } else {
                    tracing::warn!(model, attempt, reason, "the engine could not be restarted yet");
                }
                Condition::StillDown(outage)
            }
        }
    }

    fn attempt(&mut self, now_us: u64) -> Condition {
        self.attempts += 1;
        self.attempt_began_us = now_us;
        self.state = State::Attempting;
        self.announce(self.expected_restart);
        self.workshop.order();
        Condition::Down
    }

    fn come_back(&mut self, runner: Box<dyn Runner>, now_us: u64) {
        self.state = State::Up(runner);
        self.expected_restart =
            Duration::from_micros(now_us.saturating_sub(self.attempt_began_us)).max(EXPECTED_RESTART_MIN);
        let down_ms = now_us.saturating_sub(self.since_us) / 1000;
        self.since_us = now_us;
        self.reports.restarts.inc();
        self.reports.health.set(EngineHealth::Healthy);
        tracing::info!(model = self.reports.model, attempts = self.attempts, down_ms, "the engine is back");
    }

    /// After one more failure: when to try next, if at all.
    fn schedule(&mut self, last_error: String, now_us: u64) -> Outage {
        self.failures += 1;
        let wait = self.policy.wait(self.failures);
        self.last_error = last_error;
        let can_go_on = self.workshop.can_make() && self.failures < self.policy.failures_max;
        let retry_after = can_go_on.then(|| wait.saturating_add(self.expected_restart));
        match retry_after {
            Some(retry_after) => {
                self.state = State::Waiting { due_us: now_us.saturating_add(micros(wait)) };
                self.announce(retry_after);
            }
            None => {
                self.state = State::GivenUp;
                self.reports.health.set(EngineHealth::Failed { last_error: self.last_error.clone() });
            }
        }
        Outage { model: self.reports.model.clone(), retry_after }
    }

    fn announce(&self, retry_after: Duration) {
        self.reports.health.set(EngineHealth::Restarting {
            since: self.reports.started + Duration::from_micros(self.since_us),
            attempts: self.attempts,
            last_error: self.last_error.clone(),
            retry_after,
        });
    }

    /// `None` while the device is there.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.reports.health.outage(&self.reports.model)
    }
}

/// A panic that leaves a runner is a failure of its device: nobody knows what state it is in.
fn guarded<T>(runner: &mut dyn Runner, call: impl FnOnce(&mut dyn Runner) -> T) -> Result<T, StepError> {
    // The runner is not used again after a panic, so nobody sees what it left half done.
    catch_unwind(AssertUnwindSafe(|| call(runner)))
        .map_err(|panic| StepError::RunnerPanicked { message: panic_message(&*panic) })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
