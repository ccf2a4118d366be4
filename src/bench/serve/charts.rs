//! Which plots a report has, and what is in them.

use super::figures::{Distribution, Figures, milliseconds};
use super::plan::Load;
use super::plot::{Axis, LinePlot, Scale, Series, Timeline, Track};
use super::report::{Row, ServeReport};
use super::sample::{Kind, Sample};
use std::time::Duration;

/// Points of a curve; more cannot be told apart.
const POINTS_MAX: usize = 240;
/// Requests of each server in a timeline.
const TRACKS_MAX: usize = 8;

/// A plot with its title.
pub struct Chart {
    pub title: String,
    pub svg: String,
}

/// How latencies are distributed: one plot for each kind, load and latency, the servers in it.
pub fn distributions(report: &ServeReport) -> Vec<Chart> {
    let mut charts = Vec::new();
    for rows in groups(report) {
        for (name, of) in [("first token", first_text as fn(&Sample) -> Option<Duration>), ("end to end", whole)] {
            charts.extend(distribution(report, &rows, name, of));
        }
    }
    charts
}

fn first_text(sample: &Sample) -> Option<Duration> {
    sample.first_text()
}

fn whole(sample: &Sample) -> Option<Duration> {
    Some(sample.end)
}

fn distribution(
    report: &ServeReport,
    rows: &[&Row],
    name: &str,
    of: impl Fn(&Sample) -> Option<Duration>,
) -> Option<Chart> {
    let values = |row: &Row| -> Vec<f64> {
        let mut values: Vec<f64> = answered(row).filter_map(&of).map(milliseconds).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let curves: Vec<(usize, Vec<f64>)> = rows.iter().map(|row| (row.target_index, values(row))).collect();
    let curves: Vec<(usize, Vec<f64>)> = curves.into_iter().filter(|(_, values)| !values.is_empty()).collect();
    let first = rows.first().filter(|_| !curves.is_empty())?;
    let title = format!("{}, {}: {name}", first.kind.name(), first.load);
    let series = curves.iter().map(|(target_index, values)| Series {
        name: report.targets[*target_index].label.clone(),
        color: *target_index,
        is_dashed: false,
        has_dots: false,
        points: steps(values),
    });
    let plot = LinePlot {
        label: format!("share of requests over {name} in milliseconds, {title}"),
        x: Axis::around(&format!("{name}, ms"), curves.iter().flat_map(|(_, values)| values.iter().copied()), true),
        y: Axis { title: "% of requests".to_owned(), scale: Scale::Linear, min: 0.0, max: 100.0 },
        y_ticks: Some(vec![0.0, 25.0, 50.0, 75.0, 90.0, 100.0]),
        series: series.collect(),
    };
    Some(Chart { title, svg: plot.svg() })
}

/// The share of values up to each value, as stairs.
fn steps(sorted: &[f64]) -> Vec<(f64, f64)> {
    let stride = sorted.len().div_ceil(POINTS_MAX);
    let share = |count: usize| count as f64 / sorted.len() as f64 * 100.0;
    let mut points = Vec::new();
    let mut below = 0.0;
    for (index, value) in sorted.iter().enumerate() {
        let is_last = index + 1 == sorted.len();
        if index % stride == 0 || is_last {
            points.push((*value, below));
            below = share(index + 1);
            points.push((*value, below));
        }
    }
    points
}

/// What becomes of latency and of throughput as the load rises; of one load there is nothing to draw.
pub fn over_load(report: &ServeReport) -> Vec<Chart> {
    let mut charts = Vec::new();
    for kind in kinds(report) {
        for is_open in [false, true] {
            let rows: Vec<&Row> =
                report.rows.iter().filter(|row| row.kind == kind && row.load.is_open() == is_open).collect();
            let mut loads: Vec<f64> = rows.iter().map(|row| row.load.value()).collect();
            loads.dedup();
            if loads.len() < 2 || loads.iter().all(|load| *load == loads[0]) {
                continue;
            }
            charts.extend(latency_over(report, &rows, "first token", |figures| figures.first_token_ms));
            charts.extend(latency_over(report, &rows, "end to end", |figures| figures.end_to_end_ms));
            charts.push(throughput_over(report, &rows));
        }
    }
    charts
}

fn latency_over(
    report: &ServeReport,
    rows: &[&Row],
    name: &str,
    of: impl Fn(&Figures) -> Option<Distribution>,
) -> Option<Chart> {
    type Percentile = (&'static str, bool, fn(Distribution) -> f64);
    const PERCENTILES: [Percentile; 2] = [("p50", false, |d| d.p50), ("p99", true, |d| d.p99)];
    let mut series = Vec::new();
    for (index, target) in report.targets.iter().enumerate() {
        for (percentile, is_dashed, value) in PERCENTILES {
            let points = points_over(rows, index, |figures| of(figures).map(value));
            let name = format!("{} {percentile}", target.label);
            series.push(Series { name, color: index, is_dashed, has_dots: true, points });
        }
    }
    series.retain(|series| !series.points.is_empty());
    let first = rows.first().filter(|_| !series.is_empty())?;
    let values = series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let plot = LinePlot {
        label: format!("{}: {name} in milliseconds over load", first.kind.name()),
        x: load_axis(rows),
        y: Axis::around(&format!("{name}, ms"), values.collect::<Vec<_>>().into_iter(), true),
        y_ticks: None,
        series,
    };
    Some(Chart { title: format!("{}: {name} over load", first.kind.name()), svg: plot.svg() })
}

fn throughput_over(report: &ServeReport, rows: &[&Row]) -> Chart {
    let series = report.targets.iter().enumerate().map(|(index, target)| Series {
        name: target.label.clone(),
        color: index,
        is_dashed: false,
        has_dots: true,
        points: points_over(rows, index, |figures| Some(figures.output_tokens_per_second)),
    });
    let series: Vec<Series> = series.collect();
    let values: Vec<f64> = series.iter().flat_map(|series| series.points.iter().map(|point| point.1)).collect();
    let kind = rows.first().map_or("", |row| row.kind.name());
    let plot = LinePlot {
        label: format!("{kind}: output tokens a second over load"),
        x: load_axis(rows),
        y: Axis::around("output tokens/s", values.into_iter(), false),
        y_ticks: None,
        series,
    };
    Chart { title: format!("{kind}: tokens/s over load"), svg: plot.svg() }
}

fn points_over(rows: &[&Row], target_index: usize, of: impl Fn(&Figures) -> Option<f64>) -> Vec<(f64, f64)> {
    let own = rows.iter().filter(|row| row.target_index == target_index);
    let mut points: Vec<(f64, f64)> =
        own.filter_map(|row| of(&row.figures).map(|value| (row.load.value(), value))).collect();
    points.sort_by(|first, second| first.0.total_cmp(&second.0));
    points
}

fn load_axis(rows: &[&Row]) -> Axis {
    let is_open = rows.iter().any(|row| row.load.is_open());
    let title = if is_open { "requests/s offered" } else { "streams" };
    Axis::around(title, rows.iter().map(|row| row.load.value()).collect::<Vec<_>>().into_iter(), true)
}

/// When tokens came in single requests: the first of the last round, at the lightest and at the heaviest load.
pub fn timelines(report: &ServeReport) -> Vec<Chart> {
    let mut charts = Vec::new();
    for kind in kinds(report) {
        let mut loads: Vec<Load> = report.rows.iter().filter(|row| row.kind == kind).map(|row| row.load).collect();
        loads.dedup();
        let ends = match loads.as_slice() {
            [] => Vec::new(),
            [only] => vec![*only],
            [first, .., last] => vec![*first, *last],
        };
        charts.extend(ends.into_iter().filter_map(|load| timeline(report, kind, load)));
    }
    charts
}

fn timeline(report: &ServeReport, kind: Kind, load: Load) -> Option<Chart> {
    let rows = report.rows.iter().filter(|row| row.kind == kind && row.load == load);
    let mut tracks = Vec::new();
    for row in rows {
        let last_round = row.samples.last()?;
        let samples = last_round.samples.iter().filter(|sample| sample.is_answered() && !sample.texts.is_empty());
        tracks.extend(samples.take(TRACKS_MAX).map(|sample| Track {
            name: report.targets[row.target_index].label.clone(),
            color: row.target_index,
            ticks: sample.texts.iter().copied().map(milliseconds).collect(),
            end: milliseconds(sample.end),
        }));
    }
    if tracks.is_empty() {
        return None;
    }
    let x = Axis::around("ms since the request began", tracks.iter().map(|track| track.end), false);
    let title = format!("{}, {load}: when tokens came", kind.name());
    Some(Chart { svg: Timeline { label: title.clone(), x, tracks }.svg(), title })
}

/// The rows of each kind and load, servers together.
fn groups(report: &ServeReport) -> Vec<Vec<&Row>> {
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in &report.rows {
        let same = groups.iter_mut().find(|group| group[0].kind == row.kind && group[0].load == row.load);
        match same {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

fn kinds(report: &ServeReport) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = report.rows.iter().map(|row| row.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn answered(row: &Row) -> impl Iterator<Item = &Sample> {
    row.samples.iter().flat_map(|round| &round.samples).filter(|sample| sample.is_answered())
}
