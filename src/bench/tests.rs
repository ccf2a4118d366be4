//! Shapes against published counts, a tiny model from end to end, a device that only counts, and the two ways to write a
//! report down.

use super::error::BenchError;
use super::machine::Machine;
use super::*;
use crate::engine::{BLOCK_TOKENS, Batch, Collected, RowInput, Runner, StepError};
use crate::nn::{self, Quantise};
use crate::sampler::{SampleError, SampledToken};
use kernels::Pool;
use kernels::gpu::GpuError;
use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn shape(name: &str) -> &'static Shape {
    Shape::named(name).expect("a shape of this name")
}

fn model(name: &str) -> Model {
    Model::random(shape(name), 1).expect("its configuration is recognised")
}

#[test]
fn shapes_have_the_parameters_of_the_models_they_are_named_after() {
    let published = [
        ("qwen2.5-coder-0.5b", 494_032_768),
        ("qwen2.5-coder-1.5b", 1_543_714_304),
        ("qwen2.5-coder-7b", 7_615_616_512),
        ("qwen2.5-coder-32b", 32_763_876_352),
        ("mistral-7b", 7_248_023_552),
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-1.1b", 1_100_048_384),
        ("tiny", 115_264),
    ];
    assert_eq!(published.map(|(name, _)| name).as_slice(), SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>());
    for (name, parameters) in published {
        let model = model(name);
        let needs = nn::plan(&model.checkpoint, &model.spec, Quantise::None).expect("BF16 is supported");
        assert_eq!(needs.parameters, parameters, "{name}");
    }
}

#[test]
fn a_step_reads_all_weights_but_an_embedding_that_is_only_looked_up() {
    for (name, looked_up_bytes) in [("qwen2.5-coder-0.5b", 0), ("qwen2.5-coder-7b", 2 * 152_064 * 3584)] {
        let model = model(name);
        let needs = nn::plan(&model.checkpoint, &model.spec, Quantise::None).expect("BF16 is supported");
        assert_eq!(needs.weights_bytes - needs.streamed_bytes, looked_up_bytes, "{name}");
        let work = Work::of(&model.spec);
        let matrices = 2 * (work.layer_parameters + work.head_parameters);
        let vectors = needs.streamed_bytes - matrices;
        assert!(vectors < needs.streamed_bytes / 1000, "{name}: {vectors} bytes besides matrices");
    }
}

fn settings() -> Settings {
    Settings {
        batches: vec![3, 1, 3],
        context_tokens: 40,
        prefill_tokens: 70,
        chunk_tokens: 32,
        decode_steps: 5,
        repeats: 2,
        seed: 1,
    }
}

/// Runs a bench and tells what it said it was doing.
fn bench(model: &Model, settings: &Settings, platform: &mut dyn Platform) -> (Result<Report, BenchError>, Vec<Stage>) {
    let (stop, mut stages) = (AtomicBool::new(false), Vec::new());
    let mut show = |stage| stages.push(stage);
    let report = run(model, settings, platform, &mut Watch { stop: &stop, show: &mut show });
    (report, stages)
}

#[test]
fn a_tiny_model_is_measured_from_end_to_end() {
    let pool = Arc::new(Pool::new(NonZeroUsize::new(2).expect("two")));
    let effort = Effort { meter_bytes: 1, rate_samples: 1 };
    for (quantise, weight_type, kind) in [(Quantise::None, "BF16", "f32"), (Quantise::Q8_0, "Q8_0", "int8")] {
        let mut platform = CpuPlatform::new(Arc::clone(&pool), effort);
        let model = model("tiny").quantised(quantise);
        let (report, stages) = bench(&model, &settings(), &mut platform);
        let report = report.expect("a tiny model fits everywhere");
        assert_eq!((report.model.weight_type.as_str(), report.ceilings.arithmetic.kind), (weight_type, kind));
        assert_eq!((report.model.parameters, report.model.random_seed), (115_264, Some(1)));
        // Keys and values of two layers of 32 values in f32, and the share of a block's alignment.
        assert!((512..=520).contains(&report.model.traffic.kv_bytes_per_token));
        assert_eq!(report.device.threads, Some(2));
        assert_eq!(report.decode.iter().map(|decoded| decoded.batch).collect::<Vec<_>>(), [1, 3]);
        for decoded in &report.decode {
            assert_eq!(decoded.context_tokens, 42.5);
            assert!(decoded.tokens_per_second.min > 0.0 && decoded.bound.unwrap().share > 0.0);
            assert!(decoded.tokens_per_second.min <= decoded.tokens_per_second.max);
            assert!(decoded.inter_token_p50_seconds <= decoded.inter_token_p99_seconds);
            assert_eq!((decoded.host_seconds_per_step, decoded.device_idle_share), (None, None));
        }
        assert!(report.prefill.share_of_arithmetic.unwrap() > 0.0 && report.prefill.tokens == 70);
        let runs = stages.iter().filter(|stage| matches!(stage, Stage::Prefill { .. } | Stage::Decode { .. })).count();
        assert_eq!(runs, 3 + 3 + 3, "two runs and one before them, for the prefill and both batches");
        let mut filled = stages.iter().filter_map(|stage| match stage {
            Stage::Loading { done_bytes, total_bytes } => Some((*done_bytes, *total_bytes)),
            _ => None,
        });
        assert_eq!(filled.next_back(), Some((report.model.weights_bytes, report.model.weights_bytes)));
    }
}

