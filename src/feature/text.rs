//! Marks that models put around what they mean to say: reasoning blocks, code fences, tags, prefaces.
//!
//! Two forms of each: for a text that is there already, and for one that comes in pieces which may be cut anywhere
//! between two characters. Knows no feature.

use std::borrow::Cow;

/// How a reasoning block begins, and with what it ends.
const REASONING: &[(&str, &str)] =
    &[("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<reasoning>", "</reasoning>"), ("[THINK]", "[/THINK]")];

/// A reasoning block whose beginning stood in the prompt: its end is looked for in this many characters of a stream.
const ORPHAN_CHARS: usize = 80;

/// Leaves out the reasoning before an answer. Nothing is said before a block that was opened is closed.
///
/// An end without a beginning counts when it comes within the first 80 characters: so much is held back.
#[derive(Clone, Debug, Default)]
pub struct Thinking {
    state: ThinkingState,
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ThinkingState {
    /// Nothing is decided yet.
    #[default]
    Before,
    /// Behind a block: another may follow, whitespace is left out.
    Between,
    /// In a block; the index is that of [`REASONING`].
    Inside(usize),
    After,
}

impl Thinking {
    /// Takes in more of the model's text and appends what is no reasoning to `out`.
    pub fn push(&mut self, text: &str, out: &mut String) {
        if self.state == ThinkingState::After {
            out.push_str(text);
            return;
        }
        self.held.push_str(text);
        while self.step(out) {}
    }

    /// Decides on what is held; says whether there may be more to decide.
    fn step(&mut self, out: &mut String) -> bool {
        if let ThinkingState::Inside(index) = self.state {
            let end = REASONING[index].1;
            let Some(at) = self.held.find(end) else {
                let kept = held_suffix(&self.held, &[end]);
                self.held.drain(..self.held.len() - kept);
                return false;
            };
            self.held.drain(..at + end.len());
            self.state = ThinkingState::Between;
            return true;
        }
        if self.state == ThinkingState::After {
            return false;
        }
        let start = self.held.trim_start();
        if let Some((index, open)) = opened(start) {
            self.held = start[open.len()..].to_owned();
            self.state = ThinkingState::Inside(index);
            return true;
        }
        let is_decided = match self.state {
            ThinkingState::Between => {
                self.held = start.to_owned();
                !REASONING.iter().any(|(open, _)| open.starts_with(self.held.as_str()))
            }
            _ => {
                if let Some(behind) = behind_orphan(&self.held, ORPHAN_CHARS) {
                    self.held.drain(..behind);
                    self.state = ThinkingState::Between;
                    return true;
                }
                // An end may begin at the 80th character and go on behind it.
                let longest_end = REASONING.iter().map(|(_, end)| end.len()).max().unwrap_or(0);
                self.held.chars().count() > ORPHAN_CHARS + longest_end
            }
        };
        if is_decided {
            self.state = ThinkingState::After;
            out.push_str(&std::mem::take(&mut self.held));
        }
        false
    }

