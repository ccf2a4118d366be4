//! The file formats `json` reads: the parts of `tokenizer.json` and `tokenizer_config.json` that this room knows.

use super::TokenizerError;
use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::fmt;

#[derive(Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Option<NormalizerFile>,
    pub pre_tokenizer: Option<PreTokenizerFile>,
    pub post_processor: Option<PostProcessorFile>,
    pub model: ModelFile,
}

#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub special: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
}

#[derive(Deserialize)]
pub(super) struct ModelFile {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub vocab: HashMap<String, u32>,
    pub merges: Vec<MergeFile>,
    pub dropout: Option<f32>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub fuse_unk: bool,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
}

/// `"a b"` or `["a", "b"]`. There are hundreds of thousands of them, so they are not tried in turn.
pub(super) enum MergeFile {
    Pair(String, String),
    Joined(String),
}

impl<'de> Deserialize<'de> for MergeFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = MergeFile;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a merge: two tokens in an array, or in a string with a space between")
    }

    fn visit_str<E: de::Error>(self, joined: &str) -> Result<MergeFile, E> {
        Ok(MergeFile::Joined(joined.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<MergeFile, A::Error> {
        match (pair.next_element()?, pair.next_element()?, pair.next_element::<IgnoredAny>()?) {
            (Some(left), Some(right), None) => Ok(MergeFile::Pair(left, right)),
            _ => Err(de::Error::custom("a merge has two tokens")),
        }
    }
}

impl MergeFile {
    pub(super) fn into_pair(self, rank: usize) -> Result<(String, String), TokenizerError> {
        match self {
            Self::Pair(left, right) => Ok((left, right)),
            Self::Joined(joined) => match joined.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
                _ => Err(TokenizerError::MalformedMerge { rank, found: joined }),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum NormalizerFile {
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    Replace {
        pattern: PatternFile,
        content: String,
    },
    Prepend {
        prepend: String,
    },
    Sequence {
        normalizers: Vec<NormalizerFile>,
    },
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum PreTokenizerFile {
    Sequence {
        pretokenizers: Vec<PreTokenizerFile>,
    },
    Split {
        pattern: PatternFile,
        behavior: String,
        #[serde(default)]
        invert: bool,
    },
    ByteLevel {
        add_prefix_space: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Digits {
        individual_digits: bool,
    },
    Metaspace {
        replacement: String,
        prepend_scheme: Option<String>,
        add_prefix_space: Option<bool>,
        split: Option<bool>,
    },
}

#[derive(Deserialize)]
pub(super) enum PatternFile {
    String(String),
    Regex(String),
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(tag = "type")]
pub(super) enum PostProcessorFile {
    ByteLevel {},
    Sequence {
        processors: Vec<PostProcessorFile>,
    },
    TemplateProcessing {
        single: Vec<TemplatePiece>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
pub(super) enum TemplatePiece {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize, Default)]
pub(super) struct ConfigFile {
    pub bos_token: Option<TokenName>,
    pub eos_token: Option<TokenName>,
    pub unk_token: Option<TokenName>,
    pub pad_token: Option<TokenName>,
    pub add_bos_token: Option<bool>,
    pub tokenizer_class: Option<String>,
    pub chat_template: Option<TemplateFile>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum TokenName {
    Text(String),
    Described { content: String },
}

impl TokenName {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Described { content: text } => text,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum TemplateFile {
    One(String),
    Many(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
pub(super) struct NamedTemplate {
    pub name: String,
    pub template: String,
}
