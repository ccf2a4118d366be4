//! Which tokenizer, card and chat template belong to an opened checkpoint.

use super::load::LoadError;
use crate::catalog::{Card, Catalog, ModelFacts};
use crate::checkpoint::Checkpoint;
use crate::tokenizer::{GgufVocabulary, JsonFiles, Renderer, RendererOptions, Tokenizer};
use std::sync::Arc;

/// What the files do not say themselves.
pub(super) struct Naming<'a> {
    /// The name the model is served under.
    pub(super) name: &'a str,
    pub(super) architecture: &'a str,
    /// A card chosen by hand.
    pub(super) card: Option<&'a str>,
}

pub(super) fn renderer(
    checkpoint: &Checkpoint,
    catalog: &Catalog,
    naming: &Naming<'_>,
    vocab: usize,
) -> Result<Renderer, LoadError> {
    let tokenizer = Arc::new(tokenizer(checkpoint, vocab)?);
    let card = card(checkpoint, catalog, naming, &tokenizer)?;
    match card {
        Some(card) => tracing::debug!(model = naming.name, card = card.name, "card found"),
        None => tracing::info!(model = naming.name, "no card matches: plain completion and the model's own chat only"),
    }
    let options = RendererOptions { end_tokens: checkpoint.eos_token_ids()?, ..RendererOptions::default() };
    Ok(Renderer::new(tokenizer, card, options)?)
}

fn tokenizer(checkpoint: &Checkpoint, vocab: usize) -> Result<Tokenizer, LoadError> {
    if let Some(metadata) = checkpoint.gguf_metadata() {
        return Ok(Tokenizer::from_gguf(&GgufVocabulary::from_metadata(metadata)?, vocab)?);
    }
    let path = checkpoint.path().to_owned();
    let tokenizer = checkpoint.file("tokenizer.json").ok_or(LoadError::NoTokenizer { path })?;
    let files = JsonFiles {
        tokenizer,
        config: checkpoint.file("tokenizer_config.json"),
        chat_template: checkpoint.file("chat_template.jinja"),
    };
    Ok(Tokenizer::from_json(files, vocab)?)
}

fn card<'a>(
    checkpoint: &Checkpoint,
    catalog: &'a Catalog,
    naming: &Naming<'_>,
    tokenizer: &Tokenizer,
) -> Result<Option<&'a Card>, LoadError> {
    if let Some(name) = naming.card {
        let known = || catalog.cards().map(|card| card.name.as_str()).collect::<Vec<_>>().join(", ");
        let card =
            catalog.card(name).ok_or_else(|| LoadError::UnknownCard { name: name.to_owned(), known: known() })?;
        return Ok(Some(card));
    }
    let stem = checkpoint.path().file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let title = checkpoint.gguf_metadata().and_then(|metadata| metadata.string("general.name").ok().flatten());
    let names: Vec<&str> = [Some(naming.name), stem.as_deref(), title].into_iter().flatten().collect();
    Ok(catalog.recognise(ModelFacts {
        names: &names,
        architecture: naming.architecture,
        has_special_token: &|text| tokenizer.special_id(text).is_some(),
    }))
}
