//! Takes out of a model's text what is no text: control tokens that were written out, underscores escaped as in Markdown,
//! carriage returns.

/// Cleans piece by piece; what may be the beginning of a control token waits for the next piece.
#[derive(Debug)]
pub struct Cleaner {
    waiting: String,
    unescapes_underscores: bool,
    /// In languages of tags `</s>` is one of them.
    is_markup: bool,
    has_text: bool,
    is_ended: bool,
}

enum Match {
    No,
    /// More text decides.
    Open,
    /// So many bytes are a control token.
    Token(usize),
}

/// No control token is longer.
const TOKEN_BYTES_MAX: usize = 48;

/// Control tokens without a common form.
const TOKENS: &[&str] = &[
    "<EOT>",
    "<PRE>",
    "<SUF>",
    "<MID>",
    "<file_sep>",
    "<repo_name>",
    "<reponame>",
    "<end_of_turn>",
    "<start_of_turn>",
    "<eos>",
    "<bos>",
];
/// This one is said about the place of the cursor, and means nothing.
const CURSOR: &str = "<|cursor|>";

impl Cleaner {
    pub fn new(unescapes_underscores: bool, is_markup: bool) -> Self {
        Self { waiting: String::new(), unescapes_underscores, is_markup, has_text: false, is_ended: false }
    }

    /// Appends the clean part of `text` to `out`. Returns whether the model meant to end: a control token behind some text
    /// is where it would go on with something else.
    pub fn push(&mut self, text: &str, out: &mut String) -> bool {
        if !self.is_ended {
            self.waiting.push_str(text);
            let waiting = std::mem::take(&mut self.waiting);
            let used = self.clean(&waiting, out);
            if !self.is_ended {
                self.waiting.push_str(&waiting[used..]);
            }
        }
        self.is_ended
    }

    /// No more text comes: appends what waits.
    pub fn finish(&mut self, out: &mut String) {
        if !self.is_ended {
            out.push_str(&std::mem::take(&mut self.waiting));
        }
    }

    /// Returns how many bytes were dealt with.
    fn clean(&mut self, text: &str, out: &mut String) -> usize {
        let mut at = 0;
        while let Some(char) = text[at..].chars().next() {
            let rest = &text[at..];
            match char {
                '<' => match self.control_token(rest) {
                    Match::Open => return at,
                    Match::Token(bytes) => {
                        if self.has_text && &rest[..bytes] != CURSOR {
                            self.is_ended = true;
                            return at;
                        }
                        at += bytes;
                        continue;
                    }
                    Match::No => {}
                },
                '\\' if self.unescapes_underscores => match rest[1..].chars().next() {
                    None => return at,
                    Some('_') => {
                        at += 1;
                        continue;
                    }
                    Some(_) => {}
                },
                // Lines end in a line feed alone; who sends others gets them back.
                '\r' | '\0' => {
                    at += 1;
                    continue;
                }
                _ => {}
            }
            self.has_text |= !char.is_whitespace();
            out.push(char);
            at += char.len_utf8();
        }
        at
    }

    fn control_token(&self, rest: &str) -> Match {
        for (begin, end) in [("<|", "|>"), ("<｜", "｜>"), ("<fim_", ">")] {
            if let Some(name) = rest.strip_prefix(begin) {
                return named_token(name, begin.len(), end);
            }
            if begin.starts_with(rest) {
                return Match::Open;
            }
        }
        let fixed = TOKENS.iter().copied().chain((!self.is_markup).then_some("</s>"));
        for token in fixed {
            if rest.starts_with(token) {
                return Match::Token(token.len());
            }
            if token.starts_with(rest) {
                return Match::Open;
            }
        }
        Match::No
    }
}

/// A token made of a name between `begin`, which was there already, and `end`.
fn named_token(name: &str, begin_bytes: usize, end: &str) -> Match {
    let is_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '▁' | '-');
    let length = name.find(|char| !is_name(char)).unwrap_or(name.len());
    let behind = &name[length..];
    if length > TOKEN_BYTES_MAX {
        Match::No
    } else if behind.starts_with(end) {
        if length < 2 { Match::No } else { Match::Token(begin_bytes + length + end.len()) }
    } else if end.starts_with(behind) {
        Match::Open
    } else {
        Match::No
    }
}
