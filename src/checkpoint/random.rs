//! A checkpoint that lies nowhere: a configuration, and tensors of seeded noise that take the way through the reader
//! that a file's take. For benches: the speed of a model depends on its shapes, and not on what it has learnt.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use half::bf16;

use super::source::Source;
use super::tensor_type::TensorType;
use super::{Checkpoint, Contents, TensorInfo};

/// Values in one block of noise. A prime, so that no two rows of a matrix begin at the same place of it.
const BLOCK_VALUES: usize = 2_097_143;
const VALUE_BYTES: usize = size_of::<bf16>();

/// A tensor to be made up, stored as BF16.
#[derive(Debug, Clone, PartialEq)]
pub struct RandomTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub noise: Noise,
}

/// How values are spread. The shape is a bell whose tails end at 3.5 deviations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    pub mean: f32,
    pub deviation: f32,
}

impl Checkpoint {
    /// Makes up a model as a folder would hold it; `name` stands for its path. Same arguments, same bytes.
    ///
    /// # Panics
    /// If two tensors have one name, or one has more bytes than can be addressed: the list is ours, not a file's.
    #[must_use]
    pub fn random(name: &str, config: serde_json::Value, tensors: Vec<RandomTensor>, seed: u64) -> Self {
        let mut streams: Vec<Stream> = Vec::new();
        let mut directory = BTreeMap::new();
        for RandomTensor { name, shape, noise } in tensors {
            let values = shape.iter().try_fold(1_usize, |values, axis| values.checked_mul(*axis));
            let len = values.and_then(|values| TensorType::Bf16.bytes_of(values)).expect("a tensor can be addressed");
            let source_index = streams.iter().position(|stream| stream.noise == noise).unwrap_or_else(|| {
                streams.push(Stream { noise, bytes: 0 });
                streams.len() - 1
            });
            let offset = streams[source_index].bytes;
            streams[source_index].bytes += len as u64;
            let info = TensorInfo { tensor_type: TensorType::Bf16, shape, len, source_index, offset };
            let doubled = directory.insert(name, info);
            assert!(doubled.is_none(), "a tensor is listed twice");
        }
        let path = PathBuf::from(name);
        let sources = streams.iter().zip(seed..).map(|(stream, seed)| (path.clone(), stream.open(seed))).collect();
        Self { path, contents: Contents::Folder { config, files: BTreeMap::new() }, sources, tensors: directory }
    }
}

/// The tensors of one noise, one after another, as if in a file of their own.
struct Stream {
    noise: Noise,
    bytes: u64,
}

impl Stream {
    fn open(&self, seed: u64) -> Source {
        let mut state = seed;
        let mut block = Vec::with_capacity(BLOCK_VALUES * VALUE_BYTES);
        for _ in 0..BLOCK_VALUES {
            let value = bell(next(&mut state)) * self.noise.deviation + self.noise.mean;
            block.extend_from_slice(&bf16::from_f32(value).to_le_bytes());
        }
        Source::Tiled { block: Arc::from(block), bytes: self.bytes }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The sum of four uniform numbers, centred and scaled to a deviation of one.
fn bell(bits: u64) -> f32 {
    let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
    // One uniform number of 65,536 steps has a variance of a twelfth of 65,536 squared; four have four times that.
    (sum as f32 - 2.0 * 65_535.0) / (65_536.0 / 3.0_f32.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize], mean: f32, deviation: f32) -> RandomTensor {
        RandomTensor { name: name.to_owned(), shape: shape.to_vec(), noise: Noise { mean, deviation } }
    }

    fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
        let raw = checkpoint.read(name).expect("noise cannot fail");
        raw.bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn noise_is_spread_as_asked_and_the_same_every_time() {
        let tensors = || vec![tensor("w", &[1000, 700], 0.0, 0.02), tensor("norm", &[5000], 1.0, 0.1)];
        let made = |seed| Checkpoint::random("noise", serde_json::json!({ "a": 1 }), tensors(), seed);
        let checkpoint = made(7);
        for (name, count, mean, deviation) in [("w", 700_000, 0.0, 0.02), ("norm", 5000, 1.0, 0.1)] {
            let values = values(&checkpoint, name);
            assert_eq!(values.len(), count);
            let (found_mean, found_deviation) = moments(&values);
            assert!((found_mean - mean).abs() < deviation / 20.0, "{name}: mean {found_mean}");
            assert!((found_deviation / deviation - 1.0).abs() < 0.03, "{name}: deviation {found_deviation}");
        }
        assert_eq!(values(&checkpoint, "w"), values(&made(7), "w"));
        assert_ne!(values(&checkpoint, "w"), values(&made(8), "w"));
        assert_eq!(checkpoint.config(), Some(&serde_json::json!({ "a": 1 })));
    }

    #[test]
    fn a_tensor_longer_than_the_block_goes_round_and_tensors_differ() {
        let tensors = vec![tensor("long", &[2, BLOCK_VALUES], 0.0, 1.0), tensor("next", &[1, 4096], 0.0, 1.0)];
        let checkpoint = Checkpoint::random("noise", serde_json::Value::Null, tensors, 1);
        let (long, next) = (values(&checkpoint, "long"), values(&checkpoint, "next"));
        assert_eq!(long[..BLOCK_VALUES], long[BLOCK_VALUES..], "the block repeats");
        assert_eq!(next[..], long[..4096], "what follows goes on where the block is");
        let tensors = vec![tensor("a", &[64, 64], 0.0, 1.0), tensor("b", &[64, 64], 0.0, 1.0)];
        let checkpoint = Checkpoint::random("noise", serde_json::Value::Null, tensors, 1);
        assert_ne!(values(&checkpoint, "a"), values(&checkpoint, "b"));
    }
}
