//! Rotary position embedding (arXiv:2104.09864), half-split layout as in GPT-NeoX.

use crate::disjoint::Disjoint;
use crate::pool::Pool;
use crate::simd::{Kernel, Simd};

/// Values per task below which a second thread does not pay.
const VALUES_PER_TASK: usize = 16 * 1024;
/// Pairs whose angles are made ready together.
const PAIRS: usize = 64;

/// Frequencies of a model's rotation, scaled already where its context was extended.
#[derive(Debug, Clone)]
pub struct RopeTable {
    inverse_frequencies: Vec<f32>,
    attention_scale: f32,
    /// `[positions, 2, pairs]`: cosines and sines of the first positions.
    known: Vec<f32>,
}

impl RopeTable {
    /// One inverse frequency per pair; `attention_scale` multiplies cosines and sines (YaRN's mscale, 1 otherwise).
    pub fn new(inverse_frequencies: Vec<f32>, attention_scale: f32) -> RopeTable {
        RopeTable { inverse_frequencies, attention_scale, known: Vec::new() }
    }

    /// Computes the first `positions` ahead (8 bytes per pair and position); the others stay exact but slower.
    pub fn with_positions(mut self, positions: usize) -> RopeTable {
        let pairs = self.inverse_frequencies.len();
        self.known.clear();
        let mut known = vec![0.0; positions * 2 * pairs];
        for (position, angles) in known.chunks_exact_mut((2 * pairs).max(1)).enumerate() {
            let (cosines, sines) = angles.split_at_mut(pairs);
            self.angles(position as u32, 0, cosines, sines);
        }
        self.known = known;
        self
    }

    /// `[positions, 2, pairs]`: cosines and sines of the positions that were computed ahead.
    pub(crate) fn known(&self) -> &[f32] {
        &self.known
    }

    pub(crate) fn pairs(&self) -> usize {
        self.inverse_frequencies.len()
    }

    /// Cosines and sines of some pairs from `first` on. Angles are products in f32, as the reference libraries do.
    fn angles(&self, position: u32, first: usize, cosines: &mut [f32], sines: &mut [f32]) {
        let pairs = self.inverse_frequencies.len();
        let start = position as usize * 2 * pairs;
        if let Some(known) = self.known.get(start..start + 2 * pairs) {
            cosines.copy_from_slice(&known[first..first + cosines.len()]);
            sines.copy_from_slice(&known[pairs + first..pairs + first + sines.len()]);
            return;
        }
        for (pair, (cosine, sine)) in cosines.iter_mut().zip(sines).enumerate() {
            let angle = self.inverse_frequencies[first + pair] * position as f32;
            *cosine = angle.cos() * self.attention_scale;
            *sine = angle.sin() * self.attention_scale;
        }
    }
}

/// Rotates queries or keys in place. `x: [tokens, heads, head_dim]`, `positions: [tokens]`.
///
/// Panics if the lengths disagree or the table is not for `head_dim / 2` pairs.
pub fn rope(pool: &Pool, table: &RopeTable, positions: &[u32], x: &mut [f32], heads: usize, head_dim: usize) {
    assert_eq!(x.len(), positions.len() * heads * head_dim, "one vector per token and head");
    assert_eq!(table.inverse_frequencies.len() * 2, head_dim, "a frequency per pair of a head");
    let width = heads * head_dim;
    if width == 0 {
        return;
    }
    let x = Disjoint::new(x);
    pool.run_ranges(positions.len(), VALUES_PER_TASK.div_ceil(width), &|start, end| {
        for (token, &position) in (start..end).zip(&positions[start..end]) {
            // SAFETY: ranges of tokens do not overlap, and every token is rotated once.
            let x = unsafe { x.part(token * width, width) };
            pool.isa().run(Rotation { table, position, x });
        }
    });
}

/// All heads of one token.
struct Rotation<'a> {
    table: &'a RopeTable,
    position: u32,
    x: &'a mut [f32],
}

impl Kernel for Rotation<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let pairs = self.table.inverse_frequencies.len();
        let (mut cosines, mut sines) = ([0.0; PAIRS], [0.0; PAIRS]);
        for first in (0..pairs).step_by(PAIRS) {
            let length = PAIRS.min(pairs - first);
            let (cosines, sines) = (&mut cosines[..length], &mut sines[..length]);
            self.table.angles(self.position, first, cosines, sines);
            for head in self.x.chunks_exact_mut(2 * pairs) {
                let (low, high) = head.split_at_mut(pairs);
                let both = low[first..first + length].iter_mut().zip(&mut high[first..first + length]);
                for ((low, high), (cosine, sine)) in both.zip(cosines.iter().zip(&*sines)) {
                    (*low, *high) = (*low * cosine - *high * sine, *high * cosine + *low * sine);
                }
            }
        }
    }
}

/// Plain loops in f64: the truth that [`rope`] is held to, with the angle rounded to f32 as there.
pub fn reference(table: &RopeTable, positions: &[u32], x: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let mut out = x.to_vec();
    for (token, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            for pair in 0..head_dim / 2 {
                let angle = f64::from(table.inverse_frequencies[pair] * position as f32);
                let scale = f64::from(table.attention_scale);
                let (low, high) = ((token * heads + head) * head_dim + pair, head_dim / 2);
                let (a, b) = (f64::from(x[low]), f64::from(x[low + high]));
                out[low] = (scale * (a * angle.cos() - b * angle.sin())) as f32;
                out[low + high] = (scale * (b * angle.cos() + a * angle.sin())) as f32;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;
    use crate::testing::{Random, assert_close, assert_same_bits, random_floats};
    use std::num::NonZeroUsize;

    fn table(head_dim: usize, scale: f32) -> RopeTable {
        let frequency = |pair: usize| 1e4f32.powf(-(2.0 * pair as f32) / head_dim as f32);
        RopeTable::new((0..head_dim / 2).map(frequency).collect(), scale)
    }

    #[test]
    fn matches_reference_with_and_without_known_positions() {
        for isa in Isa::available() {
            let pool = Pool::with_isa(NonZeroUsize::new(3).unwrap(), isa);
            for (tokens, heads, head_dim) in [(1, 1, 2), (3, 2, 64), (5, 3, 128), (200, 2, 96), (2, 1, 260), (0, 4, 8)]
            {
                let mut random = Random(9);
                let positions: Vec<u32> = (0..tokens).map(|_| random.below(5000) as u32).collect();
                let x = random_floats(tokens * heads * head_dim, 4);
                let table = table(head_dim, 1.25);
                let mut got = x.clone();
                rope(&pool, &table, &positions, &mut got, heads, head_dim);
                assert_close(&got, &reference(&table, &positions, &x, heads, head_dim), 1e-6, 1e-6);
                let mut known = x.clone();
                rope(&pool, &table.with_positions(2500), &positions, &mut known, heads, head_dim);
                assert_same_bits(&known, &got, isa.name());
            }
        }
    }
}
