//! The sixteen lanes as plain arrays: runs everywhere, and is the meaning that the other instruction sets are held to.

use super::{Kernel, LANES, Line, Simd, Zero};
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
    let mut out = a;
    for lane in 0..LANES {
        out[lane] = f(a[lane], b[lane]);
    }
    out
}

#[inline(always)]
fn lanes<const N: usize, T: Copy + Default>(f: impl Fn(usize) -> T) -> [T; N] {
    let mut out = [T::default(); N];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = f(lane);
    }
    out
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];

    const ROWS_MAX: usize = 1;
    const SPLIT_ROWS_MAX: usize = 1;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
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
    fn load_line(self, x: &Line) -> Self::F {
        let mut out = [0.0; LANES];
        for (lane, bytes) in out.iter_mut().zip(x.0.as_chunks::<4>().0) {
            *lane = f32::from_ne_bytes(*bytes);
        }
        out
    }
    #[inline(always)]
    fn store_line(self, x: Self::F, out: &mut Line) {
        for (lane, bytes) in x.iter().zip(out.0.as_chunks_mut::<4>().0) {
            *bytes = lane.to_ne_bytes();
        }
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
        lanes(|lane| fused(a[lane], b[lane], c[lane]))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        lanes(|lane| fused(-a[lane], b[lane], c[lane]))
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
        lanes(|lane| f16::from_le_bytes([x[2 * lane], x[2 * lane + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_bf16_pairs(self, x: &[u8; 4 * LANES]) -> (Self::F, Self::F) {
        let word = |lane: usize| u32::from_le_bytes([x[4 * lane], x[4 * lane + 1], x[4 * lane + 2], x[4 * lane + 3]]);
        (lanes(|lane| f32::from_bits(word(lane) << 16)), lanes(|lane| f32::from_bits(word(lane) & 0xffff_0000)))
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Self::F {
        lanes(|lane| f32::from(x[lane]))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::F {
        lanes(|lane| f32::from(x[lane] as i8))
    }
    #[inline(always)]
    fn ints_to_floats(self, x: Self::I) -> Self::F {
        lanes(|lane| x[lane] as f32)
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
        let [a, b, c, d] = activations.to_le_bytes();
        let x = [i32::from(a as i8), i32::from(b as i8), i32::from(c as i8), i32::from(d as i8)];
        lanes(|lane| {
            let w = |k: usize| i32::from(weights[4 * lane + k]);
            sum[lane] + w(0) * x[0] + w(1) * x[1] + w(2) * x[2] + w(3) * x[3]
        })
    }

    #[inline(always)]
    fn peak(self, x: &[f32; 2 * LANES]) -> f32 {
        // Bits of absolute values order like the values, with NaN above infinity.
        f32::from_bits(x.iter().fold(0, |peak, x| peak.max(x.to_bits() & 0x7fff_ffff)))
    }
    #[inline(always)]
    fn to_bytes(self, x: &[f32; 2 * LANES], factor: f32, bytes: &mut [u8; 2 * LANES]) -> [i32; 2] {
        let mut sums = [0; 2];
        for (index, (x, byte)) in x.iter().zip(bytes).enumerate() {
            // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
            let quant = (x * factor + 12_582_912.0).to_bits() as i8;
            *byte = quant as u8;
            sums[index / LANES] += i32::from(quant);
        }
        sums
    }
    #[inline(always)]
    fn prefetch(self, _: &Line, _: usize) {}
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
        lanes(|index| (x[index] << N) & mask)
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, x: Self::B, mask: u8) -> Self::B {
        lanes(|index| (x[index] >> N) & mask)
    }
    #[inline(always)]
    fn or(self, a: Self::B, b: Self::B) -> Self::B {
        lanes(|index| a[index] | b[index])
    }
}
