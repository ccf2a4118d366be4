//! Steps in flight: what arrives while one is computed, and what is held until it is collected.

use super::{Bench, chat, completion, config};
use crate::domain::FinishReason;
use crate::scheduler::{Input, NewSequence, Outcome, Scheduler, SchedulerConfig, StepId};
use std::sync::Arc;

#[test]
fn one_step_ahead_a_decode_row_takes_the_previous_sample() {
    let mut bench = Bench::new(SchedulerConfig { depth: 1, ..config() });
    let id = bench.add(NewSequence { max_tokens: 3, ..completion(0..4) });
    bench.submit();
    assert_eq!(bench.submit(), [(id, 4, 1)]);
    let chunk = &bench.newest().chunks[0];
    assert_eq!((&chunk.input, chunk.enters_slot), (&Input::PreviousSample, false));
    assert!(bench.scheduler.schedule(0).is_none(), "two steps are in flight");
    bench.collect();
    assert_eq!(bench.submit(), [(id, 5, 1)]);
    bench.collect();
    assert!(bench.scheduler.schedule(0).is_none(), "a fourth token would exceed the limit");
    let last = bench.collect();
    assert_eq!(last[1], Outcome::Finished { sequence: id, reason: FinishReason::Length });
    assert_eq!(bench.scheduler.stats().discarded_tokens_total, 0);
    assert!(bench.scheduler.is_drained());
}

#[test]
fn a_stop_found_while_a_step_is_in_flight_discards_the_surplus_token() {
    let mut bench = Bench::new(SchedulerConfig { depth: 1, ..config() });
    let probe = bench.add(NewSequence { max_tokens: 1, ..completion(0..4) });
    bench.submit();
    bench.collect();
    let stop = bench.output(probe, 4)[0];
    let id = bench.add(NewSequence { stop_tokens: Arc::new([stop]), ..completion(0..4) });
    bench.submit();
    bench.submit();
    assert_eq!(64 - bench.free(), 3, "two blocks and the source of a copy");
    assert_eq!(bench.collect(), [Outcome::Finished { sequence: id, reason: FinishReason::Stop }]);
    assert_eq!(64 - bench.free(), 2, "the blocks are held by the step in flight");
    assert_eq!(bench.scheduler.stats().slots_free, 3);
    assert_eq!(bench.collect(), []);
    assert_eq!(bench.scheduler.stats().discarded_tokens_total, 1);
    assert!(bench.scheduler.is_drained());
    bench.device.check_matchable(&bench.scheduler);
}

#[test]
fn a_cancel_while_a_step_is_in_flight_keeps_blocks_and_slot_until_it_is_collected() {
    let mut bench = Bench::new(SchedulerConfig { depth: 1, running_max: 1, num_blocks: 4, ..config() });
    let id = bench.add(completion(0..12));
    bench.submit();
    bench.submit();
    bench.scheduler.cancel(id);
    assert!(!bench.scheduler.contains(id) && !bench.scheduler.is_idle());
    let next = bench.add(NewSequence { max_tokens: 4, ..completion((0..12).chain([5])) });
    assert!(bench.scheduler.schedule(0).is_none());
    assert_eq!(bench.collect(), []);
    assert!(bench.scheduler.schedule(0).is_none(), "the only slot is in flight");
    assert_eq!(bench.free(), 0);
    assert_eq!(bench.collect(), []);
    assert_eq!(bench.submit(), [(next, 12, 1)], "the cancelled prompt is matchable");
    bench.collect();
}

