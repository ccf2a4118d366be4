//! Single steps: greedy choice, masks, log probabilities, rows that are damaged or padding.

use super::*;

#[test]
fn greedy_rows_take_the_lowest_of_the_largest() {
    for (gpu, vocab) in devices_and_vocabularies() {
        let mut logits: Vec<Vec<f32>> = (0..3).map(|seed| stepped_logits(vocab, seed)).collect();
        logits.extend((3..9).map(|seed| damaged(wide_logits(vocab, seed), seed)));
        logits.push(vec![-f32::MAX; vocab]);
        // The zeros are equal.
        logits.push((0..vocab).map(|token| [-1.0, -0.0, 0.0][token % 3]).collect());
        let mut harness = Harness::new(&gpu, vocab, logits.len());
        let sequence = Sequence::new(greedy());
        let rows: Vec<(u32, &Sequence)> = (0..logits.len() as u32).map(|row| (row, &sequence)).collect();
        harness.enter(&rows);
        let want: Vec<u32> = logits.iter().map(|logits| argmax(logits)).collect();
        assert_eq!(harness.tokens(&logits), want, "{vocab} tokens");
    }
}

fn check_logprobs(sequence: &Sequence, logits: &[f32], sampled: Option<Sampled>) {
    let Some(Sampled::Token { token, logprobs: Some(logprobs) }) = sampled else { panic!("{sampled:?}") };
    let want = log_probabilities(logits);
    let is_close = |got: f32, want: f64| got == want as f32 || (f64::from(got) - want).abs() < 2e-5;
    assert!(is_close(logprobs.chosen, want[token as usize]), "{} of {}", logprobs.chosen, want[token as usize]);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|left, right| want[*right].total_cmp(&want[*left]));
    order.truncate(sequence.settings.logprobs.expect("the case asks for them") as usize);
    let got: Vec<usize> = logprobs.top.iter().map(|(token, _)| *token as usize).collect();
    assert_eq!(got, order, "{:?}", sequence.settings);
    for (token, logprob) in logprobs.top {
        assert!(is_close(logprob, want[token as usize]), "{logprob} of {}", want[token as usize]);
    }
}

#[test]
fn log_probabilities_are_the_models_own() {
    for (gpu, vocab) in devices_and_vocabularies() {
        let sequences: Vec<Sequence> = [0, 1, 5, 20]
            .into_iter()
            .zip(adjusting_sequences(vocab).into_iter().step_by(5))
            .map(|(count, mut sequence)| {
                sequence.settings.logprobs = Some(count);
                sequence
            })
            .collect();
        let mut harness = Harness::new(&gpu, vocab, sequences.len());
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        harness.enter(&rows);
        // Without every third token, and without all but the first of nine tenths; that one every mask allows.
        for (base, excluded) in [(wide_logits(vocab, 8), 3), (stepped_logits(vocab, 9), 3), (wide_logits(vocab, 10), 1)]
        {
            let mut logits: Vec<Vec<f32>> = vec![base; sequences.len()];
            for row in &mut logits {
                let tokens = row.iter_mut().take(vocab * 9 / 10).skip(1).step_by(excluded);
                tokens.for_each(|logit| *logit = f32::NEG_INFINITY);
            }
            let sampled = harness.step(&logits, &[0, 1, 2, 3]);
            for ((sequence, logits), sampled) in sequences.iter().zip(&logits).zip(sampled) {
                check_logprobs(sequence, logits, sampled);
            }
        }
    }
}

#[test]
fn a_mask_leaves_only_what_it_allows() {
    for (gpu, (vocab, allowed)) in each(&[(33_usize, 32), (1000, 999), (5000, 4096)]) {
        let mut mask = vec![0; vocab.div_ceil(32)];
        mask[allowed / 32] = 1 << (allowed % 32);
        let masked = |settings| Sequence {
            mask: mask.clone(),
            ..Sequence::new(SamplingSettings { is_masked: true, ..settings })
        };
        let filtered = SamplingSettings { top_k: 7, top_p: 0.3, ..warm() };
        let sequences = [masked(greedy()), masked(warm()), masked(filtered), Sequence::new(greedy())];
        let mut harness = Harness::new(&gpu, vocab, sequences.len());
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        harness.enter(&rows);
        let mut logits = wide_logits(vocab, 1);
        logits[0] = 100.0;
        let only = allowed as u32;
        assert_eq!(harness.tokens(&vec![logits.clone(); 4]), [only, only, only, 0]);
        // Nothing that is allowed can be chosen.
        for value in [f32::NEG_INFINITY, f32::INFINITY, f32::NAN] {
            logits[allowed] = value;
            let sampled = harness.step(&vec![logits.clone(); 4], &[0, 1, 2, 3]);
            assert_eq!(sampled[..3], vec![Some(Sampled::NotFinite); 3], "{value}");
        }
        // Without a mask there is nothing to hold a sequence back.
        let logits = gpu.upload(&wide_logits(vocab, 1)).unwrap();
        harness.launch(&logits, &[0], None);
        harness.output.receive(&gpu, 1, &mut harness.results).unwrap();
        let token = token_of(&harness.results.decode(0).unwrap());
        assert_eq!(token, argmax(&wide_logits(vocab, 1)));
    }
}

