//! Models as files: what loads, what is refused, and that it computes what the reference computes.
#![expect(clippy::unwrap_used, reason = "everything here is a test, its small functions included")]

mod bytes;
mod check;
mod determinism;
mod embedded;
mod families;
mod golden;
mod hostile_folder;
mod hostile_gguf;
mod strictness;
mod tokenizers;