#[test]
fn a_preemption_while_a_step_is_in_flight_keeps_the_token_and_the_blocks() {
    let mut bench = Bench::new(SchedulerConfig { depth: 1, num_blocks: 8, ..config() });
    let talk = bench.add(NewSequence { max_tokens: 8, ..chat(0..16) });
    bench.submit();
    bench.submit();
    let urgent = bench.add(completion(100..116));
    bench.collect();
    assert!(bench.scheduler.schedule(0).is_none(), "the chat's blocks are still in flight");
    assert_eq!(bench.scheduler.stats().preemptions_total, 1);
    assert_eq!(bench.scheduler.tokens(talk).map(<[u32]>::len), Some(17));
    assert_eq!(bench.free(), 3);
    assert_eq!(bench.collect().len(), 1, "the token in flight is kept");
    assert_eq!(bench.scheduler.tokens(talk).map(<[u32]>::len), Some(18));
    assert_eq!(bench.submit(), [(urgent, 0, 16)]);
    while !bench.scheduler.is_idle() {
        if bench.scheduler.schedule(0).map(|step| bench.device.submit(step)).is_none() {
            bench.collect();
        }
    }
    assert!(bench.scheduler.is_drained());
}

#[test]
fn a_failed_step_ends_only_the_sequences_in_it_and_leaves_nothing_of_it_matchable() {
    let mut bench = Bench::new(SchedulerConfig { depth: 1, step_tokens_max: 8, running_max: 2, ..config() });
    let broken = bench.add(completion(0..20));
    bench.submit();
    bench.collect();
    bench.submit();
    bench.submit();
    let spared = bench.add(completion(100..104));
    let step = bench.device.break_down();
    assert_eq!(bench.scheduler.fail(step.id), [broken]);
    bench.device.over(broken);
    assert_eq!(bench.collect(), [], "what depends on the failed step is dropped");
    bench.scheduler.check();
    let again = bench.add(completion(0..20));
    let chunks = bench.submit();
    assert_eq!(chunks, [(spared, 0, 4), (again, 8, 4)], "only the step before the failed one is matchable");
    bench.collect();
    bench.finish();
    bench.device.check_matchable(&bench.scheduler);
    assert!(bench.scheduler.is_drained());
}

#[test]
fn many_long_requests_on_a_small_cache_all_end() {
    for depth in [0, 1] {
        let small = SchedulerConfig { num_blocks: 20, running_max: 16, waiting_max: 200, depth, ..config() };
        let mut bench = Bench::new(small);
        for index in 0..200_u32 {
            let new = if index % 2 == 0 { completion(index..index + 30) } else { chat(index..index + 30) };
            bench.add(NewSequence { max_tokens: 40, deadline_us: u64::from(index), ..new });
        }
        let mut steps = 0;
        while !bench.scheduler.is_idle() {
            match bench.scheduler.schedule(0) {
                Some(step) => bench.device.submit(step),
                None => _ = bench.collect(),
            }
            steps += 1;
            assert!(steps < 40_000, "every request ends");
        }
        assert!(bench.scheduler.is_drained());
    }
}

#[test]
#[should_panic(expected = "in order of submission")]
fn steps_are_committed_in_order() {
    let mut scheduler = Scheduler::new(SchedulerConfig { depth: 1, ..config() }).expect("sound");
    scheduler.add(completion(0..40), 0).expect("admitted");
    scheduler.schedule(0).expect("a first step");
    scheduler.schedule(0).expect("a second step");
    scheduler.commit(StepId(1), &[]);
}

#[test]
fn no_more_is_preempted_than_what_comes_back_does_not_cover() {
    let mut bench = Bench::new(SchedulerConfig { depth: 1, num_blocks: 6, ..config() });
    for start in [0, 100, 200] {
        bench.add(NewSequence { max_tokens: 8, ..completion(start..start + 8) });
    }
    bench.submit();
    assert!(bench.scheduler.schedule(0).is_none(), "everybody needs a block and none is free yet");
    assert_eq!(bench.scheduler.stats().preemptions_total, 1);
    bench.collect();
    assert_eq!(bench.submit().len(), 2, "two blocks came back for the other two");
    bench.collect();
    bench.finish();
    assert!(bench.scheduler.is_drained());
}
