//! Commit messages, used verbatim: a subject, then the body.

use super::collected::Repaired;
use super::prose::bare;
use crate::feature::text::fenced_blocks;

/// A message without announcement, fence, quotes, or words behind it.
pub(super) fn repair(diff: &str, answer: &str) -> Repaired {
    let message = message(answer);
    if message.is_empty() {
        let text = from_files(diff);
        return Repaired::noted(text, "the model wrote no commit message: made one from the names of files");
    }
    Repaired::clean(message)
}

fn message(answer: &str) -> String {
    let mut text = bare(answer);
    // Talk around one block: the block is the message.
    if let [only] = fenced_blocks(text).as_slice()
        && (only.start == 0 || text[..only.start].trim_end().ends_with(':'))
        && !only.body.trim().is_empty()
    {
        text = only.body.trim();
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !is_fence(line)).collect();
    let says_nothing = |line: &&str| !subject(line).contains(char::is_alphanumeric) || is_fence(subject(line));
    let start = lines.iter().take_while(|line| says_nothing(line)).count();
    let lines = &lines[start..];
    let Some(first) = lines.first() else { return String::new() };
    let subject = subject(first);
    let body = lines[1..].join("\n");
    let body = without_closing_words(body.trim_end());
    let body = if is_quote_opened(first) { body.trim_end_matches(['"', '`']) } else { body };
    match body.trim().is_empty() {
        true => subject.to_owned(),
        // A list directly under the subject would become a part of it.
        false if body.starts_with(['-', '*']) => format!("{subject}\n\n{body}"),
        false => format!("{subject}\n{body}"),
    }
}

fn is_fence(line: &str) -> bool {
    line.trim_start().starts_with("```")
}

/// The first line without marks and labels that are not its own.
fn subject(line: &str) -> &str {
    const LABELS: &[&str] = &["commit message:", "subject:", "commit:", "title:"];
    let mut text = line.trim().trim_start_matches('#').trim();
    text = text.strip_prefix("**").and_then(|inner| inner.strip_suffix("**")).unwrap_or(text);
    let bold = text.trim_start_matches('*');
    if let Some(label) = LABELS.iter().find(|label| starts_with_ignoring_case(bold, label)) {
        text = bold[label.len()..].trim_matches(['*', ' ']);
    }
    let quotes = [('"', '"'), ('`', '`'), ('\'', '\''), ('“', '”')];
    let inside = |(open, close): &(char, char)| text.strip_prefix(*open)?.strip_suffix(*close);
    let text = quotes.iter().find_map(inside).unwrap_or(text).trim();
    if is_quote_opened(text) { text[1..].trim() } else { text }
}

/// A quote that is opened in the first line and not closed there stands around the whole message.
fn is_quote_opened(line: &str) -> bool {
    ['"', '`'].iter().any(|quote| line.trim().starts_with(*quote) && line.matches(*quote).count() == 1)
}

fn starts_with_ignoring_case(text: &str, beginning: &str) -> bool {
    text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

/// The body without a last paragraph that speaks about the message.
fn without_closing_words(body: &str) -> &str {
    const CLOSINGS: &[&str] =
        &["this commit message", "this message", "let me know", "feel free", "i hope", "the commit message"];
    let is_closing = |text: &str| CLOSINGS.iter().any(|closing| starts_with_ignoring_case(text.trim(), closing));
    match body.rsplit_once("\n\n") {
        Some((kept, last)) if is_closing(last) => kept.trim_end(),
        None if is_closing(body) => "",
        _ => body,
    }
}

/// One file of a diff, and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    verb: &'static str,
    path: String,
}

fn changes(diff: &str) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut is_in_hunk = false;
    for line in diff.lines() {
        if let Some(paths) = line.strip_prefix("diff --git ") {
            is_in_hunk = false;
            if let Some((_, path)) = paths.rsplit_once(" b/") {
                changes.push(Change { verb: "Update", path: path.trim_matches('"').to_owned() });
            }
        } else if line.starts_with("--- a/") || line.starts_with("--- /dev/null") {
            is_in_hunk = false;
        } else if line.starts_with("@@") {
            is_in_hunk = true;
        } else if is_in_hunk {
            continue;
        } else if let Some(path) = line.strip_prefix("+++ b/") {
            let path = path.split('\t').next().unwrap_or_default();
            if changes.last().is_none_or(|change| change.path != path) {
                changes.push(Change { verb: "Update", path: path.to_owned() });
            }
        } else if let Some(change) = changes.last_mut() {
            match line {
                _ if line.starts_with("new file mode") => change.verb = "Add",
                _ if line.starts_with("deleted file mode") => change.verb = "Remove",
                _ if line.starts_with("rename from") => change.verb = "Rename",
                _ => {}
            }
        }
    }
    changes
}

/// For example `Update a.rb`.
fn from_files(diff: &str) -> String {
    let changes = changes(diff);
    let verb = match changes.first() {
        None => return "Update code".to_owned(),
        Some(first) if changes.iter().all(|change| change.verb == first.verb) => first.verb,
        Some(_) => "Change",
    };
    let name = |change: &Change| change.path.rsplit('/').next().unwrap_or_default().to_owned();
    match changes.as_slice() {
        [only] => format!("{verb} {}", name(only)),
        [one, other] => format!("{verb} {} and {}", name(one), name(other)),
        more => format!("{verb} {} files", more.len()),
    }
}

/// A list of the files a diff changes.
pub(super) fn summary_of_files(diff: &str) -> Option<String> {
    const FILES_MAX: usize = 20;
    let changes = changes(diff);
    let lines: Vec<String> =
        changes.iter().take(FILES_MAX).map(|change| format!("- {} `{}`", change.verb, change.path)).collect();
    (!lines.is_empty()).then(|| format!("Changes in this merge request:\n\n{}", lines.join("\n")))
}
