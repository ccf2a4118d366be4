//! Text that is said as it comes, except for what may turn out to be no part of it: a line that begins like a marker,
//! and white space at the end. One character is always held back, so that the last piece, which says why the answer
//! ended, is never empty.
//!
//! A marker ends an answer at the start of a line outside of fenced blocks only: an answer may quote a log, or explain
//! this very format.

use super::marker::{self, Marker};
use super::tools::{self, Tool};
use crate::feature::text::FenceTracker;

/// How long a line has to be before it is no longer looked at for markers.
const LINE_BYTES_MAX: usize = 96;

#[derive(Default)]
pub(super) struct Answer {
    /// Not said yet.
    held: String,
    /// Where the current line begins in `held`; 0 too when a part of it was said.
    line_start: usize,
    /// The beginning of the current line.
    line: String,
    is_line_long: bool,
    fence: FenceTracker,
    /// Emphasis that closes the marker before.
    emphasis: usize,
    /// Right behind a marker.
    skips_space: bool,
    /// Nobody announced this as an answer: an announcement in its middle is left out.
    is_plain: bool,
    has_spoken: bool,
    pub(super) is_over: bool,
}

impl Answer {
    /// An answer behind a marker that is closed by that much `emphasis`.
    pub(super) fn announced(emphasis: usize) -> Self {
        Self { emphasis, ..Self::default() }
    }

    /// Text that has to do as an answer.
    pub(super) fn plain() -> Self {
        Self { is_plain: true, ..Self::default() }
    }

    pub(super) fn push(&mut self, char: char, tools: &[&'static Tool]) {
        if self.is_over || self.closes_emphasis(char) || (self.is_blank() && char.is_whitespace()) {
            return;
        }
        if self.skips_space && matches!(char, ' ' | '\t') {
            return;
        }
        self.skips_space = false;
        self.held.push(char);
        if char == '\n' {
            self.end_line(tools);
            return;
        }
        self.is_line_long |= self.line.len() >= LINE_BYTES_MAX;
        if !self.is_line_long {
            self.line.push(char);
        }
        if matches!(char, ':' | '：') && !self.is_line_long && !self.fence.is_open() {
            self.meet_marker();
        }
    }

    /// What may be said by now.
    pub(super) fn take_ready(&mut self) -> Option<String> {
        let limit = if self.may_be_marker() { self.line_start } else { self.held.len() };
        let certain = self.held[..limit].trim_end();
        let last = certain.char_indices().next_back()?.0;
        (last > 0).then(|| {
            self.has_spoken = true;
            self.line_start = self.line_start.saturating_sub(last);
            self.held.drain(..last).collect()
        })
    }

    /// Everything that was held; empty only if nothing was said before either.
    pub(super) fn take_rest(&mut self, tools: &[&'static Tool]) -> String {
        self.drop_action_line(tools);
        self.held.truncate(self.held.trim_end().len());
        std::mem::take(&mut self.held)
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// No text yet.
    fn is_blank(&self) -> bool {
        !self.has_spoken && self.held.is_empty()
    }

    fn closes_emphasis(&mut self, char: char) -> bool {
        let closes = self.emphasis > 0 && matches!(char, '*' | '_');
        self.emphasis = if closes { self.emphasis - 1 } else { 0 };
        closes
    }

    fn may_be_marker(&self) -> bool {
        let is_looked_at = !self.fence.is_open() && !self.is_line_long;
        is_looked_at && (marker::may_begin(&self.line) || marker::action_line(&self.line).is_some())
    }

    fn meet_marker(&mut self) {
        let Some(found) = marker::ending(&self.line).filter(|found| found.is_first) else { return };
        let is_first_text = !self.has_spoken && self.line_start == 0;
        match found.marker {
            Marker::Observation => self.end_before_line(),
            Marker::FinalAnswer if is_first_text || self.is_plain => self.leave_out_marker(found.emphasis, false),
            Marker::FinalAnswer => self.end_before_line(),
            // What follows is a thought at best; an announcement may come after it.
            Marker::Thought if is_first_text => self.leave_out_marker(found.emphasis, true),
            Marker::Thought | Marker::Action | Marker::ActionInput | Marker::Input | Marker::Question => {}
        }
    }

    fn leave_out_marker(&mut self, emphasis: usize, is_plain: bool) {
        self.held.truncate(self.line_start);
        self.start_line();
        (self.emphasis, self.is_plain, self.skips_space) = (emphasis, is_plain, true);
    }

    fn end_line(&mut self, tools: &[&'static Tool]) {
        self.drop_action_line(tools);
        if !self.is_over {
            self.fence.line(&self.line);
            self.start_line();
        }
    }

    fn start_line(&mut self) {
        self.line_start = self.held.len();
        self.line.clear();
        self.is_line_long = false;
    }

    /// A tool cannot be called any more: the line that calls one is no part of the answer, nor is what follows.
    fn drop_action_line(&mut self, tools: &[&'static Tool]) {
        if !self.fence.is_open()
            && !self.is_line_long
            && marker::action_line(&self.line).is_some_and(|name| tools::meant(name, tools).is_some())
        {
            self.end_before_line();
        }
    }

    fn end_before_line(&mut self) {
        self.held.truncate(self.line_start);
        self.line.clear();
        self.is_over = true;
    }
}
