//! Batches made by hand, as the scheduler would make them: prompts in chunks, sequences that decode side by side, each
//! with keys and values of its own.

use super::settings::Settings;
use crate::domain::SamplingParams;
use crate::engine::{BLOCK_TOKENS, Batch, EnteringRow, RowSource};
use crate::scheduler::{BlockCopy, BlockId, Chunk, Input, SequenceId, SlotIndex, Step, StepId};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Makes steps of `batch_max` sequences, which take the blocks from 0 on and the state rows of their own numbers.
pub(super) struct Workload {
    context_tokens: usize,
    chunk_tokens: usize,
    vocab: usize,
    tables: Vec<Vec<BlockId>>,
    params: Arc<SamplingParams>,
    seed: u64,
    next_step: u64,
    /// Batches that came back, for their buffers.
    spare: Vec<Batch>,
}

impl Workload {
    pub fn new(settings: &Settings, vocab: usize) -> Self {
        let mut blocks = 0..BlockId::MAX;
        let tables = (0..settings.batch_max())
            .map(|sequence| blocks.by_ref().take(settings.blocks_of(sequence)).collect())
            .collect();
        Self {
            context_tokens: settings.context_tokens,
            chunk_tokens: settings.chunk_tokens,
            vocab,
            tables,
            // Greedy, so that a run can be repeated.
            params: Arc::new(SamplingParams::default()),
            seed: settings.seed,
            next_step: 0,
            spare: Vec::new(),
        }
    }

    /// Steps that a prompt takes.
    pub fn prompt_steps(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.chunk_tokens)
    }

    /// One step of a prompt of `tokens` of the first sequence; the last one is sampled.
    pub fn prompt(&mut self, tokens: usize, step: usize) -> Batch {
        let start = step * self.chunk_tokens;
        let end = tokens.min(start + self.chunk_tokens);
        let chunk = self.chunk(0, start, end, Input::Known(self.tokens(0, start..end)));
        let chunk = Chunk { enters_slot: step == 0, sampled_rows: usize::from(end == tokens), ..chunk };
        self.pack(Vec::new(), vec![chunk])
    }

    /// Steps that hand the first sequence's context to all others.
    pub fn sharing_steps(&self) -> usize {
        self.context_tokens.div_ceil(BLOCK_TOKENS)
    }

    /// Copies one block of the first sequence's context to every other one, beside a decode row of the first: no more
    /// copies than sequences, and never a step without a row, because a scheduler makes no such steps either.
    pub fn sharing(&mut self, step: usize) -> Batch {
        let tokens = BLOCK_TOKENS.min(self.context_tokens - step * BLOCK_TOKENS);
        let (first, others) = self.tables.split_first().expect("a batch has at least one sequence");
        let copies = others.iter().map(|table| BlockCopy { from: first[step], to: table[step], tokens }).collect();
        let start = self.context_tokens;
        let chunk = self.chunk(0, start, start + 1, Input::Known(self.tokens(0, start..start + 1)));
        self.pack(copies, vec![Chunk { enters_slot: step == 0, ..chunk }])
    }

    /// The step that decodes token `step` behind the context of the first `batch` sequences. The first step brings
    /// another token to each, so that they go different ways.
    pub fn decode(&mut self, batch: usize, step: usize) -> Batch {
        let start = self.context_tokens + step;
        let chunks = (0..batch).map(|sequence| {
            let input = match step {
                0 => Input::Known(self.tokens(sequence, start..start + 1)),
                _ => Input::PreviousSample,
            };
            Chunk { enters_slot: step == 0, ..self.chunk(sequence, start, start + 1, input) }
        });
        let chunks = chunks.collect();
        self.pack(Vec::new(), chunks)
    }

    /// Takes back a batch for the next step.
    pub fn give_back(&mut self, batch: Batch) {
        self.spare.push(batch);
    }

    fn chunk(&self, sequence: usize, start: usize, end: usize, input: Input) -> Chunk {
        Chunk {
            sequence: SequenceId(sequence as u64),
            slot: sequence as SlotIndex,
            enters_slot: false,
            start,
            tokens: NonZeroUsize::new(end - start).expect("a chunk has a token"),
            input,
            sampled_rows: 1,
            block_table: self.tables[sequence][..end.div_ceil(BLOCK_TOKENS)].to_vec(),
        }
    }

    /// Tokens that look like no text, the same every time, all over the vocabulary.
    fn tokens(&self, sequence: usize, positions: std::ops::Range<usize>) -> Vec<u32> {
        positions.map(|position| ((position * 7_919 + sequence * 104_729 + 17) % self.vocab) as u32).collect()
    }

    fn pack(&mut self, copies: Vec<BlockCopy>, chunks: Vec<Chunk>) -> Batch {
        let id = StepId(self.next_step);
        self.next_step += 1;
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.pack(Step { id, copies, chunks }, BLOCK_TOKENS, self);
        batch
    }
}

