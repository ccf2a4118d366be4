//! Logits of one row to one token: penalties, bias, temperature, filters, seeds.
//!
//! Knows `domain` only. The order of operations is vLLM's: bias and penalties, temperature, min-p, top-k, top-p, draw.
//! Randomness is a counter: the draw for output position `n` depends on the seed and `n` alone, so a sequence that was
//! preempted and recomputed, or run in another batch, goes on with the same tokens.

mod counter;
mod filter;

use crate::domain::SamplingParams;
use filter::Candidate;
use std::collections::HashMap;
use std::sync::Arc;

pub use counter::uniform;

/// Sampling state of one running sequence: its parameters and what it has said so far.
#[derive(Debug)]
pub struct RowSampler {
    params: Arc<SamplingParams>,
    seed: u64,
    /// Occurrences in the prompt and the output, for the penalties; empty when no penalty is set.
    seen: HashMap<u32, Occurrences>,
    sampled_tokens: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Occurrences {
    generated: u32,
}

/// One chosen token. `top` is filled when the parameters ask for log probabilities, most likely first.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledToken {
    pub token: u32,
    pub logprobs: Option<RowLogprobs>,
}

/// Natural-log probabilities under the model itself: before bias, penalties, temperature and filters.
#[derive(Clone, Debug, PartialEq)]
pub struct RowLogprobs {
    pub chosen: f32,
    pub top: Vec<(u32, f32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    #[error("none of the {vocab} logits is a finite number: the weights are damaged or a computation overflowed")]
    NotFinite { vocab: usize },
}

/// Buffers shared by all rows of a step, so that sampling does not allocate per token.
#[derive(Debug, Default)]
pub struct SamplerScratch {
    candidates: Vec<Candidate>,
}

impl RowSampler {
    /// `seed` is the request's, or one drawn for it. `prompt` and `generated` are what the sequence holds already.
    pub fn new(params: Arc<SamplingParams>, seed: u64, prompt: &[u32], generated: &[u32]) -> Self {
        let mut sampler = Self { params, seed, seen: HashMap::new(), sampled_tokens: 0 };
        if sampler.has_penalties() {
            for &token in prompt {
                sampler.seen.entry(token).or_default();
            }
        }
        for &token in generated {
            sampler.account(token);
        }
        sampler
    }

    /// Chooses the next token. `logits: [vocab]`, adjusted in place.
    ///
    /// Errors if no logit is finite, which only a broken model or kernel produces.
    pub fn sample(&mut self, logits: &mut [f32], scratch: &mut SamplerScratch) -> Result<SampledToken, SampleError> {
        if !logits.iter().any(|logit| logit.is_finite()) {
            return Err(SampleError::NotFinite { vocab: logits.len() });
        }
        let normaliser = self.params.top_logprobs.map(|count| (count, log_sum_exp(logits)));
        let raw_top =
            normaliser.map(|(count, total)| filter::most_likely(logits, count, total, &mut scratch.candidates));
        let raw = self.params.top_logprobs.is_some().then(|| self.touched(logits));
        self.adjust(logits);
        let token = if self.params.temperature <= 0.0 { argmax(logits) } else { self.draw(logits, scratch) };
        let logprobs = normaliser.zip(raw_top).map(|((_, total), top)| {
            let logit = raw.as_ref().and_then(|raw| raw.get(&token).copied()).unwrap_or(logits[token as usize]);
            RowLogprobs { chosen: logit - total, top }
        });
        self.account(token);
        Ok(SampledToken { token, logprobs })
    }

    fn has_penalties(&self) -> bool {
        self.params.repetition_penalty != 1.0
            || self.params.presence_penalty != 0.0
            || self.params.frequency_penalty != 0.0
    }

    fn account(&mut self, token: u32) {
        self.sampled_tokens += 1;
        if self.has_penalties() {
            self.seen.entry(token).or_default().generated += 1;
        }
    }

    /// The unadjusted logits of every token that `adjust` is about to change.
    fn touched(&self, logits: &[f32]) -> HashMap<u32, f32> {
        let biased = self.params.logit_bias.iter().map(|(token, _)| *token);
        self.seen
            .keys()
            .copied()
            .chain(biased)
            .filter_map(|token| logits.get(token as usize).map(|logit| (token, *logit)))
            .collect()
    }

    fn adjust(&self, logits: &mut [f32]) {
        for (&token, occurrences) in &self.seen {
            let Some(logit) = logits.get_mut(token as usize) else { continue };
            let repetition = self.params.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
            if occurrences.generated > 0 {
                *logit -= self.params.presence_penalty;
                *logit -= self.params.frequency_penalty * occurrences.generated as f32;
            }
        }
        for &(token, bias) in &self.params.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
    }

    fn draw(&self, logits: &[f32], scratch: &mut SamplerScratch) -> u32 {
        let point = uniform(self.seed, self.sampled_tokens);
        filter::draw(&self.params, logits, point, &mut scratch.candidates)
    }
}

/// Index of the largest logit; the lowest index among equals; NaN never wins.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    let mut best_logit = f32::NEG_INFINITY;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > best_logit {
            best = index;
            best_logit = logit;
        }
    }
    best as u32
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    max + sum.ln() as f32
}

#[cfg(test)]
mod tests;
