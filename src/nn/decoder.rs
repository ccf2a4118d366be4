//! The decoder: built from a [`DecoderSpec`] once, then one plain walk over its layers per step.

use kernels::{AttentionChunk, KvCache, Pool, RopeTable, embed};

use super::block::{Block, RmsNorm};
use super::convert::Quantise;
use super::error::LoadError;
use super::linear::{Linear, load_inputs};
use super::spec::{DecoderSpec, Head};
use super::weights::{Bias, Weights};
use super::workspace::Workspace;
use crate::checkpoint::Checkpoint;

/// Positions whose rotation is computed once, when a model is loaded: at most 4 MiB at a head of 128.
const ROPE_POSITIONS_KEPT: usize = 8_192;

/// Weights of a whole model, ready to compute.
#[derive(Debug)]
pub struct Decoder {
    spec: DecoderSpec,
    embedding: Linear,
    blocks: Vec<Block>,
    norm: RmsNorm,
    /// `None` for a head that is the embedding.
    head: Option<Linear>,
    rope: RopeTable,
}

/// One step: consecutive rows of one or more sequences.
#[derive(Debug, Clone, Copy)]
pub struct DecoderBatch<'a> {
    /// `[rows]`, each below the vocabulary.
    pub token_ids: &'a [u32],
    /// `[rows]`: position of each token in its sequence.
    pub positions: &'a [u32],
    /// `[rows]`: where its keys and values are written, `block * block_tokens + offset`.
    pub slots: &'a [u32],
    /// Together they cover all rows.
    pub chunks: &'a [AttentionChunk<'a>],
    /// The rows that yield logits, in the order in which they are wanted.
    pub sampled_rows: &'a [u32],
}

impl Decoder {
    /// Reads and packs all weights. `progress` gets the bytes of memory filled so far, which end at the
    /// `weights_bytes` of [`super::plan()`].
    pub fn load(
        checkpoint: &Checkpoint,
        spec: DecoderSpec,
        quantise: Quantise,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, LoadError> {
        let weights = Weights::new(checkpoint, spec.names, quantise, progress);
        let table = [spec.vocab, spec.hidden];
        let embedding = weights.at("model").linear("embed_tokens", table, Bias::Absent)?;
        let blocks = (0..spec.layers).map(|layer| Block::load(&weights, &spec, layer)).collect::<Result<_, _>>()?;
        let norm = RmsNorm::load(&weights, "model", "norm", &spec)?;
        let head = match spec.head {
            Head::Tied => None,
            Head::Separate => Some(weights.at("").linear("lm_head", table, Bias::Absent)?),
        };
        weights.finish(spec.head)?;
        let frequencies = spec.attention.rope.inverse_frequencies(spec.head_dim);
        let positions = spec.context_tokens.min(ROPE_POSITIONS_KEPT);
        let rope = RopeTable::new(frequencies, spec.attention.rope.attention_factor()).with_positions(positions);
        Ok(Self { spec, embedding, blocks, norm, head, rope })
    }

    #[must_use]
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Memory that the weights take.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        let head = self.head.as_ref().map_or(0, Linear::bytes);
        (self.embedding.bytes() + blocks + self.norm.bytes() + head) as u64
    }

    /// Computes one step and returns the logits of the sampled rows, `[sampled_rows, vocab]`.
    ///
    /// Writes keys and values of all rows into `cache`. Allocates nothing. The result of a row depends on its own
    /// sequence only, bit for bit, whatever else is in the batch. Panics if the batch is larger than the workspace, if
    /// its arrays differ in length or if it names a row, token or slot that does not exist.
    pub fn forward<'w>(
        &self,
        pool: &Pool,
        batch: &DecoderBatch<'_>,
        cache: &mut KvCache,
        workspace: &'w mut Workspace,
    ) -> &'w [f32] {
        let rows = batch.token_ids.len();
        let sampled = batch.sampled_rows.len();
        assert!(rows <= workspace.rows_max, "{rows} rows in a workspace of {}", workspace.rows_max);
        assert!(sampled <= workspace.sampled_rows_max.min(rows), "{sampled} of {rows} rows are sampled");
        assert!(batch.positions.len() == rows && batch.slots.len() == rows, "one position and slot per row");
        if rows == 0 {
            return &[];
        }

        // The embedding is the first thing added to an empty residual stream.
        let values = rows * self.spec.hidden;
        workspace.residual[..values].fill(0.0);
        embed(self.embedding.matrix(), batch.token_ids, &mut workspace.delta[..values]);
        let (last, blocks) = self.blocks.split_last().expect("a decoder has at least one layer");
        for block in blocks {
            block.attend(pool, batch, &self.rope, cache, workspace);
            block.finish(pool, rows, workspace);
        }
        // Behind the last keys and values only sampled rows matter.
        last.attend(pool, batch, &self.rope, cache, workspace);
        if sampled == 0 {
            return &[];
        }
        self.keep_sampled(batch.sampled_rows, workspace);
        last.finish(pool, sampled, workspace);
        self.logits(pool, sampled, workspace)
    }

    /// Moves the sampled rows of the attention output and the residual stream to the front.
    fn keep_sampled(&self, sampled_rows: &[u32], workspace: &mut Workspace) {
        let Workspace { residual, normed, queries, attended, .. } = workspace;
        for (from, to, width) in [(residual, normed, self.spec.hidden), (attended, queries, self.spec.q_width())] {
            for (kept, row) in to.chunks_exact_mut(width).zip(sampled_rows) {
                kept.copy_from_slice(&from[*row as usize * width..][..width]);
            }
            std::mem::swap(from, to);
        }
    }

    fn logits<'w>(&self, pool: &Pool, rows: usize, workspace: &'w mut Workspace) -> &'w [f32] {
        self.norm.add_and_norm(pool, rows, workspace);
        let Workspace { normed, inputs, logits, .. } = workspace;
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let logits = &mut logits[..rows * self.spec.vocab];
        load_inputs(pool, inputs, &normed[..rows * self.spec.hidden], rows, &[head]);
        head.forward(pool, inputs, logits);
        logits
    }
}
