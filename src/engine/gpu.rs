//! Steps on a GPU: depth one, so that the next step is launched before the tokens of this one are known.
//!
//! A step is written into tables (`nn::StepTables`), launched, and its tokens come back through page-locked memory.
//! Steps that only decode are recorded as graphs, one for each number of rows (rounded up) and each number of pieces a
//! context is split into; everything they read lies at fixed places.

use super::batch::{Batch, EnteringRow, PackedChunk, RowInput};
use super::runner::{Collected, RowResult, Runner, StepError};
use crate::domain::SamplingParams;
use crate::nn::{DecoderSpec, GpuDecoder, GpuWorkspace, HostTables, StepLimits, StepShape, StepTables, TablesLayout};
use crate::sampler::{RowLogprobs, SampleError, SampledToken};
use kernels::gpu::{
    BLOCK_TOKENS, DeviceKvCache, Entering, Event, Gpu, GpuError, Graph, KvCacheShape, Reductions, SampleInput,
    SampleOutput, SampleResults, Sampled, SamplingSettings, SamplingShape, SamplingTable, TILE_ROWS, Tiles,
    WeightFormat, copy_blocks, splits_for,
};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Steps that may be in flight besides the one being submitted.
const DEPTH: usize = 1;
/// Rows of decode steps that are recorded; smaller steps are padded to the next.
const GRAPH_ROWS: [usize; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32, 48, 64, 96, 128];
/// Lists of rows start at multiples of so many entries.
const TABLE_ALIGNMENT: usize = 4;

/// Entries of `logit_bias` that a sequence may have on a GPU.
pub const LOGIT_BIASES_MAX: usize = 1024;

/// How large the steps of a runner may become, and how they are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuLimits {
    pub step_tokens_max: usize,
    pub running_max: usize,
    pub context_tokens: usize,
    pub num_blocks: usize,
    pub format: WeightFormat,
    pub reductions: Reductions,
}

impl GpuLimits {
    fn steps(&self) -> StepLimits {
        StepLimits {
            rows: self.step_tokens_max.max(self.decode_rows()),
            sampled: self.decode_rows(),
            listed: self.decode_rows(),
            splits: splits_for(self.context_tokens).next_power_of_two(),
            format: self.format,
            reductions: self.reductions,
        }
    }

    /// Rows of the largest step that only decodes, padded.
    fn decode_rows(&self) -> usize {
        let recorded = GRAPH_ROWS.into_iter().find(|rows| *rows >= self.running_max);
        recorded.unwrap_or(self.running_max).next_multiple_of(TABLE_ALIGNMENT)
    }

    fn decode_tables(&self) -> TablesLayout {
        let rows = self.decode_rows();
        TablesLayout { rows, tiles: 0, sampled: rows, copies: rows, table_entries: self.table_entries() }
    }

    fn mixed_tables(&self) -> TablesLayout {
        let rows = self.steps().rows;
        // Each chunk may end in a tile that is not full.
        let tiles = rows.div_ceil(TILE_ROWS) + self.running_max;
        TablesLayout { rows, tiles, ..self.decode_tables() }
    }

    /// Every sequence that runs with a table of the longest context. Shared blocks are named by each.
    fn table_entries(&self) -> usize {
        let per_sequence = self.context_tokens.div_ceil(BLOCK_TOKENS) + 1;
        per_sequence.saturating_mul(self.running_max)
    }

    fn sampling(&self, vocab: usize) -> SamplingShape {
        SamplingShape {
            state_rows: self.running_max,
            rows_max: self.decode_rows(),
            vocab,
            biases_max: LOGIT_BIASES_MAX.min(vocab),
        }
    }
}

/// Owns the weights, the key-value cache and everything a step reads and writes on one GPU.
pub struct GpuRunner {
    // Graphs go first: while one lives, memory that is given back is kept.
    graphs: HashMap<StepShape, Graph>,
    decoder: GpuDecoder,
    cache: DeviceKvCache,
    workspace: GpuWorkspace,
    sampling: SamplingTable,
    output: SampleOutput,
    /// Tables of steps that only decode, and of all others.
    decode: StepTables,
    mixed: StepTables,
    /// One more than may be in flight.
    results: Vec<SampleResults>,
    next_results: usize,
    in_flight: VecDeque<Submitted>,
    /// Of the steps collected since somebody asked; `None` while nobody measures.
    timed: Option<Vec<Timed>>,
    is_invariant: bool,
    gpu: Gpu,
}

