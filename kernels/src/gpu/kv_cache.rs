//! Keys and values of all layers on the device, in blocks of sixteen positions, allocated once.
//!
//! They lie as `[layers, blocks, 2, kv_heads, 16, head_dim]` in bf16, keys before values: what a block holds of one
//! layer is one piece of memory, and so are the sixteen keys (or values) of one head, which is what a block of threads
//! reads at a time. A position is written before anything reads it; what was never written has any bits.

use half::bf16;

use super::BLOCK_TOKENS;
use super::buffer::Buffer;
use super::driver::Gpu;
use super::error::GpuError;

/// Size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCacheShape {
    pub layers: usize,
    pub num_blocks: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl KvCacheShape {
    /// Values from one head of a block to the next.
    pub(super) fn head_values(self) -> usize {
        BLOCK_TOKENS * self.head_dim
    }

    /// Values of the keys and values that a block holds of one layer.
    pub(super) fn block_values(self) -> usize {
        2 * self.kv_heads * self.head_values()
    }

    /// All values, `None` when they exceed the address space.
    fn values(self) -> Option<usize> {
        let position = self.kv_heads.checked_mul(self.head_dim)?.checked_mul(2)?;
        let block = position.checked_mul(BLOCK_TOKENS)?;
        self.layers.checked_mul(self.num_blocks)?.checked_mul(block)
    }
}

/// Keys and values, paged.
#[derive(Debug)]
pub struct DeviceKvCache {
    pub(super) keys_and_values: Buffer<bf16>,
    shape: KvCacheShape,
}

impl DeviceKvCache {
    /// Room for the blocks of every layer. Errors if the device has not as much memory.
    pub fn new(gpu: &Gpu, shape: KvCacheShape) -> Result<Self, GpuError> {
        // More values than can be counted are refused like any number that is too large.
        let keys_and_values = gpu.uninitialised(shape.values().unwrap_or(usize::MAX))?;
        Ok(Self { keys_and_values, shape })
    }

    /// Device memory that [`DeviceKvCache::new`] takes, `None` when it exceeds the address space.
    #[must_use]
    pub fn bytes_needed(shape: KvCacheShape) -> Option<u64> {
        shape.values()?.checked_mul(size_of::<bf16>()).map(|bytes| bytes as u64)
    }

    #[must_use]
    pub fn shape(&self) -> KvCacheShape {
        self.shape
    }

    #[must_use]
    pub fn layers(&self) -> usize {
        self.shape.layers
    }

    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.shape.num_blocks
    }

    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.shape.kv_heads
    }

    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.shape.head_dim
    }

    /// Address of what a layer holds: `[blocks, 2, kv_heads, 16, head_dim]`. Panics if there is no such layer.
    pub(super) fn layer(&self, layer: usize) -> u64 {
        assert!(layer < self.shape.layers, "layer {layer} of {}", self.shape.layers);
        let length = self.shape.num_blocks * self.shape.block_values();
        self.keys_and_values.range(layer * length, length)
    }
}
