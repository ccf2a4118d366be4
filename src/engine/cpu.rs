//! Steps on the CPU: depth zero, everything is computed inside `submit`.

use super::batch::{Batch, RowInput};
use super::runner::{Collected, RowResult, Runner, StepError, panic_message};
use crate::nn::{Decoder, DecoderBatch, Workspace};
use crate::sampler::{RowSampler, SamplerScratch};
use kernels::{AttentionChunk, KvCache, Pool};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Owns the weights, the key-value cache and every buffer a step writes.
pub struct CpuRunner {
    decoder: Decoder,
    pool: Arc<Pool>,
    cache: KvCache,
    workspace: Workspace,
    /// The state table: one row per running sequence.
    rows: Vec<Option<StateRow>>,
    token_ids: Vec<u32>,
    sampled_rows: Vec<u32>,
    logits: Vec<f32>,
    scratch: SamplerScratch,
    finished: VecDeque<Collected>,
}

struct StateRow {
    sampler: RowSampler,
    last_sample: Option<u32>,
}

impl CpuRunner {
    /// `running_max` rows of the state table. What the workspace can sample beyond that is for verifying guesses.
    pub fn new(decoder: Decoder, pool: Arc<Pool>, cache: KvCache, workspace: Workspace, running_max: usize) -> Self {
        let logits = vec![0.0; decoder.spec().vocab];
        Self {
            decoder,
            pool,
            cache,
            workspace,
            rows: (0..running_max).map(|_| None).collect(),
            token_ids: Vec::new(),
            sampled_rows: Vec::new(),
            logits,
            scratch: SamplerScratch::default(),
            finished: VecDeque::new(),
        }
    }

    fn compute(&mut self, batch: &Batch) -> Result<Vec<RowResult>, StepError> {
        self.enter(batch);
        for copy in &batch.copies {
            self.cache.copy_block(copy.from, copy.to, copy.tokens);
        }
        self.resolve_inputs(batch)?;
        self.sampled_rows.clear();
        self.sampled_rows.extend(batch.sampled.iter().map(|sampled| sampled.row));
        let chunks: Vec<AttentionChunk<'_>> = batch
            .chunks
            .iter()
            .map(|chunk| AttentionChunk {
                first_row: chunk.first_row,
                rows: chunk.rows,
                start: chunk.start,
                block_table: batch.block_table(chunk),
            })
            .collect();
        let packed = DecoderBatch {
            token_ids: &self.token_ids,
            positions: &batch.positions,
            slots: &batch.kv_slots,
            chunks: &chunks,
            sampled_rows: &self.sampled_rows,
        };
        // [sampled_rows, vocab]
        let logits = self.decoder.forward(&self.pool, &packed, &mut self.cache, &mut self.workspace);
        let vocab = self.logits.len();
        let mut results = Vec::with_capacity(batch.sampled.len());
        let mut index = 0;
        while let Some(sampled) = batch.sampled.get(index) {
            let row = self.rows[sampled.state_row as usize].as_mut().expect("a sampled sequence has entered its row");
            self.logits.copy_from_slice(&logits[index * vocab..][..vocab]);
            let result = row.sampler.sample(&mut self.logits, &mut self.scratch);
            let token = result.as_ref().ok().map(|sampled| sampled.token);
            row.last_sample = token.or(row.last_sample);
            results.push(result);
            index = batch.next_sampled(index, token);
        }
        Ok(results)
    }

    fn enter(&mut self, batch: &Batch) {
        for entering in &batch.entering {
            let (prompt, generated) = entering.tokens.split_at(entering.prompt_tokens);
            let sampler = RowSampler::new(Arc::clone(&entering.params), entering.seed, prompt, generated);
            self.rows[entering.state_row as usize] = Some(StateRow { sampler, last_sample: None });
        }
    }

    fn resolve_inputs(&mut self, batch: &Batch) -> Result<(), StepError> {
        self.token_ids.clear();
        for chunk in &batch.chunks {
            for row in chunk.first_row..chunk.first_row + chunk.rows {
                let token = match batch.inputs[row] {
                    RowInput::Known(token) => token,
                    RowInput::PreviousSample { state_row } => self.rows[state_row as usize]
                        .as_ref()
                        .and_then(|state| state.last_sample)
                        .ok_or(StepError::NoPreviousSample { sequence: chunk.sequence, row })?,
                };
                self.token_ids.push(token);
            }
        }
        Ok(())
    }
}

impl Runner for CpuRunner {
    fn depth(&self) -> usize {
        0
    }

    fn step_drafts_max(&self) -> usize {
        self.workspace.sampled_rows_max().saturating_sub(self.rows.len())
    }

    fn submit(&mut self, batch: Batch) -> Result<(), StepError> {
        let computed = catch_unwind(AssertUnwindSafe(|| self.compute(&batch)));
        let tokens = computed.unwrap_or_else(|panic| Err(StepError::Panicked { message: panic_message(&*panic) }));
        self.finished.push_back(Collected { batch, tokens });
        Ok(())
    }

    fn collect(&mut self) -> Collected {
        self.finished.pop_front().expect("collect follows a submit")
    }
}
