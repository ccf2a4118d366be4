//! A model on a GPU, driven step by step: the one place here that knows how the library is called.

use std::path::Path;

use kernels::gpu::{DeviceKvCache, Gpu, KvCacheShape, Reductions, TILE_ROWS, Tiles, splits_for};
use sconce::arch;
use sconce::checkpoint::{Checkpoint, Limits};
use sconce::nn::{GpuDecoder, GpuLoad, GpuWorkspace, Quantise, StepLimits, StepShape, StepTables, TablesLayout};

const BLOCK_TOKENS: usize = 16;
/// Enough for the longest prompt here with its continuation.
const BLOCKS: usize = 16;
const ROWS_MAX: usize = 128;

pub struct GpuModel {
    gpu: Gpu,
    decoder: GpuDecoder,
    cache: DeviceKvCache,
    workspace: GpuWorkspace,
    tables: StepTables,
    /// Blocks of the one sequence, scattered over the cache.
    blocks: Vec<u32>,
    position: usize,
    reductions: Reductions,
}

impl GpuModel {
    pub fn load(gpu: Gpu, path: &Path, quantise: Quantise, reductions: Reductions) -> Self {
        let checkpoint = Checkpoint::open(path, &Limits::default()).unwrap();
        let spec = arch::recognise(&checkpoint).unwrap().spec;
        let context_tokens = BLOCKS * BLOCK_TOKENS;
        let options = GpuLoad { quantise, context_tokens };
        let mut filled = 0;
        let decoder = GpuDecoder::load(&gpu, &checkpoint, spec, &options, &mut |bytes| filled = bytes).unwrap();
        let spec = decoder.spec();
        assert!(filled > 0 && filled <= decoder.weights_bytes(), "{filled} of {}", decoder.weights_bytes());
        let limits = StepLimits {
            rows: ROWS_MAX,
            sampled: ROWS_MAX,
            listed: 8,
            splits: splits_for(context_tokens).next_power_of_two(),
            format: quantise.on_gpu().unwrap(),
            reductions,
        };
        let layout = TablesLayout {
            rows: ROWS_MAX,
            tiles: ROWS_MAX.div_ceil(TILE_ROWS),
            sampled: ROWS_MAX,
            copies: 0,
            table_entries: BLOCKS,
        };
        let shape =
            KvCacheShape { layers: spec.layers, num_blocks: BLOCKS, kv_heads: spec.kv_heads, head_dim: spec.head_dim };
        Self {
            cache: DeviceKvCache::new(&gpu, shape).unwrap(),
            workspace: GpuWorkspace::new(&gpu, spec, limits).unwrap(),
            tables: StepTables::new(&gpu, layout).unwrap(),
            blocks: (0..BLOCKS as u32).map(|block| block * 7 % BLOCKS as u32).collect(),
            position: 0,
            reductions,
            decoder,
            gpu,
        }
    }

    pub fn vocab(&self) -> usize {
        self.decoder.spec().vocab
    }

    /// The logits of every row of a prompt.
    pub fn logits(&mut self, prompt: &[u32]) -> Vec<Vec<f32>> {
        self.position = 0;
        self.step(prompt)
    }

    /// Continues what [`GpuModel::logits`] began.
    pub fn decode(&mut self, token: u32) -> Vec<f32> {
        self.step(&[token]).remove(0)
    }

    /// The logits of the next tokens of the sequence.
    pub fn step(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        let (rows, start) = (tokens.len(), self.position);
        self.position += rows;
        let attends_by_rows = rows == 1 || self.reductions == Reductions::Invariant;
        let shape = StepShape {
            rows,
            listed: if attends_by_rows { rows } else { 0 },
            tiles: if attends_by_rows { 0 } else { rows.div_ceil(TILE_ROWS) },
            sampled: rows,
            samples_all: rows == 1,
            splits: splits_for(self.position).next_power_of_two(),
        };
        let blocks = &self.blocks;
        self.tables
            .write(&self.gpu, |host| {
                for (row, token) in tokens.iter().enumerate() {
                    let position = start + row;
                    let block = blocks[position / BLOCK_TOKENS] as usize;
                    host.known[row] = *token;
                    host.positions[row] = position as u32;
                    host.slots[row] = (block * BLOCK_TOKENS + position % BLOCK_TOKENS) as u32;
                    host.table_starts[row] = 0;
                    host.sampled_rows[row] = row as u32;
                    if attends_by_rows {
                        host.row_list[row] = row as u32;
                    }
                }
                let whole = Tiles { first_row: 0, rows: rows as u32, start: start as u32, table_start: 0 };
                for (place, tile) in host.tiles.iter_mut().zip(whole).take(shape.tiles) {
                    *place = tile;
                }
                host.block_tables.copy_from_slice(blocks);
                blocks.len()
            })
            .unwrap();
        self.gpu.write(self.workspace.token_ids(), 0, tokens).unwrap();
        self.decoder.forward(shape, &self.tables, &mut self.cache, &mut self.workspace).unwrap();
        let vocab = self.vocab();
        let logits = self.gpu.read(self.workspace.logits(), 0, rows * vocab).unwrap();
        logits.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
    }
}

/// Norm of the difference over the norm of what is wanted; NaN is infinitely far.
pub fn relative_difference(got: &[f32], want: &[f32]) -> f32 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(want).map(|(got, want)| f64::from(got - want)));
    let relative = difference / norm(&mut want.iter().map(|want| f64::from(*want)));
    if relative.is_finite() { relative as f32 } else { f32::INFINITY }
}

pub fn argmax(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1).then(right.0.cmp(&left.0)));
    best.unwrap().0 as u32
}
