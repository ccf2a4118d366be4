//! Guesses behind decode rows: how many, what becomes of wrong ones, and what they never take away.

use super::{Bench, VOCAB, completion, config};
use crate::domain::FinishReason;
use crate::scheduler::fake::Expected;
use crate::scheduler::{
    Chunk, DraftRequest, Drafter, Input, NewSequence, Outcome, Sampled, Scheduler, SchedulerConfig, SequenceId,
};
use std::sync::Arc;

/// Says what it was told to, as far as there is room, and notes what it was asked.
#[derive(Default)]
struct Script {
    guesses: Vec<u32>,
    /// Room, tokens known, tokens in the step.
    asked: Vec<(usize, usize, usize)>,
}

impl Drafter for Script {
    fn step_drafts_max(&self) -> usize {
        8
    }

    fn draft(&mut self, request: DraftRequest<'_>) -> Vec<u32> {
        self.asked.push((request.tokens_max, request.tokens.len(), request.step_tokens));
        self.guesses.iter().copied().take(request.tokens_max).collect()
    }
}

/// Says of one prompt what the fake model will.
fn truth(new: &NewSequence) -> Vec<u32> {
    Expected::of(new, VOCAB, 3).output().to_vec()
}

impl Bench {
    fn submit_with(&mut self, script: &mut Script) -> Vec<(SequenceId, usize, usize)> {
        let step = self.scheduler.schedule_with(0, script).expect("something to compute");
        self.scheduler.check_step(&step);
        let chunks = step.chunks.iter().map(|chunk| (chunk.sequence, chunk.start, chunk.tokens.get())).collect();
        self.device.submit(step);
        self.scheduler.check();
        chunks
    }
}

#[test]
fn right_guesses_come_with_one_step_and_wrong_ones_are_computed_again() {
    let new = NewSequence { max_tokens: 10, ..completion(0..6) };
    let said = truth(&new);
    // The third guess is wrong.
    let guesses = vec![said[1], said[2], VOCAB as u32, said[4]];
    let mut bench = Bench::new(config());
    let id = bench.add(new);
    bench.step();
    let mut script = Script { guesses, ..Script::default() };
    assert_eq!(bench.submit_with(&mut script), [(id, 6, 5)]);
    let Chunk { input, sampled_rows, block_table, .. } = &bench.newest().chunks[0];
    assert_eq!((sampled_rows, block_table.len()), (&5, 3));
    assert_eq!(*input, Input::Known(vec![said[0], said[1], said[2], VOCAB as u32, said[4]]));
    assert_eq!(bench.collect().len(), 3, "two right guesses, and what follows them");
    assert_eq!(bench.output(id, 6), &said[..4]);
    assert_eq!(bench.submit_with(&mut Script::default()), [(id, 9, 1)], "the wrong guess's position is written again");
    bench.collect();
    bench.finish();
    bench.device.check_matchable(&bench.scheduler);
    assert!(bench.scheduler.is_drained());
}

#[test]
fn a_stop_token_among_right_guesses_ends_the_sequence_there() {
    let plain = NewSequence { max_tokens: 10, ..completion(0..6) };
    let said = truth(&plain);
    let mut bench = Bench::new(config());
    let id = bench.add(NewSequence { stop_tokens: Arc::new([said[2]]), ..plain });
    bench.step();
    let mut script = Script { guesses: said[1..6].to_vec(), ..Script::default() };
    bench.submit_with(&mut script);
    let outcomes = bench.collect();
    assert_eq!(outcomes.last(), Some(&Outcome::Finished { sequence: id, reason: FinishReason::Stop }));
    assert_eq!(outcomes.len(), 2, "one token before it");
    assert_eq!(bench.scheduler.stats().discarded_tokens_total, 4);
    bench.device.check_matchable(&bench.scheduler);
    assert!(bench.scheduler.is_drained());
}

#[test]
fn nothing_is_guessed_past_the_limit_of_a_sequence() {
    let new = NewSequence { max_tokens: 4, ..completion(0..6) };
    let said = truth(&new);
    let mut bench = Bench::new(config());
    let id = bench.add(new);
    bench.step();
    let mut script = Script { guesses: said[1..].to_vec(), ..Script::default() };
    assert_eq!(bench.submit_with(&mut script), [(id, 6, 3)]);
    assert_eq!(script.asked, [(2, 7, 1)], "three tokens are left, one of them comes in any case");
    let outcomes = bench.collect();
    assert_eq!(outcomes.last(), Some(&Outcome::Finished { sequence: id, reason: FinishReason::Length }));
    assert!(bench.scheduler.is_drained());
}

#[test]
fn guesses_take_only_tokens_that_planned_rows_leave() {
    let mut bench = Bench::new(SchedulerConfig { step_tokens_max: 20, ..config() });
    let first = bench.add(NewSequence { max_tokens: 30, ..completion(0..4) });
    bench.step();
    let second = bench.add(NewSequence { max_tokens: 30, deadline_us: 2_000_000, ..completion(100..104) });
    bench.step();
    let mut script = Script { guesses: vec![VOCAB as u32; 6], ..Script::default() };
    assert_eq!(bench.submit_with(&mut script), [(first, 5, 7), (second, 4, 3)], "eight in all");
    assert_eq!(script.asked, [(8, 6, 2), (2, 5, 8)]);
    bench.collect();
    let long = bench.add(NewSequence { deadline_us: 3_000_000, ..completion(200..230) });
    assert_eq!(bench.submit_with(&mut script), [(first, 6, 3), (second, 5, 1), (long, 0, 16)]);
    bench.collect();
    bench.finish();
    assert!(bench.scheduler.is_drained());
}

#[test]
fn guesses_take_no_block_that_somebody_could_miss() {
    // Two blocks are held, and of the two free ones the sequence that runs keeps one to grow into.
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 4, ..config() });
    let id = bench.add(NewSequence { max_tokens: 9, ..completion(0..7) });
    bench.step();
    let mut script = Script { guesses: vec![VOCAB as u32; 8], ..Script::default() };
    assert_eq!(bench.submit_with(&mut script), [(id, 7, 5)], "the rest of its block, and one block");
    assert_eq!(bench.free(), 1);
    bench.collect();
    let waiting = bench.add(NewSequence { max_tokens: 1, deadline_us: 2_000_000, ..completion(100..115) });
    assert_eq!(bench.submit_with(&mut script), [(id, 8, 4)], "blocks are waited for: only what it holds already");
    bench.collect();
    bench.finish();
    assert!(!bench.scheduler.contains(waiting) && bench.scheduler.is_drained());
}

#[test]
#[should_panic(expected = "behind a wrong guess")]
fn no_token_is_taken_from_behind_a_wrong_guess() {
    let mut scheduler = Scheduler::new(config()).expect("sound");
    let sequence = scheduler.add(NewSequence { max_tokens: 10, ..completion(0..6) }, 0).expect("admitted").id;
    let step = scheduler.schedule(0).expect("a prefill");
    scheduler.commit(step.id, &[Sampled { sequence, token: 1 }]);
    let step = scheduler.schedule_with(0, &mut Script { guesses: vec![2, 3], ..Script::default() }).expect("a decode");
    scheduler.commit(step.id, &[7, 8].map(|token| Sampled { sequence, token }));
}
