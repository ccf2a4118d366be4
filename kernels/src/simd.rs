//! Sixteen lanes at a time on whatever the machine has: the vocabulary all operations are written in.
//!
//! An operation is written once, as a [`Kernel`] generic over [`Simd`], and compiled for each instruction set. Lanes
//! never mix except in [`sum`], whose order is fixed, and multiply-add is always fused where the machine can, so all
//! instruction sets with fused multiply-add give the same bits. A `Simd` value is a token: it exists only on a machine
//! that has the instructions, which is what makes its methods safe to call.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use avx512::Avx512;
use portable::Portable;

pub(crate) const LANES: usize = 16;

/// 64 bytes on a cache line: the unit of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

impl Line {
    pub(crate) const ZERO: Line = Line([0; 64]);
}

/// What quantised weights add to their value so that it is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zero {
    /// Weights are unsigned as they are.
    None,
    /// Stored as value + 8, in 0..=15.
    Eight,
    /// Stored as value + 32, in 0..=63.
    ThirtyTwo,
    /// Stored as value + 128, in 0..=255.
    Hundred28,
}

/// Sixteen lanes of one instruction set: `F` of f32, `I` of i32, `B` of four bytes each.
pub(crate) trait Simd: Copy + Send + Sync {
    type F: Copy;
    type I: Copy;
    type B: Copy;

    /// Rows that one pass over the weights computes at most: as many as the registers hold.
    const ROWS_MAX: usize;
    /// The same for kernels with twice the integer sums.
    const SPLIT_ROWS_MAX: usize;

    /// Runs a kernel as a function of its own with this instruction set.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, x: Self::F, out: &mut [f32; LANES]);
    /// As `load` and `store`, floats in the byte order of the machine.
    fn load_line(self, x: &Line) -> Self::F;
    fn store_line(self, x: Self::F, out: &mut Line);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the machine can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b`, rounded once where the machine can.
    fn neg_mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The largest lane, if none is NaN.
    fn max_lanes(self, x: Self::F) -> f32;
    /// `a * 2^n` by adding the low bits of `n`'s representation to the exponent of `a`; `n` = integer + 1.5 * 2^23.
    fn scale_by_power(self, a: Self::F, n: Self::F) -> Self::F;
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Self::F;
    /// Low and high bf16 of each of sixteen pairs.
    fn load_bf16_pairs(self, x: &[u8; 4 * LANES]) -> (Self::F, Self::F);
    fn load_u8(self, x: &[u8; LANES]) -> Self::F;
    fn load_i8(self, x: &[u8; LANES]) -> Self::F;
    fn ints_to_floats(self, x: Self::I) -> Self::F;

    /// The start of an integer sum: what takes the weights' zero back out, from the negated sum of the activations.
    fn start(self, zero: Zero, negated_sum: i32) -> Self::I;
    /// Adds to each lane the products of its four weights with four signed activations (in -127..=127, one per byte).
    fn dot(self, zero: Zero, sum: Self::I, weights: Self::B, activations: i32) -> Self::I;

    /// The largest absolute value of 32, NaN if any is.
    fn peak(self, x: &[f32; 2 * LANES]) -> f32;
    /// `x * factor` rounded to integers, ties to even, as bytes in the order of `x`; and the sums of both halves.
    /// Products are in -127..=127; NaN becomes any byte.
    fn to_bytes(self, x: &[f32; 2 * LANES], factor: f32, bytes: &mut [u8; 2 * LANES]) -> [i32; 2];

    /// Asks for the line that lies `ahead` lines after `x`, if there is one: a hint without effect on results.
    fn prefetch(self, x: &Line, ahead: usize);
    fn load_bytes(self, x: &Line) -> Self::B;
    fn store_bytes(self, x: Self::B, out: &mut Line);
    /// Every byte shifted left by `N` bits, then masked.
    fn shift_left<const N: u32>(self, x: Self::B, mask: u8) -> Self::B;
    /// Every byte shifted right by `N` bits, then masked.
    fn shift_right<const N: u32>(self, x: Self::B, mask: u8) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
}

/// A piece of work compiled once per instruction set. Implementations are `#[inline(always)]`, so that they become
/// part of the one function that enables the instructions.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instruction set in use, chosen once when a pool is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Choice);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// The best instruction set of this machine.
    pub fn detect() -> Isa {
        *Isa::available().last().expect("the portable path is always there")
    }

    /// All that this machine can run, the best last.
    pub fn available() -> Vec<Isa> {
        let portable = Some(Choice::Portable(Portable));
        #[cfg(target_arch = "x86_64")]
        let choices = [portable, Avx2::detect().map(Choice::Avx2), Avx512::detect().map(Choice::Avx512)];
        #[cfg(not(target_arch = "x86_64"))]
        let choices = [portable];
        choices.into_iter().flatten().map(Isa).collect()
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Choice::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(_) => "avx512-vnni",
        }
    }

    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Choice::Portable(simd) => simd.call(kernel),
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2(simd) => simd.call(kernel),
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512(simd) => simd.call(kernel),
        }
    }
}

/// Sum of the lanes as a fixed tree.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, x: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(x, &mut lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// e^x to about two units in the last place; x is clamped to where the result is a normal number, NaN stays NaN.
///
/// x = n ln 2 + r, then the polynomial of Cephes' `expf` for e^r.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    let x = simd.max(simd.splat(-87.0), simd.min(simd.splat(88.3), x));
    let shifter = simd.splat(12_582_912.0);
    let shifted = simd.mul_add(x, simd.splat(std::f32::consts::LOG2_E), shifter);
    let n = simd.sub(shifted, shifter);
    let r = simd.neg_mul_add(n, simd.splat(0.693_359_4), x);
    let r = simd.neg_mul_add(n, simd.splat(-2.121_944_4e-4), r);
    let mut p = simd.splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = simd.mul_add(p, r, simd.splat(coefficient));
    }
    let p = simd.mul_add(p, simd.mul(r, r), simd.add(r, simd.splat(1.0)));
    simd.scale_by_power(p, shifted)
}

#[cfg(test)]
mod tests;
