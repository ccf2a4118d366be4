//! What this machine can do at best: the rates that operations are compared with.

use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Line, Simd, Zero, sum};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Lines per task: 1 MiB, long enough for the hardware to read ahead.
const LINES_PER_TASK: usize = 16 * 1024;
const WINDOW_LINES: usize = 16 * LINES_PER_TASK;

/// A buffer that is read from end to end to measure memory bandwidth.
#[derive(Debug)]
pub struct Meter {
    lines: Vec<Line>,
}

impl Meter {
    /// `bytes`, rounded up to whole windows, should be well above the last cache; every page is written once.
    pub fn new(bytes: usize) -> Meter {
        Meter { lines: vec![Line([1; 64]); bytes.div_ceil(64 * WINDOW_LINES).max(1) * WINDOW_LINES] }
    }

    /// Windows of 16 MiB in the buffer: reading them in turns finds none of them in a cache.
    pub fn windows(&self) -> usize {
        self.lines.len() / WINDOW_LINES
    }

    /// Bytes per second of reading one window (`window` modulo their number) with all threads.
    pub fn read(&self, pool: &Pool, window: usize) -> f64 {
        let window = &self.lines[window % self.windows() * WINDOW_LINES..][..WINDOW_LINES];
        let kept = AtomicU32::new(0);
        let start = Instant::now();
        pool.run(WINDOW_LINES / LINES_PER_TASK, &|task| {
            let lines = &window[task * LINES_PER_TASK..][..LINES_PER_TASK];
            kept.fetch_xor(pool.isa().run(Read(lines)).to_bits(), Ordering::Relaxed);
        });
        let seconds = start.elapsed().as_secs_f64();
        black_box(kept);
        (WINDOW_LINES * size_of::<Line>()) as f64 / seconds
    }
}

struct Read<'a>(&'a [Line]);

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut kept = [simd.splat(0.0); 4];
        for lines in self.0.as_chunks::<4>().0 {
            for (kept, line) in kept.iter_mut().zip(lines) {
                *kept = simd.add(*kept, simd.load_bf16_pairs(&line.0).0);
            }
        }
        sum(simd, simd.add(simd.add(kept[0], kept[1]), simd.add(kept[2], kept[3])))
    }
}

/// Int8 operations per second (a multiplication and an addition count as two), all threads, nothing but registers.
pub fn int8_rate(pool: &Pool) -> f64 {
    rate(pool, 4, |isa, steps| isa.run(Dots(steps)))
}

/// Float operations per second of fused multiply-add, counted likewise.
pub fn float_rate(pool: &Pool) -> f64 {
    rate(pool, 1, |isa, steps| isa.run(Fmas(steps)))
}

const CHAINS: usize = 12;
/// Under a millisecond: the best of many samples is undisturbed even on a machine that others use.
const STEPS: usize = 200_000;

fn rate(pool: &Pool, per_lane: usize, work: impl Fn(crate::Isa, usize) -> f32 + Sync) -> f64 {
    let threads = pool.threads().get();
    let start = Instant::now();
    pool.run(threads, &|_| {
        black_box(work(pool.isa(), black_box(STEPS)));
    });
    (threads * STEPS * CHAINS * LANES * per_lane * 2) as f64 / start.elapsed().as_secs_f64()
}

struct Dots(usize);

impl Kernel for Dots {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let weights = simd.load_bytes(black_box(&Line([3; 64])));
        let x = black_box(0x0102_0304);
        let mut sums = [simd.start(Zero::None, 0); CHAINS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.dot(Zero::None, *sum, weights, x);
            }
        }
        let mut total = 0.0;
        for ints in sums {
            total += sum(simd, simd.ints_to_floats(ints));
        }
        total
    }
}

struct Fmas(usize);

impl Kernel for Fmas {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (a, b) = (simd.splat(black_box(0.999)), simd.splat(black_box(0.001)));
        let mut sums = [simd.splat(1.0); CHAINS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, a, b);
            }
        }
        let mut total = 0.0;
        for lanes in sums {
            total += sum(simd, lanes);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    #[test]
    fn rates_are_positive() {
        let pool = Pool::new(NonZeroUsize::new(2).unwrap());
        assert!(Meter::new(1).read(&pool, 7) > 0.0);
    }
}
