//! The seam between planning and computing.
//!
//! A step is handed over with [`Runner::submit`] and its tokens come back, in order, from [`Runner::collect`]. A device
//! that runs ahead of the host has a depth: that many steps may be submitted before the oldest must be collected. The
//! CPU computes inside `submit` and has depth 0; it is the same loop, not another one.

use super::batch::Batch;
use crate::sampler::{SampleError, SampledToken};
use crate::scheduler::SequenceId;

/// Computes steps on one device. Owned by the engine's thread.
pub trait Runner: Send {
    /// How many steps may be in flight besides the one being submitted.
    fn depth(&self) -> usize;

    /// Starts a step. Keeps the batch until the step is collected.
    ///
    /// Errors mean that the step was not started and nothing of it will be collected.
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
    /// One entry per [`Batch::sampled`] row in the same order, or why the step as a whole failed.
    pub tokens: Result<Vec<RowResult>, StepError>,
}

/// The token of one row. A row that cannot be sampled fails alone.
pub type RowResult = Result<SampledToken, SampleError>;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("a computation of the step panicked: {message}")]
    Panicked { message: String },
    #[error("row {row} of sequence {sequence:?} refers to a sample that was never taken")]
    NoPreviousSample { sequence: SequenceId, row: usize },
}
