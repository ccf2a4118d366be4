//! A report as one page that needs nothing else: tables, plots drawn here, styles for light and dark, no script.

use super::super::text::figure;
use super::call::length_note;
use super::charts::{Chart, distributions, over_load, timelines};
use super::figures::{COMPARED_NAMES, Ratio};
use super::plot::escaped;
use super::report::ServeReport;
use super::text::{LATENCIES, RATE_TITLES, distribution_cells, rate_cells, target_text, workload_text};
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn serve_report_html(report: &ServeReport) -> String {
    let labels: Vec<&str> = report.targets.iter().map(|target| target.label.as_str()).collect();
    let title = format!("sconce bench serve: {}", labels.join(" and "));
    let mut page = Page(String::new());
    page.put(format_args!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{}</h1>\n",
        escaped(&title),
        escaped(&title)
    ));
    page.header(report);
    page.summary(report);
    page.charts("Over load", &over_load(report));
    page.charts("Latency distribution", &distributions(report));
    page.charts("Token by token", &timelines(report));
    page.latencies(report);
    page.rates(report);
    page.failures(report);
    page.put(format_args!("</main>\n</body>\n</html>\n"));
    page.0
}

struct Page(String);

impl Page {
    fn header(&mut self, report: &ServeReport) {
        let machine = &report.machine;
        let cpu = machine.cpu.as_deref().unwrap_or("unknown processor");
        let memory = machine
            .memory_bytes
            .map_or_else(String::new, |bytes| format!(", {:.0} GiB", bytes as f64 / (1 << 30) as f64));
        let client =
            report.client_cores.map_or_else(String::new, |cores| format!("; the client kept {cores:.2} cores busy"));
        self.put(format_args!("<dl>\n"));
        self.term("Machine", &format!("{cpu}, {} cores{memory}{client}", machine.cores));
        for (index, target) in report.targets.iter().enumerate() {
            self.put(format_args!("<dt><i class=\"swatch s{index}\"></i>Server</dt>"));
            self.put(format_args!("<dd>{}</dd>\n", escaped(&target_text(target))));
        }
        self.term("Workload", &workload_text(&report.plan));
        let begun = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(report.begun_unix_s));
        self.term("Measured", &format!("{begun}, by sconce {}", machine.version));
        self.term("Lengths", &length_note());
        for note in report.loop_notes() {
            self.term("Note", &note);
        }
        self.put(format_args!("</dl>\n"));
    }

    fn term(&mut self, term: &str, words: &str) {
        self.put(format_args!("<dt>{}</dt><dd>{}</dd>\n", escaped(term), escaped(words)));
    }

    /// What one looks for first: the middle and the worst, and with two servers how they compare.
    fn summary(&mut self, report: &ServeReport) {
        if report.ratios.is_empty() {
            return;
        }
        let (first, second) = (&report.targets[0].label, &report.targets[1].label);
        self.heading(&format!("{first} next to {second}"));
        self.put(format_args!(
            "<p>Medians over rounds of the ratio within a round, and the range. Above 1 {} is better.</p>\n",
            escaped(first)
        ));
        let named = COMPARED_NAMES.map(|figure| figure.replace('_', " "));
        let titles: Vec<&str> = ["requests", "load"].into_iter().chain(named.iter().map(String::as_str)).collect();
        let rows = report.ratios.iter().map(|row| {
            let cell = |figure: &&str| match row.ratios.iter().find(|ratio| ratio.figure == *figure) {
                Some(Ratio { advantage, .. }) => {
                    format!("{:.2}\n{:.2} to {:.2}", advantage.median, advantage.min, advantage.max)
                }
                None => "-".to_owned(),
            };
            let start = [row.kind.name().to_owned(), row.load.to_string()];
            start.into_iter().chain(COMPARED_NAMES.iter().map(cell)).collect()
        });
        self.table(&titles, 2, rows.collect());
    }

    fn charts(&mut self, heading: &str, charts: &[Chart]) {
        if charts.is_empty() {
            return;
        }
        self.heading(heading);
        self.put(format_args!("<div class=\"charts\">\n"));
        for Chart { title, svg } in charts {
            self.put(format_args!("<figure><figcaption>{}</figcaption>{svg}</figure>\n", escaped(title)));
        }
        self.put(format_args!("</div>\n"));
    }

    fn latencies(&mut self, report: &ServeReport) {
        self.heading("Latencies, ms");
        let mut rows = Vec::new();
        for (name, of) in LATENCIES {
            for row in &report.rows {
                let label = report.targets[row.target_index].label.clone();
                let start = [name.to_owned(), row.kind.name().to_owned(), row.load.to_string(), label];
                rows.push(start.into_iter().chain(distribution_cells(of(&row.figures))).collect());
            }
        }
        self.table(&["latency", "requests", "load", "server", "n", "p50", "p90", "p95", "p99", "max"], 4, rows);
    }

    fn rates(&mut self, report: &ServeReport) {
        self.heading("Rates and counts");
        let rows = report.rows.iter().map(|row| {
            let label = report.targets[row.target_index].label.clone();
            let start = [row.kind.name().to_owned(), row.load.to_string(), label];
            let lag = row.figures.send_lag_ms.map_or_else(|| "-".to_owned(), |lag| figure(lag.p99));
            start.into_iter().chain(rate_cells(&row.figures)).chain([lag]).collect()
        });
        let titles: Vec<String> = ["requests".to_owned(), "load".to_owned(), "server".to_owned()]
            .into_iter()
            .chain(RATE_TITLES.iter().map(|title| title.to_lowercase()))
            .chain(["sent late p99 ms".to_owned()])
            .collect();
        self.table(&titles.iter().map(String::as_str).collect::<Vec<_>>(), 3, rows.collect());
    }

    fn failures(&mut self, report: &ServeReport) {
        let mut rows = Vec::new();
        for row in &report.rows {
            for failures in &row.figures.failures {
                let status = failures.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                rows.push(vec![
                    report.targets[row.target_index].label.clone(),
                    format!("{}, {}", row.kind.name(), row.load),
                    failures.kind.replace('_', " "),
                    failures.message.clone(),
                    status,
                    failures.count.to_string(),
                ]);
            }
        }
        if !rows.is_empty() {
            self.heading("Failures");
            self.table(&["server", "requests", "kind", "message of the first", "status", "count"], 4, rows);
        }
    }

    fn heading(&mut self, text: &str) {
        self.put(format_args!("<h2>{}</h2>\n", escaped(text)));
    }

    /// The first `words` columns are words, the others numbers. What follows a line break in a cell is an aside.
    fn table(&mut self, titles: &[&str], words: usize, rows: Vec<Vec<String>>) {
        let class = |column: usize| if column < words { "word" } else { "number" };
        self.put(format_args!("<div class=\"wide\"><table>\n<tr>"));
        for (column, title) in titles.iter().enumerate() {
            self.put(format_args!("<th class=\"{}\">{}</th>", class(column), escaped(title)));
        }
        self.put(format_args!("</tr>\n"));
        for row in rows {
            self.put(format_args!("<tr>"));
            for (column, cell) in row.iter().enumerate() {
                let (main, aside) = cell.split_once('\n').unwrap_or((cell, ""));
                let (class, main) = (class(column), escaped(main));
                match aside {
                    "" => self.put(format_args!("<td class=\"{class}\">{main}</td>")),
                    aside => {
                        self.put(format_args!("<td class=\"{class}\">{main}<br><small>{}</small></td>", escaped(aside)))
                    }
                }
            }
            self.put(format_args!("</tr>\n"));
        }
        self.put(format_args!("</table></div>\n"));
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.0.write_fmt(arguments).expect("a string takes every text");
    }
}
