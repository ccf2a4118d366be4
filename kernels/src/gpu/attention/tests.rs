//! Both kernels against plain loops in f64 on the same rounded inputs, and the promise that a row's bits
//! depend on nothing but the row.

use super::*;
use crate::gpu::testing::{Kind, kinds};
use crate::gpu::{KvCacheShape, PAD};
use crate::testing::{Random, random_floats};

/// The layer of the cache that is used; the one before it stays unwritten.
const LAYER: usize = 1;

/// A layer of attention with everything on the host.
#[derive(Debug, Clone)]
struct Layer {
    q_heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    window: Option<usize>,
    soft_cap: Option<f32>,
    sinks: Option<Vec<f32>>,
}

/// Scores far enough apart that single positions have most of the weight: one that is missed is noticed.
fn layer(q_heads: usize, kv_heads: usize, head_dim: usize) -> Layer {
    let scale = 8.0 / (head_dim as f32).sqrt();
    Layer { q_heads, kv_heads, head_dim, scale, window: None, soft_cap: None, sinks: None }
}

impl Layer {
    fn window(self, window: usize) -> Layer {
        Layer { window: Some(window), ..self }
    }

    fn soft_cap(self, cap: f32) -> Layer {
        Layer { soft_cap: Some(cap), ..self }
    }

    fn sinks(self) -> Layer {
        let sinks = random_floats(self.q_heads, 5).iter().map(|sink| 6.0 * sink).collect();
        Layer { sinks: Some(sinks), ..self }
    }

    fn width(&self) -> usize {
        self.q_heads * self.head_dim
    }

    fn on(&self, gpu: &Gpu) -> DeviceAttention {
        DeviceAttention {
            q_heads: self.q_heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: self.scale,
            window: self.window,
            soft_cap: self.soft_cap,
            sinks: self.sinks.as_ref().map(|sinks| gpu.upload(sinks).unwrap()),
        }
    }

    fn sees(&self, position: usize, other: usize) -> bool {
        other <= position && self.window.is_none_or(|window| other + window > position)
    }
}

/// Keys and values of one sequence, `[tokens, kv_heads, head_dim]`, and where its block table begins.
struct Sequence {
    tokens: usize,
    table_start: u32,
    k: Vec<bf16>,
    v: Vec<bf16>,
}

/// Sequences in scattered blocks of a cache; what nobody wrote is not a number.
struct World {
    gpu: Gpu,
    layer: Layer,
    attention: DeviceAttention,
    cache: DeviceKvCache,
    sequences: Vec<Sequence>,
    block_tables: Buffer<u32>,
}

/// One row of a step.
#[derive(Clone)]
struct Row {
    sequence: usize,
    position: usize,
    q: Vec<bf16>,
}

fn random_bf16(length: usize, seed: u64, size: f32) -> Vec<bf16> {
    random_floats(length, seed).iter().map(|value| bf16::from_f32(size * value)).collect()
}

