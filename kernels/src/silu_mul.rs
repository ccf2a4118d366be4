//! The activation of a gated MLP: `silu(gate) * up` (arXiv:2002.05202).

use crate::disjoint::Disjoint;
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Simd, exp};

/// Values per task below which a second thread does not pay.
const VALUES_PER_TASK: usize = 8 * 1024;

/// `out = gate / (1 + e^-gate) * up`, element by element. Panics if the lengths differ.
pub fn silu_mul(pool: &Pool, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "gate, up and out have one shape");
    let length = out.len();
    let out = Disjoint::new(out);
    // Whole lanes per task, so that every element is computed as part of a vector or all are not.
    pool.run_ranges(length.div_ceil(LANES), VALUES_PER_TASK / LANES, &|start, end| {
        let (start, end) = (start * LANES, (end * LANES).min(length));
        // SAFETY: ranges do not overlap.
        let out = unsafe { out.part(start, end - start) };
        pool.isa().run(SiluMul { gate: &gate[start..end], up: &up[start..end], out });
    });
}

struct SiluMul<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (gates, last_gate) = self.gate.as_chunks::<LANES>();
        let (ups, last_up) = self.up.as_chunks::<LANES>();
        let (outs, last_out) = self.out.as_chunks_mut::<LANES>();
        for ((gate, up), out) in gates.iter().zip(ups).zip(outs) {
            simd.store(silu_mul_lanes(simd, simd.load(gate), simd.load(up)), out);
        }
        let (mut gate, mut up, mut out) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        gate[..last_gate.len()].copy_from_slice(last_gate);
        up[..last_up.len()].copy_from_slice(last_up);
        simd.store(silu_mul_lanes(simd, simd.load(&gate), simd.load(&up)), &mut out);
        last_out.copy_from_slice(&out[..last_out.len()]);
    }
}

#[inline(always)]
fn silu_mul_lanes<S: Simd>(simd: S, gate: S::F, up: S::F) -> S::F {
    let exponential = exp(simd, simd.sub(simd.splat(0.0), gate));
    simd.mul(simd.div(gate, simd.add(simd.splat(1.0), exponential)), up)
}

/// The formula in f64: the truth that [`silu_mul`] is held to.
pub fn reference(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let silu = |x: f64| x / (1.0 + (-x).exp());
    gate.iter().zip(up).map(|(gate, up)| (silu(f64::from(*gate)) * f64::from(*up)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::testing::{assert_close, random_floats};
    use std::num::NonZeroUsize;

    #[test]
    fn matches_reference() {
        for isa in Isa::available() {
            let pool = Pool::with_isa(NonZeroUsize::new(3).unwrap(), isa);
            for length in [0, 1, 15, 16, 17, 1000, 50_000] {
                let mut gate = random_floats(length, 1);
                gate.iter_mut().for_each(|gate| *gate *= 20.0);
                let up = random_floats(length, 2);
                let mut out = vec![0.0; length];
                silu_mul(&pool, &gate, &up, &mut out);
                assert_close(&out, &reference(&gate, &up), 1e-12, 2e-6);
            }
        }
    }

    #[test]
    fn far_values_and_nan() {
        for isa in Isa::available() {
            let pool = Pool::with_isa(NonZeroUsize::MIN, isa);
            let gate = [0.0, 200.0, -200.0, f32::NAN, 1e30, -1e30];
            let mut out = [9.0; 6];
            silu_mul(&pool, &gate, &[1.0; 6], &mut out);
            assert_eq!([out[0], out[1], out[4]], [0.0, 200.0, 1e30]);
            assert!(out[2].abs() < 1e-30 && out[3].is_nan() && out[5].abs() < 1e-6, "{out:?}");
        }
    }
}
