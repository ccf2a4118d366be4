//! Where a completion ends: at the line's end, where it repeats what follows the cursor, below the cursor's block, and
//! never with half a statement if a whole one came before.
//!
//! Works line by line, so that a stream and a whole answer come out the same however the pieces are cut.

use super::block::{Block, ends_block, is_next};
use super::cleaner::Cleaner;
use super::cursor::{Cursor, Extent, State};
use super::python::Misplaced;
use super::repeats::{Circle, Repeats, is_stuck};
use super::scan::{first_word, indent_of};
use super::syntax::{Blocks, syntax_of};
use crate::domain::FinishReason;
use crate::feature::{Flow, Shape, shape_whole};
use std::borrow::Cow;

/// No line of code is longer; what is, was not meant as an answer.
const LINE_BYTES_MAX: usize = 4096;

/// Shapes the answer of a model that continues the text at the cursor.
pub struct CompletionShape {
    cleaner: Cleaner,
    cursor: Cursor,
    /// What is open where the current line begins.
    state: State,
    repeats: Repeats,
    /// Everything the model said, cleaned.
    text: String,
    line_start: usize,
    said: usize,
    is_line_fresh: bool,
    /// A control token said that the model has ended, whatever it went on to say.
    has_model_ended: bool,
    block: Option<Block>,
    ends: Ends,
}

/// Places where the answer may end, as byte offsets behind its last byte.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    /// The answer and the file around it fit together.
    whole: Option<usize>,
    /// The answer leaves nothing open that it has opened itself.
    fair: Option<usize>,
    /// The first line that is not blank.
    first_line: Option<usize>,
}

/// What is known of the answer's end.
#[derive(Debug, Default)]
struct Ends {
    places: Places,
    /// Those before lines that seem to repeat the prefix.
    places_before_repeats: Places,
    /// Nothing from here on is wanted.
    cut: Option<usize>,
    /// The line that ended last had a line break.
    has_break: bool,
}

/// What to take into account besides the code around the cursor.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShapeOptions {
    pub unescapes_underscores: bool,
}

/// Shapes an answer that is there already. `language` is an id of `feature::language`.
pub fn finish_whole(language: &str, prefix: &str, suffix: &str, text: &str, reason: FinishReason) -> String {
    let mut shape = CompletionShape::new(language, prefix, suffix, ShapeOptions::default());
    shape_whole(&mut shape, text, reason)
}

impl CompletionShape {
    pub fn new(language: &str, prefix: &str, suffix: &str, options: ShapeOptions) -> Self {
        let syntax = syntax_of(language);
        let cursor = Cursor::new(syntax, prefix, suffix);
        Self {
            cleaner: Cleaner::new(options.unescapes_underscores, syntax.blocks == Blocks::Tags),
            state: cursor.state.clone(),
            repeats: Repeats::new(prefix),
            text: String::new(),
            line_start: 0,
            said: 0,
            is_line_fresh: true,
            has_model_ended: false,
            block: None,
            ends: Ends::default(),
            cursor,
        }
    }

    /// Whether code follows on the cursor's line, so that the answer is no longer than that line.
    pub fn is_one_line(&self) -> bool {
        self.cursor.extent == Extent::Line
    }

    fn is_ended(&self) -> bool {
        self.ends.cut.is_some()
    }

    /// Deals with every line that has ended.
    fn read_lines(&mut self) {
        while !self.is_ended() {
            let Some(length) = self.text[self.line_start..].find('\n') else { break };
            let end = self.line_start + length;
            self.ends.has_break = true;
            self.line_ends(end);
            if !self.is_ended() {
                self.line_start = end + 1;
                self.is_line_fresh = true;
            }
        }
        if self.is_ended() {
            return;
        }
        let line_bytes = self.text.len() - self.line_start;
        if line_bytes > LINE_BYTES_MAX || is_stuck(&self.text[self.line_start..]) {
            self.ends.cut = Some(self.line_start);
        } else if self.is_line_fresh && self.is_word_whole() {
            // Known from the first word: no need to wait for the rest of the line.
            self.is_line_fresh = false;
            let line = self.line(self.text.len());
            if self.is_outside(&line) {
                self.ends.cut = Some(self.line_start);
            }
        }
    }

    /// Whether more text cannot change the first word of the current line.
    fn is_word_whole(&self) -> bool {
        let line = self.text[self.line_start..].trim_start();
        let word = first_word(line);
        !line.is_empty() && word.len() < line.len()
    }

