//! Every buffer a step on the device writes, allocated once: their addresses are in recorded graphs.

use half::bf16;
use kernels::gpu::{AttentionScratch, Buffer, Gpu, GpuError, LinearScratch, MatrixSize, Reductions, WeightFormat};

use super::super::spec::DecoderSpec;

/// The largest step a workspace is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepLimits {
    pub rows: usize,
    /// Rows that yield logits.
    pub sampled: usize,
    /// Rows that attend one by one in one launch, a multiple of four.
    pub listed: usize,
    /// Pieces of the longest context.
    pub splits: usize,
    pub format: WeightFormat,
    pub reductions: Reductions,
}

/// Buffers for steps on one device.
pub struct GpuWorkspace {
    pub(super) limits: StepLimits,
    pub(super) token_ids: Buffer<u32>,
    /// `[rows, hidden]`: the residual stream.
    pub(super) residual: Buffer<f32>,
    /// `[rows, hidden]`: what the next norm adds to it.
    pub(super) delta: Buffer<f32>,
    /// `[sampled, hidden]`: the residual stream of the sampled rows.
    pub(super) sampled_residual: Buffer<f32>,
    /// `[rows, hidden]`
    pub(super) normed: Buffer<bf16>,
    /// `[rows, (q_heads + 2 kv_heads) * head_dim]`
    pub(super) qkv: Buffer<f32>,
    /// `[rows, q_heads, head_dim]`
    pub(super) queries: Buffer<bf16>,
    /// `[rows, q_heads * head_dim]`
    pub(super) attended: Buffer<bf16>,
    /// `[sampled, q_heads * head_dim]`
    pub(super) sampled_attended: Buffer<bf16>,
    /// `[rows, 2 * mlp width]`
    pub(super) gate_up: Buffer<f32>,
    /// `[rows, mlp width]`
    pub(super) gated: Buffer<bf16>,
    /// `[sampled, vocab]`
    pub(super) logits: Buffer<f32>,
    pub(super) attention: AttentionScratch,
    pub(super) linear: LinearScratch,
}

/// Values per row (of the step, of the sampled rows), f32 and bf16.
struct Widths {
    row_f32: usize,
    row_bf16: usize,
    sampled_f32: usize,
    sampled_bf16: usize,
}

impl Widths {
    fn of(spec: &DecoderSpec) -> Self {
        let (q_width, kv_width, width) = (spec.q_width(), spec.kv_width(), spec.mlp.width());
        Self {
            row_f32: 2 * spec.hidden + q_width + 2 * kv_width + 2 * width,
            row_bf16: spec.hidden + 2 * q_width + width,
            sampled_f32: spec.hidden + spec.vocab,
            sampled_bf16: q_width,
        }
    }
}

impl GpuWorkspace {
    pub fn new(gpu: &Gpu, spec: &DecoderSpec, limits: StepLimits) -> Result<Self, GpuError> {
        let StepLimits { rows, sampled, listed, splits, format, reductions } = limits;
        let (q_width, kv_width, width) = (spec.q_width(), spec.kv_width(), spec.mlp.width());
        Ok(Self {
            limits,
            token_ids: gpu.zeroed(rows)?,
            residual: gpu.zeroed(rows * spec.hidden)?,
            delta: gpu.zeroed(rows * spec.hidden)?,
            sampled_residual: gpu.zeroed(sampled * spec.hidden)?,
            normed: gpu.zeroed(rows * spec.hidden)?,
            qkv: gpu.zeroed(rows * (q_width + 2 * kv_width))?,
            queries: gpu.zeroed(rows * q_width)?,
            attended: gpu.zeroed(rows * q_width)?,
            sampled_attended: gpu.zeroed(sampled * q_width)?,
            gate_up: gpu.zeroed(rows * 2 * width)?,
            gated: gpu.zeroed(rows * width)?,
            logits: gpu.zeroed(sampled * spec.vocab)?,
            attention: AttentionScratch::new(gpu, listed, spec.q_heads, spec.head_dim, splits)?,
            linear: LinearScratch::new(gpu, reductions, matrices(spec, format))?,
        })
    }

    /// `[sampled, vocab]`, adjusted in place by sampling.
    pub fn logits(&mut self) -> &mut Buffer<f32> {
        &mut self.logits
    }

    /// `[rows]`, written before a step.
    pub fn token_ids(&mut self) -> &mut Buffer<u32> {
        &mut self.token_ids
    }

    /// Lets what follows work on the sampled rows, or on all rows again.
    pub(super) fn swap_sampled(&mut self) {
        std::mem::swap(&mut self.residual, &mut self.sampled_residual);
        std::mem::swap(&mut self.attended, &mut self.sampled_attended);
    }

    /// Device memory that [`GpuWorkspace::new`] takes.
    #[must_use]
    pub fn bytes(gpu: &Gpu, spec: &DecoderSpec, limits: StepLimits) -> u64 {
        let StepLimits { rows, sampled, listed, splits, format, reductions } = limits;
        let widths = Widths::of(spec);
        let of =
            |rows: usize, f32s: usize, bf16s: usize| (rows as u64).saturating_mul(4 * f32s as u64 + 2 * bf16s as u64);
        of(rows, widths.row_f32 + 1, widths.row_bf16)
            .saturating_add(of(sampled, widths.sampled_f32, widths.sampled_bf16))
            .saturating_add(AttentionScratch::bytes_needed(listed, spec.q_heads, spec.head_dim, splits))
            .saturating_add(LinearScratch::bytes_needed(gpu, reductions, matrices(spec, format)))
    }
}

/// The matrices of a layer. The head is left out: it seldom meets many rows.
fn matrices(spec: &DecoderSpec, format: WeightFormat) -> [MatrixSize; 4] {
    let (hidden, q_width, width) = (spec.hidden, spec.q_width(), spec.mlp.width());
    let sizes = [(q_width + 2 * spec.kv_width(), hidden), (hidden, q_width), (2 * width, hidden), (hidden, width)];
    sizes.map(|(out_features, in_features)| MatrixSize { format, out_features, in_features })
}

impl std::fmt::Debug for GpuWorkspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuWorkspace").field("limits", &self.limits).finish_non_exhaustive()
    }
}
