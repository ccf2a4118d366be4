//! Causal attention over paged keys and values, read in place.
//!
//! Scores, weights and outputs are computed for up to eight queries that share a head of keys, sixteen positions a
//! vector, 64 positions a round; between rounds the softmax is carried on as in arXiv:2205.14135. Rounds begin at fixed
//! positions of the sequence, so what a query sees is summed in an order that depends on nothing but its position:
//! the same bits alone, in a batch, and with any chunking.
//!
//! Measured as in `linear`, 14 query and 2 key heads of 64: one row at position 2047 takes 74 us (100 GFLOP/s, more than
//! memory gives: the layers of the bench stay in the last cache), 512 rows from 0 on 5.2 ms (91 GFLOP/s, 51 % of the
//! float ceiling).

use crate::disjoint::Disjoint;
use crate::kv_cache::KvCache;
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Simd, exp, sum};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Queries computed together.
const QUERIES: usize = 8;
/// Runs of sixteen positions in a round.
const ROUND_RUNS: usize = 4;
/// Runs scored together, and lines of values summed together: a query's number is then used twice once loaded.
const PAIR: usize = 2;

/// Consecutive positions of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct AttentionChunk<'a> {
    /// Row of the first position in `q` and `out`.
    pub first_row: usize,
    pub rows: usize,
    /// Position of the first row in its sequence.
    pub start: usize,
    /// Blocks of the sequence from position 0 on, at least up to the last row.
    pub block_table: &'a [u32],
}

/// The numbers of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    pub q_heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Multiplies every score, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// A query sees itself and the `window - 1` positions before it; all positions when `None`.
    pub window: Option<usize>,
}

/// Room for unfinished outputs, kept from call to call.
#[derive(Debug, Clone, Default)]
pub struct AttentionScratch {
    lines: Vec<[f32; LANES]>,
}

impl AttentionScratch {
    /// Room for `threads` threads; a larger need grows it once.
    pub fn new(threads: usize, head_dim: usize) -> AttentionScratch {
        AttentionScratch { lines: vec![[0.0; LANES]; threads * QUERIES * head_dim.div_ceil(LANES)] }
    }
}

/// Attention of every row of every chunk to the positions up to its own, whose keys and values are in the cache.
///
/// `q`, `out: [rows, q_heads, head_dim]`; rows outside all chunks are left as they are. Panics if a size disagrees with
/// the cache, a block table is too short, or chunks share rows.
#[expect(clippy::too_many_arguments, reason = "inputs, output and scratch of one operation, each with its own owner")]
pub fn paged_attention(
    pool: &Pool,
    shape: &AttentionShape,
    cache: &KvCache,
    layer: usize,
    q: &[f32],
    chunks: &[AttentionChunk],
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) {
    check(shape, cache, layer, q, chunks, out);
    let group = shape.q_heads / shape.kv_heads.max(1);
    let tiles = |chunk: &AttentionChunk| (chunk.rows * group).div_ceil(QUERIES);
    let units = chunks.iter().map(tiles).sum::<usize>() * shape.kv_heads;
    let tasks = units.min(pool.threads().get());
    let lines = QUERIES * shape.head_dim.div_ceil(LANES);
    if scratch.lines.len() < tasks * lines {
        scratch.lines.resize(tasks * lines, [0.0; LANES]);
    }
    let (out, sums) = (Disjoint::new(out), Disjoint::new(&mut scratch.lines));
    let next = AtomicUsize::new(0);
    pool.run(tasks, &|task| {
        // SAFETY: every task has its own part.
        let sums = unsafe { sums.part(task * lines, lines) };
        loop {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                break;
            }
            // The last tiles see the most positions: they go first.
            let (mut tile, kv_head) = ((units - 1 - unit) / shape.kv_heads, unit % shape.kv_heads);
            let mut chunks = chunks.iter();
            let chunk = chunks.find(|chunk| {
                let is_here = tile < tiles(chunk);
                tile -= if is_here { 0 } else { tiles(chunk) };
                is_here
            });
            let chunk = *chunk.expect("every tile belongs to a chunk");
            let queries = tile * QUERIES..((tile + 1) * QUERIES).min(chunk.rows * group);
            pool.isa().run(Tile { shape, cache, layer, q, chunk, kv_head, queries, out: &out, sums: &mut *sums });
        }
    });
}

