//! Activations made ready for [`crate::linear`]: once, for all matrices that read them.
//!
//! Measured as in `linear`: 512 x 4864 values to int8 in 0.99 ms, with the copy as floats 1.6 ms.

use crate::blocks::SUB_BLOCK;
use crate::disjoint::Disjoint;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd};

/// 32 activations as signed bytes with their scale, and the sums that linear layers need.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub(crate) struct Int8Block {
    /// Four consecutive values each, first in the lowest byte; all in -127..=127.
    pub(crate) quants: [i32; 8],
    pub(crate) scale: f32,
    /// Minus the sum of all quants, and of the first sixteen.
    pub(crate) negated_sum: i32,
    pub(crate) negated_half: i32,
    /// `scale` times the sum of all quants.
    pub(crate) scaled_sum: f32,
}

impl Int8Block {
    pub(crate) const ZERO: Int8Block =
        Int8Block { quants: [0; 8], scale: 0.0, negated_sum: 0, negated_half: 0, scaled_sum: 0.0 };
}

/// Blocks with nothing larger count as zero: the factor that scales them up would overflow below 1e-36.
const PEAK_MIN: f32 = 1e-30;
/// Values per task below which a second thread does not pay.
const VALUES_PER_TASK: usize = 8 * 1024;

/// Activations `[rows, width]`: as floats, and where asked for as int8 in blocks of 32.
#[derive(Debug)]
pub struct Rows {
    rows: usize,
    width: usize,
    is_quantised: bool,
    has_floats: bool,
    /// Pairs of neighbours, an odd width padded with zero.
    floats: Vec<[f32; 2]>,
    blocks: Vec<Int8Block>,
    rows_max: usize,
    width_max: usize,
}

/// What [`Rows::load`] keeps of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Floats,
    Int8,
    Both,
}

impl Rows {
    /// Room for inputs of up to `rows_max` rows and, in each, `width_max` values.
    pub fn with_capacity(rows_max: usize, width_max: usize) -> Rows {
        let floats = vec![[0.0; 2]; rows_max * width_max.div_ceil(2)];
        let blocks = vec![Int8Block::ZERO; rows_max * width_max.div_ceil(SUB_BLOCK)];
        Rows { rows: 0, width: 0, is_quantised: false, has_floats: false, floats, blocks, rows_max, width_max }
    }

    /// Bytes that [`Rows::with_capacity`] allocates, `None` when they exceed the address space.
    pub fn bytes_needed(rows_max: usize, width_max: usize) -> Option<usize> {
        let row = width_max.div_ceil(2).checked_mul(8)?;
        row.checked_add(width_max.div_ceil(SUB_BLOCK).checked_mul(size_of::<Int8Block>())?)?.checked_mul(rows_max)
    }

    /// Takes in `x: [rows, width]`, as floats and, if `quantise`, as int8 too.
    ///
    /// Every block of 32 values v becomes round(v * 127 / max|v|), ties to even; a NaN or infinity makes its block
    /// NaN, a block without a value of 1e-30 is zero.
    /// Panics if `x` has another size or exceeds the capacity.
    pub fn load(&mut self, pool: &Pool, x: &[f32], rows: usize, width: usize, quantise: bool) {
        self.fill(pool, x, rows, width, if quantise { Keep::Both } else { Keep::Floats });
    }

    /// As [`Rows::load`], int8 only: for inputs that no float matrix reads; saves writing the copy.
    pub fn load_quantised(&mut self, pool: &Pool, x: &[f32], rows: usize, width: usize) {
        self.fill(pool, x, rows, width, Keep::Int8);
    }

    fn fill(&mut self, pool: &Pool, x: &[f32], rows: usize, width: usize, keep: Keep) {
        assert!(rows <= self.rows_max && width <= self.width_max, "{rows} x {width} activations fit the capacity");
        assert_eq!(x.len(), rows * width, "activations are {rows} x {width}");
        self.rows = rows;
        self.width = width;
        self.is_quantised = keep != Keep::Floats;
        self.has_floats = keep != Keep::Int8;
        if x.is_empty() {
            return;
        }
        let (pairs, blocks) = (width.div_ceil(2), width.div_ceil(SUB_BLOCK));
        let all_floats = Disjoint::new(&mut self.floats[..rows * pairs]);
        let all_blocks = Disjoint::new(&mut self.blocks[..rows * blocks]);
        pool.run_ranges(rows, VALUES_PER_TASK.div_ceil(width), &|start, end| {
            for row in start..end {
                let x = &x[row * width..(row + 1) * width];
                if keep != Keep::Int8 {
                    // SAFETY: ranges of rows do not overlap, and every row is written once.
                    let floats = unsafe { all_floats.part(row * pairs, pairs) };
                    copy_pairs(x, floats);
                }
                if keep != Keep::Floats {
                    // SAFETY: as above.
                    let blocks = unsafe { all_blocks.part(row * blocks, blocks) };
                    pool.isa().run(Quantise { x, blocks });
                }
            }
        });
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// All rows as pairs of floats, `width.div_ceil(2)` per row. Panics if they were loaded as int8 only.
    pub(crate) fn floats(&self) -> &[[f32; 2]] {
        assert!(self.has_floats || self.rows * self.width == 0, "a float matrix needs rows loaded with floats");
        &self.floats[..self.rows * self.width.div_ceil(2)]
    }

    /// All rows as int8 blocks. Panics if they were loaded without.
    pub(crate) fn blocks(&self) -> &[Int8Block] {
        assert!(self.is_quantised || self.rows * self.width == 0, "a quantised matrix needs quantised rows");
        &self.blocks[..self.rows * self.width.div_ceil(SUB_BLOCK)]
    }
}

fn copy_pairs(x: &[f32], out: &mut [[f32; 2]]) {
    let (pairs, rest) = x.as_chunks::<2>();
    out[..pairs.len()].copy_from_slice(pairs);
    if let [last] = rest {
        out[pairs.len()] = [*last, 0.0];
    }
}

struct Quantise<'a> {
    x: &'a [f32],
    blocks: &'a mut [Int8Block],
}

