//! The operations of a decoding step, on the CPU.
//!
//! Plain functions that read weights and fill buffers the caller owns: no allocation per call. One file per operation:
//! what it computes, its shape checks, a plain reference, and its tests. Each is written once over sixteen lanes
//! (`simd`) and compiled for AVX-512 with VNNI, AVX2 and any other machine; a [`Pool`] picks one when it is built.
//!
//! Every output is a reduction in one fixed order that depends neither on the number of rows nor on threads nor on how
//! a sequence was cut into chunks: on one machine the same row gives the same bits in any company.
//!
//! This is the only crate that may write `unsafe`. Sizes that disagree are bugs of the caller and panic; bytes that come
//! from files are checked where they enter ([`Matrix::new`], [`KvCache::new`]) and are errors.

mod add;
mod argmax;
mod attention;
mod blocks;
pub mod ceiling;
mod disjoint;
pub mod gpu;
mod kv_cache;
mod linear;
mod matrix;
mod memory;
mod pack;
mod pool;
mod rms_norm;
mod rope;
mod rows;
mod silu_mul;
mod simd;
#[cfg(test)]
mod testing;
mod weight_type;

/// The plain loops that operations are held to: for tests of what stands on them.
pub mod reference {
    pub use crate::blocks::dequantise;
    pub use crate::linear::reference as linear;
    pub use crate::rms_norm::reference as rms_norm;
    pub use crate::rope::reference as rope;
    pub use crate::silu_mul::reference as silu_mul;
}

pub use add::add;
pub use argmax::argmax;
pub use attention::{AttentionChunk, AttentionScratch, AttentionShape, paged_attention};
pub use kv_cache::{KvCache, KvCacheError};
pub use linear::linear;
pub use matrix::{Matrix, MatrixError, embed};
pub use memory::available_memory;
pub use pool::Pool;
pub use rms_norm::{add_rms_norm, rms_norm};
pub use rope::{RopeTable, rope};
pub use rows::Rows;
pub use silu_mul::silu_mul;
pub use simd::Isa;
pub use weight_type::{WeightType, quantises};
