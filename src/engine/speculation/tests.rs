//! The decision how much to guess, without an engine.

use super::*;
use crate::domain::{CacheSalt, SessionKey};
use crate::engine::batch::{PackedChunk, RowInput, SampledRow};
use crate::sampler::SampledToken;

const TEXT: [u32; 25] = [9, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 9, 1, 2, 3, 4];

fn speculator(budget: f64) -> Speculator {
    let mut speculator = Speculator::new(32);
    speculator.admit(SequenceId(1), None, 20, 100);
    speculator.budget = budget;
    speculator
}

fn request(step_decodes: usize, step_tokens: usize) -> DraftRequest<'static> {
    DraftRequest { sequence: SequenceId(1), tokens: &TEXT, tokens_max: 16, step_decodes, step_tokens }
}

fn check(speculator: &mut Speculator, request: DraftRequest<'_>, expected: &[u32]) {
    let before = speculator.budget;
    assert_eq!(speculator.draft(request), expected);
    assert_eq!(before - speculator.budget, expected.len() as f64, "every guess is paid for");
}

#[test]
fn a_guess_is_as_long_as_sequence_budget_and_room_allow() {
    check(&mut speculator(100.0), request(1, 1), &[5, 6, 7, 8]);
    check(&mut speculator(2.9), request(1, 1), &[5, 6]);
    check(&mut speculator(0.9), request(1, 1), &[]);
    check(&mut speculator(100.0), DraftRequest { tokens_max: 1, ..request(1, 1) }, &[5]);
    check(&mut speculator(100.0), request(1, STEP_TOKENS_MAX - 3), &[5, 6, 7]);
    check(&mut speculator(100.0), request(1, STEP_TOKENS_MAX), &[]);
    check(&mut speculator(100.0), DraftRequest { sequence: SequenceId(2), ..request(1, 1) }, &[]);
    let mut bold = speculator(100.0);
    for _ in 0..9 {
        bold.sequences.get_mut(&SequenceId(1)).expect("admitted").acceptance.learn(24, 4, 4);
    }
    assert_eq!(bold.draft(request(1, 1)).len(), 12, "five tokens matched: believed for twelve");
}

#[test]
fn rows_that_cost_what_they_bring_are_not_guessed() {
    let with_costs = |micros_of: fn(u64) -> u64| {
        let mut speculator = speculator(100.0);
        for rows in [1, 2, 4, 8, 12, 16, 32, 48] {
            speculator.costs.learn(rows, micros_of(rows as u64));
        }
        speculator
    };
    // Weights are streamed: eight rows take hardly longer than one.
    check(&mut with_costs(|rows| 10_000 + 100 * rows), request(1, 1), &[5, 6, 7, 8]);
    check(&mut with_costs(|rows| 10_000 + 100 * rows), request(8, 8), &[5, 6, 7, 8]);
    // The machine computes as fast as it can: each row costs the same.
    check(&mut with_costs(|rows| 1_000 * rows), request(1, 1), &[]);
    check(&mut with_costs(|rows| 1_000 * rows), request(8, 8), &[]);
    // In between a few are worth it, and in a large company none.
    check(&mut with_costs(|rows| 4_000 + 900 * rows), request(1, 1), &[5, 6, 7]);
    check(&mut with_costs(|rows| 4_000 + 900 * rows), request(24, 24), &[]);
}

/// A step of one sequence that computes `tokens` from position `start` on, the last `sampled_rows` of them sampled.
fn step(sequence: SequenceId, start: usize, tokens: &[u32], sampled_rows: usize) -> Batch {
    let rows = tokens.len();
    let sampled = (rows - sampled_rows..rows).map(|row| SampledRow { sequence, row: row as u32, state_row: 0 });
    Batch {
        inputs: tokens.iter().map(|token| RowInput::Known(*token)).collect(),
        chunks: vec![PackedChunk { sequence, first_row: 0, rows, start, block_table: 0..0 }],
        sampled: sampled.collect(),
        ..Batch::default()
    }
}

fn said(tokens: &[u32]) -> Vec<RowResult> {
    tokens.iter().map(|token| Ok(SampledToken { token: *token, logprobs: None })).collect()
}

/// Sequences that each begin with the trust that all begin with: pauses alone would not bound what they lose.
#[test]
fn as_long_as_nothing_is_right_one_row_in_fifty_is_guessed() {
    let mut speculator = Speculator::new(32);
    let (mut computed, mut guessed) = (0, 0);
    for sequence in (0..300).map(SequenceId) {
        // After "1 2 3" always comes something that has never come before.
        let text: Vec<u32> = (0..7).flat_map(|index| [1, 2, 3, 100 + index]).collect();
        speculator.admit(sequence, None, 12, 16);
        speculator.learn(&step(sequence, 0, &text[..12], 1), &said(&text[12..13]), 0);
        computed += 12;
        for len in 13..text.len() {
            let tokens = &text[..len];
            let request = DraftRequest { sequence, tokens, tokens_max: 16, step_decodes: 1, step_tokens: 1 };
            let draft = speculator.draft(request);
            let rows = [&text[len - 1..len], &draft].concat();
            let learnt = speculator.learn(&step(sequence, len - 1, &rows, rows.len()), &said(&text[len..=len]), 0);
            assert_eq!(learnt, Verified { drafted: draft.len(), accepted: 0 });
            computed += 1;
            guessed += draft.len();
            assert!(guessed * 50 <= computed, "{guessed} rows guessed in vain beside {computed}");
        }
        speculator.forget(sequence, &text);
    }
    assert!(guessed * 60 > computed, "{guessed} rows guessed beside {computed}: the budget is there to be used");
}

#[test]
fn a_right_guess_pays_for_three_wrong_ones_up_to_a_limit() {
    let mut speculator = speculator(10.0);
    let draft = speculator.draft(request(1, 1));
    assert_eq!((draft.len(), speculator.budget), (4, 6.0));
    let rows = [&TEXT[24..], &draft].concat();
    let batch = step(SequenceId(1), 24, &rows, rows.len());
    let learnt = speculator.learn(&batch, &said(&[5, 6, 99]), 1_000);
    assert_eq!(learnt, Verified { drafted: 4, accepted: 2 });
    assert!((speculator.budget - (6.0 + 0.02 + 2.0 * 4.0)).abs() < 1e-9, "{}", speculator.budget);
    assert_eq!(speculator.costs.of(5), 1_000.0);
    for _ in 0..100 {
        speculator.learn(&batch, &said(&[5, 6, 7, 8, 99]), 1_000);
    }
    assert_eq!(speculator.budget, BUDGET_MAX);
}

#[test]
fn what_is_switched_off_keeps_nothing() {
    let mut off = Speculator::new(0);
    let session = Some((SessionKey("a".into()), CacheSalt(1)));
    off.admit(SequenceId(1), session, 5, 10);
    assert!(off.sequences.is_empty());
    off.forget(SequenceId(1), &TEXT);
    assert_eq!((off.step_drafts_max(), off.draft(request(1, 1))), (0, Vec::new()));
}

#[test]
fn guesses_and_sessions_do_not_show_in_debug_output() {
    let mut speculator = speculator(100.0);
    let session = Some((SessionKey("a secret editor".into()), CacheSalt(1)));
    speculator.admit(SequenceId(3), session, 20, 100);
    speculator.forget(SequenceId(3), &[987_654; 30]);
    speculator.draft(request(1, 1));
    let shown = format!("{speculator:?}");
    assert!(!shown.contains("987654") && !shown.contains("secret") && !shown.contains("17, 18"), "{shown}");
}
