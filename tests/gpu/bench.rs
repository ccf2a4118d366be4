//! `sconce bench engine` on a GPU, from the measuring of the device to its report.

use std::sync::atomic::AtomicBool;

use kernels::gpu::{Gpu, Reductions};
use sconce::bench::{
    BenchError, GpuEffort, GpuPlatform, Model, Report, Settings, Shape, Watch, report_json, report_text, run,
};
use sconce::nn::Quantise;

use crate::devices::kinds;

const EFFORT: GpuEffort = GpuEffort { copy_bytes: 4 << 10, product_width: 72, repeats: 3 };

fn settings() -> Settings {
    Settings {
        batches: vec![1, 3],
        context_tokens: 40,
        prefill_tokens: 70,
        chunk_tokens: 32,
        decode_steps: 5,
        repeats: 2,
        seed: 1,
    }
}

fn bench(gpu: Gpu, reductions: Reductions, quantise: Quantise) -> Result<Report, BenchError> {
    let model = Model::random(Shape::named("tiny").unwrap(), 1).unwrap().quantised(quantise);
    let (stop, mut show) = (AtomicBool::new(false), |_| ());
    let mut watch = Watch { stop: &stop, show: &mut show };
    run(&model, &settings(), &mut GpuPlatform::new(gpu, reductions, EFFORT), &mut watch)
}

/// What the tiny shape streams in each format: two layers, each of q, k, v, o, gate, up and down, then the head; biases
/// of q, k and v and five norms are f32. The embedding is looked up.
fn streamed_bytes(quantise: Quantise) -> u64 {
    let vectors = 4 * (2 * (64 + 32 + 32) + 5 * 64);
    let matrices = |bytes: fn(u64, u64) -> u64| {
        let layer = bytes(64 + 32 + 32, 64) + bytes(64, 64) + bytes(2 * 128, 64) + bytes(64, 128);
        2 * layer + bytes(320, 64)
    };
    vectors
        + match quantise {
            Quantise::Fp8 => matrices(|rows, width| rows * (width + 4)),
            Quantise::Int4 => matrices(|rows, width| rows * (width / 2 + 2)),
            _ => matrices(|rows, width| rows * width * 2),
        }
}

#[test]
fn a_tiny_model_is_measured_from_end_to_end() {
    for gpu in kinds().into_iter().map(|kind| kind.open(3)) {
        // An emulated device has no clock: what its time would tell is left out, never divided by.
        let has_clock = gpu.record().unwrap().elapsed_ms(&gpu.record().unwrap()).unwrap().is_some();
        for (quantise, weight_type) in [(Quantise::None, "BF16"), (Quantise::Fp8, "FP8"), (Quantise::Int4, "INT4")] {
            let report = bench(gpu.clone(), Reductions::Fastest, quantise).unwrap();
            let json = report_json(&report);
            assert_eq!(json["device"]["name"], gpu.info().name.as_str());
            assert_eq!(json["device"]["depth_steps"], 1);
            assert_eq!(json["device"]["bandwidth_kind"], "copy");
            assert_eq!(json["device"]["is_batch_invariant"], false);
            assert_eq!(json["device"]["bandwidth_bytes_per_s"].is_null(), !has_clock);
            assert_eq!(json["model"]["parameters"], 115_264);
            assert_eq!(json["model"]["weight_type"], weight_type);
            assert_eq!(json["model"]["streamed_bytes_per_step"], streamed_bytes(quantise));
            // Keys and values of two layers of 32 values in bf16.
            assert_eq!(json["model"]["kv_bytes_per_token"], 256);
            assert_eq!(json["prefill"]["tokens"], 70);
            assert_eq!(json["prefill"]["share_of_arithmetic"].is_null(), !has_clock);
            let rows = json["decode"].as_array().unwrap();
            assert_eq!(rows.iter().map(|row| row["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 3]);
            for row in rows {
                let (batch, step_bytes) = (row["batch"].as_u64().unwrap(), row["step_bytes"].as_f64().unwrap());
                assert_eq!(step_bytes, streamed_bytes(quantise) as f64 + batch as f64 * 42.5 * 256.0);
                assert!(row["tokens_per_s"]["min"].as_f64().unwrap() > 0.0);
                assert!(row["host_us_per_step"].as_f64().unwrap() > 0.0);
                for name in ["bound_tokens_per_s", "bound_by", "share_of_bound", "device_idle_share"] {
                    assert_eq!(row[name].is_null(), !has_clock, "{name}");
                }
            }
            let text = report_text(&report);
            assert_eq!(text.contains("copy - GB/s"), !has_clock, "{text}");
            assert!(!text.contains("inf") && !text.contains("NaN"), "{text}");
        }
    }
}

#[test]
fn one_order_of_sums_is_told() {
    let report = bench(Gpu::emulated(3), Reductions::Invariant, Quantise::None).unwrap();
    assert_eq!(report_json(&report)["device"]["is_batch_invariant"], true);
    assert!(report_text(&report).contains("batch-invariant"));
}

#[test]
fn what_a_gpu_does_not_do_is_refused_before_it_is_measured() {
    let refused = |gpu, quantise| bench(gpu, Reductions::Fastest, quantise).unwrap_err().to_string();
    let message = refused(Gpu::emulated(1), Quantise::Q8_0);
    assert!(message.contains("fp8 and int4"), "{message}");
    let small = kernels::gpu::Fault { launches_before: None, memory_bytes: Some(200 << 10) };
    let message = refused(Gpu::emulated_with_fault(1, small), Quantise::None);
    assert!(message.contains("--batch") && message.contains("KiB"), "{message}");
}
