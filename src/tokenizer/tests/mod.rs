//! The room against its references: ids from the `tokenizers` and SentencePiece libraries, text from transformers.

mod chat;
mod golden;
mod hostile;
mod prompts;
mod streams;

use super::vocabulary::Tokenizer;
use super::{GgufVocabulary, JsonFiles};
use crate::checkpoint::{Checkpoint, Limits};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const VOCAB_SIZE: usize = 600;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn golden_folder(kind: &str) -> PathBuf {
    models().join("golden/tokenizers").join(kind)
}

fn from_json(kind: &str) -> Tokenizer {
    let tokenizer = std::fs::read(golden_folder(kind).join("tokenizer.json")).unwrap();
    let files = JsonFiles { tokenizer: &tokenizer, ..JsonFiles::default() };
    Tokenizer::from_json(files, VOCAB_SIZE).unwrap()
}

fn from_gguf(kind: &str) -> Tokenizer {
    let checkpoint = Checkpoint::open(&golden_folder(kind).join("tokenizer.gguf"), &Limits::default()).unwrap();
    let vocabulary = GgufVocabulary::from_metadata(checkpoint.gguf_metadata().unwrap()).unwrap();
    Tokenizer::from_gguf(&vocabulary, VOCAB_SIZE).unwrap()
}

fn shared(kind: &str) -> Arc<Tokenizer> {
    Arc::new(from_json(kind))
}
