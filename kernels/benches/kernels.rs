//! How close each operation comes to what the machine can do.
//!
//! `cargo bench -p sconce-kernels --bench kernels -- [--json] [--best] [--threads N] [--isa NAME] [--only TEXT]`
//!
//! Ceilings first: read bandwidth over 1 GiB, int8 and float rates out of registers. Then every operation at the
//! shapes of Qwen2.5-Coder-0.5B (hidden 896, MLP 4864, 14 query and 2 key heads of 64). Weights are read from 512 MiB
//! of matrices in turns, so that a row does not find them in a cache. Rates and shares are those of the
//! median sample, or of the best with `--best`; shares are of the ceilings measured in the same run. Inputs are constant: no operation looks at values.

use sconce_kernels::{
    AttentionChunk, AttentionScratch, AttentionShape, Isa, KvCache, Matrix, Pool, RopeTable, Rows, WeightType, ceiling,
    linear, paged_attention, quantises, rms_norm, rope, silu_mul,
};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

const ROUNDS: usize = 256;
const SAMPLES_MIN: usize = 5;
const SAMPLES_MAX: usize = 400;
const TIME_MAX: Duration = Duration::from_millis(1500);
const WEIGHT_BYTES: usize = 512 << 20;
const HIDDEN: usize = 896;
const MLP: usize = 4864;

struct Options {
    is_json: bool,
    /// Rates and shares of the best sample instead of the median: on a machine that others use too.
    of_best: bool,
    only: Option<String>,
    pool: Pool,
}

/// One line of the result.
struct Figure {
    name: String,
    median_us: f64,
    best_us: f64,
    /// Bytes that must be read and operations that must be done.
    bytes: f64,
    operations: f64,
}

struct Bench {
    options: Options,
    bandwidth: f64,
    int8_rate: f64,
    float_rate: f64,
}

fn main() {
    let options = options();
    let pool = &options.pool;
    let meter = ceiling::Meter::new(1 << 30);
    let best = |measure: &dyn Fn(usize) -> f64| (0..ROUNDS).map(measure).fold(0.0, f64::max);
    let bandwidth = best(&|round| meter.read(pool, round));
    let (int8_rate, float_rate) = (best(&|_| ceiling::int8_rate(pool)), best(&|_| ceiling::float_rate(pool)));
    drop(meter);
    let (threads, isa) = (pool.threads(), pool.isa().name());
    let (gb, gop, gflop) = (bandwidth / 1e9, int8_rate / 1e9, float_rate / 1e9);
    if options.is_json {
        println!(
            "{{\"threads\":{threads},\"isa\":\"{isa}\",\"read_gb_s\":{gb:.2},\"int8_gop_s\":{gop:.1},\"float_gflop_s\":{gflop:.1}}}"
        );
    } else {
        println!(
            "{threads} threads, {isa}: reads {gb:.1} GB/s, int8 {gop:.0} GOP/s, float {gflop:.0} GFLOP/s (best of {ROUNDS})"
        );
        println!(
            "{:<34} {:>10} {:>10} {:>8} {:>9} {:>7} {:>7}",
            "operation", "median us", "best us", "GB/s", "GOP/s", "of read", "of rate"
        );
    }
    let bench = Bench { options, bandwidth, int8_rate, float_rate };
    for weight_type in WeightType::ALL {
        for (outputs, width) in [(MLP, HIDDEN), (HIDDEN, MLP)] {
            bench.linear(weight_type, outputs, width);
        }
    }
    bench.attention();
    bench.small_operations();
}

