//! Model files as they lie on disk: a GGUF file or a Hugging Face folder, behind one directory of named tensors.
//!
//! The readers are our own and bounded: a crafted file is an error before anything is allocated on its word. This
//! room knows nobody; what the tensors mean is for `arch` and `nn`, what the vocabulary means is for `tokenizer`.

mod directory;
mod error;
mod folder;
mod gguf;
mod limits;
mod metadata;
mod random;
mod safetensors;
mod source;
mod tensor_type;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use error::{CheckpointError, HeaderError, MetadataError};
pub use limits::Limits;
pub use metadata::{Array, Metadata, Value};
pub use random::{Noise, RandomTensor};
pub use source::ModelBytes;
pub use tensor_type::TensorType;

use source::Source;

/// An opened model: headers are read and checked, tensors are read when asked for.
pub struct Checkpoint {
    path: PathBuf,
    contents: Contents,
    /// The files tensors lie in, each with its path for errors.
    sources: Vec<(PathBuf, Source)>,
    tensors: BTreeMap<String, TensorInfo>,
}

enum Contents {
    Gguf { metadata: Metadata },
    Folder { config: serde_json::Value, files: BTreeMap<&'static str, Vec<u8>> },
}

/// Where one tensor lies and how it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub tensor_type: TensorType,
    /// Innermost axis last in both formats: a linear layer is `[out_features, in_features]`.
    pub shape: Vec<usize>,
    /// Bytes it takes.
    pub len: usize,
    source_index: usize,
    offset: u64,
}

/// One tensor as stored: `bytes` holds whole blocks of `tensor_type`, little-endian, rows one after the other.
#[derive(Debug, Clone)]
pub struct RawTensor<'a> {
    pub tensor_type: TensorType,
    pub shape: Vec<usize>,
    pub bytes: Cow<'a, [u8]>,
}

impl Checkpoint {
    /// Opens a GGUF file or a model folder.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, CheckpointError> {
        let read_error = |source| CheckpointError::Read { path: path.to_owned(), source };
        let about = std::fs::metadata(path).map_err(read_error)?;
        if about.is_dir() {
            let folder::Folder { config, files, sources, tensors } = folder::read(path, limits)?;
            return Ok(Self { path: path.to_owned(), contents: Contents::Folder { config, files }, sources, tensors });
        }
        if !about.is_file() {
            return Err(CheckpointError::NotAModel { path: path.to_owned(), found: "not a regular file".to_owned() });
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let found = "a single safetensors file; name the folder that holds it".to_owned();
            return Err(CheckpointError::NotAModel { path: path.to_owned(), found });
        }
        Self::from_gguf_source(path, Source::open(path).map_err(read_error)?, limits)
    }

    /// Opens a GGUF file that is in memory already, such as the one inside the binary; `name` stands for its path.
    pub fn from_gguf_bytes(name: &str, bytes: impl Into<ModelBytes>, limits: &Limits) -> Result<Self, CheckpointError> {
        Self::from_gguf_source(Path::new(name), Source::Memory(bytes.into()), limits)
    }

    fn from_gguf_source(path: &Path, source: Source, limits: &Limits) -> Result<Self, CheckpointError> {
        let gguf::Header { metadata, tensors } = gguf::read_header(&source, limits)
            .map_err(|source| CheckpointError::Header { path: path.to_owned(), source })?;
        let path = path.to_owned();
        Ok(Self { contents: Contents::Gguf { metadata }, sources: vec![(path.clone(), source)], tensors, path })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata of a GGUF file; `None` for a folder.
    #[must_use]
    pub fn gguf_metadata(&self) -> Option<&Metadata> {
        match &self.contents {
            Contents::Gguf { metadata } => Some(metadata),
            Contents::Folder { .. } => None,
        }
    }

    /// The parsed `config.json` of a folder; `None` for a GGUF file.
    #[must_use]
    pub fn config(&self) -> Option<&serde_json::Value> {
        match &self.contents {
            Contents::Gguf { .. } => None,
            Contents::Folder { config, .. } => Some(config),
        }
    }

    /// The bytes of a side file of a folder, such as `tokenizer.json`; `None` if it is absent or this is a GGUF file.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        match &self.contents {
            Contents::Gguf { .. } => None,
            Contents::Folder { files, .. } => files.get(name).map(Vec::as_slice),
        }
    }

    /// Ids of the tokens that end a generation, from `generation_config.json`, else `config.json`, or from the GGUF
    /// metadata. Empty if the model names none.
    pub fn eos_token_ids(&self) -> Result<Vec<u32>, CheckpointError> {
        match &self.contents {
            Contents::Gguf { metadata } => {
                let mut ids = Vec::new();
                for key in ["eos", "eot", "eom"] {
                    let id = metadata
                        .u32(&format!("tokenizer.ggml.{key}_token_id"))
                        .map_err(|source| CheckpointError::Metadata { path: self.path.clone(), source })?;
                    ids.extend(id.filter(|id| !ids.contains(id)));
                }
                Ok(ids)
            }
            Contents::Folder { config, files } => {
                if let Some(bytes) = files.get("generation_config.json") {
                    let path = self.path.join("generation_config.json");
                    let generation: serde_json::Value = serde_json::from_slice(bytes)
                        .map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
                    let ids = json_token_ids(&path, &generation)?;
                    if !ids.is_empty() {
                        return Ok(ids);
                    }
                }
                json_token_ids(&self.path.join("config.json"), config)
            }
        }
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape and storage of one tensor, without reading it.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Reads one tensor. Borrows from a model in memory, allocates its bytes for a file.
    pub fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let info = self
            .tensors
            .get(name)
            .ok_or_else(|| CheckpointError::NoSuchTensor { path: self.path.clone(), name: name.to_owned() })?;
        let (path, source) = &self.sources[info.source_index];
        let bytes = source
            .read(info.offset, info.len)
            .map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        Ok(RawTensor { tensor_type: info.tensor_type, shape: info.shape.clone(), bytes })
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.path)
            .field("is_gguf", &self.gguf_metadata().is_some())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

/// `eos_token_id` is absent, null, one id or a list of ids.
fn json_token_ids(path: &Path, json: &serde_json::Value) -> Result<Vec<u32>, CheckpointError> {
    const KEY: &str = "eos_token_id";
    let one = |value: &serde_json::Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| CheckpointError::Config {
            path: path.to_owned(),
            key: KEY,
            found: value.to_string().chars().take(80).collect(),
            expected: "a token id or a list of them",
        })
    };
    match json.get(KEY) {
        None | Some(serde_json::Value::Null) => Ok(Vec::new()),
        Some(serde_json::Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}
