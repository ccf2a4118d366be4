//! The tokenizer of one model.

use super::TokenizerError;
use super::bytes;
use super::encoder::{Alphabet, Encoder, Position, SPACE_MARK, Shape, SpaceSplit};
use super::literals::{Literal, Literals, Segment};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::models::bpe::{BPE, Vocab};

const TOKENS_MAX: usize = 2_000_000;
const MERGES_MAX: usize = 8_000_000;
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Text to token ids and token ids to bytes. Immutable, to be shared.
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    /// Tokens that stand for text and are found before merging, such as runs of spaces.
    added: Literals,
    pub(super) control: Literals,
    control_ids: HashMap<String, u32>,
    /// Control tokens that the vocabulary does not flag as special: `<think>` and its like.
    pub(super) soft_control: Literals,
    pieces: Pieces,
    vocab_size: usize,
    special: SpecialTokens,
    chat_template: Option<String>,
}

/// Tokens with a part to play, as the vocabulary names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SpecialTokens {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    /// What stands before a plain text.
    pub begin: Vec<u32>,
    /// Every token that ends an answer, `eos` among them.
    pub end: Vec<u32>,
}

/// One token of a vocabulary as a file describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub id: u32,
    pub text: String,
    pub role: Role,
    pub strip_left: bool,
    pub strip_right: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Made by merging.
    Piece,
    /// Stands for its text, and is found in it before merging.
    Added,
    /// Never stands for text.
    Control,
    /// As `Control`, though its file does not say so.
    SoftControl,
}

/// Everything a file says of a tokenizer, in the words of this room.
#[derive(Debug)]
pub(super) struct Parts {
    pub vocab_size: usize,
    pub entries: Vec<Entry>,
    pub merges: Vec<(String, String)>,
    pub merging: Merging,
    pub shape: Shape,
    pub special: SpecialTokens,
    pub chat_template: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Merging {
    pub unk_token: Option<String>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

impl Tokenizer {
    pub(super) fn build(parts: Parts) -> Result<Self, TokenizerError> {
        let Parts { vocab_size, entries, merges, merging, mut shape, special, chat_template } = parts;
        check_counts(entries.len(), merges.len())?;
        shape.check()?;
        let pieces = Pieces::new(&entries, vocab_size, &shape.alphabet)?;
        let bpe = build_bpe(&entries, merges, merging)?;
        let with_role = |wanted: &[Role]| {
            let literals = entries.iter().filter(|entry| wanted.contains(&entry.role)).map(|entry| Literal {
                text: entry.text.clone(),
                id: entry.id,
                strip_left: entry.strip_left,
                strip_right: entry.strip_right,
            });
            Literals::new(literals.collect())
        };
        let control = with_role(&[Role::Control, Role::SoftControl]);
        if let Alphabet::Pieces { split: split @ SpaceSplit::Whole, .. } = &mut shape.alphabet
            && !entries.iter().any(|entry| entry.role == Role::Piece && has_space_inside(&entry.text))
        {
            *split = SpaceSplit::Runs;
        }
        Ok(Self {
            encoder: Encoder::new(shape, bpe),
            added: with_role(&[Role::Added]),
            control_ids: control.iter().map(|literal| (literal.text.clone(), literal.id)).collect(),
            control,
            soft_control: with_role(&[Role::SoftControl]),
            pieces,
            vocab_size,
            special,
            chat_template,
        })
    }

    /// The tokens of a text as it would stand at the beginning of a prompt, without a begin token. Special tokens
    /// spelled out in the text are text.
    #[must_use]
    pub fn encode_text(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        self.encode_into(text, Position::Beginning, &mut tokens);
        tokens
    }

    pub(super) fn encode_into(&self, text: &str, position: Position, out: &mut Vec<u32>) {
        if self.added.is_empty() {
            return self.encoder.encode_into(text, position, out);
        }
        let mut position = position;
        for segment in self.added.split(text) {
            match segment {
                Segment::Text(text) => self.encoder.encode_into(text, position, out),
                Segment::Token(id) => out.push(id),
            }
            position = match position {
                Position::Beginning | Position::AfterToken => Position::AfterToken,
                Position::InfillBeginning | Position::InfillInside => Position::InfillInside,
            };
        }
    }

    /// The id of a special token by its text.
    #[must_use]
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.control_ids.get(text).copied()
    }

    /// Whether the token stands for no text: control tokens, and ids nobody named.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.is_special(id)
    }

    /// The bytes a token stands for; of a special token its name; nothing for ids nobody named. A token may be part of
    /// a UTF-8 character.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.pieces.bytes(id)
    }

    /// The number of tokens of the model, which can be larger than what the vocabulary names.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// What stands before a plain text: the begin token, or nothing.
    #[must_use]
    pub fn begin_tokens(&self) -> &[u32] {
        &self.special.begin
    }

    /// Tokens that end an answer according to the vocabulary.
    #[must_use]
    pub fn end_tokens(&self) -> &[u32] {
        &self.special.end
    }

    /// The chat template that came with the vocabulary.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    pub(super) fn special(&self) -> &SpecialTokens {
        &self.special
    }
}

fn check_counts(tokens: usize, merges: usize) -> Result<(), TokenizerError> {
    if tokens == 0 {
        return Err(TokenizerError::EmptyVocabulary);
    }
    for (what, count, count_max) in [("tokens", tokens, TOKENS_MAX), ("merges", merges, MERGES_MAX)] {
        if count > count_max {
            return Err(TokenizerError::TooMany { what, count, count_max });
        }
    }
    Ok(())
}

