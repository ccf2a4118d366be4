//! Single decisions of the scheduler, each shown on the smallest case. `simulation` covers how they play together.

mod ahead;
mod cancels;
mod drafts;
mod load;
mod pace;
mod reset;
mod retention;

use super::fake::{Expected, FakeDevice};
use super::{AdmitError, ConfigError, NewSequence, Outcome, Scheduler, SchedulerConfig, SequenceId, Step};
use crate::domain::{CacheSalt, Class, FinishReason, SessionKey};
use std::num::NonZeroUsize;
use std::sync::Arc;

const VOCAB: usize = 1_000;

fn config() -> SchedulerConfig {
    SchedulerConfig {
        block_tokens: 4,
        num_blocks: 64,
        step_tokens_max: 32,
        running_max: 4,
        waiting_max: 8,
        context_tokens: 200,
        depth: 0,
        chat_share: 0.25,
        promote_after_us: 1_000_000,
        prefill_chunk_max: 16,
    }
}

fn completion(prompt: impl IntoIterator<Item = u32>) -> NewSequence {
    NewSequence {
        prompt: prompt.into_iter().collect(),
        class: Class::Completion,
        session: None,
        cache_salt: CacheSalt(1),
        deadline_us: 1_000_000,
        max_tokens: 5,
        stop_tokens: Arc::new([]),
    }
}

fn chat(prompt: impl IntoIterator<Item = u32>) -> NewSequence {
    NewSequence { class: Class::Chat, ..completion(prompt) }
}

fn of_session(session: &str, new: NewSequence) -> NewSequence {
    NewSequence { session: Some(SessionKey(session.into())), ..new }
}

/// A scheduler with a device that checks whatever it is asked to compute.
struct Bench {
    scheduler: Scheduler,
    device: FakeDevice,
}

impl Bench {
    fn new(config: SchedulerConfig) -> Self {
        let device = FakeDevice::new(&config, VOCAB);
        Self { scheduler: Scheduler::new(config).expect("a sound configuration"), device }
    }

    fn add(&mut self, new: NewSequence) -> SequenceId {
        let expected = Expected::of(&new, VOCAB, 3);
        let admission = self.scheduler.add(new, 0).expect("admitted");
        self.device.expected.insert(admission.id, expected);
        admission.id
    }

    /// Schedules and submits; answers with who computes how many tokens from where.
    fn submit(&mut self) -> Vec<(SequenceId, usize, usize)> {
        let step = self.scheduler.schedule(0).expect("something to compute");
        self.scheduler.check_step(&step);
        let chunks = step.chunks.iter().map(|chunk| (chunk.sequence, chunk.start, chunk.tokens.get())).collect();
        self.device.submit(step);
        self.scheduler.check();
        chunks
    }

    fn collect(&mut self) -> Vec<Outcome> {
        let (step, sampled) = self.device.compute();
        let outcomes = self.scheduler.commit(step.id, &sampled);
        self.device.receive(&outcomes);
        self.scheduler.check();
        outcomes
    }

    fn step(&mut self) -> Vec<(SequenceId, usize, usize)> {
        let chunks = self.submit();
        self.collect();
        chunks
    }

    /// Runs until nobody wants anything; answers with the number of tokens computed.
    fn finish(&mut self) -> usize {
        let mut computed = 0;
        while !self.scheduler.is_idle() {
            computed += self.step().iter().map(|(_, _, tokens)| tokens).sum::<usize>();
        }
        computed
    }

    fn newest(&self) -> &Step {
        self.device.in_flight.back().expect("a step is in flight")
    }

    fn free(&self) -> usize {
        self.scheduler.stats().blocks_free
    }

    fn output(&self, id: SequenceId, prompt_len: usize) -> &[u32] {
        &self.scheduler.tokens(id).expect("readable")[prompt_len..]
    }
}

fn who(chunks: &[(SequenceId, usize, usize)]) -> Vec<SequenceId> {
    chunks.iter().map(|(id, _, _)| *id).collect()
}

#[test]
fn impossible_configurations_are_refused_with_their_numbers() {
    let refused = |config: SchedulerConfig| Scheduler::new(config).expect_err("refused");
    assert_eq!(refused(SchedulerConfig { num_blocks: 0, ..config() }), ConfigError::Zero { setting: "num_blocks" });
    let too_small = ConfigError::StepTooSmall { step_tokens_max: 3, running_max: 4 };
    assert_eq!(refused(SchedulerConfig { step_tokens_max: 3, ..config() }), too_small);
    assert_eq!(refused(SchedulerConfig { chat_share: 1.5, ..config() }), ConfigError::ChatShare { chat_share: 1.5 });
    let not_a_number = refused(SchedulerConfig { chat_share: f32::NAN, ..config() });
    assert!(matches!(not_a_number, ConfigError::ChatShare { .. }));
}

