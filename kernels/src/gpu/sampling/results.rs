//! The results of sampling on the device, and on their way to the host.

use super::TOP_LOGPROBS_MAX;
use crate::gpu::buffer::{Buffer, DeviceValue, HostBuffer};
use crate::gpu::driver::{Argument, Gpu};
use crate::gpu::error::GpuError;

// Bits of `SampleRecord::flags`.
const IS_SAMPLED: u32 = 1;
const HAS_LOGPROBS: u32 = 2;

/// The result of a row as the device writes it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SampleRecord {
    pub flags: u32,
    token: u32,
    logprob: f32,
    num_top: u32,
    top_tokens: [u32; TOP_LOGPROBS_MAX],
    top_logprobs: [f32; TOP_LOGPROBS_MAX],
}

// SAFETY: numbers of 4 bytes without padding.
unsafe impl DeviceValue for SampleRecord {}

/// What was sampled for one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampled {
    Token {
        token: u32,
        /// For sequences that asked for them.
        logprobs: Option<TokenLogprobs>,
    },
    /// The row had no finite logit, or none of a token that its mask allows. Its state is as it was before.
    NotFinite,
}

/// Natural-log probabilities under the model itself: before mask, penalties, bias, temperature and filters.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    pub chosen: f32,
    /// Tokens with their log probabilities, most likely first.
    pub top: Vec<(u32, f32)>,
}

/// Results of a step on the device, written by [`super::SamplingTable::sample`].
#[derive(Debug)]
pub struct SampleOutput {
    /// `[rows_max]`
    pub(super) records: Buffer<SampleRecord>,
}

/// Results of a step on the host. One per step that may be in flight.
#[derive(Debug)]
pub struct SampleResults {
    /// `[rows_max]`
    records: HostBuffer<SampleRecord>,
    rows: usize,
}

impl SampleOutput {
    pub fn new(gpu: &Gpu, rows_max: usize) -> Result<Self, GpuError> {
        Ok(Self { records: gpu.uninitialised(rows_max)? })
    }

    #[must_use]
    pub fn rows_max(&self) -> usize {
        self.records.len()
    }

    pub(super) fn argument(&self) -> Argument {
        self.records.argument()
    }

    /// Device memory that [`SampleOutput::new`] takes.
    #[must_use]
    pub fn bytes_needed(rows_max: usize) -> u64 {
        (rows_max * size_of::<SampleRecord>()) as u64
    }

    /// Starts copying the results of the first `rows` rows. Panics if there are not as many here or there.
    pub fn receive(&self, gpu: &Gpu, rows: usize, results: &mut SampleResults) -> Result<(), GpuError> {
        gpu.receive(&self.records, 0, rows, &mut results.records)?;
        results.rows = rows;
        Ok(())
    }
}

impl SampleResults {
    pub fn new(gpu: &Gpu, rows_max: usize) -> Result<Self, GpuError> {
        Ok(Self { records: gpu.host_buffer(rows_max)?, rows: 0 })
    }

    /// The result of a row that is not padding, once it has arrived. Panics if the row was not received.
    pub fn decode(&mut self, row: usize) -> Result<Sampled, GpuError> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let record = &self.records.values()?[row];
        if record.flags & IS_SAMPLED == 0 {
            return Ok(Sampled::NotFinite);
        }
        let logprobs = (record.flags & HAS_LOGPROBS != 0).then(|| {
            let top = record.top_tokens.iter().copied().zip(record.top_logprobs);
            TokenLogprobs { chosen: record.logprob, top: top.take(record.num_top as usize).collect() }
        });
        Ok(Sampled::Token { token: record.token, logprobs })
    }
}
