//! The engine's thread: decide, pack, compute, sample, account. Nothing else touches the device.

use super::answers::Answers;
use super::batch::{Batch, EnteringRow, RowSource};
use super::health::Outage;
use super::metrics::EngineMetrics;
use super::retry::RetryEstimate;
use super::runner::{Collected, StepError};
use super::speaker::{EventSender, Speaker, Spoken};
use super::speculation::Speculator;
use super::supervisor::{Condition, Supervisor};
use crate::domain::{CacheSalt, CallId, Class, GenerateError, SamplingParams, SessionKey};
use crate::sampler::SampledToken;
use crate::scheduler::{AdmitError, NewSequence, Outcome, Scheduler, SequenceId, StepId};
use crate::tokenizer::Tokenizer;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// How long the thread sleeps when it has work but none that can go on, or waits for a restart; clients that left are
/// noticed after it.
const STALLED_WAIT: Duration = Duration::from_millis(5);

/// Microseconds since the engine started. Injected, so that tests decide what time it is.
pub(super) type Clock = Box<dyn Fn() -> u64 + Send>;

/// One rendered job on its way to the engine's thread.
pub(super) struct Submission {
    pub(super) id: CallId,
    pub(super) prompt: Vec<u32>,
    pub(super) stop_tokens: Arc<[u32]>,
    pub(super) stop: Vec<String>,
    pub(super) params: Arc<SamplingParams>,
    pub(super) seed: u64,
    pub(super) max_tokens: usize,
    pub(super) class: Class,
    pub(super) session: Option<SessionKey>,
    pub(super) cache_salt: CacheSalt,
    pub(super) received_us: u64,
    pub(super) deadline: Duration,
    pub(super) events: EventSender,
}

pub(super) enum Command {
    Submit(Box<Submission>),
    Stop,
}

/// What the thread knows of a sequence that has not ended.
struct Live {
    id: CallId,
    speaker: Speaker,
    params: Arc<SamplingParams>,
    seed: u64,
    prompt_tokens: usize,
    session: Option<SessionKey>,
    deadline: Duration,
    received_us: u64,
    last_token_us: Option<u64>,
    /// From its arrival to its first step, once there was one.
    queue_wait_us: Option<u64>,
}

impl Live {
    fn queue_wait(&self) -> Duration {
        Duration::from_micros(self.queue_wait_us.unwrap_or_default())
    }
}

pub(super) struct Settings {
    pub(super) block_tokens: usize,
    /// Guessed tokens that one step may verify; 0 guesses nothing.
    pub(super) step_drafts_max: usize,
    /// Tokens the model may sample.
    pub(super) vocab_size: usize,
    pub(super) metrics: EngineMetrics,
    pub(super) clock: Clock,
}

pub(super) struct Worker {
    scheduler: Scheduler,
    speculator: Speculator,
    device: Supervisor,
    commands: Receiver<Command>,
    tokenizer: Arc<Tokenizer>,
    block_tokens: usize,
    vocab_size: usize,
    metrics: EngineMetrics,
    clock: Clock,
    live: HashMap<SequenceId, Live>,
    spare: Vec<Batch>,
    /// Steps in flight, and when each was submitted.
    submitted: VecDeque<(StepId, u64)>,
    /// When the device ended the last step it was collected from.
    collected_us: u64,
    abandoned: Vec<SequenceId>,
    retry: RetryEstimate,
}

/// What remains of the loop after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Worked,
    /// Nothing could be computed: the next turn may wait for a command.
    Idle,
    Stopped,
}

impl Worker {
    pub(super) fn new(
        scheduler: Scheduler,
        device: Supervisor,
        commands: Receiver<Command>,
        tokenizer: Arc<Tokenizer>,
        settings: Settings,
    ) -> Self {
        Self {
            scheduler,
            speculator: Speculator::new(settings.step_drafts_max),
            device,
            commands,
            tokenizer,
            block_tokens: settings.block_tokens,
            vocab_size: settings.vocab_size,
            metrics: settings.metrics,
            clock: settings.clock,
            live: HashMap::new(),
            spare: Vec::new(),
            submitted: VecDeque::new(),
            collected_us: 0,
            abandoned: Vec::new(),
            retry: RetryEstimate::default(),
        }
    }

    pub(super) fn run(mut self) {
        let mut turn = Turn::Idle;
        while turn != Turn::Stopped {
            turn = self.turn(turn);
        }
        self.stop();
    }

