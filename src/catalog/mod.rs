//! The cards: what is known of a family of models beyond its weights, as data. How it is recognised, how it wants code
//! around a cursor, where its answers end.
//!
//! Cards are embedded from `models/cards/` and extended or replaced by a directory setting. The format is described in
//! `models/README.md`. Knows nothing of tokenizers: who asks says which tokens a vocabulary has.

mod card;
#[cfg(test)]
mod tests;

pub use card::{Card, ChatCard, InfillCard, Part, Recognition, SamplingHints};

use card::fits_pattern;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Larger files are not cards.
const CARD_BYTES_MAX: u64 = 256 * 1024;
const CARDS_MAX: usize = 1000;

const EMBEDDED: &[(&str, &str)] = &[
    ("chatml.toml", include_str!("../../models/cards/chatml.toml")),
    ("codegemma.toml", include_str!("../../models/cards/codegemma.toml")),
    ("codellama.toml", include_str!("../../models/cards/codellama.toml")),
    ("codestral.toml", include_str!("../../models/cards/codestral.toml")),
    ("deepseek-coder.toml", include_str!("../../models/cards/deepseek-coder.toml")),
    ("llama-3.toml", include_str!("../../models/cards/llama-3.toml")),
    ("qwen2.5-coder.toml", include_str!("../../models/cards/qwen2.5-coder.toml")),
    ("sconce.toml", include_str!("../../models/cards/sconce.toml")),
    ("starcoder.toml", include_str!("../../models/cards/starcoder.toml")),
];

/// All known cards, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    cards: BTreeMap<String, Card>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("cannot read the cards in {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("card {} has {bytes} bytes, the limit is {bytes_max}", path.display())]
    CardTooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    #[error("{} holds more than {cards_max} cards", path.display())]
    TooManyCards { path: PathBuf, cards_max: usize },
    #[error("card {card}: {source}")]
    Malformed { card: String, source: Box<toml::de::Error> },
    #[error("card {card}: {reason}")]
    Inconsistent { card: String, reason: String },
    #[error("cards {first} and {second} have the same name {name:?}")]
    DuplicateName { name: String, first: String, second: String },
}

/// What is known of a model when its card is looked for.
#[derive(Clone, Copy)]
pub struct ModelFacts<'a> {
    /// The name it is served under, and others it goes by: the file's own name, `general.name`.
    pub names: &'a [&'a str],
    /// For example `qwen2`.
    pub architecture: &'a str,
    /// Whether the vocabulary has this text as a special token.
    pub has_special_token: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for ModelFacts<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ModelFacts")
            .field("names", &self.names)
            .field("architecture", &self.architecture)
            .finish_non_exhaustive()
    }
}

impl Catalog {
    /// The embedded cards and those of `directory` (`*.toml`, not its subdirectories), which replace embedded ones of
    /// the same name. A file that is not a valid card is an error.
    pub fn load(directory: Option<&Path>) -> Result<Self, CatalogError> {
        let mut catalog = Self { cards: parse_all(EMBEDDED.iter().map(|(file, text)| (file.to_string(), *text)))? };
        if let Some(directory) = directory {
            let texts = read_directory(directory)?;
            let cards = parse_all(texts.iter().map(|(path, text)| (path.display().to_string(), text.as_str())))?;
            catalog.cards.extend(cards);
        }
        Ok(catalog)
    }

    /// The card of that name, for a model whose card is set by hand.
    #[must_use]
    pub fn card(&self, name: &str) -> Option<&Card> {
        self.cards.get(name)
    }

    /// All cards in the order of their names.
    pub fn cards(&self) -> impl Iterator<Item = &Card> {
        self.cards.values()
    }

    /// The card of a model that another server serves under this name; the first in the order of their names.
    #[must_use]
    pub fn served_as(&self, model: &str) -> Option<&Card> {
        let fits = |card: &&Card| card.remote_names.iter().any(|pattern| fits_pattern(pattern, model));
        self.cards.values().find(fits)
    }

    /// The most specific card whose conditions the model meets: a named one before one known by its tokens, more
    /// tokens before fewer, a stated architecture before none; the first name decides what is left.
    #[must_use]
    pub fn recognise(&self, facts: ModelFacts<'_>) -> Option<&Card> {
        let mut best: Option<&Card> = None;
        for card in self.cards.values().filter(|card| card.recognition.matches(facts)) {
            if best.is_none_or(|best| card.recognition.specificity() > best.recognition.specificity()) {
                best = Some(card);
            }
        }
        best
    }
}

fn parse_all<'a>(files: impl Iterator<Item = (String, &'a str)>) -> Result<BTreeMap<String, Card>, CatalogError> {
    let mut cards = BTreeMap::new();
    let mut origins = BTreeMap::<String, String>::new();
    for (file, text) in files {
        let card = Card::parse(&file, text)?;
        if let Some(first) = origins.insert(card.name.clone(), file.clone()) {
            return Err(CatalogError::DuplicateName { name: card.name, first, second: file });
        }
        cards.insert(card.name.clone(), card);
    }
    Ok(cards)
}

fn read_directory(directory: &Path) -> Result<Vec<(PathBuf, String)>, CatalogError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| CatalogError::Unreadable { path, source }
    };
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if texts.len() == CARDS_MAX {
            return Err(CatalogError::TooManyCards { path: directory.to_owned(), cards_max: CARDS_MAX });
        }
        let bytes = std::fs::metadata(&path).map_err(unreadable(&path))?.len();
        if bytes > CARD_BYTES_MAX {
            return Err(CatalogError::CardTooLarge { path, bytes, bytes_max: CARD_BYTES_MAX });
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        texts.push((path, text));
    }
    texts.sort();
    Ok(texts)
}