/// A platform whose device computes nothing and remembers what it was given.
struct Counting {
    depth: usize,
    fail_at: Option<(usize, Failure)>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Copy)]
enum Failure {
    Submit,
    Collect,
    Row,
}

#[derive(Default)]
struct Seen {
    steps: usize,
    in_flight_max: usize,
    rows: usize,
    copies_max: usize,
}

struct CountingRunner {
    depth: usize,
    room: Room,
    fail_at: Option<(usize, Failure)>,
    in_flight: VecDeque<Batch>,
    /// Slots of the cache that hold something.
    written: HashSet<u32>,
    has_sampled: HashSet<u32>,
    seen: Arc<Mutex<Seen>>,
}

impl Platform for Counting {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo {
            name: "counting".to_owned(),
            threads: None,
            instruction_set: "none".to_owned(),
            is_batch_invariant: false,
        }
    }

    fn measure(&mut self, _model: &Model) -> Result<Ceilings, BenchError> {
        Ok(Ceilings {
            bandwidth: Rate { per_second: Some(1e9), kind: "copy" },
            arithmetic: Rate { per_second: Some(1e12), kind: "bf16" },
        })
    }

    fn load(&mut self, _model: &Model, room: &Room, _progress: &mut dyn FnMut(u64, u64)) -> Result<Loaded, BenchError> {
        let runner = CountingRunner {
            depth: self.depth,
            room: *room,
            fail_at: self.fail_at,
            in_flight: VecDeque::new(),
            written: HashSet::new(),
            has_sampled: HashSet::new(),
            seen: Arc::clone(&self.seen),
        };
        Ok(Loaded {
            runner: Box::new(runner),
            parameters: 500,
            weights_bytes: 1000,
            traffic: Traffic { streamed_bytes: 900, kv_bytes_per_token: 10 },
            weight_type: "BF16".to_owned(),
            kv_type: "BF16",
        })
    }
}

impl Runner for CountingRunner {
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, batch: Batch) -> Result<(), StepError> {
        let mut seen = self.seen.lock().expect("no test panics while it holds this");
        assert!(batch.rows() > 0 && batch.rows() <= self.room.rows_max, "{} rows", batch.rows());
        assert!(batch.sampled.len() <= self.room.running_max && batch.copies.len() <= self.room.running_max);
        let tokens = BLOCK_TOKENS as u32;
        for copy in &batch.copies {
            for offset in 0..copy.tokens as u32 {
                assert!(self.written.contains(&(copy.from * tokens + offset)), "copied from where nothing is");
                self.written.insert(copy.to * tokens + offset);
            }
        }
        self.written.extend(&batch.kv_slots);
        for chunk in &batch.chunks {
            let table = batch.block_table(chunk);
            assert!(table.iter().all(|block| (*block as usize) < self.room.blocks), "a block that is not there");
            for position in 0..chunk.start + chunk.rows {
                let slot = table[position / BLOCK_TOKENS] * tokens + (position % BLOCK_TOKENS) as u32;
                assert!(self.written.contains(&slot), "position {position} is attended to and was never written");
            }
        }
        for input in &batch.inputs {
            if let RowInput::PreviousSample { state_row } = input {
                assert!(self.has_sampled.contains(state_row), "row {state_row} has sampled nothing");
            }
        }
        self.has_sampled.extend(batch.sampled.iter().map(|sampled| sampled.state_row));
        seen.rows += batch.rows();
        seen.copies_max = seen.copies_max.max(batch.copies.len());
        if matches!(self.fail_at, Some((at, Failure::Submit)) if at == seen.steps) {
            return Err(StepError::Device { message: "lost".to_owned() });
        }
        seen.steps += 1;
        self.in_flight.push_back(batch);
        seen.in_flight_max = seen.in_flight_max.max(self.in_flight.len());
        Ok(())
    }

    fn collect(&mut self) -> Collected {
        let batch = self.in_flight.pop_front().expect("something is in flight");
        let sampled = SampledToken { token: 7, logprobs: None };
        let mut tokens: Vec<_> = batch.sampled.iter().map(|_| Ok(sampled.clone())).collect();
        let collected = self.seen.lock().expect("as above").steps - self.in_flight.len() - 1;
        match self.fail_at {
            Some((at, Failure::Row)) if at <= collected && !tokens.is_empty() => {
                tokens[0] = Err(SampleError::NotFinite { vocab: 9 });
            }
            Some((at, Failure::Collect)) if at <= collected => {
                return Collected { batch, tokens: Err(StepError::Panicked { message: "odd".to_owned() }) };
            }
            _ => {}
        }
        Collected { batch, tokens: Ok(tokens) }
    }
}

