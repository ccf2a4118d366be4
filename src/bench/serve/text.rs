//! A report for people: what was asked of whom, a table of latencies, a table of rates, and what went wrong.

use super::super::text::{figure, table};
use super::call::length_note;
use super::figures::{Distribution, Figures};
use super::plan::{Amount, Plan, Workload};
use super::report::{ServeReport, TargetReport};
use std::fmt::Write as _;

/// The whole report, with a line break at its end.
pub fn serve_report_text(report: &ServeReport) -> String {
    let mut text = header(report);
    text.push('\n');
    text.push_str(&latencies(report));
    text.push('\n');
    text.push_str(&rates(report));
    if !report.ratios.is_empty() {
        text.push('\n');
        text.push_str(&ratio_table(report));
    }
    text.push_str(&failure_lines(report));
    text
}

fn header(report: &ServeReport) -> String {
    let mut text = String::new();
    let cpu = report.machine.cpu.as_deref().unwrap_or("unknown processor");
    let cores = report.machine.cores;
    line(&mut text, "machine", &format!("{cpu}, {cores} cores, sconce {}", report.machine.version));
    for target in &report.targets {
        line(&mut text, "server", &target_text(target));
    }
    line(&mut text, "workload", &workload_text(&report.plan));
    line(&mut text, "lengths", &length_note());
    for note in report.loop_notes() {
        line(&mut text, "note", &note);
    }
    if let Some(cores) = report.client_cores {
        line(&mut text, "client", &format!("kept {cores:.2} cores busy itself"));
    }
    text
}

/// `sconce: http://127.0.0.1:5052, openai, model coder`
pub fn target_text(target: &TargetReport) -> String {
    let model = target.model.as_ref().map_or_else(String::new, |model| format!(", model {model}"));
    format!("{}: {}, {}{model}", target.label, target.url, target.dialect.name())
}

/// What was asked, in one line.
pub fn workload_text(plan: &Plan) -> String {
    let texts = &plan.texts;
    let suffix = match texts.suffix_tokens {
        0 => String::new(),
        tokens => format!(" and {tokens} behind the cursor"),
    };
    let shared = if texts.shared > 0.0 && !plan.workload.is_typing() {
        format!(" ({:.0}% of it shared)", texts.shared * 100.0)
    } else {
        String::new()
    };
    let typing = match plan.workload {
        Workload::Typing | Workload::Mixed => {
            format!(", bursts of {} keys {} ms apart", plan.typing.keys, plan.typing.gap.as_millis())
        }
        Workload::Completion | Workload::Chat => String::new(),
    };
    let amount = match plan.amount {
        Amount::Requests(requests) if plan.workload.is_typing() => format!("{requests} bursts"),
        Amount::Requests(requests) => format!("{requests} requests"),
        Amount::Duration(duration) => format!("{:.0} s", duration.as_secs_f64()),
    };
    format!(
        "{}: prompts of {} tokens{shared}{suffix}, answers of {}{typing}; {} round(s) of {amount}, seed {}",
        plan.workload.name(),
        texts.prompt_tokens,
        texts.output_tokens,
        plan.rounds,
        plan.seed
    )
}

fn latencies(report: &ServeReport) -> String {
    let titles = ["LATENCY MS", "LOAD", "SERVER", "N", "P50", "P90", "P95", "P99", "MAX"];
    let mut rows = Vec::new();
    for row in &report.rows {
        for (name, of) in LATENCIES {
            let start = [
                format!("{} {name}", row.kind.name()),
                row.load.to_string(),
                report.targets[row.target_index].label.clone(),
            ];
            rows.push(start.into_iter().chain(distribution_cells(of(&row.figures))).collect());
        }
    }
    table(&titles, &rows)
}

/// What is said of every row, and where it is.
type Latency = (&'static str, fn(&Figures) -> Option<Distribution>);

pub const LATENCIES: [Latency; 3] = [
    ("first token", |figures| figures.first_token_ms),
    ("inter-token", |figures| figures.inter_token_ms),
    ("end to end", |figures| figures.end_to_end_ms),
];

pub fn distribution_cells(distribution: Option<Distribution>) -> [String; 6] {
    match distribution {
        Some(Distribution { count, p50, p90, p95, p99, max, .. }) => {
            [count.to_string(), figure(p50), figure(p90), figure(p95), figure(p99), figure(max)]
        }
        None => ["0", "-", "-", "-", "-", "-"].map(str::to_owned),
    }
}

fn rates(report: &ServeReport) -> String {
    let mut rows = Vec::new();
    for row in &report.rows {
        let start = [row.kind.name().to_owned(), row.load.to_string(), report.targets[row.target_index].label.clone()];
        rows.push(start.into_iter().chain(rate_cells(&row.figures)).collect());
    }
    let titles: Vec<&str> = ["REQUESTS", "LOAD", "SERVER"].into_iter().chain(RATE_TITLES).collect();
    table(&titles, &rows)
}

pub const RATE_TITLES: [&str; 10] =
    ["ANSWERED", "EMPTY", "FAILED", "CANCELLED", "REQUESTS/S", "TOKENS/S", "GOODPUT/S", "PROMPT", "CACHED", "ACCEPTED"];

pub fn rate_cells(figures: &Figures) -> [String; 10] {
    let percent = |share: Option<f64>| share.map_or_else(absent, |share| format!("{:.0}%", share * 100.0));
    [
        figures.answered.to_string(),
        figures.empty.to_string(),
        figures.failed.to_string(),
        figures.cancelled.to_string(),
        figure(figures.requests_per_second),
        figure(figures.output_tokens_per_second),
        figures.goodput.map_or_else(absent, |goodput| figure(goodput.requests_per_second)),
        figures.prompt_tokens_mean().map_or_else(absent, |tokens| format!("{tokens:.0}")),
        percent(figures.cached_share),
        percent(figures.accepted_share),
    ]
}

fn ratio_table(report: &ServeReport) -> String {
    let (first, second) = (&report.targets[0].label, &report.targets[1].label);
    let mut rows = Vec::new();
    for row in &report.ratios {
        for ratio in &row.ratios {
            let spread = ratio.advantage;
            rows.push(vec![
                row.kind.name().to_owned(),
                row.load.to_string(),
                ratio.figure.replace('_', " "),
                format!("{:.2}", spread.median),
                format!("({:.2}..{:.2})", spread.min, spread.max),
                ratio.rounds.to_string(),
            ]);
        }
    }
    let mut text = format!("{first} over {second}, round by round: above 1.00 {first} is better\n");
    text.push_str(&table(&["RATIO", "LOAD", "FIGURE", "MEDIAN", "", "ROUNDS"], &rows));
    text
}

fn failure_lines(report: &ServeReport) -> String {
    let mut text = String::new();
    for row in &report.rows {
        for failures in &row.figures.failures {
            let status = failures.status.map_or_else(String::new, |status| format!(" {status}"));
            let kind = failures.kind.replace('_', " ");
            let label = &report.targets[row.target_index].label;
            let told = format!("{label}, {} at {}: {} x {kind}{status}", row.kind.name(), row.load, failures.count);
            line(&mut text, "failed", &format!("{told}: {}", failures.message));
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn line(text: &mut String, title: &str, words: &str) {
    writeln!(text, "{title:<9} {words}").expect("a string takes every text");
}

fn absent() -> String {
    "-".to_owned()
}
