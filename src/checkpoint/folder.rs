//! A model folder as Hugging Face lays it out: `config.json`, side files and one or more safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::TensorInfo;
use super::error::{CheckpointError, HeaderError};
use super::limits::Limits;
use super::safetensors;
use super::source::Source;

/// Side files that are read at once and kept; all but the configuration may be absent.
const SIDE_FILES: &[&str] = &[
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The parts of a folder.
pub(super) struct Folder {
    pub config: serde_json::Value,
    pub files: BTreeMap<&'static str, Vec<u8>>,
    pub sources: Vec<(PathBuf, Source)>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

pub(super) fn read(path: &Path, limits: &Limits) -> Result<Folder, CheckpointError> {
    let mut files = BTreeMap::new();
    for name in SIDE_FILES {
        let bytes_max = if *name == "tokenizer.json" { limits.tokenizer_bytes_max } else { limits.side_file_bytes_max };
        if let Some(bytes) = read_side_file(&path.join(name), bytes_max)? {
            files.insert(*name, bytes);
        }
    }
    let config = match files.get("config.json") {
        Some(bytes) => parse_json(&path.join("config.json"), bytes)?,
        None => return Err(missing(path, "config.json")),
    };
    let (sources, tensors) = read_tensors(path, limits)?;
    Ok(Folder { config, files, sources, tensors })
}

fn missing(path: &Path, what: impl Into<String>) -> CheckpointError {
    CheckpointError::MissingFile { path: path.to_owned(), missing: what.into() }
}

/// The bytes of a file of at most `bytes_max` bytes, or `None` if there is none.
fn read_side_file(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, CheckpointError> {
    let read_error = |source| CheckpointError::Read { path: path.to_owned(), source };
    let source = match Source::open(path) {
        Ok(source) => source,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(error)),
    };
    let bytes = source.bytes();
    if bytes > bytes_max {
        return Err(CheckpointError::FileTooLarge { path: path.to_owned(), bytes, bytes_max });
    }
    Ok(Some(source.read(0, bytes as usize).map_err(read_error)?.into_owned()))
}

fn parse_json<T: for<'de> Deserialize<'de>>(path: &Path, bytes: &[u8]) -> Result<T, CheckpointError> {
    serde_json::from_slice(bytes).map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
}

type Sources = Vec<(PathBuf, Source)>;

fn read_tensors(path: &Path, limits: &Limits) -> Result<(Sources, BTreeMap<String, TensorInfo>), CheckpointError> {
    let index_path = path.join(INDEX);
    let (shards, listed) = if path.join(SINGLE).exists() {
        (vec![SINGLE.to_owned()], BTreeMap::new())
    } else if let Some(bytes) = read_side_file(&index_path, limits.side_file_bytes_max)? {
        let index: Index = parse_json(&index_path, &bytes)?;
        (shard_names(&index_path, &index, limits)?, index.weight_map)
    } else {
        return Err(missing(path, format!("{SINGLE} and {INDEX}; only the safetensors format is read")));
    };

    let mut sources = Vec::new();
    let mut tensors = BTreeMap::new();
    for shard in shards {
        let shard_path = path.join(&shard);
        let source = match Source::open(&shard_path) {
            Ok(source) => source,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(path, format!("{shard}, a shard named in {INDEX}")));
            }
            Err(source) => return Err(CheckpointError::Read { path: shard_path, source }),
        };
        let header_error = |source| CheckpointError::Header { path: shard_path.clone(), source };
        let shard_tensors = safetensors::read_header(&source, sources.len(), limits).map_err(header_error)?;
        for (name, info) in shard_tensors {
            if tensors.contains_key(&name) {
                return Err(header_error(HeaderError::Duplicate { what: "tensor", name }));
            }
            tensors.insert(name, info);
        }
        sources.push((shard_path, source));
    }
    if let Some((name, shard)) = listed.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        return Err(CheckpointError::NoSuchTensor { path: path.join(shard), name: name.clone() });
    }
    Ok((sources, tensors))
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The distinct shards of an index. A name that could leave the folder is refused, not cleaned.
fn shard_names(index_path: &Path, index: &Index, limits: &Limits) -> Result<Vec<String>, CheckpointError> {
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    if names.len() > limits.shards_max {
        let (found, limit) = (names.len() as u64, limits.shards_max as u64);
        let source = HeaderError::OverLimit { what: "number of shards", found, limit };
        return Err(CheckpointError::Header { path: index_path.to_owned(), source });
    }
    for name in &names {
        let is_plain = name.len() <= 255
            && name.ends_with(".safetensors")
            && !name.starts_with('.')
            && !name.contains(|c: char| matches!(c, '/' | '\\' | ':') || c.is_control());
        if !is_plain {
            let name = name.chars().take(255).collect();
            return Err(CheckpointError::ShardName { path: index_path.to_owned(), name });
        }
    }
    Ok(names.into_iter().cloned().collect())
}