    /// Takes what has arrived, lets go of what nobody waits for, and steps once.
    pub(super) fn turn(&mut self, last: Turn) -> Turn {
        if self.receive(last) == Turn::Stopped {
            return Turn::Stopped;
        }
        self.let_go();
        let turn = match self.device.poll((self.clock)()) {
            Condition::Up => self.step(),
            Condition::Down => Turn::Idle,
            Condition::StillDown(outage) => {
                self.send_away(&outage);
                Turn::Idle
            }
        };
        self.metrics.observe(&self.scheduler.stats());
        turn
    }

    /// One turn: submit as far ahead as the device allows, then account for the oldest step.
    fn step(&mut self) -> Turn {
        while self.submitted.len() <= self.scheduler.config().depth {
            let Some(step) = self.scheduler.schedule_with((self.clock)(), &mut self.speculator) else { break };
            let id = step.id;
            self.note_first_steps(step.chunks.iter().map(|chunk| chunk.sequence));
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.pack(step, self.block_tokens, &Rows { live: &self.live, scheduler: &self.scheduler });
            self.metrics.step_rows.inc_by(batch.rows() as u64);
            let submitted_us = (self.clock)();
            match self.device.submit(batch) {
                Ok(()) => self.submitted.push_back((id, submitted_us)),
                Err(error) if error.is_fatal() => return self.device_failed(&error),
                Err(error) => {
                    let failed = self.scheduler.fail(id);
                    self.fail_all(failed, &error.to_string());
                }
            }
        }
        let Some((step, submitted_us)) = self.submitted.pop_front() else { return Turn::Idle };
        match self.device.collect(step, self.vocab_size) {
            Ok(collected) => {
                self.account(collected, submitted_us);
                Turn::Worked
            }
            Err(error) => self.device_failed(&error),
        }
    }

    /// What the device held is lost, the key-value cache with it. Whoever was being computed ends; who waits for a
    /// place keeps it: nothing of its answer depends on the device that failed, and the next one may be there soon.
    fn device_failed(&mut self, error: &StepError) -> Turn {
        let outage = self.device.fail(error, (self.clock)());
        self.submitted.clear();
        for sequence in self.scheduler.reset() {
            self.refuse(sequence, outage.cut_off(), "failed");
        }
        if outage.is_final() {
            self.send_away(&outage);
        }
        Turn::Idle
    }

    /// The next device is not there soon, if ever: who waits may try another lane, or again later.
    fn send_away(&mut self, outage: &Outage) {
        let waiting: Vec<SequenceId> = self.live.keys().copied().collect();
        for sequence in waiting {
            self.scheduler.cancel(sequence);
            self.refuse(sequence, outage.refusal(), "failed");
        }
    }

    fn account(&mut self, collected: Collected, submitted_us: u64) {
        let now_us = (self.clock)();
        let micros = now_us - submitted_us;
        // A device that runs ahead begins a step when it has ended the one before.
        let busy_us = now_us - submitted_us.max(self.collected_us);
        self.collected_us = now_us;
        let Collected { batch, tokens } = collected;
        let step = batch.step.expect("a submitted batch belongs to a step");
        self.metrics.step.observe(seconds(micros));
        match tokens {
            Ok(rows) => {
                let verified = self.speculator.learn(&batch, &rows, micros);
                self.metrics.draft_tokens.inc_by(verified.drafted as u64);
                self.metrics.draft_tokens_accepted.inc_by(verified.accepted as u64);
                let Answers { sampled, tokens, broken } = Answers::of(&batch, rows);
                self.scheduler.note_time(step, busy_us);
                let outcomes = self.scheduler.commit(step, &sampled);
                self.publish(&outcomes, &tokens);
                // A row that could not be sampled ends its sequence and nothing else.
                for (sequence, error) in broken {
                    self.scheduler.cancel(sequence);
                    self.fail_all(vec![sequence], &error.to_string());
                }
            }
            Err(error) => {
                let failed = self.scheduler.fail(step);
                self.fail_all(failed, &error.to_string());
            }
        }
        self.spare.push(batch);
    }

