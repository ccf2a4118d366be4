//! The house rules that a machine can hold us to: which room may know which, where the doors to the environment, to
//! `unsafe` and to features are, and how long a file may become. Prints the offending line.

use std::fmt;
use std::path::{Path, PathBuf};

/// Which rooms may be named as `crate::<room>` in which. `domain` and `wire` know nobody.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("domain", &[]),
    ("device", &[]),
    ("checkpoint", &[]),
    ("scheduler", &["domain"]),
    ("sampler", &["domain"]),
    ("catalog", &["domain"]),
    ("tokenizer", &["domain", "catalog", "checkpoint"]),
    ("nn", &["device", "checkpoint"]),
    ("arch", &["nn", "checkpoint"]),
    ("engine", &["domain", "scheduler", "sampler", "tokenizer", "catalog", "nn", "arch", "device", "checkpoint"]),
    ("bench", &["domain", "scheduler", "sampler", "nn", "arch", "device", "checkpoint", "engine", "egress"]),
    ("feature", &["domain"]),
    ("route", &["domain", "catalog"]),
    ("dialect", &["domain", "wire", "feature"]),
    ("auth", &["domain"]),
    ("certificate", &[]),
    ("egress", &["certificate"]),
    ("provider", &["domain", "wire", "egress", "tokenizer"]),
    ("search", &[]),
    ("http", &["domain", "dialect", "feature", "route", "auth", "search", "certificate"]),
    ("config", EVERYBODY),
    ("cli", EVERYBODY),
    ("serve", EVERYBODY),
];

const EVERYBODY: &[&str] = &[
    "wire",
    "domain",
    "device",
    "checkpoint",
    "scheduler",
    "sampler",
    "catalog",
    "certificate",
    "egress",
    "feature",
    "search",
    "tokenizer",
    "nn",
    "arch",
    "engine",
    "bench",
    "provider",
    "route",
    "dialect",
    "auth",
    "http",
    "config",
    "cli",
    "serve",
];

/// Words that may only appear in some rooms.
const DOORS: &[Door] = &[
    Door { word: "std::env::", rooms: &["config"], reason: "only `config` reads the environment" },
    Door { word: "env::var", rooms: &["config"], reason: "only `config` reads the environment" },
    Door { word: "axum", rooms: &["http", "serve"], reason: "nothing below `http` has heard of axum" },
    Door { word: "hyper::", rooms: &["http"], reason: "connections are the business of `http`" },
    Door { word: "reqwest", rooms: &["egress"], reason: "there is one door to the network" },
    Door { word: "rusqlite", rooms: &["search"], reason: "the index is the business of `search`" },
    Door {
        word: "jsonwebtoken",
        rooms: &["auth", "provider"],
        reason: "tokens are read in `auth`, and signed for clouds",
    },
    Door { word: "candle_core", rooms: &["nn", "checkpoint"], reason: "tensors stay where weights are loaded" },
    Door {
        word: "cfg(feature",
        rooms: &["device", "provider"],
        reason: "features are chosen in `device`, `provider` and kernels",
    },
    Door {
        word: "cfg!(feature",
        rooms: &["device", "provider"],
        reason: "features are chosen in `device`, `provider` and kernels",
    },
    Door { word: "unsafe", rooms: &[], reason: "`unsafe` lives in kernels" },
    Door {
        word: "async ",
        rooms: &["http", "engine", "serve", "cli", "route", "auth", "egress", "provider", "bench"],
        reason: "pure rooms do not wait",
    },
    Door { word: "use crate::{", rooms: &[], reason: "one `use crate::room::…` line per room" },
    Door { word: "pub use crate::", rooms: &[], reason: "no `pub use` across rooms" },
    Door { word: "unbounded_channel", rooms: &[], reason: "channels are bounded" },
    Door { word: "clippy::too_many_arguments", rooms: &[], reason: "five parameters, or a struct that names them" },
];

const FILE_LINES_MAX: usize = 500;

struct Door {
    word: &'static str,
    rooms: &'static [&'static str],
    reason: &'static str,
}

/// A rule broken at a place.
#[derive(Debug, PartialEq)]
struct Offence {
    path: PathBuf,
    line: usize,
    text: String,
    reason: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}\n    {}", self.path.display(), self.line, self.reason, self.text.trim())
    }
}

#[test]
fn rooms_keep_to_the_rules() {
    let source = source();
    let mut offences = Vec::new();
    for (room, _) in MAY_KNOW {
        for path in rust_files(&source.join(room)) {
            let text = std::fs::read_to_string(&path).expect("a source file is readable");
            offences.extend(check(room, &path, &text));
        }
    }
    assert!(offences.is_empty(), "\n{}", offences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_room_has_its_rules() {
    for entry in std::fs::read_dir(source()).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("names are text").to_owned();
        let is_known = MAY_KNOW.iter().any(|(room, _)| *room == name) || ["lib", "main"].contains(&name.as_str());
        assert!(is_known, "{} is a room without rules: add it to MAY_KNOW", path.display());
    }
    for (room, neighbours) in MAY_KNOW {
        assert!(source().join(room).is_dir(), "`{room}` has rules but no folder");
        for neighbour in *neighbours {
            assert!(
                MAY_KNOW.iter().any(|(known, _)| known == neighbour),
                "`{room}` may know `{neighbour}`, which is not"
            );
        }
    }
}

#[test]
fn files_stay_short() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/src");
    for path in [source(), kernels].iter().flat_map(|folder| rust_files(folder)) {
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file is readable");
        let code = text.find("\n#[cfg(test)]\nmod tests {").map_or(text.as_str(), |at| &text[..at]);
        let lines = code.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines without tests, at most {FILE_LINES_MAX}", path.display());
    }
}

