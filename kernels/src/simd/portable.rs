//! The sixteen lanes as plain arrays: runs everywhere, and is the meaning that the other instruction sets are held to.

use super::{LANES, Line, Simd, Zero};
use half::f16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portable;

/// `a * b + c`: fused where that is one instruction, otherwise a library call would cost a hundred times the sum.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];

    const ROWS_MAX: usize = 2;
    const SPLIT_ROWS_MAX: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; LANES]) {
        *out = x;
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|lane| fused(a[lane], b[lane], c[lane]))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|lane| fused(-a[lane], b[lane], c[lane]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max_lanes(self, x: Self::F) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    fn scale_by_power(self, a: Self::F, n: Self::F) -> Self::F {
        zip(a, n, |a, n| f32::from_bits(a.to_bits().wrapping_add(n.to_bits() << 23)))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
        std::array::from_fn(|lane| f16::from_le_bytes([x[2 * lane], x[2 * lane + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_bf16_pairs(self, x: &[u8; 4 * LANES]) -> (Self::F, Self::F) {
        let word = |lane: usize| u32::from_le_bytes([x[4 * lane], x[4 * lane + 1], x[4 * lane + 2], x[4 * lane + 3]]);
        (
            std::array::from_fn(|lane| f32::from_bits(word(lane) << 16)),
            std::array::from_fn(|lane| f32::from_bits(word(lane) & 0xffff_0000)),
        )
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::F {
        std::array::from_fn(|lane| f32::from(x[lane]))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::F {
        std::array::from_fn(|lane| f32::from(x[lane] as i8))
    }
    #[inline(always)]
    fn ints_to_floats(self, x: Self::I) -> Self::F {
        std::array::from_fn(|lane| x[lane] as f32)
    }

    #[inline(always)]
    fn start(self, zero: Zero, negated_sum: i32) -> Self::I {
        let times = match zero {
            Zero::None => 0,
            Zero::Eight => 8,
            Zero::ThirtyTwo => 32,
            Zero::Hundred28 => 128,
        };
        [negated_sum * times; LANES]
    }
    #[inline(always)]
    fn dot(self, _: Zero, sum: Self::I, weights: Self::B, activations: i32) -> Self::I {
        let x = activations.to_le_bytes().map(|byte| i32::from(byte as i8));
        std::array::from_fn(|lane| {
            let w = |k: usize| i32::from(weights[4 * lane + k]);
            sum[lane] + w(0) * x[0] + w(1) * x[1] + w(2) * x[2] + w(3) * x[3]
        })
    }

    #[inline(always)]
    fn load_bytes(self, x: &Line) -> Self::B {
        x.0
    }
    #[inline(always)]
    fn store_bytes(self, x: Self::B, out: &mut Line) {
        out.0 = x;
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: Self::B, mask: u8) -> Self::B {
        x.map(|byte| (byte << N) & mask)
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, x: Self::B, mask: u8) -> Self::B {
        x.map(|byte| (byte >> N) & mask)
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        std::array::from_fn(|index| a[index] | b[index])
    }
}
