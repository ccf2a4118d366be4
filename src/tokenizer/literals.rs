//! Finds the texts of tokens inside a text: leftmost first, longest where several start.

/// How text beside a token is trimmed when the token is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub text: String,
    pub id: u32,
    /// White space before, or behind, belongs to the token.
    pub strip_left: bool,
    pub strip_right: bool,
}

/// A set of literals, indexed by first byte.
#[derive(Clone, Debug, Default)]
pub(super) struct Literals {
    /// Sorted by first byte, then longest first.
    entries: Vec<Literal>,
    /// For each first byte, where its entries start; one more for the end.
    starts: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'t> {
    Text(&'t str),
    Token(u32),
}

impl Literals {
    /// Empty texts are dropped.
    pub(super) fn new(mut entries: Vec<Literal>) -> Self {
        entries.retain(|literal| !literal.text.is_empty());
        let order = |literal: &Literal| (literal.text.as_bytes()[0], usize::MAX - literal.text.len());
        entries.sort_by_key(order);
        let starts = (0..=256)
            .map(|first| entries.partition_point(|literal| usize::from(literal.text.as_bytes()[0]) < first) as u32)
            .collect();
        Self { entries, starts }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Literal> {
        self.entries.iter()
    }

    /// The longest literal at the start of `text`.
    pub(super) fn at_start(&self, text: &str) -> Option<&Literal> {
        let first = usize::from(*text.as_bytes().first()?);
        let range = self.starts[first] as usize..self.starts[first + 1] as usize;
        self.entries[range].iter().find(|literal| text.as_bytes().starts_with(literal.text.as_bytes()))
    }

    /// Cuts `text` into tokens and the text between them, which is never empty.
    pub(super) fn split<'t>(&self, text: &'t str) -> Vec<Segment<'t>> {
        let mut segments = Vec::new();
        let mut text_start = 0;
        let mut at = 0;
        while !self.is_empty() && at < text.len() {
            let first = usize::from(text.as_bytes()[at]);
            let literal = (self.starts[first] != self.starts[first + 1])
                .then(|| {
                    self.entries_at(first).find(|literal| text.as_bytes()[at..].starts_with(literal.text.as_bytes()))
                })
                .flatten();
            let Some(literal) = literal else {
                at += 1;
                continue;
            };
            let mut before = &text[text_start..at];
            if literal.strip_left {
                before = before.trim_end();
            }
            if !before.is_empty() {
                segments.push(Segment::Text(before));
            }
            segments.push(Segment::Token(literal.id));
            at += literal.text.len();
            if literal.strip_right {
                at = text.len() - text[at..].trim_start().len();
            }
            text_start = at;
        }
        if text_start < text.len() {
            segments.push(Segment::Text(&text[text_start..]));
        }
        segments
    }

    fn entries_at(&self, first: usize) -> impl Iterator<Item = &Literal> {
        self.entries[self.starts[first] as usize..self.starts[first + 1] as usize].iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str, id: u32) -> Literal {
        Literal { text: text.to_owned(), id, strip_left: false, strip_right: false }
    }

    #[test]
    fn the_longest_of_the_leftmost_wins() {
        let literals = Literals::new(vec![literal("<a>", 1), literal("<a>b", 2), literal("é", 3), literal("", 4)]);
        use Segment::{Text, Token};
        for (text, segments) in [
            ("", vec![]),
            ("x", vec![Text("x")]),
            ("<a>", vec![Token(1)]),
            ("x<a>bc<a>", vec![Text("x"), Token(2), Text("c"), Token(1)]),
            ("<a<a>é", vec![Text("<a"), Token(1), Token(3)]),
        ] {
            assert_eq!(literals.split(text), segments, "{text}");
        }
    }

    #[test]
    fn tokens_take_the_white_space_they_ask_for() {
        let mut end = literal("<e>", 1);
        end.strip_right = true;
        let mut mask = literal("<m>", 2);
        mask.strip_left = true;
        let literals = Literals::new(vec![end, mask]);
        use Segment::{Text, Token};
        assert_eq!(literals.split("a <m> b <e> \n c"), [Text("a"), Token(2), Text(" b "), Token(1), Text("c")]);
    }
}
