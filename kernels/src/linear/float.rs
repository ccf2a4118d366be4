//! Inner kernels of float weights: every weight becomes f32 and meets f32 activations.

use super::panel::Weights;
use crate::simd::{LANES, Line, Simd};

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
fn floats(line: &Line) -> [f32; LANES] {
    let words = line.0.as_chunks::<4>().0;
    std::array::from_fn(|lane| f32::from_le_bytes(words[lane]))
}

#[inline(always)]
fn f32_pair<S: Simd>(simd: S, lines: &[Line; F32_LINES]) -> Pair<S> {
    let at = |line: usize| simd.load(&floats(&lines[line]));
    [[at(0), at(1)], [at(2), at(3)]]
}

#[inline(always)]
fn f16_pair<S: Simd>(simd: S, lines: &[Line; HALF_LINES]) -> Pair<S> {
    lines.each_ref().map(|line| {
        let halves = line.0.as_chunks::<32>().0;
        [simd.load_f16(&halves[0]), simd.load_f16(&halves[1])]
    })
}

#[inline(always)]
fn bf16_pair<S: Simd>(simd: S, lines: &[Line; HALF_LINES]) -> Pair<S> {
    let [first, second] = lines.each_ref().map(|line| simd.load_bf16_pairs(&line.0));
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

#[inline(always)]
fn expand<S: Simd, const N: usize>(
    simd: S,
    lines: &[Line],
    out: &mut [Line],
    pair: impl Fn(&[Line; N]) -> Pair<S>,
) -> usize {
    let (units, _) = lines.as_chunks::<N>();
    for (unit, out) in units.iter().zip(out.as_chunks_mut::<F32_LINES>().0) {
        let weights = pair(unit);
        for (line, out) in out.iter_mut().enumerate() {
            let mut lanes = [0.0; LANES];
            simd.store(weights[line / 2][line % 2], &mut lanes);
            for (bytes, value) in out.0.as_chunks_mut::<4>().0.iter_mut().zip(lanes) {
                *bytes = value.to_le_bytes();
            }
        }
    }
    units.len() * F32_LINES
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
                expand::<S, $lines>(simd, lines, out, |unit| $pair(simd, unit))
            }

            #[inline(always)]
            fn tile<S: Simd, const R: usize>(simd: S, lines: &[Line], x: [&[[f32; 2]]; R], sums: &mut [[S::F; 2]; R]) {
                let (units, _) = lines.as_chunks::<$lines>();
                let x = x.map(|row| &row[..units.len()]);
                for (index, unit) in units.iter().enumerate() {
                    let weights = $pair(simd, unit);
                    accumulate(simd, weights, x.map(|row| row[index]), sums);
                }
            }
        }
    };
}

float_weights!(F32, F32_LINES, false, f32_pair);
float_weights!(F16, HALF_LINES, true, f16_pair);
float_weights!(Bf16, HALF_LINES, true, bf16_pair);
