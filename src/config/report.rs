//! What `check-config` prints: every effective setting, its value, and where it came from. Secrets are masked before
//! they get here.

use super::table::RouteTable;
use serde::Serialize;
use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub settings: Vec<Row>,
    /// Variables that change nothing here, each with the reason.
    pub notices: Vec<String>,
    pub problems: Vec<String>,
    /// Empty while there are problems.
    pub routes: RouteTable,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub key: String,
    pub value: String,
    /// `default`, `file PATH`, `environment NAME` or `flag --NAME`.
    pub origin: String,
    pub meaning: &'static str,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_width = self.settings.iter().map(|row| row.key.len()).max().unwrap_or(0);
        let shown = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
        let value_width = self.settings.iter().map(|row| shown(&row.value).chars().count().min(40)).max().unwrap_or(0);
        let origin_width = self.settings.iter().map(|row| row.origin.len().min(40)).max().unwrap_or(0);
        let mut section = "";
        for row in &self.settings {
            let row_section = row.key.split('.').next().unwrap_or_default();
            if row_section != section && !section.is_empty() {
                writeln!(formatter)?;
            }
            section = row_section;
            let value = shown(&row.value);
            let Row { key, origin, meaning, .. } = row;
            let line = format!("{key:key_width$}  {value:value_width$}  {origin:origin_width$}  {meaning}");
            writeln!(formatter, "{}", line.trim_end())?;
        }
        if !self.routes.0.is_empty() {
            write!(formatter, "\n{}", self.routes)?;
        }
        for notice in &self.notices {
            writeln!(formatter, "\nnotice: {notice}")?;
        }
        for problem in &self.problems {
            writeln!(formatter, "\nproblem: {problem}")?;
        }
        Ok(())
    }
}
