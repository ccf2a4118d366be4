//! Markdown that is shown as it comes: without reasoning, and without a fence that makes code of the whole answer.

use super::collected::Note;
use crate::domain::FinishReason;
use crate::feature::text::Thinking;
use crate::feature::{Flow, Shape};

const FENCE: &str = "```";

#[derive(Debug)]
pub(super) struct Markdown {
    thinking: Thinking,
    state: State,
    held: String,
    /// Lines that begin with a fence, inside the outer one.
    inner_fences: usize,
    line_start: String,
    is_blank: bool,
    note: Note,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first line is not there yet.
    #[default]
    Beginning,
    Plain,
    /// The answer stands in a fence of its own.
    Fenced,
}

impl Markdown {
    pub(super) fn new(note: Note) -> Self {
        Self {
            thinking: Thinking::default(),
            state: State::default(),
            held: String::new(),
            inner_fences: 0,
            line_start: String::new(),
            is_blank: true,
            note,
        }
    }

    fn take(&mut self, text: &str, out: &mut String) {
        match self.state {
            State::Plain => out.push_str(text),
            State::Fenced => self.take_fenced(text, out),
            State::Beginning => {
                self.held.push_str(text);
                self.begin(out);
            }
        }
    }

    fn begin(&mut self, out: &mut String) {
        let start = self.held.trim_start_matches(['\n', '\r']);
        let first = start.trim_start();
        let is_open = first.starts_with(FENCE) && !first.contains('\n');
        if first.is_empty() || FENCE.starts_with(first) || is_open {
            return;
        }
        let (line, rest) = first.split_once('\n').unwrap_or((first, ""));
        let info = line.strip_prefix(FENCE).map(str::trim).unwrap_or_default();
        if info.eq_ignore_ascii_case("markdown") || info.eq_ignore_ascii_case("md") {
            let rest = rest.to_owned();
            self.held.clear();
            self.state = State::Fenced;
            self.take_fenced(&rest, out);
        } else {
            out.push_str(start);
            self.held.clear();
            self.state = State::Plain;
        }
    }

    /// Holds back what may be the fence at the end.
    fn take_fenced(&mut self, text: &str, out: &mut String) {
        for char in text.chars() {
            if char == '\n' {
                self.line_start.clear();
            } else if self.line_start.len() < FENCE.len() && !(self.line_start.is_empty() && char == ' ') {
                self.line_start.push(char);
                self.inner_fences += usize::from(self.line_start == FENCE);
            }
        }
        self.held.push_str(text);
        let kept = self.held.trim_end_matches(|char: char| char == '`' || char.is_whitespace()).len();
        out.extend(self.held.drain(..kept));
    }

    fn filtered(&mut self, text: &str, out: &mut String) {
        self.is_blank &= text.trim().is_empty();
        match text.contains('\0') {
            true => self.take(&text.replace('\0', ""), out),
            false => self.take(text, out),
        }
    }
}

impl Shape for Markdown {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        let mut answer = String::new();
        self.thinking.push(text, &mut answer);
        self.filtered(&answer, out);
        Flow::More
    }

    fn finish(&mut self, _reason: FinishReason, out: &mut String) {
        let mut answer = String::new();
        self.thinking.finish(&mut answer);
        self.filtered(&answer, out);
        let held = std::mem::take(&mut self.held);
        match self.state {
            // Blocks inside come in pairs of fences: one more closes the outer block.
            State::Fenced if self.inner_fences % 2 == 1 => {
                out.push_str(held.trim_end().strip_suffix(FENCE).unwrap_or(&held));
            }
            State::Beginning => out.push_str(held.trim_start_matches(['\n', '\r'])),
            State::Plain | State::Fenced => out.push_str(&held),
        }
        if self.is_blank {
            self.note.set("the model wrote nothing, or only reasoning");
        }
    }
}
