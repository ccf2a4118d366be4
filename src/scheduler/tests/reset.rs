//! A device that is lost: who ends, who keeps its place, and that nothing is remembered of what it held.

use super::{Bench, chat, completion, config, of_session};
use crate::scheduler::{NewSequence, SchedulerConfig};

impl Bench {
    /// Answers with how many ended.
    fn lose_device(&mut self) -> usize {
        self.device.lose();
        let ended = self.scheduler.reset();
        for id in &ended {
            self.device.over(*id);
        }
        self.scheduler.check();
        ended.len()
    }
}

fn ahead() -> SchedulerConfig {
    SchedulerConfig { depth: 1, ..config() }
}

#[test]
fn who_ran_ends_and_who_waited_is_served_from_its_first_token() {
    for steps in 0..4 {
        let mut bench = Bench::new(SchedulerConfig { running_max: 2, ..ahead() });
        let ran = [bench.add(completion(0..10)), bench.add(chat(20..28))];
        let waited = bench.add(completion(0..12));
        for _ in 0..steps {
            bench.step();
        }
        bench.submit();
        let started = ran.len() - usize::from(steps == 0 && bench.scheduler.stats().running == 1);
        assert_eq!(bench.lose_device(), started, "after {steps} steps");
        assert!(bench.scheduler.contains(waited));
        bench.finish();
        assert_eq!(bench.output(waited, 12).len(), 5);
        assert_eq!(bench.scheduler.cached_tokens(waited), 0, "nothing is found of what the lost device computed");
        assert!(bench.scheduler.is_drained());
    }
}

#[test]
fn a_known_prefix_is_forgotten_and_counts_go_on() {
    let mut bench = Bench::new(ahead());
    bench.add(completion(0..12));
    bench.finish();
    let before = bench.scheduler.stats();
    assert!(before.blocks_cached > 0, "there is something to forget");
    assert_eq!(bench.lose_device(), 0);
    let stats = bench.scheduler.stats();
    assert_eq!(stats.blocks_cached, 0);
    assert_eq!((stats.steps_total, stats.prompt_tokens_total), (before.steps_total, before.prompt_tokens_total));
    let id = bench.add(completion(0..12));
    bench.finish();
    assert_eq!(bench.scheduler.cached_tokens(id), 0);
}

#[test]
fn the_ended_and_the_leaving_give_everything_back() {
    let mut bench = Bench::new(ahead());
    let cancelled = bench.add(completion(0..10));
    let older = bench.add(of_session("editor", completion(20..30)));
    bench.submit();
    bench.scheduler.cancel(cancelled);
    bench.device.over(cancelled);
    let newer = bench.scheduler.add(of_session("editor", completion(20..31)), 0).expect("admitted");
    assert_eq!(newer.superseded, [older]);
    bench.device.over(older);
    assert_eq!(bench.scheduler.stats().steps_in_flight, 1);
    assert_eq!(bench.lose_device(), 0, "nobody who ended before is told again");
    assert_eq!(bench.free(), config().num_blocks);
    assert!(bench.scheduler.contains(newer.id));
    bench.scheduler.cancel(newer.id);
    assert!(bench.scheduler.is_drained());
}

#[test]
fn a_preempted_sequence_goes_on_where_its_answer_was() {
    // The chat has to leave its blocks to the completion.
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 8, ..config() });
    let preempted = bench.add(NewSequence { max_tokens: 9, ..chat(0..16) });
    while bench.scheduler.tokens(preempted).is_some_and(|tokens| tokens.len() < 18) {
        bench.step();
    }
    let rival = bench.add(NewSequence { max_tokens: 12, ..completion(100..120) });
    while bench.scheduler.stats().preemptions_total == 0 {
        bench.step();
    }
    assert_eq!(bench.lose_device(), 1);
    assert!(!bench.scheduler.contains(rival) && bench.scheduler.contains(preempted));
    bench.finish();
    assert_eq!(bench.output(preempted, 16).len(), 9);
    assert!(bench.scheduler.is_drained());
}