impl TimedRunner for CountingRunner {
    fn take_times(&mut self) -> Result<Option<StepTimes>, GpuError> {
        Ok(Some(StepTimes { waited: Duration::ZERO, busy: Some(Duration::ZERO) }))
    }
}

fn counting(depth: usize, fail_at: Option<(usize, Failure)>) -> Counting {
    Counting { depth, fail_at, seen: Arc::default() }
}

#[test]
fn as_many_steps_are_in_flight_as_the_device_takes_and_all_they_read_was_written() {
    for depth in [0, 1, 2] {
        let mut platform = counting(depth, None);
        // An odd number of runs: the one in the middle is the same for every figure.
        let (report, _) = bench(&model("tiny"), &Settings { repeats: 3, ..settings() }, &mut platform);
        let report = report.expect("nothing can fail");
        let seen = platform.seen.lock().expect("nobody panicked");
        assert_eq!(seen.in_flight_max, depth + 1);
        assert_eq!(report.depth_steps, depth);
        // Four prefills of 70 in three chunks, a context of 40 in two, its three blocks for the others, and four runs
        // of five steps of one and of three sequences.
        assert_eq!(seen.steps, 4 * 3 + 2 + 3 + 4 * 5 * 2);
        assert_eq!(seen.rows, 4 * 70 + 40 + 3 + 4 * 5 * (1 + 3));
        assert_eq!(seen.copies_max, 2);
        // Nobody waited and the device was never busy: all the time was the host's.
        for decoded in &report.decode {
            let step = decoded.batch as f64 / decoded.tokens_per_second.median;
            let host = decoded.host_seconds_per_step.expect("the runner tells");
            assert!((host / step - 1.0).abs() < 1e-6 && decoded.device_idle_share == Some(1.0), "{host} of {step}");
        }
        let bytes: Vec<f64> = report.decode.iter().map(|decoded| decoded.step_bytes).collect();
        assert_eq!(bytes, [900.0 + 425.0, 900.0 + 3.0 * 425.0]);
        let bounds: Vec<f64> = report.decode.iter().map(|decoded| decoded.bound.unwrap().tokens_per_second).collect();
        assert_eq!(bounds, [1e9 / 1325.0, 3.0 * 1e9 / 2175.0]);
    }
}

#[test]
fn host_and_device_times_are_shares_of_the_wall() {
    let run = |waited, busy| measure::Run {
        wall: Duration::from_millis(100),
        intervals: vec![Duration::from_millis(25); 4],
        waited,
        busy,
    };
    let told = run(Some(Duration::from_millis(80)), Some(Duration::from_millis(75)));
    assert_eq!(told.host_seconds_per_step(), Some(0.005));
    assert_eq!(told.device_idle_share(), Some(0.25));
    assert_eq!((run(None, None).host_seconds_per_step(), run(None, None).device_idle_share()), (None, None));
}

