//! How much to measure.

use super::error::BenchError;
use crate::engine::BLOCK_TOKENS;
use crate::nn::DecoderSpec;

/// Sequences that a bench may decode at once.
pub const BATCH_MAX: usize = 1_024;

/// The workload of `bench engine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Sequences that decode together, one measurement each.
    pub batches: Vec<usize>,
    /// Tokens that each sequence has behind it when decoding begins.
    pub context_tokens: usize,
    /// Prompt tokens of the prefill.
    pub prefill_tokens: usize,
    /// Prompt tokens in one step at most.
    pub chunk_tokens: usize,
    /// Decode steps in one run.
    pub decode_steps: usize,
    /// Runs that count, of the prefill and of each batch. One more goes before them.
    pub repeats: usize,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batches: vec![1, 4, 8],
            context_tokens: 512,
            prefill_tokens: 512,
            chunk_tokens: 256,
            decode_steps: 32,
            repeats: 5,
            seed: 1,
        }
    }
}

impl Settings {
    /// Batches in rising order, each once; errors where the model cannot do what is asked.
    pub(super) fn checked(&self, model: &str, spec: &DecoderSpec) -> Result<Self, BenchError> {
        let counts = [
            ("the number of batch sizes", self.batches.len()),
            ("the context", self.context_tokens),
            ("the prefill", self.prefill_tokens),
            ("the chunk", self.chunk_tokens),
            ("the number of steps", self.decode_steps),
            ("the number of repeats", self.repeats),
        ];
        if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(BenchError::Zero { what });
        }
        if let Some(asked) = self.batches.iter().copied().find(|batch| !(1..=BATCH_MAX).contains(batch)) {
            return Err(BenchError::Batch { asked, batch_max: BATCH_MAX });
        }
        let lengths = [
            ("a context", "--context", self.context_tokens, self.decode_steps),
            ("a prefill", "--prefill", self.prefill_tokens, 0),
        ];
        for (what, flag, asked_tokens, steps) in lengths {
            if asked_tokens.saturating_add(steps) > spec.context_tokens {
                let (model, model_tokens) = (model.to_owned(), spec.context_tokens);
                return Err(BenchError::ContextTooLong { what, flag, asked_tokens, steps, model, model_tokens });
            }
        }
        let mut checked = self.clone();
        checked.batches.sort_unstable();
        checked.batches.dedup();
        Ok(checked)
    }

    pub fn batch_max(&self) -> usize {
        self.batches.iter().copied().max().unwrap_or(0)
    }

    /// Blocks of one sequence; the first also holds the prompt that the prefill computes.
    pub(super) fn blocks_of(&self, sequence: usize) -> usize {
        let decoded = self.context_tokens + self.decode_steps;
        let tokens = if sequence == 0 { decoded.max(self.prefill_tokens) } else { decoded };
        tokens.div_ceil(BLOCK_TOKENS)
    }

    /// Positions of the longest sequence.
    pub(super) fn context_max(&self) -> usize {
        self.prefill_tokens.max(self.context_tokens + self.decode_steps)
    }

    /// Blocks of all sequences of the largest batch.
    pub(super) fn blocks(&self) -> usize {
        (0..self.batch_max()).map(|sequence| self.blocks_of(sequence)).sum()
    }
}
