//! Source code that nobody wrote: classes and functions in Python put together from words, as long as needed. It
//! repeats itself about as much as business code does, and belongs to nobody.

use super::seeded::Seeded;
use std::fmt::Write as _;

/// What one token of such code is worth, as tokenizers of code models cut it.
pub const BYTES_PER_TOKEN: f64 = 3.6;

const VERBS: [&str; 24] = [
    "load", "store", "merge", "split", "count", "find", "check", "build", "parse", "render", "update", "remove",
    "open", "close", "send", "receive", "sort", "filter", "group", "convert", "prepare", "collect", "measure",
    "publish",
];
const NOUNS: [&str; 32] = [
    "order", "invoice", "customer", "ticket", "branch", "commit", "report", "session", "queue", "worker", "channel",
    "record", "page", "filter", "schedule", "budget", "region", "device", "reading", "account", "batch", "window",
    "package", "release", "label", "review", "project", "member", "pipeline", "artifact", "runner", "setting",
];
const FIELDS: [&str; 16] = [
    "name",
    "size",
    "state",
    "owner",
    "created_at",
    "total",
    "limit",
    "version",
    "path",
    "priority",
    "weight",
    "color",
    "parent",
    "language",
    "offset",
    "score",
];
const VALUES: [&str; 12] =
    ["None", "True", "0", "1", "[]", "{}", "\"\"", "\"open\"", "\"closed\"", "100", "0.5", "time.time()"];

/// At least `bytes` of code, ASCII, whole lines.
pub fn code(mut seeded: Seeded, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 1024);
    write(&mut text, format_args!("import json\nimport time\n\n# build {}\n\n", seeded.below(1_000_000_000)));
    while text.len() < bytes {
        class(&mut text, &mut seeded);
    }
    text
}

/// About this many bytes of a text, cut where a character begins.
pub fn ends_at(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.expect("the start of a text is a boundary")]
}

/// How many bytes of code make this many tokens, about.
pub fn bytes_of(tokens: usize) -> usize {
    (tokens as f64 * BYTES_PER_TOKEN).round() as usize
}

fn class(text: &mut String, seeded: &mut Seeded) {
    let noun = seeded.pick(&NOUNS);
    let fields = [seeded.pick(&FIELDS), seeded.pick(&FIELDS), seeded.pick(&FIELDS)];
    write(text, format_args!("class {}{}:\n    def __init__(self", capital(seeded.pick(&VERBS)), capital(noun)));
    for field in fields {
        write(text, format_args!(", {field}={}", seeded.pick(&VALUES)));
    }
    text.push_str("):\n");
    for field in fields {
        write(text, format_args!("        self.{field} = {field}\n"));
    }
    write(text, format_args!("        self.{noun}s = []\n\n"));
    for _ in 0..2 + seeded.below(3) {
        method(text, seeded, noun, fields);
    }
    text.push('\n');
}

fn method(text: &mut String, seeded: &mut Seeded, noun: &str, fields: [&str; 3]) {
    let (verb, other) = (seeded.pick(&VERBS), seeded.pick(&NOUNS));
    let field = fields[seeded.below(fields.len())];
    let value = seeded.pick(&VALUES);
    write(text, format_args!("    def {verb}_{other}(self, {other}, {field}={value}):\n"));
    match seeded.below(4) {
        0 => write(
            text,
            format_args!(
                "        for {noun} in self.{noun}s:\n            if {noun}.{field} == {other}.{field}:\n\
                 {:16}return {noun}\n        return None\n\n",
                ""
            ),
        ),
        1 => write(
            text,
            format_args!(
                "        if {other} is None:\n            raise ValueError(\"{verb}: no {other} was given\")\n        \
                 self.{noun}s.append({other})\n        self.{field} = {field}\n        return len(self.{noun}s)\n\n"
            ),
        ),
        2 => write(
            text,
            format_args!(
                "        {verb}ed = [{noun} for {noun} in self.{noun}s if {noun}.{field} > {}]\n        {verb}ed.sort(\
                 key=lambda {noun}: {noun}.{field})\n        return {verb}ed[:{}]\n\n",
                seeded.below(100),
                1 + seeded.below(20)
            ),
        ),
        _ => write(
            text,
            format_args!(
                "        data = {{\"{other}\": {other}, \"{field}\": self.{field}, \"at\": time.time()}}\n        with \
                 open(\"{noun}_{}.json\", \"w\") as file:\n            json.dump(data, file)\n        return data\n\n",
                seeded.below(1000)
            ),
        ),
    }
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    format!("{}{rest}", first.to_ascii_uppercase())
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes every text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_as_long_as_asked_and_the_same_for_a_seed() {
        let make = |seed| code(Seeded::new(seed, &[]), 4_000);
        assert!((4_000..6_000).contains(&make(1).len()), "{}", make(1).len());
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert!(make(3).is_ascii() && make(3).ends_with('\n'));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        for (text, bytes, cut) in [("abc", 2, "ab"), ("aé", 2, "a"), ("aé", 3, "aé"), ("a", 9, "a"), ("é", 1, "")] {
            assert_eq!(ends_at(text, bytes), cut, "{text} {bytes}");
        }
    }
}
