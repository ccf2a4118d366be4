//! Reads typed values out of the stacked layers. A value that does not fit becomes a problem naming its place, and the
//! reading goes on, so that everything wrong is told at once.

use super::keys::{FEATURES, is_secret, meaning, nested};
use super::problem::Problem;
use super::report::Row;
use super::{Bytes, DeviceChoice, Secret};
use figment::Figment;
use figment::value::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const SHOWN_CHARS_MAX: usize = 80;

pub struct Reader<'figment> {
    figment: &'figment Figment,
    problems: Vec<Problem>,
    rows: Vec<Row>,
}

/// A value with where it came from.
struct Found {
    value: Value,
    origin: String,
    /// The folder of the configuration file the value was written in; relative paths start there.
    file_dir: Option<PathBuf>,
}

impl Found {
    /// Text from the environment, a flag or the defaults, where every value is text. A file has types of its own.
    fn untyped(&self) -> Option<&str> {
        if self.file_dir.is_none() { self.text() } else { None }
    }

    fn text(&self) -> Option<&str> {
        self.value.as_str().map(str::trim)
    }

    fn whole(&self) -> Option<u64> {
        match &self.value {
            Value::Num(_, number) => {
                let signed = || number.to_i128().and_then(|number| u64::try_from(number).ok());
                number.to_u128().and_then(|number| u64::try_from(number).ok()).or_else(signed)
            }
            _ => self.untyped()?.parse().ok(),
        }
    }

    fn real(&self) -> Option<f64> {
        match &self.value {
            Value::Num(_, number) => {
                number.to_f64().or_else(|| number.to_i128().and_then(|whole| i32::try_from(whole).ok()).map(f64::from))
            }
            _ => self.untyped()?.parse().ok(),
        }
    }

    fn path(&self) -> Option<PathBuf> {
        let path = Path::new(self.value.as_str()?);
        Some(match &self.file_dir {
            Some(dir) => dir.join(path),
            None => path.to_owned(),
        })
    }

    fn flag(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(_, flag) => Some(*flag),
            _ => parse_flag(self.untyped()?),
        }
    }

    /// The items of a list, which is written with commas where values are plain text.
    fn list(&self) -> Option<Vec<String>> {
        if let Some(text) = self.untyped() {
            return Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect());
        }
        let items = self.value.as_array()?.iter();
        items.map(|item| item.as_str().map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)).collect()
    }

    fn shown(&self) -> String {
        match &self.value {
            Value::String(_, text) => {
                let shown = without_password(text);
                let shown: String = shown.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
                format!("\"{shown}\"")
            }
            Value::Char(_, char) => format!("\"{char}\""),
            Value::Bool(_, flag) => flag.to_string(),
            Value::Num(_, number) => {
                let float = number.to_f64().map(|float| float.to_string());
                let signed = || number.to_i128().map(|whole| whole.to_string());
                let unsigned = || number.to_u128().map(|whole| whole.to_string());
                float.or_else(signed).or_else(unsigned).unwrap_or_else(|| "a number".to_owned())
            }
            Value::Empty(..) => "empty".to_owned(),
            Value::Dict(..) => "a table".to_owned(),
            Value::Array(_, items) => format!("a list of {}", items.len()),
        }
    }
}

impl<'figment> Reader<'figment> {
    pub fn new(figment: &'figment Figment, problems: Vec<Problem>) -> Self {
        Self { figment, problems, rows: Vec::new() }
    }

    pub fn finish(self) -> (Vec<Row>, Vec<Problem>) {
        (self.rows, self.problems)
    }

    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Where the value of `key` came from: `default`, `file PATH`, `environment NAME`, `flag --NAME`.
    pub fn origin(&self, key: &str) -> String {
        self.find(key).map_or_else(|| "default".to_owned(), |found| found.origin)
    }

    /// The names below a section whose keys stand one level deeper.
    pub fn names_below(&self, section: &str) -> Vec<String> {
        let found = self.figment.find_value(section).ok();
        found.as_ref().and_then(Value::as_dict).map_or_else(Vec::new, |names| names.keys().cloned().collect())
    }

    /// Where `name` is first mentioned below `section`.
    pub fn origin_below(&self, section: &str, name: &str) -> String {
        let keys = nested(section).unwrap_or_default().iter().map(|key| format!("{section}.{name}.{}", key.name));
        keys.filter_map(|key| self.find(&key)).map(|found| found.origin).next().unwrap_or_default()
    }

    pub fn address(&mut self, key: &str) -> SocketAddr {
        let expected = "an address such as 127.0.0.1:5052";
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        self.read(key, expected, |found| parse_address(found.text()?), SocketAddr::to_string).unwrap_or(nowhere)
    }

