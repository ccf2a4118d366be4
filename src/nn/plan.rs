//! What a decoder will take, from the headers alone: nothing is read or allocated.

use kernels::{KvCache, WeightType};

use super::convert::{self, Quantise};
use super::error::LoadError;
use super::spec::{DecoderSpec, Head};
use crate::checkpoint::Checkpoint;

/// Numbers of a model that is not loaded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Weights and biases, a tied embedding counted once.
    pub parameters: u64,
    /// Memory of all weights as steps read them.
    pub weights_bytes: u64,
    /// The part of it that every step reads from end to end: all but an embedding that is not the head too, of which a
    /// step only looks up rows.
    pub streamed_bytes: u64,
    /// The type that most of the parameters are kept in.
    pub weight_type: WeightType,
    /// Memory of one position in the key-value cache, all layers together.
    pub kv_bytes_per_token: u64,
}

/// Block size over which the bytes of the cache are averaged; any would do.
const BLOCK_TOKENS: usize = 16;
/// What Hugging Face calls the matrix that tokens are looked up in.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Outputs are stored in panels of this many.
const PANEL: u64 = 32;

/// Counts what loading `checkpoint` as `spec` will take. Errors on a tensor in a type that is not supported.
pub fn plan(checkpoint: &Checkpoint, spec: &DecoderSpec, quantise: Quantise) -> Result<Needs, LoadError> {
    let (mut parameters, mut weights_bytes) = (0_u64, 0_u64);
    let mut looked_up_bytes = 0_u64;
    let mut by_type = WeightType::ALL.map(|weight_type| (0_u64, weight_type));
    let embedding = spec.names.in_file(EMBEDDING);
    for name in checkpoint.tensor_names().filter(|name| !spec.names.is_ignorable(name, spec.head)) {
        let info = checkpoint.tensor(name).ok_or_else(|| LoadError::MissingTensor { name: name.to_owned() })?;
        let values: u64 = info.shape.iter().map(|axis| *axis as u64).product();
        parameters = parameters.saturating_add(values);
        let bytes = match info.shape[..] {
            [out_features, in_features] => {
                let weight_type = convert::matrix_type(name, info.tensor_type, in_features, quantise)?;
                let of_type = by_type.iter_mut().find(|(_, known)| *known == weight_type);
                let of_type = of_type.expect("every type is counted");
                of_type.0 = of_type.0.saturating_add(values);
                let bytes = packed_bytes(weight_type, out_features, in_features);
                if spec.head == Head::Separate && name == embedding {
                    looked_up_bytes = bytes;
                }
                bytes
            }
            _ => values.saturating_mul(size_of::<f32>() as u64),
        };
        weights_bytes = weights_bytes.saturating_add(bytes);
    }
    let cache = KvCache::bytes_needed(spec.layers, 1, BLOCK_TOKENS, spec.kv_heads, spec.head_dim);
    let kv_bytes_per_token = cache.map_or(u64::MAX, |bytes| bytes as u64 / BLOCK_TOKENS as u64);
    let streamed_bytes = weights_bytes - looked_up_bytes;
    let weight_type = by_type.iter().max_by_key(|(values, _)| *values).map_or(WeightType::F32, |(_, main)| *main);
    Ok(Needs { parameters, weights_bytes, streamed_bytes, weight_type, kv_bytes_per_token })
}

/// Memory of a packed matrix: whole panels, and the scales of the K types unfolded.
pub(super) fn packed_bytes(weight_type: WeightType, out_features: usize, in_features: usize) -> u64 {
    let row_bytes = (in_features / weight_type.block_values()) as u64 * weight_type.block_bytes() as u64;
    let bytes = (out_features as u64).next_multiple_of(PANEL).saturating_mul(row_bytes);
    match weight_type {
        WeightType::Q4K | WeightType::Q5K => bytes.saturating_add(bytes / 36),
        WeightType::F32
        | WeightType::F16
        | WeightType::Bf16
        | WeightType::Q8_0
        | WeightType::Q4_0
        | WeightType::Q6K => bytes,
    }
}
