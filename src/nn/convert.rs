//! What happens to a tensor between the file and the matrix a step reads: choosing the storage, rounding to Q8_0,
//! putting the rows of rotated heads in order. candle does the arithmetic.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use kernels::WeightType;
use kernels::gpu::WeightFormat;

use super::error::LoadError;
use super::spec::{RotaryRows, TensorNames};
use crate::checkpoint::{RawTensor, TensorType};

/// Whether weights are made smaller while they are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quantise {
    /// As the checkpoint stores them.
    #[default]
    None,
    /// Float matrices become Q8_0 where their width is a multiple of 32; what is quantised already stays as it is.
    Q8_0,
    /// Every matrix becomes F32: large, but activations are not rounded either, so that the blocks of a file can be
    /// held to a reference.
    Float,
    /// Every matrix becomes e4m3 with a scale per row: on a GPU.
    Fp8,
    /// Every matrix becomes 4-bit integers with a scale per 128 values: on a GPU.
    Int4,
}

impl Quantise {
    /// As it is written in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Q8_0 => "q8_0",
            Self::Float => "float",
            Self::Fp8 => "fp8",
            Self::Int4 => "int4",
        }
    }

    /// What matrices become on a GPU.
    pub fn on_gpu(self) -> Result<WeightFormat, LoadError> {
        match self {
            Self::None => Ok(WeightFormat::Bf16),
            Self::Fp8 => Ok(WeightFormat::Fp8),
            Self::Int4 => Ok(WeightFormat::Int4),
            Self::Q8_0 | Self::Float => Err(LoadError::NotOnDevice {
                asked: self.name(),
                device: "a GPU",
                allowed: "none (bf16), fp8 and int4",
            }),
        }
    }
}

const SUPPORTED_MATRICES: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K and Q6_K";
const SUPPORTED_VECTORS: &str = "F32, F16 and BF16";
/// Q8_0 blocks hold this many values.
const Q8_0_VALUES: usize = 32;
/// Rows are rounded in slices of about this many values, so that the f32 copy of a large matrix is never whole.
const SLICE_VALUES: usize = 4 << 20;

/// How a matrix `[out_features, in_features]` stored as `found` is kept in memory.
pub(super) fn matrix_type(
    name: &str,
    found: TensorType,
    in_features: usize,
    quantise: Quantise,
) -> Result<WeightType, LoadError> {
    let stored = stored_type(name, found)?;
    Ok(match quantise {
        Quantise::Float => WeightType::F32,
        Quantise::Q8_0 if stored.block_values() == 1 && in_features.is_multiple_of(Q8_0_VALUES) => WeightType::Q8_0,
        Quantise::Q8_0 | Quantise::None => stored,
        Quantise::Fp8 | Quantise::Int4 => {
            return Err(LoadError::NotOnDevice { asked: quantise.name(), device: "the CPU", allowed: "none and q8_0" });
        }
    })
}

/// What `kernels` calls the type a file stores.
pub(super) fn stored_type(name: &str, found: TensorType) -> Result<WeightType, LoadError> {
    Ok(match found {
        TensorType::F32 => WeightType::F32,
        TensorType::F16 => WeightType::F16,
        TensorType::Bf16 => WeightType::Bf16,
        TensorType::Q8_0 => WeightType::Q8_0,
        TensorType::Q4_0 => WeightType::Q4_0,
        TensorType::Q4_K => WeightType::Q4K,
        TensorType::Q5_K => WeightType::Q5K,
        TensorType::Q6_K => WeightType::Q6K,
        found => {
            return Err(LoadError::UnsupportedType { name: name.to_owned(), found, supported: SUPPORTED_MATRICES });
        }
    })
}

/// Bytes of the raw matrix in the wanted type: the file's own, or floats as Q8_0, or anything as F32.
pub(super) fn matrix_bytes<'a>(
    name: &str,
    raw: &'a RawTensor<'_>,
    in_features: usize,
    wanted: WeightType,
) -> Result<Cow<'a, [u8]>, LoadError> {
    let stored = stored_type(name, raw.tensor_type)?;
    if stored == wanted {
        return Ok(Cow::Borrowed(&raw.bytes));
    }
    let error = |source| LoadError::Convert { name: name.to_owned(), source };
    match (float_dtype(raw.tensor_type), wanted) {
        (Some(dtype), WeightType::Q8_0) => {
            Ok(Cow::Owned(quantise_q8_0(&raw.bytes, dtype, in_features).map_err(error)?))
        }
        _ => {
            let mut values = vec![0.0; raw.shape.iter().product()];
            kernels::reference::dequantise(stored, &raw.bytes, &mut values);
            Ok(Cow::Owned(values.into_iter().flat_map(f32::to_le_bytes).collect()))
        }
    }
}

/// The values of a vector (norm weight or bias) as f32.
pub(super) fn vector(name: &str, raw: &RawTensor<'_>) -> Result<Vec<f32>, LoadError> {
    let dtype = float_dtype(raw.tensor_type).ok_or_else(|| LoadError::UnsupportedType {
        name: name.to_owned(),
        found: raw.tensor_type,
        supported: SUPPORTED_VECTORS,
    })?;
    Tensor::from_raw_buffer(&raw.bytes, dtype, &raw.shape, &Device::Cpu)
        .and_then(|values| values.to_dtype(DType::F32)?.to_vec1())
        .map_err(|source| LoadError::Convert { name: name.to_owned(), source })
}