impl World {
    /// Sequences of these lengths, of which the positions from `written` on are in the cache. Keys are of about `size`.
    fn new(gpu: Gpu, layer: &Layer, lengths: &[usize], written: impl Fn(usize) -> usize, size: f32) -> World {
        let blocks: usize = lengths.iter().map(|tokens| tokens.div_ceil(BLOCK_TOKENS)).sum::<usize>() + 3;
        let shape = KvCacheShape { layers: 2, num_blocks: blocks, kv_heads: layer.kv_heads, head_dim: layer.head_dim };
        let mut cache = DeviceKvCache::new(&gpu, shape).unwrap();
        let mut held = vec![bf16::NAN; cache.keys_and_values.len()];
        let mut free: Vec<u32> = (0..blocks as u32).collect();
        let mut random = Random(77);
        let (mut sequences, mut tables) = (Vec::new(), Vec::new());
        for (index, &tokens) in lengths.iter().enumerate() {
            let table: Vec<u32> =
                (0..tokens.div_ceil(BLOCK_TOKENS)).map(|_| free.remove(random.below(free.len()))).collect();
            let values = tokens * layer.kv_heads * layer.head_dim;
            let k = random_bf16(values, 10 * index as u64 + 1, size);
            let v = random_bf16(values, 10 * index as u64 + 2, 1.0);
            for position in written(index)..tokens {
                for head in 0..layer.kv_heads {
                    let block = LAYER * blocks + table[position / BLOCK_TOKENS] as usize;
                    let from = (position * layer.kv_heads + head) * layer.head_dim;
                    for (half, values) in [&k, &v].into_iter().enumerate() {
                        let line =
                            ((block * 2 + half) * layer.kv_heads + head) * BLOCK_TOKENS + position % BLOCK_TOKENS;
                        held[line * layer.head_dim..][..layer.head_dim]
                            .copy_from_slice(&values[from..from + layer.head_dim]);
                    }
                }
            }
            // Tables do not lie side by side, and nobody may follow what lies between them.
            tables.extend([PAD, 0]);
            sequences.push(Sequence { tokens, table_start: tables.len() as u32, k, v });
            tables.extend(&table);
        }
        gpu.write(&mut cache.keys_and_values, 0, &held).unwrap();
        let block_tables = gpu.upload(&tables).unwrap();
        let attention = layer.on(&gpu);
        World { gpu, layer: layer.clone(), attention, cache, sequences, block_tables }
    }

    fn row(&self, sequence: usize, position: usize, size: f32) -> Row {
        let seed = (1000 * sequence + position) as u64;
        Row { sequence, position, q: random_bf16(self.layer.width(), seed, size) }
    }

    /// All rows of a sequence.
    fn rows(&self, sequence: usize) -> Vec<Row> {
        (0..self.sequences[sequence].tokens).map(|position| self.row(sequence, position, 1.0)).collect()
    }

    fn input<'a>(&'a self, queries: &'a Buffer<bf16>) -> AttentionInput<'a> {
        AttentionInput { attention: &self.attention, cache: &self.cache, layer: LAYER, queries }
    }

    /// What `attend_rows` makes of rows, in a batch that also has rows which are not in the list, a row that sees
    /// nothing, and list entries that are no row. Runs it twice with one scratch memory.
    fn attend_rows(&self, rows: &[Row], splits: usize, scratch: &mut AttentionScratch) -> Vec<f32> {
        let (gpu, width) = (&self.gpu, self.layer.width());
        let spare = vec![bf16::NAN; width];
        let queries: Vec<bf16> = rows.iter().flat_map(|row| row.q.iter().chain(&spare)).copied().collect();
        let positions: Vec<u32> = rows.iter().flat_map(|row| [row.position as u32, 40]).collect();
        let start = |row: &Row| self.sequences[row.sequence].table_start;
        let table_starts: Vec<u32> = rows.iter().flat_map(|row| [start(row), PAD]).collect();
        // The last row first; the spare row of the first one sees nothing, those of the others are left out.
        let mut list: Vec<u32> = (0..rows.len() as u32).rev().flat_map(|row| [2 * row, PAD]).collect();
        list.push(1);
        let count = list.len();
        list.push(3);
        let queries = gpu.upload(&queries).unwrap();
        let [positions, table_starts, list] =
            [positions, table_starts, list].map(|values| gpu.upload(&values).unwrap());
        let tables = RowTables { positions: &positions, table_starts: &table_starts, block_tables: &self.block_tables };
        let mut outs = Vec::new();
        for _ in 0..2 {
            let mut out = gpu.upload(&vec![bf16::INFINITY; queries.len()]).unwrap();
            let rows = RowList { list: &list, count, splits };
            attend_rows(&self.input(&queries), &tables, &rows, scratch, &mut out).unwrap();
            let arrived = gpu.read(&scratch.arrived, 0, scratch.arrived.len()).unwrap();
            assert!(arrived.iter().all(|count| *count == 0), "the next launch finds {arrived:?}");
            outs.push(gpu.read(&out, 0, out.len()).unwrap());
        }
        assert_eq!(bits(&outs[0]), bits(&outs[1]), "twice the same");
        let mut got = Vec::new();
        for (index, out) in outs[0].chunks(2 * width).enumerate() {
            let (out, spare) = out.split_at(width);
            let left = if index == 0 { 0.0 } else { f32::INFINITY };
            assert!(spare.iter().all(|value| value.to_f32() == left), "a row that is not computed");
            got.extend(out.iter().map(|value| value.to_f32()));
        }
        got
    }