/// Control tokens are left out, and so is every merge that would make one: no text can be merged into a control token.
fn build_bpe(entries: &[Entry], merges: Vec<(String, String)>, merging: Merging) -> Result<BPE, TokenizerError> {
    let by_text: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.text.as_str(), entry)).collect();
    if let Some(unk) = &merging.unk_token
        && !by_text.contains_key(unk.as_str())
    {
        return Err(TokenizerError::MissingToken { what: "unk_token", token: unk.clone() });
    }
    let is_control = |entry: &Entry| matches!(entry.role, Role::Control | Role::SoftControl);
    let vocab: Vocab = entries
        .iter()
        .filter(|entry| !is_control(entry) || merging.unk_token.as_ref() == Some(&entry.text))
        .map(|entry| (entry.text.clone(), entry.id))
        .collect();
    let mut kept = Vec::with_capacity(merges.len());
    let mut merged = String::new();
    for (rank, (left, right)) in merges.into_iter().enumerate() {
        merged.clear();
        merged.push_str(&left);
        merged.push_str(&right);
        let all = [left.as_str(), right.as_str(), merged.as_str()].map(|text| by_text.get(text));
        // The library trusts merges and panics on one that makes a token longer than all others.
        if all.iter().any(Option::is_none) {
            return Err(TokenizerError::BadMerge { rank, left, right });
        }
        if !all.into_iter().flatten().any(|entry| is_control(entry)) {
            kept.push((left, right));
        }
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocab, kept)
        .fuse_unk(merging.fuse_unk)
        .byte_fallback(merging.byte_fallback)
        .ignore_merges(merging.ignore_merges);
    if let Some(unk) = merging.unk_token {
        builder = builder.unk_token(unk);
    }
    let library = |reason: String| TokenizerError::Library { reason };
    catch_unwind(AssertUnwindSafe(|| builder.build()))
        .map_err(|_| library("it panicked".to_owned()))?
        .map_err(|error| library(error.to_string()))
}

fn has_space_inside(text: &str) -> bool {
    text.trim_start_matches(SPACE_MARK).contains(SPACE_MARK)
}

/// What every token stands for, in one block of memory.
#[derive(Debug)]
struct Pieces {
    bytes: Vec<u8>,
    /// Where the bytes of each id end.
    ends: Vec<u32>,
    /// One bit for each id.
    special: Vec<u64>,
}

impl Pieces {
    fn new(entries: &[Entry], vocab_size: usize, alphabet: &Alphabet) -> Result<Self, TokenizerError> {
        let mut by_id: Vec<Option<&Entry>> = vec![None; vocab_size.min(TOKENS_MAX)];
        for entry in entries {
            let Some(place) = by_id.get_mut(entry.id as usize) else {
                let (token, id) = (entry.text.clone(), u64::from(entry.id));
                return Err(TokenizerError::IdOutOfRange { token, id, vocab_size });
            };
            if entry.text.len() > TOKEN_BYTES_MAX {
                let (count, count_max) = (entry.text.len(), TOKEN_BYTES_MAX);
                return Err(TokenizerError::TooMany { what: "bytes of a token", count, count_max });
            }
            if let Some(first) = place.replace(entry) {
                let (first, second) = (first.text.clone(), entry.text.clone());
                return Err(TokenizerError::DuplicateId { id: entry.id, first, second });
            }
        }
        let mut pieces = Self { bytes: Vec::new(), ends: Vec::new(), special: vec![0; vocab_size.div_ceil(64)] };
        for (id, entry) in by_id.into_iter().enumerate() {
            let is_text = entry.is_some_and(|entry| matches!(entry.role, Role::Piece | Role::Added));
            if !is_text {
                pieces.special[id / 64] |= 1 << (id % 64);
            }
            if let Some(entry) = entry {
                push_bytes(entry, alphabet, &mut pieces.bytes);
            }
            let end = u32::try_from(pieces.bytes.len()).map_err(|_| TokenizerError::TooMany {
                what: "bytes of all tokens",
                count: pieces.bytes.len(),
                count_max: u32::MAX as usize,
            })?;
            pieces.ends.push(end);
        }
        Ok(pieces)
    }

    fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..end as usize]
    }

    fn is_special(&self, id: u32) -> bool {
        let id = id as usize;
        id >= self.ends.len() || self.special[id / 64] >> (id % 64) & 1 == 1
    }
}

fn push_bytes(entry: &Entry, alphabet: &Alphabet, out: &mut Vec<u8>) {
    let is_text = matches!(entry.role, Role::Piece | Role::Added);
    match alphabet {
        Alphabet::Pieces { .. } if is_text => match bytes::byte_token(&entry.text) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(entry.text.replace(SPACE_MARK, " ").as_bytes()),
        },
        Alphabet::Bytes if entry.role == Role::Piece => {
            if !bytes::decode_into(&entry.text, out) {
                out.extend_from_slice(entry.text.as_bytes());
            }
        }
        Alphabet::Bytes | Alphabet::Pieces { .. } => out.extend_from_slice(entry.text.as_bytes()),
    }
}

/// Whether a token that its file does not flag as special is one nevertheless: it looks like a marker.
///
/// Families differ in what they flag (Qwen2.5 does not flag its infill tokens), and text must not be able to forge any.
pub(super) fn looks_like_marker(text: &str) -> bool {
    let text = text.trim_start_matches(SPACE_MARK);
    text.len() > 2 && (text.starts_with('<') && text.ends_with('>') || text.starts_with('[') && text.ends_with(']'))
}
