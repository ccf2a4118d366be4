//! Sampling on the device: a table with one row per running sequence, and one token per row of logits.
//!
//! The table holds what a sequence brought ([`Entering`]) and what has become of it: its last token, how many it has
//! sampled, and for sequences with penalties how often each token occurred. A step can therefore be launched before the
//! host has seen the tokens of the one before: [`SamplingTable::resolve_inputs`] takes them from the table.
//!
//! What is computed, in this order: log probabilities of the model itself; then the mask; repetition penalty for
//! tokens in prompt or output, presence and frequency penalty for generated ones; bias; temperature; min-p, top-k,
//! top-p; the draw. A temperature of 0 takes the largest logit, the lowest id among equals. NaN is never chosen.
//! Differences from sampling on the CPU, which keeps the same order: tokens exactly as likely as the last one that
//! top-k or top-p keeps all stay; more than 32767 occurrences of a token count as 32767; probabilities are computed in
//! f32, and the frequency penalty is applied with one rounding; a row whose penalties leave nothing but minus infinity
//! fails; and the random numbers are others, so seeded draws give other tokens of the same distribution.
//!
//! The launches of a step depend on its number of rows alone, never on what the sequences ask for: a recorded graph
//! serves all of them. Kernels: `kernels/cuda/sampling*.cu`.

mod entering;
mod results;

use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;

use entering::{BIAS_ENTRY, COUNT_ENTRY, Pieces, STAGING_BYTES, STATE_ENTRY, Staging, vacant_state};

pub use entering::{Entering, SamplingSettings};
pub use results::{SampleOutput, SampleResults, Sampled, TokenLogprobs};

/// Most likely tokens that can be reported for a row.
pub const TOP_LOGPROBS_MAX: usize = 20;

/// Logits of a slice of the vocabulary per thread.
const SLICE_VALUES: usize = 8;
const SLICE_THREADS_MAX: usize = 256;
const FILTER_THREADS_MAX: usize = 1024;
const FINISH_THREADS_MAX: usize = 128;

/// Words of a `SliceResult`, of 8 bytes.
const SLICE_WORDS: usize = 3;
/// Words of a `RowState`, of 4 bytes.
const STATE_WORDS: usize = 16;

/// A value of 8 bytes for each lane of a warp.
const SCRATCH_BYTES: u32 = 32 * 8;
const FILTER_BYTES: u32 = 17_296;

/// Fixed-point probabilities of so many tokens add up without overflow.
const VOCAB_MAX: usize = 1 << 23;

/// Size of a [`SamplingTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplingShape {
    /// Sequences that run at the same time.
    pub state_rows: usize,
    /// Rows of one call of [`SamplingTable::sample`], padded ones among them.
    pub rows_max: usize,
    pub vocab: usize,
    /// Different tokens that one sequence may bias. More than `vocab` are never needed.
    pub biases_max: usize,
}

/// Lengths of the buffers of a table.
struct Lengths {
    states: usize,
    counts: usize,
    biases: usize,
    slices: usize,
    tops: usize,
    floors: usize,
}

impl SamplingShape {
    fn lengths(self) -> Lengths {
        assert!((1..=VOCAB_MAX).contains(&self.vocab), "a vocabulary of {}, 1 to {VOCAB_MAX} are allowed", self.vocab);
        let slices = self.rows_max * self.num_slices();
        Lengths {
            states: self.state_rows * STATE_WORDS,
            counts: self.state_rows * self.vocab,
            biases: self.state_rows * 2 * self.biases_max,
            slices: slices * SLICE_WORDS,
            tops: slices * TOP_LOGPROBS_MAX,
            floors: self.rows_max,
        }
    }

    fn slice_threads(self) -> usize {
        self.vocab.div_ceil(SLICE_VALUES).next_multiple_of(32).min(SLICE_THREADS_MAX)
    }

    fn num_slices(self) -> usize {
        self.vocab.div_ceil(self.slice_threads() * SLICE_VALUES)
    }

    fn mask_words(self) -> usize {
        self.vocab.div_ceil(32)
    }
}

/// Sampling state of all running sequences, and the memory that sampling works in.
#[derive(Debug)]
pub struct SamplingTable {
    shape: SamplingShape,
    /// `[state_rows, 16]`
    states: Buffer<u32>,
    /// `[state_rows, vocab]`: bit 15 for tokens of the prompt, occurrences in the output below it. Cleared when a
    /// sequence with penalties enters, and not looked at for others.
    counts: Buffer<u16>,
    /// `[state_rows, 2, biases_max]`: tokens in ascending order, then what is added to their logits.
    biases: Buffer<u32>,
    /// `[rows_max, slices, 3]`
    slices: Buffer<u64>,
    /// `[rows_max, slices, 20]`: the most likely tokens of each slice.
    tops: Buffer<u64>,
    /// `[rows_max]`
    floors: Buffer<u32>,
    staging: Staging,
    pieces: Pieces,
}