fn options() -> Options {
    let mut args = std::env::args().skip(1);
    let (mut is_json, mut of_best, mut only, mut isa) = (false, false, None, Isa::detect());
    let mut threads = std::thread::available_parallelism().expect("the system knows its cores");
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--json" => is_json = true,
            "--best" => of_best = true,
            "--only" => only = Some(value()),
            "--threads" => threads = value().parse::<NonZeroUsize>().expect("a number of threads"),
            "--isa" => {
                let name = value();
                isa = Isa::available().into_iter().find(|isa| isa.name() == name).expect("a path this machine has");
            }
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    Options { is_json, of_best, only, pool: Pool::with_isa(threads, isa) }
}

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.options.only.as_ref().is_none_or(|only| name.contains(only))
    }

    /// Times `work(0)`, `work(1)` and so on, one sample each of `times` operations.
    fn measure(&self, name: String, times: usize, bytes: f64, operations: f64, mut work: impl FnMut(usize)) {
        if !self.wants(&name) {
            return;
        }
        work(0);
        let (begin, mut samples) = (Instant::now(), Vec::new());
        while samples.len() < SAMPLES_MIN || (samples.len() < SAMPLES_MAX && begin.elapsed() < TIME_MAX) {
            let start = Instant::now();
            work(samples.len() + 1);
            samples.push(start.elapsed().as_secs_f64() * 1e6 / times as f64);
        }
        samples.sort_by(f64::total_cmp);
        self.print(&Figure { name, median_us: samples[samples.len() / 2], best_us: samples[0], bytes, operations });
    }

    fn print(&self, figure: &Figure) {
        let Figure { name, median_us, best_us, bytes, operations } = figure;
        let seconds = if self.options.of_best { best_us } else { median_us } / 1e6;
        let (bytes_s, operations_s) = (bytes / seconds, operations / seconds);
        let is_int8 = name.contains('Q');
        let rate = if is_int8 { self.int8_rate } else { self.float_rate };
        let (of_read, of_rate) = (100.0 * bytes_s / self.bandwidth, 100.0 * operations_s / rate);
        let (gb, gop) = (bytes_s / 1e9, operations_s / 1e9);
        if self.options.is_json {
            println!(
                "{{\"operation\":\"{name}\",\"median_us\":{median_us:.2},\"best_us\":{best_us:.2},\"gb_s\":{gb:.2},\"gop_s\":{gop:.2},\"of_read_percent\":{of_read:.1},\"of_rate_percent\":{of_rate:.1}}}"
            );
        } else {
            println!(
                "{name:<34} {median_us:>10.1} {best_us:>10.1} {gb:>8.1} {gop:>9.1} {of_read:>6.0}% {of_rate:>6.0}%"
            );
        }
    }

    fn linear(&self, weight_type: WeightType, outputs: usize, width: usize) {
        // Q8_0 stands for the K types where the real width is no multiple of 256.
        let width = width.next_multiple_of(weight_type.block_values());
        let name = |rows: usize| format!("linear {weight_type} [{outputs}, {width}] x {rows}");
        let row_counts = [1, 4, 8, 16, 64, 512];
        if !row_counts.iter().any(|rows| self.wants(&name(*rows))) {
            return;
        }
        let bytes = vec![0x11; outputs * width / weight_type.block_values() * weight_type.block_bytes()];
        let make = |_| Matrix::new(weight_type, outputs, width, &bytes).expect("the sizes agree");
        let matrices: Vec<Matrix> = (0..WEIGHT_BYTES.div_ceil(bytes.len())).map(make).collect();
        let pool = &self.options.pool;
        for rows in row_counts {
            let mut x = Rows::with_capacity(rows, width);
            x.load(pool, &vec![0.5; rows * width], rows, width, quantises(weight_type));
            let mut out = vec![0.0; rows * outputs];
            let operations = 2.0 * (rows * outputs * width) as f64;
            self.measure(name(rows), 1, matrices[0].bytes() as f64, operations, |sample| {
                linear(pool, &matrices[sample % matrices.len()], None, &x, &mut out);
            });
        }
    }

    fn attention(&self) {
        let (q_heads, kv_heads, head_dim, layers) = (14, 2, 64, 24);
        let shape = AttentionShape { q_heads, kv_heads, head_dim, scale: 0.125, window: None };
        for (start, rows) in [(2047_usize, 1_usize), (8191, 1), (0, 512), (3584, 512)] {
            let blocks = (start + rows).div_ceil(16);
            let cache = KvCache::new(layers, blocks, 16, kv_heads, head_dim).expect("it fits into memory");
            let block_table: Vec<u32> = (0..blocks as u32).collect();
            let q = vec![0.5; rows * q_heads * head_dim];
            let mut out = vec![0.0; q.len()];
            let mut scratch = AttentionScratch::new(self.options.pool.threads().get(), head_dim);
            let chunks = [AttentionChunk { first_row: 0, rows, start, block_table: &block_table }];
            let seen: usize = (start + 1..=start + rows).sum();
            let bytes = ((start + rows) * kv_heads * head_dim * 8) as f64;
            let operations = (seen * q_heads * head_dim * 4) as f64;
            let name = format!("attention at {start} x {rows}");
            self.measure(name, 1, bytes, operations, |sample| {
                let layer = sample % layers;
                paged_attention(&self.options.pool, &shape, &cache, layer, &q, &chunks, &mut out, &mut scratch);
            });
        }
    }

    fn small_operations(&self) {
        let pool = &self.options.pool;
        for rows in [1, 512] {
            let times = 512 / rows;
            let x = vec![0.5; rows * MLP];
            let mut out = vec![0.0; rows * MLP];
            let hidden = rows * HIDDEN;
            self.measure(
                format!("rms_norm {HIDDEN} x {rows}"),
                times,
                (8 * hidden) as f64,
                (3 * hidden) as f64,
                |_| {
                    (0..times).for_each(|_| rms_norm(pool, &x[..hidden], &x[..HIDDEN], 1e-6, &mut out[..hidden]));
                },
            );
            let mlp = rows * MLP;
            self.measure(format!("silu_mul {MLP} x {rows}"), times, (12 * mlp) as f64, (20 * mlp) as f64, |_| {
                (0..times).for_each(|_| silu_mul(pool, &x, &x, &mut out));
            });
            let positions: Vec<u32> = (0..rows as u32).collect();
            for (name, table) in [("rope", table()), ("rope known", table().with_positions(512))] {
                self.measure(
                    format!("{name} 14 x 64 x {rows}"),
                    times,
                    (8 * hidden) as f64,
                    (3 * hidden) as f64,
                    |_| {
                        (0..times).for_each(|_| rope(pool, &table, &positions, &mut out[..hidden], 14, 64));
                    },
                );
            }
            let mut loaded = Rows::with_capacity(rows, MLP);
            self.measure(format!("rows int8 {MLP} x {rows}"), times, (4 * mlp) as f64, (3 * mlp) as f64, |_| {
                (0..times).for_each(|_| loaded.load_quantised(pool, &x, rows, MLP));
            });
            self.measure(format!("rows both {MLP} x {rows}"), times, (4 * mlp) as f64, (3 * mlp) as f64, |_| {
                (0..times).for_each(|_| loaded.load(pool, &x, rows, MLP, true));
            });
        }
        self.measure("fork and join".to_owned(), 1000, 0.0, 0.0, |_| {
            (0..1000).for_each(|_| pool.run(pool.threads().get(), &|_| {}));
        });
    }
}

fn table() -> RopeTable {
    RopeTable::new((0..32).map(|pair| 1e6f32.powf(-(pair as f32) / 32.0)).collect(), 1.0)
}
