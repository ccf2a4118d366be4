//! What stands between the joint projection and attention: norm of queries and keys by head, rotary position embedding
//! (arXiv:2104.09864, half-split layout as in GPT-NeoX), keys and values into the paged cache.

use half::bf16;

use super::BLOCK_TOKENS;
use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;
use super::kv_cache::DeviceKvCache;
use crate::rope::RopeTable;

const THREADS: usize = 256;
/// A warp has one head.
const BLOCK_HEADS: usize = THREADS / 32;

/// Cosines and sines of the positions of a served context, on the device.
#[derive(Debug)]
pub struct DeviceRopeTable {
    /// `[positions, 2, pairs]`
    angles: Buffer<f32>,
    positions: usize,
    pairs: usize,
}

impl DeviceRopeTable {
    /// All positions below `positions`: 8 bytes per pair and position. Waits until they are there.
    pub fn new(gpu: &Gpu, table: RopeTable, positions: usize) -> Result<Self, GpuError> {
        let table = table.with_positions(positions);
        Ok(Self { angles: gpu.upload(table.known())?, positions, pairs: table.pairs() })
    }

    #[must_use]
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Device memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.angles.bytes() as u64
    }
}

/// Norm of each head of queries and keys before they are rotated; weights `[head_dim]`.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorm<'a> {
    pub queries: &'a Buffer<f32>,
    pub keys: &'a Buffer<f32>,
    pub eps: f32,
}

/// What [`rope_write`] reads and writes besides the cache; buffers may be longer than their rows.
#[derive(Debug)]
pub struct RopeWrite<'a> {
    pub rows: usize,
    pub q_heads: usize,
    /// `[rows, q_heads + 2 * kv_heads, head_dim]`: queries, keys, values; biases are in them.
    pub qkv: &'a Buffer<f32>,
    pub norm: Option<HeadNorm<'a>>,
    pub table: &'a DeviceRopeTable,
    /// `[rows]`
    pub positions: &'a Buffer<u32>,
    /// `[rows]`: `block * 16 + offset`, or [`super::PAD`] for a row that writes no keys and values.
    pub slots: &'a Buffer<u32>,
    /// `[rows, q_heads, head_dim]`
    pub queries: &'a mut Buffer<bf16>,
}

