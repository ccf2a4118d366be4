//! The layers: defaults, the file, each environment variable and each flag, stacked with figment so that every value
//! remembers which of them it came from. Unknown keys are found here, where their origin is still at hand.

use super::gitlab_env::{self, Notice};
use super::keys::{KEYS, NESTED, is_known, may_be_named, nested, suggest, suggest_key};
use super::problem::Problem;
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const FILE_BYTES_MAX: u64 = 1 << 20;
const PREFIX: &str = "SCONCE__";
const CONFIG_VARIABLE: &str = "SCONCE_CONFIG";

/// The variables of the process, taken once. Tests make their own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// The value of a variable; an empty one counts as not set, as charts that always write it expect.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value)
    }

    /// Every variable that is text, with its value trimmed; empty ones count as not set.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?.trim())));
        texts.filter(|(_, value)| !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self::from(variables.as_slice())
    }
}

impl From<&[(&str, &str)]> for Environment {
    fn from(variables: &[(&str, &str)]) -> Self {
        Self { variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

/// One setting from the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As it was typed: `--listen`.
    flag: &'static str,
    /// The parts of the key: a model's name may hold dots.
    path: Vec<String>,
    value: String,
}

impl Flag {
    /// `key` is dotted: `server.listen`.
    pub fn new(flag: &'static str, key: &str, value: impl Into<String>) -> Self {
        Self { flag, path: key.split('.').map(str::to_owned).collect(), value: value.into() }
    }

    /// A setting of the model `name`.
    pub fn of_model(flag: &'static str, name: &str, key: &str, value: impl Into<String>) -> Self {
        Self { flag, path: vec!["models".to_owned(), name.to_owned(), key.to_owned()], value: value.into() }
    }
}

/// What [`stack`] made of the layers.
pub struct Stack {
    pub figment: Figment,
    /// What cannot be read or is not known.
    pub problems: Vec<Problem>,
    /// Variables of GitLab's gateway that change nothing here.
    pub notices: Vec<Notice>,
}

/// Stacks every layer: defaults < file < variables of GitLab's gateway < our own variables < flags.
pub fn stack(environment: &Environment, file: Option<PathBuf>, flags: &[Flag]) -> Stack {
    let mut problems = Vec::new();
    let mut figment = Figment::new().merge(defaults());
    if let Some(layer) = state_layer(environment) {
        figment = figment.merge(layer);
    }
    if let Some(path) = file.or_else(|| environment.get(CONFIG_VARIABLE).map(PathBuf::from)) {
        figment = figment.merge(file_layer(path, &mut problems));
    }
    let understood = gitlab_env::read(environment, &figment);
    for setting in understood.settings {
        let metadata = Metadata::named(format!("environment {}", setting.variables));
        let path: Vec<String> = setting.key.split('.').map(str::to_owned).collect();
        figment = figment.merge(Layer { metadata, dict: nest(&path, &setting.value) });
    }
    for (name, value) in &environment.variables {
        if let Some(layer) = variable_layer(name, value, &mut problems) {
            figment = figment.merge(layer);
        }
    }
    for flag in flags {
        let metadata = Metadata::named(format!("flag {}", flag.flag));
        figment = figment.merge(Layer { metadata, dict: nest(&flag.path, &flag.value) });
    }
    Stack { figment, problems, notices: understood.notices }
}

/// Where keys are kept unless something else is said: the folder of the XDG base directory specification.
fn state_layer(environment: &Environment) -> Option<Layer> {
    let (variable, dir) = match (environment.get("XDG_STATE_HOME"), environment.get("HOME")) {
        (Some(state), _) => ("XDG_STATE_HOME", PathBuf::from(state)),
        (None, Some(home)) => ("HOME", PathBuf::from(home).join(".local/state")),
        (None, None) => return None,
    };
    let path = ["state".to_owned(), "dir".to_owned()];
    let dir = dir.is_absolute().then(|| dir.join("sconce"))?;
    Some(Layer { metadata: Metadata::named(format!("environment {variable}")), dict: nest(&path, dir.to_str()?) })
}

/// One source of values.
struct Layer {
    metadata: Metadata,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn defaults() -> Layer {
    let mut dict = Dict::new();
    for key in KEYS {
        let (section, name) = key.name.split_once('.').expect("every key is section.name");
        let section = dict.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
        if let Value::Dict(_, section) = section {
            section.insert(name.to_owned(), Value::from(key.default));
        }
    }
    Layer { metadata: Metadata::named("default"), dict }
}

/// Reads the file; an unreadable or malformed one is a problem and an empty layer.
fn file_layer(path: PathBuf, problems: &mut Vec<Problem>) -> Layer {
    let dict = match read(&path) {
        Ok(dict) => dict,
        Err(problem) => {
            problems.push(problem);
            Dict::new()
        }
    };
    let name = format!("file {}", path.display());
    for (section, value) in &dict {
        match value {
            Value::Dict(_, entries) if nested(section).is_some() => check_nested(&name, section, entries, problems),
            Value::Dict(_, entries) => check_section(&name, section, entries, problems),
            _ => problems.push(unknown(&name, section)),
        }
    }
    Layer { metadata: Metadata::from(name, path.as_path()), dict }
}

fn read(path: &Path) -> Result<Dict, Problem> {
    let unreadable = |error: std::io::Error| Problem::FileUnreadable { path: path.into(), reason: error.to_string() };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Problem::FileTooLarge { path: path.into(), bytes, bytes_max: FILE_BYTES_MAX });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text)
        .map_err(|error| Problem::FileSyntax { path: path.into(), reason: error.to_string().trim_end().to_owned() })
}

fn check_section(origin: &str, section: &str, entries: &Dict, problems: &mut Vec<Problem>) {
    for name in entries.keys() {
        if !is_known(&[section.to_owned(), name.clone()]) {
            problems.push(unknown(origin, &format!("{section}.{name}")));
        }
    }
}

fn check_nested(origin: &str, section: &str, names: &Dict, problems: &mut Vec<Problem>) {
    let keys = nested(section).unwrap_or_default();
    for (between, value) in names {
        let Value::Dict(_, entries) = value else {
            let first = keys.first().map_or("", |key| key.name);
            problems.push(Problem::WrongValue {
                origin: origin.to_owned(),
                key: format!("{section}.{between}"),
                found: "a single value".to_owned(),
                expected: format!("a table: [{section}.{between}] with `{first} = …` below it"),
            });
            continue;
        };
        for name in entries.keys() {
            let key = format!("{section}.{between}.{name}");
            if !may_be_named(section, between) {
                problems.push(unknown(origin, &key));
            } else if !keys.iter().any(|known| known.name == *name) {
                let suggestion = suggest(name, keys.iter().map(|key| key.name));
                let suggestion = suggestion.map(|name| format!("{section}.{between}.{name}"));
                problems.push(Problem::UnknownKey { origin: origin.to_owned(), key, suggestion });
            }
        }
    }
}

fn unknown(origin: &str, key: &str) -> Problem {
    let sections = KEYS.iter().filter_map(|key| key.name.split('.').next()).chain(["features"]);
    let sections = sections.chain(NESTED.iter().map(|(section, _)| *section));
    let suggestion = suggest_key(key).or_else(|| suggest(key, sections).map(str::to_owned));
    Problem::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), suggestion }
}

