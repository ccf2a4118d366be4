//! Which tokens filters leave, and how often each of them is drawn.

use super::*;

/// What the thresholds leave is what the definition leaves, and the draw is the Gumbel-max choice among it.
fn check_draws(gpu: &Gpu, sequences: &[Sequence], logits: &[Vec<f32>]) {
    let mut harness = Harness::new(gpu, logits[0].len(), sequences.len());
    let rows: Vec<(u32, &Sequence)> = (0..).zip(sequences).collect();
    harness.enter(&rows);
    let tokens = harness.tokens(logits);
    let floors = gpu.read(&harness.table.floors, 0, sequences.len()).unwrap();
    for (row, sequence) in sequences.iter().enumerate() {
        let what = format!("{:?} of {} tokens", sequence.settings, logits[row].len());
        let adjusted = sequence.adjusted(&logits[row]);
        let support = sequence.support(&adjusted);
        let is_kept = |token: usize| order_key(adjusted[token]) >= floors[row] && support.may_by_min_p[token];
        for (token, logit) in adjusted.iter().enumerate() {
            assert!(is_kept(token) || !support.must[token], "{what}: token {token} ({logit}) was dropped");
            assert!(!is_kept(token) || support.may[token], "{what}: token {token} ({logit}) was kept");
        }
        let (token, margin) = sequence.draw(&adjusted, is_kept);
        assert!(tokens[row] == token || margin < 1e-4, "{what}: token {}, not {token}", tokens[row]);
    }
}

