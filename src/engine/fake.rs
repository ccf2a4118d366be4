//! A device without arithmetic, for tests, that can be told what to do wrong, and taught what to say. Its key-value
//! cache holds hashes of token histories, and the token sampled at a position is a function of the whole history. A
//! block read by the wrong sequence, reused too early or copied wrongly changes the text. Its depth is a parameter;
//! steps are computed when they are collected.

use super::batch::{Batch, PackedChunk, RowInput};
use super::runner::{Collected, RowResult, Runner, StepError};
use crate::sampler::SampledToken;
use crate::scheduler::{SchedulerConfig, StepId};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a token follows from, without any cache: the oracle.
pub(super) fn next_token(history: &[u32], vocab: u32) -> u32 {
    let hash = history.iter().fold(SEED, |hash, &token| extend(hash, token));
    sample(hash, vocab)
}

const SEED: u64 = 0x5c0_ce5c0ce;

fn extend(hash: u64, token: u32) -> u64 {
    let mixed = (hash ^ u64::from(token).wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

fn sample(hash: u64, vocab: u32) -> u32 {
    ((hash >> 17) % u64::from(vocab)) as u32
}

pub(super) struct FakeRunner {
    depth: usize,
    pub(super) vocab: u32,
    /// Guessed tokens that a step may verify.
    pub(super) step_drafts_max: usize,
    /// What it says after histories that it was taught.
    taught: HashMap<u64, u32>,
    block_tokens: usize,
    kv: Vec<u64>,
    last_samples: Vec<Option<u32>>,
    in_flight: VecDeque<Batch>,
    submitted: usize,
    /// At the step with this number, counted from 1.
    pub(super) fault: Option<(usize, Fault)>,
    has_failed: bool,
    ledger: Arc<Ledger>,
}

/// What a device can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The step fails, the device does not.
    Step,
    Submit,
    Collect,
    SubmitPanics,
    CollectPanics,
    TokenTooFew,
    TokenOutOfRange,
    WrongStep,
}

/// What tests know of all the devices of one engine.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Submitted so far, for tests that want to know that work has stopped.
    pub(super) steps: AtomicUsize,
    /// Computed so far.
    pub(super) rows: AtomicUsize,
    /// Steps computed so far in which somebody got a token.
    pub(super) sampling_steps: AtomicUsize,
    /// Devices not yet dropped.
    pub(super) alive: AtomicUsize,
    /// Calls of devices that had failed for good.
    pub(super) late_calls: AtomicUsize,
    /// Of any kind, begun.
    pub(super) calls: AtomicUsize,
    /// While somebody holds it, the device hangs.
    pub(super) gate: Mutex<()>,
}

impl FakeRunner {
    pub(super) fn new(config: &SchedulerConfig, vocab: u32, ledger: &Arc<Ledger>) -> Self {
        ledger.alive.fetch_add(1, Ordering::SeqCst);
        Self {
            depth: config.depth,
            vocab,
            step_drafts_max: 0,
            taught: HashMap::new(),
            block_tokens: config.block_tokens,
            kv: vec![0; config.num_blocks * config.block_tokens],
            last_samples: vec![None; config.running_max],
            in_flight: VecDeque::new(),
            submitted: 0,
            fault: None,
            has_failed: false,
            ledger: Arc::clone(ledger),
        }
    }

    /// Wherever a history is the beginning of this text, it will say how the text goes on.
    pub(super) fn teach(&mut self, text: &[u32]) {
        let mut hash = SEED;
        for pair in text.windows(2) {
            hash = extend(hash, pair[0]);
            self.taught.insert(hash, pair[1]);
        }
    }

    /// What goes wrong with this step, if anything does.
    fn fault_of(&mut self, step: usize) -> Option<Fault> {
        self.ledger.calls.fetch_add(1, Ordering::SeqCst);
        drop(self.ledger.gate.lock());
        self.ledger.late_calls.fetch_add(usize::from(self.has_failed), Ordering::SeqCst);
        self.fault.filter(|(number, _)| *number == step).map(|(_, fault)| fault)
    }

    fn broken(&mut self) -> StepError {
        self.has_failed = true;
        StepError::Device { message: "asked to fail".to_owned() }
    }

