//! Vocabularies of GGUF files, from their metadata.

use super::TokenizerError;
use super::encoder::{Alphabet, LeadingScope, LeadingSpace, SPACE_MARK, Shape, SpaceSplit};
use super::pre_tokenizer;
use super::vocabulary::{Entry, Merging, Parts, Role, SpecialTokens, Tokenizer, looks_like_marker};
use crate::checkpoint::{Metadata, MetadataError};
use std::collections::{HashMap, HashSet};

/// Values of `tokenizer.ggml.token_type`.
const TYPE_NORMAL: i32 = 1;
const TYPE_USER_DEFINED: i32 = 4;
const TYPE_BYTE: i32 = 6;

/// SentencePiece itself stops at 16 characters; merges are derived from every way to cut a piece.
const PIECE_BYTES_MAX: usize = 512;

/// Infill tokens of CodeLlama, which converters have marked as plain text.
const UNMARKED_CONTROL: &[&str] = &["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"];

/// `tokenizer.ggml.*` and `tokenizer.chat_template`, borrowed from the metadata of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary<'a> {
    /// `gpt2` for byte-level BPE, `llama` for SentencePiece BPE.
    pub model: &'a str,
    pub pre: Option<&'a str>,
    pub tokens: &'a [String],
    pub token_types: &'a [i32],
    pub merges: Option<&'a [String]>,
    pub scores: Option<&'a [f32]>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    /// Further tokens that end an answer: end of turn, end of message.
    pub other_ends: Vec<u32>,
    /// Tokens named for infilling, whatever their part.
    pub infill: Vec<u32>,
    pub add_bos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub chat_template: Option<&'a str>,
}

impl<'a> GgufVocabulary<'a> {
    pub fn from_metadata(metadata: &'a Metadata) -> Result<Self, TokenizerError> {
        Self::read(metadata).map_err(|error| TokenizerError::Metadata { reason: error.to_string() })
    }

    fn read(metadata: &'a Metadata) -> Result<Self, MetadataError> {
        let ids = |names: &[&str]| {
            let ids = names.iter().map(|name| metadata.u32(&format!("tokenizer.ggml.{name}_token_id")));
            ids.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            model: metadata.required("tokenizer.ggml.model", Metadata::string)?,
            pre: metadata.string("tokenizer.ggml.pre")?,
            tokens: metadata.required("tokenizer.ggml.tokens", Metadata::string_array)?,
            token_types: metadata.required("tokenizer.ggml.token_type", Metadata::i32_array)?,
            merges: metadata.string_array("tokenizer.ggml.merges")?,
            scores: metadata.f32_array("tokenizer.ggml.scores")?,
            bos: metadata.u32("tokenizer.ggml.bos_token_id")?,
            eos: metadata.u32("tokenizer.ggml.eos_token_id")?,
            unk: metadata.u32("tokenizer.ggml.unknown_token_id")?,
            pad: metadata.u32("tokenizer.ggml.padding_token_id")?,
            other_ends: ids(&["eot", "eom"])?,
            infill: ids(&[
                "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle",
            ])?,
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
            chat_template: metadata.string("tokenizer.chat_template")?,
        })
    }
}

impl Tokenizer {
    /// `vocab_size` is the number of rows of the model's embedding: every id has to be below it.
    pub fn from_gguf(vocabulary: &GgufVocabulary<'_>, vocab_size: usize) -> Result<Self, TokenizerError> {
        let tokens = vocabulary.tokens.len();
        check_length("tokenizer.ggml.token_type", vocabulary.token_types.len(), tokens)?;
        let entries = entries(vocabulary);
        match vocabulary.model {
            "gpt2" => byte_level(vocabulary, vocab_size, entries),
            "llama" => sentence_piece(vocabulary, vocab_size, entries),
            other => Err(TokenizerError::UnknownModel { found: other.to_owned(), known: "gpt2, llama" }),
        }
    }
}

fn byte_level(
    vocabulary: &GgufVocabulary<'_>,
    vocab_size: usize,
    entries: Vec<Entry>,
) -> Result<Tokenizer, TokenizerError> {
    let pre_tokenizer = pre_tokenizer::by_name(vocabulary.pre)?;
    let merges = vocabulary.merges.unwrap_or_default().iter().enumerate().map(|(rank, merge)| {
        let pair = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
        pair.map(|(left, right)| (left.to_owned(), right.to_owned()))
            .ok_or_else(|| TokenizerError::MalformedMerge { rank, found: merge.clone() })
    });
    Tokenizer::build(Parts {
        vocab_size,
        merges: merges.collect::<Result<_, _>>()?,
        merging: Merging { ignore_merges: pre_tokenizer.ignore_merges, ..Merging::default() },
        shape: Shape {
            normalisation: pre_tokenizer.normalisation(),
            splits: pre_tokenizer.splits()?,
            alphabet: Alphabet::Bytes,
        },
        special: special_tokens(vocabulary, vocabulary.add_bos.unwrap_or(pre_tokenizer.add_bos))?,
        chat_template: vocabulary.chat_template.map(str::to_owned),
        entries,
    })
}

