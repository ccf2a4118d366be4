//! From text to tokens: normalise, split, merge. Knows nothing of special tokens.

use super::TokenizerError;
use super::bytes;
use std::borrow::Cow;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, NFD, NFKC, NFKD};
use tokenizers::utils::SysRegex;
use tokenizers::{Model, NormalizedString, Normalizer};

/// What SentencePiece writes for a space.
pub(super) const SPACE_MARK: char = '▁';
/// A normaliser may not make text longer than this many times.
const GROWTH_FACTOR_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 16 * 1024;

/// What happens to text before it is merged.
#[derive(Debug)]
pub(super) struct Shape {
    pub normalisation: Vec<Normalisation>,
    pub splits: Vec<Split>,
    pub alphabet: Alphabet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Normalisation {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Replace { from: String, to: String },
}

#[derive(Debug)]
pub(super) enum Split {
    Pattern {
        regex: SysRegex,
        /// Text between two matches is a piece of its own, or else is dropped.
        keep_gaps: bool,
    },
    /// Every digit on its own, or each run of digits.
    Digits { individual: bool },
}

/// What the tokens of the vocabulary are written in.
#[derive(Debug)]
pub(super) enum Alphabet {
    /// Every byte is a character (GPT-2).
    Bytes,
    /// Text with marked spaces (SentencePiece).
    Pieces { leading: LeadingSpace, split: SpaceSplit },
}

/// Where SentencePiece puts a space that the text does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeadingSpace {
    pub scope: LeadingScope,
    /// Only before text that has none of its own.
    pub unless_spaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeadingScope {
    Never,
    /// At the beginning of the whole.
    Beginning,
    /// There and behind each special token.
    EverySegment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpaceSplit {
    /// The text is merged as a whole.
    Whole,
    /// A piece begins at each run of spaces. The same as `Whole`, but faster, where no token has a space inside.
    Runs,
    /// A piece begins at each space.
    Each,
}

/// Where a text stands in its prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Beginning,
    AfterToken,
    /// In an infill template, as a text that begins.
    InfillBeginning,
    /// In an infill template, as a text that continues.
    InfillInside,
}

#[derive(Debug)]
pub(super) struct Encoder {
    shape: Shape,
    bpe: BPE,
}

impl Split {
    pub(super) fn pattern(pattern: &str, keep_gaps: bool) -> Result<Self, TokenizerError> {
        let bad = |reason: String| TokenizerError::BadPattern { pattern: pattern.chars().take(100).collect(), reason };
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(bad(format!("{} bytes, the limit is {PATTERN_BYTES_MAX}", pattern.len())));
        }
        let regex = SysRegex::new(pattern).map_err(|error| bad(error.to_string()))?;
        Ok(Self::Pattern { regex, keep_gaps })
    }
}

impl Normalisation {
    /// How many times longer a text can become.
    fn growth_factor(&self) -> usize {
        match self {
            // The largest expansions of Unicode's normalisation forms (UAX 15).
            Self::Nfc => 3,
            Self::Nfd => 4,
            Self::Nfkc | Self::Nfkd => 18,
            Self::Replace { from, to } => to.len().div_ceil(from.len().max(1)).max(1),
        }
    }

    fn apply<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        match self {
            Self::Replace { from, to } if text.contains(from.as_str()) => Cow::Owned(text.replace(from.as_str(), to)),
            // ASCII is its own normal form in all four.
            Self::Nfc if !text.is_ascii() => normal_form(&NFC, &text),
            Self::Nfd if !text.is_ascii() => normal_form(&NFD, &text),
            Self::Nfkc if !text.is_ascii() => normal_form(&NFKC, &text),
            Self::Nfkd if !text.is_ascii() => normal_form(&NFKD, &text),
            Self::Replace { .. } | Self::Nfc | Self::Nfd | Self::Nfkc | Self::Nfkd => text,
        }
    }
}

fn normal_form(form: &impl Normalizer, text: &str) -> Cow<'static, str> {
    let mut normalized = NormalizedString::from(text);
    form.normalize(&mut normalized).expect("normal forms exist for all text");
    Cow::Owned(normalized.get().to_owned())
}

impl Shape {
    /// Refuses normalisers that would let a short text fill the memory.
    pub(super) fn check(&self) -> Result<(), TokenizerError> {
        let factor = self
            .normalisation
            .iter()
            .fold(1usize, |factor, normalisation| factor.saturating_mul(normalisation.growth_factor()));
        if factor > GROWTH_FACTOR_MAX {
            return Err(TokenizerError::GrowingNormaliser { factor, factor_max: GROWTH_FACTOR_MAX });
        }
        Ok(())
    }
}

