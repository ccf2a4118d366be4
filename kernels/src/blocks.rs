//! Blocks of quantised weights as they lie in a model file: read apart, and the plain reference that turns them into
//! floats. Source: the structures and `dequantize_row_*` of ggml's `ggml-common.h` and `ggml-quants.c`.

use crate::weight_type::WeightType;
use half::{bf16, f16};

/// Values that share one scale, and one block of quantised activations.
pub(crate) const SUB_BLOCK: usize = 32;

/// One sub-block of 32 weights: value = scale * (quant - zero) - min, with the zero of the type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubBlock {
    /// Not negative, in 0..=255: the stored number plus the zero of its type.
    pub(crate) quants: [u8; SUB_BLOCK],
    /// Scale within the unit: bits of two bytes as the type packs them (see `pack`).
    pub(crate) scales: [u8; 2],
}

/// `[d, dmin]` as f16 bytes, zero where the type has none.
pub(crate) fn unit_scales(weight_type: WeightType, unit: &[u8]) -> [[u8; 2]; 2] {
    let at = |offset: usize| [unit[offset], unit[offset + 1]];
    match weight_type {
        WeightType::Q4K | WeightType::Q5K => [at(0), at(2)],
        WeightType::Q6K => [at(208), [0; 2]],
        _ => [at(0), [0; 2]],
    }
}

/// The sub-block `index` of one file block of a quantised type.
///
/// `scales` is the f16 scale (Q8_0, Q4_0), scale and min (Q4_K, Q5_K) or the i8 scales of both halves (Q6_K).
pub(crate) fn sub_block(weight_type: WeightType, unit: &[u8], index: usize) -> SubBlock {
    let mut quants = [0; SUB_BLOCK];
    let scales = match weight_type {
        WeightType::Q8_0 => {
            quants.copy_from_slice(&unit[2..34]);
            quants = quants.map(|quant| quant ^ 0x80);
            [unit[0], unit[1]]
        }
        WeightType::Q4_0 => {
            for (k, quant) in quants.iter_mut().enumerate() {
                let byte = unit[2 + k % 16];
                *quant = if k < 16 { byte & 15 } else { byte >> 4 };
            }
            [unit[0], unit[1]]
        }
        WeightType::Q4K => {
            nibbles(&unit[16..144], index, &mut quants);
            scale_and_min(&unit[4..16], index)
        }
        WeightType::Q5K => {
            nibbles(&unit[48..176], index, &mut quants);
            for (quant, high) in quants.iter_mut().zip(&unit[16..48]) {
                *quant |= ((high >> index) & 1) << 4;
            }
            scale_and_min(&unit[4..16], index)
        }
        WeightType::Q6K => {
            // Two halves of 128 values, each 64 bytes of low nibbles and 32 bytes with four pairs of high bits.
            let (half, quarter) = (index / 4, index % 4);
            let low = &unit[64 * half + 32 * (quarter % 2)..][..SUB_BLOCK];
            let high = &unit[128 + 32 * half..][..SUB_BLOCK];
            for (k, quant) in quants.iter_mut().enumerate() {
                let nibble = if quarter < 2 { low[k] & 15 } else { low[k] >> 4 };
                *quant = nibble | ((high[k] >> (2 * quarter)) & 3) << 4;
            }
            [unit[192 + 2 * index], unit[193 + 2 * index]]
        }
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => unreachable!("floats have no sub-blocks"),
    };
    SubBlock { quants, scales }
}

fn nibbles(bytes: &[u8], index: usize, quants: &mut [u8; SUB_BLOCK]) {
    for (quant, byte) in quants.iter_mut().zip(&bytes[SUB_BLOCK * (index / 2)..]) {
        *quant = if index.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
    }
}

/// Six bits each of eight scales and eight mins in twelve bytes.
fn scale_and_min(packed: &[u8], index: usize) -> [u8; 2] {
    if index < 4 {
        [packed[index] & 63, packed[index + 4] & 63]
    } else {
        let high = packed[index + 4];
        [(high & 15) | (packed[index - 4] >> 6) << 4, (high >> 4) | (packed[index] >> 6) << 4]
    }
}

/// Turns the bytes of whole blocks into floats: the truth that packed weights are held to.
///
/// Panics unless `bytes` holds exactly the blocks of `out.len()` values.
pub fn dequantise(weight_type: WeightType, bytes: &[u8], out: &mut [f32]) {
    assert!(out.len().is_multiple_of(weight_type.block_values()), "whole blocks of {weight_type}");
    assert_eq!(bytes.len(), out.len() / weight_type.block_values() * weight_type.block_bytes());
    let units = bytes.chunks_exact(weight_type.block_bytes());
    for (unit, out) in units.zip(out.chunks_exact_mut(weight_type.block_values())) {
        match weight_type {
            WeightType::F32 => out[0] = f32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]),
            WeightType::F16 => out[0] = f16::from_le_bytes([unit[0], unit[1]]).to_f32(),
            WeightType::Bf16 => out[0] = bf16::from_le_bytes([unit[0], unit[1]]).to_f32(),
            _ => {
                for (index, out) in out.chunks_exact_mut(SUB_BLOCK).enumerate() {
                    let header = unit_scales(weight_type, unit);
                    dequantise_sub_block(weight_type, header, &sub_block(weight_type, unit, index), out);
                }
            }
        }
    }
}

pub(crate) fn dequantise_sub_block(weight_type: WeightType, header: [[u8; 2]; 2], block: &SubBlock, out: &mut [f32]) {
    let [d, dmin] = header.map(|bytes| f16::from_le_bytes(bytes).to_f32());
    for (k, (out, &quant)) in out.iter_mut().zip(&block.quants).enumerate() {
        let quant = f32::from(quant);
        *out = match weight_type {
            WeightType::Q8_0 => (quant - 128.0) * d,
            WeightType::Q4_0 => (quant - 8.0) * d,
            WeightType::Q6K => d * f32::from(block.scales[k / 16] as i8) * (quant - 32.0),
            _ => d * f32::from(block.scales[0]) * quant - dmin * f32::from(block.scales[1]),
        };
    }
}