fn sentence_piece(
    vocabulary: &GgufVocabulary<'_>,
    vocab_size: usize,
    entries: Vec<Entry>,
) -> Result<Tokenizer, TokenizerError> {
    let missing = || TokenizerError::Metadata { reason: "tokenizer.ggml.scores is missing".to_owned() };
    let scores = vocabulary.scores.ok_or_else(missing)?;
    check_length("tokenizer.ggml.scores", scores.len(), vocabulary.tokens.len())?;
    // Numbers of the original LLaMA vocabulary, where a file leaves them out.
    let mut vocabulary = vocabulary.clone();
    vocabulary.bos = vocabulary.bos.or(Some(1));
    vocabulary.eos = vocabulary.eos.or(Some(2));
    vocabulary.unk = vocabulary.unk.or(Some(0));
    let scope = match vocabulary.add_space_prefix {
        Some(true) | None => LeadingScope::EverySegment,
        Some(false) => LeadingScope::Never,
    };
    let unk_token = vocabulary.unk.and_then(|id| vocabulary.tokens.get(id as usize)).cloned();
    Tokenizer::build(Parts {
        vocab_size,
        merges: merges_by_score(&entries, vocabulary.token_types, scores)?,
        merging: Merging { unk_token, fuse_unk: true, byte_fallback: true, ignore_merges: false },
        shape: Shape {
            normalisation: Vec::new(),
            splits: Vec::new(),
            alphabet: Alphabet::Pieces {
                leading: LeadingSpace { scope, unless_spaced: false },
                split: SpaceSplit::Whole,
            },
        },
        special: special_tokens(&vocabulary, vocabulary.add_bos.unwrap_or(true))?,
        chat_template: vocabulary.chat_template.map(str::to_owned),
        entries,
    })
}

/// SentencePiece merges whichever neighbours make the piece of the best score: the same as merging by rank, with a
/// merge for every way to cut a piece into two others, best scores first.
fn merges_by_score(
    entries: &[Entry],
    token_types: &[i32],
    scores: &[f32],
) -> Result<Vec<(String, String)>, TokenizerError> {
    let is_mergeable = |entry: &&Entry| entry.role == Role::Piece && token_types[entry.id as usize] == TYPE_NORMAL;
    let ids: HashMap<&str, u32> =
        entries.iter().filter(is_mergeable).map(|entry| (entry.text.as_str(), entry.id)).collect();
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    let mut cuts: Vec<(u32, u32, &str, &str)> = Vec::new();
    for entry in entries.iter().filter(is_mergeable) {
        if entry.text.len() > PIECE_BYTES_MAX {
            let (count, count_max) = (entry.text.len(), PIECE_BYTES_MAX);
            return Err(TokenizerError::TooMany { what: "bytes of a SentencePiece token", count, count_max });
        }
        cuts.clear();
        for (at, _) in entry.text.char_indices().skip(1) {
            let (left, right) = entry.text.split_at(at);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                cuts.push((left_id, right_id, left, right));
            }
        }
        cuts.sort_unstable();
        let score = scores[entry.id as usize];
        merges.extend(cuts.iter().map(|&(_, _, left, right)| (score, left, right)));
    }
    merges.sort_by(|left, right| right.0.total_cmp(&left.0));
    Ok(merges.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect())
}

fn entries(vocabulary: &GgufVocabulary<'_>) -> Vec<Entry> {
    let infill: HashSet<u32> = vocabulary.infill.iter().copied().collect();
    let is_sentence_piece = vocabulary.model == "llama";
    let tokens = vocabulary.tokens.iter().zip(vocabulary.token_types).zip(0u32..);
    tokens
        .map(|((text, &token_type), id)| {
            let role = match token_type {
                TYPE_NORMAL | TYPE_BYTE if infill.contains(&id) || UNMARKED_CONTROL.contains(&text.as_str()) => {
                    Role::SoftControl
                }
                TYPE_NORMAL | TYPE_BYTE => Role::Piece,
                TYPE_USER_DEFINED if infill.contains(&id) || looks_like_marker(text) => Role::SoftControl,
                TYPE_USER_DEFINED => Role::Added,
                // Unknown, control, unused, and whatever may come: none of them stands for text.
                _ => Role::Control,
            };
            // Such tokens are found in text, where spaces are not marked yet.
            let text = match role {
                Role::Added if is_sentence_piece => text.replace(SPACE_MARK, " "),
                Role::Piece | Role::Added | Role::Control | Role::SoftControl => text.clone(),
            };
            Entry { id, text, role, strip_left: false, strip_right: false }
        })
        .collect()
}

fn special_tokens(vocabulary: &GgufVocabulary<'_>, add_bos: bool) -> Result<SpecialTokens, TokenizerError> {
    let tokens = vocabulary.tokens.len();
    let named = [vocabulary.bos, vocabulary.eos, vocabulary.unk, vocabulary.pad];
    for id in named.into_iter().flatten().chain(vocabulary.other_ends.iter().copied()) {
        if id as usize >= tokens {
            let token = "named in the metadata".to_owned();
            return Err(TokenizerError::IdOutOfRange { token, id: u64::from(id), vocab_size: tokens });
        }
    }
    let mut end: Vec<u32> = vocabulary.eos.into_iter().chain(vocabulary.other_ends.iter().copied()).collect();
    end.sort_unstable();
    end.dedup();
    Ok(SpecialTokens {
        bos: vocabulary.bos,
        eos: vocabulary.eos,
        unk: vocabulary.unk,
        pad: vocabulary.pad,
        begin: vocabulary.bos.filter(|_| add_bos).into_iter().collect(),
        end,
    })
}

fn check_length(what: &'static str, found: usize, tokens: usize) -> Result<(), TokenizerError> {
    if found != tokens {
        return Err(TokenizerError::LengthMismatch { what, found, tokens });
    }
    Ok(())
}