impl Encoder {
    pub(super) fn new(shape: Shape, bpe: BPE) -> Self {
        Self { shape, bpe }
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode_into(&self, text: &str, position: Position, out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut text = Cow::Borrowed(text);
        for normalisation in &self.shape.normalisation {
            text = normalisation.apply(text);
        }
        match self.shape.alphabet {
            Alphabet::Bytes => {
                let mut word = String::new();
                for_each_piece(&self.shape.splits, &text, &mut |piece| {
                    word.clear();
                    bytes::encode_into(piece, &mut word);
                    self.merge_into(&word, out);
                });
            }
            Alphabet::Pieces { leading, split } => {
                let marked = mark_spaces(&text, leading, position);
                for_each_piece(&self.shape.splits, &marked, &mut |piece| {
                    for_each_spaced(split, piece, |word| self.merge_into(word, out));
                });
            }
        }
    }

    fn merge_into(&self, word: &str, out: &mut Vec<u32>) {
        let tokens = self.bpe.tokenize(word).expect("the unknown token was checked when the vocabulary was built");
        out.extend(tokens.iter().map(|token| token.id));
    }
}

fn for_each_piece<'t>(splits: &[Split], text: &'t str, visit: &mut dyn FnMut(&'t str)) {
    let Some((split, rest)) = splits.split_first() else { return visit(text) };
    let mut end_before = 0;
    let mut cut = |start: usize, end: usize, keep_gaps: bool| {
        if keep_gaps && end_before < start {
            for_each_piece(rest, &text[end_before..start], visit);
        }
        if start < end {
            for_each_piece(rest, &text[start..end], visit);
        }
        end_before = end;
    };
    match split {
        Split::Pattern { regex, keep_gaps } => {
            for (start, end) in regex.find_iter(text) {
                cut(start, end, *keep_gaps);
            }
            cut(text.len(), text.len(), *keep_gaps);
        }
        Split::Digits { individual } => {
            let mut run: Option<(usize, usize)> = None;
            for (at, char) in text.char_indices().filter(|(_, char)| char.is_numeric()) {
                match &mut run {
                    Some((_, end)) if *end == at && !individual => *end = at + char.len_utf8(),
                    _ => {
                        if let Some((start, end)) = run {
                            cut(start, end, true);
                        }
                        run = Some((at, at + char.len_utf8()));
                    }
                }
            }
            if let Some((start, end)) = run {
                cut(start, end, true);
            }
            cut(text.len(), text.len(), true);
        }
    }
}

fn mark_spaces(text: &str, leading: LeadingSpace, position: Position) -> String {
    let starts_spaced = text.starts_with([' ', SPACE_MARK]);
    let wants_space = match (position, leading.scope) {
        (_, LeadingScope::Never) | (Position::InfillInside, _) | (Position::AfterToken, LeadingScope::Beginning) => {
            false
        }
        // The families that ask for it were trained with SentencePiece itself, which does not look at the text.
        (Position::InfillBeginning, _) => true,
        (Position::Beginning, _) | (Position::AfterToken, LeadingScope::EverySegment) => {
            !(leading.unless_spaced && starts_spaced)
        }
    };
    let mut marked = String::with_capacity(text.len() + text.len() / 2 + 3);
    if wants_space {
        marked.push(SPACE_MARK);
    }
    for (index, between_spaces) in text.split(' ').enumerate() {
        if index > 0 {
            marked.push(SPACE_MARK);
        }
        marked.push_str(between_spaces);
    }
    marked
}

fn for_each_spaced(split: SpaceSplit, text: &str, mut visit: impl FnMut(&str)) {
    if split == SpaceSplit::Whole {
        return visit(text);
    }
    let mut start = 0;
    let mut end_of_last_mark = 0;
    for (at, _) in text.match_indices(SPACE_MARK) {
        let continues_run = at == end_of_last_mark && at > 0;
        end_of_last_mark = at + SPACE_MARK.len_utf8();
        if at > start && !(split == SpaceSplit::Runs && continues_run) {
            visit(&text[start..at]);
            start = at;
        }
    }
    if start < text.len() {
        visit(&text[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(splits: &[Split], text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        for_each_piece(splits, text, &mut |piece| pieces.push(piece.to_owned()));
        pieces
    }

    #[test]
    fn splits_cut_what_the_splits_before_left() {
        let words = || Split::pattern(r"\p{L}+", true).unwrap();
        assert_eq!(pieces(&[words()], "ab 12cd"), ["ab", " 12", "cd"]);
        assert_eq!(pieces(&[words(), Split::Digits { individual: true }], "ab 12"), ["ab", " ", "1", "2"]);
        assert_eq!(pieces(&[Split::Digits { individual: false }], "a12b3"), ["a", "12", "b", "3"]);
        assert_eq!(pieces(&[Split::pattern(r"\p{L}+", false).unwrap()], "ab 12cd"), ["ab", "cd"]);
        assert_eq!(pieces(&[], "ab"), ["ab"]);
    }

    #[test]
    fn spaces_split_by_run_or_each() {
        let spaced = |split, text| {
            let mut words = Vec::new();
            for_each_spaced(split, text, |word| words.push(word.to_owned()));
            words
        };
        assert_eq!(spaced(SpaceSplit::Runs, "▁▁a▁b▁▁"), ["▁▁a", "▁b", "▁▁"]);
        assert_eq!(spaced(SpaceSplit::Each, "▁▁a▁b"), ["▁", "▁a", "▁b"]);
        assert_eq!(spaced(SpaceSplit::Runs, "a▁▁b"), ["a", "▁▁b"]);
        assert_eq!(spaced(SpaceSplit::Whole, "a▁b"), ["a▁b"]);
    }

    #[test]
    fn growth_is_bounded() {
        let replace = |from: &str, to: &str| Normalisation::Replace { from: from.to_owned(), to: to.to_owned() };
        let shape = |normalisation| Shape { normalisation, splits: vec![], alphabet: Alphabet::Bytes };
        assert!(shape(vec![Normalisation::Nfc, replace(" ", "▁")]).check().is_ok());
        assert!(shape(vec![replace("a", &"a".repeat(100))]).check().is_err());
        assert!(shape(vec![replace("a", "aaaaaaaaaa"); 16]).check().is_err());
        assert!(shape(vec![Normalisation::Nfkc; 30]).check().is_err());
    }
}