    fn compute(&mut self, batch: &Batch) -> Result<Vec<RowResult>, StepError> {
        for entering in &batch.entering {
            self.last_samples[entering.state_row as usize] = None;
        }
        for copy in &batch.copies {
            let (from, to) = (copy.from as usize * self.block_tokens, copy.to as usize * self.block_tokens);
            self.kv.copy_within(from..from + copy.tokens, to);
        }
        for chunk in &batch.chunks {
            self.compute_chunk(batch, chunk)?;
        }
        let mut tokens = Vec::new();
        let mut index = 0;
        while let Some(sampled) = batch.sampled.get(index) {
            let history = self.kv[batch.kv_slots[sampled.row as usize] as usize];
            let token = self.taught.get(&history).copied().unwrap_or_else(|| sample(history, self.vocab));
            self.last_samples[sampled.state_row as usize] = Some(token);
            tokens.push(Ok(SampledToken { token, logprobs: None }));
            index = batch.next_sampled(index, Some(token));
        }
        self.ledger.sampling_steps.fetch_add(usize::from(!tokens.is_empty()), Ordering::SeqCst);
        self.ledger.rows.fetch_add(batch.rows(), Ordering::SeqCst);
        Ok(tokens)
    }

    fn compute_chunk(&mut self, batch: &Batch, chunk: &PackedChunk) -> Result<(), StepError> {
        let table = batch.block_table(chunk);
        let slot_of = |position: usize| {
            table[position / self.block_tokens] as usize * self.block_tokens + position % self.block_tokens
        };
        for row in chunk.first_row..chunk.first_row + chunk.rows {
            let position = batch.positions[row] as usize;
            assert_eq!(slot_of(position), batch.kv_slots[row] as usize, "a row writes where its table says");
            let token = match batch.inputs[row] {
                RowInput::Known(token) => token,
                RowInput::PreviousSample { state_row } => self.last_samples[state_row as usize]
                    .ok_or(StepError::NoPreviousSample { sequence: chunk.sequence, row })?,
            };
            let before = if position == 0 { SEED } else { self.kv[slot_of(position - 1)] };
            self.kv[slot_of(position)] = extend(before, token);
        }
        Ok(())
    }

    /// Nothing that a step in flight reads or writes may be written for another sequence.
    fn check_reuse(&self, batch: &Batch) {
        for flying in &self.in_flight {
            for old in &flying.chunks {
                for new in batch.chunks.iter().filter(|new| new.sequence != old.sequence) {
                    let written = &batch.kv_slots[new.first_row..new.first_row + new.rows];
                    for slot in written {
                        let block = slot / self.block_tokens as u32;
                        assert!(
                            !flying.block_table(old).contains(&block),
                            "block {block} is written for {:?} while {:?} is in flight with it",
                            new.sequence,
                            old.sequence
                        );
                    }
                }
            }
            for entering in &batch.entering {
                assert!(
                    !flying.sampled.iter().any(|sampled| sampled.state_row == entering.state_row),
                    "state row {} is given away while in flight",
                    entering.state_row
                );
            }
        }
    }
}

impl Runner for FakeRunner {
    fn depth(&self) -> usize {
        self.depth
    }

    fn step_drafts_max(&self) -> usize {
        self.step_drafts_max
    }

    fn submit(&mut self, batch: Batch) -> Result<(), StepError> {
        assert!(self.in_flight.len() <= self.depth, "no more than depth + 1 steps in flight");
        self.submitted += 1;
        match self.fault_of(self.submitted) {
            Some(Fault::Submit) => return Err(self.broken()),
            Some(Fault::SubmitPanics) => {
                self.has_failed = true;
                panic!("asked to panic");
            }
            _ => {}
        }
        self.check_reuse(&batch);
        self.in_flight.push_back(batch);
        self.ledger.steps.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn collect(&mut self) -> Collected {
        let mut batch = self.in_flight.pop_front().expect("collect follows a submit");
        let fault = self.fault_of(self.submitted - self.in_flight.len());
        let mut tokens = match fault {
            Some(Fault::Step) => Err(StepError::Panicked { message: "asked to fail".to_owned() }),
            Some(Fault::Collect) => Err(self.broken()),
            _ => self.compute(&batch),
        };
        self.has_failed |= fault.is_some_and(|fault| fault != Fault::Step);
        match (fault, &mut tokens) {
            (Some(Fault::CollectPanics), _) => panic!("asked to panic"),
            (Some(Fault::TokenTooFew), Ok(rows)) => drop(rows.pop()),
            (Some(Fault::TokenOutOfRange), Ok(rows)) => {
                rows.iter_mut().for_each(|row| *row = Ok(SampledToken { token: u32::MAX, logprobs: None }));
            }
            (Some(Fault::WrongStep), Ok(_)) => batch.step = batch.step.map(|step| StepId(step.0 + 1)),
            _ => {}
        }
        Collected { batch, tokens }
    }
}

impl Drop for FakeRunner {
    fn drop(&mut self) {
        drop(self.ledger.gate.lock());
        self.ledger.alive.fetch_sub(1, Ordering::SeqCst);
    }
}
