//! How long a step takes, learned from the steps themselves.
//!
//! A step's time is taken to be a sum: a constant, so much per prompt token, so much per row that decodes, so much per
//! position that either attends to. What each costs follows from model and device, so it is measured: the steps seen
//! are averaged in cells of like size and like context, and the costs that fit the cells best, none of them negative,
//! are found by least squares of relative errors. Knows no clock: durations come from the caller.

/// Cells by number of tokens, in powers of two; the last holds all beyond.
const SIZES: usize = 16;

/// Cells by mean context of these tokens, in powers of four.
const CONTEXTS: usize = 10;

/// Weight of the newest step in its cell.
const NEWEST: f64 = 0.2;

/// Of the first steps of a cell the shortest counts: allocation, cold caches and neighbours only make them longer.
const FIRST_STEPS: u32 = 3;

/// A step that took longer than so many times its cell's average is taken for one that took just so long.
const HICCUP: f64 = 3.0;

/// What was not seen for so many steps is forgotten.
const KEPT_STEPS: u64 = 2_000;

/// After so many steps a cell counts half as much as one that was just seen.
const HALF_WEIGHT_STEPS: f64 = 64.0;

/// Rounds of the search for the costs, which goes on from those found before.
const ROUNDS: usize = 48;

/// Sizes beyond so many times the largest that was measured are not foretold.
const REACH: usize = 2;

/// What a step computes, in the quantities that its time is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub prefill_tokens: usize,
    /// Positions that each of these attends to, in all.
    pub prefill_reads: usize,
    /// Guesses among them.
    pub decode_rows: usize,
    pub decode_reads: usize,
}

impl Work {
    /// `tokens` more prompt tokens, from position `start` on.
    pub fn add_prefill(&mut self, start: usize, tokens: usize) {
        self.prefill_tokens += tokens;
        self.prefill_reads += reads(start, tokens);
    }

    /// `rows` more tokens from position `start` on, all of them sampled from.
    pub fn add_decode(&mut self, start: usize, rows: usize) {
        self.decode_rows += rows;
        self.decode_reads += reads(start, rows);
    }

    /// `tokens` prompt tokens from position `start` on, and nothing else.
    pub fn prefill(start: usize, tokens: usize) -> Self {
        let mut work = Self::default();
        work.add_prefill(start, tokens);
        work
    }

    /// The rest without a part of it.
    pub fn without(mut self, part: Self) -> Self {
        self.prefill_tokens -= part.prefill_tokens;
        self.prefill_reads -= part.prefill_reads;
        self.decode_rows -= part.decode_rows;
        self.decode_reads -= part.decode_reads;
        self
    }

    fn quantities(&self) -> Quantities {
        let counts = [self.prefill_tokens, self.prefill_reads, self.decode_rows, self.decode_reads];
        let [tokens, token_reads, rows, row_reads] = counts.map(|count| count as f64);
        [tokens, token_reads, rows, row_reads, 1.0]
    }

    /// Steps with prompt tokens are told apart by these, others by their rows.
    fn cell(&self) -> usize {
        let (tokens, reads, is_decode) = match self.prefill_tokens {
            0 => (self.decode_rows, self.decode_reads, 1),
            tokens => (tokens, self.prefill_reads, 0),
        };
        let bits = |count: usize| (usize::BITS - count.leading_zeros()) as usize;
        let size = bits(tokens).min(SIZES - 1);
        let context = (bits(reads / tokens.max(1)) / 2).min(CONTEXTS - 1);
        (is_decode * SIZES + size) * CONTEXTS + context
    }
}

/// The sum of the contexts of `tokens` tokens from `start` on; a token attends to itself too.
fn reads(start: usize, tokens: usize) -> usize {
    tokens * start + tokens * (tokens + 1) / 2
}

/// Tokens, their reads, rows, their reads, and one.
type Quantities = [f64; 5];

#[derive(Clone, Copy, Debug)]
struct Cell {
    quantities: Quantities,
    micros: f64,
    prefill_tokens_max: usize,
    steps: u32,
    at_step: u64,
}

#[derive(Debug, Default)]
pub(super) struct StepTimes {
    cells: Vec<Option<Cell>>,
    steps: u64,
    /// Microseconds of each quantity.
    costs: Quantities,
    /// No step was seen since the costs were found.
    is_fitted: bool,
}

