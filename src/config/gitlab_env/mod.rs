//! The variables of GitLab's own gateway, as layers of ours: a set-up written for that gateway keeps its meaning.
//!
//! Every variable is either turned into a setting, or answered with one line that says why it changes nothing. None is
//! ever an error: GitLab's gateway ignores what it does not know, and charts rely on that. Source: contract
//! models-and-monitoring.md, section 7; `table` lists them.

mod table;
#[cfg(test)]
mod tests;

use super::keys::suggest;
use super::layers::Environment;
use super::reader::parse_flag;
use figment::Figment;
use serde::Serialize;
use std::fmt;
use table::{Effect, KNOWN, Known, Part};

const PREFIX: &str = "AIGW_";
/// Variables of this gateway; others may have been set for any program on the machine.
const OWN_PREFIXES: [&str; 2] = [PREFIX, "DUO_WORKFLOW_"];

/// A variable that was set and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub variable: String,
    pub why: String,
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} has no effect: {}", self.variable, self.why)
    }
}

/// One key of ours and what the variables make of it.
pub struct Setting {
    pub key: &'static str,
    pub value: String,
    /// The variables it comes from, as they were written.
    pub variables: String,
}

#[derive(Default)]
pub struct Understood {
    /// In the order in which they are to be stacked: the later wins.
    pub settings: Vec<Setting>,
    pub notices: Vec<Notice>,
}

/// A variable that is set: its name in the case of the table, and as it was written.
struct Variable<'a> {
    name: String,
    written: &'a str,
    value: &'a str,
}

/// Reads every variable that is set. `below` are the layers so far: half an address takes the other half from there.
pub fn read(environment: &Environment, below: &Figment) -> Understood {
    let mut variables: Vec<Variable<'_>> = environment.texts().map(|(name, value)| variable(name, value)).collect();
    variables.sort_by(|left, right| (&left.name, left.written).cmp(&(&right.name, right.written)));
    let mut understood = Understood::default();
    for known in KNOWN {
        for variable in variables.iter().filter(|variable| known.is(&variable.name)) {
            understood.take(known, variable, below);
        }
    }
    for variable in variables.iter().filter(|variable| variable.name.starts_with(PREFIX)) {
        if !KNOWN.iter().any(|known| known.is(&variable.name)) {
            understood.ignore(variable, unknown(&variable.name));
        }
    }
    if !is_gateway(environment, below, &understood) {
        let is_own = |notice: &Notice| OWN_PREFIXES.iter().any(|own| notice.variable.to_uppercase().starts_with(own));
        understood.notices.retain(is_own);
    }
    understood
}

fn variable<'a>(written: &'a str, value: &'a str) -> Variable<'a> {
    let upper = written.to_uppercase();
    let name = if upper.starts_with(PREFIX) { upper } else { written.to_owned() };
    Variable { name, written, value }
}

/// Whether this process stands in for GitLab's gateway. Only then is `AWS_REGION` or `PORT` likely meant for it.
fn is_gateway(environment: &Environment, below: &Figment, understood: &Understood) -> bool {
    let is_set_below = lower(below, "gitlab.url").is_some_and(|url| !url.is_empty());
    let is_set_here = understood.settings.iter().any(|setting| setting.key == "gitlab.url");
    is_set_below || is_set_here || environment.get("SCONCE__GITLAB__URL").is_some()
}

fn unknown(name: &str) -> String {
    let known = KNOWN.iter().map(|known| known.name).filter(|name| name.starts_with(PREFIX) && !name.ends_with('*'));
    let lower: Vec<String> = known.map(str::to_lowercase).collect();
    match suggest(name, lower.iter().map(String::as_str)) {
        Some(meant) => format!("no such variable is known; did you mean {}?", meant.to_uppercase()),
        None => "no such variable is known".to_owned(),
    }
}

impl Understood {
    fn take(&mut self, known: &Known, variable: &Variable<'_>, below: &Figment) {
        match known.effect {
            Effect::Sets(key) => self.set(key, variable.value.to_owned(), variable),
            Effect::Translates(key, translate) => match translate(variable.value) {
                Ok(value) => self.set(key, value, variable),
                Err(why) => self.ignore(variable, why),
            },
            Effect::Listens(key, part) => self.listen(key, part, variable, below),
            Effect::AddsTo(key) => match self.settings.iter_mut().find(|setting| setting.key == key) {
                Some(setting) => {
                    setting.value = format!("{},{}", setting.value, variable.value);
                    setting.variables = format!("{}, {}", setting.variables, variable.written);
                }
                None => self.set(key, variable.value.to_owned(), variable),
            },
            Effect::IsAlways(value, why) => {
                if canonical(value) != canonical(variable.value) {
                    self.ignore(variable, why.to_owned());
                }
            }
            Effect::Nothing(why) => self.ignore(variable, why.to_owned()),
        }
    }

    fn set(&mut self, key: &'static str, value: String, variable: &Variable<'_>) {
        self.settings.push(Setting { key, value, variables: variable.written.to_owned() });
    }

    fn ignore(&mut self, variable: &Variable<'_>, why: String) {
        self.notices.push(Notice { variable: variable.written.to_owned(), why });
    }

    /// Replaces the host or the port of an address.
    fn listen(&mut self, key: &'static str, part: Part, variable: &Variable<'_>, below: &Figment) {
        let so_far = self.settings.iter().find(|setting| setting.key == key);
        let address = so_far.map(|setting| setting.value.clone()).or_else(|| lower(below, key));
        let address = address.unwrap_or_default();
        let (host, port) = address.rsplit_once(':').unwrap_or(("127.0.0.1", "0"));
        let value = match part {
            Part::Host => format!("{}:{port}", bracketed(variable.value)),
            Part::Port => format!("{host}:{}", variable.value),
        };
        match self.settings.iter_mut().find(|setting| setting.key == key) {
            Some(setting) => {
                setting.value = value;
                setting.variables = format!("{}, {}", setting.variables, variable.written);
            }
            None => self.set(key, value, variable),
        }
    }
}

/// The value of `key` in the layers below.
fn lower(below: &Figment, key: &str) -> Option<String> {
    below.find_value(key).ok()?.as_str().map(str::to_owned)
}

/// `::` as it stands in an address with a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Different spellings of one value made the same.
fn canonical(value: &str) -> String {
    match parse_flag(value) {
        Some(flag) => flag.to_string(),
        None => value.to_lowercase(),
    }
}