    fn scratch(&self, rows: usize, splits_max: usize) -> AttentionScratch {
        AttentionScratch::new(&self.gpu, 2 * rows + 1, self.layer.q_heads, self.layer.head_dim, splits_max).unwrap()
    }

    /// What `attend_tiles` makes of chunks of consecutive rows, with a tile that is none between the chunks and a row
    /// that is in no chunk.
    fn attend_tiles(&self, chunks: &[&[Row]]) -> Vec<f32> {
        let (gpu, width) = (&self.gpu, self.layer.width());
        let (mut tiles, mut queries) = (Vec::new(), vec![bf16::NAN; width]);
        for chunk in chunks {
            let first_row = (queries.len() / width) as u32;
            let (start, table_start) = (chunk[0].position as u32, self.sequences[chunk[0].sequence].table_start);
            tiles.extend(Tiles { first_row, rows: chunk.len() as u32, start, table_start }.flatten());
            tiles.extend([PAD; 4]);
            queries.extend(chunk.iter().flat_map(|row| &row.q));
        }
        let count = tiles.len() / 4;
        tiles.extend([0, 1, 0, 2]);
        let (queries, tiles) = (gpu.upload(&queries).unwrap(), gpu.upload(&tiles).unwrap());
        let mut out = gpu.upload(&vec![bf16::INFINITY; queries.len()]).unwrap();
        let tiles = TileList { list: &tiles, count };
        attend_tiles(&self.input(&queries), &self.block_tables, &tiles, &mut out).unwrap();
        let out: Vec<f32> = gpu.read(&out, 0, out.len()).unwrap().iter().map(|value| value.to_f32()).collect();
        assert!(out[..width].iter().all(|value| *value == f32::INFINITY), "a row in no tile");
        out[width..].to_vec()
    }

    /// Plain loops: outputs and how far from them rounding may lead. `exists` says which blocks of the sequence do.
    fn reference(&self, row: &Row, exists: impl Fn(usize) -> bool) -> Vec<(f64, f64)> {
        let Layer { q_heads, kv_heads, head_dim, .. } = self.layer;
        let sequence = &self.sequences[row.sequence];
        let is_seen = |other: &usize| self.layer.sees(row.position, *other) && exists(other / BLOCK_TOKENS);
        let seen: Vec<usize> = (0..sequence.tokens).filter(is_seen).collect();
        let mut wanted = Vec::new();
        for head in 0..q_heads {
            let at = |position: usize| (position * kv_heads + head / (q_heads / kv_heads)) * head_dim;
            let score = |&position: &usize| {
                let pairs = row.q[head * head_dim..][..head_dim].iter().zip(&sequence.k[at(position)..]);
                let score = pairs.map(|(q, k)| q.to_f64() * k.to_f64()).sum::<f64>() * f64::from(self.layer.scale);
                self.layer.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let sink = self.layer.sinks.as_ref().map_or(f64::NEG_INFINITY, |sinks| f64::from(sinks[head]));
            let peak = scores.iter().copied().fold(sink, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - peak).exp()).collect();
            let total = weights.iter().sum::<f64>() + (sink - peak).exp();
            let largest = scores.iter().fold(1.0, |largest, score| score.abs().max(largest));
            for dim in 0..head_dim {
                let value = |position: &usize| sequence.v[at(*position) + dim].to_f64();
                let weighted = || seen.iter().zip(&weights).map(|(position, weight)| weight * value(position) / total);
                let (want, size) = (weighted().sum::<f64>(), weighted().map(f64::abs).sum::<f64>());
                // Weights and outputs are rounded to bf16, scores to f32 after sums of many products.
                let step = f64::from(f32::EPSILON) * 65536.0 / 2.0;
                let bound = step * (size + 2.0 * want.abs()) + 1e-6 * largest * (size + want.abs()) + 1e-30;
                wanted.push(if seen.is_empty() { (0.0, 0.0) } else { (want, bound) });
            }
        }
        wanted
    }