struct Submitted {
    batch: Batch,
    /// Into `results`.
    results: usize,
    /// Behind the copies of its tables, before its first launch; there while times are measured.
    begin: Option<Event>,
    /// The end of the step. A step without sampled rows is waited for too: nobody runs further ahead than the depth.
    end: Event,
}

/// A step that was collected. Its events are read later: that takes time of its own.
struct Timed {
    begin: Event,
    end: Event,
    waited: Duration,
}

/// Where the time of steps went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuTimes {
    /// For how long the host did nothing but wait for the device.
    pub waited: Duration,
    /// From when the device came to each step until its results were on the host; `None` on a device without a clock. A
    /// device that had nothing to do comes to a step while the host is launching it.
    pub busy: Option<Duration>,
}

impl GpuRunner {
    /// Allocates everything besides the weights, and records the smallest decode step, so that what cannot be recorded
    /// is found out here.
    pub fn new(gpu: Gpu, decoder: GpuDecoder, limits: &GpuLimits) -> Result<Self, GpuError> {
        let spec = decoder.spec();
        let DecoderSpec { layers, kv_heads, head_dim, vocab, .. } = *spec;
        let cache =
            DeviceKvCache::new(&gpu, KvCacheShape { layers, num_blocks: limits.num_blocks, kv_heads, head_dim })?;
        let workspace = GpuWorkspace::new(&gpu, spec, limits.steps())?;
        let rows = limits.decode_rows();
        let mut runner = Self {
            graphs: HashMap::new(),
            cache,
            workspace,
            sampling: SamplingTable::new(&gpu, limits.sampling(vocab))?,
            output: SampleOutput::new(&gpu, rows)?,
            decode: StepTables::new(&gpu, limits.decode_tables())?,
            mixed: StepTables::new(&gpu, limits.mixed_tables())?,
            results: (0..=DEPTH + 1).map(|_| SampleResults::new(&gpu, rows)).collect::<Result<_, _>>()?,
            next_results: 0,
            in_flight: VecDeque::new(),
            timed: None,
            is_invariant: limits.reductions == Reductions::Invariant,
            decoder,
            gpu,
        };
        runner.warm_up(limits)?;
        Ok(runner)
    }

    /// Has the steps submitted from here on measured, which costs each of them an event.
    pub fn measure(&mut self) {
        self.timed = Some(Vec::new());
    }

    /// Where the time of the steps went that were collected since [`Self::measure`], or since this was asked last.
    pub fn take_times(&mut self) -> Result<GpuTimes, GpuError> {
        let mut times = GpuTimes { waited: Duration::ZERO, busy: None };
        for Timed { begin, end, waited } in self.timed.iter_mut().flat_map(std::mem::take) {
            times.waited += waited;
            if let Some(elapsed_ms) = end.elapsed_ms(&begin)? {
                *times.busy.get_or_insert_default() += Duration::from_secs_f64(f64::from(elapsed_ms.max(0.0)) / 1e3);
            }
        }
        Ok(times)
    }

    /// Device memory of everything but weights and cache.
    pub fn workspace_bytes(gpu: &Gpu, spec: &DecoderSpec, limits: &GpuLimits) -> u64 {
        GpuWorkspace::bytes(gpu, spec, limits.steps())
            .saturating_add(limits.decode_tables().bytes())
            .saturating_add(limits.mixed_tables().bytes())
            .saturating_add(SamplingTable::bytes_needed(limits.sampling(spec.vocab)))
            .saturating_add(SampleOutput::bytes_needed(limits.decode_rows()))
    }

    /// Runs one step of padding and records the decode steps of short contexts: the graphs that every session needs
    /// first are there before anybody waits for them.
    fn warm_up(&mut self, limits: &GpuLimits) -> Result<(), GpuError> {
        self.decode.write(&self.gpu, |_| 0)?;
        for rows in GRAPH_ROWS.into_iter().filter(|rows| *rows <= limits.decode_rows()) {
            let shape = decode_shape(rows, 1);
            self.launch(Kind::Decode, shape)?;
            self.record(shape)?;
        }
        self.gpu.synchronise()
    }

    /// Launches a step whose tables have been sent.
    fn launch(&mut self, kind: Kind, shape: StepShape) -> Result<(), GpuError> {
        let Self { gpu, decoder, cache, workspace, sampling, output, decode, mixed, .. } = self;
        let tables = match kind {
            Kind::Decode => decode,
            Kind::Mixed => mixed,
        };
        sampling.resolve_inputs(gpu, (shape.rows, tables.known()), tables.from_rows(), workspace.token_ids())?;
        decoder.forward(shape, tables, cache, workspace)?;
        let input = SampleInput {
            logits: workspace.logits(),
            state_rows: tables.state_rows(),
            rows: shape.sampled,
            mask: None,
        };
        sampling.sample(gpu, &input, output)
    }

