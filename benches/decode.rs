//! How fast does a decoder of a real shape compute on this CPU, next to what the machine can do at best?
//!
//! Random weights in the shape of Qwen2.5-Coder-0.5B (494 M parameters, Q8_0 by default), seed fixed. Prefill of 512
//! tokens in chunks of 256, and decode of 64 tokens at 1, 4 and 8 sequences behind 256 tokens each; medians of
//! `--rounds`. Bounds: reading every weight and key once per step at the read bandwidth measured in the same run, and
//! the int8 (or f32) rate measured in the same run.
//!
//! `cargo bench --bench decode -- [--type q8_0|f16|bf16] [--layers N] [--threads N] [--rounds N] [--json]`

#[path = "support/gguf.rs"]
mod gguf;

use gguf::{GgufBuilder, StoredType};
use kernels::{AttentionChunk, KvCache, Pool, ceiling};
use sconce::arch::{Recognised, recognise};
use sconce::checkpoint::{Checkpoint, Limits};
use sconce::nn::{Decoder, DecoderBatch, DecoderSpec, Quantise, Workspace, plan};
use std::num::NonZeroUsize;
use std::time::Instant;

const BLOCK_TOKENS: usize = 16;
const PROMPT_TOKENS: usize = 512;
const CHUNK_TOKENS: usize = 256;
const CONTEXT_TOKENS: usize = 256;
const DECODED_TOKENS: usize = 64;
const SEQUENCES_MAX: usize = 8;
const METER_BYTES: usize = 1 << 30;

struct Arguments {
    stored: StoredType,
    layers: usize,
    threads: NonZeroUsize,
    rounds: usize,
    json: bool,
}

struct Bench {
    pool: Pool,
    decoder: Decoder,
    cache: KvCache,
    workspace: Workspace,
    /// Weights and biases that a step reads, without the rows of the embedding it looks up.
    weights_bytes: u64,
    kv_bytes_per_token: u64,
    parameters: u64,
}

/// One line of the result.
struct Figure {
    name: String,
    tokens_per_second: f64,
    /// Tokens per second at the bound.
    bound: f64,
    bound_name: &'static str,
}

fn main() {
    let arguments = Arguments::read();
    let pool = Pool::new(arguments.threads);
    eprintln!("measuring the machine and building {} layers of random weights", arguments.layers);
    let meter = ceiling::Meter::new(METER_BYTES);
    let bandwidth = median((0..meter.windows()).map(|window| meter.read(&pool, window)).collect());
    drop(meter);
    let rate = match arguments.stored {
        StoredType::Q8_0 => median((0..50).map(|_| ceiling::int8_rate(&pool)).collect()),
        StoredType::F16 | StoredType::Bf16 => median((0..50).map(|_| ceiling::float_rate(&pool)).collect()),
    };
    let mut bench = Bench::new(pool, &arguments);
    let mut figures = vec![bench.prefill(&arguments, rate)];
    for sequences in [1, 4, SEQUENCES_MAX] {
        figures.push(bench.decode(&arguments, sequences, bandwidth, rate));
    }
    report(&arguments, bandwidth, rate, &bench, &figures);
}

impl Arguments {
    fn read() -> Self {
        let mut arguments = Self {
            stored: StoredType::Q8_0,
            layers: 24,
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            rounds: 5,
            json: false,
        };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            let mut value = || given.next().unwrap_or_else(|| panic!("{name} needs a value"));
            match name.as_str() {
                "--type" => arguments.stored = StoredType::parse(&value()),
                "--layers" => arguments.layers = value().parse().expect("a number"),
                "--threads" => arguments.threads = value().parse().expect("a number above 0"),
                "--rounds" => arguments.rounds = value().parse().expect("a number"),
                "--json" => arguments.json = true,
                // What cargo itself passes.
                "--bench" => {}
                other => panic!("{other} is not known; see the head of benches/decode.rs"),
            }
        }
        arguments
    }
}

