//! A step packed for a device: flat arrays, block tables and the sampling state that rows bring along.
//!
//! A batch is self-contained. Nothing in it refers to host state that may change while the step is in flight, which is
//! what allows the next step to be planned, packed and submitted before the tokens of this one are known.

use crate::domain::SamplingParams;
use crate::scheduler::{BlockCopy, Input, SequenceId, Step, StepId};
use std::ops::Range;
use std::sync::Arc;

/// One step, ready to compute. Buffers are kept between steps.
#[derive(Debug, Default)]
pub struct Batch {
    pub step: Option<StepId>,
    /// Tail blocks to copy before anything is computed.
    pub copies: Vec<BlockCopy>,
    /// Sequences that take a row of the device's state table in this step.
    pub entering: Vec<EnteringRow>,
    /// `[rows]`: one entry per token of the step.
    pub inputs: Vec<RowInput>,
    /// `[rows]`: position of each token in its sequence.
    pub positions: Vec<u32>,
    /// `[rows]`: where the token's keys and values are written, `block * block_tokens + offset`.
    pub kv_slots: Vec<u32>,
    pub chunks: Vec<PackedChunk>,
    /// The block tables of all chunks, one after another.
    pub block_tables: Vec<u32>,
    /// Rows of one sequence are neighbours; each but the first follows a guess at what the one before samples.
    pub sampled: Vec<SampledRow>,
}

/// Where the token id of a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowInput {
    Known(u32),
    /// The token that this row of the state table sampled in its previous step; the host may not know it yet.
    PreviousSample {
        state_row: u32,
    },
}

/// Consecutive rows of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedChunk {
    pub sequence: SequenceId,
    pub first_row: usize,
    pub rows: usize,
    /// Position of the first row.
    pub start: usize,
    /// Into [`Batch::block_tables`].
    pub block_table: Range<usize>,
}

/// A row whose logits are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledRow {
    pub sequence: SequenceId,
    pub row: u32,
    pub state_row: u32,
}

/// What the device needs to know of a sequence to sample for it, sent once when it gets a row of the state table.
#[derive(Clone, Debug)]
pub struct EnteringRow {
    pub state_row: u32,
    pub params: Arc<SamplingParams>,
    pub seed: u64,
    /// Prompt and output so far; the first `prompt_tokens` are the prompt.
    pub tokens: Vec<u32>,
    pub prompt_tokens: usize,
}

/// What the engine knows of a sequence beyond the scheduler's numbers.
pub trait RowSource {
    /// The sampling state of a sequence that enters `state_row`.
    fn entering(&self, sequence: SequenceId, state_row: u32) -> EnteringRow;
}

impl Batch {
    /// Fills the batch from a step, reusing its buffers.
    pub fn pack(&mut self, step: Step, block_tokens: usize, source: &dyn RowSource) {
        self.clear();
        self.step = Some(step.id);
        self.copies = step.copies;
        for chunk in step.chunks {
            let first_row = self.inputs.len();
            let rows = chunk.tokens.get();
            if chunk.enters_slot {
                self.entering.push(source.entering(chunk.sequence, chunk.slot));
            }
            match chunk.input {
                Input::Known(tokens) => {
                    assert_eq!(tokens.len(), rows, "a chunk names each of its tokens");
                    self.inputs.extend(tokens.into_iter().map(RowInput::Known));
                }
                Input::PreviousSample => self.inputs.push(RowInput::PreviousSample { state_row: chunk.slot }),
            }
            for position in chunk.start..chunk.start + rows {
                let block = chunk.block_table[position / block_tokens];
                self.positions.push(position as u32);
                self.kv_slots.push(block * block_tokens as u32 + (position % block_tokens) as u32);
            }
            let table_start = self.block_tables.len();
            self.block_tables.extend_from_slice(&chunk.block_table);
            for row in rows - chunk.sampled_rows..rows {
                let row = (first_row + row) as u32;
                self.sampled.push(SampledRow { sequence: chunk.sequence, row, state_row: chunk.slot });
            }
            self.chunks.push(PackedChunk {
                sequence: chunk.sequence,
                first_row,
                rows,
                start: chunk.start,
                block_table: table_start..self.block_tables.len(),
            });
        }
    }

    pub fn rows(&self) -> usize {
        self.inputs.len()
    }

    /// The entry of [`Batch::sampled`] that counts next, once entry `index` has sampled `token`, or could not be
    /// sampled. Rows behind a guess that was wrong are passed over: they are not to be sampled, because the state of
    /// their sequence is not what they were computed for.
    pub fn next_sampled(&self, index: usize, token: Option<u32>) -> usize {
        let own = self.sampled[index..].iter().take_while(|row| row.sequence == self.sampled[index].sequence);
        let is_right = |row: &SampledRow| token.map(RowInput::Known) == Some(self.inputs[row.row as usize]);
        match own.clone().nth(1) {
            Some(next) if !is_right(next) => index + own.count(),
            Some(_) | None => index + 1,
        }
    }

    /// How many rows of a chunk are sampled.
    pub fn sampled_rows(&self, chunk: &PackedChunk) -> usize {
        let rows = chunk.first_row..chunk.first_row + chunk.rows;
        let first = self.sampled.partition_point(|sampled| (sampled.row as usize) < rows.start);
        self.sampled[first..].iter().take_while(|sampled| rows.contains(&(sampled.row as usize))).count()
    }

    pub fn block_table(&self, chunk: &PackedChunk) -> &[u32] {
        &self.block_tables[chunk.block_table.clone()]
    }

    fn clear(&mut self) {
        self.step = None;
        self.copies.clear();
        self.entering.clear();
        self.inputs.clear();
        self.positions.clear();
        self.kv_slots.clear();
        self.chunks.clear();
        self.block_tables.clear();
        self.sampled.clear();
    }
}