    fn record(&mut self, shape: StepShape) -> Result<(), GpuError> {
        let gpu = self.gpu.clone();
        let graph = gpu.capture(|| self.launch(Kind::Decode, shape))?;
        self.graphs.insert(shape, graph);
        Ok(())
    }

    /// A decode step: as a graph, which is recorded the first time that a shape is met.
    fn decode(&mut self, shape: StepShape) -> Result<(), GpuError> {
        if !self.graphs.contains_key(&shape) {
            self.record(shape)?;
        }
        self.graphs[&shape].replay()
    }

    fn start(&mut self, batch: Batch) -> Result<Submitted, GpuError> {
        let kind = Kind::of(&batch);
        let layout = match kind {
            Kind::Decode => self.decode.layout(),
            Kind::Mixed => self.mixed.layout(),
        };
        let shape = Shaper { batch: &batch, kind, is_invariant: self.is_invariant, rows_max: layout.rows }.shape();
        let tables = match kind {
            Kind::Decode => &mut self.decode,
            Kind::Mixed => &mut self.mixed,
        };
        tables.write(&self.gpu, |host| fill(host, &batch, self.is_invariant))?;
        let entering: Vec<Entering<'_>> = batch.entering.iter().map(entering).collect();
        self.sampling.enter(&self.gpu, &entering)?;
        let begin = self.timed.as_ref().map(|_| self.gpu.record()).transpose()?;
        copy_blocks(&self.gpu, &mut self.cache, tables.copies(), batch.copies.len())?;
        match kind {
            Kind::Decode => self.decode(shape)?,
            Kind::Mixed => self.launch(kind, shape)?,
        }
        let results = self.next_results;
        self.next_results = (self.next_results + 1) % self.results.len();
        self.output.receive(&self.gpu, batch.sampled.len(), &mut self.results[results])?;
        Ok(Submitted { batch, results, begin, end: self.gpu.record()? })
    }

    fn tokens(&mut self, submitted: &Submitted) -> Result<Vec<RowResult>, GpuError> {
        let results = &mut self.results[submitted.results];
        let vocab = self.decoder.spec().vocab;
        let mut tokens = Vec::with_capacity(submitted.batch.sampled.len());
        for row in 0..submitted.batch.sampled.len() {
            tokens.push(match results.decode(row)? {
                Sampled::Token { token, logprobs } => {
                    let logprobs = logprobs.map(|found| RowLogprobs { chosen: found.chosen, top: found.top });
                    Ok(SampledToken { token, logprobs })
                }
                Sampled::NotFinite => Err(SampleError::NotFinite { vocab }),
            });
        }
        Ok(tokens)
    }
}

impl Runner for GpuRunner {
    fn depth(&self) -> usize {
        DEPTH
    }

    fn submit(&mut self, batch: Batch) -> Result<(), StepError> {
        let started = self.start(batch);
        self.in_flight.push_back(started.map_err(|error| StepError::Device { message: error.to_string() })?);
        Ok(())
    }

    fn collect(&mut self) -> Collected {
        let submitted = self.in_flight.pop_front().expect("collect follows a submit");
        let waiting = Instant::now();
        let ended = submitted.end.wait();
        let waited = waiting.elapsed();
        let tokens = ended.and_then(|()| self.tokens(&submitted));
        let Submitted { batch, begin, end, .. } = submitted;
        if let (Some(timed), Some(begin)) = (&mut self.timed, begin) {
            timed.push(Timed { begin, end, waited });
        }
        Collected { batch, tokens: tokens.map_err(|error| StepError::Device { message: error.to_string() }) }
    }
}

/// Which tables a step is written into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One row per sequence, each sampled: recorded and replayed.
    Decode,
    Mixed,
}

impl Kind {
    fn of(batch: &Batch) -> Self {
        let is_decode = batch.sampled.len() == batch.rows()
            && batch.chunks.iter().all(|chunk| chunk.rows == 1)
            && batch.rows() <= GRAPH_ROWS[GRAPH_ROWS.len() - 1];
        if is_decode { Self::Decode } else { Self::Mixed }
    }
}

fn decode_shape(rows: usize, splits: usize) -> StepShape {
    StepShape { rows, listed: rows, tiles: 0, sampled: rows, samples_all: true, splits }
}

/// Says how large the launches of a batch are.
struct Shaper<'a> {
    batch: &'a Batch,
    kind: Kind,
    is_invariant: bool,
    rows_max: usize,
}

