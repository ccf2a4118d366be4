//! One pre-norm layer on the device: the walk of `nn::block`, over fused matrices.

use kernels::gpu::{
    AddRmsNorm, AttentionInput, Buffer, DeviceAttention, DeviceKvCache, DeviceMatrix, DeviceRopeTable, Gpu, GpuError,
    RopeWrite, RowList, RowTables, TileList, add_rms_norm, attend_rows, attend_tiles, linear, rope_write, silu_mul,
};

use super::super::error::LoadError;
use super::super::spec::{Activation, AttentionBias, DecoderSpec, Mlp, MlpBias, Norm, QkNorm};
use super::super::weights::{Bias, RowOrder, Weights};
use super::tables::{StepShape, StepTables};
use super::upload::{Part, Stack, Uploader};
use super::workspace::GpuWorkspace;

/// Root mean square norm on the device.
#[derive(Debug)]
pub(super) struct GpuNorm {
    weight: Buffer<f32>,
    eps: f32,
}

impl GpuNorm {
    pub fn load(
        gpu: &Gpu,
        weights: &Weights<'_>,
        prefix: &str,
        module: &str,
        spec: &DecoderSpec,
    ) -> Result<Self, LoadError> {
        let Norm::Rms { eps } = spec.norm;
        Ok(Self { weight: gpu.upload(&weights.at(prefix).norm(module, spec.hidden)?)?, eps })
    }

    /// Adds `delta` to `residual`, then norms the sum into `normed`.
    pub fn add_and_norm(&self, gpu: &Gpu, rows: usize, workspace: &mut GpuWorkspace) -> Result<(), GpuError> {
        let GpuWorkspace { residual, delta, normed, .. } = workspace;
        let Self { weight, eps } = self;
        add_rms_norm(gpu, AddRmsNorm { rows, residual, delta, weight, eps: *eps, normed })
    }

    pub fn bytes(&self) -> u64 {
        self.weight.bytes() as u64
    }
}

#[derive(Debug)]
pub(super) struct GpuBlock {
    layer: usize,
    attention_norm: GpuNorm,
    /// Queries, keys and values, one below the other.
    qkv: DeviceMatrix,
    attention_output: DeviceMatrix,
    attention: DeviceAttention,
    mlp_norm: GpuNorm,
    /// Gate, then up.
    gate_up: DeviceMatrix,
    down: DeviceMatrix,
}

/// What every layer of a step uses.
pub(super) struct Step<'a> {
    pub gpu: &'a Gpu,
    pub shape: StepShape,
    pub tables: &'a StepTables,
    pub rope: &'a DeviceRopeTable,
}

impl GpuBlock {
    pub fn load(
        uploader: &mut Uploader,
        weights: &Weights<'_>,
        spec: &DecoderSpec,
        layer: usize,
    ) -> Result<Self, LoadError> {
        let DecoderSpec { hidden, q_heads, kv_heads, head_dim, .. } = *spec;
        let (q_width, kv_width) = (spec.q_width(), spec.kv_width());
        let QkNorm::None = spec.attention.qk_norm;
        let (qkv_bias, output_bias) = match spec.attention.bias {
            AttentionBias::None => (Bias::Absent, Bias::Absent),
            AttentionBias::Qkv => (Bias::Present, Bias::Absent),
            AttentionBias::QkvAndOutput => (Bias::Present, Bias::Present),
        };
        let Mlp::Gated { act: Activation::Silu, width, bias } = spec.mlp;
        let mlp_bias = match bias {
            MlpBias::None => Bias::Absent,
            MlpBias::All => Bias::Present,
        };
        let prefix = format!("model.layers.{layer}");
        let attention = weights.at(format!("{prefix}.self_attn"));
        let mlp = weights.at(format!("{prefix}.mlp"));
        let rotated = RowOrder::Rotated { head_dim };
        let part = |module, out_features, order| Part { module, out_features, order };
        let stored = RowOrder::AsStored;
        let qkv =
            [part("q_proj", q_width, rotated), part("k_proj", kv_width, rotated), part("v_proj", kv_width, stored)];
        let gate_up = [part("gate_proj", width, stored), part("up_proj", width, stored)];
        let (output, down) = ([part("o_proj", hidden, stored)], [part("down_proj", hidden, stored)]);
        Ok(Self {
            layer,
            attention_norm: GpuNorm::load(uploader.gpu(), weights, &prefix, "input_layernorm", spec)?,
            qkv: uploader.matrix(&attention, &Stack { parts: &qkv, in_features: hidden, bias: qkv_bias })?,
            attention_output: uploader
                .matrix(&attention, &Stack { parts: &output, in_features: q_width, bias: output_bias })?,
            attention: DeviceAttention {
                q_heads,
                kv_heads,
                head_dim,
                scale: 1.0 / (head_dim as f32).sqrt(),
                window: spec.attention.window.of_layer(layer),
                soft_cap: None,
                sinks: None,
            },
            mlp_norm: GpuNorm::load(uploader.gpu(), weights, &prefix, "post_attention_layernorm", spec)?,
            gate_up: uploader.matrix(&mlp, &Stack { parts: &gate_up, in_features: hidden, bias: mlp_bias })?,
            down: uploader.matrix(&mlp, &Stack { parts: &down, in_features: width, bias: mlp_bias })?,
        })
    }

