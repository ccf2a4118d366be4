//! Sixteen lanes in one register: AVX-512 with the int8 dot product of VNNI.

use super::{Kernel, LANES, Line, Simd, Zero};
use std::arch::x86_64::*;

/// Exists only where [`Avx512::detect`] found the instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_all.then_some(Avx512(()))
    }

    /// One function per kernel and instruction set: what the kernel calls by `inline(always)` becomes part of it.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn with_features<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

/// One intrinsic, or a few, on values in registers.
macro_rules! avx512 {
    ($body:expr) => {{
        // SAFETY: `self` exists, so the machine has the instructions (see `Avx512::detect`); pointers come from
        // references to arrays of the size that is read or written, aligned only where they are lines.
        unsafe { $body }
    }};
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    // 6 rows x 2 groups: 12 integer and 12 float sums, 4 weights and an activation in 32 registers.
    const ROWS_MAX: usize = 6;
    const SPLIT_ROWS_MAX: usize = 4;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` exists, so the machine has the features that `with_features` enables (see `detect`).
        unsafe { self.with_features(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        avx512!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        avx512!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: __m512, out: &mut [f32; LANES]) {
        avx512!(_mm512_storeu_ps(out.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn load_line(self, x: &Line) -> __m512 {
        avx512!(_mm512_load_ps(x.0.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_line(self, x: __m512, out: &mut Line) {
        avx512!(_mm512_store_ps(out.0.as_mut_ptr().cast(), x))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max_lanes(self, x: __m512) -> f32 {
        avx512!(_mm512_reduce_max_ps(x))
    }
    #[inline(always)]
    fn scale_by_power(self, a: __m512, n: __m512) -> __m512 {
        avx512!(_mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_castps_si512(a),
            _mm512_slli_epi32::<23>(_mm512_castps_si512(n))
        )))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 2 * LANES]) -> __m512 {
        avx512!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16_pairs(self, x: &[u8; 4 * LANES]) -> (__m512, __m512) {
        avx512!({
            let pairs = _mm512_loadu_si512(x.as_ptr().cast());
            let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(high))
        })
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8; LANES]) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn ints_to_floats(self, x: __m512i) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(x))
    }

    #[inline(always)]
    fn start(self, zero: Zero, negated_sum: i32) -> __m512i {
        let sum = avx512!(_mm512_set1_epi32(negated_sum));
        match zero {
            Zero::None => avx512!(_mm512_setzero_si512()),
            Zero::Eight => avx512!(_mm512_slli_epi32::<3>(sum)),
            Zero::ThirtyTwo => avx512!(_mm512_slli_epi32::<5>(sum)),
            Zero::Hundred28 => avx512!(_mm512_slli_epi32::<7>(sum)),
        }
    }
    #[inline(always)]
    fn dot(self, _: Zero, sum: __m512i, weights: __m512i, activations: i32) -> __m512i {
        avx512!(_mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(activations)))
    }

    #[inline(always)]
    fn peak(self, x: &[f32; 2 * LANES]) -> f32 {
        // Bits of absolute values order like the values, with NaN above infinity.
        avx512!({
            let mask = _mm512_set1_epi32(0x7fff_ffff);
            let first = _mm512_and_si512(_mm512_loadu_si512(x.as_ptr().cast()), mask);
            let second = _mm512_and_si512(_mm512_loadu_si512(x.as_ptr().add(LANES).cast()), mask);
            f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(first, second)))
        })
    }
    #[inline(always)]
    fn to_bytes(self, x: &[f32; 2 * LANES], factor: f32, bytes: &mut [u8; 2 * LANES]) -> [i32; 2] {
        avx512!({
            let factor = _mm512_set1_ps(factor);
            let first = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x.as_ptr()), factor));
            let second = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x.as_ptr().add(LANES)), factor));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(first));
            _mm_storeu_si128(bytes.as_mut_ptr().add(LANES).cast(), _mm512_cvtepi32_epi8(second));
            [_mm512_reduce_add_epi32(first), _mm512_reduce_add_epi32(second)]
        })
    }

    // A prefetch never faults, so an address past the end is harmless.
    #[inline(always)]
    fn prefetch(self, x: &Line, ahead: usize) {
        avx512!(_mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(x).wrapping_add(ahead).cast()))
    }
    #[inline(always)]
    fn load_bytes(self, x: &Line) -> __m512i {
        avx512!(_mm512_load_si512(x.0.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_bytes(self, x: __m512i, out: &mut Line) {
        avx512!(_mm512_store_si512(out.0.as_mut_ptr().cast(), x))
    }
    // Bytes have no shift of their own: words are shifted and what crosses a byte is masked away.
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: __m512i, mask: u8) -> __m512i {
        avx512!(_mm512_and_si512(_mm512_slli_epi16::<N>(x), _mm512_set1_epi8((mask & (0xff_u8 << N)) as i8)))
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, x: __m512i, mask: u8) -> __m512i {
        avx512!(_mm512_and_si512(_mm512_srli_epi16::<N>(x), _mm512_set1_epi8((mask & (0xff_u8 >> N)) as i8)))
    }
    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_or_si512(a, b))
    }
}