impl Shaper<'_> {
    fn shape(&self) -> StepShape {
        let batch = self.batch;
        match self.kind {
            Kind::Decode => {
                let padded = GRAPH_ROWS.into_iter().find(|rows| *rows >= batch.rows()).unwrap_or(batch.rows());
                decode_shape(padded.min(self.rows_max), self.splits())
            }
            Kind::Mixed => StepShape {
                rows: batch.rows(),
                listed: batch.chunks.iter().filter(|chunk| self.attends_by_rows(chunk)).map(|chunk| chunk.rows).sum(),
                tiles: batch
                    .chunks
                    .iter()
                    .filter(|chunk| !self.attends_by_rows(chunk))
                    .map(|chunk| chunk.rows.div_ceil(TILE_ROWS))
                    .sum(),
                sampled: batch.sampled.len(),
                samples_all: false,
                splits: self.splits(),
            },
        }
    }

    fn attends_by_rows(&self, chunk: &PackedChunk) -> bool {
        attends_by_rows(chunk, self.is_invariant)
    }

    /// Pieces of the longest context among the rows that attend one by one: a power of two, so that few graphs serve
    /// every length.
    fn splits(&self) -> usize {
        let chunks = self.batch.chunks.iter().filter(|chunk| self.attends_by_rows(chunk));
        let longest = chunks.map(|chunk| chunk.start + chunk.rows).max().unwrap_or(1);
        splits_for(longest).next_power_of_two()
    }
}

/// A row on its own is computed by the kernel for rows; so is every row where results may not depend on company.
fn attends_by_rows(chunk: &PackedChunk, is_invariant: bool) -> bool {
    is_invariant || chunk.rows == 1
}

/// Writes the host's side of a step; returns how many entries of the block tables it used.
fn fill(host: HostTables<'_>, batch: &Batch, is_invariant: bool) -> usize {
    let rows = batch.rows();
    for (row, input) in batch.inputs.iter().enumerate() {
        match *input {
            RowInput::Known(token) => host.known[row] = token,
            RowInput::PreviousSample { state_row } => host.from_rows[row] = state_row,
        }
    }
    // Padded rows compute something that nobody looks at: token 0 at position 0.
    host.known[rows..].fill(0);
    host.positions[..rows].copy_from_slice(&batch.positions);
    host.positions[rows..].fill(0);
    host.slots[..rows].copy_from_slice(&batch.kv_slots);
    for (row, sampled) in batch.sampled.iter().enumerate() {
        host.sampled_rows[row] = sampled.row;
        host.state_rows[row] = sampled.state_row;
    }
    for (place, copy) in host.copies.iter_mut().zip(&batch.copies) {
        *place = [copy.from, copy.to, copy.tokens as u32];
    }
    host.block_tables[..batch.block_tables.len()].copy_from_slice(&batch.block_tables);
    let mut listed = 0;
    let mut tiles = host.tiles.iter_mut();
    for chunk in &batch.chunks {
        let table_start = chunk.block_table.start as u32;
        let chunk_rows = chunk.first_row..chunk.first_row + chunk.rows;
        host.table_starts[chunk_rows.clone()].fill(table_start);
        if attends_by_rows(chunk, is_invariant) {
            for row in chunk_rows {
                host.row_list[listed] = row as u32;
                listed += 1;
            }
        } else {
            let cut = Tiles {
                first_row: chunk.first_row as u32,
                rows: chunk.rows as u32,
                start: chunk.start as u32,
                table_start,
            };
            for tile in cut {
                *tiles.next().expect("room for the tiles of every chunk") = tile;
            }
        }
    }
    batch.block_tables.len()
}

fn entering(row: &EnteringRow) -> Entering<'_> {
    let (prompt, generated) = row.tokens.split_at(row.prompt_tokens);
    Entering {
        state_row: row.state_row,
        settings: settings(&row.params),
        seed: row.seed,
        sampled_tokens: generated.len() as u64,
        prompt,
        generated,
        biases: &row.params.logit_bias,
    }
}

fn settings(params: &SamplingParams) -> SamplingSettings {
    SamplingSettings {
        temperature: params.temperature,
        top_p: params.top_p,
        min_p: params.min_p,
        top_k: params.top_k.map_or(0, u32::from),
        repetition_penalty: params.repetition_penalty,
        presence_penalty: params.presence_penalty,
        frequency_penalty: params.frequency_penalty,
        logprobs: params.top_logprobs.map(|count| count as u32),
        is_masked: false,
    }
}
