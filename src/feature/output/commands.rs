//! Git commands for GitLab's command line client, which offers to run what stands in fenced blocks: each command alone
//! in a block of its own, nothing but `git` and `glab` in any, and no backticks elsewhere.

use super::collected::Repaired;
use super::prose::bare;
use crate::feature::text::{FenceLine, FenceTracker};

/// A piece of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Prose(String),
    Command(String),
}

pub(super) fn repair(written: &str) -> Repaired {
    // A fence around everything is kept: a single command is a whole answer.
    let text = if has_inner_fence(bare(written)) { bare(written) } else { written.trim() };
    let mut parts = parts(text);
    if !parts.iter().any(|part| matches!(part, Part::Command(_))) {
        parts = with_inline_commands(text);
    }
    let has_command = parts.iter().any(|part| matches!(part, Part::Command(_)));
    let text = written_parts(&parts);
    match (text.is_empty(), has_command) {
        (true, _) => Repaired::noted(text, "the model wrote nothing"),
        (false, false) => Repaired::noted(text, "the model named no command of git or glab"),
        (false, true) => Repaired::clean(text),
    }
}

fn has_inner_fence(text: &str) -> bool {
    text.contains("```")
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut tracker = FenceTracker::default();
    let mut continued = String::new();
    for line in text.lines() {
        let is_inside = match tracker.line(line) {
            FenceLine::Opens(_) | FenceLine::Closes => {
                take_line(&std::mem::take(&mut continued), true, &mut parts);
                continue;
            }
            FenceLine::Inside => true,
            FenceLine::Outside => false,
        };
        if let (Some(start), true) = (line.trim_end().strip_suffix('\\'), is_inside) {
            continued.push_str(start.trim());
            continued.push(' ');
            continue;
        }
        let whole = format!("{}{}", std::mem::take(&mut continued), line.trim());
        take_line(&whole, is_inside, &mut parts);
    }
    take_line(&continued, true, &mut parts);
    parts
}

fn take_line(line: &str, is_inside: bool, parts: &mut Vec<Part>) {
    let line = line.trim();
    let shown = line.strip_prefix("$ ").or_else(|| line.strip_prefix("> "));
    let text = match is_inside {
        true => shown.unwrap_or(line),
        // List marks stand before commands that should have been fenced.
        false => line.trim_start_matches(|char: char| char.is_ascii_digit() || "-*.) ".contains(char)),
    };
    let alone = text.strip_prefix('`').and_then(|inner| inner.strip_suffix('`')).filter(|inner| !inner.contains('`'));
    let command = alone.unwrap_or(text).trim();
    let command = command.strip_prefix("$ ").unwrap_or(command);
    if !is_inside && !(is_git(command) && (alone.is_some() || text.starts_with("$ ") || looks_like_command(command))) {
        return parts.push(Part::Prose(line.replace('`', "")));
    }
    for step in steps(command) {
        let part = match is_git(step) && !needs_shell(step) {
            true => Part::Command(step.to_owned()),
            false => Part::Prose(step.trim_start_matches('#').trim().replace('`', "")),
        };
        parts.push(part);
    }
}

fn is_git(text: &str) -> bool {
    text.starts_with("git ") || text.starts_with("glab ")
}

/// Sentences about git begin with its name too.
fn looks_like_command(text: &str) -> bool {
    let words = text.split_whitespace().count();
    let has_argument = text.split_whitespace().skip(2).any(|word| {
        word.starts_with(['-', '"', '\'', '<']) || word.contains(['/', '~', '^', '=']) && !word.ends_with('.')
    });
    !text.ends_with(['.', ':', '!', '?']) && (words <= 3 || has_argument || text.contains(" && "))
}

/// Steps of a line joined by `&&` or `;` outside of quotes.
fn steps(line: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut start = 0;
    for (at, joint) in unquoted(line) {
        if at < start {
            continue;
        }
        let length = match joint {
            ';' => 1,
            '&' if line[at..].starts_with("&&") => 2,
            _ => continue,
        };
        steps.push(&line[start..at]);
        start = at + length;
    }
    steps.push(&line[start..]);
    steps.into_iter().map(str::trim).filter(|step| !step.is_empty()).collect()
}

/// Marks that only a shell understands; `<name>` is a place to fill in.
fn needs_shell(command: &str) -> bool {
    command.contains('`')
        || command.contains("$(")
        || unquoted(command).any(|(_, char)| matches!(char, '|' | '&'))
        || command.contains(" > ")
        || command.contains(">>")
}

/// The characters of a line that stand outside of quotes.
fn unquoted(line: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote: Option<char> = None;
    line.char_indices().filter(move |(_, char)| match (quote, char) {
        (Some(open), char) => {
            if open == *char {
                quote = None;
            }
            false
        }
        (None, '"' | '\'') => {
            quote = Some(*char);
            false
        }
        (None, _) => true,
    })
}

/// Commands in the middle of sentences, when there are no others: each behind its sentence.
fn with_inline_commands(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    // A fence of its own line holds no code; three backticks around a command do.
    let is_fence = |line: &str| {
        line.trim_start().starts_with("```")
            && !line.trim().trim_matches('`').contains('`')
            && !line.trim().ends_with("```")
    };
    for line in text.lines().filter(|line| !is_fence(line)) {
        parts.push(Part::Prose(line.replace('`', "")));
        let inline = line.split('`').skip(1).step_by(2).map(str::trim);
        parts.extend(
            inline.filter(|code| is_git(code) && !needs_shell(code)).map(|code| Part::Command(code.to_owned())),
        );
    }
    parts
}

fn written_parts(parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Prose(line) => text.push_str(line.trim_end()),
            Part::Command(command) => text.push_str(&format!("```\n{command}\n```")),
        }
        text.push('\n');
    }
    text.trim().to_owned()
}
