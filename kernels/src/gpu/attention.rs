//! Causal attention over paged keys and values, read in place, on the device.
//!
//! Two operations for the two shapes of a step. [`attend_rows`] is for rows on their own: a long context is divided
//! among many blocks of threads, and what a row yields depends on nothing but the row, so it serves decoding and, where
//! results may not depend on company, every row. [`attend_tiles`] is for chunks of a prefill: sixteen rows share what
//! they read. The two sum in different orders and agree up to rounding.
//!
//! Scores and sums are f32 from bf16 factors; weights are rounded to bf16. Kernels: `cuda/attention_rows.cu`,
//! `cuda/attention_tiles.cu`, and what they share in `cuda/attention.cuh`.

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests;

use half::bf16;

use super::BLOCK_TOKENS;
use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;
use super::kv_cache::DeviceKvCache;

/// Rows of a tile of [`attend_tiles`].
pub const TILE_ROWS: usize = 16;

/// The largest head that kernels are made for.
pub const HEAD_DIM_MAX: usize = 512;

/// Positions of a split, as long as a row has no more than [`SPLITS_MAX`] of them.
const SPLIT_TOKENS: usize = 128;
/// Splits of a row: one for each lane of a warp.
const SPLITS_MAX: usize = 32;
/// Query heads that a block of threads of [`attend_rows`] computes at once.
const ROW_HEADS: usize = 16;
/// Query heads that a block of threads of [`attend_tiles`] computes at once, a warp each.
const TILE_HEADS: usize = 8;
/// Threads of a block of [`attend_rows`].
const ROW_THREADS: usize = 128;

/// The numbers of an attention layer.
#[derive(Debug)]
pub struct DeviceAttention {
    pub q_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Multiplies every score, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// A query sees itself and the `window - 1` positions before it; all positions when `None`.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// `[q_heads]`: a learned score per head that takes its share of the weights and has no value.
    pub sinks: Option<Buffer<f32>>,
}

/// What is attended to, and by what.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInput<'a> {
    pub attention: &'a DeviceAttention,
    pub cache: &'a DeviceKvCache,
    pub layer: usize,
    /// `[rows, q_heads, head_dim]`
    pub queries: &'a Buffer<bf16>,
}

/// What a step says of its rows, on the device.
#[derive(Debug, Clone, Copy)]
pub struct RowTables<'a> {
    /// `[rows]`: position of a row in its sequence.
    pub positions: &'a Buffer<u32>,
    /// `[rows]`: where the row's sequence begins in the block tables; with [`super::PAD`] it sees nothing and yields
    /// zeros.
    pub table_starts: &'a Buffer<u32>,
    /// The tables of all sequences one after the other: blocks from position 0 on. A number that is no block of the
    /// cache stands for sixteen positions that nobody sees; so does what lies behind the end.
    pub block_tables: &'a Buffer<u32>,
}

/// Rows for [`attend_rows`].
#[derive(Debug, Clone, Copy)]
pub struct RowList<'a> {
    /// Which rows; what is no row ([`super::PAD`]) is skipped.
    pub list: &'a Buffer<u32>,
    /// Entries of the list that count.
    pub count: usize,
    /// Blocks of threads that share a row, fixed for a graph: as many as [`splits_for`] says of the longest context.
    /// Changes no result.
    pub splits: usize,
}

/// Tiles for [`attend_tiles`].
#[derive(Debug, Clone, Copy)]
pub struct TileList<'a> {
    /// `[tiles, 4]` as [`Tiles`] makes them; a tile that begins at [`super::PAD`] is skipped.
    pub list: &'a Buffer<u32>,
    /// Tiles of the list that count.
    pub count: usize,
}

/// Consecutive positions of one sequence, cut into tiles: entries of the list of [`attend_tiles`].
#[derive(Debug, Clone)]
pub struct Tiles {
    /// Row of the next position in queries and outputs.
    pub first_row: u32,
    /// Rows that are left.
    pub rows: u32,
    /// Next position.
    pub start: u32,
    /// Where the sequence begins in the block tables.
    pub table_start: u32,
}

impl Iterator for Tiles {
    type Item = [u32; 4];

    fn next(&mut self) -> Option<[u32; 4]> {
        let rows = self.rows.min(TILE_ROWS as u32);
        let tile = (rows > 0).then_some([self.first_row, rows, self.start, self.table_start]);
        (self.first_row, self.rows, self.start) = (self.first_row + rows, self.rows - rows, self.start + rows);
        tile
    }
}

/// Room for the unfinished outputs of [`attend_rows`], kept from call to call.
#[derive(Debug)]
pub struct AttentionScratch {
    /// `[rows_max, q_heads, splits_max, head_dim]`
    sums: Buffer<f32>,
    /// `[rows_max, q_heads, splits_max]`
    peaks: Buffer<f32>,
    /// `[rows_max, q_heads, splits_max]`
    totals: Buffer<f32>,
    /// `[rows_max, groups of heads]`: how many splits have arrived. Zero between launches.
    arrived: Buffer<u32>,
    splits_max: usize,
}

