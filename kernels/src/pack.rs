//! The layout of weights in memory, made for sixteen lanes.
//!
//! 32 neighbouring outputs are a panel, two groups of sixteen lanes; a panel is one contiguous run of 64-byte lines
//! over the inner dimension, so one thread streams one address range, one row needs no sum across lanes, and many rows
//! use the same lines. Quantised types keep the size of the file (K types: 2 to 3 % more).
//!
//! - floats: units of two inner positions; F32: four lines `[position][group]`; F16: a line per position; BF16: a line
//!   per group, each lane a pair of positions.
//! - quantised: units of one file block: header lines (d, dmin as 32 x f16), then for each sub-block of 32 positions
//!   its quants and one line of scales. A lane holds four consecutive positions, a "step"; steps 0 to 7 make the
//!   sub-block. Q8_0: a line per step and group. Four-bit parts: line `[step % 4][group]` with step in the low and
//!   step + 4 in the high nibble. Q5_K: one line per group with bit `step`. Q6_K: line `[step / 4][group]` with two
//!   bits at `2 * (step % 4)`.

use crate::blocks::{SUB_BLOCK, SubBlock, dequantise_sub_block, sub_block, unit_scales};
use crate::simd::Line;
use crate::weight_type::WeightType;
use half::{bf16, f16};

/// Outputs in one panel.
pub(crate) const PANEL: usize = 32;

/// Lines of one unit of one panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Inner positions it covers.
    pub(crate) positions: usize,
    pub(crate) header_lines: usize,
    /// Lines of each sub-block (of the whole unit for floats).
    pub(crate) block_lines: usize,
    pub(crate) blocks: usize,
}

impl Unit {
    pub(crate) const fn of(weight_type: WeightType) -> Unit {
        let (positions, header_lines, block_lines, blocks) = match weight_type {
            WeightType::F32 => (2, 0, 4, 1),
            WeightType::F16 | WeightType::Bf16 => (2, 0, 2, 1),
            WeightType::Q8_0 => (32, 0, 17, 1),
            WeightType::Q4_0 => (32, 0, 9, 1),
            WeightType::Q4K => (256, 2, 9, 8),
            WeightType::Q5K => (256, 2, 11, 8),
            WeightType::Q6K => (256, 1, 13, 8),
        };
        Unit { positions, header_lines, block_lines, blocks }
    }

    pub(crate) const fn lines(self) -> usize {
        self.header_lines + self.blocks * self.block_lines
    }
}

/// Byte of `lane`'s first position in the lines of a two-group pair that starts at `line`.
fn place(line: usize, lane: usize) -> (usize, usize) {
    (line + lane / 16, lane % 16 * 4)
}

