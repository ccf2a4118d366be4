//! One pre-norm layer: attention, then a gated MLP, each added to the residual stream by the norm that follows.

use kernels::{AttentionShape, KvCache, Pool, RopeTable, add_rms_norm, paged_attention, rope, silu_mul};

use super::decoder::DecoderBatch;
use super::error::LoadError;
use super::linear::{Linear, load_inputs};
use super::spec::{Activation, AttentionBias, DecoderSpec, Mlp, MlpBias, Norm, QkNorm};
use super::weights::{Bias, RowOrder, Weights};
use super::workspace::Workspace;

/// Root mean square norm.
#[derive(Debug)]
pub(super) struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    pub fn load(weights: &Weights<'_>, prefix: &str, module: &str, spec: &DecoderSpec) -> Result<Self, LoadError> {
        let Norm::Rms { eps } = spec.norm;
        Ok(Self { weight: weights.at(prefix).norm(module, spec.hidden)?, eps })
    }

    /// Adds `delta` to `residual`, then norms the sum into `workspace.normed`. All `[rows, hidden]`.
    pub fn add_and_norm(&self, pool: &Pool, rows: usize, workspace: &mut Workspace) {
        let values = rows * self.weight.len();
        let Workspace { residual, delta, normed, .. } = workspace;
        let (residual, delta, normed) = (&mut residual[..values], &delta[..values], &mut normed[..values]);
        add_rms_norm(pool, residual, delta, &self.weight, self.eps, normed);
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.weight.as_slice())
    }
}

#[derive(Debug)]
pub(super) struct Block {
    layer: usize,
    attention_norm: RmsNorm,
    queries: Linear,
    keys: Linear,
    values: Linear,
    attention_output: Linear,
    shape: AttentionShape,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    pub fn load(weights: &Weights<'_>, spec: &DecoderSpec, layer: usize) -> Result<Self, LoadError> {
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
        let scale = 1.0 / (head_dim as f32).sqrt();
        Ok(Self {
            layer,
            attention_norm: RmsNorm::load(weights, &prefix, "input_layernorm", spec)?,
            queries: attention.linear_in_order("q_proj", [q_width, hidden], qkv_bias, rotated)?,
            keys: attention.linear_in_order("k_proj", [kv_width, hidden], qkv_bias, rotated)?,
            values: attention.linear("v_proj", [kv_width, hidden], qkv_bias)?,
            attention_output: attention.linear("o_proj", [hidden, q_width], output_bias)?,
            shape: AttentionShape { q_heads, kv_heads, head_dim, scale, window: spec.attention.window.of_layer(layer) },
            mlp_norm: RmsNorm::load(weights, &prefix, "post_attention_layernorm", spec)?,
            gate: mlp.linear("gate_proj", [width, hidden], mlp_bias)?,
            up: mlp.linear("up_proj", [width, hidden], mlp_bias)?,
            down: mlp.linear("down_proj", [hidden, width], mlp_bias)?,
        })
    }

    /// Norm, projections, rotation, cache, attention: fills `workspace.attended` for all rows of the batch.
    pub fn attend(
        &self,
        pool: &Pool,
        batch: &DecoderBatch<'_>,
        table: &RopeTable,
        cache: &mut KvCache,
        workspace: &mut Workspace,
    ) {
        let rows = batch.token_ids.len();
        let AttentionShape { q_heads, kv_heads, head_dim, .. } = self.shape;
        let (q_values, kv_values) = (rows * q_heads * head_dim, rows * kv_heads * head_dim);
        self.attention_norm.add_and_norm(pool, rows, workspace);

        let Workspace { normed, queries, keys, values, attended, inputs, attention, .. } = workspace;
        let (queries, attended) = (&mut queries[..q_values], &mut attended[..q_values]);
        let (keys, values) = (&mut keys[..kv_values], &mut values[..kv_values]);
        let normed = &normed[..rows * self.queries.matrix().in_features()];
        load_inputs(pool, inputs, normed, rows, &[&self.queries, &self.keys, &self.values]);
        self.queries.forward(pool, inputs, queries);
        self.keys.forward(pool, inputs, keys);
        self.values.forward(pool, inputs, values);
        rope(pool, table, batch.positions, queries, q_heads, head_dim);
        rope(pool, table, batch.positions, keys, kv_heads, head_dim);
        cache.write(self.layer, batch.slots, keys, values);
        paged_attention(pool, &self.shape, cache, self.layer, queries, batch.chunks, attended, attention);
    }

    /// From `workspace.attended` to `workspace.delta`: output projection, norm, MLP, over the first `rows` rows.
    pub fn finish(&self, pool: &Pool, rows: usize, workspace: &mut Workspace) {
        let hidden = self.attention_output.matrix().out_features();
        let width = self.gate.matrix().out_features();
        let Workspace { attended, delta, inputs, .. } = &mut *workspace;
        let attended = &attended[..rows * self.attention_output.matrix().in_features()];
        load_inputs(pool, inputs, attended, rows, &[&self.attention_output]);
        self.attention_output.forward(pool, inputs, &mut delta[..rows * hidden]);

        self.mlp_norm.add_and_norm(pool, rows, workspace);
        let Workspace { normed, gate, up, gated, delta, inputs, .. } = workspace;
        let (gate, up, gated) = (&mut gate[..rows * width], &mut up[..rows * width], &mut gated[..rows * width]);
        load_inputs(pool, inputs, &normed[..rows * hidden], rows, &[&self.gate, &self.up]);
        self.gate.forward(pool, inputs, gate);
        self.up.forward(pool, inputs, up);
        silu_mul(pool, gate, up, gated);
        load_inputs(pool, inputs, gated, rows, &[&self.down]);
        self.down.forward(pool, inputs, &mut delta[..rows * hidden]);
    }

    pub fn bytes(&self) -> usize {
        let linears =
            [&self.queries, &self.keys, &self.values, &self.attention_output, &self.gate, &self.up, &self.down];
        let linear_bytes: usize = linears.into_iter().map(Linear::bytes).sum();
        linear_bytes + self.attention_norm.bytes() + self.mlp_norm.bytes()
    }
}
