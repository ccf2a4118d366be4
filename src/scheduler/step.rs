//! What passes between the scheduler and whoever computes: a [`Step`] out, sampled tokens in, outcomes out.

use crate::domain::FinishReason;
use std::fmt;
use std::num::NonZeroUsize;

/// One generation. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// One step. Never given twice, rising in order of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u64);

/// A block of the key-value cache, `0..num_blocks`.
pub type BlockId = u32;

/// A row of the device's table of per-sequence state, `0..running_max`.
pub type SlotIndex = u32;

/// One turn of the engine: copy, compute every chunk, sample.
#[derive(Debug)]
pub struct Step {
    pub id: StepId,
    /// Done before anything is computed.
    pub copies: Vec<BlockCopy>,
    /// Decode rows first, then prefills. At most one chunk per sequence.
    pub chunks: Vec<Chunk>,
}

/// The first `tokens` positions of block `from` are copied to the same positions of block `to`, in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    pub from: BlockId,
    pub to: BlockId,
    pub tokens: usize,
}

/// Consecutive tokens of one sequence, computed in one step. Decode is a chunk of one token, and of more where guesses
/// at the tokens that follow are verified with it.
#[derive(Debug)]
pub struct Chunk {
    pub sequence: SequenceId,
    /// Row of the device's state table; the same as long as the sequence runs.
    pub slot: SlotIndex,
    /// The first chunk since the sequence got this slot: the device loads its sampling state before it.
    pub enters_slot: bool,
    /// Position of the first token.
    pub start: usize,
    pub tokens: NonZeroUsize,
    pub input: Input,
    /// Rows that yield logits, the last ones: 0 inside a prefill, 1 at its end and in a decode, n + 1 where n guesses
    /// are verified.
    pub sampled_rows: usize,
    /// Blocks of positions `0..start + tokens`, as they are for this step.
    pub block_table: Vec<BlockId>,
}

/// Where a chunk's token ids come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Input {
    /// As many ids as the chunk has tokens; all but the first sampled row's are guesses behind it.
    Known(Vec<u32>),
    /// One token: the one this sequence samples in its previous step, which the host has not seen yet.
    PreviousSample,
}

/// Prompts never reach logs: only their sizes do.
impl fmt::Debug for Input {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Known(tokens) => write!(formatter, "Known({})", tokens.len()),
            Input::PreviousSample => formatter.write_str("PreviousSample"),
        }
    }
}

/// A token that a device sampled for one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    pub sequence: SequenceId,
    pub token: u32,
}

/// What a committed step means for a sequence that was still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One more token of output. `sampled_index` points into the slice that was committed.
    Token { sequence: SequenceId, token: u32, sampled_index: usize },
    /// Nothing more will come; follows the sequence's last `Token`. A stop token has no `Token` of its own.
    Finished { sequence: SequenceId, reason: FinishReason },
}
