//! Inner kernels of quantised weights: integer products of 32 positions at a time, scaled and added in order.
//!
//! For each block and output: `sum += (dot * weight_scale) * activation_scale`, and for types with a min
//! `sum -= min * (activation_scale * activation_sum)`. Types with a scale per sixteen positions (Q6_K) first add the
//! scaled dots of both halves.

use super::panel::Weights;
use crate::blocks::SUB_BLOCK;
use crate::pack::Unit;
use crate::rows::Int8Block;
use crate::simd::{LANES, Line, Simd, Zero};
use crate::weight_type::WeightType;

/// Blocks of 32 positions in a chunk that many rows meet.
const CHUNK_BLOCKS: usize = 8;

/// What a type's second scale means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    None,
    /// A min to subtract, times the sum of the activations.
    Min,
    /// The scale of the second sixteen positions.
    Half,
}

/// Scales of the two groups of a panel; `second` as [`Second`] says.
#[derive(Clone, Copy)]
pub(super) struct Scales<S: Simd> {
    scale: [S::F; 2],
    second: [S::F; 2],
}

/// How the lines of one storage type are read.
pub(super) trait Format {
    const ZERO: Zero;
    const SECOND: Second;
    const HEADER_LINES: usize;
    const BLOCK_LINES: usize;
    const UNIT_BLOCKS: usize;
    type Expanded: Format;
    const IS_EXPANDED: bool;
    /// Whether the lines come from the matrix, chunk after chunk: the next chunk is then asked for ahead of time.
    const IS_PACKED: bool = true;

    fn scales<S: Simd>(simd: S, header: &[Line], block: &[Line]) -> Scales<S>;
    /// Weights of `step` (0 to 3) and of `step + 4`, of both groups each.
    fn steps<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2];
}

impl<F: Format> Weights for F {
    type X = Int8Block;
    type Expanded = F::Expanded;
    const CHUNK_LINES: usize = CHUNK_BLOCKS / F::UNIT_BLOCKS * (F::HEADER_LINES + F::UNIT_BLOCKS * F::BLOCK_LINES);
    const CHUNK_X: usize = CHUNK_BLOCKS;
    const IS_EXPANDED: bool = F::IS_EXPANDED;

    #[inline(always)]
    fn rows_max<S: Simd>() -> usize {
        if matches!(F::SECOND, Second::Half) { S::SPLIT_ROWS_MAX } else { S::ROWS_MAX }
    }

