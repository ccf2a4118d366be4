//! How large the pieces are in which chats' prompts are computed: what a completion may notice decides.

use super::*;

/// A bench on which a step takes 10 ms and 1 ms for each token.
struct Timed(Bench);

impl Timed {
    fn new(depth: usize) -> Self {
        let config = SchedulerConfig {
            num_blocks: 400,
            step_tokens_max: 200,
            prefill_chunk_max: 100,
            context_tokens: 1_500,
            depth,
            ..config()
        };
        Self(Bench::new(config))
    }

    fn step(&mut self) -> Vec<(SequenceId, usize)> {
        let step = self.0.scheduler.schedule(0).expect("something to compute");
        self.0.scheduler.check_step(&step);
        let chunks: Vec<_> = step.chunks.iter().map(|chunk| (chunk.sequence, chunk.tokens.get())).collect();
        self.0.scheduler.note_time(step.id, 10_000 + 1_000 * tokens_of(&chunks) as u64);
        self.0.device.submit(step);
        self.0.collect();
        chunks
    }

    /// One long chat, computed alone for three steps, and some short ones before it, so that all sizes were seen.
    fn with_chat() -> (Self, SequenceId) {
        let mut bench = Self::new(0);
        for length in [1, 2, 4, 8, 16, 32] {
            bench.0.add(NewSequence { max_tokens: 2, ..chat(9_000 + 100 * length..9_000 + 101 * length) });
            while !bench.0.scheduler.is_idle() {
                bench.step();
            }
        }
        let talk = bench.0.add(chat(0..1_000));
        for _ in 0..3 {
            assert_eq!(bench.step(), [(talk, 100)], "nobody else is in sight");
        }
        (bench, talk)
    }
}

fn tokens_of(chunks: &[(SequenceId, usize)]) -> usize {
    chunks.iter().map(|(_, tokens)| tokens).sum()
}

#[test]
fn while_a_completion_runs_a_chats_prompt_adds_its_share_to_each_step() {
    let (mut bench, talk) = Timed::with_chat();
    let typed = bench.0.add(NewSequence { max_tokens: 9, ..completion(5_000..5_040) });
    // 40 tokens take 50 ms; a quarter of the step is a third of that.
    let chunks = bench.step();
    assert_eq!(chunks[0], (typed, 40));
    assert!(chunks[1].0 == talk && (14..=18).contains(&chunks[1].1), "{chunks:?}");
    for _ in 1..9 {
        // A row takes 11 ms, and a third of that are three or four tokens.
        let chunks = bench.step();
        assert_eq!(chunks[0], (typed, 1));
        assert!(chunks[1].0 == talk && (2..=5).contains(&chunks[1].1), "{chunks:?}");
    }
    // The completion took 50 + 8 x 11 ms of its own; the next one may wait for 0.6 of that.
    let chunks = bench.step();
    assert!(chunks[0].0 == talk && (60..=85).contains(&chunks[0].1), "{chunks:?}");
}

#[test]
fn a_chat_that_was_promoted_takes_no_more_of_the_time_than_another() {
    let (mut bench, talk) = Timed::with_chat();
    bench.0.scheduler.cancel(talk);
    bench.0.device.over(talk);
    let promoted = bench.0.add(chat(20_000..20_400));
    let typed = bench.0.add(NewSequence { deadline_us: 90_000_000, ..completion(5_000..5_040) });
    // Both start; the chat, which became due before the completion, goes first.
    let step = bench.0.scheduler.schedule(80_000_000).expect("something to compute");
    assert_eq!(bench.0.scheduler.stats().promotions_total, 1);
    let chunks: Vec<_> = step.chunks.iter().map(|chunk| (chunk.sequence, chunk.tokens.get())).collect();
    assert!(chunks[0].0 == promoted && (14..=18).contains(&chunks[0].1), "{chunks:?}");
    assert_eq!(chunks[1], (typed, 40));
}

#[test]
fn every_chat_goes_on_however_little_time_there_is() {
    let (mut bench, talk) = Timed::with_chat();
    bench.0.scheduler.config.chat_share = 0.0;
    let typed = bench.0.add(NewSequence { max_tokens: 9, ..completion(5_000..5_040) });
    assert_eq!(bench.step(), [(typed, 40), (talk, 1)]);
}

#[test]
fn without_times_chats_prompts_are_cut_by_tokens_alone() {
    let mut bench = Timed::new(0);
    let typed = bench.0.add(NewSequence { max_tokens: 9, ..completion(5_000..5_040) });
    let talk = bench.0.add(chat(0..1_000));
    assert_eq!(bench.0.step(), [(typed, 0, 40), (talk, 0, 100)]);
}

#[test]
fn guesses_find_room_beside_a_chats_prompt_that_is_held_back() {
    struct Greedy;
    impl crate::scheduler::Drafter for Greedy {
        fn step_drafts_max(&self) -> usize {
            24
        }

        fn draft(&mut self, request: crate::scheduler::DraftRequest<'_>) -> Vec<u32> {
            vec![0; request.tokens_max.min(4)]
        }
    }
    let (mut bench, talk) = Timed::with_chat();
    bench.0.scheduler.config.step_tokens_max = 100;
    let typed = bench.0.add(NewSequence { max_tokens: 9, ..completion(5_000..5_040) });
    bench.step();
    let step = bench.0.scheduler.schedule_with(0, &mut Greedy).expect("something to compute");
    assert_eq!((step.chunks[0].sequence, step.chunks[0].sampled_rows), (typed, 5));
    assert_eq!(step.chunks[1].sequence, talk);
}
