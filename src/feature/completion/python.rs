//! Blocks of Python by indentation: whether a line may stand where it stands, and what has to follow it.
//! After the grammar of the language reference, "Compound statements" and "Indentation".

use super::scan::{Line, first_word, indent_of};

/// The blocks that are open, outermost first, and the statement being read.
#[derive(Clone, Debug)]
pub struct PythonBlocks {
    levels: Vec<Level>,
    statement: Option<Statement>,
    /// A header was read: an indented body has to follow.
    is_body_due: bool,
    /// A decorator was read: a function or class has to follow.
    is_definition_due: bool,
    statements: usize,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    indent: usize,
    chain: Chain,
}

/// What the last statement of a level allows to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    Nothing,
    /// `elif` and `else`.
    If,
    /// `else`.
    Loop,
    /// `except` or `finally`, one of which has to come.
    Try,
    /// `except`, `else` and `finally`.
    Except,
    /// `finally`.
    TryElse,
}

#[derive(Clone, Debug)]
struct Statement {
    word: String,
    has_colon: bool,
    last: Option<char>,
    last_line: String,
}

/// Why a line makes a file that Python does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// It cannot stand where it stands.
    Here,
    /// It ends in the middle of a statement.
    Unfinished,
}

impl PythonBlocks {
    pub fn new() -> Self {
        Self {
            levels: vec![Level { indent: 0, chain: Chain::Nothing }],
            statement: None,
            is_body_due: false,
            is_definition_due: false,
            statements: 0,
        }
    }

    /// How many statements were read to their end.
    pub fn statements(&self) -> usize {
        self.statements
    }

    /// Whether the last line was a header, so that a body has to follow.
    pub fn is_body_due(&self) -> bool {
        self.is_body_due
    }

    /// Whether a `try` at this indentation waits for what handles its errors.
    pub fn awaits_handler(&self, indent: usize) -> bool {
        self.levels.iter().any(|level| level.indent == indent && level.chain == Chain::Try)
    }

    /// Reads a line. `is_whole` says whether the statement ends with it. Goes on after a misplaced line as well as it
    /// can.
    pub fn line(&mut self, line: &str, facts: &Line, is_whole: bool) -> Result<(), Misplaced> {
        let mut placed = Ok(());
        if self.statement.is_none() {
            if facts.first.is_none() {
                return Ok(());
            }
            placed = self.begin(indent_of(line), first_word(line), facts.first);
            let word = match facts.first {
                Some('@') => "@",
                _ => first_word(line),
            };
            self.statement =
                Some(Statement { word: word.to_owned(), has_colon: false, last: None, last_line: String::new() });
        }
        let statement = self.statement.as_mut().expect("begun above");
        statement.has_colon |= facts.has_colon;
        if facts.last.is_some() {
            statement.last = facts.last;
            statement.last_line.clear();
            statement.last_line.push_str(&line[..facts.code_end]);
        }
        if is_whole { placed.and(self.end()) } else { placed }
    }

    /// The statement being read was none: what follows begins another.
    pub fn abandon_statement(&mut self) {
        self.statement = None;
    }

    /// The file ends here.
    pub fn finish(&self) -> Result<(), Misplaced> {
        let is_try_open = self.levels.iter().any(|level| level.chain == Chain::Try);
        let is_whole = self.statement.is_none() && !self.is_body_due && !self.is_definition_due && !is_try_open;
        if is_whole { Ok(()) } else { Err(Misplaced::Here) }
    }

    fn begin(&mut self, indent: usize, word: &str, first: Option<char>) -> Result<(), Misplaced> {
        let mut placed = Ok(());
        let is_body_due = std::mem::take(&mut self.is_body_due);
        let top = self.top().indent;
        if indent > top {
            if !is_body_due {
                placed = Err(Misplaced::Here);
            }
            self.levels.push(Level { indent, chain: Chain::Nothing });
        } else {
            if is_body_due {
                placed = Err(Misplaced::Here);
            }
            while self.top().indent > indent && self.levels.len() > 1 {
                if self.top().chain == Chain::Try {
                    placed = Err(Misplaced::Here);
                }
                self.levels.pop();
            }
            if self.top().indent != indent {
                placed = Err(Misplaced::Here);
                self.levels.push(Level { indent, chain: Chain::Nothing });
            }
        }
        let is_definition = matches!(word, "def" | "class" | "async") || first == Some('@');
        if std::mem::take(&mut self.is_definition_due) && !is_definition {
            placed = Err(Misplaced::Here);
        }
        placed.and(self.follow(word))
    }

