//! What surrounds a cursor, as far as it says where an answer has to end.

use super::python::{Misplaced, PythonBlocks, begins_statement};
use super::scan::{Hold, Inside, Line, Scanner};
use super::syntax::{Blocks, Syntax};

/// Lines after the cursor that an answer is held against.
const LINES_BELOW_MAX: usize = 60;
/// Statements after the cursor that have to fit the answer.
const STATEMENTS_BELOW: usize = 2;

/// How much an answer may span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Code follows on the cursor's line: the answer ends with the line.
    Line,
    /// Code follows, and nothing but white space comes before: the answer is a line of its own, put before it.
    LineBefore,
    Lines,
}

/// The place of a cursor.
#[derive(Debug)]
pub struct Cursor {
    pub syntax: &'static Syntax,
    pub extent: Extent,
    /// The cursor's line before and after it.
    pub before: String,
    pub behind: String,
    /// The lines that follow, and whether the file ends with them.
    pub below: Vec<String>,
    pub is_end_near: bool,
    pub hold: Hold,
    /// Brackets that the lines below close and do not open.
    closed_below: usize,
    /// State at the beginning of the cursor's line.
    pub state: State,
    /// The file fits together as it is, without an answer.
    pub is_whole: bool,
    /// Lines end in a carriage return and a line feed.
    pub has_carriage_returns: bool,
}

/// What is open between two lines.
#[derive(Clone, Debug)]
pub struct State {
    pub scanner: Scanner,
    pub python: Option<PythonBlocks>,
    is_continued: bool,
}

impl State {
    fn new(syntax: &'static Syntax) -> Self {
        let python = (syntax.blocks == Blocks::Python).then(PythonBlocks::new);
        Self { scanner: Scanner::new(syntax), python, is_continued: false }
    }

    /// Whether the next line begins a statement.
    pub fn is_between_statements(&self) -> bool {
        self.scanner.is_between_statements() && !self.is_continued
    }

    /// Reads a line. What comes before byte `cursor` was there already.
    pub fn line(&mut self, line: &str, cursor: usize, hold: Hold) -> (Line, Result<(), Misplaced>) {
        let facts = self.scanner.line(line, cursor, hold);
        self.is_continued = facts.is_continued;
        let is_whole = self.is_between_statements();
        let placed = match &mut self.python {
            Some(_) if facts.is_broken => Err(Misplaced::Unfinished),
            Some(python) if facts.stopped_at.is_none() => python.line(line, &facts, is_whole),
            _ => Ok(()),
        };
        (facts, placed)
    }
}

impl Cursor {
    pub fn new(syntax: &'static Syntax, prefix: &str, suffix: &str) -> Self {
        let line_start = prefix.rfind('\n').map_or(0, |at| at + 1);
        let mut state = state_after(syntax, &prefix[..line_start]);
        // Where the cursor's line is empty this is the cursor's place; where not, the scanner finds it.
        state.scanner.set_cursor(Hold::default());
        let before = prefix[line_start..].to_owned();
        let mut lines = suffix.split('\n').map(|line| line.trim_end_matches('\r'));
        let behind = lines.next().unwrap_or_default().to_owned();
        let below: Vec<String> = lines.by_ref().take(LINES_BELOW_MAX).map(str::to_owned).collect();
        let mut at_cursor = state.scanner.clone();
        at_cursor.part(&before, 0, Hold::default());
        let (hold, closed_below) = hold(syntax, &at_cursor, suffix);
        let closed_below = closed_below.saturating_sub(closings(&behind));
        let mut cursor = Self {
            extent: extent(&at_cursor, &before, &behind),
            is_end_near: lines.next().is_none(),
            is_whole: false,
            has_carriage_returns: prefix[..line_start].ends_with("\r\n") || suffix.starts_with("\r\n"),
            syntax,
            before,
            behind,
            below,
            closed_below,
            hold,
            state,
        };
        let joined = format!("{}{}", cursor.before, cursor.behind);
        // Of other languages it is not known whether a line is a statement: one that was begun is not taken for one.
        let may_be_whole = syntax.blocks == Blocks::Python || cursor.before.trim().is_empty();
        cursor.is_whole = may_be_whole && cursor.can_follow(cursor.state.clone(), &joined, cursor.before.len());
        cursor
    }

