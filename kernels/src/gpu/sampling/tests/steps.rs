//! Sequences over several steps: what the device keeps of them without the host.

use super::*;

#[test]
fn penalties_bias_and_mask_hold_over_steps_without_the_host() {
    for (gpu, vocab) in each(&VOCABULARIES) {
        let mut sequences = adjusting_sequences(vocab);
        let mut harness = Harness::new(&gpu, vocab, sequences.len());
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        harness.enter(&rows);
        for step in 0..if vocab > 1000 { 3 } else { 8 } {
            let logits = logits_of_step(vocab, step);
            let tokens = harness.tokens(&vec![logits.clone(); sequences.len()]);
            for (sequence, token) in sequences.iter_mut().zip(tokens) {
                let adjusted = sequence.adjusted(&logits);
                let support = sequence.support(&adjusted);
                let (want, margin) = match sequence.settings.temperature {
                    0.0 => (argmax(&adjusted), f64::INFINITY),
                    _ => sequence.draw(&adjusted, |token| support.may[token]),
                };
                let is_unclear = margin < 1e-4 || sequence.settings.temperature > 0.0 && support.must != support.may;
                assert!(token == want || is_unclear, "step {step}: token {token}, not {want}: {sequence:?}");
                sequence.generated.push(token);
            }
        }
    }
}

#[test]
fn a_resumed_sequence_goes_on_with_the_same_tokens() {
    let (vocab, steps) = (300, 12);
    for [gpu, other] in pairs() {
        let sequences = adjusting_sequences(vocab);
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        let mut whole = Harness::new(&gpu, vocab, sequences.len());
        whole.enter(&rows);
        let run = |harness: &mut Harness, steps: std::ops::Range<u64>| -> Vec<Vec<u32>> {
            steps.map(|step| harness.tokens(&vec![logits_of_step(vocab, step); sequences.len()])).collect()
        };
        let tokens = run(&mut whole, 0..steps);

        let mut resumed = Harness::new(&other, vocab, sequences.len());
        // Rows that somebody else had before.
        resumed.enter(&rows);
        run(&mut resumed, 20..22);
        let mut halfway = sequences.clone();
        for (row, sequence) in halfway.iter_mut().enumerate() {
            sequence.generated.extend(tokens[..5].iter().map(|tokens| tokens[row]));
        }
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&halfway).collect();
        resumed.enter(&rows);
        assert_eq!(run(&mut resumed, 5..steps), tokens[5..]);
    }
}

#[test]
fn a_row_is_the_same_alone_and_in_a_batch() {
    let vocab = 2500;
    for [gpu, other] in pairs() {
        let mut sequences = adjusting_sequences(vocab);
        for sequence in &mut sequences {
            sequence.settings.logprobs = Some(3);
        }
        let logits: Vec<Vec<f32>> = (0..sequences.len() as u64).map(|step| logits_of_step(vocab, step)).collect();
        let mut batch = Harness::new(&gpu, vocab, sequences.len());
        let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
        batch.enter(&rows);
        let state_rows: Vec<u32> = (0..sequences.len() as u32).collect();
        let together = batch.step(&logits, &state_rows);
        for (row, sequence) in sequences.iter().enumerate().step_by(3) {
            let mut alone = Harness::new(&other, vocab, 3);
            alone.enter(&[(2, sequence)]);
            assert_eq!(alone.step(&[logits[row].clone()], &[2]), [together[row].clone()], "{sequence:?}");
        }
    }
}

/// Steps are submitted with nothing read in between: inputs come from the samples before, recorded in a graph or not.
fn check_chain(gpu: &Gpu, is_recorded: bool) {
    let (vocab, steps) = (50, 6);
    let sequences = [greedy(), warm(), SamplingSettings { top_p: 0.8, ..warm() }].map(Sequence::new);
    let mut harness = Harness::new(gpu, vocab, 4);
    let rows: Vec<(u32, &Sequence)> = (0..).zip(&sequences).collect();
    harness.enter(&rows);
    let logits: Vec<Vec<f32>> = (0..steps).map(|step| wide_logits(vocab, step)).collect();

    let state_rows = gpu.upload(&[2, PAD, 0, 1]).unwrap();
    let known = gpu.upload(&[11, 12, 13, 14, 15]).unwrap();
    // Rows of a prompt, a row that has not sampled yet, and a row that the table does not have.
    let mut from_rows = gpu.upload(&[PAD, 2, 3, 0, 4]).unwrap();
    let mut token_ids = gpu.upload(&[7; 6]).unwrap();
    let mut device_logits = gpu.uninitialised(4 * vocab).unwrap();
    harness.table.resolve_inputs(gpu, (5, &known), &from_rows, &mut token_ids).unwrap();
    assert_eq!(gpu.read(&token_ids, 0, 6).unwrap(), [11, PAD, PAD, PAD, PAD, 7]);

    gpu.write(&mut from_rows, 0, &[2, PAD, 0, 1, 1]).unwrap();
    let table = &mut harness.table;
    let mut submit = |logits: &Buffer<f32>, token_ids: &mut Buffer<u32>| {
        table.resolve_inputs(gpu, (5, &known), &from_rows, token_ids)?;
        let input = SampleInput { logits, state_rows: &state_rows, rows: 4, mask: None };
        table.sample(gpu, &input, &mut harness.output)
    };
    let graph = is_recorded.then(|| gpu.capture(|| submit(&device_logits, &mut token_ids)).unwrap());
    let mut inputs = Vec::new();
    for logits in &logits {
        gpu.write(&mut device_logits, 0, &vec![logits.clone(); 4].concat()).unwrap();
        match &graph {
            Some(graph) => graph.replay().unwrap(),
            None => submit(&device_logits, &mut token_ids).unwrap(),
        }
        inputs.push(gpu.read(&token_ids, 0, 5).unwrap());
    }
    let mut sequences = sequences.to_vec();
    let mut previous = [PAD; 3];
    for (logits, inputs) in logits.iter().zip(inputs) {
        assert_eq!(inputs, [previous[2], 12, previous[0], previous[1], previous[1]]);
        for (sequence, previous) in sequences.iter_mut().zip(&mut previous) {
            let support = sequence.support(logits);
            let is_greedy = sequence.settings.temperature == 0.0;
            *previous = if is_greedy { argmax(logits) } else { sequence.draw(logits, |token| support.may[token]).0 };
            sequence.generated.push(*previous);
        }
    }
}

#[test]
fn inputs_are_the_samples_of_the_step_before() {
    for (gpu, is_recorded) in each(&[false, true]) {
        check_chain(&gpu, is_recorded);
    }
}
