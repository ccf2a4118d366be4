//! Reads code line by line and remembers which brackets, texts and comments are open. Never fails: code under a cursor
//! is rarely whole.

use super::syntax::{Blocks, Syntax};

/// Where a position lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    Code,
    Text { quote: char, is_long: bool, is_triple: bool },
    Comment,
}

/// State between two lines, or in the middle of one.
#[derive(Clone, Debug)]
pub struct Scanner {
    syntax: &'static Syntax,
    pub inside: Inside,
    /// Opening brackets that wait for their closing ones, outermost first.
    pub open: Vec<char>,
    /// The fewest that were open since the cursor: the others were opened behind it.
    open_min: usize,
    /// Closing brackets that nothing was open for.
    pub unmatched: usize,
    /// The text that was open at the cursor is closed by what follows the cursor: nobody else may close it.
    is_text_held: bool,
}

/// What an answer must not close because the text after the cursor does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hold {
    /// So many open brackets, from the outermost.
    pub brackets: usize,
    /// The text in which the cursor stands.
    pub text: bool,
}

/// What one line of code is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The first and last characters that are code.
    pub first: Option<char>,
    pub last: Option<char>,
    /// Byte offset behind the last character that is code.
    pub code_end: usize,
    /// Byte offset of a closing bracket or quote that belongs to what follows the cursor.
    pub stopped_at: Option<usize>,
    /// A colon outside of all brackets.
    pub has_colon: bool,
    /// A backslash at the end.
    pub is_continued: bool,
    /// A text that had to end on this line and did not, or a bracket closed by one of another kind.
    pub is_broken: bool,
}

enum Step {
    Plain(usize),
    Code(usize),
    /// The rest of the line is no code.
    Skip,
    Stop,
}

impl Scanner {
    pub fn new(syntax: &'static Syntax) -> Self {
        Self { syntax, inside: Inside::Code, open: Vec::new(), open_min: 0, unmatched: 0, is_text_held: false }
    }

    pub fn blocks(&self) -> Blocks {
        self.syntax.blocks
    }

    /// Whether a line that begins here begins a statement.
    pub fn is_between_statements(&self) -> bool {
        self.inside == Inside::Code && self.open.is_empty()
    }

    /// Reads a whole line, given without its line break.
    pub fn line(&mut self, line: &str, cursor: usize, hold: Hold) -> Line {
        let mut facts = self.part(line, cursor, hold);
        if facts.stopped_at.is_some() {
            return facts;
        }
        let ends_in_backslash = line.ends_with('\\');
        facts.is_continued = ends_in_backslash && self.inside == Inside::Code && facts.last == Some('\\');
        if let Inside::Text { is_long: false, .. } = self.inside {
            facts.is_broken |= !ends_in_backslash;
            if !ends_in_backslash {
                self.inside = Inside::Code;
            }
        }
        facts
    }

    /// Reads a part of a line. What comes before byte `cursor` was there already: only what follows can be stopped by
    /// `hold`.
    pub fn part(&mut self, text: &str, cursor: usize, hold: Hold) -> Line {
        let mut facts = Line::default();
        let mut at = 0;
        let mut is_behind_cursor = false;
        while at < text.len() {
            if at >= cursor && !is_behind_cursor {
                is_behind_cursor = true;
                if cursor > 0 {
                    self.set_cursor(hold);
                }
            }
            let active = if is_behind_cursor { hold } else { Hold::default() };
            match self.step(&text[at..], active, &mut facts) {
                Step::Plain(bytes) => at += bytes,
                Step::Code(bytes) => {
                    let code = &text[at..at + bytes];
                    facts.first = facts.first.or(code.chars().next());
                    facts.last = code.chars().next_back();
                    at += bytes;
                    facts.code_end = at;
                }
                Step::Skip => break,
                Step::Stop => {
                    facts.stopped_at = Some(at);
                    return facts;
                }
            }
            self.open_min = self.open_min.min(self.open.len());
        }
        if !is_behind_cursor && cursor > 0 {
            self.set_cursor(hold);
        }
        facts
    }

    /// How many brackets were opened behind the cursor and wait for their closing ones.
    pub fn opened(&self) -> usize {
        self.open.len() - self.open_min
    }

    /// Says that the cursor stands here.
    pub fn set_cursor(&mut self, hold: Hold) {
        self.open_min = self.open.len();
        self.is_text_held = hold.text && matches!(self.inside, Inside::Text { .. });
    }