fn word(lines: &[Line], line: usize, lane: usize) -> u32 {
    let (line, at) = place(line, lane);
    let bytes = &lines[line].0;
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn or_word(lines: &mut [Line], line: usize, lane: usize, value: u32) {
    let packed = word(lines, line, lane) | value;
    let (line, at) = place(line, lane);
    lines[line].0[at..at + 4].copy_from_slice(&packed.to_le_bytes());
}

/// Where the quants of a type lie inside a sub-block: lines of whole bytes or nibbles, then those of the high bits.
const NIBBLE_LINES: usize = 8;

/// Packs one file block of one output into the unit of its panel. The unit starts out zeroed.
pub(crate) fn pack_unit(weight_type: WeightType, bytes: &[u8], lane: usize, unit: &mut [Line]) {
    let shape = Unit::of(weight_type);
    debug_assert_eq!(unit.len(), shape.lines());
    let header = unit_scales(weight_type, bytes);
    for (line, scale) in unit[..shape.header_lines].iter_mut().zip(header) {
        line.0[2 * lane..2 * lane + 2].copy_from_slice(&scale);
    }
    for (index, block) in unit[shape.header_lines..].chunks_exact_mut(shape.block_lines).enumerate() {
        let SubBlock { quants, scales } = sub_block(weight_type, bytes, index);
        let (words, _) = quants.as_chunks::<4>();
        for (step, word) in words.iter().enumerate() {
            pack_step(weight_type, block, lane, step, u32::from_le_bytes(*word));
        }
        let last = &mut block[shape.block_lines - 1].0;
        if shape.header_lines == 0 {
            last[2 * lane..2 * lane + 2].copy_from_slice(&scales);
        } else {
            (last[lane], last[PANEL + lane]) = (scales[0], scales[1]);
        }
    }
}

fn pack_step(weight_type: WeightType, block: &mut [Line], lane: usize, step: usize, quants: u32) {
    if weight_type == WeightType::Q8_0 {
        return or_word(block, 2 * step, lane, quants);
    }
    or_word(block, 2 * (step % 4), lane, (quants & 0x0f0f_0f0f) << (step / 4 * 4));
    let high = quants >> 4;
    match weight_type {
        WeightType::Q5K => or_word(block, NIBBLE_LINES, lane, (high & 0x0101_0101) << step),
        WeightType::Q6K => {
            or_word(block, NIBBLE_LINES + 2 * (step / 4), lane, (high & 0x0303_0303) << (2 * (step % 4)));
        }
        _ => {}
    }
}

fn unpack_step(weight_type: WeightType, block: &[Line], lane: usize, step: usize) -> u32 {
    if weight_type == WeightType::Q8_0 {
        return word(block, 2 * step, lane);
    }
    let low = (word(block, 2 * (step % 4), lane) >> (step / 4 * 4)) & 0x0f0f_0f0f;
    let high = match weight_type {
        WeightType::Q5K => (word(block, NIBBLE_LINES, lane) >> step) & 0x0101_0101,
        WeightType::Q6K => (word(block, NIBBLE_LINES + 2 * (step / 4), lane) >> (2 * (step % 4))) & 0x0303_0303,
        _ => 0,
    };
    low | high << 4
}

/// Packs two inner positions of one output of a float matrix (the second absent past an odd width).
pub(crate) fn pack_floats(weight_type: WeightType, bytes: &[u8], lane: usize, unit: &mut [Line]) {
    let size = weight_type.block_bytes();
    for (position, value) in bytes.chunks_exact(size).enumerate() {
        let (line, at) = float_place(weight_type, lane, position);
        unit[line].0[at..at + size].copy_from_slice(value);
    }
}

/// Line and byte of one of the two positions of a float unit.
fn float_place(weight_type: WeightType, lane: usize, position: usize) -> (usize, usize) {
    match weight_type {
        WeightType::F32 => (2 * position + lane / 16, lane % 16 * 4),
        WeightType::F16 => (position, lane * 2),
        _ => (lane / 16, lane % 16 * 4 + position * 2),
    }
}

/// Reads one output back from the lines of its panel.
pub(crate) fn unpack_row(weight_type: WeightType, panel: &[Line], lane: usize, out: &mut [f32]) {
    let shape = Unit::of(weight_type);
    for (unit, out) in panel.chunks_exact(shape.lines()).zip(out.chunks_mut(shape.positions)) {
        if shape.positions == 2 {
            for (position, out) in out.iter_mut().enumerate() {
                let (line, at) = float_place(weight_type, lane, position);
                let bytes = &unit[line].0[at..];
                *out = match weight_type {
                    WeightType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
                    WeightType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                    _ => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
                };
            }
            continue;
        }
        let blocks = unit[shape.header_lines..].chunks_exact(shape.block_lines);
        for (block, out) in blocks.zip(out.chunks_exact_mut(SUB_BLOCK)) {
            let last = &block[shape.block_lines - 1].0;
            let half = |line: &[u8; 64]| [line[2 * lane], line[2 * lane + 1]];
            let (header, scales) = match shape.header_lines {
                0 => ([half(last), [0; 2]], [0; 2]),
                lines => ([half(&unit[0].0), half(&unit[lines - 1].0)], [last[lane], last[PANEL + lane]]),
            };
            let mut quants = [0; SUB_BLOCK];
            for (step, quants) in quants.chunks_exact_mut(4).enumerate() {
                quants.copy_from_slice(&unpack_step(weight_type, block, lane, step).to_le_bytes());
            }
            dequantise_sub_block(weight_type, header, &SubBlock { quants, scales }, out);
        }
    }
}
