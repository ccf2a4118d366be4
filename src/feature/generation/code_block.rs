//! Takes the code out of what a conversational model wraps it in: thoughts, fences, tags, a sentence before, advice after.
//! Line by line, so that streams and whole answers come out the same.

use crate::domain::FinishReason;
use crate::feature::text::Thinking;
use crate::feature::{Flow, Shape};

/// No line of code is longer; a model that writes one has lost its way.
const LINE_BYTES_MAX: usize = 16 * 1024;
const FENCE: &str = "```";
const TAG_OPEN: &str = "<new_code>";
const TAG_CLOSE: &str = "</new_code>";

/// Passes on the lines that are code.
#[derive(Debug, Default)]
pub struct CodeBlock {
    thinking: Thinking,
    /// The line that has not ended yet.
    line: String,
    /// A line that may turn out to introduce a fence, and blank lines before the first that is not.
    held: String,
    has_code: bool,
    /// A fence was opened, by the model or for it.
    in_fence: bool,
    /// Fences are a part of the text itself, as in Markdown.
    keeps_fences: bool,
    is_closed: bool,
}

impl CodeBlock {
    /// For an answer that was begun with a fence or a tag.
    pub fn begun() -> Self {
        Self { in_fence: true, ..Self::default() }
    }

    /// For answers in a language that has fences itself.
    pub fn of_markdown() -> Self {
        Self { keeps_fences: true, ..Self::default() }
    }

    /// Whether the code has come to its end, whatever the model went on to say.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Deals with every line that has ended.
    fn read(&mut self, text: &str, out: &mut String) -> Flow {
        let mut rest = text;
        while !self.is_closed {
            let Some((line, behind)) = rest.split_once('\n') else {
                self.line.push_str(rest);
                self.is_closed = self.line.len() > LINE_BYTES_MAX;
                break;
            };
            self.line.push_str(line);
            let line = std::mem::take(&mut self.line);
            if line.len() > LINE_BYTES_MAX {
                self.is_closed = true;
            } else {
                self.line_ends(&line, "\n", out);
            }
            rest = behind;
        }
        if self.is_closed { Flow::Enough } else { Flow::More }
    }

    fn line_ends(&mut self, line: &str, line_break: &str, out: &mut String) {
        let line = match line.rfind(TAG_OPEN) {
            Some(_) if self.has_code && line.trim() != TAG_OPEN => line,
            // What comes before the tag introduces it.
            Some(at) => {
                self.held.clear();
                let rest = &line[at + TAG_OPEN.len()..];
                if rest.trim().is_empty() {
                    return;
                }
                rest
            }
            None => line,
        };
        let (line, is_last) = match line.find(TAG_CLOSE) {
            Some(at) => (&line[..at], true),
            None => (line, false),
        };
        if is_last {
            self.is_closed = true;
            if line.trim().is_empty() {
                return;
            }
        }
        if line.trim_start().starts_with(FENCE) && !self.keeps_fences {
            self.fence(line);
            return;
        }
        let line_break = if is_last { "" } else { line_break };
        self.say(line, line_break, out);
    }

    fn fence(&mut self, line: &str) {
        // A fence with a language's name opens; one without closes if one is open.
        let is_bare = line.trim().trim_start_matches('`').is_empty();
        if self.has_code && (self.in_fence || is_bare) {
            self.is_closed = true;
            return;
        }
        // What was held introduced it.
        self.held.clear();
        self.in_fence = true;
    }

    fn say(&mut self, line: &str, line_break: &str, out: &mut String) {
        let trimmed = line.trim_end();
        // A closing fence may stand behind code.
        let line = match trimmed.ends_with(FENCE) && !self.keeps_fences {
            true => {
                self.is_closed = true;
                trimmed.trim_end_matches('`')
            }
            false => line,
        };
        let is_blank = line.trim().is_empty();
        let may_introduce = !self.has_code && !self.in_fence && introduces(line);
        if is_blank || may_introduce {
            self.held.push_str(line);
            self.held.push_str(line_break);
            return;
        }
        self.has_code = true;
        out.push_str(&std::mem::take(&mut self.held));
        out.push_str(line);
        out.push_str(line_break);
    }
}

/// Whether a line reads like a sentence that announces code.
fn introduces(line: &str) -> bool {
    const WORDS_MIN: usize = 3;
    let line = line.trim();
    let is_prose = line.chars().all(|char| char.is_alphanumeric() || " ,.'’`:-_!".contains(char));
    is_prose
        && line.split_whitespace().count() >= WORDS_MIN
        && line.ends_with([':', '.', '!'])
        && line.starts_with(char::is_uppercase)
}

impl Shape for CodeBlock {
    fn push(&mut self, text: &str, out: &mut String) -> Flow {
        let mut spoken = String::new();
        self.thinking.push(text, &mut spoken);
        self.read(&spoken, out)
    }

    fn finish(&mut self, _reason: FinishReason, out: &mut String) {
        let mut spoken = String::new();
        self.thinking.finish(&mut spoken);
        self.read(&spoken, out);
        let line = std::mem::take(&mut self.line);
        if !self.is_closed && !line.is_empty() {
            self.line_ends(&line, "", out);
        }
        // An announcement without a fence behind it was no announcement.
        if !self.has_code && !self.held.trim().is_empty() {
            out.push_str(&std::mem::take(&mut self.held));
        }
    }
}
