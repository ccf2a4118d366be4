//! Llama and its kin (Llama 1 to 3, CodeLlama, DeepSeek-Coder, Mistral, Codestral): pre-norm decoder, grouped queries,
//! gated SiLU MLP. arXiv:2302.13971, arXiv:2310.06825.
//! Reference: `modeling_llama.py` and `modeling_mistral.py` of transformers. Goldens: `models/golden/checkpoints/`.

use super::config::Config;
use super::error::SpecError;
use super::metadata::GgufConfig;
use crate::nn::{
    Activation, Attention, AttentionBias, DecoderSpec, Head, Mlp, MlpBias, Norm, QkNorm, Rope, RopeScaling, RotaryRows,
    TensorNames, Window,
};

/// `max_position_embeddings` where a configuration leaves it out.
const LLAMA_CONTEXT_TOKENS: usize = 2_048;
const MISTRAL_CONTEXT_TOKENS: usize = 131_072;
/// `sliding_window` of a Mistral configuration that leaves it out; `null` means none.
const MISTRAL_WINDOW: usize = 4_096;

pub(super) fn from_config(config: &Config<'_>) -> Result<DecoderSpec, SpecError> {
    let attention_bias = match config.flag("attention_bias")?.unwrap_or(false) {
        true => AttentionBias::QkvAndOutput,
        false => AttentionBias::None,
    };
    let mlp_bias = if config.flag("mlp_bias")?.unwrap_or(false) { MlpBias::All } else { MlpBias::None };
    spec_from(config, Variant { context_tokens: LLAMA_CONTEXT_TOKENS, attention_bias, mlp_bias, window: Window::Full })
}

pub(super) fn from_mistral_config(config: &Config<'_>) -> Result<DecoderSpec, SpecError> {
    let window = match config.count("sliding_window")? {
        Some(tokens) => Window::Sliding { tokens },
        None if config.is_null("sliding_window") => Window::Full,
        None => Window::Sliding { tokens: MISTRAL_WINDOW },
    };
    spec_from(
        config,
        Variant {
            context_tokens: MISTRAL_CONTEXT_TOKENS,
            attention_bias: AttentionBias::None,
            mlp_bias: MlpBias::None,
            window,
        },
    )
}

/// What the members of the family differ in.
pub(super) struct Variant {
    /// Default of `max_position_embeddings`.
    pub context_tokens: usize,
    pub attention_bias: AttentionBias,
    pub mlp_bias: MlpBias,
    pub window: Window,
}

/// The keys that Llama, Mistral and Qwen2 spell alike.
pub(super) fn spec_from(config: &Config<'_>, variant: Variant) -> Result<DecoderSpec, SpecError> {
    config.only("hidden_act", "silu")?;
    let hidden = config.required_count("hidden_size")?;
    let q_heads = config.required_count("num_attention_heads")?;
    let head_dim = match config.count("head_dim")? {
        Some(head_dim) => head_dim,
        None => even_share(hidden, q_heads)?,
    };
    let positions = config.count("max_position_embeddings")?.unwrap_or(variant.context_tokens);
    let rope = config.rope(positions)?;
    let width = config.required_count("intermediate_size")?;
    Ok(DecoderSpec {
        layers: config.required_count("num_hidden_layers")?,
        hidden,
        q_heads,
        kv_heads: config.count("num_key_value_heads")?.unwrap_or(q_heads),
        head_dim,
        vocab: config.required_count("vocab_size")?,
        context_tokens: context_tokens(positions, &rope),
        norm: Norm::Rms { eps: config.number("rms_norm_eps")?.unwrap_or(1e-6) as f32 },
        attention: Attention { bias: variant.attention_bias, qk_norm: QkNorm::None, rope, window: variant.window },
        mlp: Mlp::Gated { act: Activation::Silu, width, bias: variant.mlp_bias },
        head: if config.flag("tie_word_embeddings")?.unwrap_or(false) { Head::Tied } else { Head::Separate },
        names: TensorNames::HuggingFace,
    })
}

/// GGUF files of the whole family say `llama`; biases are there or they are not.
pub(super) fn from_gguf(config: &GgufConfig<'_>) -> Result<DecoderSpec, SpecError> {
    config.only_count("expert_count", 0, "0, a dense model")?;
    let bias = match (config.has("blk.0.attn_q.bias"), config.has("blk.0.attn_output.bias")) {
        (false, _) => AttentionBias::None,
        (true, false) => AttentionBias::Qkv,
        (true, true) => AttentionBias::QkvAndOutput,
    };
    let mlp_bias = if config.has("blk.0.ffn_gate.bias") { MlpBias::All } else { MlpBias::None };
    let window = match config.count("attention.sliding_window")? {
        Some(tokens) if tokens > 0 => Window::Sliding { tokens },
        _ => Window::Full,
    };
    let variant = Variant { context_tokens: LLAMA_CONTEXT_TOKENS, attention_bias: bias, mlp_bias, window };
    spec_from_gguf(config, variant, RotaryRows::Interleaved)
}

/// The keys that the family and Qwen2 share in GGUF.
pub(super) fn spec_from_gguf(
    config: &GgufConfig<'_>,
    variant: Variant,
    rows: RotaryRows,
) -> Result<DecoderSpec, SpecError> {
    let hidden = config.required_count("embedding_length")?;
    let q_heads = config.required_count("attention.head_count")?;
    let positions = config.count("context_length")?.unwrap_or(variant.context_tokens);
    let rope = config.rope()?;
    let width = config.required_count("feed_forward_length")?;
    Ok(DecoderSpec {
        layers: config.required_count("block_count")?,
        hidden,
        q_heads,
        kv_heads: config.count("attention.head_count_kv")?.unwrap_or(q_heads),
        head_dim: config.head_dim(hidden, q_heads)?,
        vocab: config.vocab()?,
        context_tokens: context_tokens(positions, &rope),
        norm: Norm::Rms { eps: config.required_number("attention.layer_norm_rms_epsilon")? },
        attention: Attention { bias: variant.attention_bias, qk_norm: QkNorm::None, rope, window: variant.window },
        mlp: Mlp::Gated { act: Activation::Silu, width, bias: variant.mlp_bias },
        head: config.head(),
        names: TensorNames::Gguf { rows },
    })
}

/// YaRN stretches the original context by its factor, whatever `max_position_embeddings` still says.
fn context_tokens(positions: usize, rope: &Rope) -> usize {
    match &rope.scaling {
        RopeScaling::Yarn(yarn) => positions.max((yarn.original_tokens as f64 * yarn.factor) as usize),
        RopeScaling::Plain | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) => {
            positions
        }
    }
}

/// Width of one head where a configuration leaves it to be computed.
pub(super) fn even_share(hidden: usize, q_heads: usize) -> Result<usize, SpecError> {
    match hidden.checked_div(q_heads) {
        Some(head_dim) if head_dim * q_heads == hidden => Ok(head_dim),
        _ => {
            Err(SpecError::NotDivisible { what: "hidden size", found: hidden, of: "number of heads", divisor: q_heads })
        }
    }
}