    #[inline(always)]
    fn expand<S: Simd>(simd: S, lines: &[Line], out: &mut [Line]) -> usize {
        let out = &mut out.as_chunks_mut::<EXPANDED_LINES>().0;
        let mut num_blocks = 0;
        for unit in lines.chunks_exact(F::HEADER_LINES + F::UNIT_BLOCKS * F::BLOCK_LINES) {
            let (header, blocks) = unit.split_at(F::HEADER_LINES);
            for block in blocks.chunks_exact(F::BLOCK_LINES) {
                for line in block {
                    simd.prefetch(line, Self::CHUNK_LINES);
                }
                expand_block::<S, F>(simd, header, block, &mut out[num_blocks]);
                num_blocks += 1;
            }
        }
        num_blocks * EXPANDED_LINES
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize>(simd: S, lines: &[Line], x: [&[Int8Block]; R], sums: &mut [[S::F; 2]; R]) {
        let units = lines.chunks_exact(F::HEADER_LINES + F::UNIT_BLOCKS * F::BLOCK_LINES);
        let mut index = 0;
        for unit in units {
            let (header, blocks) = unit.split_at(F::HEADER_LINES);
            for block in blocks.chunks_exact(F::BLOCK_LINES) {
                let mut at: [&Int8Block; R] = [&Int8Block::ZERO; R];
                for row in 0..R {
                    at[row] = &x[row][index];
                }
                if const { F::IS_PACKED } {
                    for line in block {
                        simd.prefetch(line, Self::CHUNK_LINES);
                    }
                }
                multiply_block::<S, F, R>(simd, header, block, at, sums);
                index += 1;
            }
        }
    }
}

#[inline(always)]
fn multiply_block<S: Simd, F: Format, const R: usize>(
    simd: S,
    header: &[Line],
    block: &[Line],
    x: [&Int8Block; R],
    sums: &mut [[S::F; 2]; R],
) {
    let halves = const { matches!(F::SECOND, Second::Half) };
    // Dots of all 32 positions, or of the first sixteen when halves have their own scales.
    let mut dots = [[simd.start(Zero::None, 0); 2]; R];
    let mut second_dots = dots;
    for row in 0..R {
        let (sum, half) = (x[row].negated_sum, x[row].negated_half);
        dots[row] = [simd.start(F::ZERO, if halves { half } else { sum }); 2];
        second_dots[row] = [simd.start(F::ZERO, if halves { sum - half } else { 0 }); 2];
    }
    for step in 0..4 {
        let [early, late] = F::steps(simd, block, step);
        for row in 0..R {
            let (x_early, x_late) = (x[row].quants[step], x[row].quants[step + 4]);
            for group in 0..2 {
                dots[row][group] = simd.dot(F::ZERO, dots[row][group], early[group], x_early);
                let late_dots = if halves { &mut second_dots } else { &mut dots };
                late_dots[row][group] = simd.dot(F::ZERO, late_dots[row][group], late[group], x_late);
            }
        }
    }
    let scales = F::scales(simd, header, block);
    for row in 0..R {
        for group in 0..2 {
            let sum = &mut sums[row][group];
            let mut scaled = simd.mul(simd.ints_to_floats(dots[row][group]), scales.scale[group]);
            if halves {
                scaled = simd.mul_add(simd.ints_to_floats(second_dots[row][group]), scales.second[group], scaled);
            }
            *sum = simd.mul_add(scaled, simd.splat(x[row].scale), *sum);
            if matches!(F::SECOND, Second::Min) {
                *sum = simd.neg_mul_add(scales.second[group], simd.splat(x[row].scaled_sum), *sum);
            }
        }
    }
}

/// A sub-block with one byte per weight and f32 scales: sixteen lines of steps, two of scales, two of second scales.
const EXPANDED_LINES: usize = 20;

#[inline(always)]
fn expand_block<S: Simd, F: Format>(simd: S, header: &[Line], block: &[Line], out: &mut [Line; EXPANDED_LINES]) {
    for step in 0..4 {
        let [early, late] = F::steps(simd, block, step);
        for group in 0..2 {
            simd.store_bytes(early[group], &mut out[2 * step + group]);
            simd.store_bytes(late[group], &mut out[2 * (step + 4) + group]);
        }
    }
    let scales = F::scales(simd, header, block);
    for group in 0..2 {
        simd.store_line(scales.scale[group], &mut out[16 + group]);
        simd.store_line(scales.second[group], &mut out[18 + group]);
    }
}

/// f16 scales of both groups in one line.
#[inline(always)]
fn load_scales<S: Simd>(simd: S, line: &Line) -> [S::F; 2] {
    let halves = line.0.as_chunks::<32>().0;
    [simd.load_f16(&halves[0]), simd.load_f16(&halves[1])]
}

/// Low and high nibbles of the line pair that starts at `2 * step`.
#[inline(always)]
fn nibbles<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2] {
    let (first, second) = (simd.load_bytes(&block[2 * step]), simd.load_bytes(&block[2 * step + 1]));
    [
        [simd.shift_right::<0>(first, 15), simd.shift_right::<0>(second, 15)],
        [simd.shift_right::<4>(first, 15), simd.shift_right::<4>(second, 15)],
    ]
}

macro_rules! format_of {
    ($name:ident, $weight_type:expr, $zero:expr, $second:expr, $expanded:ty, $is_expanded:expr) => {
        const ZERO: Zero = $zero;
        const SECOND: Second = $second;
        const HEADER_LINES: usize = Unit::of($weight_type).header_lines;
        const BLOCK_LINES: usize = Unit::of($weight_type).block_lines;
        const UNIT_BLOCKS: usize = Unit::of($weight_type).positions / SUB_BLOCK;
        type Expanded = $expanded;
        const IS_EXPANDED: bool = $is_expanded;
    };
}

pub(super) struct Q8_0;

impl Format for Q8_0 {
    format_of!(Q8_0, WeightType::Q8_0, Zero::Hundred28, Second::None, Q8_0, false);

    #[inline(always)]
    fn scales<S: Simd>(simd: S, _: &[Line], block: &[Line]) -> Scales<S> {
        Scales { scale: load_scales(simd, &block[16]), second: [simd.splat(0.0); 2] }
    }
    #[inline(always)]
    fn steps<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2] {
        let (early, late) = (2 * step, 2 * (step + 4));
        [
            [simd.load_bytes(&block[early]), simd.load_bytes(&block[early + 1])],
            [simd.load_bytes(&block[late]), simd.load_bytes(&block[late + 1])],
        ]
    }
}

pub(super) struct Q4_0;

impl Format for Q4_0 {
    format_of!(Q4_0, WeightType::Q4_0, Zero::Eight, Second::None, ExpandedQ4_0, true);

    #[inline(always)]
    fn scales<S: Simd>(simd: S, _: &[Line], block: &[Line]) -> Scales<S> {
        Scales { scale: load_scales(simd, &block[8]), second: [simd.splat(0.0); 2] }
    }
    #[inline(always)]
    fn steps<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2] {
        nibbles(simd, block, step)
    }
}

