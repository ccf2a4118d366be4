//! Linear layers: `out = x * weight^T + bias`, with weights in any format, for any number of rows.
//!
//! Three ways, by the number of rows. Up to 16, every weight is read once for all of them (`linear.cu`). Above, the
//! driver's own library multiplies where it is installed, and quantised weights are made bf16 before. Without it, or
//! where its sums are not wanted, products are made of tiles (`linear_tile.cu`).
//!
//! Our own kernels take a sum in one order, whatever the number of rows (`linear_step.cuh`), so that a row has the same
//! bits in any company. The library takes the order it finds fastest for a shape.

use half::bf16;

use super::buffer::Buffer;
use super::convert::dequantise;
use super::count::count;
use super::driver::{Argument, Gpu, Launch, MatrixProduct};
use super::error::GpuError;
use super::matrix::{DeviceMatrix, Scales, WeightFormat};

/// Rows up to which every weight is read once, by kernels that have no tiles.
const FEW_ROWS: usize = 16;
/// Rows of x in a tile, and outputs of a warp.
const TILE_ROWS: usize = 64;
const WARP_OUTPUTS: usize = 16;
/// Values along a row in a tile.
const TILE_SPAN: usize = 128;
/// Threads of a block for few rows, and the rings that its lanes keep their weights in.
const FEW_ROWS_THREADS: usize = 256;
const RING_BYTES: usize = 64 << 10;
/// The library reads eight values of x at a time.
const LIBRARY_ALIGNMENT: usize = 8;
const BIAS_THREADS: usize = 256;
/// What a grid may have in its second dimension.
const GRID_ROWS_MAX: usize = 65_535;

/// In which order the terms of a sum are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reductions {
    /// The fastest for the number of rows.
    Fastest,
    /// One order for every number of rows: the same row gives the same bits in any batch.
    Invariant,
}

/// Size of a matrix and how it is stored: what [`LinearScratch`] has to know before the matrix is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixSize {
    pub format: WeightFormat,
    pub out_features: usize,
    pub in_features: usize,
}

/// How products are made on a device, and the memory they need besides their operands: one for all layers.
#[derive(Debug)]
pub struct LinearScratch {
    gpu: Gpu,
    reductions: Reductions,
    /// A quantised matrix as bf16, for the library.
    dequantised: Buffer<bf16>,
}

impl LinearScratch {
    /// Memory for matrices of these sizes. One that is larger than all of them can still be multiplied, never by the
    /// library: leave out what many rows seldom meet, such as the logits.
    pub fn new(
        gpu: &Gpu,
        reductions: Reductions,
        matrices: impl IntoIterator<Item = MatrixSize>,
    ) -> Result<Self, GpuError> {
        let dequantised = gpu.uninitialised(values_needed(gpu, reductions, matrices))?;
        Ok(Self { gpu: gpu.clone(), reductions, dequantised })
    }

    /// Device memory that [`LinearScratch::new`] takes.
    #[must_use]
    pub fn bytes_needed(gpu: &Gpu, reductions: Reductions, matrices: impl IntoIterator<Item = MatrixSize>) -> u64 {
        (values_needed(gpu, reductions, matrices) as u64).saturating_mul(size_of::<bf16>() as u64)
    }

    #[must_use]
    pub fn reductions(&self) -> Reductions {
        self.reductions
    }

    fn way(&self, matrix: &DeviceMatrix, rows: usize) -> Way {
        if rows <= FEW_ROWS {
            return Way::FewRows;
        }
        // Unpacking a matrix moves several times its bytes, which one row of tiles does not.
        let (rows_from, fits) = match matrix.format {
            WeightFormat::Bf16 => (FEW_ROWS + 1, true),
            WeightFormat::Fp8 | WeightFormat::Int4 => {
                (TILE_ROWS + 1, matrix.out_features * matrix.in_features <= self.dequantised.len())
            }
        };
        let is_wanted = self.reductions == Reductions::Fastest && rows >= rows_from;
        if is_wanted && fits && matrix.in_features.is_multiple_of(LIBRARY_ALIGNMENT) && has_library(&self.gpu) {
            return Way::Library;
        }
        Way::Tiles { warps: warps_of(matrix.out_features, rows, self.gpu.info().multiprocessors as usize) }
    }
}

/// How a product is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    FewRows,
    Library,
    /// With blocks of so many warps.
    Tiles {
        warps: usize,
    },
}

fn has_library(gpu: &Gpu) -> bool {
    gpu.driver.has_matrix_product()
}

/// Values of the largest quantised matrix, saturating.
fn values_needed(gpu: &Gpu, reductions: Reductions, matrices: impl IntoIterator<Item = MatrixSize>) -> usize {
    if reductions == Reductions::Invariant || !has_library(gpu) {
        return 0;
    }
    let quantised = matrices.into_iter().filter(|matrix| matrix.format != WeightFormat::Bf16);
    quantised.map(|matrix| matrix.out_features.saturating_mul(matrix.in_features)).max().unwrap_or(0)
}

/// Warps of a block of tiles: as many as leave two blocks for each multiprocessor, because the more outputs a block has
/// the less often x is read.
fn warps_of(out_features: usize, rows: usize, multiprocessors: usize) -> usize {
    let row_tiles = rows.div_ceil(TILE_ROWS);
    let blocks = |warps: &usize| out_features.div_ceil(WARP_OUTPUTS * warps) * row_tiles;
    [8, 4].into_iter().find(|warps| blocks(warps) >= 2 * multiprocessors).unwrap_or(2)
}

