//! Linear layers: `out = x W^T + bias` for any number of rows.
//!
//! Each output is one chain of multiply-adds over the inner dimension, in order: over single positions for float
//! weights, over blocks of 32 for quantised ones, whose products are exact integers before they are scaled. Rows,
//! tiles, threads and chunks of the inner dimension decide only who computes which chain and when, so an output has
//! the same bits whatever it is computed together with.
//!
//! Measured with `cargo bench -p sconce-kernels -- --best --threads 1` on one core of a Xeon (Sapphire Rapids class,
//! AVX-512 VNNI) that other programs used too, so the best of up to 400 samples: read ceiling 15.5 GB/s, int8 750 GOP/s,
//! float 186 GFLOP/s. Weights out of memory, shape [896, 4864]; share of the read ceiling for one, four and eight rows,
//! share of the int8 or float ceiling for 64:
//!
//! | | 1 | 4 | 8 | 64 rows |
//! | --- | --- | --- | --- | --- |
//! | Q8_0 | 106 % | 94 % | 77 % | 48 % (361 GOP/s) |
//! | Q4_0 | 92 % | 83 % | 50 % | 52 % |
//! | Q4_K | 85 % | 76 % | 50 % | 51 % |
//! | Q5_K | 89 % | 79 % | 51 % | 49 % |
//! | Q6_K | 92 % | 82 % | 58 % | 42 % |
//! | F32 | 100 % | 91 % | 77 % | 55 % (102 GFLOP/s) |
//! | F16, BF16 | 92 % | 83 % | 44 % | 55 % |

mod float;
mod panel;
mod quantised;

use crate::disjoint::Disjoint;
use crate::matrix::Matrix;
use crate::pack::PANEL;
use crate::pool::Pool;
use crate::rows::Rows;
use crate::weight_type::WeightType;
use float::{Bf16, F16, F32};
use panel::{Panels, Target, Weights};
use quantised::{Q4_0, Q4K, Q5K, Q6K, Q8_0};
use std::ops::Range;

/// Weights per task below which a second thread does not pay.
const WEIGHTS_PER_TASK: usize = 32 * 1024;

/// Multiplies `x: [rows, in_features]` with `matrix: [out_features, in_features]` into `out: [rows, out_features]`.
///
/// Float weights multiply the floats of `x`; quantised weights its int8 blocks (see [`crate::quantises`]).
/// Panics if a size disagrees or `x` was loaded without what the matrix needs.
pub fn linear(pool: &Pool, matrix: &Matrix, bias: Option<&[f32]>, x: &Rows, out: &mut [f32]) {
    assert_eq!(x.width(), matrix.in_features(), "as many activations as inputs");
    assert_eq!(out.len(), x.rows() * matrix.out_features(), "one output per row and feature");
    assert!(bias.is_none_or(|bias| bias.len() == matrix.out_features()), "one bias per output");
    if out.is_empty() {
        return;
    }
    let out = Disjoint::new(out);
    let panel_weights = PANEL * matrix.in_features().max(1) * x.rows();
    pool.run_ranges(matrix.panels(), WEIGHTS_PER_TASK.div_ceil(panel_weights), &|start, end| {
        let task = Task { pool, matrix, x, target: Target { out: &out, bias }, panels: start..end };
        match matrix.weight_type() {
            WeightType::F32 => task.run::<F32>(x.floats()),
            WeightType::F16 => task.run::<F16>(x.floats()),
            WeightType::Bf16 => task.run::<Bf16>(x.floats()),
            WeightType::Q8_0 => task.run::<Q8_0>(x.blocks()),
            WeightType::Q4_0 => task.run::<Q4_0>(x.blocks()),
            WeightType::Q4K => task.run::<Q4K>(x.blocks()),
            WeightType::Q5K => task.run::<Q5K>(x.blocks()),
            WeightType::Q6K => task.run::<Q6K>(x.blocks()),
        }
    });
}

/// Some panels of the product, all rows.
struct Task<'a> {
    pool: &'a Pool,
    matrix: &'a Matrix,
    x: &'a Rows,
    target: Target<'a>,
    panels: Range<usize>,
}

impl Task<'_> {
    fn run<W: Weights>(self, x: &[W::X]) {
        let Task { pool, matrix, target, panels, .. } = self;
        pool.isa().run(Panels::<W> { matrix, panels, x, rows: self.x.rows(), target });
    }
}

/// Plain loops over dequantised weights, f64 sums: the truth that [`linear`] is held to.
pub fn reference(weights: &[f32], bias: Option<&[f32]>, x: &[f32], in_features: usize) -> Vec<f32> {
    let out_features = weights.len() / in_features;
    let mut out = Vec::new();
    for x in x.chunks_exact(in_features) {
        for (output, weights) in weights.chunks_exact(in_features).enumerate() {
            let product: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            out.push((product + bias.map_or(0.0, |bias| f64::from(bias[output]))) as f32);
        }
    }
    debug_assert_eq!(out.len() * in_features, x.len() * out_features);
    out
}

#[cfg(test)]
mod tests;
