//! Somebody who types, through the engine and through the scheduler: what the cache serves is what would be computed,
//! and it serves most of it.

#[path = "../../benches/typing/keystrokes.rs"]
mod keystrokes;
#[path = "../../benches/typing/replay.rs"]
mod replay;

use super::*;
use keystrokes::{Brackets, edits};
use replay::{Figures, Order, Shown, Workload};

/// Bytes are tokens of the tiny model; these are not bytes.
const SUFFIX: u32 = 256;
const PREFIX: u32 = 257;
const MIDDLE: u32 = 258;
/// The tiny model's context holds 256 tokens.
const FILE: &str = "fn area(radius: f64) -> f64 {\n    let square = radius * radius;\n    3.14 * square\n}\n\n\
                    fn main() {\n    println!(\"{}\", area(2.0));\n}\n";

fn bytes(text: &str) -> impl Iterator<Item = u32> {
    text.bytes().map(u32::from)
}

fn prompt(order: Order, prefix: &str, suffix: &str) -> Vec<u32> {
    let prefix = &prefix[prefix.len().saturating_sub(140)..];
    let suffix = &suffix[..suffix.len().min(60)];
    let (before, behind) = ([SUFFIX].into_iter().chain(bytes(suffix)), [PREFIX].into_iter().chain(bytes(prefix)));
    match order {
        Order::SuffixFirst => before.chain(behind).chain([MIDDLE]).collect(),
        Order::PrefixFirst => behind.chain(before).chain([MIDDLE]).collect(),
    }
}

/// Every keystroke is answered as if nobody had asked before, in a cache that holds three of its contexts and with
/// chats that come between.
fn check_against_oracle(order: Order) {
    // 50 blocks of 16 positions of 512 bytes; a prompt needs 14, a chat 8.
    let small = engine(Shape { kv_bytes: 50 * 16 * 512, step_tokens_max: 64, prefill_chunk_max: 48, ..ROOMY });
    let oracle = engine(ROOMY);
    let runtime = runtime();
    let mut distinct = std::collections::HashSet::new();
    for (index, edit) in edits(FILE, 60, 3, Brackets::Closed).iter().enumerate() {
        let asked = job(prompt(order, &edit.prefix, &edit.suffix), 6);
        let typed = Job { session: Some(SessionKey("editor".into())), ..asked.clone() };
        let alone = Job { cache_salt: CacheSalt(1_000 + index as u64), ..asked };
        let chat = Job { class: Class::Chat, ..job((0..120).map(|at| (at * 7 + index as u32) % 250).collect(), 4) };
        let expected = runtime.block_on(trace(oracle.handle(), alone)).expect("answers");
        let (answer, _) =
            runtime.block_on(async { futures::join!(trace(small.handle(), typed), trace(small.handle(), chat)) });
        assert_eq!(answer.expect("answers"), expected, "edit {index}");
        distinct.insert(expected);
    }
    assert!(distinct.len() > 40, "the answers differ, or this test would prove nothing");
}

#[test]
fn suffix_first_the_cache_changes_no_bit_of_any_answer() {
    check_against_oracle(Order::SuffixFirst);
}

#[test]
fn prefix_first_the_cache_changes_no_bit_of_any_answer() {
    check_against_oracle(Order::PrefixFirst);
}

/// `benches/typing` in a file of a quarter of its size, one seed.
fn small(order: Order, shown: Shown, has_chats: bool) -> Figures {
    let brackets = Brackets::Plain;
    replay::replay(Workload { order, shown, brackets, has_chats, file_tokens: 1_024, edits: 200, seed: 1 })
}

#[test]
fn typing_finds_most_of_its_prompts_in_the_cache_chats_or_not() {
    for (order, least) in [(Order::SuffixFirst, 0.95), (Order::PrefixFirst, 0.70)] {
        for (shown, has_chats) in [(Shown::Quarter, false), (Shown::Quarter, true), (Shown::Window, true)] {
            let figures = small(order, shown, has_chats);
            assert!(figures.share() >= least, "{figures:?}");
            assert!((4..=10).contains(&figures.jumps), "{figures:?}");
            assert!(figures.misses > 0, "a cursor that jumps has to miss sometimes: {figures:?}");
        }
    }
}
