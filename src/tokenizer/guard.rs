//! Carries a conversation through a chat template so that it cannot forge special tokens.
//!
//! A template mixes its own special tokens with the text of messages, and afterwards nothing tells one from the other.
//! So before rendering, every character in a message that a special token begins or ends with is replaced by a
//! stand-in: a private-use character that occurs nowhere else in the conversation. No special token can then be spelled
//! with a character of a message, whatever the template cuts, joins or trims. After rendering, the text is split at the
//! special tokens, and in what lies between the stand-ins are turned back.

use super::RenderError;
use super::literals::Literals;
use std::borrow::Cow;

/// The private-use planes: U+F0000 to U+10FFFD.
const STAND_INS: std::ops::RangeInclusive<u32> = 0xF0000..=0x10_FFFD;
/// The lowest first byte of a UTF-8 character in those planes.
const STAND_IN_LEAD: u8 = 0xF3;

/// The characters to replace, and what they become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    pairs: Vec<(char, char)>,
}

/// The characters that special tokens begin or end with.
pub(super) fn reserved_chars(control: &Literals) -> Vec<char> {
    let mut reserved: Vec<char> = control
        .iter()
        .flat_map(|literal| [literal.text.chars().next(), literal.text.chars().next_back()])
        .flatten()
        .collect();
    reserved.sort_unstable();
    reserved.dedup();
    reserved
}

impl Guard {
    /// Picks stand-ins that occur in none of `texts`: the messages, and the template itself.
    pub(super) fn new<'t>(reserved: &[char], texts: impl Iterator<Item = &'t str>) -> Result<Self, RenderError> {
        let mut taken: Vec<u32> = texts
            .filter(|text| text.bytes().any(|byte| byte >= STAND_IN_LEAD))
            .flat_map(|text| text.chars().map(u32::from).filter(|code| STAND_INS.contains(code)))
            .collect();
        taken.sort_unstable();
        let mut free = STAND_INS.filter(|code| taken.binary_search(code).is_err()).filter_map(char::from_u32);
        let mut pairs = Vec::with_capacity(reserved.len());
        for &char in reserved {
            let stand_in = free.next().ok_or(RenderError::NoStandIns { needed: reserved.len() })?;
            pairs.push((char, stand_in));
        }
        Ok(Self { pairs })
    }

    /// Replaces the reserved characters, except in `trusted` literals.
    pub(super) fn protect<'t>(&self, text: &'t str, trusted: Option<&Literals>) -> Cow<'t, str> {
        if !text.contains(|char| self.stand_in(char).is_some()) {
            return Cow::Borrowed(text);
        }
        let mut protected = String::with_capacity(text.len() + text.len() / 4);
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            let taken = match (self.stand_in(char), trusted.and_then(|trusted| trusted.at_start(rest))) {
                (_, Some(literal)) => {
                    protected.push_str(&literal.text);
                    literal.text.len()
                }
                (Some(stand_in), None) => {
                    protected.push(stand_in);
                    char.len_utf8()
                }
                (None, None) => {
                    protected.push(char);
                    char.len_utf8()
                }
            };
            rest = &rest[taken..];
        }
        Cow::Owned(protected)
    }

    /// Turns stand-ins back into what they stand for.
    pub(super) fn restore<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text.bytes().any(|byte| byte >= STAND_IN_LEAD) {
            return Cow::Borrowed(text);
        }
        let original = |char: char| self.pairs.iter().find(|pair| pair.1 == char).map_or(char, |pair| pair.0);
        Cow::Owned(text.chars().map(original).collect())
    }

    fn stand_in(&self, char: char) -> Option<char> {
        self.pairs.iter().find(|pair| pair.0 == char).map(|pair| pair.1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::literals::Literal;
    use super::*;

    fn literals(texts: &[&str]) -> Literals {
        let literal =
            |(text, id): (&&str, u32)| Literal { text: (*text).to_owned(), id, strip_left: false, strip_right: false };
        Literals::new(texts.iter().zip(0..).map(literal).collect())
    }

    #[test]
    fn no_reserved_character_is_left_and_all_come_back() {
        let control = literals(&["<|end|>", "[INST]", "▁<PRE>"]);
        let reserved = reserved_chars(&control);
        assert_eq!(reserved, ['<', '>', '[', ']', '▁']);
        for text in ["", "plain", "<|end|>", "x[0] > y<z>▁", "\u{F0000}<\u{F0001}\u{10FFFD}"] {
            let guard = Guard::new(&reserved, [text].into_iter()).unwrap();
            let protected = guard.protect(text, None);
            assert!(!protected.contains(reserved.as_slice()), "{protected}");
            assert_eq!(guard.restore(&protected), text);
        }
    }

    #[test]
    fn trusted_literals_pass() {
        let reserved = ['<', '>'];
        let guard = Guard::new(&reserved, ["<b></think>"].into_iter()).unwrap();
        let trusted = literals(&["</think>"]);
        assert_eq!(guard.protect("<b></think>", Some(&trusted)), "\u{F0000}b\u{F0001}</think>");
    }

    #[test]
    fn a_text_that_uses_every_stand_in_is_refused() {
        let all: String = STAND_INS.filter_map(char::from_u32).collect();
        assert_eq!(Guard::new(&['<'], [all.as_str()].into_iter()), Err(RenderError::NoStandIns { needed: 1 }));
    }
}