#[test]
fn what_can_never_run_is_refused_with_its_numbers() {
    let mut scheduler = Scheduler::new(SchedulerConfig { num_blocks: 4, waiting_max: 1, ..config() }).expect("sound");
    let mut refused = |new: NewSequence| scheduler.add(new, 0).expect_err("refused");
    assert_eq!(refused(completion([])), AdmitError::Empty);
    assert_eq!(refused(NewSequence { max_tokens: 0, ..completion([1]) }), AdmitError::NothingAsked);
    let too_long = AdmitError::PromptTooLong { prompt_tokens: 196, max_tokens: 5, context_tokens: 200 };
    assert_eq!(refused(completion(0..196)), too_long);
    let huge = NewSequence { max_tokens: usize::MAX, ..completion([1]) };
    assert!(matches!(refused(huge), AdmitError::PromptTooLong { .. }));
    assert_eq!(refused(completion(0..13)), AdmitError::CacheTooSmall { needed_tokens: 17, cache_tokens: 16 });
    scheduler.add(completion(0..12), 0).expect("fits exactly");
    let full = AdmitError::QueueFull { waiting: 1, waiting_max: 1 };
    assert_eq!(scheduler.add(completion([1]), 0), Err(full));
}

#[test]
fn a_sequence_that_fits_exactly_uses_every_block() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 4, ..config() });
    for _ in 0..3 {
        let id = bench.add(completion(0..12));
        bench.finish();
        assert_eq!(bench.output(id, 12).len(), 5);
    }
    assert!(bench.scheduler.is_drained());
}

#[test]
fn completions_start_before_chats_and_earlier_deadlines_first() {
    let mut bench = Bench::new(config());
    let late = bench.add(NewSequence { deadline_us: 9_000_000, ..completion(0..4) });
    let talk = bench.add(NewSequence { deadline_us: 10, ..chat(10..14) });
    let soon = bench.add(NewSequence { deadline_us: 5_000_000, ..completion(20..24) });
    assert_eq!(who(&bench.step()), [soon, late, talk]);
}

#[test]
fn prefills_are_chunked_and_mixed_with_decodes() {
    let mut bench = Bench::new(config());
    let running = bench.add(completion(0..4));
    bench.step();
    let long = bench.add(NewSequence { deadline_us: 1, ..completion(100..140) });
    assert_eq!(bench.step(), [(running, 4, 1), (long, 0, 16)]);
    assert_eq!(bench.step(), [(running, 5, 1), (long, 16, 16)]);
    assert_eq!(bench.step(), [(running, 6, 1), (long, 32, 8)]);
    assert_eq!(bench.step(), [(long, 40, 1), (running, 7, 1)]);
}

#[test]
fn chat_keeps_its_share_of_a_step() {
    let mut bench = Bench::new(config());
    let talk = bench.add(chat(0..60));
    bench.step();
    let first = bench.add(completion(100..160));
    let second = bench.add(completion(200..260));
    assert_eq!(bench.step(), [(first, 0, 16), (second, 0, 8), (talk, 16, 8)]);
}

#[test]
fn a_chat_that_waited_long_gets_a_slot_before_completions_that_keep_coming() {
    let mut bench = Bench::new(SchedulerConfig { running_max: 1, ..config() });
    let talk = bench.add(NewSequence { deadline_us: 60_000_000, ..chat(0..10) });
    let mut completions = 0;
    for now_us in (0..10_000_000_u64).step_by(100_000) {
        while bench.scheduler.stats().waiting < 4 {
            completions += 1;
            bench.add(NewSequence { deadline_us: now_us + 2_000_000, ..completion([completions]) });
        }
        if let Some(step) = bench.scheduler.schedule(now_us) {
            bench.device.submit(step);
            bench.collect();
        }
        if !bench.scheduler.contains(talk) {
            assert!((1_000_000..4_000_000).contains(&now_us), "ended at {now_us}");
            assert_eq!(bench.scheduler.stats().promotions_total, 1);
            return;
        }
    }
    panic!("the chat starved behind {completions} completions");
}

