//! Keys and values of all layers in blocks of positions, allocated once.
//!
//! Made for reading sixteen positions at a time: keys lie as `[layer, block, kv_head, run, head_dim, 16]`, where a run
//! is sixteen positions of the block side by side, so a score needs no sum across lanes; values lie as
//! `[layer, block, kv_head, position, head_dim]`, padded to sixteen, so an output neither. A position written once
//! stays until its slot is written again; what was never written is zero.

use crate::simd::LANES;

/// Why a cache cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvCacheError {
    #[error("{num_blocks} blocks of {block_tokens} positions in {layers} layers exceed the address space")]
    TooLarge { layers: usize, num_blocks: usize, block_tokens: usize },
    #[error("no memory for {bytes} bytes of keys and values")]
    NoMemory { bytes: usize },
}

/// Keys and values, paged.
#[derive(Debug)]
pub struct KvCache {
    keys: Lines,
    values: Lines,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    layers: usize,
    num_blocks: usize,
    block_tokens: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Shape {
    /// Runs of sixteen positions in a block.
    fn runs(self) -> usize {
        self.block_tokens.div_ceil(LANES)
    }

    /// Sixteen floats each: keys of one head in one block.
    fn key_lines(self) -> usize {
        self.runs() * self.head_dim
    }

    /// Sixteen floats each: one head of one position's values.
    fn value_lines_per_position(self) -> usize {
        self.head_dim.div_ceil(LANES)
    }

    fn heads(self) -> Option<usize> {
        self.layers.checked_mul(self.num_blocks)?.checked_mul(self.kv_heads)
    }

    /// Lines of all keys and of all values.
    fn lines(self) -> Option<(usize, usize)> {
        let heads = self.heads()?;
        let keys = heads.checked_mul(self.runs().checked_mul(self.head_dim)?)?;
        let values = heads.checked_mul(self.value_lines_per_position().checked_mul(self.block_tokens)?)?;
        Some((keys, values))
    }
}

impl KvCache {
    /// Room for `num_blocks` blocks of `block_tokens` positions in every layer, as f32.
    pub fn new(
        layers: usize,
        num_blocks: usize,
        block_tokens: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<KvCache, KvCacheError> {
        let shape = Shape { layers, num_blocks, block_tokens, kv_heads, head_dim };
        let too_large = KvCacheError::TooLarge { layers, num_blocks, block_tokens };
        let bytes = KvCache::bytes_needed(layers, num_blocks, block_tokens, kv_heads, head_dim);
        let bytes = bytes.ok_or(too_large.clone())?;
        let (keys, values) = shape.lines().ok_or(too_large)?;
        let no_memory = KvCacheError::NoMemory { bytes };
        let keys = Lines::zeroed(keys).ok_or(no_memory.clone())?;
        let values = Lines::zeroed(values).ok_or(no_memory)?;
        Ok(KvCache { keys, values, shape })
    }

    /// Bytes that [`KvCache::new`] allocates, `None` when they exceed the address space.
    pub fn bytes_needed(
        layers: usize,
        num_blocks: usize,
        block_tokens: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Option<usize> {
        let (keys, values) = Shape { layers, num_blocks, block_tokens, kv_heads, head_dim }.lines()?;
        let bytes = keys.checked_add(values)?.checked_add(2)?.checked_mul(size_of::<[f32; LANES]>())?;
        isize::try_from(bytes).ok()?;
        Some(bytes)
    }

    pub fn layers(&self) -> usize {
        self.shape.layers
    }

    pub fn num_blocks(&self) -> usize {
        self.shape.num_blocks
    }

    pub fn block_tokens(&self) -> usize {
        self.shape.block_tokens
    }

    pub fn kv_heads(&self) -> usize {
        self.shape.kv_heads
    }

    pub fn head_dim(&self) -> usize {
        self.shape.head_dim
    }

    /// Stores keys and values of one layer, `k`, `v: [tokens, kv_heads, head_dim]`.
    ///
    /// `slots: [tokens]` says where: block * block_tokens + offset. Panics if a slot or a length is out of range.
    pub fn write(&mut self, layer: usize, slots: &[u32], k: &[f32], v: &[f32]) {
        let shape = self.shape;
        let width = shape.kv_heads * shape.head_dim;
        assert!(layer < shape.layers, "layer {layer} of {}", shape.layers);
        assert!(k.len() == slots.len() * width && v.len() == k.len(), "a key and a value for every slot");
        for (row, &slot) in slots.iter().enumerate() {
            let (block, offset) = (slot as usize / shape.block_tokens, slot as usize % shape.block_tokens);
            assert!(block < shape.num_blocks, "slot {slot} of {} blocks", shape.num_blocks);
            for head in 0..shape.kv_heads {
                let start = row * width + head * shape.head_dim;
                let (run, lane) = (offset / LANES, offset % LANES);
                let keys = &mut self.keys_of_mut(layer, block, head)[run * shape.head_dim..][..shape.head_dim];
                for (line, k) in keys.iter_mut().zip(&k[start..start + shape.head_dim]) {
                    line[lane] = *k;
                }
                let lines = shape.value_lines_per_position();
                let values = &mut self.values_of_mut(layer, block, head)[offset * lines..][..lines];
                let values = values.as_flattened_mut();
                values[..shape.head_dim].copy_from_slice(&v[start..start + shape.head_dim]);
            }
        }
    }

    /// Copies the first `tokens` positions of one block to another, in all layers.
    ///
    /// Panics if a block or the number of positions is out of range.
    pub fn copy_block(&mut self, from: u32, to: u32, tokens: usize) {
        let shape = self.shape;
        let (from, to) = (from as usize, to as usize);
        assert!(from < shape.num_blocks && to < shape.num_blocks, "blocks {from} and {to} of {}", shape.num_blocks);
        assert!(tokens <= shape.block_tokens, "{tokens} positions of {}", shape.block_tokens);
        for layer in 0..shape.layers {
            for head in 0..shape.kv_heads {
                let (source, target) = (self.head_start(layer, from, head), self.head_start(layer, to, head));
                let lines = shape.key_lines();
                let keys = self.keys.lines_mut();
                for line in 0..lines {
                    let taken = tokens.saturating_sub(line / shape.head_dim * LANES).min(LANES);
                    let key = keys[source * lines + line];
                    keys[target * lines + line][..taken].copy_from_slice(&key[..taken]);
                }
                let lines = shape.value_lines_per_position();
                let (source, target) = (source * lines * shape.block_tokens, target * lines * shape.block_tokens);
                self.values.lines_mut().copy_within(source..source + tokens * lines, target);
            }
        }
    }

    /// Number of the head among all of the cache.
    fn head_start(&self, layer: usize, block: usize, head: usize) -> usize {
        (layer * self.shape.num_blocks + block) * self.shape.kv_heads + head
    }

    /// Keys of one head in one block: `[run, head_dim]` lines.
    #[inline(always)]
    pub(crate) fn keys_of(&self, layer: usize, block: usize, head: usize) -> &[[f32; LANES]] {
        let lines = self.shape.key_lines();
        &self.keys.lines()[self.head_start(layer, block, head) * lines..][..lines]
    }

    fn keys_of_mut(&mut self, layer: usize, block: usize, head: usize) -> &mut [[f32; LANES]] {
        let lines = self.shape.key_lines();
        let start = self.head_start(layer, block, head) * lines;
        &mut self.keys.lines_mut()[start..][..lines]
    }

    /// Values of one head in one block: `[position, head_dim / 16]` lines.
    #[inline(always)]
    pub(crate) fn values_of(&self, layer: usize, block: usize, head: usize) -> &[[f32; LANES]] {
        let lines = self.shape.value_lines_per_position() * self.shape.block_tokens;
        &self.values.lines()[self.head_start(layer, block, head) * lines..][..lines]
    }

    fn values_of_mut(&mut self, layer: usize, block: usize, head: usize) -> &mut [[f32; LANES]] {
        let lines = self.shape.value_lines_per_position() * self.shape.block_tokens;
        let start = self.head_start(layer, block, head) * lines;
        &mut self.values.lines_mut()[start..][..lines]
    }
}

/// Lines of sixteen floats on cache lines, zero at first. The pages are the system's zero pages until written, so a
/// large cache costs nothing to make.
#[derive(Debug)]
struct Lines {
    floats: Vec<f32>,
    /// Floats before the first cache line.
    offset: usize,
    length: usize,
}

impl Lines {
    fn zeroed(length: usize) -> Option<Lines> {
        let num_floats = length.checked_add(1)?.checked_mul(LANES)?;
        let layout = std::alloc::Layout::array::<f32>(num_floats).ok()?;
        // SAFETY: the layout has a size above zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<f32>();
        if start.is_null() {
            return None;
        }
        // SAFETY: allocated by the global allocator with the layout of that many floats, all initialised to zero.
        let floats = unsafe { Vec::from_raw_parts(start, num_floats, num_floats) };
        let offset = floats.as_ptr().align_offset(size_of::<[f32; LANES]>()).min(LANES);
        Some(Lines { floats, offset, length })
    }

    #[inline(always)]
    fn lines(&self) -> &[[f32; LANES]] {
        self.floats[self.offset..][..self.length * LANES].as_chunks().0
    }

    fn lines_mut(&mut self) -> &mut [[f32; LANES]] {
        self.floats[self.offset..][..self.length * LANES].as_chunks_mut().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_floats;

    /// Key and value of one head at one slot.
    fn read(cache: &KvCache, layer: usize, slot: usize, head: usize) -> (Vec<f32>, Vec<f32>) {
        let (block, offset) = (slot / cache.block_tokens(), slot % cache.block_tokens());
        let dim = cache.head_dim();
        let keys = &cache.keys_of(layer, block, head)[offset / LANES * dim..][..dim];
        let values = cache.values_of(layer, block, head).as_flattened();
        let start = offset * dim.div_ceil(LANES) * LANES;
        (keys.iter().map(|line| line[offset % LANES]).collect(), values[start..start + dim].to_vec())
    }

    #[test]
    fn what_was_written_is_read_and_copied() {
        for (block_tokens, kv_heads, head_dim) in [(16, 2, 64), (1, 1, 1), (5, 3, 20), (40, 1, 32)] {
            let mut cache = KvCache::new(2, 4, block_tokens, kv_heads, head_dim).unwrap();
            let (slots, width) = (4 * block_tokens, kv_heads * head_dim);
            for layer in 0..2 {
                let (k, v) = (random_floats(slots * width, layer), random_floats(slots * width, 9 + layer));
                let order: Vec<u32> = (0..slots as u32).rev().collect();
                cache.write(layer as usize, &order, &k, &v);
                for (row, slot) in order.iter().enumerate() {
                    for head in 0..kv_heads {
                        let start = row * width + head * head_dim;
                        let want = (k[start..start + head_dim].to_vec(), v[start..start + head_dim].to_vec());
                        assert_eq!(read(&cache, layer as usize, *slot as usize, head), want);
                    }
                }
            }
            let tokens = block_tokens.div_ceil(2);
            let before = read(&cache, 1, 3 * block_tokens + block_tokens - 1, 0);
            cache.copy_block(1, 3, tokens);
            for layer in 0..2 {
                for offset in 0..tokens {
                    let copied = read(&cache, layer, 3 * block_tokens + offset, kv_heads - 1);
                    assert_eq!(copied, read(&cache, layer, block_tokens + offset, kv_heads - 1));
                }
            }
            if tokens < block_tokens {
                assert_eq!(read(&cache, 1, 3 * block_tokens + block_tokens - 1, 0), before);
            }
        }
    }

    #[test]
    fn sizes_are_checked() {
        assert_eq!(KvCache::bytes_needed(24, 1, 16, 2, 64), Some((24 * 2 * 16 * 64 * 2 + 2 * 16) * 4));
        assert_eq!(KvCache::bytes_needed(usize::MAX / 2, 3, 16, 2, 64), None);
        assert!(matches!(KvCache::new(1, usize::MAX / 4, 16, 1, 64), Err(KvCacheError::TooLarge { .. })));
        assert!(matches!(KvCache::new(1, 1 << 45, 16, 1, 64), Err(KvCacheError::NoMemory { .. })));
        assert_eq!(KvCache::new(0, 0, 16, 2, 64).unwrap().num_blocks(), 0);
    }

    #[test]
    #[should_panic(expected = "slot 64 of 4 blocks")]
    fn a_slot_out_of_range_is_a_bug() {
        let mut cache = KvCache::new(1, 4, 16, 1, 1).unwrap();
        cache.write(0, &[64], &[0.0], &[0.0]);
    }
}