impl Kernel for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (whole, rest) = self.x.as_chunks::<SUB_BLOCK>();
        for (x, block) in whole.iter().zip(&mut *self.blocks) {
            quantise(simd, x, block);
        }
        if let Some(block) = self.blocks.get_mut(whole.len()) {
            let mut x = [0.0; SUB_BLOCK];
            x[..rest.len()].copy_from_slice(rest);
            quantise(simd, &x, block);
        }
    }
}

#[inline(always)]
fn quantise<S: Simd>(simd: S, x: &[f32; SUB_BLOCK], block: &mut Int8Block) {
    let peak = simd.peak(x);
    if !(PEAK_MIN..=f32::MAX).contains(&peak) {
        let scale = if peak < PEAK_MIN { 0.0 } else { f32::NAN };
        *block = Int8Block { scale, scaled_sum: scale, ..Int8Block::ZERO };
        return;
    }
    let factor = 127.0 / peak;
    let mut bytes = [0; SUB_BLOCK];
    let [first, second] = simd.to_bytes(x, factor, &mut bytes);
    for (word, bytes) in block.quants.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = i32::from_le_bytes(*bytes);
    }
    block.scale = peak / 127.0;
    block.negated_sum = -(first + second);
    block.negated_half = -first;
    block.scaled_sum = block.scale * (first + second) as f32;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::testing::random_floats;
    use std::num::NonZeroUsize;

    fn reference(x: &[f32]) -> Int8Block {
        let peak = x.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
        let quant = |x: &f32| if peak > 0.0 { (x * (127.0 / peak)).round_ties_even() as i32 } else { 0 };
        let quants: Vec<i32> = x.iter().map(quant).collect();
        let (sum, half) = (quants.iter().sum::<i32>(), quants[..16].iter().sum::<i32>());
        let words = quants.chunks(4).map(|q| i32::from_le_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8]));
        let scale = peak / 127.0;
        let mut block = Int8Block { scale, negated_sum: -sum, negated_half: -half, ..Int8Block::ZERO };
        block.scaled_sum = scale * sum as f32;
        block.quants.copy_from_slice(&words.collect::<Vec<_>>());
        block
    }

    #[test]
    fn blocks_match_the_plain_arithmetic() {
        for isa in Isa::available() {
            let pool = Pool::with_isa(NonZeroUsize::new(2).unwrap(), isa);
            for (rows, width) in [(1, 32), (3, 64), (1, 33), (5, 7), (700, 96), (2, 0), (0, 64)] {
                let mut x = random_floats(rows * width, 3);
                x.iter_mut().step_by(5).for_each(|x| *x *= 100.0);
                x.iter_mut().take(32).for_each(|x| *x = 0.0);
                let mut loaded = Rows::with_capacity(rows, width);
                loaded.load(&pool, &x, rows, width, true);
                let mut want = Vec::new();
                for row in x.chunks_exact(width.max(1)) {
                    for block in row.chunks(32) {
                        let mut padded = block.to_vec();
                        padded.resize(32, 0.0);
                        want.push(reference(&padded));
                    }
                }
                assert_eq!(loaded.blocks(), want, "{} {rows} x {width}", isa.name());
            }
        }
    }

    #[test]
    fn nan_is_not_swallowed() {
        let pool = Pool::new(NonZeroUsize::MIN);
        let mut rows = Rows::with_capacity(1, 32);
        let mut x = vec![1.0; 32];
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[20] = broken;
            rows.load(&pool, &x, 1, 32, true);
            assert!(rows.blocks()[0].scale.is_nan() && rows.blocks()[0].scaled_sum.is_nan());
        }
        rows.load(&pool, &[1e-40; 32], 1, 32, true);
        assert_eq!(rows.blocks()[0], Int8Block::ZERO);
    }

    #[test]
    #[should_panic(expected = "a quantised matrix needs quantised rows")]
    fn int8_that_was_not_made_is_a_bug() {
        let mut rows = Rows::with_capacity(1, 32);
        rows.load(&Pool::new(NonZeroUsize::MIN), &[0.0; 32], 1, 32, false);
        rows.blocks();
    }
}