fn check(shape: &AttentionShape, cache: &KvCache, layer: usize, q: &[f32], chunks: &[AttentionChunk], out: &mut [f32]) {
    assert!(layer < cache.layers(), "layer {layer} of {}", cache.layers());
    assert!(shape.kv_heads == cache.kv_heads() && shape.head_dim == cache.head_dim(), "heads as in the cache");
    assert!(shape.kv_heads > 0 && shape.q_heads.is_multiple_of(shape.kv_heads), "whole groups of query heads");
    assert!(shape.window != Some(0), "a query sees itself");
    assert_eq!(q.len(), out.len(), "an output for every query");
    let width = shape.q_heads * shape.head_dim;
    let mut covered = 0;
    for chunk in chunks {
        assert!(chunk.first_row >= covered, "chunks are in order and share no rows");
        covered = chunk.first_row + chunk.rows;
        assert!(covered * width <= q.len(), "rows up to {covered} lie in the queries");
        let blocks = (chunk.start + chunk.rows).div_ceil(cache.block_tokens());
        assert!(chunk.block_table.len() >= blocks, "{blocks} blocks, the table has {}", chunk.block_table.len());
    }
}

/// Up to eight queries of one chunk that share a head of keys: number `row * group + head in group`.
struct Tile<'a> {
    shape: &'a AttentionShape,
    cache: &'a KvCache,
    layer: usize,
    q: &'a [f32],
    chunk: AttentionChunk<'a>,
    kv_head: usize,
    queries: Range<usize>,
    out: &'a Disjoint<'a, f32>,
    /// `[head_dim / 16, 8 queries]`
    sums: &'a mut [[f32; LANES]],
}

/// Sixteen positions of a block.
#[derive(Clone, Copy)]
struct Run {
    block: usize,
    run: usize,
    /// Position of the first lane in the sequence, and lanes that are positions of the block.
    position: usize,
    lanes: usize,
}

/// The state of a softmax under way, per query.
struct Softmax<S: Simd> {
    peaks: [f32; QUERIES],
    totals: [S::F; QUERIES],
}

type Scores = [[[f32; LANES]; ROUND_RUNS]; QUERIES];

impl Kernel for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let count = self.queries.len();
        self.sums.fill([0.0; LANES]);
        let seen: [Range<usize>; QUERIES] = std::array::from_fn(|query| self.seen(query.min(count - 1)));
        let runs_per_block = self.cache.block_tokens().div_ceil(LANES);
        let first = seen[0].start / self.cache.block_tokens() * runs_per_block / ROUND_RUNS * ROUND_RUNS;
        let end = seen[QUERIES - 1].end.div_ceil(self.cache.block_tokens()) * runs_per_block;
        let mut softmax = Softmax::<S> { peaks: [f32::MIN; QUERIES], totals: [simd.splat(0.0); QUERIES] };
        for round in (first..end).step_by(ROUND_RUNS) {
            let runs = std::array::from_fn(|index| self.run_at(round + index));
            let mut scores: Scores = [[[f32::NEG_INFINITY; LANES]; ROUND_RUNS]; QUERIES];
            let q: [&[f32]; QUERIES] = std::array::from_fn(|query| self.query(query.min(count - 1)));
            for pair in 0..ROUND_RUNS / PAIR {
                if let Some(keys) = self.keys(&runs, &seen, pair * PAIR) {
                    let scale = self.shape.scale;
                    match count {
                        1 => score::<S, 1>(simd, keys, &q, scale, &mut scores, [0, pair]),
                        2..=4 => score::<S, 4>(simd, keys, &q, scale, &mut scores, [0, pair]),
                        _ if const { S::ROWS_MAX > 4 } => score::<S, 8>(simd, keys, &q, scale, &mut scores, [0, pair]),
                        _ => {
                            score::<S, 4>(simd, keys, &q, scale, &mut scores, [0, pair]);
                            score::<S, 4>(simd, keys, &q, scale, &mut scores, [4, pair]);
                        }
                    }
                }
            }
            let factors = weigh(simd, &runs, &seen, count, &mut scores, &mut softmax);
            match count {
                1 => self.accumulate::<S, 1>(simd, &runs, &seen, &scores, factors),
                2..=4 => self.accumulate::<S, 4>(simd, &runs, &seen, &scores, factors),
                _ => self.accumulate::<S, QUERIES>(simd, &runs, &seen, &scores, factors),
            }
        }
        for query in 0..count {
            self.finish(simd, query, sum(simd, softmax.totals[query]));
        }
    }
}

