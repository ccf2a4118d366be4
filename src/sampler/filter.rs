//! Which tokens stay in the draw, and the draw itself. Exact: no bucket or bound approximates a filter.

use crate::domain::SamplingParams;
use std::cmp::Ordering;

/// How many of the most likely tokens are sorted at first; quadrupled until the filter is satisfied.
const SORTED_FIRST: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    token: u32,
    logit: f32,
    weight: f64,
}

/// Most likely first; among equals the lower id first, so that ties never depend on the algorithm.
fn by_likelihood(left: &Candidate, right: &Candidate) -> Ordering {
    right.logit.total_cmp(&left.logit).then(left.token.cmp(&right.token))
}

/// Draws a token with temperature, min-p, top-k and top-p. `point` is uniform in [0, 1).
pub(super) fn draw(params: &SamplingParams, logits: &[f32], point: f64, candidates: &mut Vec<Candidate>) -> u32 {
    collect(params, logits, candidates);
    if candidates.is_empty() {
        return super::argmax(logits);
    }
    if let Some(top_k) = params.top_k {
        keep_most_likely(candidates, top_k.get() as usize);
    }
    if params.top_p < 1.0 {
        keep_nucleus(candidates, f64::from(params.top_p));
    }
    pick(candidates, point)
}

/// Scaled logits of all tokens that pass min-p, with their unnormalised probabilities.
fn collect(params: &SamplingParams, logits: &[f32], candidates: &mut Vec<Candidate>) {
    candidates.clear();
    let max = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return;
    }
    let temperature = f64::from(params.temperature);
    let weight_min = f64::from(params.min_p);
    for (token, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            continue;
        }
        let weight = (f64::from(logit - max) / temperature).exp();
        if weight >= weight_min && weight > 0.0 {
            candidates.push(Candidate { token: token as u32, logit, weight });
        }
    }
}

fn keep_most_likely(candidates: &mut Vec<Candidate>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count - 1, by_likelihood);
        candidates.truncate(count);
    }
}

/// The smallest set of most likely tokens whose share reaches `share`; always at least one.
fn keep_nucleus(candidates: &mut Vec<Candidate>, share: f64) {
    let total: f64 = {
        // Summed in token order, which does not depend on how far the selection below has permuted the list.
        candidates.sort_unstable_by_key(|candidate| candidate.token);
        candidates.iter().map(|candidate| candidate.weight).sum()
    };
    let mut sorted = SORTED_FIRST.min(candidates.len());
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted - 1, by_likelihood);
        }
        candidates[..sorted].sort_unstable_by(by_likelihood);
        let mut reached = 0.0;
        for index in 0..sorted {
            reached += candidates[index].weight;
            if reached >= share * total {
                candidates.truncate(index + 1);
                return;
            }
        }
        if sorted == candidates.len() {
            return;
        }
        sorted = (sorted * 4).min(candidates.len());
    }
}

/// Walks the cumulative weights in token order, whatever order the filters left.
fn pick(candidates: &mut [Candidate], point: f64) -> u32 {
    if !candidates.is_sorted_by_key(|candidate| candidate.token) {
        candidates.sort_unstable_by_key(|candidate| candidate.token);
    }
    let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
    let mut reached = 0.0;
    for candidate in candidates.iter() {
        reached += candidate.weight;
        if point * total < reached {
            return candidate.token;
        }
    }
    candidates[candidates.len() - 1].token
}

/// The `count` most likely tokens with their log probabilities, most likely first.
pub(super) fn most_likely(
    logits: &[f32],
    count: usize,
    log_total: f32,
    candidates: &mut Vec<Candidate>,
) -> Vec<(u32, f32)> {
    candidates.clear();
    if count == 0 {
        return Vec::new();
    }
    candidates.extend(
        logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan()).map(|(token, &logit)| Candidate {
            token: token as u32,
            logit,
            weight: 0.0,
        }),
    );
    keep_most_likely(candidates, count);
    candidates.sort_unstable_by(by_likelihood);
    candidates.iter().map(|candidate| (candidate.token, candidate.logit - log_total)).collect()
}
