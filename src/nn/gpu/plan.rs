//! What a decoder will take on a device, from the headers alone.

use kernels::gpu::{DeviceKvCache, KvCacheShape, WeightFormat};

use super::super::convert;
use super::super::error::LoadError;
use super::super::plan::EMBEDDING;
use super::super::spec::{DecoderSpec, Head};
use crate::checkpoint::Checkpoint;

/// Numbers of a model that is not loaded yet, on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuNeeds {
    /// Weights and biases, a tied embedding counted once.
    pub parameters: u64,
    /// Device memory of all weights.
    pub weights_bytes: u64,
    /// The part of it that every step reads from end to end.
    pub streamed_bytes: u64,
    /// Memory of one position in the key-value cache, all layers together.
    pub kv_bytes_per_token: u64,
}

/// Counts what loading `checkpoint` as `spec` will take on a GPU with weights in `format`. Errors on a tensor in a type
/// that is not supported.
pub fn plan_on_gpu(checkpoint: &Checkpoint, spec: &DecoderSpec, format: WeightFormat) -> Result<GpuNeeds, LoadError> {
    let (mut parameters, mut weights_bytes, mut looked_up_bytes) = (0_u64, 0_u64, 0_u64);
    let embedding = spec.names.in_file(EMBEDDING);
    for name in checkpoint.tensor_names().filter(|name| !spec.names.is_ignorable(name, spec.head)) {
        let info = checkpoint.tensor(name).ok_or_else(|| LoadError::MissingTensor { name: name.to_owned() })?;
        let values: u64 = info.shape.iter().map(|axis| *axis as u64).product();
        parameters = parameters.saturating_add(values);
        let bytes = match info.shape[..] {
            [out_features, in_features] => {
                convert::stored_type(name, info.tensor_type)?;
                let bytes = format.matrix_bytes(out_features, in_features);
                if spec.head == Head::Separate && name == embedding {
                    looked_up_bytes = bytes;
                }
                bytes
            }
            _ => values.saturating_mul(size_of::<f32>() as u64),
        };
        weights_bytes = weights_bytes.saturating_add(bytes);
    }
    let rope_bytes = (spec.context_tokens as u64).saturating_mul(spec.head_dim as u64 * size_of::<f32>() as u64);
    let one_block =
        KvCacheShape { layers: spec.layers, num_blocks: 1, kv_heads: spec.kv_heads, head_dim: spec.head_dim };
    let block_bytes = DeviceKvCache::bytes_needed(one_block).unwrap_or(u64::MAX);
    Ok(GpuNeeds {
        parameters,
        streamed_bytes: weights_bytes - looked_up_bytes,
        weights_bytes: weights_bytes.saturating_add(rope_bytes),
        kv_bytes_per_token: block_bytes / kernels::gpu::BLOCK_TOKENS as u64,
    })
}