#[test]
fn a_step_that_fails_ends_the_bench() {
    for (failure, part) in [(Failure::Submit, "lost"), (Failure::Collect, "odd"), (Failure::Row, "9 logits")] {
        for at in [0, 7, 20] {
            let (report, _) = bench(&model("tiny"), &settings(), &mut counting(1, Some((at, failure))));
            let message = report.expect_err("it fails").to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn an_interrupted_bench_ends_at_the_next_step() {
    for stop_at in [0, 2, 5, 9] {
        let (stop, mut stages) = (AtomicBool::new(false), 0);
        let mut show = |_| {
            stop.store(stages == stop_at, Ordering::Relaxed);
            stages += 1;
        };
        let mut watch = Watch { stop: &stop, show: &mut show };
        let report = run(&model("tiny"), &settings(), &mut counting(1, None), &mut watch);
        assert!(matches!(report, Err(BenchError::Interrupted)), "{stop_at}");
        assert_eq!(stages, stop_at + 1);
    }
}

#[test]
fn what_a_model_cannot_do_is_refused_with_its_numbers() {
    let base = settings();
    for (settings, parts) in [
        (Settings { context_tokens: 1020, ..base.clone() }, vec!["1020", "--context", "5 steps", "tiny", "1024"]),
        (Settings { prefill_tokens: 1025, ..base.clone() }, vec!["1025", "--prefill", "tiny", "1024"]),
        (Settings { batches: vec![], ..base.clone() }, vec!["number of batch sizes is 0"]),
        (Settings { batches: vec![1, 0], ..base.clone() }, vec!["batch of 0", "1 to 1024"]),
        (Settings { batches: vec![4096], ..base.clone() }, vec!["batch of 4096", "1 to 1024"]),
        (Settings { repeats: 0, ..base.clone() }, vec!["number of repeats is 0"]),
        (Settings { chunk_tokens: 0, ..base.clone() }, vec!["chunk is 0"]),
    ] {
        let (report, stages) = bench(&model("tiny"), &settings, &mut counting(0, None));
        let message = report.expect_err("it is refused").to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert_eq!(stages, [], "refused before anything is measured");
    }
    // The last token that a context has room for is still measured.
    let edge = Settings { context_tokens: 1019, ..base };
    assert!(bench(&model("tiny"), &edge, &mut counting(0, None)).0.is_ok());
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_loaded() {
    let mut platform =
        CpuPlatform::new(Arc::new(Pool::new(NonZeroUsize::MIN)), Effort { meter_bytes: 1, rate_samples: 1 });
    let room = Room { blocks: 1 << 40, rows_max: 1, running_max: 1, context_tokens: 1 };
    let refused = platform.load(&model("tiny"), &room, &mut |_, _| panic!("nothing is loaded"));
    let Err(refused) = refused else { panic!("16 Ti tokens of keys and values fit nowhere") };
    let message = refused.to_string();
    assert!(message.contains("--batch") && message.contains("TiB"), "{message}");
}

/// A report of round numbers.
fn report() -> Report {
    let spread = |median: f64| Spread { median, min: median * 0.9, max: median * 1.1 };
    let decoded = Decoded {
        batch: 4,
        context_tokens: 528.0,
        tokens_per_second: spread(100.0),
        inter_token_p50_seconds: 0.04,
        inter_token_p99_seconds: 0.05,
        step_bytes: 600e6,
        bound: Some(Reached { tokens_per_second: 125.0, by: BoundBy::Bandwidth, share: 0.8 }),
        host_seconds_per_step: None,
        device_idle_share: None,
    };
    Report {
        machine: Machine {
            cpu: Some("A Processor".to_owned()),
            cores: 2,
            memory_bytes: Some(24 << 30),
            version: "0.1.0",
        },
        device: DeviceInfo {
            name: "cpu".to_owned(),
            threads: Some(2),
            instruction_set: "avx2".to_owned(),
            is_batch_invariant: true,
        },
        depth_steps: 0,
        ceilings: Ceilings {
            bandwidth: Rate { per_second: Some(20e9), kind: "read" },
            arithmetic: Rate { per_second: Some(1e12), kind: "int8" },
        },
        model: ModelReport {
            name: "tiny".to_owned(),
            architecture: "qwen2".to_owned(),
            random_seed: Some(1),
            parameters: 494_032_768,
            weight_type: "Q8_0".to_owned(),
            kv_type: "F32",
            weights_bytes: 500 << 20,
            traffic: Traffic { streamed_bytes: 500 << 20, kv_bytes_per_token: 24 << 10 },
            load: Duration::from_millis(1500),
        },
        settings: Settings { batches: vec![4], ..Settings::default() },
        prefill: Prefilled {
            tokens: 512,
            tokens_per_second: spread(1000.0),
            time_to_first_token_seconds: spread(0.5),
            operations: 4e11,
            share_of_arithmetic: Some(0.8),
        },
        decode: vec![
            decoded.clone(),
            Decoded { host_seconds_per_step: Some(30e-6), device_idle_share: Some(0.25), ..decoded },
        ],
    }
}

#[test]
fn machines_find_every_figure_under_its_name() {
    let json = report_json(&report());
    let want = serde_json::json!({
        "bench": "engine",
        "schema": 1,
        "version": "0.1.0",
        "machine": { "cpu": "A Processor", "cores": 2, "memory_bytes": 25_769_803_776_u64 },
        "device": {
            "name": "cpu", "threads": 2, "instruction_set": "avx2", "depth_steps": 0,
            "is_batch_invariant": true,
            "bandwidth_kind": "read", "bandwidth_bytes_per_s": 20e9,
            "arithmetic_kind": "int8", "arithmetic_operations_per_s": 1e12,
        },
        "model": {
            "name": "tiny", "architecture": "qwen2", "random_seed": 1, "parameters": 494_032_768,
            "weight_type": "Q8_0", "kv_type": "F32", "weights_bytes": 524_288_000,
            "streamed_bytes_per_step": 524_288_000, "kv_bytes_per_token": 24_576, "load_ms": 1500.0,
        },
        "settings": {
            "batches": [4], "context_tokens": 512, "prefill_tokens": 512, "chunk_tokens": 256, "decode_steps": 32,
            "repeats": 5, "seed": 1,
        },
        "prefill": {
            "tokens": 512,
            "tokens_per_s": { "median": 1000.0, "min": 900.0, "max": 1100.0 },
            "time_to_first_token_ms": { "median": 500.0, "min": 450.0, "max": 550.0 },
            "operations": 4e11, "share_of_arithmetic": 0.8,
        },
        "decode": [],
    });
    let mut head = json.clone();
    head["decode"] = serde_json::json!([]);
    assert_json(&head, &want);
    let decoded = |host: serde_json::Value, idle: serde_json::Value| {
        serde_json::json!({
            "batch": 4, "context_tokens": 528.0,
            "tokens_per_s": { "median": 100.0, "min": 90.0, "max": 110.0 },
            "tokens_per_s_per_stream": { "median": 25.0, "min": 22.5, "max": 27.5 },
            "inter_token_p50_ms": 40.0, "inter_token_p99_ms": 50.0,
            "step_bytes": 600e6, "bound_tokens_per_s": 125.0, "bound_by": "bandwidth", "share_of_bound": 0.8,
            "host_us_per_step": host, "device_idle_share": idle,
        })
    };
    assert_json(&json["decode"][0], &decoded(serde_json::Value::Null, serde_json::Value::Null));
    assert_json(&json["decode"][1], &decoded(30.0.into(), 0.25.into()));
}

/// Equal but for the last digits of numbers.
#[track_caller]
fn assert_json(found: &serde_json::Value, want: &serde_json::Value) {
    match (found, want) {
        (serde_json::Value::Object(found), serde_json::Value::Object(want)) => {
            assert!(found.keys().eq(want.keys()), "{:?} instead of {:?}", found.keys(), want.keys());
            found.iter().zip(want.values()).for_each(|((_, found), want)| assert_json(found, want));
        }
        (serde_json::Value::Number(found), serde_json::Value::Number(want)) => {
            let (found, want) = (found.as_f64().expect("a number"), want.as_f64().expect("a number"));
            assert!((found - want).abs() <= want.abs() * 1e-9, "{found} instead of {want}");
        }
        (found, want) => assert_eq!(found, want),
    }
}

#[test]
fn people_find_a_header_and_two_tables() {
    let want = "\
machine   A Processor, 2 cores, 24.0 GiB of memory, sconce 0.1.0
device    cpu, 2 threads, avx2, batch-invariant
measured  read 20.0 GB/s, int8 1000 G operations/s
model     tiny: random weights of seed 1, 494.0 M parameters, Q8_0, loaded in 1.5 s
memory    500.0 MiB of weights, 500.0 MiB of them read by every step; 24.0 KiB of keys and values (F32) per token
workload  512 tokens of context, 32 steps; medians of 5 runs (least..most)

PREFILL  TOKENS/S               FIRST TOKEN MS              OF INT8 RATE
    512      1000  (900..1100)             500  (450..550)           80%

BATCH  TOKENS/S               EACH  P50 MS  P99 MS  MB/STEP  BOUND  OF BOUND   BOUND BY  HOST US  IDLE
    4       100  (90.0..110)  25.0    40.0    50.0    600.0    125       80%  bandwidth        -     -
    4       100  (90.0..110)  25.0    40.0    50.0    600.0    125       80%  bandwidth       30   25%
";
    assert_eq!(report_text(&report()), want);
}
