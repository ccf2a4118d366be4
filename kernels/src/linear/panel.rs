//! The loops around the inner kernels: which rows meet which part of a panel, and when.
//!
//! Up to as many rows as the registers hold, a panel is read once from end to end, straight from its packed form. With
//! more rows the inner dimension is cut into chunks that stay in the first-level cache: a chunk is expanded once, met
//! by all rows in tiles, and the sums wait in a buffer for the next chunk. Storing a float does not change it, so both
//! ways give the same bits.

use crate::disjoint::Disjoint;
use crate::matrix::Matrix;
use crate::pack::PANEL;
use crate::simd::{LANES, Line, Simd};
use std::ops::Range;

/// Rows whose sums wait at the same time: 128 x 32 floats, 16 KiB.
const ROWS_WAITING: usize = 128;
/// Lines of an expanded chunk at most: 16 KiB.
const CHUNK_LINES_MAX: usize = 256;

/// How one storage type is multiplied.
pub(super) trait Weights {
    /// Activations that meet one step of the inner dimension.
    type X: Copy;
    /// The form that many rows meet: the same numbers with less to unpack.
    type Expanded: Weights<X = Self::X>;
    /// Lines of packed weights and values of `X` in one chunk.
    const CHUNK_LINES: usize;
    const CHUNK_X: usize;
    /// Whether expanding pays before many rows.
    const IS_EXPANDED: bool;

    fn rows_max<S: Simd>() -> usize;

    /// Writes the expanded form of `lines` and returns how many lines it takes.
    fn expand<S: Simd>(simd: S, lines: &[Line], out: &mut [Line]) -> usize;

    /// Adds the products of `lines` with each row of `x` to `sums`, in order.
    fn tile<S: Simd, const R: usize>(simd: S, lines: &[Line], x: [&[Self::X]; R], sums: &mut [[S::F; 2]; R]);
}

/// Where finished sums go.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) out: &'a Disjoint<'a, f32>,
    pub(super) bias: Option<&'a [f32]>,
}

/// Panels of a matrix that one task multiplies with all rows.
pub(super) struct Panels<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) panels: Range<usize>,
    pub(super) rows: usize,
    pub(super) target: Target<'a>,
}

type Sums = [[f32; LANES]; 2];

impl Panels<'_> {
    #[inline(always)]
    pub(super) fn multiply<S: Simd, W: Weights>(&self, simd: S, x: &[W::X]) {
        let x = Activations { x, per_row: x.len() / self.rows };
        for panel in self.panels.clone() {
            if self.rows <= W::rows_max::<S>() {
                let mut sums = [[[0.0; LANES]; 2]; ROWS_PER_TILE_MAX];
                tiles::<S, W>(simd, self.matrix.panel(panel), x, &mut sums[..self.rows]);
                for (row, sums) in sums[..self.rows].iter().enumerate() {
                    self.finish(panel, row, sums);
                }
            } else {
                self.multiply_chunks::<S, W>(simd, panel, x);
            }
        }
    }

    #[inline(always)]
    fn multiply_chunks<S: Simd, W: Weights>(&self, simd: S, panel: usize, x: Activations<W::X>) {
        let mut waiting = [[[0.0; LANES]; 2]; ROWS_WAITING];
        let mut expanded = [Line::ZERO; CHUNK_LINES_MAX];
        for first_row in (0..self.rows).step_by(ROWS_WAITING) {
            let rows = ROWS_WAITING.min(self.rows - first_row);
            let sums = &mut waiting[..rows];
            sums.fill([[0.0; LANES]; 2]);
            for (chunk, lines) in self.matrix.panel(panel).chunks(W::CHUNK_LINES).enumerate() {
                let x = x.from(first_row, chunk * W::CHUNK_X);
                if W::IS_EXPANDED {
                    let length = W::expand(simd, lines, &mut expanded);
                    tiles::<S, W::Expanded>(simd, &expanded[..length], x, sums);
                } else {
                    tiles::<S, W>(simd, lines, x, sums);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                self.finish(panel, first_row + row, sums);
            }
        }
    }

    #[inline(always)]
    fn finish(&self, panel: usize, row: usize, sums: &Sums) {
        let (first, features) = (panel * PANEL, self.matrix.out_features());
        let outputs = PANEL.min(features - first);
        // SAFETY: a task owns its panels in all rows, and panels do not overlap.
        let out = unsafe { self.target.out.part(row * features + first, outputs) };
        let sums = sums.as_flattened();
        match self.target.bias {
            None => out.copy_from_slice(&sums[..outputs]),
            Some(bias) => {
                for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[first..]) {
                    *out = sum + bias;
                }
            }
        }
    }
}

/// Activations `[rows, per_row]`, possibly entered at a later row or column.
#[derive(Clone, Copy)]
struct Activations<'a, X> {
    x: &'a [X],
    per_row: usize,
}

impl<'a, X> Activations<'a, X> {
    #[inline(always)]
    fn from(self, row: usize, column: usize) -> Self {
        Activations { x: &self.x[row * self.per_row + column..], ..self }
    }

    #[inline(always)]
    fn rows<const R: usize>(self, first_row: usize) -> [&'a [X]; R] {
        std::array::from_fn(|row| &self.x[(first_row + row) * self.per_row..])
    }
}

/// The largest of all tiles; each instruction set has its own largest below.
const ROWS_PER_TILE_MAX: usize = 6;

/// Meets all rows of `sums` with `lines`, in tiles of about equal size.
#[inline(always)]
fn tiles<S: Simd, W: Weights>(simd: S, lines: &[Line], x: Activations<W::X>, sums: &mut [Sums]) {
    let num_tiles = sums.len().div_ceil(W::rows_max::<S>());
    let (size, larger) = (sums.len() / num_tiles, sums.len() % num_tiles);
    let mut row = 0;
    for index in 0..num_tiles {
        let size = size + usize::from(index < larger);
        let sums = &mut sums[row..row + size];
        match size {
            1 => tile::<S, W, 1>(simd, lines, x.rows(row), sums),
            2 => tile::<S, W, 2>(simd, lines, x.rows(row), sums),
            3 if S::ROWS_MAX >= 3 => tile::<S, W, 3>(simd, lines, x.rows(row), sums),
            4 if S::ROWS_MAX >= 4 => tile::<S, W, 4>(simd, lines, x.rows(row), sums),
            5 if S::ROWS_MAX >= 5 => tile::<S, W, 5>(simd, lines, x.rows(row), sums),
            6 if S::ROWS_MAX >= 6 => tile::<S, W, 6>(simd, lines, x.rows(row), sums),
            _ => unreachable!("tiles have 1 to {ROWS_PER_TILE_MAX} rows"),
        }
        row += size;
    }
}

#[inline(always)]
fn tile<S: Simd, W: Weights, const R: usize>(simd: S, lines: &[Line], x: [&[W::X]; R], sums: &mut [Sums]) {
    let sums: &mut [Sums; R] = sums.try_into().expect("one sum per row of the tile");
    let mut lanes: [[S::F; 2]; R] = std::array::from_fn(|row| [0, 1].map(|group| simd.load(&sums[row][group])));
    W::tile(simd, lines, x, &mut lanes);
    for (sums, lanes) in sums.iter_mut().zip(lanes) {
        simd.store(lanes[0], &mut sums[0]);
        simd.store(lanes[1], &mut sums[1]);
    }
}
