//! Code reviews. GitLab reads comments line by line: tags at the start and end of lines, attributes that name a file and
//! a line of the diff, suggestions whose lines are there. Everything that does not hold is repaired or left out here.

mod diff;
mod drafts;

use super::collected::Repaired;
use super::indent::Shift;
use crate::feature::text::{FenceTracker, without_tags};
use diff::{Diff, DiffFile, DiffLine};
use drafts::{Draft, Suggestion};

/// GitLab posts no more.
const COMMENTS_MAX: usize = 50;
/// Models miscount by a line or two.
const MISCOUNT_LINES_MAX: u32 = 2;
/// Tags that have a meaning in a review.
const TAGS: &[&str] = &["review", "comment", "from", "to", "summary"];
const FENCE: &str = "```";

/// A comment on a line that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    file: usize,
    line: usize,
    body: String,
    suggestions: Vec<Suggestion>,
    /// Further lines that the same remark was made on.
    also: Vec<u32>,
}

/// The review in the form GitLab reads, whatever was written.
pub(super) fn repair(diff: &str, written: &str) -> Repaired {
    let diff = Diff::parse(diff);
    let forms: [&dyn Fn() -> Vec<Draft>; 3] =
        [&|| drafts::tagged(written), &|| drafts::listed(written), &|| drafts::spoken(written, &diff)];
    let mut has_drafts = false;
    let mut placed = Vec::new();
    for form in forms {
        let drafts = form();
        has_drafts |= !drafts.is_empty();
        placed = drafts.into_iter().filter_map(|draft| place(draft, &diff)).collect();
        if !placed.is_empty() {
            break;
        }
    }
    let comments = merged(placed, &diff);
    let is_silent = written.replace("<review>", "").replace("</review>", "").trim().is_empty();
    let note = match (comments.len(), has_drafts) {
        (0, true) => Some("no comment of the model named a file and line of the diff"),
        (0, false) if diff.files.is_empty() => Some("the call had no diff to comment on"),
        (0, false) if is_silent => None,
        (0, false) => Some("the model wrote no comments"),
        (COMMENTS_MAX.., _) => Some("the model wrote more comments than GitLab posts: the first 50 are kept"),
        _ => None,
    };
    let mut text = String::from("<review>");
    for comment in comments.iter().take(COMMENTS_MAX) {
        write_comment(comment, &diff.files[comment.file], &mut text);
    }
    if !comments.is_empty() {
        text.push('\n');
    }
    text.push_str("</review>");
    Repaired { text, note }
}

/// Finds the line a draft is about, by its numbers or by the lines it wants to change.
fn place(draft: Draft, diff: &Diff) -> Option<Placed> {
    let file_index = diff.find(&draft.file)?;
    let file = &diff.files[file_index];
    if !file.is_nameable() {
        return None;
    }
    let numbered = file.locate(draft.old, draft.new);
    let fits = |at: usize| draft.suggestions.iter().any(|suggestion| fitted(file, at, suggestion).is_some());
    let quoted = || draft.suggestions.iter().find_map(|suggestion| only_place(file, suggestion));
    let is_exact = numbered.is_some_and(|at| draft.suggestions.is_empty() || fits(at));
    let (line, is_guess) = match (numbered, is_exact) {
        (Some(at), true) => (at, false),
        (numbered, _) => match (quoted(), numbered) {
            (Some(at), _) => (at, false),
            (None, Some(at)) => (at, false),
            (None, None) => (file.nearest(draft.new.or(draft.old)?, MISCOUNT_LINES_MAX)?, true),
        },
    };
    let mut suggestions: Vec<Suggestion> = Vec::new();
    for suggestion in draft.suggestions.iter().filter_map(|suggestion| fitted(file, line, suggestion)) {
        if !suggestions.contains(&suggestion) {
            suggestions.push(suggestion);
        }
    }
    let mut body = body(&draft.body);
    if is_guess {
        // Markdown's own suggestions change the line they stand on.
        body = body.replace("```suggestion", FENCE);
    }
    if body.is_empty() {
        if suggestions.is_empty() {
            return None;
        }
        body = "Suggested change:".to_owned();
    }
    Some(Placed { file: file_index, line, body, suggestions, also: Vec::new() })
}

