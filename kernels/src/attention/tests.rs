//! Attention against plain loops, and the promise that chunks, batches and threads change no bit.

use super::*;
use crate::simd::Isa;
use crate::testing::{Random, assert_close, assert_same_bits, random_floats};
use std::num::NonZeroUsize;

/// One sequence in a cache of its own blocks, with everything that was put in.
struct Sequence {
    tokens: usize,
    block_table: Vec<u32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

fn sequences(shape: &AttentionShape, lengths: &[usize], block_tokens: usize) -> (KvCache, Vec<Sequence>) {
    let blocks: usize = lengths.iter().map(|tokens| tokens.div_ceil(block_tokens)).sum();
    let mut cache = KvCache::new(2, blocks + 1, block_tokens, shape.kv_heads, shape.head_dim).unwrap();
    // Slots that nobody wrote must not matter.
    let everything = (blocks + 1) * block_tokens;
    let slots: Vec<u32> = (0..everything as u32).collect();
    let junk = vec![f32::NAN; everything * shape.kv_heads * shape.head_dim];
    cache.write(1, &slots, &junk, &junk);
    let mut free: Vec<u32> = (0..=blocks as u32).collect();
    let mut random = Random(77);
    let mut made = Vec::new();
    for (index, &tokens) in lengths.iter().enumerate() {
        let take = |_| free.remove(random.below(free.len()));
        let block_table: Vec<u32> = (0..tokens.div_ceil(block_tokens)).map(take).collect();
        let make =
            |heads: usize, seed: usize| random_floats(tokens * heads * shape.head_dim, (10 * index + seed) as u64);
        let (q, k, v) = (make(shape.q_heads, 1), make(shape.kv_heads, 2), make(shape.kv_heads, 3));
        let slot =
            |position| block_table[position / block_tokens] * block_tokens as u32 + (position % block_tokens) as u32;
        let slots: Vec<u32> = (0..tokens).map(slot).collect();
        cache.write(1, &slots, &k, &v);
        made.push(Sequence { tokens, block_table, q, k, v });
    }
    (cache, made)
}

fn reference(shape: &AttentionShape, sequence: &Sequence) -> Vec<f32> {
    let (dim, group) = (shape.head_dim, shape.q_heads / shape.kv_heads);
    let mut out = Vec::new();
    for row in 0..sequence.tokens {
        for head in 0..shape.q_heads {
            let q = &sequence.q[(row * shape.q_heads + head) * dim..][..dim];
            let first = shape.window.map_or(0, |window| (row + 1).saturating_sub(window));
            let at = |position: usize| (position * shape.kv_heads + head / group) * dim;
            let dot = |position: usize| -> f64 {
                let k = &sequence.k[at(position)..][..dim];
                q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() * f64::from(shape.scale)
            };
            let scores: Vec<f64> = (first..=row).map(dot).collect();
            let peak = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - peak).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..dim {
                let weighted = |(index, w): (usize, &f64)| w * f64::from(sequence.v[at(first + index) + d]);
                out.push((weights.iter().enumerate().map(weighted).sum::<f64>() / total) as f32);
            }
        }
    }
    out
}

/// All rows of a sequence in chunks of the given size, one call each.
fn in_chunks(pool: &Pool, shape: &AttentionShape, cache: &KvCache, sequence: &Sequence, size: usize) -> Vec<f32> {
    let width = shape.q_heads * shape.head_dim;
    let mut scratch = AttentionScratch::default();
    let mut out = vec![f32::NAN; sequence.q.len()];
    for start in (0..sequence.tokens).step_by(size) {
        let rows = size.min(sequence.tokens - start);
        let range = start * width..(start + rows) * width;
        let chunk = AttentionChunk { first_row: 0, rows, start, block_table: &sequence.block_table };
        let (q, out) = (&sequence.q[range.clone()], &mut out[range]);
        paged_attention(pool, shape, cache, 1, q, &[chunk], out, &mut scratch);
    }
    out
}

