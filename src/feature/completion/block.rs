//! The block of code that an answer belongs to, told by indentation and by a few words, and the code that follows it.

use super::cursor::{Cursor, Extent, State};
use super::scan::{Inside, first_word, indent_of};
use super::syntax::Blocks;

/// Words that begin a block closed by `end`.
const OPENING_WORDS: &[&str] = &[
    "begin",
    "case",
    "class",
    "def",
    "defmodule",
    "defp",
    "for",
    "function",
    "if",
    "module",
    "repeat",
    "struct",
    "unless",
    "until",
    "while",
];
/// Words that go on with a block closed by `end`, or close it.
const CONTINUING_WORDS: &[&str] =
    &["after", "catch", "else", "elseif", "elsif", "end", "ensure", "in", "rescue", "until", "when"];

/// The block that an answer is a part of.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub indent: usize,
    /// The answer's first line is the header of a block: the answer ends with that block.
    pub is_header: bool,
}

impl Block {
    /// The block in which the cursor stands, as far as its line shows.
    pub fn at(cursor: &Cursor) -> Self {
        let is_blank = cursor.before.trim().is_empty();
        Self { indent: if is_blank { indent_of(&cursor.before) } else { 0 }, is_header: false }
    }

    /// What the answer's first line says: `before` and `after` are the states around it. A decorator says nothing.
    pub fn begun_by(line: &str, before: &State, after: &State) -> Option<Self> {
        if line.trim_start().starts_with('@') {
            return None;
        }
        let opens = after.scanner.open.len() > before.scanner.open.len();
        let is_header = match after.scanner.blocks() {
            Blocks::Python => after.python.as_ref().is_some_and(|python| python.is_body_due()),
            Blocks::Brackets => opens,
            Blocks::Words => opens || opens_words(line),
            Blocks::Tags => false,
        };
        Some(Self { indent: indent_of(line), is_header })
    }

    /// Whether a line lies below the block.
    pub fn excludes(self, line: &str, state: &State, cursor: &Cursor) -> bool {
        let blocks = cursor.syntax.blocks;
        let Some(first) = line.trim_start().chars().next() else { return false };
        let is_code = match blocks {
            Blocks::Python => state.is_between_statements(),
            // Lines for the preprocessor stand where they like.
            Blocks::Brackets | Blocks::Words | Blocks::Tags => state.scanner.inside == Inside::Code && first != '#',
        };
        if !is_code {
            return false;
        }
        let indent = indent_of(line);
        if self.is_header && indent <= self.indent {
            let is_dedent = indent < self.indent && blocks == Blocks::Python;
            return is_dedent || !goes_on(line, first, blocks);
        }
        let is_closing =
            matches!(first, ')' | ']' | '}') || ends_block(line, blocks) || is_awaited(line, state, cursor);
        indent < self.indent && !is_closing
    }
}

/// Whether a line is the first of the code that follows the cursor.
pub fn is_next(line: &str, cursor: &Cursor) -> bool {
    /// So much of a line is no coincidence at whatever indentation.
    const ALIKE_BYTES_MIN: usize = 20;
    let (next, next_indent) = match cursor.extent {
        Extent::Lines if cursor.behind.trim().is_empty() => {
            let Some(next) = cursor.next_line() else { return false };
            (next, indent_of(next))
        }
        Extent::LineBefore => (cursor.behind.as_str(), indent_of(&cursor.before)),
        Extent::Line | Extent::Lines => return false,
    };
    // A bracket alone closes something, and the brackets say what.
    let has_words = next.chars().filter(|char| char.is_alphanumeric()).count() > 1;
    let is_placed = next_indent == indent_of(line) || next.trim().len() >= ALIKE_BYTES_MIN;
    has_words && is_placed && next.trim() == line.trim()
}

/// Whether a line closes a block that a word has begun.
pub fn ends_block(line: &str, blocks: Blocks) -> bool {
    blocks == Blocks::Words && first_word(line) == "end"
}

/// Whether a line may continue a block at the indentation of its header.
fn goes_on(line: &str, first: char, blocks: Blocks) -> bool {
    let word = first_word(line);
    match blocks {
        Blocks::Python => matches!(word, "else" | "elif" | "except" | "finally" | "case"),
        Blocks::Brackets => {
            matches!(first, '{' | '}' | ')' | ']' | '|' | '.') || matches!(word, "else" | "catch" | "finally" | "while")
        }
        Blocks::Words => matches!(first, '}' | ')' | ']') || CONTINUING_WORDS.contains(&word),
        Blocks::Tags => true,
    }
}

/// Whether a line handles the errors of a `try` around the cursor that nothing below handles.
fn is_awaited(line: &str, state: &State, cursor: &Cursor) -> bool {
    let handles = |line: &str| matches!(first_word(line), "except" | "finally");
    let is_due = state.python.as_ref().is_some_and(|python| python.awaits_handler(indent_of(line)));
    is_due && handles(line) && !cursor.next_line().is_some_and(handles)
}

/// Whether a line opens a block that `end` closes.
fn opens_words(line: &str) -> bool {
    let line = line.trim();
    let ends_in_opening =
        line.ends_with(" do") || line.ends_with(" then") || line.ends_with('|') && line.contains(" do |");
    OPENING_WORDS.contains(&first_word(line)) || ends_in_opening || line.starts_with("local function")
}