/// `d * scale` and `dmin * min` of a K block.
#[inline(always)]
fn scales_and_mins<S: Simd>(simd: S, header: &[Line], line: &Line) -> Scales<S> {
    let bytes = line.0.as_chunks::<LANES>().0;
    let (d, dmin) = (load_scales(simd, &header[0]), load_scales(simd, &header[1]));
    Scales {
        scale: [simd.mul(d[0], simd.load_u8(&bytes[0])), simd.mul(d[1], simd.load_u8(&bytes[1]))],
        second: [simd.mul(dmin[0], simd.load_u8(&bytes[2])), simd.mul(dmin[1], simd.load_u8(&bytes[3]))],
    }
}

pub(super) struct Q4K;

impl Format for Q4K {
    format_of!(Q4K, WeightType::Q4K, Zero::None, Second::Min, ExpandedWithMin, true);

    #[inline(always)]
    fn scales<S: Simd>(simd: S, header: &[Line], block: &[Line]) -> Scales<S> {
        scales_and_mins(simd, header, &block[8])
    }
    #[inline(always)]
    fn steps<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2] {
        nibbles(simd, block, step)
    }
}

pub(super) struct Q5K;

impl Format for Q5K {
    format_of!(Q5K, WeightType::Q5K, Zero::None, Second::Min, ExpandedWithMin, true);

    #[inline(always)]
    fn scales<S: Simd>(simd: S, header: &[Line], block: &[Line]) -> Scales<S> {
        scales_and_mins(simd, header, &block[10])
    }
    #[inline(always)]
    fn steps<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2] {
        let [mut early, mut late] = nibbles(simd, block, step);
        for group in 0..2 {
            let high = simd.load_bytes(&block[8 + group]);
            // Bit `step`, and bit `step + 4`, become bit 4 of a weight.
            let (early_high, late_high) = match step {
                0 => (simd.shift_left::<4>(high, 16), simd.shift_right::<0>(high, 16)),
                1 => (simd.shift_left::<3>(high, 16), simd.shift_right::<1>(high, 16)),
                2 => (simd.shift_left::<2>(high, 16), simd.shift_right::<2>(high, 16)),
                _ => (simd.shift_left::<1>(high, 16), simd.shift_right::<3>(high, 16)),
            };
            early[group] = simd.or(early[group], early_high);
            late[group] = simd.or(late[group], late_high);
        }
        [early, late]
    }
}

pub(super) struct Q6K;

impl Format for Q6K {
    format_of!(Q6K, WeightType::Q6K, Zero::ThirtyTwo, Second::Half, ExpandedHalves, true);

    #[inline(always)]
    fn scales<S: Simd>(simd: S, header: &[Line], block: &[Line]) -> Scales<S> {
        let bytes = block[12].0.as_chunks::<LANES>().0;
        let d = load_scales(simd, &header[0]);
        Scales {
            scale: [simd.mul(d[0], simd.load_i8(&bytes[0])), simd.mul(d[1], simd.load_i8(&bytes[1]))],
            second: [simd.mul(d[0], simd.load_i8(&bytes[2])), simd.mul(d[1], simd.load_i8(&bytes[3]))],
        }
    }
    #[inline(always)]
    fn steps<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2] {
        let mut weights = nibbles(simd, block, step);
        // Bits `2 * step` and the next of `high` become bits 4 and 5 of a weight.
        for part in 0..2 {
            for group in 0..2 {
                let high = simd.load_bytes(&block[8 + 2 * part + group]);
                let high = match step {
                    0 => simd.shift_left::<4>(high, 0x30),
                    1 => simd.shift_left::<2>(high, 0x30),
                    2 => simd.shift_right::<0>(high, 0x30),
                    _ => simd.shift_right::<2>(high, 0x30),
                };
                weights[part][group] = simd.or(weights[part][group], high);
            }
        }
        weights
    }
}

macro_rules! expanded {
    ($name:ident, $zero:expr, $second:expr) => {
        pub(super) struct $name;

        impl Format for $name {
            const ZERO: Zero = $zero;
            const SECOND: Second = $second;
            const HEADER_LINES: usize = 0;
            const BLOCK_LINES: usize = EXPANDED_LINES;
            const UNIT_BLOCKS: usize = 1;
            type Expanded = $name;
            const IS_EXPANDED: bool = false;
            const IS_PACKED: bool = false;

            #[inline(always)]
            fn scales<S: Simd>(simd: S, _: &[Line], block: &[Line]) -> Scales<S> {
                Scales {
                    scale: [simd.load_line(&block[16]), simd.load_line(&block[17])],
                    second: [simd.load_line(&block[18]), simd.load_line(&block[19])],
                }
            }
            #[inline(always)]
            fn steps<S: Simd>(simd: S, block: &[Line], step: usize) -> [[S::B; 2]; 2] {
                Q8_0::steps(simd, block, step)
            }
        }
    };
}

expanded!(ExpandedQ4_0, Zero::Eight, Second::None);
expanded!(ExpandedWithMin, Zero::None, Second::Min);
expanded!(ExpandedHalves, Zero::ThirtyTwo, Second::Half);
