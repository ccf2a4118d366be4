//! The recorded outputs under `models/golden` and where to find them. How they were made: models/golden/README.md.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What the reference computed for one checkpoint.
#[derive(Debug, Deserialize)]
pub struct Golden {
    pub cases: Vec<Case>,
    pub chat: Option<Chat>,
    /// Quantised types: logits with activations rounded to eight bits.
    #[serde(default)]
    pub rounded: Vec<Rounded>,
}

/// The logits of the last position of a prompt.
#[derive(Debug, Deserialize)]
pub struct Rounded {
    pub prompt: Vec<u32>,
    pub values: Vec<f32>,
}

/// One prompt with logits at some positions, and the greedy continuation.
#[derive(Debug, Deserialize)]
pub struct Case {
    pub prompt: Vec<u32>,
    pub greedy: Vec<u32>,
    /// Best logit minus second best, one per greedy token.
    pub margins: Vec<f32>,
    pub logits: Vec<Logits>,
}

#[derive(Debug, Deserialize)]
pub struct Logits {
    pub position: usize,
    pub values: Vec<f32>,
}

/// A conversation as the reference renders and encodes it.
#[derive(Debug, Deserialize)]
pub struct Chat {
    pub messages: Vec<Message>,
    pub text: String,
    pub ids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

/// What the reference tokenizer of one kind says.
#[derive(Debug, Deserialize)]
pub struct Vectors {
    pub plain: Vec<Plain>,
    pub special: Vec<Special>,
    pub added: Vec<Added>,
    pub with_begin: WithBegin,
}

/// Text in which nothing is read as a special token.
#[derive(Debug, Deserialize)]
pub struct Plain {
    pub text: String,
    pub ids: Vec<u32>,
    pub decoded: String,
}

/// Text that names special tokens, read both ways.
#[derive(Debug, Deserialize)]
pub struct Special {
    pub text: String,
    pub parsed: Vec<u32>,
    pub as_text: Vec<u32>,
}

/// Text that names added tokens which are not flagged special.
#[derive(Debug, Deserialize)]
pub struct Added {
    pub text: String,
}

#[derive(Debug, Deserialize)]
pub struct WithBegin {
    pub text: String,
    pub ids: Vec<u32>,
}

pub const FAMILIES: &[&str] =
    &["llama2", "llama3", "codellama", "deepseek-coder", "mistral", "qwen2", "qwen2-yarn", "qwen2-window"];

/// (file, family whose golden it is held to)
pub const GGUF_FILES: &[(&str, &str)] = &[
    ("llama2-f32.gguf", "llama2"),
    ("llama3-f32.gguf", "llama3"),
    ("codellama-f16.gguf", "codellama"),
    ("deepseek-coder-bf16.gguf", "deepseek-coder"),
    ("mistral-f32.gguf", "mistral"),
    ("qwen2-f32.gguf", "qwen2"),
    ("qwen2-yarn-bf16.gguf", "qwen2-yarn"),
];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/golden")
}

pub fn folder(family: &str) -> PathBuf {
    root().join("checkpoints").join(family)
}

pub fn gguf(file: &str) -> PathBuf {
    root().join("gguf").join(file)
}

pub fn quantised(kind: &str) -> PathBuf {
    root().join("quantised").join(format!("{kind}.gguf"))
}

pub fn tokenizer(kind: &str) -> PathBuf {
    root().join("tokenizers").join(kind)
}

pub fn of_family(family: &str) -> Golden {
    read(&folder(family).join("golden.json"))
}

pub fn of_quantised(kind: &str) -> Golden {
    read(&root().join("quantised").join(format!("{kind}.golden.json")))
}

pub fn vectors(kind: &str) -> Vectors {
    read(&tokenizer(kind).join("vectors.json"))
}

pub fn read<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