    pub fn address_or_off(&mut self, key: &str) -> Option<SocketAddr> {
        let parse = |found: &Found| match found.text()? {
            "off" => Some(None),
            text => parse_address(text).map(Some),
        };
        let show =
            |address: &Option<SocketAddr>| address.map_or_else(|| "off".to_owned(), |address| address.to_string());
        self.read(key, "an address such as 127.0.0.1:9464, or off", parse, show).flatten()
    }

    pub fn whole(&mut self, key: &str, range: RangeInclusive<u64>) -> u64 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |found: &Found| found.whole().filter(|number| range.contains(number));
        self.read(key, &expected, parse, u64::to_string).unwrap_or(*range.start())
    }

    /// A number, or `auto` for none; `auto` says in the report what that comes to.
    pub fn whole_or_auto(&mut self, key: &str, range: RangeInclusive<u64>, auto: &str) -> Option<u64> {
        let expected = format!("a whole number from {} to {}, or auto", range.start(), range.end());
        let parse = |found: &Found| match found.text() {
            Some("auto") => Some(None),
            _ => found.whole().filter(|number| range.contains(number)).map(Some),
        };
        let show = |number: &Option<u64>| number.map_or_else(|| auto.to_owned(), |number| number.to_string());
        self.read(key, &expected, parse, show).flatten()
    }

    pub fn size(&mut self, key: &str, range: RangeInclusive<u64>) -> Bytes {
        let (min, max) = (Bytes(*range.start()), Bytes(*range.end()));
        let parse = |found: &Found| {
            let bytes = match found.text() {
                Some(text) => Bytes::parse(text)?,
                None => Bytes(found.whole()?),
            };
            range.contains(&bytes.0).then_some(bytes)
        };
        let expected = format!("a size from {min} to {max}, such as 512MiB");
        self.read(key, &expected, parse, Bytes::to_string).unwrap_or(min)
    }

    /// A size, or nothing for `auto`.
    pub fn size_or_auto(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<Bytes> {
        let (min, max) = (Bytes(*range.start()), Bytes(*range.end()));
        let parse = |found: &Found| {
            let bytes = match found.text() {
                Some("auto") => return Some(None),
                Some(text) => Bytes::parse(text)?,
                None => Bytes(found.whole()?),
            };
            range.contains(&bytes.0).then_some(Some(bytes))
        };
        let expected = format!("auto, or a size from {min} to {max}, such as 512MiB");
        let show = |bytes: &Option<Bytes>| bytes.map_or_else(|| "auto".to_owned(), |bytes| bytes.to_string());
        self.read(key, &expected, parse, show).flatten()
    }

    /// What computes: `auto`, `cpu`, `cuda` or `cuda:N`.
    pub fn device(&mut self, key: &str) -> DeviceChoice {
        let parse = |found: &Found| match found.text()? {
            "auto" => Some(DeviceChoice::Auto),
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda { ordinal: 0 }),
            text => Some(DeviceChoice::Cuda { ordinal: text.strip_prefix("cuda:")?.parse().ok()? }),
        };
        let show = |choice: &DeviceChoice| match choice {
            DeviceChoice::Auto => "auto".to_owned(),
            DeviceChoice::Cpu => "cpu".to_owned(),
            DeviceChoice::Cuda { ordinal } => format!("cuda:{ordinal}"),
        };
        self.read(key, "auto, cpu, cuda or cuda:N", parse, show).unwrap_or(DeviceChoice::Auto)
    }

    /// A number strictly between 0 and 1.
    pub fn share(&mut self, key: &str) -> f64 {
        let parse = |found: &Found| found.real().filter(|share| *share > 0.0 && *share < 1.0);
        self.read(key, "a number between 0 and 1, such as 0.25", parse, f64::to_string).unwrap_or(0.5)
    }

    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&'static str, T)]) -> T {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let parse = |found: &Found| {
            let text = found.text()?;
            choices.iter().copied().find(|(name, _)| name.eq_ignore_ascii_case(text))
        };
        let expected = format!("one of {}", names.join(", "));
        self.read(key, &expected, parse, |(name, _)| (*name).to_owned()).unwrap_or(choices[0]).1
    }

    /// `true` or `false`, as pydantic and TOML write them.
    pub fn flag(&mut self, key: &str) -> bool {
        self.read(key, "true or false", Found::flag, bool::to_string).unwrap_or_default()
    }

    /// One value that `parse` understands, or `None` where it is empty. `show` masks what must not be seen.
    pub fn parsed<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let parse = |found: &Found| match found.text()? {
            "" => Some(None),
            text => parse(text).map(Some),
        };
        let show = |value: &Option<T>| value.as_ref().map_or_else(String::new, &show);
        self.read(key, expected, parse, show).flatten()
    }

    /// A list of which `parse` understands every item.
    pub fn list<T>(&mut self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T>
    where
        T: ToString,
    {
        let parse = |found: &Found| found.list()?.iter().map(|item| parse(item)).collect::<Option<Vec<T>>>();
        let show = |items: &Vec<T>| items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.read(key, expected, parse, show).unwrap_or_default()
    }

    /// The items of a list as they are written, without a row in the report; nothing where it is no list.
    pub fn texts(&self, key: &str) -> Vec<String> {
        self.find(key).and_then(|found| found.list()).unwrap_or_default()
    }

    /// Paths; those of the file start at its folder.
    pub fn paths(&mut self, key: &str) -> Vec<PathBuf> {
        let parse = |found: &Found| {
            let dir = found.file_dir.clone().unwrap_or_default();
            Some(found.list()?.iter().map(|path| dir.join(path)).collect::<Vec<_>>())
        };
        let show =
            |paths: &Vec<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        self.read(key, "a list of paths", parse, show).unwrap_or_default()
    }

    /// The features that a model is chosen for, in the order of the table.
    pub fn features(&self) -> Vec<&'static str> {
        FEATURES.iter().copied().filter(|feature| self.is_set(&format!("features.{feature}"))).collect()
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        let parse = |found: &Found| found.value.as_str().map(str::to_owned);
        self.read(key, "text", parse, String::clone).filter(|text| !text.is_empty())
    }

    pub fn path(&mut self, key: &str) -> Option<PathBuf> {
        let parse = |found: &Found| match found.value.as_str()? {
            "" => Some(None),
            _ => Some(Some(found.path()?)),
        };
        let show = |path: &Option<PathBuf>| path.as_ref().map_or_else(String::new, |path| path.display().to_string());
        self.read(key, "a path", parse, show).flatten()
    }

    pub fn secrets(&mut self, key: &str) -> Vec<Secret> {
        let show = |keys: &Vec<Secret>| match keys.len() {
            0 => String::new(),
            1 => "1 key (hidden)".to_owned(),
            number => format!("{number} keys (hidden)"),
        };
        let parse = |found: &Found| Some(found.list()?.into_iter().map(Secret::new).collect::<Vec<_>>());
        self.read(key, "a list of keys", parse, show).unwrap_or_default()
    }

    /// Whether anything sets `key`.
    pub fn is_set(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl Fn(&Found) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let found = self.find(key)?;
        let meaning = meaning(key);
        let Some(parsed) = parse(&found) else {
            let shown = if is_secret(key) { "something else (hidden)".to_owned() } else { found.shown() };
            self.rows.push(Row { key: key.to_owned(), value: shown.clone(), origin: found.origin.clone(), meaning });
            self.problems.push(Problem::WrongValue {
                origin: found.origin,
                key: key.to_owned(),
                found: shown,
                expected: expected.to_owned(),
            });
            return None;
        };
        self.rows.push(Row { key: key.to_owned(), value: show(&parsed), origin: found.origin, meaning });
        Some(parsed)
    }

    fn find(&self, key: &str) -> Option<Found> {
        let (section, rest) = key.split_once('.')?;
        // A name may hold dots: the last part is the key, all between is the name.
        let names: Vec<&str> = match (section, rest.rsplit_once('.')) {
            (section, Some((between, name))) if nested(section).is_some() => vec![between, name],
            _ => vec![rest],
        };
        let section = self.figment.find_value(section).ok()?;
        let mut value = &section;
        for name in names {
            value = value.as_dict()?.get(name)?;
        }
        let metadata = self.figment.get_metadata(value.tag());
        let file = metadata.and_then(|metadata| metadata.source.as_ref()?.file_path());
        Some(Found {
            value: value.clone(),
            origin: metadata.map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string()),
            file_dir: file.map(|file| file.parent().unwrap_or(Path::new("")).to_owned()),
        })
    }
}

/// An address without the user name, the password and the query that may stand in it.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?(hidden)"));
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}://(hidden)@{rest}{query}"),
        None => format!("{scheme}://{rest}{query}"),
    }
}

/// What pydantic takes for a boolean, which is what GitLab's documentation is written for.
pub fn parse_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" | "on" => Some(true),
        "false" | "0" | "no" | "n" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// An IP address with a port; `localhost` is the IPv4 loopback. Other names would need a resolver to be trusted.
fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}