/// `out[rows, out_features] = x[rows, in_features] * matrix^T + bias`.
///
/// x is bf16, sums and `out` are f32. Buffers may be longer than their rows. A value of x that is not a number stays in
/// its row. Asynchronous; may be recorded in a graph.
///
/// Panics if a buffer is too short.
pub fn linear(
    scratch: &mut LinearScratch,
    matrix: &DeviceMatrix,
    x: &Buffer<bf16>,
    rows: usize,
    out: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    let DeviceMatrix { out_features, in_features, .. } = *matrix;
    assert!(
        x.len() >= rows * in_features && out.len() >= rows * out_features,
        "{rows} rows of {in_features} to {out_features} values, x has {}, out {}",
        x.len(),
        out.len()
    );
    if rows * out_features == 0 {
        return Ok(());
    }
    let product = Product { gpu: &scratch.gpu, matrix, x: x.pointer(), rows, out: out.pointer() };
    match scratch.way(matrix, rows) {
        Way::FewRows => product.few_rows(),
        Way::Tiles { warps } => product.tiles(warps),
        Way::Library => product.library(&mut scratch.dequantised),
    }
}

/// A product whose buffers were checked.
struct Product<'a> {
    gpu: &'a Gpu,
    matrix: &'a DeviceMatrix,
    x: u64,
    rows: usize,
    out: u64,
}

impl Product<'_> {
    /// The arguments of our own kernels.
    fn arguments(&self) -> [Argument; 8] {
        let DeviceMatrix { rows: weights, scales, bias, .. } = self.matrix;
        let scales = match scales {
            Scales::None => 0,
            Scales::PerRow(scales) => scales.pointer(),
            Scales::PerGroup(scales) => scales.pointer(),
        };
        let bias = bias.as_ref().map_or(0, Buffer::pointer);
        let [weights, scales, bias, x, out] =
            [weights.pointer(), scales, bias, self.x, self.out].map(Argument::Pointer);
        let [rows, in_features, out_features] =
            [self.rows, self.matrix.in_features, self.matrix.out_features].map(|value| Argument::U32(count(value)));
        [weights, scales, bias, x, out, rows, in_features, out_features]
    }

    fn few_rows(&self) -> Result<(), GpuError> {
        let kernel = match (self.matrix.format, self.rows <= 8) {
            (WeightFormat::Bf16, true) => "linear_bf16_rows8",
            (WeightFormat::Bf16, false) => "linear_bf16_rows16",
            (WeightFormat::Fp8, true) => "linear_fp8_rows8",
            (WeightFormat::Fp8, false) => "linear_fp8_rows16",
            (WeightFormat::Int4, true) => "linear_int4_rows8",
            (WeightFormat::Int4, false) => "linear_int4_rows16",
        };
        let launch = Launch {
            grid: [count(self.matrix.out_features.div_ceil(WARP_OUTPUTS)), 1, 1],
            block: [count(FEW_ROWS_THREADS), 1, 1],
            shared_bytes: count(RING_BYTES),
        };
        // SAFETY: the arguments are those of the kernel; a matrix has the sizes it says, x and out were checked.
        unsafe { self.gpu.launch(kernel, launch, &self.arguments()) }
    }

    fn tiles(&self, warps: usize) -> Result<(), GpuError> {
        let format = self.matrix.format;
        let kernel = match format {
            WeightFormat::Bf16 => "linear_tile_bf16",
            WeightFormat::Fp8 => "linear_tile_fp8",
            WeightFormat::Int4 => "linear_tile_int4",
        };
        let outputs = warps * WARP_OUTPUTS;
        let half_bytes = outputs * format.row_bytes(TILE_SPAN) + TILE_ROWS * TILE_SPAN * size_of::<bf16>();
        let launch = Launch {
            grid: [count(self.matrix.out_features.div_ceil(outputs)), count(self.rows.div_ceil(TILE_ROWS)), 1],
            block: [count(32 * warps), 1, 1],
            shared_bytes: count(2 * half_bytes),
        };
        // SAFETY: the arguments are those of the kernel; a matrix has the sizes it says, x and out were checked.
        unsafe { self.gpu.launch(kernel, launch, &self.arguments()) }
    }

    fn library(&self, dequantised: &mut Buffer<bf16>) -> Result<(), GpuError> {
        let DeviceMatrix { format, out_features, in_features, .. } = *self.matrix;
        let weight = match format {
            WeightFormat::Bf16 => self.matrix.rows.pointer(),
            WeightFormat::Fp8 | WeightFormat::Int4 => {
                dequantise(self.gpu, self.matrix, 0..out_features, dequantised)?;
                dequantised.pointer()
            }
        };
        if let Some(bias) = &self.matrix.bias {
            self.fill_bias(bias)?;
        }
        let product = MatrixProduct {
            rows: self.rows,
            in_features,
            out_features,
            // Rows of a multiple of eight values have no padding.
            weight_stride: in_features,
            weight,
            x: self.x,
            out: self.out,
            is_added: self.matrix.bias.is_some(),
        };
        // SAFETY: the pointers are matrices of these sizes: `way` chose only what fits the scratch and has no padding.
        unsafe { self.gpu.driver.multiply(&product) }
    }

    /// Every row of `out` becomes the bias.
    fn fill_bias(&self, bias: &Buffer<f32>) -> Result<(), GpuError> {
        let out_features = self.matrix.out_features;
        let launch = Launch {
            grid: [count(out_features.div_ceil(BIAS_THREADS)), count(self.rows.min(GRID_ROWS_MAX)), 1],
            block: [count(BIAS_THREADS), 1, 1],
            shared_bytes: 0,
        };
        let arguments = [
            bias.argument(),
            Argument::Pointer(self.out),
            Argument::U32(count(self.rows)),
            Argument::U32(count(out_features)),
        ];
        // SAFETY: the arguments are those of the kernel; bias has `out_features` values, and out was checked.
        unsafe { self.gpu.launch("linear_fill_bias", launch, &arguments) }
    }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests;
