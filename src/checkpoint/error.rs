//! What can be wrong with a model on disk: which file, what was found, what was allowed.

use std::path::PathBuf;

/// A model could not be opened or one of its tensors could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is neither a GGUF file nor a model folder: {found}", path.display())]
    NotAModel { path: PathBuf, found: String },
    #[error("{} lacks {missing}", path.display())]
    MissingFile { path: PathBuf, missing: String },
    #[error("{} has {bytes} bytes, the limit is {bytes_max}", path.display())]
    FileTooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    #[error("{} is not valid JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{}: {source}", path.display())]
    Header { path: PathBuf, source: HeaderError },
    #[error("{}: {source}", path.display())]
    Metadata { path: PathBuf, source: MetadataError },
    #[error("{}: `{key}` is {found}, expected {expected}", path.display())]
    Config { path: PathBuf, key: &'static str, found: String, expected: &'static str },
    #[error("{}: shard name `{name}` is not a plain file name ending in .safetensors", path.display())]
    ShardName { path: PathBuf, name: String },
    #[error("{} has no tensor `{name}`", path.display())]
    NoSuchTensor { path: PathBuf, name: String },
}

/// A GGUF or safetensors header that does not hold together.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("{what} at byte {offset} needs {needed} bytes, {left} are left")]
    Truncated { what: &'static str, offset: u64, needed: u64, left: u64 },
    #[error("{what} is {found}, the limit is {limit}")]
    OverLimit { what: &'static str, found: u64, limit: u64 },
    #[error("magic bytes are {found:02x?}, expected `GGUF`")]
    Magic { found: [u8; 4] },
    #[error("GGUF version {found} is not supported, versions 2 and 3 in little-endian order are")]
    Version { found: u32 },
    #[error("tensor `{name}` has unknown type id {id}")]
    UnknownTensorType { name: String, id: u32 },
    #[error("{what} has unknown type id {id}")]
    UnknownType { what: &'static str, id: u32 },
    #[error("{what} `{name}` has type {found}, which no current file uses")]
    RemovedType { what: &'static str, name: String, found: &'static str },
    #[error("{what} at byte {offset} is not UTF-8")]
    NotUtf8 { what: &'static str, offset: u64 },
    #[error("boolean at byte {offset} is {found}, expected 0 or 1")]
    NotBool { offset: u64, found: u8 },
    #[error("{what} `{name}` appears twice")]
    Duplicate { what: &'static str, name: String },
    #[error("alignment is {found}, expected a power of two from 8 to {max}")]
    Alignment { found: u64, max: u64 },
    #[error("tensor `{name}` has shape {shape:?}, expected 1 to {axes_max} axes, each at least 1")]
    Shape { name: String, shape: Vec<u64>, axes_max: usize },
    #[error("tensor `{name}` has shape {shape:?}, more elements than can be counted")]
    ShapeOverflow { name: String, shape: Vec<u64> },
    #[error("tensor `{name}` has rows of {width} values, {tensor_type} stores blocks of {block}")]
    RaggedRows { name: String, width: usize, tensor_type: &'static str, block: usize },
    #[error("tensor `{name}` starts at {offset}, not a multiple of the alignment {alignment}")]
    Misaligned { name: String, offset: u64, alignment: u64 },
    #[error("tensor `{name}` covers data bytes {start}..{end}, the file holds {available}")]
    OutsideFile { name: String, start: u64, end: u64, available: u64 },
    #[error("tensor `{name}` ends at {end}, before its start {start}")]
    Reversed { name: String, start: u64, end: u64 },
    #[error("tensors `{first}` and `{second}` overlap at data byte {at}")]
    Overlap { first: String, second: String, at: u64 },
    #[error("data bytes {start}..{end} belong to no tensor")]
    Hole { start: u64, end: u64 },
    #[error("tensor `{name}` has {found} bytes, its type {tensor_type} and shape {shape:?} need {needed}")]
    Length { name: String, tensor_type: &'static str, shape: Vec<u64>, found: u64, needed: u64 },
    #[error("tensor `{name}` has unknown dtype `{dtype}`")]
    UnknownDtype { name: String, dtype: String },
    #[error("header is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the file is one of {count} parts; merge them into one GGUF file first")]
    Split { count: u64 },
    #[error("cannot read the header: {0}")]
    Read(#[from] std::io::Error),
}

/// A metadata entry that is absent or not of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("metadata lacks `{key}`")]
    Missing { key: String },
    #[error("metadata `{key}` is {found}, expected {expected}")]
    WrongType { key: String, found: &'static str, expected: &'static str },
    #[error("metadata `{key}` is {found}, which does not fit {expected}")]
    OutOfRange { key: String, found: String, expected: &'static str },
}
