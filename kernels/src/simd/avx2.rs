//! Sixteen lanes in two registers: AVX2 with FMA and F16C.

use super::{Kernel, LANES, Line, Simd, Zero};
use std::arch::x86_64::*;

/// Exists only where [`Avx2::detect`] found the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has_all =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has_all.then_some(Avx2(()))
    }

    /// One function per kernel and instruction set: what the kernel calls by `inline(always)` becomes part of it.
    #[inline(never)]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn with_features<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

/// One intrinsic, or a few, on values in registers.
macro_rules! avx2 {
    ($body:expr) => {{
        // SAFETY: `self` exists, so the machine has the instructions (see `Avx2::detect`); pointers come from
        // references to arrays of at least the size that is read or written, and need no alignment.
        unsafe { $body }
    }};
}

type Floats = [__m256; 2];
type Ints = [__m256i; 2];

impl Simd for Avx2 {
    type F = Floats;
    type I = Ints;
    type B = Ints;

    const ROWS_MAX: usize = 2;
    const SPLIT_ROWS_MAX: usize = 1;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` exists, so the machine has the features that `with_features` enables (see `detect`).
        unsafe { self.with_features(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Floats {
        avx2!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Floats {
        avx2!([_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))])
    }
    #[inline(always)]
    fn store(self, x: Floats, out: &mut [f32; LANES]) {
        avx2!({
            _mm256_storeu_ps(out.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), x[1]);
        })
    }
    #[inline(always)]
    fn load_line(self, x: &Line) -> Floats {
        avx2!([_mm256_loadu_ps(x.0.as_ptr().cast()), _mm256_loadu_ps(x.0.as_ptr().add(32).cast())])
    }
    #[inline(always)]
    fn store_line(self, x: Floats, out: &mut Line) {
        avx2!({
            _mm256_storeu_ps(out.0.as_mut_ptr().cast(), x[0]);
            _mm256_storeu_ps(out.0.as_mut_ptr().add(32).cast(), x[1]);
        })
    }
    #[inline(always)]
    fn add(self, a: Floats, b: Floats) -> Floats {
        avx2!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: Floats, b: Floats) -> Floats {
        avx2!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Floats, b: Floats) -> Floats {
        avx2!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: Floats, b: Floats) -> Floats {
        avx2!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        avx2!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Floats, b: Floats, c: Floats) -> Floats {
        avx2!([_mm256_fnmadd_ps(a[0], b[0], c[0]), _mm256_fnmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn max(self, a: Floats, b: Floats) -> Floats {
        avx2!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn min(self, a: Floats, b: Floats) -> Floats {
        avx2!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn max_lanes(self, x: Floats) -> f32 {
        avx2!({
            let eight = _mm256_max_ps(x[0], x[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }
    #[inline(always)]
    fn scale_by_power(self, a: Floats, n: Floats) -> Floats {
        avx2!({
            let add = |a, n| {
                let power = _mm256_slli_epi32::<23>(_mm256_castps_si256(n));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), power))
            };
            [add(a[0], n[0]), add(a[1], n[1])]
        })
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Floats {
        avx2!([
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(16).cast()))
        ])
    }
    #[inline(always)]
    fn load_bf16_pairs(self, x: &[u8; 4 * LANES]) -> (Floats, Floats) {
        avx2!({
            let pairs = [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(32).cast())];
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let low = [_mm256_slli_epi32::<16>(pairs[0]), _mm256_slli_epi32::<16>(pairs[1])];
            let high = [_mm256_and_si256(pairs[0], mask), _mm256_and_si256(pairs[1], mask)];
            (
                [_mm256_castsi256_ps(low[0]), _mm256_castsi256_ps(low[1])],
                [_mm256_castsi256_ps(high[0]), _mm256_castsi256_ps(high[1])],
            )
        })
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> Floats {
        avx2!({
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))),
            ]
        })
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Floats {
        avx2!({
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))),
            ]
        })
    }
    #[inline(always)]
    fn ints_to_floats(self, x: Ints) -> Floats {
        avx2!([_mm256_cvtepi32_ps(x[0]), _mm256_cvtepi32_ps(x[1])])
    }

    #[inline(always)]
    fn start(self, zero: Zero, negated_sum: i32) -> Ints {
        let sum = avx2!(_mm256_set1_epi32(negated_sum));
        match zero {
            // `dot` takes the zero of whole bytes out by itself.
            Zero::None | Zero::Hundred28 => avx2!([_mm256_setzero_si256(); 2]),
            Zero::Eight => avx2!([_mm256_slli_epi32::<3>(sum); 2]),
            Zero::ThirtyTwo => avx2!([_mm256_slli_epi32::<5>(sum); 2]),
        }
    }
    /// `maddubs` adds pairs of products in 16 bits, saturating. Weights of up to six bits cannot reach that
    /// (2 * 63 * 127 = 16002). Whole bytes are taken as signed and their sign moved to the activation: with
    /// |weight| <= 128 and |activation| <= 127 a pair is at most 32512.
    #[inline(always)]
    fn dot(self, zero: Zero, sum: Ints, weights: Ints, activations: i32) -> Ints {
        let x = avx2!(_mm256_set1_epi32(activations));
        let mut sum = sum;
        for (sum, weights) in sum.iter_mut().zip(weights) {
            let pairs = if zero == Zero::Hundred28 {
                let signed = avx2!(_mm256_xor_si256(weights, _mm256_set1_epi8(-128)));
                avx2!(_mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed)))
            } else {
                avx2!(_mm256_maddubs_epi16(weights, x))
            };
            *sum = avx2!(_mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
        }
        sum
    }

    #[inline(always)]
    fn peak(self, x: &[f32; 2 * LANES]) -> f32 {
        // Bits of absolute values order like the values, with NaN above infinity.
        let mut peaks = [0_u32; 8];
        avx2!({
            let mask = _mm256_set1_epi32(0x7fff_ffff);
            let mut peak = _mm256_setzero_si256();
            for eight in x.as_chunks::<8>().0 {
                let bits = _mm256_and_si256(_mm256_loadu_si256(eight.as_ptr().cast()), mask);
                peak = _mm256_max_epu32(peak, bits);
            }
            _mm256_storeu_si256(peaks.as_mut_ptr().cast(), peak);
        });
        f32::from_bits(peaks.into_iter().fold(0, u32::max))
    }
    #[inline(always)]
    fn to_bytes(self, x: &[f32; 2 * LANES], factor: f32, bytes: &mut [u8; 2 * LANES]) -> [i32; 2] {
        let mut sums = [[0_i32; 8]; 2];
        avx2!({
            let factor = _mm256_set1_ps(factor);
            let mut ints = [_mm256_setzero_si256(); 4];
            for (ints, eight) in ints.iter_mut().zip(x.as_chunks::<8>().0) {
                *ints = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(eight.as_ptr()), factor));
            }
            let [a, b, c, d] = ints;
            // Packing works within halves of the register: the permutation puts the groups of four back in order.
            let mixed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let ordered = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), ordered);
            _mm256_storeu_si256(sums[0].as_mut_ptr().cast(), _mm256_add_epi32(a, b));
            _mm256_storeu_si256(sums[1].as_mut_ptr().cast(), _mm256_add_epi32(c, d));
        });
        [sums[0].iter().sum(), sums[1].iter().sum()]
    }

    // A prefetch never faults, so an address past the end is harmless.
    #[inline(always)]
    fn prefetch(self, x: &Line, ahead: usize) {
        avx2!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).wrapping_add(ahead).cast()))
    }
    #[inline(always)]
    fn load_bytes(self, x: &Line) -> Ints {
        avx2!([_mm256_loadu_si256(x.0.as_ptr().cast()), _mm256_loadu_si256(x.0.as_ptr().add(32).cast())])
    }
    #[inline(always)]
    fn store_bytes(self, x: Ints, out: &mut Line) {
        avx2!({
            _mm256_storeu_si256(out.0.as_mut_ptr().cast(), x[0]);
            _mm256_storeu_si256(out.0.as_mut_ptr().add(32).cast(), x[1]);
        })
    }
    // Bytes have no shift of their own: words are shifted and what crosses a byte is masked away.
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: Ints, mask: u8) -> Ints {
        avx2!({
            let mask = _mm256_set1_epi8((mask & (0xff_u8 << N)) as i8);
            let count = _mm_cvtsi32_si128(N as i32);
            let words = [_mm256_sll_epi16(x[0], count), _mm256_sll_epi16(x[1], count)];
            [_mm256_and_si256(words[0], mask), _mm256_and_si256(words[1], mask)]
        })
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, x: Ints, mask: u8) -> Ints {
        avx2!({
            let mask = _mm256_set1_epi8((mask & (0xff_u8 >> N)) as i8);
            let count = _mm_cvtsi32_si128(N as i32);
            let words = [_mm256_srl_epi16(x[0], count), _mm256_srl_epi16(x[1], count)];
            [_mm256_and_si256(words[0], mask), _mm256_and_si256(words[1], mask)]
        })
    }
    #[inline(always)]
    fn or(self, a: Ints, b: Ints) -> Ints {
        avx2!([_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])])
    }
}
