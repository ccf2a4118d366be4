//! A report for machines. Names are stable and end in their units; what is added later comes under new names. `null` stands
//! for what a device cannot tell.

use super::report::{Decoded, Report, Spread};
use serde_json::{Value, json};

/// Rises when a name changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// The whole report as one object.
pub fn report_json(report: &Report) -> Value {
    let Report { machine, device, depth_steps, ceilings, model, settings, prefill, decode } = report;
    json!({
        "bench": "engine",
        "schema": SCHEMA,
        "version": machine.version,
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores,
            "memory_bytes": machine.memory_bytes,
        },
        "device": {
            "name": device.name,
            "threads": device.threads,
            "instruction_set": device.instruction_set,
            "depth_steps": depth_steps,
            "is_batch_invariant": device.is_batch_invariant,
            "bandwidth_kind": ceilings.bandwidth.kind,
            "bandwidth_bytes_per_s": ceilings.bandwidth.per_second,
            "arithmetic_kind": ceilings.arithmetic.kind,
            "arithmetic_operations_per_s": ceilings.arithmetic.per_second,
        },
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "random_seed": model.random_seed,
            "parameters": model.parameters,
            "weight_type": model.weight_type,
            "kv_type": model.kv_type,
            "weights_bytes": model.weights_bytes,
            "streamed_bytes_per_step": model.traffic.streamed_bytes,
            "kv_bytes_per_token": model.traffic.kv_bytes_per_token,
            "load_ms": milliseconds(model.load.as_secs_f64()),
        },
        "settings": {
            "batches": settings.batches,
            "context_tokens": settings.context_tokens,
            "prefill_tokens": settings.prefill_tokens,
            "chunk_tokens": settings.chunk_tokens,
            "decode_steps": settings.decode_steps,
            "repeats": settings.repeats,
            "seed": settings.seed,
        },
        "prefill": {
            "tokens": prefill.tokens,
            "tokens_per_s": spread(prefill.tokens_per_second),
            "time_to_first_token_ms": spread(prefill.time_to_first_token_seconds.map(milliseconds)),
            "operations": prefill.operations,
            "share_of_arithmetic": prefill.share_of_arithmetic,
        },
        "decode": decode.iter().map(decoded).collect::<Vec<_>>(),
    })
}

fn decoded(decoded: &Decoded) -> Value {
    json!({
        "batch": decoded.batch,
        "context_tokens": decoded.context_tokens,
        "tokens_per_s": spread(decoded.tokens_per_second),
        "tokens_per_s_per_stream": spread(decoded.tokens_per_second.map(|total| total / decoded.batch as f64)),
        "inter_token_p50_ms": milliseconds(decoded.inter_token_p50_seconds),
        "inter_token_p99_ms": milliseconds(decoded.inter_token_p99_seconds),
        "step_bytes": decoded.step_bytes,
        "bound_tokens_per_s": decoded.bound.map(|bound| bound.tokens_per_second),
        "bound_by": decoded.bound.map(|bound| bound.by.name()),
        "share_of_bound": decoded.bound.map(|bound| bound.share),
        "host_us_per_step": decoded.host_seconds_per_step.map(|seconds| seconds * 1e6),
        "device_idle_share": decoded.device_idle_share,
    })
}

fn spread(spread: Spread) -> Value {
    json!({ "median": spread.median, "min": spread.min, "max": spread.max })
}

fn milliseconds(seconds: f64) -> f64 {
    seconds * 1e3
}
