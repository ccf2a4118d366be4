//! The same numbers from the metadata of a GGUF file, under `ARCHITECTURE.key`.
//!
//! Reference: `constants.py` of gguf-py for the keys, the conversion scripts of llama.cpp for what they mean.

use super::error::SpecError;
use crate::checkpoint::{Checkpoint, Metadata, TensorType};
use crate::nn::{Head, Rope, RopeScaling, Yarn, YarnEdges};

/// Metadata of one architecture.
pub(super) struct GgufConfig<'a> {
    checkpoint: &'a Checkpoint,
    metadata: &'a Metadata,
    architecture: &'static str,
}

impl<'a> GgufConfig<'a> {
    pub fn new(checkpoint: &'a Checkpoint, metadata: &'a Metadata, architecture: &'static str) -> Self {
        Self { checkpoint, metadata, architecture }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub fn count(&self, key: &str) -> Result<Option<usize>, SpecError> {
        Ok(self.metadata.u32(&self.key(key))?.map(|count| count as usize))
    }

    pub fn required_count(&self, key: &str) -> Result<usize, SpecError> {
        Ok(self.metadata.required(&self.key(key), Metadata::u32)? as usize)
    }

    pub fn number(&self, key: &str) -> Result<Option<f32>, SpecError> {
        Ok(self.metadata.f32(&self.key(key))?)
    }

    pub fn required_number(&self, key: &str) -> Result<f32, SpecError> {
        Ok(self.metadata.required(&self.key(key), Metadata::f32)?)
    }

    /// Errors unless the count is absent or has the only value we can serve.
    pub fn only_count(&self, key: &str, wanted: usize, supported: &'static str) -> Result<(), SpecError> {
        match self.count(key)? {
            Some(found) if found != wanted => {
                Err(SpecError::Unsupported { key: self.key(key), found: found.to_string(), supported })
            }
            _ => Ok(()),
        }
    }

    /// Width of one head: said outright, or what remains of the hidden size.
    pub fn head_dim(&self, hidden: usize, q_heads: usize) -> Result<usize, SpecError> {
        const KEY: &str = "attention.key_length";
        let head_dim = match self.count(KEY)? {
            Some(head_dim) => head_dim,
            None => super::llama::even_share(hidden, q_heads)?,
        };
        self.only_count("attention.value_length", head_dim, "the same length as keys")?;
        self.only_count("rope.dimension_count", head_dim, "the whole head")?;
        Ok(head_dim)
    }

    /// One logit per token of the vocabulary.
    pub fn vocab(&self) -> Result<usize, SpecError> {
        match self.metadata.array_len("tokenizer.ggml.tokens")? {
            Some(tokens) => Ok(tokens),
            None => self.required_count("vocab_size"),
        }
    }

    /// A head of its own is there or it is not; GGUF has no flag for it.
    pub fn head(&self) -> Head {
        if self.has("output.weight") { Head::Separate } else { Head::Tied }
    }

    pub fn has(&self, tensor: &str) -> bool {
        self.checkpoint.tensor(tensor).is_some()
    }

    pub fn rope(&self) -> Result<Rope, SpecError> {
        let theta = f64::from(self.number("rope.freq_base")?.unwrap_or(10_000.0));
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // An older spelling of linear scaling.
            None => self.number("rope.scale_linear")?,
        };
        let kind_key = self.key("rope.scaling.type");
        let kind = match self.metadata.string(&kind_key)? {
            Some(kind) => kind,
            None if factor.is_some() => "linear",
            None => "none",
        };
        let factor =
            || factor.map(f64::from).ok_or_else(|| SpecError::Missing { key: self.key("rope.scaling.factor") });
        let scaling = match kind {
            "none" => self.divisors()?.map_or(RopeScaling::Plain, RopeScaling::Divisors),
            "linear" => RopeScaling::Linear { factor: factor()? },
            "yarn" => RopeScaling::Yarn(self.yarn(factor()?)?),
            found => {
                let found = found.chars().take(64).collect();
                return Err(SpecError::Unsupported { key: kind_key, found, supported: "none, linear or yarn" });
            }
        };
        if self.has(ROPE_FREQUENCIES) && !matches!(scaling, RopeScaling::Divisors(_)) {
            let (key, found) = (kind_key, format!("{kind} beside {ROPE_FREQUENCIES}"));
            return Err(SpecError::Unsupported { key, found, supported: "one of the two" });
        }
        Ok(Rope { theta, scaling })
    }

    fn yarn(&self, factor: f64) -> Result<Yarn, SpecError> {
        let number = |key: &str, default: f64| Ok::<_, SpecError>(self.number(key)?.map_or(default, f64::from));
        let extra = number("rope.scaling.attn_factor", 1.0)?;
        let original_tokens = match self.count("rope.scaling.original_context_length")? {
            Some(original_tokens) => original_tokens,
            None => self.required_count("context_length")?,
        };
        Ok(Yarn {
            factor,
            original_tokens,
            beta_fast: number("rope.scaling.yarn_beta_fast", Yarn::BETA_FAST)?,
            beta_slow: number("rope.scaling.yarn_beta_slow", Yarn::BETA_SLOW)?,
            attention_factor: extra * Yarn::attention_factor(factor, 1.0),
            edges: YarnEdges::Truncated,
        })
    }

    /// The scaling of Llama 3 as converters store it: one divisor per frequency.
    fn divisors(&self) -> Result<Option<Vec<f32>>, SpecError> {
        if !self.has(ROPE_FREQUENCIES) {
            return Ok(None);
        }
        let raw = self.checkpoint.read(ROPE_FREQUENCIES)?;
        if raw.tensor_type != TensorType::F32 {
            let (key, found) = (ROPE_FREQUENCIES.to_owned(), raw.tensor_type.to_string());
            return Err(SpecError::Unsupported { key, found, supported: "F32" });
        }
        let values = raw.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
        Ok(Some(values.collect()))
    }
}

const ROPE_FREQUENCIES: &str = "rope_freqs.weight";