impl Bench {
    fn new(pool: Pool, arguments: &Arguments) -> Self {
        let bytes = GgufBuilder::qwen2_coder_half_billion(arguments.layers, arguments.stored).build();
        let checkpoint = Checkpoint::from_gguf_bytes("random weights", bytes, &Limits::default()).expect("well formed");
        let Recognised { spec, .. } = recognise(&checkpoint).expect("qwen2");
        let needs = plan(&checkpoint, &spec, Quantise::None).expect("supported types");
        let decoder = Decoder::load(&checkpoint, spec.clone(), Quantise::None, &mut |_| {}).expect("loads");
        let blocks = SEQUENCES_MAX * (CONTEXT_TOKENS + DECODED_TOKENS).max(PROMPT_TOKENS).div_ceil(BLOCK_TOKENS);
        let cache = KvCache::new(spec.layers, blocks, BLOCK_TOKENS, spec.kv_heads, spec.head_dim).expect("fits");
        let workspace = Workspace::new(&spec, CHUNK_TOKENS, SEQUENCES_MAX);
        Self {
            pool,
            weights_bytes: decoder.weights_bytes(),
            kv_bytes_per_token: needs.kv_bytes_per_token,
            parameters: needs.parameters,
            decoder,
            cache,
            workspace,
        }
    }

    fn spec(&self) -> &DecoderSpec {
        self.decoder.spec()
    }

    /// Computes `tokens` tokens from `start` for each of `sequences`, sampling the last row of each.
    fn step(&mut self, sequences: usize, start: usize, tokens: usize) {
        let blocks_each = self.cache_blocks_each();
        let tables: Vec<Vec<u32>> = (0..sequences)
            .map(|sequence| (0..blocks_each).map(|block| (sequence * blocks_each + block) as u32).collect())
            .collect();
        let rows = sequences * tokens;
        let position = |row: usize| start + row % tokens;
        let token_ids: Vec<u32> = (0..rows).map(|row| ((row * 7919 + start * 31) % self.spec().vocab) as u32).collect();
        let positions: Vec<u32> = (0..rows).map(|row| position(row) as u32).collect();
        let slots: Vec<u32> = (0..rows)
            .map(|row| {
                let block = tables[row / tokens][position(row) / BLOCK_TOKENS];
                block * BLOCK_TOKENS as u32 + (position(row) % BLOCK_TOKENS) as u32
            })
            .collect();
        let chunks: Vec<AttentionChunk<'_>> = tables
            .iter()
            .enumerate()
            .map(|(sequence, table)| AttentionChunk {
                first_row: sequence * tokens,
                rows: tokens,
                start,
                block_table: &table[..(start + tokens).div_ceil(BLOCK_TOKENS)],
            })
            .collect();
        let sampled_rows: Vec<u32> = (1..=sequences).map(|sequence| (sequence * tokens - 1) as u32).collect();
        let batch = DecoderBatch {
            token_ids: &token_ids,
            positions: &positions,
            slots: &slots,
            chunks: &chunks,
            sampled_rows: &sampled_rows,
        };
        std::hint::black_box(self.decoder.forward(&self.pool, &batch, &mut self.cache, &mut self.workspace));
    }

    fn cache_blocks_each(&self) -> usize {
        (CONTEXT_TOKENS + DECODED_TOKENS).max(PROMPT_TOKENS).div_ceil(BLOCK_TOKENS)
    }

    fn prefill(&mut self, arguments: &Arguments, rate: f64) -> Figure {
        let once = |bench: &mut Self| {
            let start = Instant::now();
            for chunk in 0..PROMPT_TOKENS / CHUNK_TOKENS {
                bench.step(1, chunk * CHUNK_TOKENS, CHUNK_TOKENS);
            }
            PROMPT_TOKENS as f64 / start.elapsed().as_secs_f64()
        };
        once(self);
        let tokens_per_second = median((0..arguments.rounds).map(|_| once(self)).collect());
        let bound = rate / (2.0 * self.layer_parameters() as f64);
        Figure { name: format!("prefill {PROMPT_TOKENS}"), tokens_per_second, bound, bound_name: "arithmetic" }
    }

