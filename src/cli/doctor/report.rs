//! What the checks found, for people and for machines.

use crate::auth::gitlab::{Check, Verdict};
use serde::Serialize;
use std::fmt;

/// Checks of one thing: this machine, a GitLab, a running server.
#[derive(Debug, Serialize)]
pub struct Section {
    pub title: String,
    pub checks: Vec<Check>,
}

impl Section {
    /// The same where a failure is no more than a pity.
    pub fn optional(mut self) -> Self {
        for check in self.checks.iter_mut().filter(|check| check.verdict == Verdict::Fail) {
            check.verdict = Verdict::Warn;
        }
        self
    }
}

#[derive(Debug, Default, Serialize)]
pub struct Findings {
    pub sections: Vec<Section>,
}

impl Findings {
    pub fn failed(&self) -> usize {
        let checks = self.sections.iter().flat_map(|section| &section.checks);
        checks.filter(|check| check.verdict == Verdict::Fail).count()
    }
}

pub fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Ok, found: found.into(), next_step: String::new() }
}

pub fn warn(name: &'static str, found: impl Into<String>, next_step: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Warn, found: found.into(), next_step: next_step.into() }
}

pub fn fail(name: &'static str, found: impl Into<String>, next_step: impl Into<String>) -> Check {
    Check { name, verdict: Verdict::Fail, found: found.into(), next_step: next_step.into() }
}

impl fmt::Display for Findings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, section) in self.sections.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            writeln!(formatter, "{}", section.title)?;
            write_checks(formatter, &section.checks)?;
        }
        let checks: usize = self.sections.iter().map(|section| section.checks.len()).sum();
        match self.failed() {
            0 => writeln!(formatter, "\n{checks} checks, none failed"),
            failed => writeln!(formatter, "\n{checks} checks, {failed} failed"),
        }
    }
}

/// A line for each check, and one below it where something is to be done.
pub fn write_checks(formatter: &mut impl fmt::Write, checks: &[Check]) -> fmt::Result {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, verdict, found, next_step } in checks {
        let verdict = match verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        writeln!(formatter, "  {verdict}  {name:width$}  {found}")?;
        if !next_step.is_empty() {
            writeln!(formatter, "        {:width$}  -> {next_step}", "")?;
        }
    }
    Ok(())
}