#[test]
fn a_completion_takes_the_slot_of_the_last_chat_but_not_of_chats_share() {
    let mut bench = Bench::new(SchedulerConfig { running_max: 2, ..config() });
    let first = bench.add(chat(0..4));
    let last = bench.add(NewSequence { deadline_us: 2_000_000, ..chat(10..14) });
    bench.step();
    let urgent = bench.add(completion(20..24));
    assert_eq!(who(&bench.submit()), [first, urgent]);
    assert!(bench.newest().chunks[1].enters_slot);
    bench.collect();
    let also_urgent = bench.add(completion(30..34));
    assert_eq!(who(&bench.step()), [urgent, first], "one slot is chat's");
    bench.finish();
    assert_eq!(bench.scheduler.stats().preemptions_total, 1);
    for id in [first, last, urgent, also_urgent] {
        assert!(!bench.scheduler.contains(id));
    }
}

#[test]
fn a_cancelled_sequence_leaves_what_it_computed_to_the_next_keystroke() {
    let mut bench = Bench::new(config());
    let first = bench.add(of_session("a", completion(0..30)));
    bench.step();
    bench.step();
    bench.step();
    let typed = bench.output(first, 30).to_vec();
    assert_eq!(typed.len(), 2);
    bench.scheduler.cancel(first);
    bench.scheduler.cancel(first);
    assert!(!bench.scheduler.contains(first));
    // 30 prompt tokens and one of two sampled tokens have been computed: seven blocks and three positions.
    let next = bench.add(of_session("a", completion((0..30).chain(typed).chain([7, 8]))));
    assert_eq!(bench.submit(), [(next, 31, 3)]);
    assert_eq!(bench.newest().copies.iter().map(|copy| copy.tokens).collect::<Vec<_>>(), [3]);
    assert_eq!(bench.scheduler.cached_tokens(next), 31);
    bench.collect();
}

#[test]
fn a_prefix_that_ends_inside_a_block_is_copied_up_to_the_first_difference() {
    let mut bench = Bench::new(config());
    bench.add(completion(0..16));
    bench.finish();
    let other = bench.add(completion((0..10).chain(500..510)));
    assert_eq!(bench.submit(), [(other, 10, 10)]);
    let step = bench.newest();
    assert_eq!((step.copies.len(), step.copies[0].tokens), (1, 2));
    assert_ne!(step.copies[0].from, step.copies[0].to);
    bench.collect();
}

#[test]
fn a_prompt_that_is_cached_whole_computes_one_token() {
    let mut bench = Bench::new(config());
    let first = bench.add(completion(0..16));
    bench.finish();
    let again = bench.add(completion(0..16));
    assert_eq!(bench.submit(), [(again, 15, 1)]);
    assert_eq!(bench.scheduler.cached_tokens(first), 0);
    assert_eq!(bench.scheduler.cached_tokens(again), 15);
    bench.collect();
    bench.finish();
    let stats = bench.scheduler.stats();
    assert_eq!((stats.prompt_tokens_total, stats.cached_tokens_total), (32, 15));
}

#[test]
fn salts_share_nothing() {
    let mut bench = Bench::new(config());
    bench.add(completion(0..16));
    bench.finish();
    let foreign = bench.add(NewSequence { cache_salt: CacheSalt(2), ..completion(0..16) });
    assert_eq!(bench.step(), [(foreign, 0, 16)]);
    assert_eq!(bench.scheduler.cached_tokens(foreign), 0);
}

#[test]
fn the_same_prompt_arriving_together_is_computed_once() {
    let mut bench = Bench::new(config());
    let ids: Vec<_> = (0..4).map(|_| bench.add(completion(0..42))).collect();
    assert_eq!(bench.step(), [(ids[0], 0, 16)]);
    let computed = 16 + bench.finish();
    // 42 prompt tokens once, the last of them once more for each other sequence, then four sampled tokens each.
    assert_eq!(computed, 42 + 3 + 4 * 4);
}

#[test]
fn a_sequence_held_back_goes_on_when_the_other_is_gone() {
    let mut bench = Bench::new(config());
    let first = bench.add(completion(0..42));
    let second = bench.add(completion((0..20).chain(300..320)));
    assert_eq!(bench.step(), [(first, 0, 16)]);
    bench.scheduler.cancel(first);
    assert_eq!(bench.step(), [(second, 16, 16)]);
}