impl Tile<'_> {
    /// Row in the chunk and query head of a query of the tile.
    #[inline(always)]
    fn row_and_head(&self, query: usize) -> (usize, usize) {
        let group = self.shape.q_heads / self.shape.kv_heads;
        let number = self.queries.start + query;
        (number / group, self.kv_head * group + number % group)
    }

    /// Where a query lies in `q` and its output in `out`.
    #[inline(always)]
    fn place(&self, query: usize) -> usize {
        let (row, head) = self.row_and_head(query);
        ((self.chunk.first_row + row) * self.shape.q_heads + head) * self.shape.head_dim
    }

    #[inline(always)]
    fn query(&self, query: usize) -> &[f32] {
        &self.q[self.place(query)..][..self.shape.head_dim]
    }

    /// Positions that a query sees.
    #[inline(always)]
    fn seen(&self, query: usize) -> Range<usize> {
        let end = self.chunk.start + self.row_and_head(query).0 + 1;
        self.shape.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// The run with this number, counted from the start of the sequence, if the sequence has the block.
    #[inline(always)]
    fn run_at(&self, number: usize) -> Option<Run> {
        let block_tokens = self.cache.block_tokens();
        let runs_per_block = block_tokens.div_ceil(LANES);
        let (block, run) = (number / runs_per_block, number % runs_per_block);
        let position = block * block_tokens + run * LANES;
        let lanes = LANES.min(block_tokens - run * LANES);
        self.chunk.block_table.get(block).map(|block| Run { block: *block as usize, run, position, lanes })
    }

    /// Keys of two runs from `first` on, `None` if the tile sees neither. A run that it does not see is replaced by the
    /// other: its scores are masked.
    #[inline(always)]
    fn keys(
        &self,
        runs: &[Option<Run>; ROUND_RUNS],
        seen: &[Range<usize>; QUERIES],
        first: usize,
    ) -> Option<[&[[f32; LANES]]; PAIR]> {
        let is_seen = |run: &Run| run.position < seen[QUERIES - 1].end && run.position + run.lanes > seen[0].start;
        let [one, other] = [runs[first].filter(is_seen), runs[first + 1].filter(is_seen)];
        let (one, other) = (one.or(other)?, other.or(one)?);
        let dims = self.shape.head_dim;
        let one = &self.cache.keys_of(self.layer, one.block, self.kv_head)[one.run * dims..][..dims];
        let other = &self.cache.keys_of(self.layer, other.block, self.kv_head)[other.run * dims..][..dims];
        Some([one, other])
    }

    /// `sums = sums * factor + weights * values` of the first `R` queries, positions in order.
    #[inline(always)]
    fn accumulate<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        runs: &[Option<Run>; ROUND_RUNS],
        seen: &[Range<usize>; QUERIES],
        weights: &Scores,
        factors: [f32; QUERIES],
    ) {
        let lines = self.shape.head_dim.div_ceil(LANES);
        for line in (0..lines).step_by(PAIR) {
            // The last of an odd number of lines is computed twice.
            let pair = [line, (line + 1).min(lines - 1)];
            let mut lanes = [[simd.splat(0.0); PAIR]; R];
            for query in 0..R {
                for index in 0..PAIR {
                    let sums = simd.load(&self.sums[pair[index] * QUERIES + query]);
                    lanes[query][index] = simd.mul(sums, simd.splat(factors[query]));
                }
            }
            for (index, run) in runs.iter().enumerate() {
                let Some(run) = run else { continue };
                let values = self.cache.values_of(self.layer, run.block, self.kv_head);
                let first = seen[0].start.saturating_sub(run.position).min(run.lanes);
                let end = seen[QUERIES - 1].end.saturating_sub(run.position).min(run.lanes);
                for lane in first..end {
                    let value = &values[(run.run * LANES + lane) * lines..][..lines];
                    let value = [simd.load(&value[pair[0]]), simd.load(&value[pair[1]])];
                    for query in 0..R {
                        let weight = simd.splat(weights[query][index][lane]);
                        lanes[query][0] = simd.mul_add(value[0], weight, lanes[query][0]);
                        lanes[query][1] = simd.mul_add(value[1], weight, lanes[query][1]);
                    }
                }
            }
            for (query, lanes) in lanes.into_iter().enumerate() {
                simd.store(lanes[0], &mut self.sums[pair[0] * QUERIES + query]);
                simd.store(lanes[1], &mut self.sums[pair[1] * QUERIES + query]);
            }
        }
    }

    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, query: usize, total: f32) {
        // SAFETY: every query of every chunk belongs to one tile, chunks share no rows.
        let out = unsafe { self.out.part(self.place(query), self.shape.head_dim) };
        for (line, out) in out.chunks_mut(LANES).enumerate() {
            let mut lanes = [0.0; LANES];
            simd.store(simd.div(simd.load(&self.sums[line * QUERIES + query]), simd.splat(total)), &mut lanes);
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}

/// Scores of two runs for `R` queries, scaled: one chain over the head per lane. `at` is the first query and the pair.
#[inline(always)]
fn score<S: Simd, const R: usize>(
    simd: S,
    keys: [&[[f32; LANES]]; PAIR],
    q: &[&[f32]; QUERIES],
    scale: f32,
    scores: &mut Scores,
    at: [usize; 2],
) {
    let [first, pair] = at;
    let mut lanes = [[simd.splat(0.0); PAIR]; R];
    for (dim, (one, other)) in keys[0].iter().zip(keys[1]).enumerate() {
        let keys = [simd.load(one), simd.load(other)];
        for query in 0..R {
            let q = simd.splat(q[first + query][dim]);
            lanes[query][0] = simd.mul_add(keys[0], q, lanes[query][0]);
            lanes[query][1] = simd.mul_add(keys[1], q, lanes[query][1]);
        }
    }
    for query in 0..R {
        for run in 0..PAIR {
            let scaled = simd.mul(lanes[query][run], simd.splat(scale));
            simd.store(scaled, &mut scores[first + query][pair * PAIR + run]);
        }
    }
}

/// Turns scores into weights relative to the new peak, and returns what the sums before are to be multiplied with.
#[inline(always)]
fn weigh<S: Simd>(
    simd: S,
    runs: &[Option<Run>; ROUND_RUNS],
    seen: &[Range<usize>; QUERIES],
    count: usize,
    scores: &mut Scores,
    softmax: &mut Softmax<S>,
) -> [f32; QUERIES] {
    let mut changes = [0.0; LANES];
    for query in 0..count {
        let scores = &mut scores[query];
        mask(runs, &seen[query], scores, f32::NEG_INFINITY);
        let mut peak = simd.load(&scores[0]);
        for run in &scores[1..] {
            peak = simd.max(peak, simd.load(run));
        }
        let peak = simd.max_lanes(peak).max(softmax.peaks[query]);
        changes[query] = softmax.peaks[query] - peak;
        softmax.peaks[query] = peak;
    }
    let mut factors = [0.0; LANES];
    simd.store(exp(simd, simd.load(&changes)), &mut factors);
    for query in 0..count {
        let scores = &mut scores[query];
        for run in &mut *scores {
            let weights = exp(simd, simd.sub(simd.load(run), simd.splat(softmax.peaks[query])));
            simd.store(weights, run);
        }
        mask(runs, &seen[query], scores, 0.0);
        let mut total = simd.mul(softmax.totals[query], simd.splat(factors[query]));
        for run in scores {
            total = simd.add(total, simd.load(run));
        }
        softmax.totals[query] = total;
    }
    std::array::from_fn(|query| factors[query])
}

/// Overwrites the scores of positions that a query does not see.
#[inline(always)]
fn mask(runs: &[Option<Run>; ROUND_RUNS], seen: &Range<usize>, scores: &mut [[f32; LANES]; ROUND_RUNS], with: f32) {
    for (run, scores) in runs.iter().zip(scores) {
        match run {
            None => scores.fill(with),
            Some(run) => {
                let first = seen.start.saturating_sub(run.position).min(run.lanes);
                let end = seen.end.saturating_sub(run.position).clamp(first, run.lanes);
                if first > 0 || end < LANES {
                    scores[..first].fill(with);
                    scores[end..].fill(with);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