    fn check(&self, got: &[f32], rows: &[Row], what: &str) {
        for (row, got) in rows.iter().zip(got.chunks_exact(self.layer.width())) {
            for (index, (got, (want, bound))) in got.iter().zip(self.reference(row, |_| true)).enumerate() {
                let off = (f64::from(*got) - want).abs();
                assert!(
                    off <= bound,
                    "{what}: {:?}, position {}, value {index}: got {got}, want {want} within {bound}",
                    self.layer,
                    row.position
                );
            }
        }
        assert_eq!(got.len(), rows.len() * self.layer.width());
    }
}

fn bits(values: &[bf16]) -> Vec<u16> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn float_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The last rows of sequences of some lengths; nothing outside what they see is a number.
fn check_rows(layer: &Layer, contexts: &[usize], splits: usize, size: f32) {
    for kind in kinds() {
        let first_seen = |index: usize| layer.window.map_or(0, |window| contexts[index].saturating_sub(window));
        let world = World::new(kind.open(contexts[0] as u64), layer, contexts, first_seen, size);
        let rows: Vec<Row> = (0..contexts.len()).map(|index| world.row(index, contexts[index] - 1, size)).collect();
        let longest = contexts.iter().max().unwrap();
        let got = world.attend_rows(&rows, splits, &mut world.scratch(rows.len(), splits_for(*longest)));
        world.check(&got, &rows, "rows");
    }
}

#[test]
fn rows_match_the_reference() {
    let table = [
        (layer(1, 1, 64), vec![1, 15, 16, 17, 127, 128, 129], 2),
        (layer(7, 1, 128), vec![255, 256, 257, 600], 5),
        (layer(4, 2, 96), vec![33, 300], 1),
        (layer(8, 1, 256).soft_cap(3.0), vec![1, 17, 130], 2),
        (layer(16, 2, 32).window(1), vec![1, 16, 17, 200], 2),
        (layer(14, 2, 16).window(20).soft_cap(5.0), vec![5, 20, 21, 300], 1),
        (layer(6, 3, 64).window(120).sinks(), vec![17, 119, 120, 121, 150, 600], 3),
        (layer(4, 1, 80).window(1000).sinks().soft_cap(20.0), vec![600, 8], 7),
        // Two runs of heads; heads of no whole 16 bytes; heads wider than registers.
        (layer(34, 2, 8).sinks(), vec![40], 1),
        (layer(2, 2, 20), vec![1, 31, 140], 2),
        (layer(3, 1, 1), vec![9], 1),
        (layer(2, 1, 100).window(7), vec![30], 1),
        (layer(2, 1, 512), vec![20], 1),
        // Splits of 256.
        (layer(2, 1, 64), vec![4096, 4097], 3),
    ];
    for (layer, contexts, splits) in table {
        check_rows(&layer, &contexts, splits, 1.0);
    }
}

