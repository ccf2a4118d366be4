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

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the Python package `gguf` 0.19.0 (`gguf.quants.dequantize`) for one block of each type, whose byte `i`
    /// is `37 i + 11 (i / 7) + 5` and whose scales are the f16 bits 0x2e66 (d) and 0x2a66 (dmin): five values, and the
    /// sum of all, value `k` times `k % 13 + 1`.
    #[test]
    fn blocks_mean_what_the_format_says() {
        let table: [(WeightType, [f32; 5], f64); 5] = [
            (
                WeightType::Q8_0,
                [7.898_071_3, 11.597_168, -11.197_266, -7.498_169, -0.999_755_86],
                -246.839_721_679_687_5,
            ),
            (
                WeightType::Q4_0,
                [0.699_829_1, -0.399_902_34, -0.799_804_7, -0.399_902_34, 0.099_975_586],
                -28.992_919_921_875,
            ),
            (WeightType::Q4K, [24.693_97, 54.336_73, 10.397_461, 34.591_553, 2.999_267_6], 44_134.172_424_316_406),
            (WeightType::Q5K, [54.686_646, 35.741_272, 108.373_535, 135.766_85, 1.799_560_5], 93_129.107_849_121_1),
            (WeightType::Q6K, [-37.790_77, -145.564_45, 321.921_4, -98.975_83, 84.579_346], -2_328.631_347_656_25),
        ];
        for (weight_type, values, sum) in table {
            let byte = |i: usize| (37 * i + 11 * (i / 7) + 5) as u8;
            let mut block: Vec<u8> = (0..weight_type.block_bytes()).map(byte).collect();
            let d = if weight_type == WeightType::Q6K { 208 } else { 0 };
            block[d..d + 2].copy_from_slice(&0x2e66_u16.to_le_bytes());
            if matches!(weight_type, WeightType::Q4K | WeightType::Q5K) {
                block[2..4].copy_from_slice(&0x2a66_u16.to_le_bytes());
            }
            let mut out = vec![0.0; weight_type.block_values()];
            dequantise(weight_type, &block, &mut out);
            let places = if out.len() == 32 { [0, 1, 15, 16, 31] } else { [0, 33, 79, 130, 255] };
            assert_eq!(places.map(|k| out[k]), values, "{weight_type}");
            let weighted = out.iter().enumerate().map(|(k, value)| f64::from(*value) * (k % 13 + 1) as f64);
            assert!((weighted.sum::<f64>() - sum).abs() < 1e-3, "{weight_type}");
        }
    }
}