/// Rows of logits to sample.
#[derive(Debug, Clone, Copy)]
pub struct SampleInput<'a> {
    /// `[rows, vocab]`
    pub logits: &'a Buffer<f32>,
    /// `[rows]`: the state row of each, [`super::PAD`] for padding. A state row occurs at most once.
    pub state_rows: &'a Buffer<u32>,
    pub rows: usize,
    /// `[state_rows, ceil(vocab / 32)]`: a bit for every token that is allowed, for sequences that entered as masked;
    /// all tokens of all rows are allowed without it.
    pub mask: Option<&'a Buffer<u32>>,
}

impl SamplingTable {
    /// A table of vacant rows. Panics if the vocabulary is empty or has more than 2^23 tokens.
    pub fn new(gpu: &Gpu, shape: SamplingShape) -> Result<Self, GpuError> {
        let lengths = shape.lengths();
        Ok(Self {
            shape,
            states: gpu.upload(&vacant_state().repeat(shape.state_rows))?,
            counts: gpu.uninitialised(lengths.counts)?,
            biases: gpu.uninitialised(lengths.biases)?,
            slices: gpu.uninitialised(lengths.slices)?,
            tops: gpu.uninitialised(lengths.tops)?,
            floors: gpu.uninitialised(lengths.floors)?,
            staging: Staging::new(gpu)?,
            pieces: Pieces::new(shape.vocab),
        })
    }

    /// Device memory that [`SamplingTable::new`] takes.
    #[must_use]
    pub fn bytes_needed(shape: SamplingShape) -> u64 {
        let Lengths { states, counts, biases, slices, tops, floors } = shape.lengths();
        ((states + biases + floors) * 4 + counts * 2 + (slices + tops) * 8 + STAGING_BYTES) as u64
    }

    #[must_use]
    pub fn shape(&self) -> SamplingShape {
        self.shape
    }

