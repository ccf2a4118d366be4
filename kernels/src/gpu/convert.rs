//! Weights as a checkpoint has them to weights as kernels read them, and quantised weights back to bf16.

use std::ops::Range;

use half::bf16;

use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;
use super::matrix::{DeviceMatrix, INT4_GROUP, Scales};

const THREADS: usize = 256;
/// A warp has one group.
const BLOCK_GROUPS: usize = THREADS / 32;
/// Floats of shared memory for the largest value of a block.
const MAXIMUM_BYTES: u32 = 32 * size_of::<f32>() as u32;
/// Values that [`dequantise`] writes at once, and so what its rows are rounded up to.
const OCTET: usize = 8;

/// How a checkpoint stores floats, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    F32,
    F16,
    Bf16,
}

impl SourceType {
    #[must_use]
    pub fn value_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Rows as they lie in a checkpoint, without padding: the in_features of the matrix they are for.
#[derive(Debug, Clone, Copy)]
pub struct SourceRows<'a> {
    pub values: &'a Buffer<u8>,
    /// Byte at which the first row begins, a multiple of the size of a value.
    pub start: usize,
    pub source_type: SourceType,
    pub rows: usize,
}

/// Converts rows into `matrix[first_row..]`, in whatever format it has.
///
/// fp8: the largest magnitude of a row becomes 448 times its scale; a row too small for a normal scale becomes zero.
/// int4: per group the better of two scales, one that takes the value of largest magnitude to -8 and one that takes it
/// to 7. Panics if the source is too short, the matrix has fewer rows, or `start` is odd.
pub fn convert_rows(
    gpu: &Gpu,
    source: SourceRows<'_>,
    matrix: &mut DeviceMatrix,
    first_row: usize,
) -> Result<(), GpuError> {
    let SourceRows { values, start, source_type, rows } = source;
    let in_features = matrix.in_features();
    assert!(start.is_multiple_of(source_type.value_bytes()), "rows of {source_type:?} begin at byte {start}");
    let from = values.range(start, rows * in_features * source_type.value_bytes());
    let row_bytes = matrix.format().row_bytes(in_features);
    let to = matrix.rows.range(first_row * row_bytes, rows * row_bytes);
    if rows * in_features == 0 {
        return Ok(());
    }
    let groups = in_features.div_ceil(INT4_GROUP);
    let (kernels, scales, grid_y) = match &matrix.scales {
        Scales::None => (["convert_to_bf16_f32", "convert_to_bf16_f16", "convert_to_bf16_bf16"], None, 1),
        Scales::PerRow(scales) => {
            (["quantise_fp8_f32", "quantise_fp8_f16", "quantise_fp8_bf16"], Some(scales.range(first_row, rows)), 1)
        }
        Scales::PerGroup(scales) => (
            ["quantise_int4_f32", "quantise_int4_f16", "quantise_int4_bf16"],
            Some(scales.range(first_row * groups, rows * groups)),
            groups.div_ceil(BLOCK_GROUPS),
        ),
    };
    let kernel = match source_type {
        SourceType::F32 => kernels[0],
        SourceType::F16 => kernels[1],
        SourceType::Bf16 => kernels[2],
    };
    let mut arguments = vec![Argument::Pointer(from), Argument::Pointer(to)];
    arguments.extend(scales.map(Argument::Pointer));
    arguments.extend([in_features, row_bytes].map(|value| Argument::U32(count(value))));
    let grid = [count(rows), count(grid_y), 1];
    let launch = Launch { grid, block: [count(THREADS), 1, 1], shared_bytes: MAXIMUM_BYTES };
    // SAFETY: the arguments are those of the kernel of this format; source, rows and scales were checked by `range`.
    unsafe { gpu.launch(kernel, launch, &arguments) }
}

/// Rows of a quantised matrix as bf16: `out: [rows, in_features rounded up to 8]`, what pads a row is zero.
///
/// For the matrix product of many rows. Panics if the matrix is not quantised or has fewer rows, or if `out` is too
/// short.
pub fn dequantise(
    gpu: &Gpu,
    matrix: &DeviceMatrix,
    rows: Range<usize>,
    out: &mut Buffer<bf16>,
) -> Result<(), GpuError> {
    let in_features = matrix.in_features();
    let (octets, num_rows) = (in_features.div_ceil(OCTET), rows.len());
    let row_bytes = matrix.format().row_bytes(in_features);
    let from = matrix.rows.range(rows.start * row_bytes, num_rows * row_bytes);
    let to = out.range(0, num_rows * octets * OCTET);
    let groups = in_features.div_ceil(INT4_GROUP);
    let (kernel, scales, numbers) = match &matrix.scales {
        Scales::None => panic!("bf16 needs no dequantising"),
        Scales::PerRow(scales) => {
            ("dequantise_fp8", scales.range(rows.start, num_rows), &[row_bytes, octets, groups][..2])
        }
        Scales::PerGroup(scales) => {
            ("dequantise_int4", scales.range(rows.start * groups, num_rows * groups), &[row_bytes, octets, groups][..])
        }
    };
    if num_rows * in_features == 0 {
        return Ok(());
    }
    let mut arguments = [from, scales, to].map(Argument::Pointer).to_vec();
    arguments.extend(numbers.iter().map(|value| Argument::U32(count(*value))));
    let launch = Launch { grid: [count(num_rows), 1, 1], block: [count(THREADS), 1, 1], shared_bytes: 0 };
    // SAFETY: the arguments are those of the kernel of this format; rows, scales and `out` were checked by `range`.
    unsafe { gpu.launch(kernel, launch, &arguments) }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests;
