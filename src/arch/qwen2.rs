//! Qwen2 (Qwen2, Qwen2.5, Qwen2.5-Coder): as Llama, with biased queries, keys and values. arXiv:2407.10671.
//! Reference: `modeling_qwen2.py` of transformers. Goldens: `models/golden/checkpoints/qwen2*`.

use super::config::Config;
use super::error::SpecError;
use super::llama::{Variant, spec_from, spec_from_gguf};
use super::metadata::GgufConfig;
use crate::nn::{AttentionBias, DecoderSpec, MlpBias, RotaryRows, Window};

/// Defaults of keys that a configuration leaves out.
const CONTEXT_TOKENS: usize = 32_768;
const WINDOW: usize = 4_096;
const MAX_WINDOW_LAYERS: usize = 28;
/// More layers than any real model has; the list of windows is not built beyond it.
const LAYERS_MAX: usize = 1_024;

pub(super) fn from_config(config: &Config<'_>) -> Result<DecoderSpec, SpecError> {
    spec_from(config, variant(window(config)?))
}

pub(super) fn from_gguf(config: &GgufConfig<'_>) -> Result<DecoderSpec, SpecError> {
    config.only_count("attention.sliding_window", 0, "0, no window; GGUF does not say which layers have it")?;
    spec_from_gguf(config, variant(Window::Full), RotaryRows::HalfSplit)
}

fn variant(window: Window) -> Variant {
    let (attention_bias, mlp_bias) = (AttentionBias::Qkv, MlpBias::None);
    Variant { context_tokens: CONTEXT_TOKENS, attention_bias, mlp_bias, window }
}

/// Which layers see a window: those named in `layer_types`, else those from `max_window_layers` on.
fn window(config: &Config<'_>) -> Result<Window, SpecError> {
    const LAYER_TYPES: &str = "layer_types";
    let is_used = config.flag("use_sliding_window")?.unwrap_or(false);
    let tokens = match config.count("sliding_window")? {
        Some(tokens) if is_used => Some(tokens),
        None if is_used && !config.is_null("sliding_window") => Some(WINDOW),
        _ => None,
    };
    let layers = config.required_count("num_hidden_layers")?.min(LAYERS_MAX);
    let Some(layer_types) = config.list(LAYER_TYPES)? else {
        let Some(tokens) = tokens else { return Ok(Window::Full) };
        let first = config.count("max_window_layers")?.unwrap_or(MAX_WINDOW_LAYERS);
        return Ok(Window::PerLayer((0..layers).map(|layer| (layer >= first).then_some(tokens)).collect()));
    };
    if layer_types.len() != layers {
        let (key, found) = (LAYER_TYPES.to_owned(), layer_types.len());
        return Err(SpecError::WrongCount { key, found, expected: layers });
    }
    let windows = layer_types.iter().map(|layer_type| match (layer_type.as_str(), tokens) {
        (Some("full_attention"), _) => Ok(None),
        (Some("sliding_attention"), Some(tokens)) => Ok(Some(tokens)),
        (Some("sliding_attention"), None) => Err(SpecError::Missing { key: "sliding_window".to_owned() }),
        _ => Err(SpecError::Unsupported {
            key: LAYER_TYPES.to_owned(),
            found: layer_type.to_string().chars().take(64).collect(),
            supported: "full_attention or sliding_attention",
        }),
    });
    Ok(Window::PerLayer(windows.collect::<Result<_, _>>()?))
}