fn order_key(logit: f32) -> u32 {
    let bits = (logit + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

#[test]
fn filters_keep_what_their_definitions_keep() {
    for (kind, vocab) in kinds().into_iter().flat_map(|kind| VOCABULARIES.map(|vocab| (kind, vocab))) {
        let sequences = filter_combinations();
        let [gpu, other] = [1, 2].map(|seed| kind.open(seed));
        let all = |logits: fn(usize, u64) -> Vec<f32>| -> Vec<Vec<f32>> {
            (0..sequences.len() as u64).map(|seed| logits(vocab, seed)).collect()
        };
        check_draws(&gpu, &sequences, &all(wide_logits));
        if vocab < 5000 {
            check_draws(&gpu, &sequences, &all(stepped_logits));
            check_draws(&other, &sequences, &all(|vocab, seed| damaged(peaked_logits(vocab, seed), seed)));
        }
    }
}

/// A threshold is searched in shared memory only where its candidates fit; elsewhere among all tokens.
#[test]
fn filters_agree_wherever_their_candidates_are() {
    for [gpu, _] in pairs() {
        let with = |top_k, top_p| Sequence::new(SamplingSettings { temperature: 2.0, top_k, top_p, ..warm() });
        // Nearly equal logits, of which thousands are candidates, or more tokens asked for than a block has threads.
        let flat: Vec<f32> = wide_logits(6000, 3).iter().map(|logit| logit / 50.0).collect();
        let sequences = [with(0, 0.9), with(1500, 0.5), with(4500, 1.0), with(900, 0.7)];
        check_draws(&gpu, &sequences, &vec![flat; 4]);
        check_draws(&gpu, &[with(1024, 1.0), with(1025, 1.0)], &[vec![0.5; 4200], vec![0.5; 4200]]);
    }
}

#[test]
fn extreme_settings_keep_at_least_the_most_likely() {
    for [gpu, _] in pairs() {
        let tiny = f32::from_bits(1);
        let settings = [
            SamplingSettings { temperature: tiny, ..warm() },
            SamplingSettings { temperature: tiny, top_p: 0.9, top_k: 3, ..warm() },
            SamplingSettings { top_p: tiny, ..warm() },
            SamplingSettings { top_p: 1.0 - f32::EPSILON / 2.0, ..warm() },
            SamplingSettings { min_p: 1.0, ..warm() },
            SamplingSettings { top_k: u32::MAX, ..warm() },
        ];
        let sequences = settings.map(Sequence::new);
        for vocab in [1, 300] {
            check_draws(&gpu, &sequences, &vec![wide_logits(vocab, 4); sequences.len()]);
        }
        // Logits that differ in their last bit are not equal.
        let neighbours: Vec<f32> = (0..300).map(|token| f32::from_bits(1_f32.to_bits() + token * 7 % 300)).collect();
        let sequences = [1, 2, 77].map(|top_k| Sequence::new(SamplingSettings { top_k, ..warm() }));
        check_draws(&gpu, &sequences, &vec![neighbours; 3]);
    }
}

/// Pearson's statistic of counts against probabilities; what is expected fewer than five times is counted together.
fn check_counts(what: &str, counts: &[u32], probabilities: &[f64]) {
    let draws = f64::from(counts.iter().sum::<u32>());
    let (mut statistic, mut freedom, mut rare) = (0.0_f64, -1.0_f64, (0.0, 0.0));
    let mut add = |count: f64, expected: f64| {
        statistic += (count - expected).powi(2) / expected;
        freedom += 1.0;
    };
    for (&count, probability) in counts.iter().zip(probabilities) {
        let expected = probability * draws;
        if expected < 5.0 {
            rare = (rare.0 + f64::from(count), rare.1 + expected);
        } else {
            add(f64::from(count), expected);
        }
    }
    if rare.1 >= 5.0 {
        add(rare.0, rare.1);
    } else {
        assert!(rare.0 <= rare.1 + 15.0 * rare.1.sqrt(), "{what}: {} draws of what {} are expected of", rare.0, rare.1);
    }
    // Above the 99.99 % quantile for every number of degrees of freedom.
    let limit = freedom + 5.0 * (2.0 * freedom).sqrt() + 8.0;
    assert!(statistic < limit, "{what}: chi-square {statistic} of at most {limit}");
}

/// Draws of many seeds, at many positions of each, follow the softmax of what the filters leave; neighbouring draws of
/// one sequence know nothing of each other.
fn check_distribution(settings: SamplingSettings, logits: &[f32], steps: usize) {
    const SEEDS: usize = 64;
    let sequences: Vec<Sequence> =
        (0..SEEDS as u64).map(|seed| Sequence { seed: seed << 40 | seed, ..Sequence::new(settings) }).collect();
    let mut weights = sequences[0].weights(logits);
    let support = sequences[0].support(logits);
    assert_eq!(support.must, support.may, "the case has no sum close to a threshold");
    weights.iter_mut().zip(&support.must).for_each(|(weight, is_kept)| *weight *= f64::from(*is_kept));
    let total: f64 = weights.iter().sum();
    let probabilities: Vec<f64> = weights.iter().map(|weight| weight / total).collect();

    for kind in kinds() {
        let mut harness = Harness::new(&kind.open(3), logits.len(), SEEDS);
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        harness.enter(&rows);
        let mut counts = vec![0; logits.len()];
        let mut pairs = vec![0; probabilities.len().pow(2)];
        let mut previous: Option<Vec<u32>> = None;
        for _ in 0..steps {
            let tokens = harness.tokens(&vec![logits.to_vec(); SEEDS]);
            tokens.iter().for_each(|token| counts[*token as usize] += 1);
            for (token, before) in tokens.iter().zip(previous.iter().flatten()) {
                pairs[*before as usize * logits.len() + *token as usize] += 1;
            }
            previous = Some(tokens);
        }
        let what = format!("{settings:?} of {} tokens", logits.len());
        for (token, count) in counts.iter().enumerate() {
            assert!(*count == 0 || support.may[token], "{what}: token {token} should have been dropped");
        }
        check_counts(&what, &counts, &probabilities);
        let of_pairs = probabilities.iter().flat_map(|first| probabilities.iter().map(move |second| first * second));
        check_counts(&format!("{what}, pairs"), &pairs, &of_pairs.collect::<Vec<_>>());
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let wide: Vec<f32> = wide_logits(33, 1).iter().map(|logit| logit / 3.0).collect();
    check_distribution(warm(), &[0.0, 0.4], 64);
    check_distribution(warm(), &wide, 96);
    check_distribution(SamplingSettings { temperature: 0.5, ..warm() }, &wide, 24);
    check_distribution(SamplingSettings { min_p: 0.2, ..warm() }, &wide, 24);
    check_distribution(SamplingSettings { top_k: 6, ..warm() }, &wide, 24);
    check_distribution(SamplingSettings { top_p: 0.7, ..warm() }, &wide, 24);
    check_distribution(SamplingSettings { temperature: 1.5, top_k: 20, top_p: 0.8, min_p: 0.1, ..warm() }, &wide, 24);
    // Equally likely tokens all stay, the two zeros among them.
    check_distribution(SamplingSettings { top_k: 1, ..warm() }, &[-0.0, 0.0, -2.0, 0.0], 24);
    // One token against a flat rest that is spread over several blocks.
    let mut flat = vec![0.0; 2100];
    flat[1234] = 2100_f32.ln();
    check_distribution(warm(), &flat, 6);
}