    /// The text is over: appends what was held back. A block that was never closed is left out.
    pub fn finish(&mut self, out: &mut String) {
        match self.state {
            ThinkingState::Before | ThinkingState::Between => out.push_str(&std::mem::take(&mut self.held)),
            ThinkingState::Inside(_) | ThinkingState::After => self.held.clear(),
        }
        self.state = ThinkingState::After;
    }
}

fn opened(start: &str) -> Option<(usize, &'static str)> {
    REASONING.iter().enumerate().find(|(_, (open, _))| start.starts_with(open)).map(|(index, (open, _))| (index, *open))
}

/// Where the text goes on behind an end of reasoning that begins within the first `chars` characters.
fn behind_orphan(text: &str, chars: usize) -> Option<usize> {
    let limit = text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    REASONING
        .iter()
        .filter_map(|(open, end)| {
            let at = text.find(end).filter(|at| *at <= limit)?;
            // A text that speaks of the tags names both, or quotes the one.
            let is_quoted = text[..at].ends_with(['`', '"', '\'']);
            (!is_quoted && !text[..at].contains(open)).then_some(at + end.len())
        })
        .min()
}

/// The answer of a whole text, without the reasoning before it.
///
/// An end without a beginning counts wherever it stands at the end of a line, since reasoning that was begun by the
/// prompt can be long.
#[must_use]
pub fn without_thinking(text: &str) -> &str {
    let mut rest = text;
    // Behind a block, an end without beginning is a word.
    let mut is_beginning = true;
    loop {
        let start = rest.trim_start();
        if let Some((index, open)) = opened(start) {
            let end = REASONING[index].1;
            match start[open.len()..].find(end) {
                None => return "",
                Some(at) => rest = start[open.len() + at + end.len()..].trim_start(),
            }
            is_beginning = false;
            continue;
        }
        if !is_beginning {
            return rest;
        }
        is_beginning = false;
        match behind_orphan(rest, ORPHAN_CHARS).or_else(|| behind_orphan_at_line_end(rest)) {
            Some(behind) => rest = rest[behind..].trim_start(),
            None => return rest,
        }
    }
}

fn behind_orphan_at_line_end(text: &str) -> Option<usize> {
    REASONING.iter().find_map(|(open, end)| {
        let at = text.find(end)?;
        let behind = at + end.len();
        let is_line_end =
            text[behind..].is_empty() || text[behind..].trim_start_matches([' ', '\t', '\r']).starts_with('\n');
        (is_line_end && !text[..at].contains(open)).then_some(behind)
    })
}

/// Length in bytes of the longest end of `text` that one of `patterns` may begin with: it has to be held back until
/// more is known. A pattern that is there in full is not counted.
#[must_use]
pub fn held_suffix(text: &str, patterns: &[&str]) -> usize {
    let held = |pattern: &&str| {
        let longest = pattern.len().saturating_sub(1).min(text.len());
        (1..=longest).rev().find(|length| text.as_bytes().ends_with(&pattern.as_bytes()[..*length]))
    };
    // A cut inside a character cannot be the beginning of a pattern that starts with a whole one.
    patterns.iter().filter_map(held).filter(|length| text.is_char_boundary(text.len() - length)).max().unwrap_or(0)
}

/// Follows fenced code blocks line by line (CommonMark 0.31, section 4.5), so that nothing inside of one is taken for
/// markup.
#[derive(Clone, Debug, Default)]
pub struct FenceTracker {
    open: Option<Fence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    mark: char,
    length: usize,
}

/// What a line is to fenced blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceLine<'a> {
    /// Begins a block; holds what stands behind the fence, such as the language.
    Opens(&'a str),
    Inside,
    Closes,
    Outside,
}

impl FenceTracker {
    /// Takes the next line, with or without its line break.
    pub fn line<'a>(&mut self, line: &'a str) -> FenceLine<'a> {
        let trimmed = line.trim();
        let mark = trimmed.chars().next().filter(|mark| matches!(mark, '`' | '~'));
        let length = mark.map_or(0, |mark| trimmed.chars().take_while(|char| *char == mark).count());
        match (self.open, mark) {
            (Some(fence), Some(mark)) if mark == fence.mark && length >= fence.length && trimmed.len() == length => {
                self.open = None;
                FenceLine::Closes
            }
            (Some(_), _) => FenceLine::Inside,
            (None, Some(mark)) if length >= 3 && !(mark == '`' && trimmed[length..].contains('`')) => {
                self.open = Some(Fence { mark, length });
                FenceLine::Opens(trimmed[length..].trim())
            }
            (None, _) => FenceLine::Outside,
        }
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

/// A fenced block: the word behind the fence, and the lines in it with their line breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced<'a> {
    pub info: &'a str,
    pub body: &'a str,
    /// Where the block begins in the text, its fence included, and where the text goes on behind it.
    pub start: usize,
    pub end: usize,
}

/// The fenced blocks of a text in order. One that is never closed goes on to the end.
#[must_use]
pub fn fenced_blocks(text: &str) -> Vec<Fenced<'_>> {
    let mut blocks = Vec::new();
    let mut tracker = FenceTracker::default();
    let mut opened: Option<(&str, usize, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        match tracker.line(line) {
            FenceLine::Opens(info) => opened = Some((info, start, at)),
            FenceLine::Closes => {
                if let Some((info, fence, body)) = opened.take() {
                    blocks.push(Fenced { info, body: &text[body..start], start: fence, end: at });
                }
            }
            FenceLine::Inside | FenceLine::Outside => {}
        }
    }
    if let Some((info, fence, body)) = opened {
        blocks.push(Fenced { info, body: &text[body..], start: fence, end: text.len() });
    }
    blocks
}