    fn decode(&mut self, arguments: &Arguments, sequences: usize, bandwidth: f64, rate: f64) -> Figure {
        let once = |bench: &mut Self| {
            let start = Instant::now();
            for token in 0..DECODED_TOKENS {
                bench.step(sequences, CONTEXT_TOKENS + token, 1);
            }
            (sequences * DECODED_TOKENS) as f64 / start.elapsed().as_secs_f64()
        };
        let chunk = CHUNK_TOKENS / sequences;
        for part in 0..CONTEXT_TOKENS / chunk {
            self.step(sequences, part * chunk, chunk);
        }
        once(self);
        let tokens_per_second = median((0..arguments.rounds).map(|_| once(self)).collect());
        let kv_bytes = sequences as u64 * self.kv_bytes_per_token * (CONTEXT_TOKENS + DECODED_TOKENS / 2) as u64;
        let by_reading = bandwidth / (self.weights_bytes + kv_bytes) as f64 * sequences as f64;
        let by_arithmetic = rate / (2.0 * self.parameters as f64);
        let (bound, bound_name) =
            if by_reading < by_arithmetic { (by_reading, "bandwidth") } else { (by_arithmetic, "arithmetic") };
        Figure { name: format!("decode x{sequences}"), tokens_per_second, bound, bound_name }
    }

    /// Parameters that every token of a prompt is multiplied with: all but the embedding, which is the head too.
    fn layer_parameters(&self) -> u64 {
        let spec = self.spec();
        self.parameters - (spec.vocab * spec.hidden) as u64
    }
}

fn report(arguments: &Arguments, bandwidth: f64, rate: f64, bench: &Bench, figures: &[Figure]) {
    if arguments.json {
        let figures: Vec<serde_json::Value> = figures
            .iter()
            .map(|figure| {
                serde_json::json!({
                    "name": figure.name,
                    "tokens_per_second": figure.tokens_per_second,
                    "bound_tokens_per_second": figure.bound,
                    "bound": figure.bound_name,
                    "share_of_bound": figure.tokens_per_second / figure.bound,
                })
            })
            .collect();
        let report = serde_json::json!({
            "bench": "decode",
            "shape": "qwen2.5-coder-0.5b",
            "type": arguments.stored.name(),
            "layers": arguments.layers,
            "parameters": bench.parameters,
            "weights_bytes": bench.weights_bytes,
            "threads": arguments.threads,
            "isa": bench.pool.isa().name(),
            "rounds": arguments.rounds,
            "read_bandwidth_bytes_per_second": bandwidth,
            "arithmetic_rate_per_second": rate,
            "figures": figures,
        });
        println!("{report:#}");
        return;
    }
    println!(
        "qwen2.5-coder-0.5b shape, {} layers, {}, {:.0} M parameters, {} threads, {:?}",
        arguments.layers,
        arguments.stored.name(),
        bench.parameters as f64 / 1e6,
        arguments.threads,
        bench.pool.isa().name()
    );
    println!(
        "read bandwidth {:.1} GB/s, arithmetic {:.0} G/s, medians of {}",
        bandwidth / 1e9,
        rate / 1e9,
        arguments.rounds
    );
    println!("{:14} {:>12} {:>12} {:>8}  of", "", "tokens/s", "bound", "share");
    for figure in figures {
        println!(
            "{:14} {:>12.1} {:>12.1} {:>7.0}%  {}",
            figure.name,
            figure.tokens_per_second,
            figure.bound,
            100.0 * figure.tokens_per_second / figure.bound,
            figure.bound_name
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
