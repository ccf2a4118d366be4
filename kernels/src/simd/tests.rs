//! Each instruction set against plain arithmetic.

use super::*;
use crate::testing::{Random, random_floats};

struct Exp<'a>(&'a [f32; LANES]);

impl Kernel for Exp<'_> {
    type Output = [f32; LANES];
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        simd.store(exp(simd, simd.load(self.0)), &mut out);
        out
    }
}

#[test]
fn exp_is_close_everywhere() {
    for isa in Isa::available() {
        for seed in 0..500 {
            let x: [f32; LANES] = random_floats(LANES, seed).try_into().unwrap();
            let x = x.map(|x| x * 87.0);
            for (x, got) in x.iter().zip(isa.run(Exp(&x))) {
                let want = f64::from(*x).exp();
                assert!((f64::from(got) / want - 1.0).abs() < 3e-7, "{} exp({x}) = {got}, not {want}", isa.name());
            }
        }
        let far = isa.run(Exp(&[
            0.0,
            f32::NEG_INFINITY,
            -1e30,
            f32::NAN,
            1.0,
            88.0,
            1e9,
            -0.0,
            0.,
            0.,
            0.,
            0.,
            0.,
            0.,
            0.,
            0.,
        ]));
        assert_eq!([far[0], far[7]], [1.0; 2]);
        assert!(far[1] < 1e-37 && far[2] < 1e-37 && far[3].is_nan() && far[6] > 1e38, "{far:?}");
    }
}

/// Every operation on one random input: the same numbers from every instruction set.
struct Everything<'a> {
    floats: [&'a [f32; LANES]; 3],
    bytes: &'a Line,
}

impl Kernel for Everything<'_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let [a, b, c] = self.floats.map(|x| simd.load(x));
        let bytes = &self.bytes.0;
        let halves = bytes.as_chunks::<32>().0;
        let quarters = bytes.as_chunks::<LANES>().0;
        let pairs = simd.load_bf16_pairs(bytes);
        let weights = simd.load_bytes(self.bytes);
        let low = simd.shift_right::<0>(weights, 15);
        let high = simd.shift_right::<4>(weights, 15);
        let six = simd.or(low, simd.shift_left::<2>(weights, 0x30));
        let dot = |zero, weights, x| simd.ints_to_floats(simd.dot(zero, simd.start(zero, 3), weights, x));
        let mut out = vec![simd.max_lanes(a), sum(simd, a)];
        for lanes in [
            simd.add(a, b),
            simd.sub(a, b),
            simd.mul(a, b),
            simd.div(a, b),
            simd.max(a, b),
            simd.min(a, b),
            simd.scale_by_power(a, simd.add(simd.splat(12_582_912.0), simd.splat(-3.0))),
            simd.load_f16(&halves[0]),
            simd.load_f16(&halves[1]),
            pairs.0,
            pairs.1,
            simd.load_u8(&quarters[1]),
            simd.load_i8(&quarters[2]),
            // Start takes out exactly what the zero adds only when the sums agree; here only the rule is compared.
            dot(Zero::None, low, 0x7f81_0510),
            dot(Zero::Eight, high, -1),
            dot(Zero::ThirtyTwo, six, 0x0102_8003),
            simd.mul_add(a, simd.splat(2.0), simd.splat(0.0)),
            simd.neg_mul_add(c, simd.splat(0.5), simd.splat(0.0)),
        ] {
            let mut stored = [0.0; LANES];
            simd.store(lanes, &mut stored);
            out.extend(stored);
        }
        out
    }
}

#[test]
fn instruction_sets_agree() {
    let mut random = Random(5);
    for round in 0..200 {
        let floats: Vec<f32> = random_floats(3 * LANES, round);
        let floats: [&[f32; LANES]; 3] = std::array::from_fn(|index| &floats.as_chunks::<LANES>().0[index]);
        let bytes = Line(std::array::from_fn(|_| random.next() as u8));
        let results: Vec<Vec<f32>> =
            Isa::available().into_iter().map(|isa| isa.run(Everything { floats, bytes: &bytes })).collect();
        for result in &results[1..] {
            for (index, (got, want)) in result.iter().zip(&results[0]).enumerate() {
                assert!(
                    got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                    "value {index}: {got}, {want}"
                );
            }
        }
    }
}