    /// `tokens` are those that were committed.
    fn publish(&mut self, outcomes: &[Outcome], tokens: &[SampledToken]) {
        let now = (self.clock)();
        for outcome in outcomes {
            match *outcome {
                Outcome::Token { sequence, sampled_index, .. } => {
                    let cached_tokens = self.scheduler.cached_tokens(sequence);
                    let Some(live) = self.live.get_mut(&sequence) else { continue };
                    live.speaker.start(cached_tokens, live.queue_wait());
                    self.metrics.generated_tokens.inc();
                    match live.last_token_us.replace(now) {
                        Some(before) => self.metrics.inter_token.observe(seconds(now - before)),
                        None => self.metrics.time_to_first_token.observe(seconds(now - live.received_us)),
                    }
                    if live.speaker.token(&tokens[sampled_index]) == Spoken::Stopped {
                        self.scheduler.cancel(sequence);
                        self.end(sequence, "stop");
                    }
                }
                Outcome::Finished { sequence, reason } => {
                    let cached_tokens = self.scheduler.cached_tokens(sequence);
                    if let Some(live) = self.live.get_mut(&sequence) {
                        live.speaker.start(cached_tokens, live.queue_wait());
                        live.speaker.finish(reason);
                    }
                    self.end(sequence, "finished");
                }
            }
        }
    }

    /// Takes new work. Blocks only when there is nothing to compute.
    fn receive(&mut self, last: Turn) -> Turn {
        if last == Turn::Idle {
            let waits = self.live.is_empty() && !self.device.is_restarting();
            let received = if waits {
                self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.commands.recv_timeout(STALLED_WAIT)
            };
            match received {
                Ok(Command::Submit(submission)) => self.admit(*submission),
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Turn::Stopped,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(Command::Submit(submission)) => self.admit(*submission),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Turn::Stopped,
                Err(TryRecvError::Empty) => return Turn::Worked,
            }
        }
    }

    fn admit(&mut self, submission: Submission) {
        let prompt_tokens = submission.prompt.len();
        let is_overtaken = self.is_overtaken(&submission);
        let mut speaker = Speaker::new(submission.events, Arc::clone(&self.tokenizer), &submission.stop, prompt_tokens);
        if let Some(outage) = self.device.outage() {
            self.metrics.requests_ended.with_label_values(&["refused"]).inc();
            speaker.fail(outage.refusal());
            return;
        }
        if is_overtaken {
            self.metrics.requests_ended.with_label_values(&["superseded"]).inc();
            speaker.fail(GenerateError::Superseded);
            return;
        }
        let session = submission.session.clone();
        let guessing_session = session.clone().map(|session| (session, submission.cache_salt));
        let max_tokens = submission.max_tokens;
        let new = NewSequence {
            prompt: submission.prompt,
            class: submission.class,
            session: submission.session,
            cache_salt: submission.cache_salt,
            deadline_us: submission.received_us + submission.deadline.as_micros() as u64,
            max_tokens,
            stop_tokens: submission.stop_tokens,
        };
        match self.scheduler.add(new, (self.clock)()) {
            Ok(admission) => {
                for superseded in admission.superseded {
                    self.refuse(superseded, GenerateError::Superseded, "superseded");
                }
                let live = Live {
                    id: submission.id,
                    speaker,
                    params: submission.params,
                    seed: submission.seed,
                    prompt_tokens,
                    session,
                    deadline: submission.deadline,
                    received_us: submission.received_us,
                    last_token_us: None,
                    queue_wait_us: None,
                };
                self.live.insert(admission.id, live);
                self.speculator.admit(admission.id, guessing_session, prompt_tokens, max_tokens);
            }
            Err(error) => {
                self.metrics.requests_ended.with_label_values(&["refused"]).inc();
                speaker.fail(self.explain(error));
            }
        }
    }

    /// Jobs are rendered side by side, so that an older one may come after the newer one that takes its place.
    fn is_overtaken(&self, submission: &Submission) -> bool {
        submission.class == Class::Completion
            && submission.session.is_some()
            && self
                .live
                .values()
                .any(|live| live.session == submission.session && live.received_us > submission.received_us)
    }

    fn explain(&self, error: AdmitError) -> GenerateError {
        match error {
            AdmitError::QueueFull { waiting, waiting_max } => {
                GenerateError::QueueFull { waiting, waiting_max, retry_after: self.retry.after(waiting) }
            }
            AdmitError::CacheTooSmall { needed_tokens, cache_tokens } => {
                GenerateError::CacheTooSmall { needed_tokens, cache_tokens }
            }
            AdmitError::Empty => GenerateError::PromptEmpty,
            AdmitError::PromptTooLong { .. } | AdmitError::NothingAsked => {
                GenerateError::StepFailed { reason: error.to_string() }
            }
        }
    }

