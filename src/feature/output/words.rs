//! Short answers: a title, a label, a sign of life.

use super::collected::Repaired;
use super::prose::bare;
use crate::domain::FinishReason;
use crate::feature::{Flow, Shape};

const TITLE_CHARS_MAX: usize = 80;

/// One line without quotes and label.
pub(super) fn title(context: &str, answer: &str) -> Repaired {
    let title = short_line(answer);
    if !title.is_empty() {
        return Repaired::clean(title);
    }
    let from_context = short_line(context);
    let title = if from_context.is_empty() { "New session".to_owned() } else { from_context };
    Repaired::noted(title, "the model wrote no title: took the beginning of the request")
}

fn short_line(text: &str) -> String {
    const MARKS: &[char] = &['*', ' ', '"', '\'', '`', '“', '”'];
    let line = bare(text).lines().map(str::trim).find(|line| line.chars().any(char::is_alphanumeric));
    let line = line.unwrap_or_default().trim_start_matches(['#', '-', '>', ' ']).trim_matches(['*', ' ']);
    let is_label = |label: &&&str| line.get(..label.len()).is_some_and(|start| start.eq_ignore_ascii_case(label));
    let label = ["title:", "session title:"].iter().find(is_label).map_or(0, |label| label.len());
    let line = line[label..].trim_matches(MARKS).trim_end_matches('.').trim_end();
    if line.chars().count() <= TITLE_CHARS_MAX {
        return line.to_owned();
    }
    let end = line.char_indices().nth(TITLE_CHARS_MAX - 1).map_or(line.len(), |(at, _)| at);
    let cut = line[..end].rsplit_once(' ').map_or(&line[..end], |(whole_words, _)| whole_words);
    format!("{}…", cut.trim_end())
}

/// What somebody who mentions the reviewer may want.
const INTENTS: &[&str] = &["review", "change", "question", OTHER];
/// The label with which least can go wrong.
const OTHER: &str = "other";

/// The one of our labels that the model named first, or the one the message looks like.
pub(super) fn intent(message: &str, answer: &str) -> Repaired {
    for word in answer.split(|char: char| !char.is_ascii_alphabetic()).map(str::to_ascii_lowercase) {
        if let Some(intent) = INTENTS.iter().find(|intent| **intent == word) {
            return Repaired::clean((*intent).to_owned());
        }
    }
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let intent = if has(&["review", "another look", "look again"]) {
        "review"
    } else if has(&["fix", "change", "rename", "add ", "remove"]) {
        "change"
    } else if message.contains('?') {
        "question"
    } else {
        OTHER
    };
    Repaired::noted(intent.to_owned(), "the model named none of the labels: judged by the words of the message")
}

/// The connection test: any text counts, so the first that comes is enough.
#[derive(Debug, Default)]
pub(super) struct Sign {
    is_given: bool,
}

impl Shape for Sign {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        let text = text.trim_matches(|char: char| char.is_whitespace() || char == '\0');
        if self.is_given || text.is_empty() {
            return Flow::More;
        }
        out.push_str(text);
        self.is_given = true;
        Flow::Enough
    }

    fn finish(&mut self, _reason: FinishReason, out: &mut String) {
        // A model that ends at once is there, and answers.
        if !self.is_given {
            out.push_str("OK");
            self.is_given = true;
        }
    }
}