fn float_dtype(tensor_type: TensorType) -> Option<DType> {
    match tensor_type {
        TensorType::F32 => Some(DType::F32),
        TensorType::F16 => Some(DType::F16),
        TensorType::Bf16 => Some(DType::BF16),
        _ => None,
    }
}

/// Rounds rows of floats to Q8_0 blocks. `bytes: [rows, width]` of `dtype`, `width` a multiple of 32.
fn quantise_q8_0(bytes: &[u8], dtype: DType, width: usize) -> candle_core::Result<Vec<u8>> {
    let row_bytes = width * dtype.size_in_bytes();
    let slice_rows = (SLICE_VALUES / width).max(1);
    let mut blocks = Vec::with_capacity(bytes.len() / row_bytes * (width / Q8_0_VALUES) * GgmlDType::Q8_0.type_size());
    for slice in bytes.chunks(slice_rows * row_bytes) {
        let shape = [slice.len() / row_bytes, width];
        let floats = Tensor::from_raw_buffer(slice, dtype, &shape, &Device::Cpu)?.to_dtype(DType::F32)?;
        blocks.extend_from_slice(&QTensor::quantize(&floats, GgmlDType::Q8_0)?.data()?);
    }
    Ok(blocks)
}

/// Puts the rows of rotated heads into half-split order. Works on quantised rows too: a row is a whole number of
/// blocks, and only rows move.
///
/// `bytes: [heads * head_dim, row_bytes]`; pair `i` of a head moves from rows `2 i, 2 i + 1` to `i, i + head_dim / 2`.
pub(super) fn order_rotary_rows(
    bytes: Cow<'_, [u8]>,
    names: TensorNames,
    rows: usize,
    head_dim: usize,
) -> Cow<'_, [u8]> {
    match names {
        TensorNames::HuggingFace | TensorNames::Gguf { rows: RotaryRows::HalfSplit } => bytes,
        TensorNames::Gguf { rows: RotaryRows::Interleaved } => {
            let row_bytes = bytes.len() / rows;
            let mut ordered = Vec::with_capacity(bytes.len());
            for head in bytes.chunks_exact(row_bytes * head_dim) {
                for half in 0..2 {
                    for pair in 0..head_dim / 2 {
                        ordered.extend_from_slice(&head[(2 * pair + half) * row_bytes..][..row_bytes]);
                    }
                }
            }
            Cow::Owned(ordered)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_become_half_split() {
        let names = TensorNames::Gguf { rows: RotaryRows::Interleaved };
        // Two heads of four rows; each row is two bytes that name head and half-split place.
        let stored = [[0, 0], [0, 2], [0, 1], [0, 3], [1, 0], [1, 2], [1, 1], [1, 3]].concat();
        let ordered = order_rotary_rows(Cow::Owned(stored), names, 8, 4);
        let want = [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [1, 2], [1, 3]].concat();
        assert_eq!(*ordered, want);
    }

    #[test]
    fn only_float_matrices_of_whole_blocks_are_quantised() {
        let chosen = |found, width| matrix_type("w", found, width, Quantise::Q8_0).expect("a supported type");
        assert_eq!(chosen(TensorType::F16, 64), WeightType::Q8_0);
        assert_eq!(chosen(TensorType::F32, 48), WeightType::F32);
        assert_eq!(chosen(TensorType::Q4_K, 256), WeightType::Q4K);
        let error = matrix_type("blk.0.attn_q.weight", TensorType::IQ2_XS, 256, Quantise::None).expect_err("IQ2_XS");
        assert!(error.to_string().contains("blk.0.attn_q.weight") && error.to_string().contains("IQ2_XS"), "{error}");
    }

    #[test]
    fn quantised_weights_are_within_half_a_step() {
        let values: Vec<f32> = (0..8 * 64).map(|index| ((index * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let blocks = quantise_q8_0(&bytes, DType::F32, 64).expect("floats round");
        let mut back = vec![0.0; values.len()];
        kernels::reference::dequantise(WeightType::Q8_0, &blocks, &mut back);
        for (block, back) in values.chunks(Q8_0_VALUES).zip(back.chunks(Q8_0_VALUES)) {
            let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (value, back) in block.iter().zip(back) {
                // Half a step of the block, and the rounding of its scale to f16.
                assert!((value - back).abs() <= largest / 254.0 + largest / 2048.0, "{value} became {back}");
            }
        }
    }

    #[test]
    fn slices_of_a_matrix_round_as_the_whole() {
        let width = 64;
        let rows = SLICE_VALUES / width + 3;
        let values: Vec<f32> = (0..rows * width).map(|index| ((index * 37 % 101) as f32 - 50.0) / 7.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let sliced = quantise_q8_0(&bytes, DType::F32, width).expect("floats round");
        let floats = Tensor::from_vec(values, (rows, width), &Device::Cpu).expect("a tensor");
        let whole = QTensor::quantize(&floats, GgmlDType::Q8_0).expect("floats round");
        assert_eq!(sliced, *whole.data().expect("blocks"));
    }
}
