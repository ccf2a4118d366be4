//! The decoder on a device: loaded once, then one walk over its layers per step, launched without waiting.

use kernels::gpu::{DeviceKvCache, DeviceMatrix, DeviceRopeTable, Gpu, GpuError, embed, gather_rows, linear};

use super::super::convert::Quantise;
use super::super::error::LoadError;
use super::super::spec::{DecoderSpec, Head};
use super::super::weights::{Bias, RowOrder, Weights};
use super::block::{GpuBlock, GpuNorm, Step};
use super::tables::{StepShape, StepTables};
use super::upload::{Part, Stack, Uploader};
use super::workspace::GpuWorkspace;
use crate::checkpoint::Checkpoint;

/// Weights of a whole model on a device.
#[derive(Debug)]
pub struct GpuDecoder {
    gpu: Gpu,
    spec: DecoderSpec,
    embedding: DeviceMatrix,
    blocks: Vec<GpuBlock>,
    norm: GpuNorm,
    /// `None` for a head that is the embedding.
    head: Option<DeviceMatrix>,
    rope: DeviceRopeTable,
}

/// How a decoder is put on a device.
#[derive(Debug, Clone, Copy)]
pub struct GpuLoad {
    pub quantise: Quantise,
    /// Positions that are served.
    pub context_tokens: usize,
}

impl GpuDecoder {
    /// Reads all weights and puts them on the device. `progress` gets the bytes of device memory filled so far.
    pub fn load(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        spec: DecoderSpec,
        options: &GpuLoad,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, LoadError> {
        let weights = Weights::new(checkpoint, spec.names, options.quantise, progress);
        let widest = spec.hidden.max(spec.q_width()).max(spec.mlp.width());
        let mut uploader = Uploader::new(gpu, options.quantise.on_gpu()?, widest)?;
        let mut table = |prefix, module| {
            let parts = [Part { module, out_features: spec.vocab, order: RowOrder::AsStored }];
            let stack = Stack { parts: &parts, in_features: spec.hidden, bias: Bias::Absent };
            uploader.matrix(&weights.at(prefix), &stack)
        };
        let embedding = table("model", "embed_tokens")?;
        let head = match spec.head {
            Head::Tied => None,
            Head::Separate => Some(table("", "lm_head")?),
        };
        let blocks = (0..spec.layers)
            .map(|layer| GpuBlock::load(&mut uploader, &weights, &spec, layer))
            .collect::<Result<_, _>>()?;
        let norm = GpuNorm::load(gpu, &weights, "model", "norm", &spec)?;
        weights.finish(spec.head)?;
        gpu.synchronise()?;
        let rope = &spec.attention.rope;
        let rope = kernels::RopeTable::new(rope.inverse_frequencies(spec.head_dim), rope.attention_factor());
        let rope = DeviceRopeTable::new(gpu, rope, options.context_tokens)?;
        Ok(Self { gpu: gpu.clone(), spec, embedding, blocks, norm, head, rope })
    }

    #[must_use]
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Device memory that the weights take.
    #[must_use]
    pub fn weights_bytes(&self) -> u64 {
        let blocks: u64 = self.blocks.iter().map(GpuBlock::bytes).sum();
        let head = self.head.as_ref().map_or(0, DeviceMatrix::bytes);
        self.embedding.bytes() + blocks + self.norm.bytes() + head + self.rope.bytes()
    }

    /// Launches one step: after it, `workspace.logits()` holds the logits of the sampled rows, `[sampled, vocab]`.
    ///
    /// Token ids are read from `workspace.token_ids`, everything else from `tables`. Writes keys and values of all rows
    /// into `cache`. Allocates nothing and waits for nothing, so that it can be recorded. Panics if the step is larger
    /// than the workspace.
    pub fn forward(
        &self,
        shape: StepShape,
        tables: &StepTables,
        cache: &mut DeviceKvCache,
        workspace: &mut GpuWorkspace,
    ) -> Result<(), GpuError> {
        let limits = workspace.limits;
        assert!(shape.rows <= limits.rows, "{} rows in a workspace of {}", shape.rows, limits.rows);
        assert!(shape.sampled <= limits.sampled, "{} sampled rows of {}", shape.sampled, limits.sampled);
        let Self { gpu, rope, .. } = self;
        let step = Step { gpu, shape, tables, rope };
        let GpuWorkspace { token_ids, delta, residual, .. } = &mut *workspace;
        embed(gpu, &self.embedding, (shape.rows, token_ids), delta, residual)?;
        let (last, blocks) = self.blocks.split_last().expect("a decoder has at least one layer");
        for block in blocks {
            block.attend(&step, cache, workspace)?;
            block.finish(&step, shape.rows, workspace)?;
        }
        // Behind the last keys and values only sampled rows matter.
        last.attend(&step, cache, workspace)?;
        if shape.sampled == 0 {
            return Ok(());
        }
        if shape.samples_all {
            return self.finish(last, &step, workspace);
        }
        let GpuWorkspace { residual, sampled_residual, attended, sampled_attended, .. } = &mut *workspace;
        let (rows, sampled) = (&tables.sampled_rows, shape.sampled);
        gather_rows(gpu, residual, rows, [sampled, self.spec.hidden], sampled_residual)?;
        gather_rows(gpu, attended, rows, [sampled, self.spec.q_width()], sampled_attended)?;
        workspace.swap_sampled();
        let finished = self.finish(last, &step, workspace);
        workspace.swap_sampled();
        finished
    }

    /// What is behind the last attention, over the sampled rows.
    fn finish(&self, last: &GpuBlock, step: &Step<'_>, workspace: &mut GpuWorkspace) -> Result<(), GpuError> {
        let rows = step.shape.sampled;
        last.finish(step, rows, workspace)?;
        self.norm.add_and_norm(step.gpu, rows, workspace)?;
        let GpuWorkspace { normed, logits, linear: products, .. } = workspace;
        linear(products, self.head.as_ref().unwrap_or(&self.embedding), normed, rows, logits)
    }
}
