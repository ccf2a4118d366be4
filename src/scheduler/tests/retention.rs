//! What is kept for whoever types when others want the blocks.

use super::*;

/// Editors with 40 tokens each, and room for all of them in half of the blocks.
const EDITORS: u32 = 6;
const TEXT: u32 = 40;

fn roomy() -> SchedulerConfig {
    SchedulerConfig { num_blocks: 160, ..config() }
}

fn text_of(editor: u32) -> std::ops::Range<u32> {
    1_000 * editor..1_000 * editor + TEXT
}

fn asks_little(new: NewSequence) -> NewSequence {
    NewSequence { max_tokens: 1, ..new }
}

impl Bench {
    /// Runs one sequence alone; answers with the prompt tokens it found in the cache.
    fn run(&mut self, new: NewSequence) -> usize {
        let id = self.add(new);
        self.finish();
        self.scheduler.cached_tokens(id)
    }

    fn type_in(&mut self, editor: u32, prompt: impl IntoIterator<Item = u32>) -> usize {
        self.run(asks_little(of_session(&format!("editor {editor}"), completion(prompt))))
    }

    /// Chats that share nothing, several at once, until they have used every block several times over.
    fn flood(&mut self, count: u32) {
        for talk in 0..count {
            self.add(chat(100_000 + 100 * talk..100_000 + 100 * talk + 50));
            if talk % 4 == 3 {
                self.finish();
            }
        }
        self.finish();
    }
}

#[test]
fn what_editors_hold_survives_a_flood_of_chats() {
    let mut bench = Bench::new(roomy());
    for editor in 0..EDITORS {
        assert_eq!(bench.type_in(editor, text_of(editor)), 0);
    }
    bench.flood(80);
    for editor in 0..EDITORS {
        let found = bench.type_in(editor, text_of(editor).chain([7]));
        assert_eq!(found, TEXT as usize, "editor {editor} is computed again");
    }
    assert!(bench.scheduler.is_drained());
}

#[test]
fn completions_that_name_no_session_are_kept_too() {
    let mut bench = Bench::new(roomy());
    for editor in 0..EDITORS {
        bench.run(asks_little(completion(text_of(editor))));
    }
    bench.flood(80);
    for editor in 0..EDITORS {
        assert_eq!(bench.run(asks_little(completion(text_of(editor).chain([7])))), TEXT as usize);
    }
}

#[test]
fn a_cursor_that_comes_back_finds_the_last_three_places() {
    let mut bench = Bench::new(roomy());
    for place in 0..4 {
        bench.type_in(0, text_of(place));
        // Typing goes on there: one place, not several.
        bench.type_in(0, text_of(place).chain([1]));
        bench.type_in(0, text_of(place).chain([1, 2]));
    }
    assert_eq!(bench.scheduler.stats().contexts_retained, 3);
    bench.flood(80);
    let found: Vec<usize> = (1..4).map(|place| bench.type_in(0, text_of(place).chain([1, 2, 3]))).collect();
    assert_eq!(found, [42, 42, 42]);
    assert_eq!(bench.type_in(0, text_of(0)), 0, "a fourth place is not kept");
}

#[test]
fn a_keystroke_that_is_superseded_halfway_keeps_what_it_computed() {
    let mut bench = Bench::new(roomy());
    for typed in 1..4 {
        bench.add(of_session("a", completion(text_of(0).chain(0..typed))));
        bench.step();
    }
    assert_eq!(bench.scheduler.stats().superseded_total, 2);
    bench.finish();
    assert_eq!(bench.scheduler.stats().contexts_retained, 1);
}

#[test]
fn no_more_than_half_of_the_blocks_is_retained_and_the_idlest_editor_goes_first() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 100, ..config() });
    for editor in 0..EDITORS {
        bench.type_in(editor, text_of(editor));
        bench.type_in(editor, text_of(editor).chain([1]));
    }
    // Of 11 blocks each: four fit into 50.
    let stats = bench.scheduler.stats();
    assert_eq!((stats.contexts_retained, stats.blocks_retained), (4, 44));
    bench.flood(80);
    let found: Vec<usize> = (2..EDITORS).map(|editor| bench.type_in(editor, text_of(editor).chain([1, 2]))).collect();
    assert_eq!(found, [41; 4]);
    assert_eq!(bench.type_in(0, text_of(0)), 0);
}

#[test]
fn an_editor_that_saves_much_is_kept_before_one_that_only_came_later() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 100, ..config() });
    for typed in 0..12 {
        bench.type_in(0, text_of(0).chain(0..typed));
    }
    // Each looks once: five contexts are one too many for 50 blocks, and the second is the one that goes.
    for editor in 1..5 {
        bench.type_in(editor, text_of(editor));
    }
    bench.flood(80);
    assert_eq!(bench.type_in(0, text_of(0).chain(0..12)), 51);
    assert_eq!(bench.type_in(1, text_of(1)), 0);
    assert_eq!(bench.type_in(4, text_of(4)), 39);
}

#[test]
fn what_many_chats_share_outlives_what_one_said() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 64, ..config() });
    let system = 0..40;
    for talk in 0..5 {
        bench.run(asks_little(chat(system.clone().chain([900 + talk]))));
    }
    // 13 blocks each: used later than the shared part, and as many as the cache holds.
    for talk in 0..5 {
        bench.run(asks_little(chat(2_000 + 100 * talk..2_000 + 100 * talk + 52)));
    }
    assert_eq!(bench.run(asks_little(chat(system.chain([990])))), 40);
}

#[test]
fn the_number_of_sessions_is_bounded() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 2_000, ..config() });
    for editor in 0..300 {
        bench.type_in(editor, [editor, editor, editor, editor, editor]);
    }
    assert_eq!(bench.scheduler.stats().contexts_retained, 256);
    assert_eq!(bench.scheduler.stats().blocks_retained, 512);
}

#[test]
fn chats_leave_retained_blocks_alone_unless_nobody_else_runs() {
    let mut bench = Bench::new(SchedulerConfig { num_blocks: 22, ..config() });
    bench.type_in(0, text_of(0));
    assert_eq!(bench.scheduler.stats().blocks_retained, 10);
    // Twelve blocks are anybody's: the first takes six of them and grows into three more, the second has to wait.
    let first = bench.add(NewSequence { max_tokens: 14, ..chat(500..522) });
    let second = bench.add(NewSequence { deadline_us: 2_000_000, ..chat(600..622) });
    let mut second_began = false;
    while bench.scheduler.contains(first) {
        second_began |= who(&bench.step()).contains(&second);
        assert_eq!(bench.scheduler.stats().blocks_retained, 10);
    }
    assert!(!second_began, "the second chat took retained blocks");
    bench.finish();
    // Alone, a chat may have everything.
    bench.run(NewSequence { max_tokens: 20, ..chat(700..765) });
    assert!(bench.scheduler.stats().blocks_retained < 10);
    assert!(bench.scheduler.is_drained());
}

#[test]
fn a_lost_device_retains_nothing() {
    let mut bench = Bench::new(roomy());
    bench.type_in(0, text_of(0));
    bench.scheduler.reset();
    let stats = bench.scheduler.stats();
    assert_eq!((stats.contexts_retained, stats.blocks_retained), (0, 0));
    bench.scheduler.check();
}
