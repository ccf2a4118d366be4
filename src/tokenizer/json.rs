//! Vocabularies of Hugging Face folders: `tokenizer.json`, with what `tokenizer_config.json` adds to it.
//!
//! The file format is that of the `tokenizers` library. It is read into plain data and translated: the library never
//! sees the file, and a part of the format that is not translated here is an error that names it.

use super::TokenizerError;
use super::encoder::{Alphabet, LeadingScope, LeadingSpace, Normalisation, SPACE_MARK, Shape, SpaceSplit, Split};
use super::json_file::{
    AddedToken, ConfigFile, ModelFile, NormalizerFile, PatternFile, PostProcessorFile, PreTokenizerFile, TemplateFile,
    TemplatePiece, TokenName, TokenizerFile,
};
use super::pre_tokenizer::GPT2;
use super::vocabulary::{Entry, Merging, Parts, Role, SpecialTokens, Tokenizer, looks_like_marker};
use serde::Deserialize;
use std::collections::HashMap;

const TOKENIZER_JSON: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const TOKENIZER_BYTES_MAX: usize = 256 * 1024 * 1024;
const CONFIG_BYTES_MAX: usize = 16 * 1024 * 1024;
const STEPS_MAX: usize = 32;

/// The files of a folder that describe its tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonFiles<'a> {
    /// `tokenizer.json`
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`
    pub config: Option<&'a [u8]>,
    /// `chat_template.jinja`, which goes before a template in the configuration.
    pub chat_template: Option<&'a [u8]>,
}

impl Tokenizer {
    /// `vocab_size` is the number of rows of the model's embedding: every id has to be below it.
    pub fn from_json(files: JsonFiles<'_>, vocab_size: usize) -> Result<Self, TokenizerError> {
        let file: TokenizerFile = parse(TOKENIZER_JSON, files.tokenizer, TOKENIZER_BYTES_MAX)
            .map_err(|error| unknown_model(files.tokenizer).unwrap_or(error))?;
        let config: ConfigFile = match files.config {
            Some(bytes) => parse(TOKENIZER_CONFIG, bytes, CONFIG_BYTES_MAX)?,
            None => ConfigFile::default(),
        };
        let chat_template = chat_template(&files, &config)?;
        let model = check_model(file.model)?;
        let entries = entries(model.vocab, file.added_tokens)?;
        let special = special_tokens(&entries, &config, file.post_processor)?;
        let merging = Merging {
            unk_token: model.unk_token,
            fuse_unk: model.fuse_unk,
            byte_fallback: model.byte_fallback,
            ignore_merges: model.ignore_merges,
        };
        let merges = model.merges.into_iter().enumerate().map(|(rank, merge)| merge.into_pair(rank));
        Self::build(Parts {
            vocab_size,
            entries,
            merges: merges.collect::<Result<_, _>>()?,
            merging,
            shape: shape(file.normalizer, file.pre_tokenizer)?,
            special,
            chat_template,
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(file: &'static str, bytes: &'a [u8], bytes_max: usize) -> Result<T, TokenizerError> {
    if bytes.len() > bytes_max {
        return Err(TokenizerError::FileTooLarge { file, bytes: bytes.len(), bytes_max });
    }
    serde_json::from_slice(bytes).map_err(|source| TokenizerError::Json { file, source })
}

/// Other kinds of model have other fields: says so rather than which field was missing.
fn unknown_model(tokenizer: &[u8]) -> Option<TokenizerError> {
    #[derive(Deserialize)]
    struct OnlyKind {
        model: Kind,
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    let found = serde_json::from_slice::<OnlyKind>(tokenizer).ok()?.model.kind;
    (found != "BPE").then_some(TokenizerError::UnknownModel { found, known: "BPE" })
}

fn check_model(model: ModelFile) -> Result<ModelFile, TokenizerError> {
    if let Some(found) = model.kind.as_deref().filter(|kind| *kind != "BPE") {
        return Err(TokenizerError::UnknownModel { found: found.to_owned(), known: "BPE" });
    }
    let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let unsupported = |part, found: String| Err(TokenizerError::Unsupported { part, found });
    if is_set(&model.continuing_subword_prefix) {
        return unsupported("continuing_subword_prefix", format!("{:?}", model.continuing_subword_prefix));
    }
    if is_set(&model.end_of_word_suffix) {
        return unsupported("end_of_word_suffix", format!("{:?}", model.end_of_word_suffix));
    }
    match model.dropout {
        None => Ok(model),
        Some(0.0) => Ok(model),
        // Dropout makes encoding random: it is for training.
        Some(dropout) => unsupported("dropout", dropout.to_string()),
    }
}

fn entries(vocab: HashMap<String, u32>, added: Vec<AddedToken>) -> Result<Vec<Entry>, TokenizerError> {
    let mut by_text: HashMap<String, Entry> = HashMap::with_capacity(vocab.len() + added.len());
    for (text, id) in vocab {
        let entry = Entry { id, text: text.clone(), role: Role::Piece, strip_left: false, strip_right: false };
        by_text.insert(text, entry);
    }
    for token in added {
        let AddedToken { id, content, special, lstrip, rstrip } = token;
        let role = match special {
            true => Role::Control,
            false if looks_like_marker(&content) => Role::SoftControl,
            false => Role::Added,
        };
        let entry = Entry { id, text: content.clone(), role, strip_left: lstrip, strip_right: rstrip };
        if let Some(known) = by_text.insert(content, entry)
            && known.id != id
        {
            return Err(TokenizerError::ConflictingId { token: known.text, first: known.id, second: id });
        }
    }
    let mut entries: Vec<Entry> = by_text.into_values().collect();
    // The map has a random order; nothing that follows may.
    entries.sort_unstable_by(|left, right| (left.id, &left.text).cmp(&(right.id, &right.text)));
    Ok(entries)
}

fn special_tokens(
    entries: &[Entry],
    config: &ConfigFile,
    post_processor: Option<PostProcessorFile>,
) -> Result<SpecialTokens, TokenizerError> {
    let find = |text: &str| entries.iter().find(|entry| entry.text == text).map(|entry| entry.id);
    let named = |name: &Option<TokenName>| name.as_ref().and_then(|name| find(name.text()));
    let mut begin = Vec::new();
    for token in post_processor.map(tokens_before_text).unwrap_or_default() {
        let id = find(&token).ok_or(TokenizerError::MissingToken { what: "post_processor", token })?;
        begin.push(id);
    }
    let bos = named(&config.bos_token).or(begin.first().copied());
    // Classes of the reference that put the begin token first whatever the file says.
    let class_adds_bos = config.tokenizer_class.as_deref().is_some_and(|class| {
        matches!(class.trim_end_matches("Fast"), "LlamaTokenizer" | "CodeLlamaTokenizer" | "GemmaTokenizer")
    });
    match config.add_bos_token {
        Some(false) => begin.clear(),
        Some(true) if begin.is_empty() => begin.extend(bos),
        None if begin.is_empty() && class_adds_bos => begin.extend(bos),
        Some(true) | None => {}
    }
    let eos = named(&config.eos_token);
    Ok(SpecialTokens {
        bos,
        eos,
        unk: named(&config.unk_token),
        pad: named(&config.pad_token),
        begin,
        end: eos.into_iter().collect(),
    })
}

fn tokens_before_text(post_processor: PostProcessorFile) -> Vec<String> {
    match post_processor {
        PostProcessorFile::TemplateProcessing { single } => single
            .into_iter()
            .map_while(|piece| match piece {
                TemplatePiece::SpecialToken { id } => Some(id),
                TemplatePiece::Sequence {} => None,
            })
            .collect(),
        PostProcessorFile::Sequence { processors } => processors.into_iter().flat_map(tokens_before_text).collect(),
        PostProcessorFile::ByteLevel {} | PostProcessorFile::Other => Vec::new(),
    }
}

fn chat_template(files: &JsonFiles<'_>, config: &ConfigFile) -> Result<Option<String>, TokenizerError> {
    if let Some(bytes) = files.chat_template {
        let reason = |error: std::str::Utf8Error| format!("{CHAT_TEMPLATE}: {error}");
        let text =
            std::str::from_utf8(bytes).map_err(|error| TokenizerError::ChatTemplate { reason: reason(error) })?;
        return Ok(Some(text.to_owned()));
    }
    Ok(match &config.chat_template {
        None => None,
        Some(TemplateFile::One(template)) => Some(template.clone()),
        Some(TemplateFile::Many(templates)) => {
            templates.iter().find(|named| named.name == "default").map(|named| named.template.clone())
        }
    })
}

/// Collects the steps of both parts, then decides what the vocabulary is written in.
#[derive(Default)]
struct ShapeBuilder {
    normalisation: Vec<Normalisation>,
    splits: Vec<Split>,
    is_byte_level: bool,
    marks_spaces: bool,
    leading: Option<LeadingSpace>,
    space_split: Option<SpaceSplit>,
    steps: usize,
}

fn shape(normalizer: Option<NormalizerFile>, pre_tokenizer: Option<PreTokenizerFile>) -> Result<Shape, TokenizerError> {
    let mut builder = ShapeBuilder::default();
    if let Some(normalizer) = normalizer {
        builder.add_normalizer(normalizer)?;
    }
    if let Some(pre_tokenizer) = pre_tokenizer {
        builder.add_pre_tokenizer(pre_tokenizer)?;
    }
    let alphabet = match (builder.is_byte_level, builder.marks_spaces) {
        (true, false) if builder.leading.is_none() => Alphabet::Bytes,
        (false, true) => Alphabet::Pieces {
            leading: builder.leading.unwrap_or(LeadingSpace { scope: LeadingScope::Never, unless_spaced: false }),
            split: builder.space_split.unwrap_or(SpaceSplit::Whole),
        },
        _ => {
            let found = format!(
                "with{} byte-level alphabet and with{} marked spaces",
                if builder.is_byte_level { "" } else { "out" },
                if builder.marks_spaces { "" } else { "out" }
            );
            return Err(TokenizerError::Unsupported { part: "pre_tokenizer", found });
        }
    };
    Ok(Shape { normalisation: builder.normalisation, splits: builder.splits, alphabet })
}

fn unsupported<T>(part: &'static str, found: impl Into<String>) -> Result<T, TokenizerError> {
    Err(TokenizerError::Unsupported { part, found: found.into() })
}

impl ShapeBuilder {
    fn count_step(&mut self) -> Result<(), TokenizerError> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            let what = "steps of the normaliser and pre-tokenizer";
            return Err(TokenizerError::TooMany { what, count: self.steps, count_max: STEPS_MAX });
        }
        Ok(())
    }

    fn add_normalizer(&mut self, normalizer: NormalizerFile) -> Result<(), TokenizerError> {
        self.count_step()?;
        match normalizer {
            NormalizerFile::Nfc => self.normalisation.push(Normalisation::Nfc),
            NormalizerFile::Nfd => self.normalisation.push(Normalisation::Nfd),
            NormalizerFile::Nfkc => self.normalisation.push(Normalisation::Nfkc),
            NormalizerFile::Nfkd => self.normalisation.push(Normalisation::Nfkd),
            NormalizerFile::Sequence { normalizers } => {
                for normalizer in normalizers {
                    self.add_normalizer(normalizer)?;
                }
            }
            NormalizerFile::Prepend { prepend } if is_space_mark(&prepend) && !self.marks_spaces => {
                self.leading = Some(LeadingSpace { scope: LeadingScope::EverySegment, unless_spaced: false });
            }
            NormalizerFile::Prepend { prepend } => return unsupported("normalizer Prepend of", format!("{prepend:?}")),
            NormalizerFile::Replace { pattern: PatternFile::String(from), content } => {
                if from == " " && is_space_mark(&content) {
                    self.marks_spaces = true;
                } else if from.is_empty() || self.marks_spaces {
                    return unsupported("normalizer Replace of", format!("{from:?}"));
                } else {
                    self.normalisation.push(Normalisation::Replace { from, to: content });
                }
            }
            NormalizerFile::Replace { pattern: PatternFile::Regex(pattern), .. } => {
                return unsupported("normalizer Replace of pattern", format!("{pattern:?}"));
            }
        }
        Ok(())
    }

    fn add_pre_tokenizer(&mut self, pre_tokenizer: PreTokenizerFile) -> Result<(), TokenizerError> {
        self.count_step()?;
        if self.is_byte_level {
            return unsupported("pre_tokenizer step", "behind ByteLevel");
        }
        match pre_tokenizer {
            PreTokenizerFile::Sequence { pretokenizers } => {
                for pre_tokenizer in pretokenizers {
                    self.add_pre_tokenizer(pre_tokenizer)?;
                }
            }
            PreTokenizerFile::Split { pattern, behavior, invert } => self.add_split(pattern, &behavior, invert)?,
            PreTokenizerFile::ByteLevel { add_prefix_space: true, .. } => {
                return unsupported("pre_tokenizer ByteLevel", "with add_prefix_space");
            }
            PreTokenizerFile::ByteLevel { add_prefix_space: false, use_regex } => {
                self.is_byte_level = true;
                if use_regex {
                    self.splits.push(Split::pattern(GPT2, true)?);
                }
            }
            PreTokenizerFile::Digits { individual_digits } => {
                self.splits.push(Split::Digits { individual: individual_digits });
            }
            PreTokenizerFile::Metaspace { replacement, prepend_scheme, add_prefix_space, split } => {
                if !is_space_mark(&replacement) {
                    return unsupported("pre_tokenizer Metaspace with replacement", format!("{replacement:?}"));
                }
                self.marks_spaces = true;
                let scope = leading_scope(prepend_scheme.as_deref(), add_prefix_space)?;
                self.leading = Some(LeadingSpace { scope, unless_spaced: true });
                self.space_split = Some(if split.unwrap_or(true) { SpaceSplit::Each } else { SpaceSplit::Whole });
            }
        }
        Ok(())
    }

    fn add_split(&mut self, pattern: PatternFile, behavior: &str, invert: bool) -> Result<(), TokenizerError> {
        match (pattern, behavior, invert) {
            (PatternFile::Regex(pattern), "Isolated", _) => self.splits.push(Split::pattern(&pattern, true)?),
            (PatternFile::Regex(pattern), "Removed", true) => self.splits.push(Split::pattern(&pattern, false)?),
            // No space is left to split at where all have been marked.
            (PatternFile::String(text), _, _) if text == " " && self.marks_spaces => {}
            (_, behavior, invert) => {
                return unsupported("pre_tokenizer Split", format!("{behavior:?} with invert {invert}"));
            }
        }
        Ok(())
    }
}

fn leading_scope(scheme: Option<&str>, add_prefix_space: Option<bool>) -> Result<LeadingScope, TokenizerError> {
    match (scheme, add_prefix_space) {
        (Some("never"), _) | (None, Some(false)) => Ok(LeadingScope::Never),
        (Some("first"), _) => Ok(LeadingScope::Beginning),
        (Some("always"), _) | (None, Some(true) | None) => Ok(LeadingScope::EverySegment),
        (Some(other), _) => unsupported("pre_tokenizer Metaspace with prepend_scheme", format!("{other:?}")),
    }
}

fn is_space_mark(text: &str) -> bool {
    text.chars().eq([SPACE_MARK])
}
