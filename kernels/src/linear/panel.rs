//! The loops around the inner kernels: which rows meet which part of a panel, and when.
//!
//! Up to as many rows as the registers hold, a panel is read once from end to end, straight from its packed form. With
//! more rows the inner dimension is cut into chunks that stay in the first-level cache: a chunk is expanded once, met
//! by all rows in tiles, and the sums wait in a buffer for the next chunk. Storing a float does not change it, so both
//! ways give the same bits.

use crate::disjoint::Disjoint;
use crate::matrix::Matrix;
use crate::pack::PANEL;
use crate::simd::{Kernel, LANES, Line, Simd};
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

/// Some panels of a matrix, multiplied with all rows.
pub(super) struct Panels<'a, W: Weights> {
    pub(super) matrix: &'a Matrix,
    pub(super) panels: Range<usize>,
    pub(super) x: &'a [W::X],
    pub(super) rows: usize,
    pub(super) target: Target<'a>,
}

type Sums = [[f32; LANES]; 2];

impl<W: Weights> Kernel for Panels<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.rows <= W::rows_max::<S>() { self.multiply_few(simd) } else { self.multiply_many(simd) }
    }
}

impl<W: Weights> Panels<'_, W> {
    #[inline(always)]
    fn activations(&self) -> Activations<'_, W::X> {
        Activations { x: self.x, per_row: self.x.len() / self.rows }
    }

    #[inline(always)]
    fn multiply_few<S: Simd>(&self, simd: S) {
        for panel in self.panels.clone() {
            let mut sums = [[[0.0; LANES]; 2]; ROWS_PER_TILE_MAX];
            let sums = &mut sums[..self.rows];
            tiles::<S, W>(simd, self.matrix.panel(panel), self.activations(), sums);
            self.finish(panel, 0, sums);
        }
    }

    /// As many rows at a time as can wait, so that a task's weights and these activations stay in the second cache.
    #[inline(always)]
    fn multiply_many<S: Simd>(&self, simd: S) {
        let mut waiting = [[[0.0; LANES]; 2]; ROWS_WAITING];
        let mut expanded = [Line::ZERO; CHUNK_LINES_MAX];
        for first_row in (0..self.rows).step_by(ROWS_WAITING) {
            let sums = &mut waiting[..ROWS_WAITING.min(self.rows - first_row)];
            for panel in self.panels.clone() {
                sums.fill([[0.0; LANES]; 2]);
                for (chunk, lines) in self.matrix.panel(panel).chunks(W::CHUNK_LINES).enumerate() {
                    let x = self.activations().from(first_row, chunk * W::CHUNK_X);
                    if const { W::IS_EXPANDED } {
                        let length = W::expand(simd, lines, &mut expanded);
                        tiles::<S, W::Expanded>(simd, &expanded[..length], x, sums);
                    } else {
                        tiles::<S, W>(simd, lines, x, sums);
                    }
                }
                self.finish(panel, first_row, sums);
            }
        }
    }

    /// Writes the sums of rows from `first_row` on, each with its bias.
    #[inline(always)]
    fn finish(&self, panel: usize, first_row: usize, sums: &[Sums]) {
        let (first, features) = (panel * PANEL, self.matrix.out_features());
        let outputs = PANEL.min(features - first);
        for (row, sums) in sums.iter().enumerate() {
            // SAFETY: a task owns its panels in all rows, and panels do not overlap.
            let out = unsafe { self.target.out.part((first_row + row) * features + first, outputs) };
            let sums = &sums.as_flattened()[..outputs];
            match self.target.bias {
                None => out.copy_from_slice(sums),
                Some(bias) => {
                    for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[first..]) {
                        *out = sum + bias;
                    }
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
        let mut rows: [&[X]; R] = [&[]; R];
        for (index, row) in rows.iter_mut().enumerate() {
            *row = &self.x[(first_row + index) * self.per_row..];
        }
        rows
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
            1 => simd.call(Tile::<W, 1>::new(lines, x, row, sums)),
            2 if const { S::ROWS_MAX >= 2 } => simd.call(Tile::<W, 2>::new(lines, x, row, sums)),
            3 if const { S::ROWS_MAX >= 3 } => simd.call(Tile::<W, 3>::new(lines, x, row, sums)),
            4 if const { S::ROWS_MAX >= 4 } => simd.call(Tile::<W, 4>::new(lines, x, row, sums)),
            5 if const { S::ROWS_MAX >= 5 } => simd.call(Tile::<W, 5>::new(lines, x, row, sums)),
            6 if const { S::ROWS_MAX >= 6 } => simd.call(Tile::<W, 6>::new(lines, x, row, sums)),
            _ => unreachable!("tiles have 1 to {ROWS_PER_TILE_MAX} rows"),
        }
        row += size;
    }
}

/// `R` rows that meet some lines together.
struct Tile<'a, W: Weights, const R: usize> {
    lines: &'a [Line],
    x: [&'a [W::X]; R],
    sums: &'a mut [Sums; R],
}

impl<'a, W: Weights, const R: usize> Tile<'a, W, R> {
    #[inline(always)]
    fn new(lines: &'a [Line], x: Activations<'a, W::X>, first_row: usize, sums: &'a mut [Sums]) -> Self {
        let sums = sums.try_into().expect("one sum per row of the tile");
        Tile { lines, x: x.rows(first_row), sums }
    }
}

impl<W: Weights, const R: usize> Kernel for Tile<'_, W, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut lanes = [[simd.splat(0.0); 2]; R];
        for (lanes, sums) in lanes.iter_mut().zip(&*self.sums) {
            *lanes = [simd.load(&sums[0]), simd.load(&sums[1])];
        }
        W::tile(simd, self.lines, self.x, &mut lanes);
        for (sums, lanes) in self.sums.iter_mut().zip(lanes) {
            simd.store(lanes[0], &mut sums[0]);
            simd.store(lanes[1], &mut sums[1]);
        }
    }
}
