//! The seam between planning and computing.
//!
//! A step is handed over with [`Runner::submit`] and its tokens come back, in order, from [`Runner::collect`]. A device
//! that runs ahead of the host has a depth: that many steps may be submitted before the oldest must be collected. The
//! CPU computes inside `submit` and has depth 0; it is the same loop, not another one.

use super::answers::counting_rows;
use super::batch::Batch;
use super::load::LoadError;
use crate::sampler::{SampleError, SampledToken};
use crate::scheduler::{SequenceId, StepId};
use std::any::Any;

/// Computes steps on one device. Owned by the engine's thread.
///
/// Once a call has answered with a fatal error ([`StepError::is_fatal`]) or has panicked, nothing more is asked of the
/// runner: it is dropped, on another thread, and only then is the next one made. A device that may hang bounds its
/// waits itself and answers with [`StepError::Device`]; nobody else can interrupt a call.
pub trait Runner: Send {
    /// How many steps may be in flight besides the one being submitted.
    fn depth(&self) -> usize;

    /// Guessed tokens that one step may verify, over all sequences. 0: every sequence has one sampled row at most.
    /// Only a device of depth 0 is ever given any.
    fn step_drafts_max(&self) -> usize {
        0
    }

    /// Starts a step. Keeps the batch until the step is collected.
    ///
    /// Errors mean that the step was not started and nothing of it will be collected; after a fatal one, nothing at all.
    fn submit(&mut self, batch: Batch) -> Result<(), StepError>;

    /// Waits for the oldest submitted step.
    ///
    /// # Panics
    /// When nothing is in flight.
    fn collect(&mut self) -> Collected;
}

/// A finished step, and its batch for reuse.
#[derive(Debug)]
pub struct Collected {
    pub batch: Batch,
    /// One entry per [`Batch::sampled`] row that counts ([`Batch::next_sampled`]), in the same order, or why the step
    /// as a whole failed.
    pub tokens: Result<Vec<RowResult>, StepError>,
}

/// The token of one row. A row that cannot be sampled fails alone.
pub type RowResult = Result<SampledToken, SampleError>;

/// Makes the next runner after a device has failed: for as many blocks and rows, and with the same depth, as the first.
/// It may take as long as loading did; it is called on a thread of its own.
pub type MakeRunner = Box<dyn FnMut() -> Result<Box<dyn Runner>, LoadError> + Send>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("a computation of the step panicked: {message}")]
    Panicked { message: String },
    #[error("row {row} of sequence {sequence:?} refers to a sample that was never taken")]
    NoPreviousSample { sequence: SequenceId, row: usize },
    #[error("the device failed: {message}")]
    Device { message: String },
    #[error("the runner panicked: {message}")]
    RunnerPanicked { message: String },
    #[error("the device answered with {tokens} tokens for {rows} rows")]
    TokenCount { tokens: usize, rows: usize },
    #[error("the device answered with token {token}, the vocabulary has {vocab_size} tokens")]
    TokenOutOfRange { token: u32, vocab_size: usize },
    #[error("the device answered with {got:?} instead of {expected:?}")]
    WrongStep { got: Option<StepId>, expected: StepId },
}

impl StepError {
    /// Whether the runner can be trusted no more: whatever its device held is lost.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Panicked { .. } | Self::NoPreviousSample { .. } => false,
            Self::Device { .. }
            | Self::RunnerPanicked { .. }
            | Self::TokenCount { .. }
            | Self::TokenOutOfRange { .. }
            | Self::WrongStep { .. } => true,
        }
    }
}

impl Collected {
    /// Whether this can be the answer to `expected`. A device that answers nonsense has failed without saying so.
    pub(super) fn check(&self, expected: StepId, vocab_size: usize) -> Result<(), StepError> {
        if self.batch.step != Some(expected) {
            return Err(StepError::WrongStep { got: self.batch.step, expected });
        }
        let Ok(rows) = &self.tokens else { return Ok(()) };
        let counting = counting_rows(&self.batch, rows);
        if rows.len() != counting {
            return Err(StepError::TokenCount { tokens: rows.len(), rows: counting });
        }
        for sampled in rows.iter().flatten() {
            let top = sampled.logprobs.iter().flat_map(|logprobs| logprobs.top.iter().map(|(token, _)| *token));
            if let Some(token) = top.chain([sampled.token]).find(|token| *token as usize >= vocab_size) {
                return Err(StepError::TokenOutOfRange { token, vocab_size });
            }
        }
        Ok(())
    }
}

/// What a panic said, where it said something.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