#[test]
fn a_newer_completion_of_a_session_supersedes_the_older() {
    let mut scheduler = Scheduler::new(SchedulerConfig { waiting_max: 1, ..config() }).expect("sound");
    let talk = scheduler.add(of_session("a", chat(0..4)), 0).expect("admitted");
    scheduler.schedule(0).expect("chat runs");
    let old = scheduler.add(of_session("a", completion(0..4)), 0).expect("admitted");
    assert_eq!(old.superseded, [], "a chat is not superseded");
    let too_long = of_session("a", completion(0..199));
    assert!(matches!(scheduler.add(too_long, 0), Err(AdmitError::PromptTooLong { .. })));
    assert!(scheduler.contains(old.id), "a refused one supersedes nobody");
    let other = of_session("b", completion(0..4));
    assert!(matches!(scheduler.add(other, 0), Err(AdmitError::QueueFull { .. })));
    let new = scheduler.add(of_session("a", completion(0..5)), 0).expect("takes the older one's place");
    assert_eq!(new.superseded, [old.id]);
    assert!(!scheduler.contains(old.id) && scheduler.contains(new.id) && scheduler.contains(talk.id));
    assert_eq!(scheduler.stats().superseded_total, 1);
}

#[test]
fn what_is_past_its_deadline_ends_waiting_or_running() {
    let mut bench = Bench::new(SchedulerConfig { running_max: 1, ..config() });
    let running = bench.add(NewSequence { deadline_us: 50, ..completion(0..4) });
    let waiting = bench.add(NewSequence { deadline_us: 60, ..completion(10..14) });
    let patient = bench.add(NewSequence { deadline_us: 70, ..completion(20..24) });
    bench.step();
    assert_eq!(bench.scheduler.expire(50), []);
    assert_eq!(bench.scheduler.expire(61), [running, waiting]);
    assert!(bench.scheduler.contains(patient));
    bench.finish();
    assert!(bench.scheduler.is_drained());
}

#[test]
fn an_answer_ends_with_its_limit_or_its_stop_token() {
    let mut bench = Bench::new(config());
    let first = bench.add(completion(0..4));
    bench.finish();
    let output = bench.output(first, 4).to_vec();
    let stopped = bench.add(NewSequence { stop_tokens: Arc::new([output[1]]), ..completion(0..4) });
    bench.step();
    bench.submit();
    let outcomes = bench.collect();
    assert_eq!(outcomes, [Outcome::Finished { sequence: stopped, reason: FinishReason::Stop }]);
    assert_eq!(bench.output(stopped, 4), &output[..1], "readable until the next step is scheduled");
    assert!(bench.scheduler.schedule(0).is_none());
    assert_eq!(bench.scheduler.tokens(stopped), None);
}

#[test]
fn a_chat_is_preempted_before_a_completion_and_enters_its_slot_anew() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 9, ..config() });
    let talk = bench.add(NewSequence { deadline_us: 10, max_tokens: 9, ..chat(0..12) });
    bench.step();
    let first = bench.add(NewSequence { max_tokens: 9, ..completion(100..112) });
    let second = bench.add(NewSequence { deadline_us: 2_000_000, max_tokens: 9, ..completion(200..208) });
    let mut order = Vec::new();
    let mut entries = 0;
    while !bench.scheduler.is_idle() {
        bench.submit();
        let chunks = bench.newest().chunks.iter();
        entries += chunks.filter(|chunk| chunk.sequence == talk && chunk.enters_slot).count();
        for outcome in bench.collect() {
            if let Outcome::Finished { sequence, .. } = outcome {
                order.push(sequence);
            }
        }
    }
    assert_eq!(order, [first, second, talk]);
    assert!(entries > 0 && bench.scheduler.stats().preemptions_total > 0);
}

#[test]
fn blocks_used_longest_ago_are_given_out_first_and_a_prefix_outlives_its_tail() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 8, ..config() });
    let one = |prompt: std::ops::Range<u32>| NewSequence { max_tokens: 1, ..completion(prompt) };
    bench.add(one(0..16));
    bench.finish();
    bench.add(one(100..112));
    bench.finish();
    // One block is fresh, two come from the end of the older prompt; the copy below takes a third.
    bench.add(one(200..212));
    bench.finish();
    let newer = bench.add(one(100..112));
    bench.finish();
    assert_eq!(bench.scheduler.cached_tokens(newer), 11);
    let older = bench.add(one(0..16));
    bench.finish();
    assert_eq!(bench.scheduler.cached_tokens(older), 4);
}

#[test]
fn prompts_do_not_show_in_debug_output() {
    let mut scheduler = Scheduler::new(config()).expect("sound");
    let new = completion([987_654]);
    let shown = format!("{new:?}");
    scheduler.add(new, 0).expect("admitted");
    let step = scheduler.schedule(0).expect("a step");
    assert_eq!(step.chunks[0].tokens, NonZeroUsize::MIN);
    let shown = format!("{shown}{step:?}{scheduler:?}");
    assert!(!shown.contains("987654"), "{shown}");
}
