//! Kernels against `reference`.

mod draws;
mod reference;
mod rows;
mod steps;
mod table;

use super::*;
use crate::gpu::PAD;
use crate::gpu::testing::{each, gpus, kinds, pairs};
use crate::testing::Random;
use reference::{Sequence, argmax, greedy, log_probabilities, warm};

const VOCABULARIES: [usize; 5] = [1, 2, 33, 1000, 5000];

/// Every vocabulary; small ones on devices that differ in the order of their threads.
fn devices_and_vocabularies() -> Vec<(Gpu, usize)> {
    let seeds = |vocab| if vocab < 5000 { 1..=2 } else { 1..=1 };
    let cases = VOCABULARIES.iter().flat_map(|vocab| seeds(*vocab).map(|seed| (seed, *vocab)));
    cases.flat_map(|(seed, vocab)| kinds().into_iter().map(move |kind| (kind.open(seed), vocab))).collect()
}

/// A table and what a runner has around it.
struct Harness {
    gpu: Gpu,
    table: SamplingTable,
    output: SampleOutput,
    results: SampleResults,
    mask: Vec<u32>,
}

impl Harness {
    fn new(gpu: &Gpu, vocab: usize, rows: usize) -> Self {
        let shape = SamplingShape { state_rows: rows, rows_max: rows, vocab, biases_max: 8 };
        Self {
            gpu: gpu.clone(),
            table: SamplingTable::new(gpu, shape).unwrap(),
            output: SampleOutput::new(gpu, rows).unwrap(),
            results: SampleResults::new(gpu, rows).unwrap(),
            mask: vec![0; rows * shape.mask_words()],
        }
    }

    fn enter(&mut self, rows: &[(u32, &Sequence)]) {
        let words = self.table.shape().mask_words();
        for (row, sequence) in rows.iter().filter(|(_, sequence)| sequence.settings.is_masked) {
            self.mask[*row as usize * words..][..words].copy_from_slice(&sequence.mask);
        }
        let entering: Vec<Entering> = rows.iter().map(|(row, sequence)| sequence.entering(*row)).collect();
        self.table.enter(&self.gpu, &entering).unwrap();
    }

    /// One step; `None` for padded rows.
    fn step(&mut self, logits: &[Vec<f32>], state_rows: &[u32]) -> Vec<Option<Sampled>> {
        let mask = self.gpu.upload(&self.mask).unwrap();
        self.launch(&self.gpu.upload(&logits.concat()).unwrap(), state_rows, Some(&mask));
        self.output.receive(&self.gpu, state_rows.len(), &mut self.results).unwrap();
        let decode = |(row, state_row): (usize, &u32)| (*state_row != PAD).then(|| self.results.decode(row).unwrap());
        state_rows.iter().enumerate().map(decode).collect()
    }

    fn launch(&mut self, logits: &Buffer<f32>, state_rows: &[u32], mask: Option<&Buffer<u32>>) {
        let numbers = self.gpu.upload(state_rows).unwrap();
        let input = SampleInput { logits, state_rows: &numbers, rows: state_rows.len(), mask };
        self.table.sample(&self.gpu, &input, &mut self.output).unwrap();
        self.gpu.synchronise().unwrap();
    }

    /// Steps of sequences in rows 0, 1, ..: the tokens.
    fn tokens(&mut self, logits: &[Vec<f32>]) -> Vec<u32> {
        let state_rows: Vec<u32> = (0..logits.len() as u32).collect();
        self.step(logits, &state_rows).into_iter().map(|sampled| token_of(&sampled.unwrap())).collect()
    }
}

fn token_of(sampled: &Sampled) -> u32 {
    match sampled {
        Sampled::Token { token, .. } => *token,
        Sampled::NotFinite => panic!("a row with finite logits has a token"),
    }
}

/// Logits over a range of 12, as a model's.
fn wide_logits(vocab: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..vocab).map(|_| random.float() * 6.0).collect()
}

/// Few different values: many tokens are equally likely.
fn stepped_logits(vocab: usize, seed: u64) -> Vec<f32> {
    wide_logits(vocab, seed).iter().map(|logit| logit.round()).collect()
}

/// A few likely tokens far above the rest.
fn peaked_logits(vocab: usize, seed: u64) -> Vec<f32> {
    let mut logits = wide_logits(vocab, seed);
    let mut random = Random(seed);
    for _ in 0..vocab.min(12) {
        logits[random.below(vocab)] += 9.0;
    }
    logits
}

/// Some logits that are no numbers to choose, and both zeros.
fn damaged(mut logits: Vec<f32>, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    for value in [f32::NAN, f32::NEG_INFINITY, -0.0, 0.0, f32::NAN, f32::NEG_INFINITY] {
        let token = random.below(logits.len());
        logits[token] = value;
    }
    let last = logits.len() - 1;
    logits[last] = 5.5;
    logits
}

/// Every combination of the filters, each with its own seed.
fn filter_combinations() -> Vec<Sequence> {
    let mut sequences = Vec::new();
    for temperature in [0.3, 2.0] {
        for top_k in [0, 1, 5, 700] {
            for top_p in [1.0, 0.5, 0.95, 0.999] {
                for min_p in [0.0, 0.02] {
                    let settings = SamplingSettings { temperature, top_k, top_p, min_p, ..warm() };
                    sequences.push(Sequence { seed: sequences.len() as u64 * 77, ..Sequence::new(settings) });
                }
            }
        }
    }
    sequences
}

/// Sequences with everything that adjusts logits, greedy and drawn.
fn adjusting_sequences(vocab: usize) -> Vec<Sequence> {
    let token = |index: usize| (index * 7 % vocab) as u32;
    let penalties = |repetition_penalty, presence_penalty, frequency_penalty| SamplingSettings {
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        ..greedy()
    };
    let of = |settings| Sequence {
        prompt: vec![token(1), token(2), token(1), vocab as u32, PAD],
        generated: vec![token(3), token(3), token(2)],
        biases: vec![(token(5), 1.5), (token(4), -100.0), (vocab as u32, 100.0), (token(5), -0.25), (token(6), 2.0)],
        mask: (0..vocab.div_ceil(32) as u32).map(|word| word.wrapping_mul(0x9e37_79b9) | 1).collect(),
        ..Sequence::new(settings)
    };
    let mut sequences = vec![
        of(penalties(1.3, 0.0, 0.0)),
        of(penalties(0.8, 0.0, 0.0)),
        of(penalties(1.0, 1.1, 0.0)),
        of(penalties(1.0, 0.0, 0.7)),
        of(penalties(1.2, -0.4, 0.3)),
        of(SamplingSettings { is_masked: true, ..penalties(1.2, 0.5, 0.0) }),
        of(SamplingSettings { is_masked: true, ..greedy() }),
        of(greedy()),
        Sequence { biases: Vec::new(), ..of(penalties(2.0, 0.5, 0.5)) },
    ];
    let drawn = sequences.clone().into_iter().map(|mut sequence| {
        sequence.settings = SamplingSettings { temperature: 0.9, top_p: 0.9, top_k: 40, ..sequence.settings };
        sequence
    });
    sequences.extend(drawn.collect::<Vec<_>>());
    sequences
}

/// Different logits in each step, close to each other so that every adjustment matters.
fn logits_of_step(vocab: usize, step: u64) -> Vec<f32> {
    wide_logits(vocab, step).iter().map(|logit| logit / 4.0).collect()
}
