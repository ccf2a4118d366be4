//! Inner kernels of float weights: every weight becomes f32 and meets f32 activations.

use super::panel::Weights;
use crate::simd::{Line, Simd};

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

/// Pairs of inner positions in a chunk: 128 positions, 16 KiB as f32.
const CHUNK_PAIRS: usize = 64;
const F32_LINES: usize = 4;
const HALF_LINES: usize = 2;

/// Weights of two inner positions, `[position][group]`.
type Pair<S> = [[<S as Simd>::F; 2]; 2];

#[inline(always)]
fn f32_pair<S: Simd>(simd: S, lines: &[Line; F32_LINES]) -> Pair<S> {
    [[simd.load_line(&lines[0]), simd.load_line(&lines[1])], [simd.load_line(&lines[2]), simd.load_line(&lines[3])]]
}

#[inline(always)]
fn f16_pair<S: Simd>(simd: S, lines: &[Line; HALF_LINES]) -> Pair<S> {
    let (first, second) = (lines[0].0.as_chunks::<32>().0, lines[1].0.as_chunks::<32>().0);
    [[simd.load_f16(&first[0]), simd.load_f16(&first[1])], [simd.load_f16(&second[0]), simd.load_f16(&second[1])]]
}

#[inline(always)]
fn bf16_pair<S: Simd>(simd: S, lines: &[Line; HALF_LINES]) -> Pair<S> {
    let (first, second) = (simd.load_bf16_pairs(&lines[0].0), simd.load_bf16_pairs(&lines[1].0));
    [[first.0, second.0], [first.1, second.1]]
}

/// Adds the products of both positions to every row's sums, the first position first.
#[inline(always)]
fn accumulate<S: Simd, const R: usize>(simd: S, weights: Pair<S>, x: [[f32; 2]; R], sums: &mut [[S::F; 2]; R]) {
    for position in 0..2 {
        for row in 0..R {
            let x = simd.splat(x[row][position]);
            for group in 0..2 {
                sums[row][group] = simd.mul_add(weights[position][group], x, sums[row][group]);
            }
        }
    }
}

macro_rules! float_weights {
    ($name:ident, $lines:expr, $is_expanded:expr, $pair:ident) => {
        impl Weights for $name {
            type X = [f32; 2];
            type Expanded = F32;
            const CHUNK_LINES: usize = CHUNK_PAIRS * $lines;
            const CHUNK_X: usize = CHUNK_PAIRS;
            const IS_EXPANDED: bool = $is_expanded;

            #[inline(always)]
            fn rows_max<S: Simd>() -> usize {
                S::ROWS_MAX
            }

            #[inline(always)]
            fn expand<S: Simd>(simd: S, lines: &[Line], out: &mut [Line]) -> usize {
                let (units, _) = lines.as_chunks::<$lines>();
                for line in lines {
                    simd.prefetch(line, Self::CHUNK_LINES);
                }
                for (unit, out) in units.iter().zip(out.as_chunks_mut::<F32_LINES>().0) {
                    let weights = $pair(simd, unit);
                    for line in 0..F32_LINES {
                        simd.store_line(weights[line / 2][line % 2], &mut out[line]);
                    }
                }
                units.len() * F32_LINES
            }

            #[inline(always)]
            fn tile<S: Simd, const R: usize>(simd: S, lines: &[Line], x: [&[[f32; 2]]; R], sums: &mut [[S::F; 2]; R]) {
                let (units, _) = lines.as_chunks::<$lines>();
                for (index, unit) in units.iter().enumerate() {
                    for line in unit {
                        simd.prefetch(line, Self::CHUNK_LINES);
                    }
                    let weights = $pair(simd, unit);
                    let mut at = [[0.0; 2]; R];
                    for row in 0..R {
                        at[row] = x[row][index];
                    }
                    accumulate(simd, weights, at, sums);
                }
            }
        }
    };
}

float_weights!(F32, F32_LINES, false, f32_pair);
float_weights!(F16, HALF_LINES, true, f16_pair);
float_weights!(Bf16, HALF_LINES, true, bf16_pair);