/// What every sequence brings when it takes its row: greedy needs to know no more than that.
impl RowSource for Workload {
    fn entering(&self, _sequence: SequenceId, state_row: u32) -> EnteringRow {
        EnteringRow {
            state_row,
            params: Arc::clone(&self.params),
            seed: self.seed,
            tokens: Vec::new(),
            prompt_tokens: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RowInput;
    use std::collections::HashSet;

    fn settings() -> Settings {
        Settings {
            batches: vec![1, 3],
            context_tokens: 40,
            prefill_tokens: 70,
            chunk_tokens: 32,
            decode_steps: 9,
            ..Settings::default()
        }
    }

    #[test]
    fn no_two_sequences_share_a_block_and_all_fit() {
        let (settings, mut workload) = (settings(), Workload::new(&settings(), 100));
        // 70 prompt tokens need 5 blocks, 49 tokens of the others 4 each.
        assert_eq!(settings.blocks(), 5 + 4 + 4);
        let batch = workload.decode(3, 8);
        let own: Vec<HashSet<u32>> =
            batch.chunks.iter().map(|chunk| batch.block_table(chunk).iter().copied().collect()).collect();
        assert!(own[0].is_disjoint(&own[1]) && own[1].is_disjoint(&own[2]) && own[0].is_disjoint(&own[2]));
        assert!(own.iter().flatten().all(|block| (*block as usize) < settings.blocks()));
    }

    #[test]
    fn a_prompt_is_cut_in_chunks_and_sampled_at_its_end() {
        let mut workload = Workload::new(&settings(), 100);
        assert_eq!(workload.prompt_steps(70), 3);
        let batches: Vec<Batch> = (0..3).map(|step| workload.prompt(70, step)).collect();
        let rows: Vec<_> =
            batches.iter().map(|batch| (batch.rows(), batch.sampled.len(), batch.entering.len())).collect();
        assert_eq!(rows, [(32, 0, 1), (32, 0, 0), (6, 1, 0)]);
        let positions: Vec<u32> = batches.iter().flat_map(|batch| batch.positions.clone()).collect();
        assert_eq!(positions, (0..70).collect::<Vec<u32>>());
    }

    #[test]
    fn the_context_is_copied_to_every_sequence_block_by_block() {
        let mut workload = Workload::new(&settings(), 100);
        assert_eq!(workload.sharing_steps(), 3);
        let batches: Vec<Batch> = (0..3).map(|step| workload.sharing(step)).collect();
        let tokens: Vec<usize> =
            batches.iter().map(|batch| batch.copies.iter().map(|copy| copy.tokens).sum()).collect();
        assert_eq!(tokens, [2 * 16, 2 * 16, 2 * 8]);
        assert!(batches.iter().all(|batch| batch.rows() == 1 && batch.positions == [40] && batch.copies.len() == 2));
        let targets: HashSet<u32> = batches.iter().flat_map(|batch| batch.copies.iter().map(|copy| copy.to)).collect();
        assert_eq!(targets, HashSet::from([5, 6, 7, 9, 10, 11]));
    }

    #[test]
    fn sequences_decode_behind_their_context_from_different_tokens() {
        let mut workload = Workload::new(&settings(), 100);
        let first = workload.decode(3, 0);
        let inputs: HashSet<_> = first.inputs.iter().map(|input| format!("{input:?}")).collect();
        assert_eq!((inputs.len(), first.entering.len(), first.sampled.len()), (3, 3, 3));
        let second = workload.decode(3, 1);
        assert_eq!(second.positions, [41, 41, 41]);
        assert!(second.entering.is_empty());
        assert_eq!(second.inputs[2], RowInput::PreviousSample { state_row: 2 });
        assert_ne!(first.step, second.step);
    }
}
