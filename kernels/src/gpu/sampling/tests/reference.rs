//! The semantics of sampling once more, by their definitions, in f64 where the device sums or compares probabilities.

use super::*;
use crate::testing::Random;

/// How far the share of a nucleus may be missed: weights are computed in f32.
const SHARE_TOLERANCE: f64 = 1e-5;

/// A sequence as the host knows it.
#[derive(Debug, Clone)]
pub struct Sequence {
    pub settings: SamplingSettings,
    pub seed: u64,
    pub prompt: Vec<u32>,
    pub generated: Vec<u32>,
    pub biases: Vec<(u32, f32)>,
    /// A bit per token, for masked sequences.
    pub mask: Vec<u32>,
}

/// Tokens that a draw must, and may, choose from: they differ where a sum is as close to a threshold as rounding.
pub struct Support {
    pub must: Vec<bool>,
    pub may: Vec<bool>,
    /// What min-p alone leaves.
    pub may_by_min_p: Vec<bool>,
}

pub fn greedy() -> SamplingSettings {
    SamplingSettings {
        temperature: 0.0,
        top_p: 1.0,
        min_p: 0.0,
        top_k: 0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logprobs: None,
        is_masked: false,
    }
}

pub fn warm() -> SamplingSettings {
    SamplingSettings { temperature: 1.0, ..greedy() }
}

impl Sequence {
    pub fn new(settings: SamplingSettings) -> Self {
        let (prompt, generated, biases, mask) = Default::default();
        Self { settings, seed: 5, prompt, generated, biases, mask }
    }

    pub fn entering(&self, state_row: u32) -> Entering<'_> {
        Entering {
            state_row,
            settings: self.settings,
            seed: self.seed,
            sampled_tokens: self.generated.len() as u64,
            prompt: &self.prompt,
            generated: &self.generated,
            biases: &self.biases,
        }
    }

    pub fn is_allowed(&self, token: usize) -> bool {
        !self.settings.is_masked || self.mask[token / 32] >> (token % 32) & 1 != 0
    }

    pub fn adjusted(&self, logits: &[f32]) -> Vec<f32> {
        let settings = &self.settings;
        let mut adjusted = logits.to_vec();
        for (token, logit) in adjusted.iter_mut().enumerate() {
            if !self.is_allowed(token) {
                *logit = f32::NEG_INFINITY;
            }
            let occurs = |tokens: &[u32]| tokens.iter().filter(|other| **other as usize == token).count();
            let generated = occurs(&self.generated);
            if settings.has_penalties() && generated + occurs(&self.prompt) > 0 {
                let repetition = settings.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / repetition } else { *logit * repetition };
                if generated > 0 {
                    *logit -= settings.presence_penalty;
                    *logit = (-settings.frequency_penalty).mul_add(generated as f32, *logit);
                }
            }
        }
        for &(token, bias) in &self.biases {
            if let Some(logit) = adjusted.get_mut(token as usize) {
                *logit += bias;
            }
        }
        adjusted
    }

    /// What min-p, top-k and top-p leave of adjusted logits whose maximum is finite.
    pub fn support(&self, adjusted: &[f32]) -> Support {
        let (min_p, top_p) = (f64::from(self.settings.min_p), f64::from(self.settings.top_p));
        let weights = self.weights(adjusted);
        let passing =
            |share: f64| -> Vec<bool> { weights.iter().map(|weight| *weight > 0.0 && *weight >= share).collect() };
        let (must_by_min_p, may_by_min_p) = (passing(min_p * (1.0 + 1e-6)), passing(min_p * (1.0 - 1e-6)));

        let mut by_likelihood: Vec<usize> = (0..weights.len()).filter(|token| may_by_min_p[*token]).collect();
        by_likelihood.sort_by(|left, right| weights[*right].total_cmp(&weights[*left]));
        let top_k = self.settings.top_k as usize;
        if top_k != 0 && top_k < by_likelihood.len() {
            let last = adjusted[by_likelihood[top_k - 1]];
            by_likelihood.retain(|token| adjusted[*token] >= last);
        }
        let total: f64 = by_likelihood.iter().map(|token| weights[*token]).sum();
        let (mut must, mut may) = (vec![false; weights.len()], vec![false; weights.len()]);
        let (mut reached, mut more_likely, mut previous) = (0.0, 0.0, f32::INFINITY);
        for &token in &by_likelihood {
            if adjusted[token] < previous {
                (more_likely, previous) = (reached, adjusted[token]);
            }
            let is_in = |tolerance: f64| top_p >= 1.0 || more_likely < (top_p + tolerance) * total;
            must[token] = must_by_min_p[token] && is_in(-SHARE_TOLERANCE);
            may[token] = is_in(SHARE_TOLERANCE);
            reached += weights[token];
        }
        Support { must, may, may_by_min_p }
    }

    /// Unnormalised probabilities.
    pub fn weights(&self, adjusted: &[f32]) -> Vec<f64> {
        let max = maximum(adjusted);
        let weight = |logit: &f32| (f64::from(logit - max) / f64::from(self.settings.temperature)).exp();
        adjusted.iter().map(|logit| if logit.is_nan() { 0.0 } else { weight(logit) }).collect()
    }

    /// The Gumbel-max choice among tokens, and by how much it is ahead of the next.
    pub fn draw(&self, adjusted: &[f32], kept: impl Fn(usize) -> bool) -> (u32, f64) {
        let max = maximum(adjusted);
        let stream = noise_stream(self.seed, self.generated.len() as u64);
        let (mut best, mut best_score, mut next_score) = (0, f64::NEG_INFINITY, f64::NEG_INFINITY);
        for (token, logit) in adjusted.iter().enumerate().filter(|(token, _)| kept(*token)) {
            let score = f64::from(logit - max) / f64::from(self.settings.temperature) + gumbel(stream, token as u64);
            if score > best_score {
                next_score = best_score;
                (best, best_score) = (token, score);
            } else if score > next_score {
                next_score = score;
            }
        }
        (best as u32, best_score - next_score)
    }
}

pub fn maximum(logits: &[f32]) -> f32 {
    logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max)
}

/// The lowest of the largest; NaN never.
pub fn argmax(logits: &[f32]) -> u32 {
    let max = maximum(logits);
    logits.iter().position(|logit| *logit == max).expect("a largest logit") as u32
}

pub fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let max = f64::from(maximum(logits));
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    logits.iter().map(|logit| f64::from(*logit) - max - total.ln()).collect()
}

/// The sequence that SplitMix64 gives for a seed is its finaliser over steps of the golden ratio.
fn splitmix(seed: u64, index: u64) -> u64 {
    Random(seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))).next()
}

fn noise_stream(seed: u64, sampled_tokens: u64) -> u64 {
    splitmix(splitmix(seed, 0), sampled_tokens)
}

fn gumbel(stream: u64, token: u64) -> f64 {
    let uniform = (splitmix(stream, token) | 1) as f64 / 2_f64.powi(64);
    -(-(-uniform).ln_1p()).ln()
}