/// The inside of a text that is one fenced block from its first line to its last; any other text as it is.
#[must_use]
pub fn without_outer_fence(text: &str) -> &str {
    let trimmed = text.trim();
    match fenced_blocks(trimmed).as_slice() {
        [only] if only.start == 0 && only.end == trimmed.len() => only.body,
        // Blocks inside a Markdown block end it early: the last line still closes the first.
        [first, .., last] if first.start == 0 && is_markdown(first.info) && last.end == trimmed.len() => {
            let inside = &trimmed[trimmed.find('\n').map_or(trimmed.len(), |at| at + 1)..];
            let bare_end = inside.lines().next_back().is_some_and(|line| line.trim() == "```");
            if bare_end { &inside[..inside.rfind("```").unwrap_or(inside.len())] } else { inside }
        }
        _ => text,
    }
}

/// Whether a fence with this word behind it holds prose rather than code.
#[must_use]
pub fn is_markdown(info: &str) -> bool {
    ["markdown", "md", "text", "plaintext", "txt"].iter().any(|name| info.eq_ignore_ascii_case(name))
}

/// The text between `<name>` and `</name>`, or to the end of the text when the tag is never closed. Upper and lower
/// case are the same, and spaces before `>` are allowed.
#[must_use]
pub fn tag_content<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, start) = find_tag(text, &format!("<{name}"))?;
    let rest = &text[start..];
    Some(find_tag(rest, &format!("</{name}")).map_or(rest, |(end, _)| &rest[..end]))
}

/// Where a tag that begins with `head` stands: its first byte, and the one behind its `>`.
fn find_tag(text: &str, head: &str) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = bytes[from..].iter().position(|byte| *byte == b'<') {
        let at = from + found;
        from = at + 1;
        let behind = at + head.len();
        if bytes.len() > behind && bytes[at..behind].eq_ignore_ascii_case(head.as_bytes()) {
            let spaces = bytes[behind..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            if bytes.get(behind + spaces) == Some(&b'>') {
                return Some((at, behind + spaces + 1));
            }
        }
    }
    None
}

/// Where `needle` (ASCII) stands in `text`, upper and lower case alike.
#[must_use]
pub fn find_ignoring_case(text: &str, needle: &str) -> Option<usize> {
    text.as_bytes().windows(needle.len().max(1)).position(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// Makes tags of these names plain text, by a space behind their `<`, so that no parser takes them for markup.
#[must_use]
pub fn without_tags<'a>(text: &'a str, names: &[&str]) -> Cow<'a, str> {
    let is_tag = |rest: &str| {
        let rest = rest.strip_prefix('/').unwrap_or(rest).as_bytes();
        names.iter().any(|name| {
            let is_named = rest.len() >= name.len() && rest[..name.len()].eq_ignore_ascii_case(name.as_bytes());
            is_named && !rest.get(name.len()).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        })
    };
    let places: Vec<usize> =
        text.match_indices('<').map(|(at, _)| at + 1).filter(|behind| is_tag(&text[*behind..])).collect();
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + places.len());
    let mut from = 0;
    for place in places {
        safe.push_str(&text[from..place]);
        safe.push(' ');
        from = place;
    }
    safe.push_str(&text[from..]);
    Cow::Owned(safe)
}

