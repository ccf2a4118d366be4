//! How many tokens a text may have, without a tokenizer: rather too many than too few, since a prompt that does not fit
//! is refused.

/// Letters of one token in names and prose; vocabularies of today hold most English words whole.
const LETTERS_PER_TOKEN: usize = 5;

/// An upper estimate. Digits and marks count one each, runs of the same mark or of whitespace one for eight.
#[must_use]
pub(super) fn tokens(text: &str) -> usize {
    let mut tokens = 0;
    let mut run = 0;
    let mut before = None;
    for char in text.chars() {
        let kind = Kind::of(char);
        run = if before == Some(kind) { run + 1 } else { 1 };
        before = Some(kind);
        tokens += match kind {
            Kind::Letter => usize::from(run % LETTERS_PER_TOKEN == 1),
            Kind::Digit => 1,
            // One space belongs to the word behind it.
            Kind::Space => usize::from(run % 8 == 2),
            Kind::Break | Kind::Mark(_) => usize::from(run % 8 == 1),
            // Bytes are the smallest tokens there are; two thirds of them is what vocabularies reach for scripts
            // they hardly know.
            Kind::Foreign => (char.len_utf8() * 2).div_ceil(3),
        };
    }
    tokens
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Break,
    Mark(char),
    Foreign,
}

impl Kind {
    fn of(char: char) -> Self {
        match char {
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Digit,
            ' ' | '\t' => Self::Space,
            '\n' | '\r' => Self::Break,
            _ if char.is_ascii() => Self::Mark(char),
            _ => Self::Foreign,
        }
    }
}
