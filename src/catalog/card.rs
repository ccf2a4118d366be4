//! One card: TOML in, checked values out. Unknown keys are errors.

use super::{CatalogError, ModelFacts};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is known of a family of models beyond its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    pub name: String,
    pub description: String,
    pub recognition: Recognition,
    /// Patterns with `*` of the names that other servers give to the family, whose vocabulary cannot be looked at.
    pub remote_names: Vec<String>,
    pub infill: Option<InfillCard>,
    pub chat: ChatCard,
    pub sampling: SamplingHints,
}

/// How a model of the family is recognised. Every condition given has to hold.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recognition {
    /// Patterns with `*`, compared without case; one has to fit one of the model's names.
    pub names: Vec<String>,
    /// One has to be the model's architecture.
    pub architectures: Vec<String>,
    /// All have to be special tokens of its vocabulary.
    pub requires_tokens: Vec<String>,
}

/// How the family wants code around a cursor.
#[derive(Clone, Debug, PartialEq)]
pub struct InfillCard {
    /// The order used unless another is asked for.
    pub order: String,
    /// Every order the family was trained for.
    pub orders: BTreeMap<String, Vec<Part>>,
    /// Texts that SentencePiece vocabularies encode like the beginning of a text, with their leading space.
    pub leading_space: Vec<Part>,
    /// Whether the begin token comes first; `None` does as the tokenizer does for plain text.
    pub begin_token: Option<bool>,
    /// Special tokens that end an infilled middle, besides the model's end token. Those a vocabulary lacks are ignored.
    pub stop_tokens: Vec<String>,
}

/// One piece of an infill prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Token(String),
    Prefix,
    Suffix,
}

#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatCard {
    /// Special tokens that end an answer, besides the model's end token. Those a vocabulary lacks are ignored.
    pub stop_tokens: Vec<String>,
    /// Jinja template for models that come without one.
    pub template: Option<String>,
}

/// Sampling the family's authors recommend, for calls that leave it open.
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingHints {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u32>,
    pub repetition_penalty: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CardFile {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(rename = "match", default)]
    recognition: Recognition,
    #[serde(default)]
    remote_names: Vec<String>,
    infill: Option<InfillFile>,
    #[serde(default)]
    chat: ChatCard,
    #[serde(default)]
    sampling: SamplingHints,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InfillFile {
    order: String,
    orders: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    leading_space: Vec<String>,
    begin_token: Option<bool>,
    #[serde(default)]
    stop_tokens: Vec<String>,
}

impl Card {
    /// `file` names the card in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, CatalogError> {
        let card: CardFile = toml::from_str(text)
            .map_err(|source| CatalogError::Malformed { card: file.to_owned(), source: Box::new(source) })?;
        let inconsistent = |reason: String| CatalogError::Inconsistent { card: file.to_owned(), reason };
        if card.name.is_empty() {
            return Err(inconsistent("the name is empty".to_owned()));
        }
        let infill = card.infill.map(InfillCard::from_file).transpose().map_err(inconsistent)?;
        Ok(Self {
            name: card.name,
            description: card.description,
            recognition: card.recognition,
            remote_names: card.remote_names,
            infill,
            chat: card.chat,
            sampling: card.sampling,
        })
    }
}

impl InfillCard {
    fn from_file(file: InfillFile) -> Result<Self, String> {
        let mut orders = BTreeMap::new();
        for (order, parts) in file.orders {
            let parts = parts.iter().map(|part| Part::parse(part)).collect::<Result<Vec<_>, _>>()?;
            for text in [Part::Prefix, Part::Suffix] {
                let found = parts.iter().filter(|part| **part == text).count();
                if found != 1 {
                    return Err(format!("infill order {order:?} holds {text:?} {found} times, it needs each once"));
                }
            }
            orders.insert(order, parts);
        }
        if !orders.contains_key(&file.order) {
            return Err(format!("the default infill order {:?} is not among its orders", file.order));
        }
        let leading_space = file
            .leading_space
            .iter()
            .map(|name| match name.as_str() {
                "prefix" => Ok(Part::Prefix),
                "suffix" => Ok(Part::Suffix),
                other => Err(format!("leading_space names {other:?}, known are \"prefix\" and \"suffix\"")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            order: file.order,
            orders,
            leading_space,
            begin_token: file.begin_token,
            stop_tokens: file.stop_tokens,
        })
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "{prefix}" => Ok(Self::Prefix),
            "{suffix}" => Ok(Self::Suffix),
            "" => Err("a part of the infill template is empty".to_owned()),
            token if token.starts_with('{') && token.ends_with('}') => {
                Err(format!("{token} is no part of an infill template, known are {{prefix}} and {{suffix}}"))
            }
            token => Ok(Self::Token(token.to_owned())),
        }
    }
}

impl Recognition {
    pub(super) fn matches(&self, facts: ModelFacts<'_>) -> bool {
        let is_stated = !(self.names.is_empty() && self.architectures.is_empty() && self.requires_tokens.is_empty());
        let fits_name = self.names.is_empty()
            || self.names.iter().any(|pattern| facts.names.iter().any(|name| fits_pattern(pattern, name)));
        let fits_architecture =
            self.architectures.is_empty() || self.architectures.iter().any(|known| known == facts.architecture);
        is_stated
            && fits_name
            && fits_architecture
            && self.requires_tokens.iter().all(|token| (facts.has_special_token)(token))
    }

    pub(super) fn specificity(&self) -> (bool, usize, bool) {
        (!self.names.is_empty(), self.requires_tokens.len(), !self.architectures.is_empty())
    }
}

/// `*` stands for any text; ASCII case does not matter. Linear in the name for each `*`.
pub(super) fn fits_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().expect("split yields at least one piece");
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(tail)
}