impl AttentionScratch {
    /// Room for lists of `rows_max` rows with contexts of `splits_max = splits_for(context_max)` splits; longer ones
    /// are computed in longer splits. Not too large for an address space.
    pub fn new(
        gpu: &Gpu,
        rows_max: usize,
        q_heads: usize,
        head_dim: usize,
        splits_max: usize,
    ) -> Result<Self, GpuError> {
        assert!((1..=SPLITS_MAX).contains(&splits_max), "{splits_max} splits of at most {SPLITS_MAX}");
        let splits = rows_max * q_heads * splits_max;
        Ok(Self {
            sums: gpu.uninitialised(splits * head_dim)?,
            peaks: gpu.uninitialised(splits)?,
            totals: gpu.uninitialised(splits)?,
            arrived: gpu.zeroed(rows_max * q_heads)?,
            splits_max,
        })
    }

    /// Device memory that [`AttentionScratch::new`] takes; saturates.
    #[must_use]
    pub fn bytes_needed(rows_max: usize, q_heads: usize, head_dim: usize, splits_max: usize) -> u64 {
        let heads = (rows_max as u64).saturating_mul(q_heads as u64);
        let floats = (splits_max as u64).saturating_mul(head_dim as u64 + 2);
        heads.saturating_mul(floats.saturating_add(1)).saturating_mul(size_of::<f32>() as u64)
    }
}

/// Into how many splits a row with a context of up to so many positions is divided at most.
#[must_use]
pub fn splits_for(context_tokens: usize) -> usize {
    // A window may begin in the middle of a block.
    (context_tokens + BLOCK_TOKENS - 1).div_ceil(SPLIT_TOKENS).clamp(1, SPLITS_MAX)
}

/// Attention of every row in the list to the positions up to its own, whose keys and values are in the cache.
///
/// `out: [rows, q_heads * head_dim]`; rows that are not in the list are left as they are. Rows are those that all
/// buffers have. Panics if a size disagrees with the cache or the scratch memory.
pub fn attend_rows(
    input: &AttentionInput<'_>,
    tables: &RowTables<'_>,
    rows: &RowList<'_>,
    scratch: &mut AttentionScratch,
    out: &mut Buffer<bf16>,
) -> Result<(), GpuError> {
    let RowTables { positions, table_starts, block_tables } = *tables;
    let RowList { list, count: num_listed, splits } = *rows;
    let num_rows = input.check(block_tables, out).min(positions.len()).min(table_starts.len());
    assert!(num_listed <= list.len(), "{num_listed} rows of a list of {}", list.len());
    assert!((1..=SPLITS_MAX).contains(&splits), "{splits} splits of at most {SPLITS_MAX}");
    if num_listed == 0 {
        return Ok(());
    }
    let attention = input.attention;
    let heads = num_listed * attention.q_heads * scratch.splits_max;
    assert!(
        scratch.peaks.len() >= heads
            && scratch.sums.len() >= heads * attention.head_dim
            && scratch.arrived.len() >= num_listed * attention.q_heads,
        "scratch memory for {num_listed} rows of {} heads of {}",
        attention.q_heads,
        attention.head_dim
    );
    let parts = attention.group().div_ceil(ROW_HEADS);
    let floats = ROW_HEADS * attention.head_dim.next_multiple_of(64) + ROW_HEADS * SPLITS_MAX + 2 * 4 * ROW_HEADS;
    let launch = Launch {
        grid: [count(num_listed), count(splits), count(attention.kv_heads * parts)],
        block: [ROW_THREADS as u32, 1, 1],
        shared_bytes: (floats * size_of::<f32>()) as u32,
    };
    let mut arguments = input.pointers(block_tables, out).to_vec();
    arguments.extend([list.argument(), positions.argument(), table_starts.argument()]);
    arguments.extend([scratch.sums.argument(), scratch.peaks.argument(), scratch.totals.argument()]);
    arguments.push(scratch.arrived.argument());
    arguments.extend(input.scalars(block_tables, num_rows));
    arguments.push(Argument::U32(scratch.splits_max as u32));
    let kernel = match attention.variant() {
        Variant::Dims64 => "attend_rows_64",
        Variant::Dims128 => "attend_rows_128",
        Variant::Dims256 => "attend_rows_256",
        Variant::Dims512 => "attend_rows_512",
        Variant::Any64 => "attend_rows_any_64",
        Variant::Any512 => "attend_rows_any_512",
    };
    // SAFETY: `check` and the asserts above say that all buffers have the sizes that the kernel derives from the
    // scalars. What it reads from tables and lists it compares with these sizes before it follows it; rows of a list
    // are no larger than `num_rows`, blocks no larger than the cache.
    unsafe { out.gpu().launch(kernel, launch, &arguments) }
}

