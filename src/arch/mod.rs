//! Architectures: one file each, from a model's configuration to a [`DecoderSpec`].
//!
//! Knows `nn`, whose specs it writes, and `checkpoint`, whose configuration it reads. Has never seen a request. Every
//! number is held to a limit before anything is allocated on its word.

mod config;
mod error;
mod limits;
mod llama;
mod metadata;
mod qwen2;

use crate::checkpoint::Checkpoint;
use crate::nn::DecoderSpec;

pub use error::SpecError;

use config::Config;
use metadata::GgufConfig;

/// A checkpoint whose architecture is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    /// As the checkpoint calls it: `llama`, `mistral`, `qwen2`.
    pub architecture: String,
    pub spec: DecoderSpec,
}

/// How an architecture reads its configuration from either format.
struct Architecture {
    /// `model_type` in `config.json`.
    model_type: &'static str,
    from_config: fn(&Config<'_>) -> Result<DecoderSpec, SpecError>,
    /// `general.architecture` in GGUF and its reader; `mistral` is stored as `llama` there.
    gguf: Option<GgufReader>,
}

struct GgufReader {
    name: &'static str,
    from_gguf: fn(&GgufConfig<'_>) -> Result<DecoderSpec, SpecError>,
}

const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        model_type: "llama",
        from_config: llama::from_config,
        gguf: Some(GgufReader { name: "llama", from_gguf: llama::from_gguf }),
    },
    Architecture { model_type: "mistral", from_config: llama::from_mistral_config, gguf: None },
    Architecture {
        model_type: "qwen2",
        from_config: qwen2::from_config,
        gguf: Some(GgufReader { name: "qwen2", from_gguf: qwen2::from_gguf }),
    },
];

/// Reads the configuration of a checkpoint and says what to build.
pub fn recognise(checkpoint: &Checkpoint) -> Result<Recognised, SpecError> {
    let (architecture, spec) = match (checkpoint.config(), checkpoint.gguf_metadata()) {
        (Some(json), _) => {
            let config = Config::new(json)?;
            let model_type = config.model_type()?;
            let known = ARCHITECTURES.iter().find(|known| known.model_type == model_type);
            let known = known.ok_or_else(|| config.unknown_model(model_type, supported()))?;
            (known.model_type, (known.from_config)(&config)?)
        }
        (None, Some(metadata)) => {
            let name = metadata.required("general.architecture", crate::checkpoint::Metadata::string)?;
            let mut readers = ARCHITECTURES.iter().filter_map(|known| known.gguf.as_ref());
            let Some(reader) = readers.find(|reader| reader.name == name) else {
                return Err(SpecError::UnknownArchitecture {
                    found: name.chars().take(64).collect(),
                    supported: supported(),
                });
            };
            (reader.name, (reader.from_gguf)(&GgufConfig::new(checkpoint, metadata, reader.name))?)
        }
        (None, None) => return Err(SpecError::NoConfiguration),
    };
    limits::check(&spec)?;
    Ok(Recognised { architecture: architecture.to_owned(), spec })
}

/// The architectures we know, for errors.
fn supported() -> String {
    ARCHITECTURES.iter().map(|known| known.model_type).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
