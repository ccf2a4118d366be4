use super::*;
use std::num::NonZeroU32;

fn sample_with(params: SamplingParams, logits: &[f32], draws: u64) -> Vec<u32> {
    let params = Arc::new(params);
    let mut scratch = SamplerScratch::default();
    (0..draws)
        .map(|seed| {
            let mut sampler = RowSampler::new(Arc::clone(&params), seed, &[], &[]);
            sampler.sample(&mut logits.to_vec(), &mut scratch).expect("finite").token
        })
        .collect()
}

fn warm() -> SamplingParams {
    SamplingParams { temperature: 1.0, ..SamplingParams::default() }
}

/// Seeded logits with a spread like a real model's.
fn wide_logits(vocab: usize) -> Vec<f32> {
    (0..vocab).map(|index| (uniform(7, index as u64) * 12.0) as f32).collect()
}

#[test]
fn greedy_takes_the_first_of_equal_maxima_and_never_nan() {
    let tokens = sample_with(SamplingParams::default(), &[1.0, f32::NAN, 3.0, 3.0], 1);
    assert_eq!(tokens, [2]);
}

#[test]
fn draws_follow_the_softmax() {
    let logits = [0.0f32, 1.0, 2.0];
    let draws = 20_000;
    let mut counts = [0u32; 3];
    for token in sample_with(warm(), &logits, draws) {
        counts[token as usize] += 1;
    }
    let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
    for (count, logit) in counts.iter().zip(logits) {
        let expected = f64::from(logit).exp() / total;
        let share = f64::from(*count) / draws as f64;
        assert!((share - expected).abs() < 0.012, "share {share}, expected {expected}");
    }
}

#[test]
fn filters_agree_with_a_full_sort() {
    let logits = wide_logits(2000);
    for (top_k, top_p, min_p) in [(Some(5), 1.0, 0.0), (None, 0.5, 0.0), (None, 0.999, 0.0), (Some(700), 0.9, 0.001)] {
        let params = SamplingParams {
            top_k: top_k.and_then(NonZeroU32::new),
            top_p,
            min_p,
            temperature: 0.7,
            ..SamplingParams::default()
        };
        let allowed = oracle_support(&params, &logits);
        let drawn = sample_with(params.clone(), &logits, 1000);
        assert!(drawn.iter().all(|token| allowed.contains(token)), "{params:?} drew a token it should have dropped");
        let distinct: std::collections::HashSet<u32> = drawn.into_iter().collect();
        assert!(distinct.len() * 4 >= allowed.len().min(40), "{params:?} drew {} of {}", distinct.len(), allowed.len());
    }
}

/// The tokens that may be drawn, by the definition: sort everything, cut.
fn oracle_support(params: &SamplingParams, logits: &[f32]) -> Vec<u32> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let mut all: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .map(|(token, logit)| (token as u32, (f64::from(logit - max) / f64::from(params.temperature)).exp()))
        .filter(|(_, weight)| *weight >= f64::from(params.min_p))
        .collect();
    all.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    if let Some(top_k) = params.top_k {
        all.truncate(top_k.get() as usize);
    }
    let total: f64 = all.iter().map(|(_, weight)| weight).sum();
    let mut reached = 0.0;
    let kept = all.iter().position(|(_, weight)| {
        reached += weight;
        reached >= f64::from(params.top_p) * total
    });
    all.truncate(kept.map_or(all.len(), |last| last + 1));
    all.into_iter().map(|(token, _)| token).collect()
}

#[test]
fn a_resumed_sequence_draws_the_same_tokens() {
    let params = Arc::new(SamplingParams { temperature: 1.0, frequency_penalty: 0.5, ..SamplingParams::default() });
    let logits = wide_logits(300);
    let mut scratch = SamplerScratch::default();
    let mut whole = RowSampler::new(Arc::clone(&params), 42, &[1, 2], &[]);
    let tokens: Vec<u32> =
        (0..20).map(|_| whole.sample(&mut logits.clone(), &mut scratch).expect("finite").token).collect();
    let mut resumed = RowSampler::new(params, 42, &[1, 2], &tokens[..9]);
    let rest: Vec<u32> =
        (9..20).map(|_| resumed.sample(&mut logits.clone(), &mut scratch).expect("finite").token).collect();
    assert_eq!(rest, tokens[9..]);
}

#[test]
fn penalties_and_bias_move_the_choice() {
    let mut scratch = SamplerScratch::default();
    let mut choose = |params: SamplingParams, prompt: &[u32], generated: &[u32]| {
        RowSampler::new(Arc::new(params), 0, prompt, generated)
            .sample(&mut [2.0, 1.9, -1.0], &mut scratch)
            .expect("finite")
            .token
    };
    let plain = SamplingParams::default();
    assert_eq!(choose(plain.clone(), &[0], &[0]), 0);
    assert_eq!(choose(SamplingParams { repetition_penalty: 1.5, ..plain.clone() }, &[0], &[]), 1);
    assert_eq!(
        choose(SamplingParams { presence_penalty: 0.5, ..plain.clone() }, &[0], &[]),
        0,
        "prompt does not count"
    );
    assert_eq!(choose(SamplingParams { presence_penalty: 0.5, ..plain.clone() }, &[], &[0]), 1);
    assert_eq!(choose(SamplingParams { frequency_penalty: 0.06, ..plain.clone() }, &[], &[0]), 0);
    assert_eq!(choose(SamplingParams { frequency_penalty: 0.06, ..plain.clone() }, &[], &[0, 0]), 1);
    assert_eq!(choose(SamplingParams { logit_bias: vec![(2, 100.0)], ..plain }, &[], &[]), 2);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let params = SamplingParams { top_logprobs: Some(2), logit_bias: vec![(0, 100.0)], ..SamplingParams::default() };
    let logits = [0.0f32, 2.0, 1.0];
    let sampled = RowSampler::new(Arc::new(params), 0, &[], &[])
        .sample(&mut logits.to_vec(), &mut SamplerScratch::default())
        .expect("finite");
    let total = log_sum_exp(&logits);
    let logprobs = sampled.logprobs.expect("asked for");
    assert_eq!(sampled.token, 0);
    assert!((logprobs.chosen - (0.0 - total)).abs() < 1e-6);
    assert_eq!(logprobs.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2]);
    assert!((logprobs.top[0].1 - (2.0 - total)).abs() < 1e-6);
}

#[test]
fn a_row_without_any_finite_logit_is_an_error() {
    let mut sampler = RowSampler::new(Arc::new(warm()), 0, &[], &[]);
    let result = sampler.sample(&mut [f32::NAN, f32::NEG_INFINITY], &mut SamplerScratch::default());
    assert_eq!(result, Err(SampleError::NotFinite { vocab: 2 }));
}