    /// Holds the first word against what the statement before it allows.
    fn follow(&mut self, word: &str) -> Result<(), Misplaced> {
        let chain = self.top().chain;
        let (is_allowed, next) = match word {
            "elif" => (chain == Chain::If, Chain::If),
            "else" => match chain {
                Chain::If | Chain::Loop => (true, Chain::Nothing),
                Chain::Except => (true, Chain::TryElse),
                _ => (false, Chain::Nothing),
            },
            "except" => (matches!(chain, Chain::Try | Chain::Except), Chain::Except),
            "finally" => (matches!(chain, Chain::Try | Chain::Except | Chain::TryElse), Chain::Nothing),
            "if" => (chain != Chain::Try, Chain::If),
            "for" | "while" => (chain != Chain::Try, Chain::Loop),
            "try" => (chain != Chain::Try, Chain::Try),
            _ => (chain != Chain::Try, Chain::Nothing),
        };
        self.levels.last_mut().expect("there is always the outermost").chain = next;
        if is_allowed { Ok(()) } else { Err(Misplaced::Here) }
    }

    fn end(&mut self) -> Result<(), Misplaced> {
        let Some(statement) = self.statement.take() else { return Ok(()) };
        self.statements += 1;
        let is_compound = is_compound(&statement.word);
        let ends_in_colon = statement.last == Some(':');
        self.is_body_due = ends_in_colon;
        self.is_definition_due = statement.word == "@";
        if is_compound && !statement.has_colon || ends_in_colon && !is_compound && !is_soft(&statement.word) {
            return Err(Misplaced::Unfinished);
        }
        if ends_unfinished(&statement.last_line, statement.last) { Err(Misplaced::Unfinished) } else { Ok(()) }
    }

    fn top(&self) -> Level {
        *self.levels.last().expect("there is always the outermost")
    }
}

fn is_compound(word: &str) -> bool {
    matches!(word, "if" | "elif" | "else" | "for" | "while" | "def" | "class" | "try" | "except" | "finally" | "with")
}

/// Words that begin a block in one place and are names in another; `async` goes before one that does.
fn is_soft(word: &str) -> bool {
    matches!(word, "match" | "case" | "async")
}

/// Whether no statement can end like this: `line` is its last, up to the last character that is code.
fn ends_unfinished(line: &str, last: Option<char>) -> bool {
    match last {
        Some('+' | '-' | '/' | '%' | '=' | '<' | '>' | '&' | '|' | '^' | '~' | '!' | '@') => true,
        Some('.') => {
            !line.ends_with("...") && !line.trim_end_matches('.').ends_with(|char: char| char.is_ascii_digit())
        }
        Some('*') => !line.ends_with("import *"),
        Some(char) if char.is_alphabetic() => {
            let word_at = line.rfind(|char: char| !char.is_alphanumeric() && char != '_').map_or(0, |at| at + 1);
            matches!(
                &line[word_at..],
                "and"
                    | "or"
                    | "not"
                    | "in"
                    | "is"
                    | "import"
                    | "from"
                    | "as"
                    | "lambda"
                    | "def"
                    | "class"
                    | "del"
                    | "assert"
                    | "global"
                    | "nonlocal"
                    | "with"
                    | "for"
                    | "while"
                    | "if"
                    | "elif"
                    | "await"
            )
        }
        _ => false,
    }
}

/// Words with which only a statement can begin: where one stands at the beginning of a line, no bracket is open.
pub fn begins_statement(line: &str) -> bool {
    let word = first_word(line);
    let is_alone = line.trim_start()[word.len()..].starts_with([' ', ':', '\t']);
    is_alone && matches!(word, "def" | "class" | "import" | "with" | "while" | "try" | "return" | "raise" | "elif")
}