/// The layer of one variable, or `None` for those that are not ours, empty or unknown.
fn variable_layer(name: &OsString, value: &OsString, problems: &mut Vec<Problem>) -> Option<Layer> {
    let name = name.to_str()?;
    let rest = name.strip_prefix(PREFIX).or_else(|| {
        // `SCONCE_SERVER__LISTEN` is a slip worth telling; `SCONCE_PORT` may be anybody's (Kubernetes sets it).
        let is_slip = name.starts_with("SCONCE_") && name.contains("__");
        is_slip.then(|| &name["SCONCE_".len()..])
    })?;
    if value.is_empty() {
        return None;
    }
    let origin = format!("environment {name}");
    let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    if !name.starts_with(PREFIX) || !is_known(&path) {
        let suggestion = suggest_variable(&path);
        problems.push(Problem::UnknownVariable { origin, suggestion });
        return None;
    }
    let Some(value) = value.to_str() else {
        problems.push(Problem::NotUnicode { origin });
        return None;
    };
    Some(Layer { metadata: Metadata::named(origin), dict: nest(&path, value) })
}

fn suggest_variable(path: &[String]) -> Option<String> {
    let variable = |key: &str| format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"));
    match path {
        [section, between, name] if nested(section).is_some() && may_be_named(section, between) => {
            let name = suggest(name, nested(section)?.iter().map(|key| key.name))?;
            Some(variable(&format!("{section}.{between}.{name}")))
        }
        _ => suggest_key(&path.join(".")).map(|key| variable(&key)),
    }
}

fn nest(path: &[String], value: &str) -> Dict {
    let (name, above) = path.split_last().expect("a key has at least one part");
    let leaf = Dict::from([(name.clone(), Value::from(value))]);
    above.iter().rev().fold(leaf, |inner, name| Dict::from([(name.clone(), Value::from(inner))]))
}