#[test]
fn scores_of_any_size_do_not_overflow() {
    for size in [1e-18, 1e9, 3e15] {
        check_rows(&layer(2, 1, 64).sinks(), &[70, 200], 2, size);
        check_rows(&layer(2, 1, 64).soft_cap(30.0), &[70], 2, size);
    }
    for kind in kinds() {
        let world = World::new(kind.open(3), &layer(1, 1, 64), &[40], |_| 0, 1e15);
        let rows: Vec<Row> = (0..40).map(|position| world.row(0, position, 1e15)).collect();
        world.check(&world.attend_tiles(&[&rows]), &rows, "tiles");
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_and_with_any_grid() {
    let layers = [layer(6, 2, 32), layer(4, 2, 16).window(150).sinks()];
    for (kind, layer) in kinds().into_iter().flat_map(|kind| layers.iter().map(move |layer| (kind, layer))) {
        let contexts = [400, 3, 129, 260];
        let splits_max = splits_for(400);
        let make = |seed| World::new(kind.open(seed), layer, &contexts, |_| 0, 1.0);
        let world = make(1);
        let rows: Vec<Row> = (0..4).map(|index| world.row(index, contexts[index] - 1, 1.0)).collect();
        let alone: Vec<f32> = rows
            .iter()
            .flat_map(|row| world.attend_rows(std::slice::from_ref(row), 4, &mut world.scratch(1, splits_max)))
            .collect();
        for (seed, splits) in [(2, 1), (3, 4), (4, 3), (5, 9)] {
            let world = make(seed);
            let together = world.attend_rows(&rows, splits, &mut world.scratch(4, splits_max));
            assert_eq!(float_bits(&together), float_bits(&alone), "{layer:?}, {splits} blocks for a row");
        }
        world.check(&alone, &rows, "rows");
    }
}

#[test]
fn rows_of_one_sequence_share_its_blocks_and_one_scratch_memory() {
    for kind in kinds() {
        let world = World::new(kind.open(9), &layer(4, 2, 32), &[150], |_| 0, 1.0);
        let mut scratch = world.scratch(3, 2);
        for positions in [[149, 0, 77], [128, 127, 149]] {
            let rows: Vec<Row> = positions.iter().map(|position| world.row(0, *position, 1.0)).collect();
            let got = world.attend_rows(&rows, 2, &mut scratch);
            world.check(&got, &rows, "rows");
        }
    }
}

#[test]
fn a_short_scratch_memory_makes_longer_splits() {
    for kind in kinds() {
        let world = World::new(kind.open(9), &layer(2, 1, 64), &[1000], |_| 0, 1.0);
        let rows = [world.row(0, 999, 1.0)];
        for splits_max in [1, 3] {
            world.check(&world.attend_rows(&rows, 2, &mut world.scratch(1, splits_max)), &rows, "rows");
        }
    }
}

#[test]
fn tiles_match_the_reference_and_the_rows_however_they_are_cut() {
    let table = [
        (layer(1, 1, 64), 70),
        (layer(7, 1, 128), 40),
        (layer(2, 2, 96).sinks(), 33),
        (layer(8, 1, 256).soft_cap(3.0), 20),
        (layer(8, 4, 32).window(1), 40),
        (layer(4, 2, 16).window(20).soft_cap(5.0), 90),
        (layer(2, 1, 16).window(500).sinks(), 260),
        // Two runs of heads, the second shorter; heads of no whole 16 bytes; heads wider than registers.
        (layer(18, 2, 8).sinks(), 35),
        (layer(11, 1, 8).sinks(), 20),
        (layer(2, 1, 20).window(17), 50),
        (layer(3, 3, 1), 19),
        (layer(2, 1, 100), 17),
        (layer(1, 1, 512), 18),
    ];
    let cases: Vec<_> = kinds().into_iter().flat_map(|kind| table.iter().map(move |case| (kind, case))).collect();
    for (seed, (kind, (layer, tokens))) in cases.into_iter().enumerate() {
        let tokens = *tokens;
        let world = World::new(kind.open(seed as u64), layer, &[tokens, 30], |_| 0, 1.0);
        let rows = world.rows(0);
        let whole = world.attend_tiles(&[&rows]);
        world.check(&whole, &rows, "tiles");
        for size in [7, 16] {
            let chunks: Vec<&[Row]> = rows.chunks(size).rev().collect();
            let cut = world.attend_tiles(&chunks);
            let back: Vec<u32> = chunks_reversed(&cut, &chunks, layer.width());
            assert_eq!(back, float_bits(&whole), "{layer:?} in chunks of {size}");
        }
        // Chunks of two sequences in one launch.
        let others = world.rows(1);
        let mixed = world.attend_tiles(&[&others[3..25], &rows[tokens / 2..], &others[29..]]);
        let (first, rest) = mixed.split_at(22 * layer.width());
        let (second, third) = rest.split_at((tokens - tokens / 2) * layer.width());
        world.check(first, &others[3..25], "a chunk of another sequence");
        assert_eq!(float_bits(second), float_bits(&whole[tokens / 2 * layer.width()..]), "{layer:?}");
        world.check(third, &others[29..], "a chunk of one row");
    }
}

/// Bits of outputs of chunks that were given last first, as those of the whole.
fn chunks_reversed(out: &[f32], chunks: &[&[Row]], width: usize) -> Vec<u32> {
    let mut rest = out;
    let mut parts = Vec::new();
    for chunk in chunks {
        let (part, behind) = rest.split_at(chunk.len() * width);
        parts.push(float_bits(part));
        rest = behind;
    }
    parts.into_iter().rev().flatten().collect()
}

/// What a table does not name is not seen, and nothing outside the buffers is touched, whatever lists and tables say.
#[test]
fn nonsense_in_tables_is_safe() {
    for kind in kinds() {
        let layer = layer(2, 1, 16);
        let mut world = World::new(kind.open(4), &layer, &[60, 20], |_| 0, 1.0);
        let mut tables = world.gpu.read(&world.block_tables, 0, world.block_tables.len()).unwrap();
        let start = world.sequences[0].table_start as usize;
        tables[start + 1] = PAD;
        tables[start + 2] = world.cache.num_blocks() as u32;
        world.block_tables = world.gpu.upload(&tables).unwrap();
        let row = world.row(0, 59, 1.0);
        let want = world.reference(&row, |block| block != 1 && block != 2);
        let check = |got: &[f32]| {
            for (got, (want, bound)) in got.iter().zip(&want) {
                assert!((f64::from(*got) - want).abs() <= *bound, "got {got}, want {want}");
            }
        };
        check(&world.attend_rows(std::slice::from_ref(&row), 2, &mut world.scratch(1, 1)));
        check(&world.attend_tiles(&[std::slice::from_ref(&row)]));

        // Positions behind the end of all tables, tables behind their own end, rows that do not exist, tiles too high.
        let (gpu, width) = (&world.gpu, layer.width());
        let beyond = tables.len() as u32;
        let last = world.sequences[1].table_start;
        let queries = gpu.upload(&random_bf16(5 * width, 8, 1.0)).unwrap();
        let positions = gpu.upload(&[19, PAD, 31, 7, 5]).unwrap();
        let table_starts = gpu.upload(&[last, beyond, beyond, PAD - 1, PAD]).unwrap();
        let tables =
            RowTables { positions: &positions, table_starts: &table_starts, block_tables: &world.block_tables };
        let list = gpu.upload(&[4, 3, 2, 1, 0, 5, PAD - 1]).unwrap();
        let mut out = gpu.upload(&vec![bf16::INFINITY; 5 * width]).unwrap();
        let rows = RowList { list: &list, count: 7, splits: 2 };
        attend_rows(&world.input(&queries), &tables, &rows, &mut world.scratch(4, 2), &mut out).unwrap();
        let by_rows = gpu.read(&out, 0, out.len()).unwrap();
        assert!(by_rows[..width].iter().all(|value| value.to_f32().abs() < 1.0), "a row like any other");
        assert!(by_rows[width..].iter().all(|value| value.to_f32() == 0.0), "rows that see nothing");

        let list =
            gpu.upload(&[0, 1, 19, last, 1, 3, 70, beyond, 4, PAD, PAD, PAD, 5, 1, 0, last, 2, 0, 0, last]).unwrap();
        let mut out = gpu.upload(&vec![bf16::INFINITY; 5 * width]).unwrap();
        let tiles = TileList { list: &list, count: 5 };
        attend_tiles(&world.input(&queries), &world.block_tables, &tiles, &mut out).unwrap();
        let by_tiles = gpu.read(&out, 0, out.len()).unwrap();
        for (one, other) in by_rows.iter().zip(&by_tiles) {
            assert!((one.to_f32() - other.to_f32()).abs() <= 0.02, "{one} and {other}");
        }
    }
}

/// Rows that lie behind the end of all tables see what the tables hold.
#[test]
fn a_position_behind_the_tables_sees_what_they_hold() {
    let layers = [layer(2, 1, 16), layer(2, 1, 16).window(9)];
    for (kind, layer) in kinds().into_iter().flat_map(|kind| layers.iter().map(move |layer| (kind, layer))) {
        let world = World::new(kind.open(4), layer, &[32], |_| 0, 1.0);
        let row = world.row(0, 31, 1.0);
        let behind = Row { position: PAD as usize, ..row.clone() };
        let one = std::slice::from_ref;
        let want = world.attend_rows(one(&row), 1, &mut world.scratch(1, 1));
        assert_eq!(world.attend_rows(one(&behind), 1, &mut world.scratch(1, 1)), want);
        let behind = Row { position: 1 << 20, ..row };
        assert_eq!(world.attend_tiles(&[one(&behind)]), world.attend_tiles(&[one(&world.row(0, 31, 1.0))]));
    }
}

#[test]
fn nothing_to_do_is_fine() {
    for kind in kinds() {
        let world = World::new(kind.open(4), &layer(2, 1, 16), &[1], |_| 0, 1.0);
        let (queries, list) = (world.gpu.zeroed(0).unwrap(), world.gpu.zeroed(0).unwrap());
        let mut out = world.gpu.zeroed(0).unwrap();
        let tables = RowTables { positions: &list, table_starts: &list, block_tables: &list };
        let rows = RowList { list: &list, count: 0, splits: 1 };
        attend_rows(&world.input(&queries), &tables, &rows, &mut world.scratch(0, 1), &mut out).unwrap();
        attend_tiles(&world.input(&queries), &list, &TileList { list: &list, count: 0 }, &mut out).unwrap();
        world.gpu.synchronise().unwrap();
    }
}

#[test]
fn sizes_are_what_they_are_said_to_be() {
    let got: Vec<usize> = [0, 1, 113, 114, 2048, 4000, 1 << 20].map(splits_for).to_vec();
    assert_eq!(got, [1, 1, 1, 2, 17, 32, 32]);
    let tiles: Vec<[u32; 4]> = Tiles { first_row: 5, rows: 33, start: 100, table_start: 7 }.collect();
    assert_eq!(tiles, [[5, 16, 100, 7], [21, 16, 116, 7], [37, 1, 132, 7]]);
    let gpu = Gpu::emulated(0);
    let before = gpu.memory_free().unwrap();
    let scratch = AttentionScratch::new(&gpu, 3, 8, 64, 5).unwrap();
    let taken = (before - gpu.memory_free().unwrap()) as u64;
    assert_eq!(AttentionScratch::bytes_needed(3, 8, 64, 5), taken);
    drop(scratch);
    let shape = KvCacheShape { layers: 3, num_blocks: 5, kv_heads: 2, head_dim: 20 };
    let cache = DeviceKvCache::new(&gpu, shape).unwrap();
    assert_eq!(DeviceKvCache::bytes_needed(shape), Some((before - gpu.memory_free().unwrap()) as u64));
    assert_eq!(cache.layer(2) - cache.layer(0), 2 * 5 * 2 * 2 * 16 * 20 * 2);
    let shape = KvCacheShape { num_blocks: usize::MAX / 100, ..shape };
    assert_eq!(DeviceKvCache::bytes_needed(shape), None);
    assert!(matches!(DeviceKvCache::new(&gpu, shape), Err(GpuError::OutOfMemory { .. })));
}

#[test]
#[should_panic(expected = "scratch memory for 3 rows of 2 heads of 16")]
fn a_small_scratch_memory_is_a_bug() {
    let world = World::new(Kind::Emulated.open(4), &layer(2, 1, 16), &[1], |_| 0, 1.0);
    let rows = [world.row(0, 0, 1.0)];
    let mut scratch = AttentionScratch::new(&world.gpu, 2, 2, 16, 1).unwrap();
    world.attend_rows(&rows, 1, &mut scratch);
}
