//! Root mean square norm (arXiv:1910.07467), alone or together with the residual addition before it.

use crate::disjoint::Disjoint;
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Simd, sum};

/// Values per task below which a second thread does not pay.
const VALUES_PER_TASK: usize = 16 * 1024;

/// `out = x / sqrt(mean(x^2) + eps) * weight` for each row; `x`, `out: [rows, hidden]`, `weight: [hidden]`.
///
/// Panics if the lengths disagree.
pub fn rms_norm(pool: &Pool, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let rows = num_rows(x, weight, out);
    let (hidden, out) = (weight.len(), Disjoint::new(out));
    pool.run_ranges(rows, VALUES_PER_TASK.div_ceil(hidden.max(1)), &|start, end| {
        // SAFETY: ranges of rows do not overlap.
        let out = unsafe { out.part(start * hidden, (end - start) * hidden) };
        pool.isa().run(Norm { x: &x[start * hidden..end * hidden], weight, eps, out });
    });
}

/// `residual += x`, then `out = norm(residual)`; all three `[rows, hidden]`. Panics if the lengths disagree.
pub fn add_rms_norm(pool: &Pool, residual: &mut [f32], x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let rows = num_rows(x, weight, out);
    assert_eq!(residual.len(), x.len(), "a residual for every value");
    let (hidden, out, residual) = (weight.len(), Disjoint::new(out), Disjoint::new(residual));
    pool.run_ranges(rows, VALUES_PER_TASK.div_ceil(hidden.max(1)), &|start, end| {
        let (first, length) = (start * hidden, (end - start) * hidden);
        // SAFETY: ranges of rows do not overlap.
        let (out, residual) = unsafe { (out.part(first, length), residual.part(first, length)) };
        crate::add(residual, &x[first..first + length]);
        pool.isa().run(Norm { x: residual, weight, eps, out });
    });
}

fn num_rows(x: &[f32], weight: &[f32], out: &[f32]) -> usize {
    assert_eq!(x.len(), out.len(), "as many results as values");
    assert!(x.is_empty() || (!weight.is_empty() && x.len().is_multiple_of(weight.len())), "whole rows");
    x.len() / weight.len().max(1)
}

struct Norm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let hidden = self.weight.len();
        for (x, out) in self.x.chunks_exact(hidden).zip(self.out.chunks_exact_mut(hidden)) {
            let (chunks, rest) = x.as_chunks::<LANES>();
            let mut squares = simd.splat(0.0);
            for chunk in chunks {
                let x = simd.load(chunk);
                squares = simd.mul_add(x, x, squares);
            }
            let mut last = [0.0; LANES];
            last[..rest.len()].copy_from_slice(rest);
            squares = simd.mul_add(simd.load(&last), simd.load(&last), squares);
            let inverse = 1.0 / (sum(simd, squares) / hidden as f32 + self.eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(self.weight) {
                *out = x * inverse * weight;
            }
        }
    }
}

/// Plain loops, f64 accumulation: the truth that [`rms_norm`] is held to.
pub fn reference(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let norm = |row: &[f32]| {
        let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / row.len() as f64;
        let inverse = 1.0 / (mean + f64::from(eps)).sqrt();
        let scale = |(x, weight): (&f32, &f32)| (f64::from(*x) * inverse * f64::from(*weight)) as f32;
        row.iter().zip(weight).map(scale).collect::<Vec<_>>()
    };
    x.chunks_exact(weight.len()).flat_map(norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::testing::{assert_close, assert_same_bits, random_floats};
    use std::num::NonZeroUsize;

    #[test]
    fn matches_reference_and_rows_do_not_see_each_other() {
        for isa in Isa::available() {
            let pool = Pool::with_isa(NonZeroUsize::new(3).unwrap(), isa);
            for (rows, hidden) in [(1, 1), (1, 33), (3, 64), (7, 1000), (300, 896), (0, 5)] {
                let (x, weight) = (random_floats(rows * hidden, 1), random_floats(hidden, 2));
                let mut out = vec![0.0; x.len()];
                rms_norm(&pool, &x, &weight, 1e-6, &mut out);
                assert_close(&out, &reference(&x, &weight, 1e-6), 1e-6, 1e-5);
                for (x, want) in x.chunks_exact(hidden).zip(out.chunks_exact(hidden)) {
                    let mut alone = vec![0.0; hidden];
                    rms_norm(&pool, x, &weight, 1e-6, &mut alone);
                    assert_same_bits(&alone, want, isa.name());
                }
            }
        }
    }

    #[test]
    fn adds_the_residual_first() {
        let pool = Pool::new(NonZeroUsize::new(2).unwrap());
        let (rows, hidden) = (50, 96);
        let (x, weight) = (random_floats(rows * hidden, 1), random_floats(hidden, 2));
        let mut residual = random_floats(rows * hidden, 3);
        let mut sum = residual.clone();
        crate::add(&mut sum, &x);
        let (mut want, mut got) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        rms_norm(&pool, &sum, &weight, 1e-5, &mut want);
        add_rms_norm(&pool, &mut residual, &x, &weight, 1e-5, &mut got);
        assert_same_bits(&residual, &sum, "residual");
        assert_same_bits(&got, &want, "norm");
    }
}
