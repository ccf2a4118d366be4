//! Text to tokens and back: encoding, incremental detokenising, stop strings, chat and infill templates.
//!
//! Vocabularies are byte-level BPE and SentencePiece BPE, from `tokenizer.json` or from GGUF metadata. Merging is the
//! `tokenizers` crate's; what stands before it (normalising, splitting) and behind it (bytes of a token) is done here,
//! on plain strings, from descriptions that are checked when a model is loaded: a vocabulary asks for something this
//! room does not know, and that is an error, never a guess.
//!
//! Text from users is never read as special tokens. Special tokens enter a prompt by id, from a card or a chat
//! template; see `guard` for how a conversation passes through a template without being able to forge them.

mod bytes;
mod chat;
mod detokenizer;
mod encoder;
mod error;
mod gguf;
mod guard;
mod json;
mod json_file;
mod literals;
mod pre_tokenizer;
mod renderer;
mod stop;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use chat::{ChatTemplate, TemplateError};
pub use detokenizer::Detokenizer;
pub use error::{RenderError, TokenizerError};
pub use gguf::GgufVocabulary;
pub use json::JsonFiles;
pub use renderer::{Rendered, Renderer, RendererOptions};
pub use stop::{Emitted, StopMatcher};
pub use vocabulary::Tokenizer;