    /// The current line up to `end`, with what stands before the cursor if it is the cursor's.
    fn line(&self, end: usize) -> Cow<'_, str> {
        let line = &self.text[self.line_start..end];
        match self.line_start {
            0 if !self.cursor.before.is_empty() => Cow::Owned(format!("{}{line}", self.cursor.before)),
            _ => Cow::Borrowed(line),
        }
    }

    /// Bytes of the current line that were there already.
    fn given(&self) -> usize {
        if self.line_start == 0 { self.cursor.before.len() } else { 0 }
    }

    /// Looks at the line that ends before byte `end` of the text.
    fn line_ends(&mut self, end: usize) {
        let line = self.line(end).into_owned();
        let is_blank = line.trim().is_empty();
        let is_unwanted =
            || self.is_outside(&line) || self.is_what_follows(&line) || is_stuck(&self.text[self.line_start..end]);
        if !is_blank && is_unwanted() {
            self.ends.cut = Some(self.line_start);
            return;
        }
        if self.is_one_line() {
            self.only_line_ends(&line, end);
            return;
        }
        if let Some(end) = self.end_before_what_is_behind(&line, end) {
            self.ends = Ends { cut: Some(end), ..Ends::default() };
            self.ends.places.whole = Some(end);
            return;
        }
        let before = self.state.clone();
        let (facts, placed) = self.state.line(&line, self.given(), self.cursor.hold);
        if let Some(offset) = facts.stopped_at {
            self.stop_inside(before, &line, offset);
            return;
        }
        if is_blank {
            return;
        }
        if placed != Err(Misplaced::Here) {
            self.ends.places.first_line.get_or_insert(end);
        }
        // What stands behind the cursor may finish the statement of an answer that ends without a line break.
        let is_joined = self.cursor.extent == Extent::LineBefore && !self.ends.has_break;
        if placed == Err(Misplaced::Here) || placed.is_err() && !is_joined {
            self.ends.cut = Some(self.line_start);
            return;
        }
        if self.block.is_none() {
            self.block = Block::begun_by(&line, &before, &self.state);
        }
        let places = self.ends.places;
        let circle = self.repeats.line(&line);
        if self.repeats.begins() {
            self.ends.places_before_repeats = places;
        }
        match circle {
            Some(Circle::SameLine) => self.ends.cut = Some(self.line_start),
            Some(Circle::Prefix) => {
                self.ends.cut = Some(self.line_start);
                self.ends.places = self.ends.places_before_repeats;
            }
            None => self.look_for_end(before, &line, end),
        }
    }

    /// Where a line ends that was to be put before the code behind the cursor and has that code at its end already.
    fn end_before_what_is_behind(&self, line: &str, end: usize) -> Option<usize> {
        let behind = self.cursor.behind.trim_end();
        if self.cursor.extent != Extent::LineBefore || !line.trim_end().ends_with(behind) {
            return None;
        }
        let line = &self.text[self.line_start..end];
        line.rfind(behind).map(|offset| self.line_start + offset)
    }

    /// A bracket or quote came that belongs to what follows the cursor: the answer ends before it.
    fn stop_inside(&mut self, before: State, line: &str, offset: usize) {
        let end = self.line_start + offset - self.given();
        self.ends.cut = Some(end);
        let is_blank = self.text[self.line_start..end].trim().is_empty();
        if !(is_blank && self.cursor.behind.trim().is_empty()) {
            self.ends.has_break = false;
            self.ends.places.first_line.get_or_insert(end);
            self.look_for_end(before, &line[..offset], end);
        }
    }

    /// Notes whether the answer may end with this line.
    fn look_for_end(&mut self, before: State, line: &str, end: usize) {
        let is_line_before = self.cursor.extent == Extent::LineBefore;
        let is_whole = if is_line_before && self.ends.has_break {
            self.cursor.can_follow(self.state.clone(), &format!("{}{}", self.cursor.before, self.cursor.behind), 0)
        } else {
            self.cursor.can_follow(before, &format!("{line}{}", self.cursor.behind), self.given())
        };
        let is_body_due = self.state.python.as_ref().is_some_and(|python| python.is_body_due());
        let is_fair = self.state.scanner.opened() == 0 && !is_body_due;
        if is_whole {
            self.ends.places.whole = Some(end);
            if is_line_before {
                self.ends.cut = Some(end);
            }
        }
        if is_fair {
            self.ends.places.fair = Some(end);
        }
    }

    /// The only line of an answer that may have one.
    fn only_line_ends(&mut self, line: &str, end: usize) {
        let facts = self.state.line(line, self.given(), self.cursor.hold).0;
        let end = facts.stopped_at.map_or(end, |offset| self.line_start + offset - self.given());
        let end = without_overlap(&self.text[..end], &self.cursor.behind);
        self.ends.cut = Some(end);
        self.ends.places.whole = Some(end);
    }

    /// Whether the current line is the cursor's, with something before the cursor.
    fn is_cursors(&self) -> bool {
        self.line_start == 0 && !self.cursor.before.trim().is_empty()
    }

    /// Whether this line lies below the block that the answer belongs to.
    fn is_outside(&self, line: &str) -> bool {
        let block = self.block.unwrap_or_else(|| Block::at(&self.cursor));
        !self.is_cursors() && block.excludes(line, &self.state, &self.cursor)
    }

    /// Whether the line is where the code below the cursor begins.
    fn is_what_follows(&self, line: &str) -> bool {
        let closes_ours = ends_block(line, self.cursor.syntax.blocks)
            && self.block.is_some_and(|block| block.is_header && block.indent == indent_of(line));
        // Its header stands on a line of the answer: the end is its own, not the one that follows.
        let closes_ours = closes_ours && self.cursor.before.trim().is_empty();
        !self.is_cursors() && !closes_ours && is_next(line, &self.cursor)
    }

    /// Says what has become certain.
    fn say(&mut self, end: usize, out: &mut String) {
        if end <= self.said {
            return;
        }
        let text = &self.text[self.said..end];
        match self.cursor.has_carriage_returns {
            true => out.push_str(&text.replace('\n', "\r\n")),
            false => out.push_str(text),
        }
        self.said = end;
    }

    /// The end of what may be said now: lines that repeat the prefix wait until it is clear whether they go on to.
    fn certain_end(&self) -> usize {
        if self.cursor.extent != Extent::Lines {
            return 0;
        }
        let is_in_doubt = self.repeats.is_in_doubt();
        let places = if is_in_doubt { self.ends.places_before_repeats } else { self.ends.places };
        places.whole.unwrap_or(0)
    }
}

