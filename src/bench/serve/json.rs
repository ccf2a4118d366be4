//! A report for machines. Names are stable and end in their units; what is added later comes under new names. `null`
//! stands for what nobody told or nothing was measured of.

use super::figures::{Distribution, Failures, Figures, Ratio};
use super::plan::{Amount, Load, Plan};
use super::report::{ServeReport, TargetReport};
use serde_json::{Value, json};

/// Rises when a name changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// The whole report as one object.
pub fn serve_report_json(report: &ServeReport) -> Value {
    let ServeReport { machine, begun_unix_s, plan, targets, rows, ratios, client_cores } = report;
    let label = |index: usize| targets[index].label.as_str();
    json!({
        "bench": "serve",
        "schema": SCHEMA,
        "version": machine.version,
        "begun_unix_s": begun_unix_s,
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores,
            "memory_bytes": machine.memory_bytes,
        },
        "client_cores": client_cores,
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
        "settings": settings(plan),
        "notes": report.loop_notes(),
        "results": rows.iter().map(|row| json!({
            "kind": row.kind.name(),
            "load": load(row.load),
            "target": label(row.target_index),
            "figures": figures(&row.figures),
            "rounds": row.rounds.iter().map(figures).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "ratios": ratios.iter().map(|row| json!({
            "kind": row.kind.name(),
            "load": load(row.load),
            "first": label(0),
            "second": label(1),
            "advantage_of_first": row.ratios.iter().map(ratio).collect::<serde_json::Map<_, _>>(),
        })).collect::<Vec<_>>(),
    })
}

fn target(target: &TargetReport) -> Value {
    json!({
        "label": target.label,
        "url": target.url,
        "dialect": target.dialect.name(),
        "model": target.model,
    })
}

fn settings(plan: &Plan) -> Value {
    let (requests, duration_s) = match plan.amount {
        Amount::Requests(requests) => (Some(requests), None),
        Amount::Duration(duration) => (None, Some(duration.as_secs_f64())),
    };
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    json!({
        "workload": plan.workload.name(),
        "loads": plan.loads.iter().copied().map(load).collect::<Vec<_>>(),
        "rounds": plan.rounds,
        "requests_per_round": requests,
        "duration_s_per_round": duration_s,
        "prompt_tokens": plan.texts.prompt_tokens,
        "suffix_tokens": plan.texts.suffix_tokens,
        "output_tokens": plan.texts.output_tokens,
        "shared_share": plan.texts.shared,
        "keys_per_burst": plan.typing.keys,
        "key_gap_ms": milliseconds(plan.typing.gap),
        "background_chats": plan.chats,
        "target_first_token_ms": plan.goals.first_token.map(milliseconds),
        "target_end_to_end_ms": plan.goals.end_to_end.map(milliseconds),
        "timeout_ms": milliseconds(plan.timeout),
        "seed": plan.seed,
    })
}

fn load(load: Load) -> Value {
    match load {
        Load::Concurrency(streams) => json!({ "loop": "closed", "streams": streams, "requests_per_s": null }),
        Load::Rate(per_second) => json!({ "loop": "open", "streams": null, "requests_per_s": per_second }),
    }
}

fn figures(figures: &Figures) -> Value {
    json!({
        "wall_s": figures.wall_seconds,
        "requests": {
            "answered": figures.answered,
            "empty": figures.empty,
            "failed": figures.failed,
            "cancelled": figures.cancelled,
            "answered_early": figures.answered_early,
            "cut_at_end": figures.cut,
        },
        "requests_per_s": figures.requests_per_second,
        "output_tokens": figures.output_tokens,
        "output_tokens_per_s": figures.output_tokens_per_second,
        "output_tokens_counted_by": figures.counted_by.name(),
        "goodput_requests_per_s": figures.goodput.map(|goodput| goodput.requests_per_second),
        "goodput_share": figures.goodput.map(|goodput| goodput.share),
        "first_token_ms": figures.first_token_ms.map(distribution),
        "inter_token_ms": figures.inter_token_ms.map(distribution),
        "per_output_token_ms": figures.per_output_token_ms.map(distribution),
        "end_to_end_ms": figures.end_to_end_ms.map(distribution),
        "send_lag_ms": figures.send_lag_ms.map(distribution),
        "prompt_tokens": figures.prompt_tokens,
        "cached_tokens": figures.cached_tokens,
        "cached_share": figures.cached_share,
        "drafted_tokens": figures.drafted_tokens,
        "accepted_tokens": figures.accepted_tokens,
        "accepted_share": figures.accepted_share,
        "failures": figures.failures.iter().map(failures).collect::<Vec<_>>(),
    })
}

fn failures(failures: &Failures) -> Value {
    json!({
        "kind": failures.kind,
        "status": failures.status,
        "message": failures.message,
        "count": failures.count,
    })
}

fn distribution(distribution: Distribution) -> Value {
    let Distribution { count, mean, p50, p90, p95, p99, max } = distribution;
    json!({ "count": count, "mean": mean, "p50": p50, "p90": p90, "p95": p95, "p99": p99, "max": max })
}

fn ratio(ratio: &Ratio) -> (String, Value) {
    let spread = ratio.advantage;
    let value = json!({ "median": spread.median, "min": spread.min, "max": spread.max, "rounds": ratio.rounds });
    (ratio.figure.to_owned(), value)
}