fn shape(q_heads: usize, kv_heads: usize, head_dim: usize, window: Option<usize>) -> AttentionShape {
    AttentionShape { q_heads, kv_heads, head_dim, scale: 2.0 / (head_dim as f32).sqrt(), window }
}

#[test]
fn matches_reference_however_it_is_cut() {
    let table = [
        (shape(1, 1, 1, None), 1, 16),
        (shape(4, 4, 20, None), 33, 16),
        (shape(14, 2, 64, None), 150, 16),
        (shape(6, 1, 96, Some(1)), 40, 16),
        (shape(8, 2, 32, Some(37)), 200, 16),
        (shape(3, 3, 16, Some(20)), 70, 5),
        (shape(4, 2, 48, None), 100, 40),
        (shape(2, 1, 256, None), 30, 1),
    ];
    for isa in Isa::available() {
        for (shape, tokens, block_tokens) in table {
            let (cache, sequences) = sequences(&shape, &[tokens], block_tokens);
            let want = reference(&shape, &sequences[0]);
            let alone = in_chunks(&Pool::with_isa(NonZeroUsize::MIN, isa), &shape, &cache, &sequences[0], 1);
            assert_close(&alone, &want, 1e-5, 1e-5);
            for (threads, size) in [(1, tokens), (3, tokens), (2, 7), (3, 64)] {
                let pool = Pool::with_isa(NonZeroUsize::new(threads).unwrap(), isa);
                let cut = in_chunks(&pool, &shape, &cache, &sequences[0], size);
                assert_same_bits(&cut, &alone, &format!("{} {shape:?} chunks of {size}", isa.name()));
            }
        }
    }
}

/// Decode rows and prefill chunks of several sequences in one call give what each gives alone.
#[test]
fn sequences_do_not_see_each_other() {
    let shape = shape(6, 2, 32, None);
    let (cache, sequences) = sequences(&shape, &[50, 17, 1, 90], 16);
    let width = shape.q_heads * shape.head_dim;
    let pool = Pool::new(NonZeroUsize::new(3).unwrap());
    // (sequence, start, rows); an idle row lies between the chunks.
    let plan = [(0, 49, 1), (1, 3, 14), (2, 0, 1), (3, 40, 50), (1, 0, 0)];
    let (mut q, mut chunks, mut want) = (Vec::new(), Vec::new(), Vec::new());
    for (index, start, rows) in plan {
        let sequence = &sequences[index];
        chunks.push(AttentionChunk { first_row: q.len() / width, rows, start, block_table: &sequence.block_table });
        let range = start * width..(start + rows) * width;
        q.extend(&sequence.q[range.clone()]);
        want.extend(&in_chunks(&pool, &shape, &cache, sequence, 1)[range]);
        q.extend(vec![0.0; width]);
        want.extend(vec![7.0; width]);
    }
    let mut out = vec![7.0; q.len()];
    paged_attention(&pool, &shape, &cache, 1, &q, &chunks, &mut out, &mut AttentionScratch::new(3, 32));
    assert_same_bits(&out, &want, "batch");
}

#[test]
fn nothing_to_do_is_fine() {
    let shape = shape(2, 1, 8, None);
    let cache = KvCache::new(1, 1, 16, 1, 8).unwrap();
    let pool = Pool::new(NonZeroUsize::MIN);
    paged_attention(&pool, &shape, &cache, 0, &[], &[], &mut [], &mut AttentionScratch::default());
}

#[test]
#[should_panic(expected = "2 blocks, the table has 1")]
fn a_short_block_table_is_a_bug() {
    let shape = shape(1, 1, 1, None);
    let cache = KvCache::new(1, 2, 16, 1, 1).unwrap();
    let chunk = AttentionChunk { first_row: 0, rows: 1, start: 16, block_table: &[0] };
    let pool = Pool::new(NonZeroUsize::MIN);
    paged_attention(&pool, &shape, &cache, 0, &[1.0], &[chunk], &mut [0.0], &mut AttentionScratch::default());
}
