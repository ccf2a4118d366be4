//! The table itself: what enters it, its memory, and what it refuses.

use super::*;

#[test]
fn a_long_history_arrives_in_pieces() {
    let vocab = 30_000;
    for [gpu, _] in pairs() {
        let shape = SamplingShape { state_rows: 3, rows_max: 1, vocab, biases_max: 9000 };
        let mut table = SamplingTable::new(&gpu, shape).unwrap();
        let settings = SamplingSettings { frequency_penalty: 0.1, ..greedy() };
        let long = Sequence {
            prompt: (0..vocab as u32).step_by(2).chain([0, 2]).collect(),
            generated: (0..vocab as u32).step_by(3).chain([3; 40_000]).chain([4; 100]).collect(),
            biases: (0..9000).rev().map(|token| (token * 3, token as f32)).collect(),
            ..Sequence::new(settings)
        };
        let short = Sequence { prompt: vec![5, 5], generated: vec![6], ..Sequence::new(settings) };
        let other = Sequence { prompt: (0..50).collect(), ..Sequence::new(greedy()) };
        table.enter(&gpu, &[long.entering(0), long.entering(2)]).unwrap();
        table.enter(&gpu, &[short.entering(2), other.entering(1)]).unwrap();

        let want_of = |sequence: &Sequence| {
            let mut counts = vec![0_u32; vocab];
            sequence
                .generated
                .iter()
                .for_each(|token| counts[*token as usize] = (counts[*token as usize] + 1).min(32_767));
            sequence.prompt.iter().for_each(|token| counts[*token as usize] |= 0x8000);
            counts.into_iter().map(|count| count as u16).collect::<Vec<_>>()
        };
        assert_eq!(gpu.read(&table.counts, 0, vocab).unwrap(), want_of(&long));
        assert_eq!(gpu.read(&table.counts, 2 * vocab, vocab).unwrap(), want_of(&short));
        let biases = gpu.read(&table.biases, 0, 18_000).unwrap();
        let tokens: Vec<u32> = (0..9000).map(|token| token * 3).collect();
        let values: Vec<u32> = (0..9000).map(|token| (token as f32).to_bits()).collect();
        assert_eq!((&biases[..9000], &biases[9000..]), (&tokens[..], &values[..]));

        // A count that is full stays full.
        let mut output = SampleOutput::new(&gpu, 1).unwrap();
        let mut logits = vec![0.0; vocab];
        logits[3] = 1e6;
        let (logits, state_rows) = (gpu.upload(&logits).unwrap(), gpu.upload(&[0]).unwrap());
        let input = SampleInput { logits: &logits, state_rows: &state_rows, rows: 1, mask: None };
        table.sample(&gpu, &input, &mut output).unwrap();
        assert_eq!(gpu.read(&table.counts, 0, vocab).unwrap(), want_of(&long));
    }
}

#[test]
fn a_table_takes_the_memory_it_says() {
    let gpu = Gpu::emulated(1);
    let free = gpu.memory_free().unwrap();
    let shape = SamplingShape { state_rows: 7, rows_max: 8, vocab: 5001, biases_max: 33 };
    let table = SamplingTable::new(&gpu, shape).unwrap();
    assert_eq!((free - gpu.memory_free().unwrap()) as u64, SamplingTable::bytes_needed(shape));
    let output = SampleOutput::new(&gpu, 8).unwrap();
    let both = SamplingTable::bytes_needed(shape) + SampleOutput::bytes_needed(output.rows_max());
    assert_eq!((free - gpu.memory_free().unwrap()) as u64, both);
    drop(table);
}

#[test]
fn nothing_is_sampled_for_no_rows() {
    let gpu = Gpu::emulated(1);
    let mut harness = Harness::new(&gpu, 10, 1);
    harness.launch(&gpu.uninitialised(0).unwrap(), &[], None);
    harness.table.enter(&gpu, &[]).unwrap();
    let (none, mut tokens) = (gpu.uninitialised(0).unwrap(), gpu.uninitialised(0).unwrap());
    harness.table.resolve_inputs(&gpu, (0, &none), &none, &mut tokens).unwrap();
}

#[test]
fn bugs_of_the_caller_are_found() {
    let check = |wrong: fn(&mut Harness)| {
        let mut harness = Harness::new(&Gpu::emulated(1), 10, 2);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wrong(&mut harness))).expect_err("a bug is found");
    };
    fn plain() -> Sequence {
        Sequence::new(greedy())
    }
    check(|harness| harness.enter(&[(2, &plain())]));
    check(|harness| harness.enter(&[(1, &plain()), (1, &plain())]));
    check(|harness| {
        let biases = (0..9).map(|token| (token, 1.0)).collect();
        harness.enter(&[(1, &Sequence { biases, ..plain() })]);
    });
    check(|harness| {
        harness.enter(&[(1, &Sequence::new(SamplingSettings { logprobs: Some(21), ..greedy() }))]);
    });
    check(|harness| drop(harness.step(&[vec![0.0; 9]], &[0])));
    check(|harness| drop(harness.step(&vec![vec![0.0; 10]; 3], &[0, 1, PAD])));
    // And what is no bug is not.
    let mut harness = Harness::new(&Gpu::emulated(1), 10, 2);
    harness.enter(&[(1, &plain()), (0, &plain())]);
}