/// The text without a first line that only announces it ("Here is the commit message:").
#[must_use]
pub fn without_preface(text: &str) -> &str {
    const OPENINGS: &[&str] = &[
        "here is",
        "here's",
        "here are",
        "sure",
        "certainly",
        "of course",
        "okay",
        "ok,",
        "absolutely",
        "based on",
        "below is",
        "the following",
        "this is",
    ];
    const POLITE: &[&str] = &["sure", "certainly", "of course", "okay", "ok,", "absolutely"];
    let text = text.trim_start();
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let plain = first.trim().trim_matches(['*', '#', ' ']).to_lowercase();
    let announces = OPENINGS.iter().any(|opening| plain.starts_with(opening)) && plain.ends_with(':');
    let is_polite = POLITE.iter().any(|opening| plain.starts_with(opening)) && plain.ends_with(['!', '.']);
    let is_preface = (announces || is_polite && plain.len() < 80) && !rest.trim().is_empty();
    if is_preface { without_preface(rest) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thought(pieces: &[&str]) -> String {
        let mut thinking = Thinking::default();
        let mut out = String::new();
        for piece in pieces {
            thinking.push(piece, &mut out);
        }
        thinking.finish(&mut out);
        out
    }

    #[test]
    fn reasoning_is_left_out_however_the_text_is_cut() {
        let long = "x".repeat(200);
        let check = |text: &str, expected: &str| {
            assert_eq!(thought(&[text]), expected, "{text}");
            assert_eq!(without_thinking(text), expected, "{text}");
            let chars: Vec<String> = text.chars().map(String::from).collect();
            let pieces: Vec<&str> = chars.iter().map(String::as_str).collect();
            assert_eq!(thought(&pieces), expected, "{text}");
        };
        check("Hi", "Hi");
        check("", "");
        check("  an answer", "  an answer");
        check("<think>a</think>\n\nHi", "Hi");
        check("\n<think>\na\n</think>\nHi <think>b</think>", "Hi <think>b</think>");
        check("<thinking>a</thinking> <think>b</think>Hi", "Hi");
        check("[THINK]a[/THINK]Hi", "Hi");
        check("a</think>b</think>Hi", "b</think>Hi");
        check("a</think><think>b</think>Hi", "Hi");
        check("<think>a</think>b</think>Hi", "b</think>Hi");
        check("<think>never closed", "");
        check("<think>a</thin", "");
        check("<think></think>", "");
        check("short thought</think>Hi", "Hi");
        check("The tags <think> and </think> frame thoughts", "The tags <think> and </think> frame thoughts");
        check("End it with `</think>`, then answer", "End it with `</think>`, then answer");
        check(&format!("{long} a < b <thi"), &format!("{long} a < b <thi"));
        check(&format!("<think>{long}</think>{long}"), &long);
        check(&format!("é{}</think>Hi", "é".repeat(79)), "Hi");
    }

    #[test]
    fn reasoning_begun_by_the_prompt_can_be_long() {
        let reasoning = "step by step. ".repeat(100);
        assert_eq!(without_thinking(&format!("{reasoning}\n</think>\n\nHi")), "Hi");
        let spoken = format!("{reasoning} the </think> tag");
        assert_eq!(without_thinking(&spoken), spoken);
    }

    #[test]
    fn what_may_be_a_beginning_is_held() {
        let check = |text: &str, patterns: &[&str], expected: usize| {
            assert_eq!(held_suffix(text, patterns), expected, "{text}");
        };
        check("a </thi", &["</think>"], 5);
        check("a </think>", &["</think>"], 0);
        check("a<", &["</think>", "<to>"], 1);
        check("Obs", &["Observation:", "Action:"], 3);
        check("é", &["\u{e8}"], 0);
        check("", &["x"], 0);
        check("aa", &["aab", "ab"], 2);
    }

    #[test]
    fn blocks_are_found_as_markdown_finds_them() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let found: Vec<(&str, &str)> = fenced_blocks(text).iter().map(|block| (block.info, block.body)).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("a\n```ruby\nb\n```\nc", &[("ruby", "b\n")]);
        check("```\na", &[("", "a")]);
        check("````\n```\na\n```\n````", &[("", "```\na\n```\n")]);
        check("~~~\na\n```\n~~~\n", &[("", "a\n```\n")]);
        check("`a` and ```b``` c", &[]);
        check("```json\n```\n```\n```", &[("json", ""), ("", "")]);
    }

    #[test]
    fn one_fence_around_everything_is_removed() {
        let check = |text: &str, expected: &str| assert_eq!(without_outer_fence(text), expected, "{text}");
        check("```\nFix a\n```", "Fix a\n");
        check("\n```text\nFix a\n", "Fix a");
        check("a\n```\nb\n```", "a\n```\nb\n```");
        check("```markdown\n# A\n```sh\nls\n```\nB\n```", "# A\n```sh\nls\n```\nB\n");
        check("```sh\na\n```\n```sh\nb\n```", "```sh\na\n```\n```sh\nb\n```");
        check("plain", "plain");
    }

    #[test]
    fn tags_are_read_leniently_and_disarmed() {
        assert_eq!(tag_content("x<Summary >a</summary>b", "summary"), Some("a"));
        assert_eq!(tag_content("<summary>a", "summary"), Some("a"));
        assert_eq!(tag_content("<summaryx>a", "summary"), None);
        assert_eq!(tag_content("<summary", "summary"), None);
        assert_eq!(without_tags("a < b <to> </FROM>é <tomato>", &["to", "from"]), "a < b < to> < /FROM>é <tomato>");
        assert_eq!(without_tags("<comment file=\"a\">", &["comment"]), "< comment file=\"a\">");
    }

    #[test]
    fn announcements_are_left_out() {
        let check = |text: &str, expected: &str| assert_eq!(without_preface(text), expected, "{text}");
        check("Here is the commit message:\n\nFix a", "Fix a");
        check("Sure!\nHere's a summary:\nFix a", "Fix a");
        check("**Here is the summary:**\nFix a", "Fix a");
        check("Here is the fix: a", "Here is the fix: a");
        check("Fix a:\nb", "Fix a:\nb");
        check("Here is nothing:", "Here is nothing:");
    }
}
