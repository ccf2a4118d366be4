//! Every buffer a step writes, allocated once.

use kernels::{AttentionScratch, Rows};

use super::spec::DecoderSpec;

/// Buffers for steps of up to `rows_max` rows, of which up to `sampled_rows_max` yield logits.
pub struct Workspace {
    pub(super) rows_max: usize,
    pub(super) sampled_rows_max: usize,
    /// `[rows, hidden]`: the residual stream.
    pub(super) residual: Vec<f32>,
    /// `[rows, hidden]`: what the next norm adds to the residual stream.
    pub(super) delta: Vec<f32>,
    /// `[rows, hidden]`
    pub(super) normed: Vec<f32>,
    /// `[rows, q_heads * head_dim]`
    pub(super) queries: Vec<f32>,
    /// `[rows, kv_heads * head_dim]`
    pub(super) keys: Vec<f32>,
    /// `[rows, kv_heads * head_dim]`
    pub(super) values: Vec<f32>,
    /// `[rows, q_heads * head_dim]`
    pub(super) attended: Vec<f32>,
    /// `[rows, mlp width]`
    pub(super) gate: Vec<f32>,
    /// `[rows, mlp width]`
    pub(super) up: Vec<f32>,
    /// `[rows, mlp width]`
    pub(super) gated: Vec<f32>,
    /// `[sampled_rows, vocab]`
    pub(super) logits: Vec<f32>,
    /// The inputs of the linear layer at work.
    pub(super) inputs: Rows,
    pub(super) attention: AttentionScratch,
}

impl Workspace {
    #[must_use]
    pub fn new(spec: &DecoderSpec, rows_max: usize, sampled_rows_max: usize) -> Self {
        let rows_of = |width: usize| vec![0.0; rows_max * width];
        Self {
            rows_max,
            sampled_rows_max,
            residual: rows_of(spec.hidden),
            delta: rows_of(spec.hidden),
            normed: rows_of(spec.hidden),
            queries: rows_of(spec.q_width()),
            keys: rows_of(spec.kv_width()),
            values: rows_of(spec.kv_width()),
            attended: rows_of(spec.q_width()),
            gate: rows_of(spec.mlp.width()),
            up: rows_of(spec.mlp.width()),
            gated: rows_of(spec.mlp.width()),
            logits: vec![0.0; sampled_rows_max * spec.vocab],
            inputs: Rows::with_capacity(rows_max, widest_input(spec)),
            attention: AttentionScratch::default(),
        }
    }

    /// Rows of one step that may yield logits.
    #[must_use]
    pub fn sampled_rows_max(&self) -> usize {
        self.sampled_rows_max
    }

    /// Bytes that [`Self::new`] allocates for these numbers.
    #[must_use]
    pub fn bytes(spec: &DecoderSpec, rows_max: usize, sampled_rows_max: usize) -> u64 {
        let per_row = 3 * spec.hidden + 2 * spec.q_width() + 2 * spec.kv_width() + 3 * spec.mlp.width();
        let floats = (per_row as u64)
            .saturating_mul(rows_max as u64)
            .saturating_add((spec.vocab as u64).saturating_mul(sampled_rows_max as u64));
        let inputs = Rows::bytes_needed(rows_max, widest_input(spec)).map_or(u64::MAX, |bytes| bytes as u64);
        floats.saturating_mul(size_of::<f32>() as u64).saturating_add(inputs)
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace")
            .field("rows_max", &self.rows_max)
            .field("sampled_rows_max", &self.sampled_rows_max)
            .finish_non_exhaustive()
    }
}

/// The widest activation a linear layer reads.
fn widest_input(spec: &DecoderSpec) -> usize {
    spec.hidden.max(spec.q_width()).max(spec.mlp.width())
}
