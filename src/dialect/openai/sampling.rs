//! Checks the numbers of a request and turns them into the domain's.

use super::{RequestError, RequestLimits};
use crate::domain::{SamplingParams, StopRules};
use crate::wire::json::quoted;
use crate::wire::openai::Shared;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

const LOGIT_BIAS: RangeInclusive<f64> = -100.0..=100.0;
const PENALTY: RangeInclusive<f64> = -2.0..=2.0;
const REPETITION_PENALTY_MAX: f64 = 10.0;
const TEMPERATURE: RangeInclusive<f64> = 0.0..=2.0;
/// As in OpenAI's API, for both endpoints: the default answer is sampled, not greedy.
const TEMPERATURE_DEFAULT: f64 = 1.0;

pub(super) fn sampling(
    shared: &Shared,
    top_logprobs: Option<usize>,
    limits: &RequestLimits,
) -> Result<SamplingParams, RequestError> {
    Ok(SamplingParams {
        temperature: within("temperature", shared.temperature.unwrap_or(TEMPERATURE_DEFAULT), TEMPERATURE)?,
        top_k: shared.top_k.map(top_k).transpose()?.flatten(),
        top_p: above_zero("top_p", shared.top_p.unwrap_or(1.0), 1.0)?,
        min_p: within("min_p", shared.min_p.unwrap_or(0.0), 0.0..=1.0)?,
        repetition_penalty: above_zero(
            "repetition_penalty",
            shared.repetition_penalty.unwrap_or(1.0),
            REPETITION_PENALTY_MAX,
        )?,
        presence_penalty: within("presence_penalty", shared.presence_penalty.unwrap_or(0.0), PENALTY)?,
        frequency_penalty: within("frequency_penalty", shared.frequency_penalty.unwrap_or(0.0), PENALTY)?,
        logit_bias: logit_bias(&shared.logit_bias, limits)?,
        seed: shared.seed.map(seed).transpose()?,
        top_logprobs,
    })
}

pub(super) fn stop_rules(
    max_tokens: Option<usize>,
    stop: &[String],
    limits: &RequestLimits,
) -> Result<StopRules, RequestError> {
    let too_many = |path: String, found, unit, allowed| RequestError::TooMany { path, found, unit, allowed };
    if stop.len() > limits.stop_strings_max {
        return Err(too_many("stop".to_owned(), stop.len(), "strings", limits.stop_strings_max));
    }
    for (index, text) in stop.iter().enumerate() {
        let path = format!("stop[{index}]");
        if text.is_empty() {
            return Err(RequestError::Empty { path });
        }
        if text.len() > limits.stop_bytes_max {
            return Err(too_many(path, text.len(), "bytes", limits.stop_bytes_max));
        }
    }
    Ok(StopRules { max_tokens, stop: stop.to_vec() })
}

/// An integer from `low` to `high`.
pub(super) fn count(path: &str, value: i128, low: usize, high: usize) -> Result<usize, RequestError> {
    let found = usize::try_from(value).ok().filter(|value| (low..=high).contains(value));
    found.ok_or_else(|| range(path, value, format!("an integer from {low} to {high}")))
}

/// The seed of the `n`th answer to one prompt. The first keeps the caller's, so that it can be asked for alone.
pub(super) fn derived_seed(seed: u64, answer_index: u64) -> u64 {
    if answer_index == 0 {
        return seed;
    }
    // SplitMix64's output function: neighbouring seeds become unrelated ones.
    let mixed = seed.wrapping_add(answer_index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn range(path: &str, found: impl std::fmt::Debug, allowed: String) -> RequestError {
    RequestError::Range { path: path.to_owned(), found: format!("{found:?}"), allowed }
}

fn within(path: &str, value: f64, allowed: RangeInclusive<f64>) -> Result<f32, RequestError> {
    if allowed.contains(&value) {
        return Ok(value as f32);
    }
    Err(range(path, value, format!("{} to {}", allowed.start(), allowed.end())))
}

/// Checked after rounding to f32, where a tiny number becomes zero.
fn above_zero(path: &str, value: f64, high: f64) -> Result<f32, RequestError> {
    let rounded = value as f32;
    if rounded > 0.0 && value <= high {
        return Ok(rounded);
    }
    Err(range(path, value, format!("above 0 to {high}")))
}

/// 0 and −1 mean all tokens, as clients of vLLM are used to.
fn top_k(value: i128) -> Result<Option<NonZeroU32>, RequestError> {
    if value == -1 {
        return Ok(None);
    }
    let value = u32::try_from(value).map_err(|_| range("top_k", value, format!("-1 to {}", u32::MAX)))?;
    Ok(NonZeroU32::new(value))
}

/// OpenAI's seeds are signed: the bits are kept.
fn seed(value: i128) -> Result<u64, RequestError> {
    let value = i64::try_from(value).map_err(|_| range("seed", value, format!("{} to {}", i64::MIN, i64::MAX)))?;
    Ok(value.cast_unsigned())
}

fn logit_bias(entries: &[(String, f64)], limits: &RequestLimits) -> Result<Vec<(u32, f32)>, RequestError> {
    if entries.len() > limits.logit_bias_entries_max {
        return Err(RequestError::TooMany {
            path: "logit_bias".to_owned(),
            found: entries.len(),
            unit: "entries",
            allowed: limits.logit_bias_entries_max,
        });
    }
    let mut biases = Vec::with_capacity(entries.len());
    for (token, bias) in entries {
        let path = format!("logit_bias[{}]", quoted(token));
        let id = token.parse().ok().filter(|id: &u32| id.to_string() == *token);
        let id = id.ok_or_else(|| RequestError::Range {
            path: "logit_bias".to_owned(),
            found: format!("given for {}", quoted(token)),
            allowed: "a token id such as \"15\"".to_owned(),
        })?;
        biases.push((id, within(&path, *bias, LOGIT_BIAS)?));
    }
    Ok(biases)
}