    fn step(&mut self, rest: &str, hold: Hold, facts: &mut Line) -> Step {
        let char = rest.chars().next().expect("called with text left");
        match self.inside {
            Inside::Comment => {
                let end = self.syntax.block_comment.map_or("", |(_, end)| end);
                match rest.find(end) {
                    Some(offset) => {
                        self.inside = Inside::Code;
                        Step::Plain(offset + end.len())
                    }
                    None => Step::Skip,
                }
            }
            Inside::Text { quote, is_triple, .. } => self.step_in_text(rest, quote, is_triple),
            Inside::Code => self.step_in_code(rest, char, hold, facts),
        }
    }

    fn step_in_text(&mut self, rest: &str, quote: char, is_triple: bool) -> Step {
        let mut chars = rest.chars();
        let char = chars.next().expect("called with text left");
        if char == '\\' {
            return Step::Code(1 + chars.next().map_or(0, char::len_utf8));
        }
        let closing =
            if is_triple { rest.chars().take_while(|other| *other == quote).count() >= 3 } else { char == quote };
        if !closing {
            return Step::Code(char.len_utf8());
        }
        if self.is_text_held {
            return Step::Stop;
        }
        self.inside = Inside::Code;
        Step::Code(if is_triple { 3 } else { 1 })
    }

    fn step_in_code(&mut self, rest: &str, char: char, hold: Hold, facts: &mut Line) -> Step {
        if char.is_whitespace() {
            return Step::Plain(char.len_utf8());
        }
        // A block comment may begin like a line comment, as in Lua.
        if let Some((begin, _)) = self.syntax.block_comment.filter(|(begin, _)| rest.starts_with(begin)) {
            self.inside = Inside::Comment;
            return Step::Plain(begin.len());
        }
        if self.syntax.line_comments.iter().any(|begin| rest.starts_with(begin)) {
            return Step::Skip;
        }
        if self.syntax.quotes.contains(&char) || self.syntax.long_quotes.contains(&char) {
            return Step::Code(self.open_text(rest, char));
        }
        match char {
            '\'' if self.syntax.has_characters => Step::Code(character_length(rest)),
            '(' | '[' | '{' => {
                self.open.push(char);
                Step::Code(1)
            }
            ')' | ']' | '}' => self.close(char, hold, facts),
            ':' => {
                facts.has_colon |= self.open.is_empty();
                Step::Code(1)
            }
            _ => Step::Code(char.len_utf8()),
        }
    }

    fn open_text(&mut self, rest: &str, quote: char) -> usize {
        let repeated = rest.chars().take_while(|other| *other == quote).count();
        let is_triple = self.syntax.has_triple_quotes && repeated >= 3;
        let is_long = is_triple || self.syntax.long_quotes.contains(&quote);
        self.inside = Inside::Text { quote, is_long, is_triple };
        if is_triple { 3 } else { 1 }
    }

    fn close(&mut self, bracket: char, hold: Hold, facts: &mut Line) -> Step {
        if hold.brackets > 0 && self.open.len() <= hold.brackets {
            return Step::Stop;
        }
        let opening = opening_of(bracket);
        if self.open.last() == Some(&opening) {
            self.open.pop();
            return Step::Code(1);
        }
        facts.is_broken |= self.syntax.blocks == Blocks::Python || !self.open.is_empty();
        match self.open.iter().rposition(|open| *open == opening) {
            // What was opened inside and never closed is given up.
            Some(index) => self.open.truncate(index),
            None => self.unmatched += 1,
        }
        Step::Code(1)
    }
}

fn opening_of(bracket: char) -> char {
    match bracket {
        ')' => '(',
        ']' => '[',
        _ => '{',
    }
}

/// The length of `'x'` or `'\n'`; 1 where the quote is something else, such as a lifetime.
fn character_length(rest: &str) -> usize {
    const BYTES_MAX: usize = 14;
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            let end = chars.take_while(|(at, _)| *at < BYTES_MAX).find(|(_, char)| *char == '\'');
            end.map_or(1, |(at, _)| at + 1)
        }
        Some(_) => chars.next().filter(|(_, char)| *char == '\'').map_or(1, |(at, _)| at + 1),
        None => 1,
    }
}

/// Columns before the first character that is not white space.
pub fn indent_of(line: &str) -> usize {
    const TAB_COLUMNS: usize = 8;
    let mut columns = 0;
    for char in line.chars() {
        match char {
            ' ' => columns += 1,
            '\t' => columns = (columns / TAB_COLUMNS + 1) * TAB_COLUMNS,
            _ => break,
        }
    }
    columns
}

/// The word a line begins with, as far as it is made of letters, digits and underscores.
pub fn first_word(line: &str) -> &str {
    let line = line.trim_start();
    let end = line.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(line.len());
    &line[..end]
}
