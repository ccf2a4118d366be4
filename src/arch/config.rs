//! `config.json` of a Hugging Face folder, read key by key: absent and `null` are the same, a wrong type is an error
//! that names the key.
//!
//! Reference: `configuration_utils.py` and `modeling_rope_utils.py` of transformers.

use serde_json::{Map, Value};

use super::error::SpecError;
use crate::nn::{Rope, RopeScaling, Yarn, YarnEdges};

/// The configuration, or one object inside it.
#[derive(Clone, Copy)]
pub(super) struct Config<'a> {
    object: &'a Map<String, Value>,
}

const NUMBER: &str = "a number";
const COUNT: &str = "a count";
const TEXT: &str = "a string";
const FLAG: &str = "true or false";

impl<'a> Config<'a> {
    pub fn new(json: &'a Value) -> Result<Self, SpecError> {
        let object = json.as_object().ok_or(SpecError::NotAnObject { found: kind(json) })?;
        let config = Self { object };
        if let Some(quantisation) = config.object("quantization_config")? {
            return Err(SpecError::Unsupported {
                key: "quantization_config".to_owned(),
                found: quantisation.text("quant_method")?.unwrap_or("given").chars().take(64).collect(),
                supported: "plain float weights in a folder; quantised weights are read from GGUF",
            });
        }
        Ok(config)
    }

    pub fn model_type(&self) -> Result<&'a str, SpecError> {
        match self.text("model_type")? {
            Some(model_type) => Ok(model_type),
            None => Err(self.missing("model_type")),
        }
    }

    /// The error for a model type that no file here describes.
    pub fn unknown_model(&self, model_type: &str, supported: String) -> SpecError {
        let found = model_type.chars().take(64).collect();
        if self.get("auto_map").is_some() {
            return SpecError::ForeignCode { found, supported };
        }
        SpecError::UnknownArchitecture { found, supported }
    }

    pub fn count(&self, key: &str) -> Result<Option<usize>, SpecError> {
        self.typed(key, COUNT, |value| value.as_u64().and_then(|count| usize::try_from(count).ok()))
    }

    pub fn required_count(&self, key: &str) -> Result<usize, SpecError> {
        self.count(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>, SpecError> {
        self.typed(key, NUMBER, Value::as_f64)
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, SpecError> {
        self.typed(key, FLAG, Value::as_bool)
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>, SpecError> {
        self.typed(key, TEXT, Value::as_str)
    }

    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>, SpecError> {
        self.typed(key, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// Whether the key is there and says `null`, where that differs from leaving it out.
    pub fn is_null(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(Value::is_null)
    }

    fn object(&self, key: &str) -> Result<Option<Config<'a>>, SpecError> {
        self.typed(key, "an object", |value| value.as_object().map(|object| Config { object }))
    }

    /// Errors unless the key is absent or has the only value we can serve.
    pub fn only(&self, key: &str, supported: &'static str) -> Result<(), SpecError> {
        match self.get(key) {
            Some(Value::String(found)) if found == supported => Ok(()),
            None => Ok(()),
            Some(found) => Err(SpecError::Unsupported { key: key.to_owned(), found: short(found), supported }),
        }
    }

    /// Rotation from either spelling: `rope_theta` and `rope_scaling` at the top, or both in `rope_parameters`.
    pub fn rope(&self, context_tokens: usize) -> Result<Rope, SpecError> {
        const THETA: &str = "rope_theta";
        const THETA_DEFAULT: f64 = 10_000.0;
        let parameters = self.object("rope_parameters")?;
        let scaling = match parameters {
            Some(parameters) => Some(parameters),
            None => self.object("rope_scaling")?,
        };
        let inner_theta = parameters.map(|parameters| parameters.number(THETA)).transpose()?.flatten();
        let theta = match inner_theta {
            Some(theta) => theta,
            None => self.number(THETA)?.unwrap_or(THETA_DEFAULT),
        };
        let partial = |config: &Config<'_>| config.number("partial_rotary_factor");
        for found in [partial(self)?, scaling.as_ref().map(partial).transpose()?.flatten()].into_iter().flatten() {
            if found != 1.0 {
                let (key, found) = ("partial_rotary_factor".to_owned(), found.to_string());
                return Err(SpecError::Unsupported { key, found, supported: "1, heads that are rotated whole" });
            }
        }
        let scaling = scaling.map_or(Ok(RopeScaling::Plain), |scaling| scaling.rope_scaling(self, context_tokens))?;
        Ok(Rope { theta, scaling })
    }

    fn rope_scaling(&self, outer: &Config<'_>, context_tokens: usize) -> Result<RopeScaling, SpecError> {
        let kind = match self.text("rope_type")? {
            Some(kind) => kind,
            None => self.text("type")?.unwrap_or("default"),
        };
        let factor = || self.number("factor")?.ok_or_else(|| self.missing("factor"));
        let original_tokens = || {
            const KEY: &str = "original_max_position_embeddings";
            let original = match outer.count(KEY)? {
                Some(original) => Some(original),
                None => self.count(KEY)?,
            };
            Ok::<_, SpecError>(original.unwrap_or(context_tokens))
        };
        match kind {
            "default" => Ok(RopeScaling::Plain),
            "linear" => Ok(RopeScaling::Linear { factor: factor()? }),
            "llama3" => {
                let required = |key: &str| self.number(key)?.ok_or_else(|| self.missing(key));
                Ok(RopeScaling::Llama3 {
                    factor: factor()?,
                    low_freq_factor: required("low_freq_factor")?,
                    high_freq_factor: required("high_freq_factor")?,
                    original_tokens: original_tokens()?,
                })
            }
            "yarn" => Ok(RopeScaling::Yarn(self.yarn(original_tokens()?, context_tokens)?)),
            found => Err(SpecError::Unsupported {
                key: "rope_type".to_owned(),
                found: found.chars().take(64).collect(),
                supported: "default, linear, llama3 or yarn",
            }),
        }
    }

    fn yarn(&self, original_tokens: usize, context_tokens: usize) -> Result<Yarn, SpecError> {
        let stretched = || context_tokens as f64 / original_tokens as f64;
        let factor = self.number("factor")?.unwrap_or_else(stretched);
        let mscales = (self.number("mscale")?, self.number("mscale_all_dim")?);
        let attention_factor = match (self.number("attention_factor")?, mscales) {
            (Some(attention_factor), _) => attention_factor,
            (None, (Some(mscale), Some(all_dim))) if mscale != 0.0 && all_dim != 0.0 => {
                Yarn::attention_factor(factor, mscale) / Yarn::attention_factor(factor, all_dim)
            }
            (None, _) => Yarn::attention_factor(factor, 1.0),
        };
        let edges = if self.flag("truncate")?.unwrap_or(true) { YarnEdges::Truncated } else { YarnEdges::Exact };
        let beta = |key, default| Ok::<_, SpecError>(self.number(key)?.filter(|beta| *beta != 0.0).unwrap_or(default));
        Ok(Yarn {
            factor,
            original_tokens,
            beta_fast: beta("beta_fast", Yarn::BETA_FAST)?,
            beta_slow: beta("beta_slow", Yarn::BETA_SLOW)?,
            attention_factor,
            edges,
        })
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, SpecError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match pick(value) {
                Some(picked) => Ok(Some(picked)),
                None => Err(SpecError::WrongType { key: key.to_owned(), found: short(value), expected }),
            },
        }
    }

    fn missing(&self, key: &str) -> SpecError {
        SpecError::Missing { key: key.to_owned() }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The value itself where it is short, else its kind.
fn short(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        scalar => scalar.to_string().chars().take(64).collect(),
    }
}