    /// Norm, projections, rotation, cache, attention: fills `workspace.attended` for all rows of the step.
    pub fn attend(
        &self,
        step: &Step<'_>,
        cache: &mut DeviceKvCache,
        workspace: &mut GpuWorkspace,
    ) -> Result<(), GpuError> {
        let Step { gpu, shape, tables, rope } = *step;
        self.attention_norm.add_and_norm(gpu, shape.rows, workspace)?;
        let rows_at_once = workspace.limits.listed;
        let GpuWorkspace { normed, qkv, queries, attended, attention: scratch, linear: products, .. } = workspace;
        linear(products, &self.qkv, normed, shape.rows, qkv)?;
        let write = RopeWrite {
            rows: shape.rows,
            q_heads: self.attention.q_heads,
            qkv,
            norm: None,
            table: rope,
            positions: &tables.positions,
            slots: &tables.slots,
            queries,
        };
        rope_write(gpu, write, cache, self.layer)?;
        let input = AttentionInput { attention: &self.attention, cache, layer: self.layer, queries };
        let row_tables = RowTables {
            positions: &tables.positions,
            table_starts: &tables.table_starts,
            block_tables: &tables.block_tables,
        };
        for start in (0..shape.listed).step_by(rows_at_once) {
            let count = rows_at_once.min(shape.listed - start);
            let list = &tables.row_list.part(start, count);
            attend_rows(&input, &row_tables, &RowList { list, count, splits: shape.splits }, scratch, attended)?;
        }
        let tiles = TileList { list: &tables.tiles, count: shape.tiles };
        attend_tiles(&input, &tables.block_tables, &tiles, attended)
    }

    /// From `workspace.attended` to `workspace.delta`: output projection, norm, MLP, over `rows` rows.
    pub fn finish(&self, step: &Step<'_>, rows: usize, workspace: &mut GpuWorkspace) -> Result<(), GpuError> {
        let gpu = step.gpu;
        let GpuWorkspace { attended, delta, linear: products, .. } = &mut *workspace;
        linear(products, &self.attention_output, attended, rows, delta)?;
        self.mlp_norm.add_and_norm(gpu, rows, workspace)?;
        let GpuWorkspace { normed, gate_up, gated, delta, linear: products, .. } = workspace;
        linear(products, &self.gate_up, normed, rows, gate_up)?;
        silu_mul(gpu, rows, self.down.in_features(), gate_up, gated)?;
        linear(products, &self.down, gated, rows, delta)
    }

    pub fn bytes(&self) -> u64 {
        let matrices = [&self.qkv, &self.attention_output, &self.gate_up, &self.down];
        let matrix_bytes: u64 = matrices.into_iter().map(DeviceMatrix::bytes).sum();
        matrix_bytes + self.attention_norm.bytes() + self.mlp_norm.bytes()
    }
}
