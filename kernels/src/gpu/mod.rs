//! The operations of a decoding step on an NVIDIA GPU.
//!
//! A [`Gpu`] is a device with one stream; operations are asynchronous on it and run in order. What a device is stands
//! behind one trait (`driver`) with two implementations: the CUDA driver, opened at run time (feature `cuda`), and an
//! emulation that runs the same kernels on the CPU (feature `emulate`), so that everything above it is tested without a
//! GPU. One file per operation: what it computes, its shape checks, a plain reference, and its tests; the kernel of the
//! same name lies in `kernels/cuda`.
//!
//! A launch reads its sizes from its arguments and everything that changes from step to step from device memory, so
//! that a recorded graph of launches can be replayed.

mod add_rms_norm;
mod attention;
mod buffer;
mod convert;
mod copy_blocks;
mod count;
#[cfg(feature = "cuda")]
mod cubins;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
mod cuda_blas;
#[cfg(feature = "cuda")]
mod cuda_device;
#[cfg(feature = "cuda")]
mod cuda_error;
mod driver;
mod embed;
#[cfg(feature = "emulate")]
mod emulated;
mod error;
mod gather;
mod kv_cache;
mod linear;
mod matrix;
#[cfg(test)]
#[cfg(feature = "cuda")]
mod on_cuda;
mod rope_write;
mod sampling;
mod silu_mul;
#[cfg(test)]
#[cfg(feature = "emulate")]
mod testing;

pub use add_rms_norm::{AddRmsNorm, add_rms_norm};
pub use attention::{
    AttentionInput, AttentionScratch, DeviceAttention, HEAD_DIM_MAX, RowList, RowTables, TILE_ROWS, TileList, Tiles,
    attend_rows, attend_tiles, splits_for,
};
pub use buffer::{Buffer, DeviceValue, HostBuffer};
pub use convert::{SourceRows, SourceType, convert_rows, dequantise};
pub use copy_blocks::copy_blocks;
pub use driver::{DeviceInfo, Event, Gpu, Graph};
pub use embed::embed;
#[cfg(feature = "emulate")]
pub use emulated::Fault;
pub use error::GpuError;
pub use gather::gather_rows;
pub use kv_cache::{DeviceKvCache, KvCacheShape};
pub use linear::{LinearScratch, MatrixSize, Reductions, linear};
pub use matrix::{DeviceMatrix, INT4_GROUP, WeightFormat};
pub use rope_write::{DeviceRopeTable, HeadNorm, RopeWrite, rope_write};
pub use sampling::{
    Entering, SampleInput, SampleOutput, SampleResults, Sampled, SamplingSettings, SamplingShape, SamplingTable,
    TOP_LOGPROBS_MAX, TokenLogprobs,
};
pub use silu_mul::silu_mul;

/// Marks what a padded row does not have: a slot, a block table, a state row.
pub const PAD: u32 = u32::MAX;

/// Positions in a block of the key-value cache on a GPU; kernels are written for it.
pub const BLOCK_TOKENS: usize = 16;