/// The text of a comment: no tag in it can be taken for one of ours, and no code block stays open.
fn body(written: &str) -> String {
    let mut body = without_tags(written.trim(), TAGS).into_owned();
    let mut tracker = FenceTracker::default();
    body.lines().for_each(|line| {
        tracker.line(line);
    });
    if tracker.is_open() {
        body.push('\n');
        body.push_str(FENCE);
    }
    body
}

/// The suggestion as it can be applied from this line on: its lines are those of the file, letter by letter.
fn fitted(file: &DiffFile, at: usize, suggestion: &Suggestion) -> Option<Suggestion> {
    if suggestion.from.iter().all(|line| line.trim().is_empty()) {
        return None;
    }
    let actual = file.run(at, suggestion.from.len())?;
    let written: Vec<&str> = suggestion.from.iter().map(String::as_str).collect();
    let shift = Shift::between(&written, &actual)?;
    let to: Vec<String> = suggestion.to.iter().map(|line| shift.undone(line)).collect::<Option<_>>()?;
    let is_change = to.iter().map(String::as_str).ne(actual.iter().map(|line| line.trim_end()));
    // In GitLab a suggestion is a code block, and a comment a block of lines.
    let is_safe = |line: &str| !line.trim_start().starts_with(FENCE) && without_tags(line, TAGS) == line;
    let is_safe = to.iter().map(String::as_str).chain(actual.iter().copied()).all(is_safe);
    let is_blank = to.iter().all(|line| line.trim().is_empty());
    let from = actual.into_iter().map(str::to_owned).collect();
    (is_change && is_safe && !is_blank).then_some(Suggestion { from, to })
}

/// Where a suggestion's lines stand in the file, when they stand in one place only.
fn only_place(file: &DiffFile, suggestion: &Suggestion) -> Option<usize> {
    let mut places = (0..file.lines.len()).filter(|at| fitted(file, *at, suggestion).is_some());
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

/// Without repetitions: the same remark on the same line counts once, on several lines of a file it names them.
fn merged(placed: Vec<Placed>, diff: &Diff) -> Vec<Placed> {
    let mut comments: Vec<Placed> = Vec::new();
    let mut words: Vec<String> = Vec::new();
    for comment in placed {
        let said = comment.body.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let same = comments.iter_mut().zip(&words).find(|(other, words)| {
            other.file == comment.file
                && **words == said
                && (other.line == comment.line || comment.suggestions.is_empty())
        });
        match same.map(|(other, _)| other) {
            None => {
                comments.push(comment);
                words.push(said);
            }
            Some(other) if other.line == comment.line => {
                for suggestion in comment.suggestions {
                    if !other.suggestions.contains(&suggestion) {
                        other.suggestions.push(suggestion);
                    }
                }
            }
            Some(other) => {
                let line = &diff.files[comment.file].lines[comment.line];
                let number = line.new.or(line.old).unwrap_or_default();
                if !other.also.contains(&number) {
                    other.also.push(number);
                }
            }
        }
    }
    comments
}

fn write_comment(comment: &Placed, file: &DiffFile, text: &mut String) {
    let DiffLine { old, new, .. } = &file.lines[comment.line];
    let number = |number: &Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let (old, new) = (number(old), number(new));
    text.push_str(&format!(
        "\n<comment file=\"{}\" old_line=\"{old}\" new_line=\"{new}\">\n{}\n",
        file.path, comment.body
    ));
    if !comment.also.is_empty() {
        let lines: Vec<String> = comment.also.iter().map(u32::to_string).collect();
        text.push_str(&format!("\nAlso on lines: {}.\n", lines.join(", ")));
    }
    for suggestion in &comment.suggestions {
        let (from, to) = (suggestion.from.join("\n"), suggestion.to.join("\n"));
        text.push_str(&format!("<from>\n{from}\n</from>\n<to>\n{to}\n</to>\n"));
    }
    text.push_str("</comment>");
}