    /// The first line below the cursor that is not blank.
    pub fn next_line(&self) -> Option<&str> {
        self.below.iter().map(String::as_str).find(|line| !line.trim().is_empty())
    }

    /// Whether the code below can follow an answer that leaves `state`, read up to the cursor's line. `joined` is the line
    /// that is left to read: the answer's last and what stands behind the cursor; `given` bytes of it stand before.
    pub fn can_follow(&self, mut state: State, joined: &str, given: usize) -> bool {
        let is_ours = state.line(joined, given, Hold::default()).1.is_ok();
        if !is_ours || !self.has_balance(&state.scanner) {
            return false;
        }
        let Some(python) = &state.python else { return true };
        let enough = python.statements() + STATEMENTS_BELOW;
        for line in &self.below {
            if state.line(line, 0, Hold::default()).1.is_err() {
                return false;
            }
            if state.python.as_ref().is_some_and(|python| python.statements() >= enough) {
                return true;
            }
        }
        !self.is_end_near || state.python.as_ref().is_some_and(|python| python.finish().is_ok())
    }

    /// Whether what is open at the end of the cursor's line is what the lines below close.
    fn has_balance(&self, scanner: &Scanner) -> bool {
        let is_code = scanner.inside == Inside::Code || self.hold.text;
        let balance = match self.syntax.blocks {
            Blocks::Python => scanner.open.len() == self.closed_below,
            // The file may lack what closes the blocks around the cursor.
            Blocks::Brackets | Blocks::Words | Blocks::Tags => scanner.opened() == 0,
        };
        is_code && balance
    }
}

/// Closing brackets behind the cursor, where nothing but such stands there.
fn closings(behind: &str) -> usize {
    let is_bracket = |char: &char| matches!(char, ')' | ']' | '}');
    if behind.chars().any(|char| matches!(char, '(' | '[' | '{')) {
        return 0;
    }
    behind.chars().filter(is_bracket).count()
}

fn extent(at_cursor: &Scanner, before: &str, behind: &str) -> Extent {
    let is_in_line_text = matches!(at_cursor.inside, Inside::Text { is_long: false, .. });
    if !is_in_line_text && behind.chars().all(is_closing) {
        return Extent::Lines;
    }
    if before.trim().is_empty() && !is_in_line_text { Extent::LineBefore } else { Extent::Line }
}

/// What may stand behind the cursor of an answer of several lines.
fn is_closing(char: char) -> bool {
    char.is_whitespace() || matches!(char, ')' | ']' | '}' | '>' | '"' | '\'' | '`' | ';' | ',')
}

/// What the text after the cursor closes of what is open at it, and how many brackets it closes in all.
fn hold(syntax: &'static Syntax, at_cursor: &Scanner, suffix: &str) -> (Hold, usize) {
    let mut after = Scanner::new(syntax);
    let mut text = false;
    if let Inside::Text { quote, is_long, is_triple } = at_cursor.inside {
        let reach = if is_long { suffix } else { suffix.split('\n').next().unwrap_or_default() };
        let quotes = match is_triple {
            true => reach.matches(&String::from(quote).repeat(3)).count(),
            false => reach.matches(quote).count() - reach.matches(&format!("\\{quote}")).count(),
        };
        text = quotes % 2 == 1;
        if text {
            after.inside = at_cursor.inside;
        }
    }
    for line in suffix.lines() {
        after.line(line, 0, Hold::default());
    }
    // Of the brackets that the lines below close, those that are not open yet are for the answer to open and close;
    // what is closed on the cursor's own line is closed there.
    let behind = closings(suffix.split('\n').next().unwrap_or_default());
    (Hold { brackets: after.unmatched.min(at_cursor.open.len().max(behind)), text }, after.unmatched)
}

/// Reads everything before the cursor's line.
fn state_after(syntax: &'static Syntax, text: &str) -> State {
    let mut state = State::new(syntax);
    for line in text.lines() {
        // A bracket that seems open where a statement begins was never one.
        let is_lost = state.scanner.inside == Inside::Code && !state.scanner.open.is_empty();
        if state.python.is_some() && is_lost && begins_statement(line) {
            state.scanner.open.clear();
            if let Some(python) = &mut state.python {
                python.abandon_statement();
            }
        }
        // Misplaced lines happen in code that is being written.
        let _placed = state.line(line, 0, Hold::default());
    }
    state
}
