//! Limits that every spec is held to before anything is allocated on its word. Real models stay below each of them.

use std::fmt::Display;

use super::error::SpecError;
use crate::nn::{DecoderSpec, Mlp, Norm, RopeScaling};

const LAYERS_MAX: usize = 1_024;
const HIDDEN_MAX: usize = 65_536;
const HEADS_MAX: usize = 1_024;
const HEAD_DIM_MAX: usize = 1_024;
const MLP_WIDTH_MAX: usize = 1 << 20;
const VOCAB_MAX: usize = 1 << 21;
const CONTEXT_TOKENS_MAX: usize = 1 << 24;
const EPS_MIN: f32 = 1e-12;
const EPS_MAX: f32 = 1e-1;
/// The frequencies fall from one to about `1 / theta`, which needs a base above one.
const THETA_MIN: f64 = 1.5;
const THETA_MAX: f64 = 1e12;
const FACTOR_MIN: f64 = 1.0;
const FACTOR_MAX: f64 = 1e4;
const ATTENTION_FACTOR_MIN: f64 = 1e-2;
const ATTENTION_FACTOR_MAX: f64 = 1e2;

/// Checks every number of a spec.
pub(super) fn check(spec: &DecoderSpec) -> Result<(), SpecError> {
    let Norm::Rms { eps } = spec.norm;
    let Mlp::Gated { width, .. } = spec.mlp;
    within("number of layers", spec.layers, 1, LAYERS_MAX)?;
    within("hidden size", spec.hidden, 1, HIDDEN_MAX)?;
    within("number of query heads", spec.q_heads, 1, HEADS_MAX)?;
    within("number of key-value heads", spec.kv_heads, 1, HEADS_MAX)?;
    within("head dimension", spec.head_dim, 2, HEAD_DIM_MAX)?;
    within("width of the mlp", width, 1, MLP_WIDTH_MAX)?;
    within("vocabulary", spec.vocab, 1, VOCAB_MAX)?;
    within("context length", spec.context_tokens, 1, CONTEXT_TOKENS_MAX)?;
    within("norm epsilon", eps, EPS_MIN, EPS_MAX)?;
    divisible("head dimension", spec.head_dim, "half a rotated pair", 2)?;
    divisible("number of query heads", spec.q_heads, "number of key-value heads", spec.kv_heads)?;
    for layer in 0..spec.layers {
        if let Some(tokens) = spec.attention.window.of_layer(layer) {
            within("sliding window", tokens, 1, CONTEXT_TOKENS_MAX)?;
        }
    }
    check_rope(spec)
}

fn check_rope(spec: &DecoderSpec) -> Result<(), SpecError> {
    within("rope theta", spec.attention.rope.theta, THETA_MIN, THETA_MAX)?;
    match &spec.attention.rope.scaling {
        RopeScaling::Plain => Ok(()),
        RopeScaling::Linear { factor } => within("rope scaling factor", *factor, FACTOR_MIN, FACTOR_MAX),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_tokens } => {
            within("rope scaling factor", *factor, FACTOR_MIN, FACTOR_MAX)?;
            within("rope low frequency factor", *low_freq_factor, 1e-3, FACTOR_MAX)?;
            within("rope high frequency factor", *high_freq_factor, low_freq_factor * 1.000_001, FACTOR_MAX)?;
            within("original context length", *original_tokens, 1, CONTEXT_TOKENS_MAX)
        }
        RopeScaling::Yarn(yarn) => {
            within("rope scaling factor", yarn.factor, FACTOR_MIN, FACTOR_MAX)?;
            within("original context length", yarn.original_tokens, 1, CONTEXT_TOKENS_MAX)?;
            within("rope beta_slow", yarn.beta_slow, 1e-3, FACTOR_MAX)?;
            within("rope beta_fast", yarn.beta_fast, yarn.beta_slow, FACTOR_MAX)?;
            within("rope attention factor", yarn.attention_factor, ATTENTION_FACTOR_MIN, ATTENTION_FACTOR_MAX)
        }
        RopeScaling::Divisors(divisors) => {
            let (found, expected) = (divisors.len(), spec.head_dim / 2);
            if found != expected {
                return Err(SpecError::WrongCount { key: "rope_freqs.weight".to_owned(), found, expected });
            }
            divisors
                .iter()
                .try_for_each(|divisor| within("rope frequency divisor", f64::from(*divisor), 1e-4, FACTOR_MAX))
        }
    }
}

/// A NaN is within nothing.
fn within<T: PartialOrd + Display>(what: &'static str, found: T, min: T, max: T) -> Result<(), SpecError> {
    if found >= min && found <= max {
        return Ok(());
    }
    Err(SpecError::OutOfLimits { what, found: found.to_string(), min: min.to_string(), max: max.to_string() })
}

fn divisible(what: &'static str, found: usize, of: &'static str, divisor: usize) -> Result<(), SpecError> {
    if found.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(SpecError::NotDivisible { what, found, of, divisor })
}
