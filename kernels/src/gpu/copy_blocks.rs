//! Copies inside the key-value cache: the beginning of a block that two sequences share until they part.

use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;
use super::kv_cache::DeviceKvCache;

const THREADS: u32 = 256;
/// Numbers per copy: from, to, positions.
const COPY_NUMBERS: usize = 3;

/// Copies the first positions of some blocks to other blocks, in all layers.
///
/// `copies: [num_copies, 3]`, each the block to copy from, the block to copy to and how many of its sixteen positions;
/// a triple of [`super::PAD`] copies nothing. No block that is written is read by another copy of the same call: they
/// happen at once. Panics if the buffer is too short.
pub fn copy_blocks(
    gpu: &Gpu,
    cache: &mut DeviceKvCache,
    copies: &Buffer<u32>,
    num_copies: usize,
) -> Result<(), GpuError> {
    assert!(copies.len() >= num_copies * COPY_NUMBERS, "{num_copies} copies in {} numbers", copies.len());
    let shape = cache.shape();
    if num_copies * shape.layers * shape.kv_heads * shape.head_dim == 0 {
        return Ok(());
    }
    let grid = [count(num_copies), count(shape.layers), count(2 * shape.kv_heads)];
    let launch = Launch { grid, block: [THREADS, 1, 1], shared_bytes: 0 };
    let arguments = [
        cache.keys_and_values.argument(),
        copies.argument(),
        Argument::U32(count(shape.num_blocks)),
        Argument::U32(count(shape.head_dim)),
    ];
    // SAFETY: the arguments are those of the kernel, which reads `num_copies` triples and touches only blocks that the
    // cache has.
    unsafe { gpu.launch("copy_blocks", launch, &arguments) }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests {
    use super::*;
    use crate::gpu::testing::{bf16s, gpus};
    use crate::gpu::{BLOCK_TOKENS, KvCacheShape, PAD};
    use crate::testing::random_floats;

    fn check(shape: KvCacheShape, copies: &[[u32; 3]]) {
        for gpu in gpus() {
            let mut cache = DeviceKvCache::new(&gpu, shape).unwrap();
            let head = BLOCK_TOKENS * shape.head_dim;
            let block = 2 * shape.kv_heads * head;
            let mut want = bf16s(&random_floats(shape.layers * shape.num_blocks * block, 1));
            gpu.write(&mut cache.keys_and_values, 0, &want).unwrap();
            let numbers = gpu.upload(copies.as_flattened()).unwrap();
            copy_blocks(&gpu, &mut cache, &numbers, copies.len()).unwrap();
            for &[from, to, positions] in copies.iter().filter(|copy| copy[0] != PAD) {
                for part in 0..shape.layers * 2 * shape.kv_heads {
                    let (layer, part) = (part / (2 * shape.kv_heads), part % (2 * shape.kv_heads));
                    let start = |of: u32| (layer * shape.num_blocks + of as usize) * block + part * head;
                    let length = positions as usize * shape.head_dim;
                    want.copy_within(start(from)..start(from) + length, start(to));
                }
            }
            assert_eq!(gpu.read(&cache.keys_and_values, 0, want.len()).unwrap(), want);
        }
    }

    #[test]
    fn matches_reference() {
        for (layers, num_blocks, kv_heads, head_dim) in [(1, 2, 1, 8), (3, 5, 2, 64), (2, 6, 1, 6), (2, 5, 3, 128)] {
            let shape = KvCacheShape { layers, num_blocks, kv_heads, head_dim };
            check(shape, &[]);
            check(shape, &[[0, 1, 16]]);
            check(shape, &[[1, 0, 1], [PAD; 3]]);
        }
        let shape = KvCacheShape { layers: 3, num_blocks: 9, kv_heads: 2, head_dim: 64 };
        check(shape, &[[8, 0, 7], [8, 1, 15], [PAD; 3], [3, 4, 0], [2, 7, 16]]);
    }
}