/// Causal attention of the rows of every tile to the positions up to their own, whose keys and values are in the cache.
///
/// `block_tables` as in [`RowTables`], `out: [rows, q_heads * head_dim]`; rows that are in no tile are left as they
/// are. A row is in one tile. Panics if a size disagrees with the cache.
pub fn attend_tiles(
    input: &AttentionInput<'_>,
    block_tables: &Buffer<u32>,
    tiles: &TileList<'_>,
    out: &mut Buffer<bf16>,
) -> Result<(), GpuError> {
    let num_rows = input.check(block_tables, out);
    let TileList { list, count: num_tiles } = *tiles;
    assert!(list.len() / 4 >= num_tiles, "{num_tiles} tiles of a list of {} numbers", list.len());
    if num_tiles == 0 {
        return Ok(());
    }
    let attention = input.attention;
    let parts = attention.group().div_ceil(TILE_HEADS);
    let warps = attention.group().div_ceil(parts);
    let launch = Launch {
        grid: [count(num_tiles), count(attention.kv_heads), count(parts)],
        block: [32 * warps as u32, 1, 1],
        // Two buffers of keys and values.
        shared_bytes: (2 * 2 * BLOCK_TOKENS * attention.head_dim * size_of::<bf16>()) as u32,
    };
    let mut arguments = input.pointers(block_tables, out).to_vec();
    arguments.push(list.argument());
    arguments.extend(input.scalars(block_tables, num_rows));
    let kernel = match attention.variant() {
        Variant::Dims64 => "attend_tiles_64",
        Variant::Dims128 => "attend_tiles_128",
        Variant::Dims256 => "attend_tiles_256",
        Variant::Dims512 => "attend_tiles_512",
        Variant::Any64 => "attend_tiles_any_64",
        Variant::Any512 => "attend_tiles_any_512",
    };
    // SAFETY: as in `attend_rows`.
    unsafe { out.gpu().launch(kernel, launch, &arguments) }
}

/// Kernels by the largest head they are for; `Any` reads one value at a time, for heads of no whole 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Dims64,
    Dims128,
    Dims256,
    Dims512,
    Any64,
    Any512,
}

impl DeviceAttention {
    /// Query heads of a head of keys.
    fn group(&self) -> usize {
        self.q_heads / self.kv_heads
    }

    fn variant(&self) -> Variant {
        match (self.head_dim.is_multiple_of(8), self.head_dim) {
            (true, ..=64) => Variant::Dims64,
            (true, ..=128) => Variant::Dims128,
            (true, ..=256) => Variant::Dims256,
            (true, _) => Variant::Dims512,
            (false, ..=64) => Variant::Any64,
            (false, _) => Variant::Any512,
        }
    }
}

impl AttentionInput<'_> {
    /// Panics if a size is wrong; returns the number of rows that have a query and an output.
    fn check(&self, block_tables: &Buffer<u32>, out: &Buffer<bf16>) -> usize {
        let DeviceAttention { q_heads, kv_heads, head_dim, window, soft_cap, ref sinks, .. } = *self.attention;
        assert!(kv_heads == self.cache.kv_heads() && head_dim == self.cache.head_dim(), "heads as in the cache");
        assert!(kv_heads > 0 && q_heads > 0 && q_heads.is_multiple_of(kv_heads), "whole groups of query heads");
        assert!((1..=HEAD_DIM_MAX).contains(&head_dim), "a head of {head_dim}, at most {HEAD_DIM_MAX}");
        assert!(window != Some(0), "a query sees itself");
        assert!(soft_cap.is_none_or(|cap| cap > 0.0), "a cap above zero");
        assert!(sinks.as_ref().is_none_or(|sinks| sinks.len() == q_heads), "a sink for every query head");
        assert!(block_tables.len() < 1 << 26, "positions are counted in 32 bits");
        self.queries.len().min(out.len()) / (q_heads * head_dim)
    }

    fn pointers(&self, block_tables: &Buffer<u32>, out: &Buffer<bf16>) -> [Argument; 5] {
        [
            self.queries.argument(),
            Argument::Pointer(self.cache.layer(self.layer)),
            block_tables.argument(),
            self.attention.sinks.as_ref().map_or(Argument::Pointer(0), Buffer::argument),
            out.argument(),
        ]
    }

    fn scalars(&self, block_tables: &Buffer<u32>, num_rows: usize) -> [Argument; 9] {
        let DeviceAttention { q_heads, kv_heads, head_dim, scale, window, soft_cap, .. } = *self.attention;
        [
            Argument::U32(count(num_rows)),
            Argument::U32(count(block_tables.len())),
            Argument::U32(count(self.cache.num_blocks())),
            Argument::U32(count(q_heads)),
            Argument::U32(count(kv_heads)),
            Argument::U32(count(head_dim)),
            // A window that is longer than any sequence is none.
            Argument::U32(window.and_then(|window| u32::try_from(window).ok()).unwrap_or(0)),
            Argument::F32(scale),
            Argument::F32(soft_cap.unwrap_or(0.0)),
        ]
    }
}