    /// Gives sequences their rows of the table, whatever was there. Asynchronous: it waits for earlier steps only when
    /// more than 256 KiB are on their way to the device.
    ///
    /// Panics if a state row is out of range or given twice, or if a sequence has more biases or log probabilities than
    /// there is room for.
    pub fn enter(&mut self, gpu: &Gpu, entering: &[Entering<'_>]) -> Result<(), GpuError> {
        self.pieces.clear();
        for (index, sequence) in entering.iter().enumerate() {
            let row = sequence.state_row;
            assert!((row as usize) < self.shape.state_rows, "state row {row} of {}", self.shape.state_rows);
            let is_new = entering[..index].iter().all(|other| other.state_row != row);
            assert!(is_new, "state row {row} is given to two sequences");
            self.pieces.add(sequence, self.shape.biases_max);
            if sequence.settings.has_penalties() {
                let counts = self.counts.range(row as usize * self.shape.vocab, self.shape.vocab);
                // SAFETY: `range` checked that the counts of the row lie in the buffer.
                unsafe { gpu.driver.fill(counts, 0, self.shape.vocab * size_of::<u16>())? };
            }
        }
        let [vocab, biases_max] = [self.shape.vocab, self.shape.biases_max].map(|value| Argument::U32(count(value)));
        let staging = &mut self.staging;
        // SAFETY: rows were checked above; `Pieces` keeps tokens below the vocabulary and places below `biases_max`,
        // and names no place twice.
        unsafe {
            staging.write(gpu, &STATE_ENTRY, &self.pieces.states, &[self.states.argument()], &[])?;
            staging.write(gpu, &COUNT_ENTRY, &self.pieces.counts, &[self.counts.argument()], &[vocab])?;
            staging.write(gpu, &BIAS_ENTRY, &self.pieces.biases, &[self.biases.argument()], &[biases_max])
        }
    }

    /// `token_ids[row] = known[row]`, or the last sample of state row `from_rows[row]` where that is not
    /// [`super::PAD`]. All `[rows]`; buffers may be longer.
    ///
    /// A state row that has not sampled since its sequence entered gives [`super::PAD`], which is no token.
    pub fn resolve_inputs(
        &self,
        gpu: &Gpu,
        (rows, known): (usize, &Buffer<u32>),
        from_rows: &Buffer<u32>,
        token_ids: &mut Buffer<u32>,
    ) -> Result<(), GpuError> {
        assert!(known.len() >= rows && from_rows.len() >= rows && token_ids.len() >= rows, "{rows} rows");
        if rows == 0 {
            return Ok(());
        }
        let arguments = [
            known.argument(),
            from_rows.argument(),
            self.states.argument(),
            token_ids.argument(),
            Argument::U32(count(rows)),
            Argument::U32(count(self.shape.state_rows)),
        ];
        let launch = Launch { grid: [count(rows.div_ceil(128)), 1, 1], block: [128, 1, 1], shared_bytes: 0 };
        // SAFETY: the arguments are those of the kernel; it reads and writes `rows` values, checked above, and reads
        // states of rows that the table has.
        unsafe { gpu.launch("sampling_resolve_inputs", launch, &arguments) }
    }

    /// Samples a token for every row, into the table and into `output`. Records of padded rows are not written.
    ///
    /// Panics if there are more rows than the table or the output is made for, or if a buffer is too short.
    pub fn sample(&mut self, gpu: &Gpu, input: &SampleInput<'_>, output: &mut SampleOutput) -> Result<(), GpuError> {
        let (rows, shape) = (input.rows, self.shape);
        assert!(rows <= shape.rows_max, "{rows} rows of {}", shape.rows_max);
        assert!(rows <= output.rows_max(), "{rows} rows, output for {}", output.rows_max());
        assert!(input.logits.len() >= rows * shape.vocab, "{rows} rows of {} logits", shape.vocab);
        assert!(input.state_rows.len() >= rows, "{rows} state rows");
        let mask_words = shape.state_rows * shape.mask_words();
        assert!(input.mask.is_none_or(|mask| mask.len() >= mask_words), "a mask of {mask_words} words");
        if rows == 0 {
            return Ok(());
        }
        let slices = [count(shape.num_slices()), count(rows), 1];
        let per_slice = Launch { grid: slices, block: block(shape.slice_threads()), shared_bytes: SCRATCH_BYTES };
        let filter_threads = shape.vocab.div_ceil(4).next_multiple_of(32).min(FILTER_THREADS_MAX);
        let per_row = [count(rows), 1, 1];
        let filter = Launch { grid: per_row, block: block(filter_threads), shared_bytes: FILTER_BYTES };
        let finish_threads = shape.num_slices().next_multiple_of(32).min(FINISH_THREADS_MAX);
        let finish = Launch { grid: per_row, block: block(finish_threads), shared_bytes: SCRATCH_BYTES };

        let (slices, tops, floors) = (self.slices.argument(), self.tops.argument(), self.floors.argument());
        let num_slices = Argument::U32(count(shape.num_slices()));
        let num_rows = [shape.state_rows, shape.vocab].map(|value| Argument::U32(count(value)));
        let own = [input.logits.argument(), input.state_rows.argument()];
        let result = [slices, tops, self.states.argument(), self.counts.argument(), output.argument()];
        let finish_arguments = [&own[..], &result[..], &num_rows[..], &[num_slices]].concat();
        // SAFETY: the arguments are those of the kernels. Logits and state rows are long enough for `rows` (checked
        // above), the table for its own rows, which kernels do not go beyond, and its working memory and the output for
        // more rows than these. The blocks have as many threads as the slices were computed with.
        unsafe {
            gpu.launch("sampling_scan", per_slice, &self.over_logits(input, &[slices, tops], &[]))?;
            gpu.launch("sampling_filter", filter, &self.over_logits(input, &[slices, floors], &[num_slices]))?;
            gpu.launch("sampling_draw", per_slice, &self.over_logits(input, &[floors, slices], &[]))?;
            gpu.launch("sampling_finish", finish, &finish_arguments)
        }
    }

    /// Arguments of a kernel that looks at all logits: the shared ones around its own.
    fn over_logits(&self, input: &SampleInput<'_>, pointers: &[Argument], numbers: &[Argument]) -> Vec<Argument> {
        let mask = input.mask.map_or(Argument::Pointer(0), Buffer::argument);
        let tables = [self.states.argument(), self.counts.argument(), self.biases.argument(), mask];
        let shape = [self.shape.state_rows, self.shape.vocab, self.shape.biases_max];
        let shape = shape.map(|value| Argument::U32(count(value)));
        let own = [input.logits.argument(), input.state_rows.argument()];
        [&own[..], &tables[..], pointers, &shape[..], numbers].concat()
    }
}

fn block(threads: usize) -> [u32; 3] {
    [count(threads), 1, 1]
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests;