#[test]
fn a_row_without_a_finite_logit_fails_alone_and_stays_as_it_was() {
    for (gpu, vocab) in gpus().flat_map(|gpu| [1, 33, 2500].map(|vocab| (gpu.clone(), vocab))) {
        let penalised = SamplingSettings { frequency_penalty: 0.5, logprobs: Some(2), ..greedy() };
        let settings = [penalised, warm(), SamplingSettings { top_p: 0.5, ..warm() }, warm(), greedy(), warm()];
        let sequences = settings.map(Sequence::new);
        let mut harness = Harness::new(&gpu, vocab, sequences.len());
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        harness.enter(&rows);
        let fine = logits_of_step(vocab, 1);
        let infinite = |value: f32| vec![value; vocab];
        let logits = [
            infinite(f32::NAN),
            infinite(f32::NEG_INFINITY),
            infinite(f32::INFINITY),
            infinite(f32::NAN),
            fine.clone(),
            fine.clone(),
        ];
        let read = |harness: &Harness| gpu.read(&harness.table.states, 0, 4 * STATE_WORDS).unwrap();
        let before = (read(&harness), gpu.read(&harness.table.counts, 0, vocab).unwrap());
        let sampled = harness.step(&logits, &[0, 1, 2, 3, 4, 5]);
        assert_eq!(sampled[..4], vec![Some(Sampled::NotFinite); 4], "{vocab} tokens");
        assert_eq!(token_of(sampled[4].as_ref().unwrap()), argmax(&fine));
        assert!((token_of(sampled[5].as_ref().unwrap()) as usize) < vocab);
        assert_eq!((read(&harness), gpu.read(&harness.table.counts, 0, vocab).unwrap()), before);
        // The draw that failed is taken again.
        let again = harness.tokens(&vec![fine.clone(); sequences.len()]);
        assert_eq!(again[0], argmax(&fine));
        assert_eq!(again[1], sequences[1].draw(&fine, |_| true).0);
    }
}

#[test]
fn an_infinite_logit_wins_and_nan_never_does() {
    for [gpu, _] in pairs() {
        let settings = [greedy(), warm(), SamplingSettings { top_k: 2, top_p: 0.5, min_p: 0.1, ..warm() }];
        let sequences = settings.map(|settings| Sequence::new(SamplingSettings { logprobs: Some(2), ..settings }));
        let mut harness = Harness::new(&gpu, 40, 3);
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        harness.enter(&rows);
        let mut logits = wide_logits(40, 1);
        (logits[3], logits[30], logits[31]) = (f32::NAN, f32::INFINITY, f32::INFINITY);
        assert_eq!(harness.tokens(&vec![logits.clone(); 3]), [30, 30, 30]);
        // The sum of probabilities is not a number then, but the most likely tokens are known.
        (logits[30], logits[31]) = (20.0, 19.0);
        for sampled in harness.step(&vec![logits; 3], &[0, 1, 2]) {
            let Some(Sampled::Token { token, logprobs: Some(logprobs) }) = sampled else { panic!("{sampled:?}") };
            assert!(token != 3 && logprobs.chosen.is_nan());
            assert_eq!(logprobs.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [30, 31]);
        }
    }
}

#[test]
fn padded_rows_leave_everything_as_it_was() {
    let vocab = 100;
    for gpu in gpus() {
        let sequence =
            Sequence::new(SamplingSettings { presence_penalty: 1.0, top_p: 0.9, logprobs: Some(4), ..warm() });
        let mut harness = Harness::new(&gpu, vocab, 4);
        harness.enter(&[(0, &sequence), (1, &sequence), (3, &sequence)]);
        let states = gpu.read(&harness.table.states, 0, 4 * STATE_WORDS).unwrap();
        gpu.fill_bytes(&mut harness.output.records, 0x77).unwrap();
        harness.step(&vec![vec![f32::NAN; vocab]; 3], &[PAD, PAD, PAD]);
        harness.step(&[vec![f32::NAN; vocab], wide_logits(vocab, 1), vec![f32::NAN; vocab]], &[PAD, 3, PAD]);
        let after = gpu.read(&harness.table.states, 0, 4 * STATE_WORDS).unwrap();
        assert_eq!(after[..3 * STATE_WORDS], states[..3 * STATE_WORDS]);
        assert_ne!(after[3 * STATE_WORDS..], states[3 * STATE_WORDS..]);
        let records = gpu.read(&harness.output.records, 0, 4).unwrap();
        let written: Vec<bool> = records.iter().map(|record| record.flags != 0x7777_7777).collect();
        assert_eq!(written, [false, true, false, false]);
    }
}