impl Places {
    /// Half a statement is only worth saying where there was half a statement before.
    fn best(&self, is_file_whole: bool) -> usize {
        let half = self.fair.or(self.first_line).filter(|_| !is_file_whole);
        self.whole.or(half).unwrap_or(0)
    }
}

impl Shape for CompletionShape {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        if !self.is_ended() {
            self.has_model_ended |= self.cleaner.push(text, &mut self.text);
            self.read_lines();
            self.say(self.certain_end(), out);
        }
        if self.is_ended() || self.has_model_ended { Flow::Enough } else { Flow::More }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut String) {
        if !self.is_ended() {
            let mut rest = String::new();
            self.cleaner.finish(&mut rest);
            self.text.push_str(&rest);
            self.read_lines();
        }
        if !self.is_ended() && self.line_start < self.text.len() {
            let has_lines = self.ends.places.whole.is_some() || self.ends.places.fair.is_some();
            let is_half = reason == FinishReason::Length && !self.has_model_ended && !self.is_one_line();
            if !(is_half && has_lines) {
                self.ends.has_break = false;
                self.line_ends(self.text.len());
            }
        }
        let end = self.ends.places.best(self.cursor.is_whole);
        if self.text[..end].trim().is_empty() {
            return;
        }
        self.say(end, out);
        if self.cursor.extent == Extent::LineBefore && self.ends.has_break {
            out.push_str(if self.cursor.has_carriage_returns { "\r\n" } else { "\n" });
            out.push_str(&self.cursor.before);
        }
    }
}

/// Where `text` ends if its end is what follows the cursor already.
fn without_overlap(text: &str, behind: &str) -> usize {
    const OVERLAP_BYTES_MIN: usize = 3;
    let behind = behind.trim_end();
    let trimmed = text.trim_end();
    for (at, _) in trimmed.char_indices() {
        let overlap = &trimmed[at..];
        let is_all = overlap.trim_start() == behind.trim_start();
        if is_all || overlap.len() >= OVERLAP_BYTES_MIN && behind.starts_with(overlap) {
            return at;
        }
    }
    text.len()
}