/// Norms, rotates and spreads the rows of `qkv`: queries to `queries`, keys and values to their slots in a layer.
///
/// A position that the table does not have, and a slot that the cache does not have, make NaN of the row's queries.
/// Panics if a buffer is too short or the table is for another size of head.
pub fn rope_write(gpu: &Gpu, write: RopeWrite<'_>, cache: &mut DeviceKvCache, layer: usize) -> Result<(), GpuError> {
    let RopeWrite { rows, q_heads, qkv, norm, table, positions, slots, queries } = write;
    let (kv_heads, head_dim) = (cache.kv_heads(), cache.head_dim());
    let heads = q_heads + 2 * kv_heads;
    assert_eq!(2 * table.pairs, head_dim, "a frequency per pair of a head");
    assert!(qkv.len() >= rows * heads * head_dim, "{rows} rows of {heads} heads of {head_dim}");
    assert!(queries.len() >= rows * q_heads * head_dim, "queries of {rows} rows");
    assert!(positions.len() >= rows && slots.len() >= rows, "a position and a slot for each of {rows} rows");
    if let Some(norm) = norm {
        assert!(norm.queries.len() == head_dim && norm.keys.len() == head_dim, "norms of heads of {head_dim}");
    }
    if rows * heads * head_dim == 0 {
        return Ok(());
    }
    let grid = [count(rows), count(heads.div_ceil(BLOCK_HEADS)), 1];
    let launch = Launch { grid, block: [count(THREADS), 1, 1], shared_bytes: 0 };
    let weight = |weight: Option<&Buffer<f32>>| weight.map_or(Argument::Pointer(0), Buffer::argument);
    let arguments = [
        qkv.argument(),
        weight(norm.map(|norm| norm.queries)),
        weight(norm.map(|norm| norm.keys)),
        table.angles.argument(),
        positions.argument(),
        slots.argument(),
        queries.argument(),
        Argument::Pointer(cache.layer(layer)),
        Argument::U32(count(q_heads)),
        Argument::U32(count(kv_heads)),
        Argument::U32(count(head_dim)),
        Argument::U32(count(table.positions)),
        Argument::U32(count(cache.num_blocks() * BLOCK_TOKENS)),
        Argument::F32(norm.map_or(0.0, |norm| norm.eps)),
    ];
    // SAFETY: the arguments are those of the kernel; it touches `rows` rows, checked above, and of the table and the
    // layer only positions and slots that they have.
    unsafe { gpu.launch("rope_write", launch, &arguments) }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16_ULP, bf16s, floats, gpus};
    use crate::gpu::{KvCacheShape, PAD};
    use crate::reference;
    use crate::testing::{Random, assert_close, random_floats};

    const EPS: f32 = 1e-6;
    const NUM_POSITIONS: usize = 300;

    /// Sizes of one case.
    #[derive(Clone, Copy)]
    struct Case {
        q_heads: usize,
        kv_heads: usize,
        head_dim: usize,
        is_normed: bool,
    }

    fn rope_table(head_dim: usize) -> RopeTable {
        let frequency = |pair: usize| 1e4f32.powf(-(2.0 * pair as f32) / head_dim as f32);
        RopeTable::new((0..head_dim / 2).map(frequency).collect(), 1.25)
    }

    /// One head of queries or keys, normed and rotated by the plain loops of the CPU.
    fn turned(head: &[f32], weight: Option<&[f32]>, position: u32) -> Vec<f32> {
        let normed = weight.map_or(head.to_vec(), |weight| reference::rms_norm(head, weight, EPS));
        reference::rope(&rope_table(head.len()), &[position], &normed, 1, head.len())
    }

    fn check(case: Case, slots: &[u32]) {
        let Case { q_heads, kv_heads, head_dim, is_normed } = case;
        let (rows, heads) = (slots.len(), q_heads + 2 * kv_heads);
        let mut random = Random(5);
        let positions: Vec<u32> = (0..rows).map(|_| random.below(NUM_POSITIONS) as u32).collect();
        let qkv = random_floats(rows * heads * head_dim, 1);
        let weights = is_normed.then(|| [random_floats(head_dim, 2), random_floats(head_dim, 3)]);
        let shape = KvCacheShape { layers: 3, num_blocks: 5, kv_heads, head_dim };
        let layer_values = 5 * 2 * kv_heads * BLOCK_TOKENS * head_dim;
        let before = random_floats(3 * layer_values, 4);
        let before = floats(&bf16s(&before));

        let (mut want_queries, mut want_cache) = (Vec::new(), before.clone());
        for (row, (&slot, &position)) in qkv.chunks(heads * head_dim).zip(slots.iter().zip(&positions)) {
            for (index, head) in row.chunks(head_dim).enumerate() {
                let weight = weights.as_ref().map(|weights| weights[usize::from(index >= q_heads)].as_slice());
                if index < q_heads {
                    want_queries.extend(turned(head, weight, position));
                } else if slot != PAD {
                    let is_value = index >= q_heads + kv_heads;
                    let value = if is_value { head.to_vec() } else { turned(head, weight, position) };
                    let kv_head = index - q_heads - if is_value { kv_heads } else { 0 };
                    let (block, offset) = (slot as usize / BLOCK_TOKENS, slot as usize % BLOCK_TOKENS);
                    let part = (block * 2 + usize::from(is_value)) * kv_heads + kv_head;
                    let start = layer_values + (part * BLOCK_TOKENS + offset) * head_dim;
                    want_cache[start..start + head_dim].copy_from_slice(&value);
                }
            }
        }

        for gpu in gpus() {
            let mut cache = DeviceKvCache::new(&gpu, shape).unwrap();
            gpu.write(&mut cache.keys_and_values, 0, &bf16s(&before)).unwrap();
            let mut queries = gpu.uninitialised(rows * q_heads * head_dim).unwrap();
            let weights = weights.as_ref().map(|weights| weights.each_ref().map(|weight| gpu.upload(weight).unwrap()));
            let operation = RopeWrite {
                rows,
                q_heads,
                qkv: &gpu.upload(&qkv).unwrap(),
                norm: weights.as_ref().map(|[queries, keys]| HeadNorm { queries, keys, eps: EPS }),
                table: &DeviceRopeTable::new(&gpu, rope_table(head_dim), NUM_POSITIONS).unwrap(),
                positions: &gpu.upload(&positions).unwrap(),
                slots: &gpu.upload(slots).unwrap(),
                queries: &mut queries,
            };
            rope_write(&gpu, operation, &mut cache, 1).unwrap();
            assert_close(&floats(&gpu.read(&queries, 0, queries.len()).unwrap()), &want_queries, 1e-5, BF16_ULP);
            let got = floats(&gpu.read(&cache.keys_and_values, 0, 3 * layer_values).unwrap());
            assert_close(&got, &want_cache, 1e-5, BF16_ULP);
        }
    }

    #[test]
    fn matches_reference() {
        for (q_heads, kv_heads, head_dim) in [(1, 1, 2), (2, 1, 64), (14, 2, 64), (7, 3, 96), (4, 4, 128), (3, 1, 256)]
        {
            for is_normed in [false, true] {
                let case = Case { q_heads, kv_heads, head_dim, is_normed };
                check(case, &[]);
                check(case, &[17]);
                check(case, &[79, 3, PAD, 16, 15, PAD, 0]);
            }
        }
    }

    #[test]
    fn what_does_not_exist_shows() {
        let gpu = Gpu::emulated(1);
        let shape = KvCacheShape { layers: 1, num_blocks: 2, kv_heads: 1, head_dim: 8 };
        let mut cache = DeviceKvCache::new(&gpu, shape).unwrap();
        let mut queries = gpu.uninitialised(4 * 8).unwrap();
        let operation = RopeWrite {
            rows: 4,
            q_heads: 1,
            qkv: &gpu.zeroed(4 * 3 * 8).unwrap(),
            norm: None,
            table: &DeviceRopeTable::new(&gpu, rope_table(8), 10).unwrap(),
            positions: &gpu.upload(&[9, 10, 1, 1]).unwrap(),
            slots: &gpu.upload(&[31, 30, 32, PAD]).unwrap(),
            queries: &mut queries,
        };
        rope_write(&gpu, operation, &mut cache, 0).unwrap();
        let got: Vec<bool> = gpu.read(&queries, 0, 32).unwrap().iter().map(|value| value.is_nan()).collect();
        assert_eq!(got, [[false; 8], [true; 8], [true; 8], [false; 8]].concat());
    }
}
