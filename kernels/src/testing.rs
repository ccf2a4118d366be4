//! Seeded inputs and comparisons for the tests of this crate and its benches.

use crate::weight_type::WeightType;
use half::{bf16, f16};

/// A small generator (SplitMix64): the same numbers on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in -1..1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

pub fn random_floats(length: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..length).map(|_| random.float()).collect()
}

/// Bytes of `values` weights of about unit size; quants take every bit pattern.
pub fn random_weights(weight_type: WeightType, values: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::new();
    for _ in 0..values / weight_type.block_values() {
        let value = random.float();
        match weight_type {
            WeightType::F32 => bytes.extend(value.to_le_bytes()),
            WeightType::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
            WeightType::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
            _ => {
                let mut block: Vec<u8> = (0..weight_type.block_bytes()).map(|_| random.next() as u8).collect();
                let mut scale = |at: usize, size: f32| {
                    let bits = f16::from_f32(size * (1.0 + random.float())).to_le_bytes();
                    block[at..at + 2].copy_from_slice(&bits);
                };
                match weight_type {
                    WeightType::Q8_0 => scale(0, 0.01),
                    WeightType::Q4_0 => scale(0, 0.1),
                    WeightType::Q6K => scale(208, 0.0005),
                    _ => {
                        scale(0, 0.002);
                        scale(2, 0.01);
                    }
                }
                bytes.extend(block);
            }
        }
    }
    bytes
}

/// Panics unless every element is within `abs + rel * |want|`.
pub fn assert_close(got: &[f32], want: &[f32], abs: f32, rel: f32) {
    assert_eq!(got.len(), want.len());
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= abs + rel * want.abs(), "element {index}: got {got}, want {want}");
    }
}

/// Panics unless every element has the same bits.
pub fn assert_same_bits(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.to_bits(), want.to_bits(), "{what}: element {index}: {got} and {want}");
    }
}