impl StepTimes {
    /// A step took so long.
    pub fn learn(&mut self, work: Work, micros: u64) {
        if micros == 0 || work == Work::default() {
            return;
        }
        self.cells.resize(2 * SIZES * CONTEXTS, None);
        self.steps += 1;
        self.is_fitted = false;
        let (quantities, micros) = (work.quantities(), micros as f64);
        let fresh = Cell { quantities, micros, prefill_tokens_max: work.prefill_tokens, steps: 1, at_step: self.steps };
        let cell = &mut self.cells[work.cell()];
        *cell = Some(match cell.filter(|cell| self.steps - cell.at_step < KEPT_STEPS) {
            None => fresh,
            Some(old) => old.with(fresh),
        });
    }

    /// Whether anything was measured.
    pub fn is_known(&self) -> bool {
        self.steps > 0
    }

    /// Prompt tokens that a step may have for its time to be foretold.
    pub fn prefill_tokens_max(&self) -> usize {
        self.known().map(|cell| cell.prefill_tokens_max).max().unwrap_or_default() * REACH
    }

    /// Microseconds that a step is expected to take.
    pub fn of(&mut self, work: Work) -> f64 {
        self.fit();
        product(&self.costs, &work.quantities())
    }

    /// At most `tokens` prompt tokens from position `start` on: as many as take `micros` more in a step.
    pub fn prefill_in(&mut self, start: usize, tokens: usize, micros: f64) -> usize {
        let (mut fits, mut too_many) = (0, tokens + 1);
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if self.prefill_us(start, middle) <= micros {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        fits
    }

    /// Microseconds that so many prompt tokens add to a step.
    pub fn prefill_us(&mut self, start: usize, tokens: usize) -> f64 {
        let work = Work::prefill(start, tokens);
        self.of(work) - self.costs[4]
    }

    fn known(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().flatten().filter(|cell| self.steps - cell.at_step < KEPT_STEPS)
    }

    /// Least squares of relative errors with no negative cost, one cost after the other (Gauss-Seidel). The constant
    /// comes last: what a single kind of step cannot tell apart is put down to its tokens.
    fn fit(&mut self) {
        if self.is_fitted {
            return;
        }
        let mut products = [[0.0; 5]; 5];
        let mut targets = [0.0; 5];
        for cell in self.known() {
            let age = (self.steps - cell.at_step) as f64;
            let weight = 1.0 / ((1.0 + age / HALF_WEIGHT_STEPS) * cell.micros * cell.micros);
            for (row, quantity) in cell.quantities.iter().enumerate() {
                targets[row] += weight * quantity * cell.micros;
                for (product, other) in products[row].iter_mut().zip(&cell.quantities) {
                    *product += weight * quantity * other;
                }
            }
        }
        for _ in 0..ROUNDS {
            for row in 0..self.costs.len() {
                let others = product(&products[row], &self.costs) - products[row][row] * self.costs[row];
                let is_seen = products[row][row] > 0.0;
                self.costs[row] = if is_seen { ((targets[row] - others) / products[row][row]).max(0.0) } else { 0.0 };
            }
        }
        self.is_fitted = true;
    }
}

impl Cell {
    fn with(self, fresh: Self) -> Self {
        let prefill_tokens_max = self.prefill_tokens_max.max(fresh.prefill_tokens_max);
        let (steps, at_step) = (self.steps.saturating_add(1), fresh.at_step);
        if steps <= FIRST_STEPS {
            let shorter = if fresh.micros < self.micros { fresh } else { self };
            return Self { prefill_tokens_max, steps, at_step, ..shorter };
        }
        let mut quantities = self.quantities;
        for (average, newest) in quantities.iter_mut().zip(&fresh.quantities) {
            *average += (newest - *average) * NEWEST;
        }
        let micros = self.micros + (fresh.micros.min(self.micros * HICCUP) - self.micros) * NEWEST;
        Self { quantities, micros, prefill_tokens_max, steps, at_step }
    }
}

fn product(left: &Quantities, right: &Quantities) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests {
    use super::super::fake::Random;
    use super::*;

    /// What each quantity of [`Work`] takes on a machine, in microseconds.
    const COSTS: Quantities = [1_650.0, 0.4, 1_800.0, 0.2, 22_500.0];

    fn step(prefill: (usize, usize), decodes: usize, context: usize) -> Work {
        let mut work = Work::prefill(prefill.0, prefill.1);
        for _ in 0..decodes {
            work.add_decode(context, 1);
        }
        work
    }

    /// Steps of all kinds, each a tenth longer or shorter than the formula says, and one in `hiccups` ten times as long.
    fn learned(costs: &Quantities, steps: usize, hiccups: usize) -> StepTimes {
        let mut random = Random(5);
        let mut times = StepTimes::default();
        for _ in 0..steps {
            let tokens = if random.one_in(3) { 0 } else { 1 << random.below(10) };
            let work = step((random.below(8_000), tokens), random.below(16), random.below(4_000));
            let noise = 0.9 + random.below(200) as f64 / 1_000.0;
            let hiccup = if random.one_in(hiccups) { 10.0 } else { 1.0 };
            times.learn(work, (product(costs, &work.quantities()) * noise * hiccup) as u64);
        }
        times
    }

    fn check(times: &mut StepTimes, costs: &Quantities, tolerance: f64) {
        for work in [step((0, 256), 0, 0), step((6_000, 128), 4, 500), step((0, 0), 1, 100), step((0, 0), 12, 3_000)] {
            let (foretold, truth) = (times.of(work), product(costs, &work.quantities()));
            assert!((foretold / truth - 1.0).abs() < tolerance, "{work:?}: {foretold} instead of {truth}");
        }
    }

    #[test]
    fn steps_of_any_kind_are_foretold_from_those_seen() {
        check(&mut learned(&COSTS, 400, usize::MAX), &COSTS, 0.15);
        // Where weights are all that counts, rows are nearly free.
        let costs = [16.0, 0.002, 8.0, 0.002, 3_000.0];
        check(&mut learned(&costs, 400, usize::MAX), &costs, 0.15);
    }

    #[test]
    fn steps_that_were_held_up_say_little() {
        check(&mut learned(&COSTS, 1_000, 20), &COSTS, 0.35);
        // The very first step of its kind is the one with the cold cache.
        let mut times = StepTimes::default();
        for micros in [9_000_000, 100_000, 100_000, 100_000] {
            times.learn(Work::prefill(0, 64), micros);
        }
        assert!((times.of(Work::prefill(0, 64)) - 100_000.0).abs() < 1.0);
    }

    #[test]
    fn another_machine_is_learned_and_the_old_one_forgotten() {
        let mut times = learned(&COSTS, 200, usize::MAX);
        let work = Work::prefill(1_000, 60);
        for _ in 0..KEPT_STEPS {
            times.learn(work, 7_000);
        }
        assert!((times.of(work) / 7_000.0 - 1.0).abs() < 0.05);
        assert_eq!(times.prefill_tokens_max(), 120, "what is far larger was too long ago");
    }

    #[test]
    fn as_many_tokens_fit_as_their_time_allows() {
        let mut times = learned(&COSTS, 400, usize::MAX);
        for (start, micros) in [(0, 0.0), (0, 10_000.0), (5_000, 10_000.0), (0, 200_000.0)] {
            let fits = times.prefill_in(start, 100, micros);
            assert!(times.prefill_us(start, fits) <= micros);
            assert!(fits == 100 || times.prefill_us(start, fits + 1) > micros, "{fits} tokens from {start}");
        }
        assert!(times.prefill_in(5_000, 100, 20_000.0) < times.prefill_in(0, 100, 20_000.0), "context costs");
    }

    #[test]
    fn nothing_is_known_before_anything_was_seen_and_no_cost_is_negative() {
        let mut times = StepTimes::default();
        times.learn(Work::default(), 100);
        times.learn(Work::prefill(0, 10), 0);
        assert!(!times.is_known());
        // A step of more tokens that took less time.
        times.learn(Work::prefill(0, 16), 90_000);
        times.learn(Work::prefill(0, 256), 50_000);
        assert!(times.is_known() && times.prefill_us(0, 100) >= 0.0 && times.of(Work::default()) >= 0.0);
    }
}
