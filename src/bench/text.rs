//! A report for people: what was measured on what, then two tables.

use super::report::{Decoded, Prefilled, Report, Spread};
use crate::engine::human;

/// The whole report, with a line break at its end.
pub fn report_text(report: &Report) -> String {
    let mut text = header(report);
    text.push('\n');
    text.push_str(&prefill_table(&report.prefill, report));
    text.push('\n');
    text.push_str(&decode_table(&report.decode));
    text
}

fn header(report: &Report) -> String {
    let Report { machine, device, depth_steps, ceilings, model, settings, .. } = report;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown processor");
    let memory = machine.memory_bytes.map_or_else(String::new, |bytes| format!(", {} of memory", human(bytes)));
    let threads = device.threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
    let company = if device.is_batch_invariant { ", batch-invariant" } else { "" };
    let ahead = if *depth_steps > 0 { format!(", {depth_steps} step(s) ahead") } else { String::new() };
    let weights = match model.random_seed {
        Some(seed) => format!("random weights of seed {seed}"),
        None => format!("{} weights", model.architecture),
    };
    format!(
        "machine   {cpu}, {} cores{memory}, sconce {}\n\
         device    {}{threads}, {}{company}{ahead}\n\
         measured  {} {} GB/s, {} {} G operations/s\n\
         model     {}: {weights}, {} parameters, {}, loaded in {:.1} s\n\
         memory    {} of weights, {} of them read by every step; {} of keys and values ({}) per token\n\
         workload  {} tokens of context, {} steps; medians of {} runs (least..most)\n",
        machine.cores,
        machine.version,
        device.name,
        device.instruction_set,
        ceilings.bandwidth.kind,
        giga(ceilings.bandwidth.per_second, 1),
        ceilings.arithmetic.kind,
        giga(ceilings.arithmetic.per_second, 0),
        model.name,
        count(model.parameters),
        model.weight_type,
        model.load.as_secs_f64(),
        human(model.weights_bytes),
        human(model.traffic.streamed_bytes),
        human(model.traffic.kv_bytes_per_token),
        model.kv_type,
        settings.context_tokens,
        settings.decode_steps,
        settings.repeats,
    )
}

fn prefill_table(prefill: &Prefilled, report: &Report) -> String {
    let share = format!("OF {} RATE", report.ceilings.arithmetic.kind.to_uppercase());
    table(
        &["PREFILL", "TOKENS/S", "", "FIRST TOKEN MS", "", &share],
        &[vec![
            prefill.tokens.to_string(),
            figure(prefill.tokens_per_second.median),
            range(prefill.tokens_per_second),
            figure(prefill.time_to_first_token_seconds.median * 1e3),
            range(prefill.time_to_first_token_seconds.map(|seconds| seconds * 1e3)),
            prefill.share_of_arithmetic.map_or_else(absent, percent),
        ]],
    )
}

fn decode_table(decode: &[Decoded]) -> String {
    let titles = [
        "BATCH", "TOKENS/S", "", "EACH", "P50 MS", "P99 MS", "MB/STEP", "BOUND", "OF BOUND", "BOUND BY", "HOST US",
        "IDLE",
    ];
    let rows: Vec<Vec<String>> = decode
        .iter()
        .map(|decoded| {
            vec![
                decoded.batch.to_string(),
                figure(decoded.tokens_per_second.median),
                range(decoded.tokens_per_second),
                figure(decoded.tokens_per_second.median / decoded.batch as f64),
                figure(decoded.inter_token_p50_seconds * 1e3),
                figure(decoded.inter_token_p99_seconds * 1e3),
                format!("{:.1}", decoded.step_bytes / 1e6),
                decoded.bound.map_or_else(absent, |bound| figure(bound.tokens_per_second)),
                decoded.bound.map_or_else(absent, |bound| percent(bound.share)),
                decoded.bound.map_or_else(absent, |bound| bound.by.name().to_owned()),
                decoded.host_seconds_per_step.map_or_else(absent, |seconds| format!("{:.0}", seconds * 1e6)),
                decoded.device_idle_share.map_or_else(absent, percent),
            ]
        })
        .collect();
    table(&titles, &rows)
}

/// Columns as wide as their widest cell, all to the right: they are numbers.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(titles.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

/// Three digits that say something, or all before the point.
pub(super) fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn range(spread: Spread) -> String {
    format!("({}..{})", figure(spread.min), figure(spread.max))
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// In units of a billion.
fn giga(per_second: Option<f64>, digits: usize) -> String {
    per_second.map_or_else(absent, |per_second| format!("{:.digits$}", per_second / 1e9))
}

fn absent() -> String {
    "-".to_owned()
}

/// `494.0 M`
fn count(parameters: u64) -> String {
    match parameters as f64 {
        parameters if parameters >= 1e9 => format!("{:.2} G", parameters / 1e9),
        parameters if parameters >= 1e6 => format!("{:.1} M", parameters / 1e6),
        parameters => format!("{:.1} k", parameters / 1e3),
    }
}