#[test]
fn the_checker_sees_what_it_should() {
    let reasons = |room: &str, text: &str| -> Vec<(usize, String)> {
        check(room, Path::new("x.rs"), text).into_iter().map(|offence| (offence.line, offence.reason)).collect()
    };
    let unknown = reasons("scheduler", "use crate::domain::Job;\n\nuse crate::engine::Engine;\n");
    assert_eq!(unknown, [(3, "`scheduler` may not know `engine`".to_owned())]);
    assert_eq!(reasons("wire", "fn f() -> crate::domain::Job {}").len(), 1);
    assert_eq!(reasons("wire", "fn f() -> crate :: domain::Job {}").len(), 1);
    assert_eq!(reasons("domain", "use crate::domain::Job;").len(), 0);
    assert_eq!(reasons("domain", "let x = std::env::var(\"X\");").len(), 2);
    assert_eq!(reasons("config", "let x = std::env::vars_os();").len(), 0);
    assert_eq!(reasons("engine", "unsafe { f() }").len(), 1);
    assert_eq!(reasons("engine", "let unsafely = 1;").len(), 0);
    assert_eq!(reasons("engine", "use axum::Router;").len(), 1);
    assert_eq!(reasons("http", "use axum::Router;").len(), 0);
    assert_eq!(reasons("http", "use crate::{domain, auth};").len(), 1);
    assert_eq!(reasons("http", "pub use crate::auth::Auth;").len(), 1);
    assert_eq!(reasons("nn", "#[cfg(feature = \"cuda\")]").len(), 1);
    // What is only spoken about is allowed.
    let spoken = "// unsafe crate::http\n/* axum /* crate::http */ */\nlet s = \"crate::http \\\" axum\";\n";
    assert_eq!(reasons("wire", spoken), []);
    assert_eq!(
        reasons("wire", "let s = r#\"axum \" crate::http\"#; let c = '\"'; let a: &'static str = \"axum\";"),
        []
    );
    assert_eq!(reasons("wire", "let c = '\"'; use crate::http;").len(), 1);
}

fn check(room: &str, path: &Path, text: &str) -> Vec<Offence> {
    let neighbours = MAY_KNOW.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, neighbours)| neighbours);
    let mut offences = Vec::new();
    for ((number, code), text) in without_comments_and_strings(text).lines().enumerate().zip(text.lines()) {
        let mut offend = |reason: String| {
            offences.push(Offence { path: path.to_owned(), line: number + 1, text: text.to_owned(), reason });
        };
        for named in names_after_crate(code) {
            if named != room && !neighbours.contains(&named) {
                offend(format!("`{room}` may not know `{named}`"));
            }
        }
        for door in DOORS.iter().filter(|door| !door.rooms.contains(&room)) {
            if has_word(code, door.word) {
                offend(format!("`{}` in `{room}`: {}", door.word.trim(), door.reason));
            }
        }
    }
    offences
}

/// Every `name` in `crate::name`, spaces allowed.
fn names_after_crate(code: &str) -> impl Iterator<Item = &str> {
    code.match_indices("crate").filter_map(move |(at, word)| {
        let is_whole = !code[..at].ends_with(is_name);
        let rest = code[at + word.len()..].trim_start().strip_prefix("::")?.trim_start();
        let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        (is_whole && end > 0).then(|| &rest[..end])
    })
}

/// Whether `word` occurs, and not as a part of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let ends_in_name = word.ends_with(is_name);
        let (before, behind) = (&code[..at], &code[at + word.len()..]);
        !(before.ends_with(is_name) || ends_in_name && behind.starts_with(is_name) && word != "env::var")
    })
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The code with everything that is only text blanked out; lines keep their numbers.
fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let blank = blank_length(rest, code.chars().next_back());
        if blank == 0 {
            code.push(char);
            rest = &rest[char.len_utf8()..];
        } else {
            code.extend(rest[..blank].chars().map(|char| if char == '\n' { '\n' } else { ' ' }));
            rest = &rest[blank..];
        }
    }
    code
}

/// How many bytes from the start of `rest` are a comment, a string or a character; 0 when it begins with code.
fn blank_length(rest: &str, before: Option<char>) -> usize {
    let until = |end: &str, from: usize| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with("r\"") || rest.starts_with("r#") {
        let hashes = rest[1..].chars().take_while(|char| *char == '#').count();
        let is_string = rest[1 + hashes..].starts_with('"') && !before.is_some_and(|char| is_name(char) && char != 'b');
        return if is_string { until(&format!("\"{}", "#".repeat(hashes)), 2 + hashes) } else { 0 };
    }
    match rest.as_bytes()[0] {
        b'"' => quoted_length(rest, '"'),
        b'\'' => {
            // A lifetime has no closing quote right behind its first character.
            let mut chars = rest.chars().skip(1);
            let is_char = chars.next() == Some('\\') || chars.next() == Some('\'');
            if is_char { quoted_length(rest, '\'') } else { 0 }
        }
        _ => 0,
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a source folder is readable") {
        let path = entry.expect("a source folder is readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
