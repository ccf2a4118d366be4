//! `sconce docs import` and `sconce docs status`: the documentation that the chat may look into.

use super::args::EngineArgs;
use super::error::CliError;
use super::{output, quiet_config};
use crate::engine::human;
use crate::search::{self, ImportOptions, Index, Progress, Report, Status};
use crate::serve::{count, docs_index};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub const HELP: &str = "\
Examples:
  sconce docs import gitlab/doc             the folder doc of GitLab's repository, at your version
  sconce docs import handbook --base-url https://docs.example.com
  sconce docs status

The index takes the place of the one before in a single step; a server that runs uses it
from the next search on. It lies at gitlab.docs_index, or as docs.sqlite in state.dir.";

#[derive(Debug, Subcommand)]
pub enum DocsVerb {
    /// Make the documentation index from a folder of Markdown
    Import(ImportArgs),
    /// Show what the documentation index holds
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Folder with Markdown files, at any depth
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Where people read these pages: answers link there
    #[arg(long, value_name = "URL", default_value = search::BASE_URL)]
    pub base_url: String,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub place: Place,
}

/// Where the index is, and how to speak of it.
#[derive(Debug, Args)]
pub struct Place {
    /// The index, in place of the configured one
    #[arg(long, value_name = "FILE")]
    pub index: Option<PathBuf>,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(verb: &DocsVerb) -> Result<(), CliError> {
    match verb {
        DocsVerb::Import(args) => import(args),
        DocsVerb::Status(args) => status(&args.place),
    }
}

fn index_path(place: &Place) -> Result<PathBuf, CliError> {
    if let Some(index) = &place.index {
        return Ok(index.clone());
    }
    let engine = EngineArgs { config: place.config.clone(), ..EngineArgs::default() };
    docs_index(&quiet_config(&engine, &[])?).ok_or(CliError::NoDocsIndex)
}

fn import(args: &ImportArgs) -> Result<(), CliError> {
    let path = index_path(&args.place)?;
    let options = ImportOptions { folder: args.folder.clone(), base_url: args.base_url.clone() };
    let mut display = Display::new();
    let started = Instant::now();
    let imported = search::import(&path, &options, &mut |progress| display.show(progress));
    display.clear();
    let report = imported?;
    let text = match args.place.json {
        true => format!("{:#}\n", report_json(&path, &report)),
        false => report_text(&path, &report, started.elapsed().as_secs_f32()),
    };
    Ok(output::print(&text)?)
}

fn report_json(path: &Path, report: &Report) -> serde_json::Value {
    let skipped: Vec<_> = report
        .skipped
        .iter()
        .map(|skipped| json!({ "path": skipped.path, "reason": skipped.reason.to_string() }))
        .collect();
    json!({
        "index": path.display().to_string(),
        "documents": report.documents,
        "passages": report.passages,
        "bytes": report.bytes,
        "skipped_total": report.skipped_total,
        "skipped": skipped,
    })
}

fn report_text(path: &Path, report: &Report, elapsed_s: f32) -> String {
    const NAMED_MAX: usize = 10;
    let Report { documents, passages, bytes, skipped_total, skipped } = report;
    let mut text = format!(
        "{documents} pages in {passages} passages, {} in {elapsed_s:.1} s\nindex  {}\n",
        human(*bytes),
        path.display()
    );
    if *skipped_total > 0 {
        text.push_str(&format!("\n{skipped_total} left out:\n"));
        for skipped in skipped.iter().take(NAMED_MAX) {
            text.push_str(&format!("  {}: {}\n", skipped.path, skipped.reason));
        }
        if *skipped_total > NAMED_MAX {
            text.push_str(&format!("  and {} more\n", skipped_total - NAMED_MAX));
        }
    }
    text
}

fn status(place: &Place) -> Result<(), CliError> {
    let path = index_path(place)?;
    let status = Index::open(&path).status()?;
    let text = match place.json {
        true => format!("{:#}\n", status_json(&path, &status)),
        false => status_text(&path, &status),
    };
    Ok(output::print(&text)?)
}

fn status_json(path: &Path, status: &Status) -> serde_json::Value {
    json!({
        "index": path.display().to_string(),
        "documents": status.documents,
        "passages": status.passages,
        "bytes": status.bytes,
        "base_url": status.base_url,
        "imported_s": status.imported_s,
    })
}

fn status_text(path: &Path, status: &Status) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!(
        "index     {}\npages     {}\npassages  {}\nsize      {}\nimported  {}\nlinks to  {}\n",
        path.display(),
        count(status.documents),
        count(status.passages),
        human(status.bytes),
        ago(now_s.saturating_sub(status.imported_s)),
        output::without_controls(&status.base_url)
    )
}

/// For people: which day it was matters, not which second.
fn ago(age_s: u64) -> String {
    let (number, unit) = match age_s {
        0..60 => return "just now".to_owned(),
        60..3600 => (age_s / 60, "minute"),
        3600..86_400 => (age_s / 3600, "hour"),
        _ => (age_s / 86_400, "day"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

/// A bar, where somebody can see it.
struct Display {
    bar: Option<ProgressBar>,
    is_terminal: bool,
}

impl Display {
    fn new() -> Self {
        Self { bar: None, is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, progress: Progress) {
        if !self.is_terminal {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            const TEMPLATE: &str = "importing  {bar:32}  {pos} of {len} files  {eta} left";
            let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant that parses");
            ProgressBar::new(progress.files_total as u64).with_style(style)
        });
        bar.set_position(progress.files_done as u64);
    }

    fn clear(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{SkipReason, Skipped};

    #[test]
    fn reports_say_what_was_left_out() {
        let skipped = |number: usize| Skipped { path: format!("{number}.md"), reason: SkipReason::NotText };
        let report = |skipped_total: usize| Report {
            documents: 2,
            passages: 7,
            bytes: 4096,
            skipped_total,
            skipped: (0..skipped_total).map(skipped).collect(),
        };
        let check = |total: usize, expected: &str| {
            let text = report_text(Path::new("docs.db"), &report(total), 0.25);
            assert_eq!(text, format!("2 pages in 7 passages, {} in 0.2 s\nindex  docs.db\n{expected}", human(4096)));
        };
        check(0, "");
        check(1, "\n1 left out:\n  0.md: not text in UTF-8\n");
        let json = report_json(Path::new("docs.db"), &report(1));
        assert_eq!(json["skipped"][0]["reason"], "not text in UTF-8");
        assert_eq!((&json["documents"], &json["skipped_total"]), (&json!(2), &json!(1)));
        assert!(
            report_text(Path::new("docs.db"), &report(13), 0.25).ends_with("  9.md: not text in UTF-8\n  and 3 more\n")
        );
    }

    #[test]
    fn ages_are_rounded_down() {
        let check = |age_s: u64, expected: &str| assert_eq!(ago(age_s), expected);
        check(59, "just now");
        check(60, "1 minute ago");
        check(7199, "1 hour ago");
        check(7200, "2 hours ago");
        check(86_400 * 40, "40 days ago");
    }
}