    /// Ends sequences whose client has gone or whose deadline has passed.
    fn let_go(&mut self) {
        let mut abandoned = std::mem::take(&mut self.abandoned);
        abandoned.extend(self.live.iter().filter(|(_, live)| live.speaker.is_abandoned()).map(|(id, _)| *id));
        for sequence in abandoned.drain(..) {
            self.scheduler.cancel(sequence);
            self.end(sequence, "abandoned");
        }
        self.abandoned = abandoned;
        for sequence in self.scheduler.expire((self.clock)()) {
            let Some(live) = self.live.get(&sequence) else { continue };
            let phase = match (live.queue_wait_us.is_some(), live.last_token_us) {
                (false, _) => "it was still waiting for a place",
                (true, None) => "its prompt was still being computed",
                (true, Some(_)) => "it was being generated",
            };
            let retry_after = self.retry.after(self.scheduler.stats().waiting);
            let error = GenerateError::DeadlineExceeded { deadline: live.deadline, phase, retry_after };
            self.refuse(sequence, error, "deadline");
        }
    }

    fn note_first_steps(&mut self, sequences: impl Iterator<Item = SequenceId>) {
        let now = (self.clock)();
        for sequence in sequences {
            if let Some(live) = self.live.get_mut(&sequence)
                && live.queue_wait_us.is_none()
            {
                live.queue_wait_us = Some(now - live.received_us);
                self.metrics.queue_wait.observe(seconds(now - live.received_us));
            }
        }
    }

    fn fail_all(&mut self, sequences: Vec<SequenceId>, reason: &str) {
        if !sequences.is_empty() {
            tracing::error!(sequences = sequences.len(), reason, "a step failed");
        }
        for sequence in sequences {
            self.refuse(sequence, GenerateError::StepFailed { reason: reason.to_owned() }, "failed");
        }
    }

    fn refuse(&mut self, sequence: SequenceId, error: GenerateError, outcome: &str) {
        if let Some(live) = self.live.get_mut(&sequence) {
            live.speaker.fail(error);
        }
        self.end(sequence, outcome);
    }

    fn end(&mut self, sequence: SequenceId, outcome: &str) {
        if let Some(live) = self.live.remove(&sequence) {
            self.speculator.forget(sequence, self.scheduler.tokens(sequence).unwrap_or_default());
            let lived_us = (self.clock)() - live.received_us;
            tracing::debug!(call = %live.id, outcome, lived_us, "sequence ended");
            self.metrics.requests_ended.with_label_values(&[outcome]).inc();
            self.retry.note(lived_us);
        }
    }

    /// Collects what is in flight and tells everybody that is still waiting for an answer.
    pub(super) fn stop(mut self) {
        while let Some((step, submitted_us)) = self.submitted.pop_front() {
            match self.device.collect(step, self.vocab_size) {
                Ok(collected) => self.account(collected, submitted_us),
                Err(error) => drop(self.device_failed(&error)),
            }
        }
        let rest: Vec<SequenceId> = self.live.keys().copied().collect();
        for sequence in rest {
            self.scheduler.cancel(sequence);
            self.refuse(sequence, GenerateError::ShuttingDown, "shutdown");
        }
        while let Ok(Command::Submit(submission)) = self.commands.try_recv() {
            let error = Err(GenerateError::ShuttingDown);
            drop(submission.events.try_send(error));
        }
        self.metrics.observe(&self.scheduler.stats());
    }
}

/// Lets the batch ask for sampling state while it is packed.
struct Rows<'a> {
    live: &'a HashMap<SequenceId, Live>,
    scheduler: &'a Scheduler,
}

impl RowSource for Rows<'_> {
    fn entering(&self, sequence: SequenceId, state_row: u32) -> EnteringRow {
        let live = self.live.get(&sequence).expect("the scheduler runs only what was admitted and has not ended");
        EnteringRow {
            state_row,
            params: Arc::clone(&live.params),
            seed: live.seed,
            tokens: self.scheduler.tokens(sequence).expect("a scheduled sequence has tokens").to_vec(),
            prompt_tokens: live.prompt_tokens,
        }
    }
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 * 1e-6
}
