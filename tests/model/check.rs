//! The one place that knows how the library is called; every test of this folder is data passed through here.

use std::num::NonZeroUsize;
use std::path::Path;

use kernels::{AttentionChunk, KvCache, Pool};
use sconce::arch;
use sconce::checkpoint::{Checkpoint, Limits};
use sconce::nn::{Decoder, DecoderBatch, Quantise, Workspace};
use serde_json::Value;

use crate::golden;

/// Opens a model file or folder; the error is what a person would read.
pub fn open(path: &Path) -> Result<Checkpoint, String> {
    Checkpoint::open(path, &Limits::default()).map_err(|error| error.to_string())
}

/// Why the model at `path` is refused, or `None` if it loads.
pub fn refusal(path: &Path) -> Option<String> {
    decoder(path, Quantise::None).err()
}

fn decoder(path: &Path, quantise: Quantise) -> Result<Decoder, String> {
    let checkpoint = open(path)?;
    let recognised = arch::recognise(&checkpoint).map_err(|error| error.to_string())?;
    Decoder::load(&checkpoint, recognised.spec, quantise, &mut |_| {}).map_err(|error| error.to_string())
}

const BLOCK_TOKENS: usize = 16;
/// Blocks of one sequence, enough for the longest prompt here with its continuation.
const BLOCKS_PER_SEQUENCE: usize = 8;
const SEQUENCES: usize = 16;
const ROWS_MAX: usize = 512;

/// A loaded model with a paged cache, driven step by step.
pub struct Model {
    decoder: Decoder,
    pool: Pool,
    cache: KvCache,
    workspace: Workspace,
    /// Blocks of each sequence; scattered over the cache, so that nothing works by luck of being adjacent.
    tables: Vec<Vec<u32>>,
    /// Tokens of sequence 0 that were computed by [`Model::logits`] and [`Model::decode`].
    position: usize,
}

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    pub sequence: usize,
    pub start: usize,
    pub tokens: &'a [u32],
}

impl Model {
    pub fn load(path: &Path) -> Result<Self, String> {
        Self::load_with_threads(path, 2)
    }

    pub fn load_with_threads(path: &Path, threads: usize) -> Result<Self, String> {
        Self::from_decoder(decoder(path, Quantise::None)?, threads)
    }

    /// Float matrices become Q8_0 while they are read.
    pub fn load_quantising(path: &Path) -> Result<Self, String> {
        Self::from_decoder(decoder(path, Quantise::Q8_0)?, 2)
    }

    fn from_decoder(decoder: Decoder, threads: usize) -> Result<Self, String> {
        let spec = decoder.spec();
        let blocks = SEQUENCES * BLOCKS_PER_SEQUENCE;
        let cache = KvCache::new(spec.layers, blocks, BLOCK_TOKENS, spec.kv_heads, spec.head_dim)
            .map_err(|error| error.to_string())?;
        let workspace = Workspace::new(spec, ROWS_MAX, ROWS_MAX);
        let pool = Pool::new(NonZeroUsize::new(threads).unwrap());
        let tables = scattered_tables();
        Ok(Self { decoder, pool, cache, workspace, tables, position: 0 })
    }

    pub fn block_tokens(&self) -> usize {
        BLOCK_TOKENS
    }

    /// Forgets which blocks sequences share.
    pub fn reset(&mut self) {
        self.tables = scattered_tables();
    }

    /// Lets sequence `to` begin with the first `blocks` blocks of sequence `from`.
    pub fn share(&mut self, from: usize, to: usize, blocks: usize) {
        let shared = self.tables[from][..blocks].to_vec();
        self.tables[to][..blocks].copy_from_slice(&shared);
    }

    /// The logits of every row of a prompt, computed as sequence 0 in one step.
    pub fn logits(&mut self, prompt: &[u32]) -> Vec<Vec<f32>> {
        self.reset();
        self.position = prompt.len();
        self.step(&[Piece { sequence: 0, start: 0, tokens: prompt }]).remove(0)
    }

    /// Continues what [`Model::logits`] began with one token.
    pub fn decode(&mut self, token: u32) -> Vec<Vec<f32>> {
        let start = self.position;
        self.position += 1;
        self.step(&[Piece { sequence: 0, start, tokens: &[token] }]).remove(0)
    }

    /// Computes one step; for each piece the logits of each of its rows.
    pub fn step(&mut self, pieces: &[Piece<'_>]) -> Vec<Vec<Vec<f32>>> {
        self.step_sampling(pieces, usize::MAX)
    }

    /// Computes one step; for each piece the logits of its last `sampled` rows.
    pub fn step_sampling(&mut self, pieces: &[Piece<'_>], sampled: usize) -> Vec<Vec<Vec<f32>>> {
        let (mut token_ids, mut positions, mut slots) = (vec![], vec![], vec![]);
        let (mut chunks, mut sampled_rows) = (vec![], vec![]);
        for piece in pieces {
            let table = &self.tables[piece.sequence];
            let (first_row, rows, start) = (token_ids.len(), piece.tokens.len(), piece.start);
            chunks.push(AttentionChunk { first_row, rows, start, block_table: table });
            token_ids.extend_from_slice(piece.tokens);
            sampled_rows.extend((first_row + rows.saturating_sub(sampled)..first_row + rows).map(|row| row as u32));
            for position in start..start + rows {
                positions.push(position as u32);
                slots.push(table[position / BLOCK_TOKENS] * BLOCK_TOKENS as u32 + (position % BLOCK_TOKENS) as u32);
            }
        }
        let batch = DecoderBatch {
            token_ids: &token_ids,
            positions: &positions,
            slots: &slots,
            chunks: &chunks,
            sampled_rows: &sampled_rows,
        };
        let logits = self.decoder.forward(&self.pool, &batch, &mut self.cache, &mut self.workspace);
        let mut rows = logits.chunks_exact(self.decoder.spec().vocab).map(<[f32]>::to_vec);
        pieces.iter().map(|piece| rows.by_ref().take(piece.tokens.len().min(sampled)).collect()).collect()
    }
}

/// Every block of the cache once, neighbours far apart.
fn scattered_tables() -> Vec<Vec<u32>> {
    let blocks = SEQUENCES * BLOCKS_PER_SEQUENCE;
    let scattered = |index: usize| (index * 37 % blocks) as u32;
    (0..SEQUENCES)
        .map(|sequence| (0..BLOCKS_PER_SEQUENCE).map(|i| scattered(sequence * BLOCKS_PER_SEQUENCE + i)).collect())
        .collect()
}

/// A copy of a family's folder that may be changed.
pub fn copy_of(family: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden::folder(family)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

pub fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = golden::read(path);
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// The largest difference, relative to the largest wanted magnitude. Not a number counts as infinitely far.
pub fn relative_difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len(), "rows of different vocabularies");
    let largest = want.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let far = |(got, want): (&f32, &f32)| if got.is_finite() { (got - want).abs() } else { f32::INFINITY };
    got.iter().zip(want).map(far).fold(0.0, f32::max) / largest
}

/// The first of the largest.
pub fn argmax(row: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best as u32
}
