//! Which share of its prompts somebody who types finds in the prefix cache:
//! `cargo bench --bench typing [-- --json]`.
//!
//! 200 edits in a file of 4,096 tokens (`src/engine/worker.rs`, cut), as `keystrokes` describes them, for five seeds;
//! rendered by the embedded model's card in both orders and run through the scheduler as `replay` describes it. With
//! `chats` forty chats of 2,000 tokens come in every pause of the editor, after each 25 edits: four times what the
//! cache holds.

mod keystrokes;
mod replay;

use keystrokes::Brackets;
use replay::{Order, Shown, Workload, replay};

const SEEDS: std::ops::Range<u64> = 1..6;

fn main() {
    let is_json = std::env::args().any(|argument| argument == "--json");
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let (file_tokens, edits) = if is_test { (300, 20) } else { (4_096, 200) };
    for (order, order_name) in [(Order::SuffixFirst, "suffix first"), (Order::PrefixFirst, "prefix first")] {
        for (shown, shown_name) in [(Shown::Quarter, "quarter"), (Shown::Window, "window")] {
            for (brackets, brackets_name) in [(Brackets::Plain, "plain"), (Brackets::Closed, "closed")] {
                for (has_chats, chats_name) in [(false, "alone"), (true, "chats")] {
                    let runs = SEEDS
                        .map(|seed| replay(Workload { order, shown, brackets, has_chats, file_tokens, edits, seed }));
                    let runs: Vec<_> = runs.collect();
                    let sum = |count: fn(&replay::Figures) -> usize| runs.iter().map(count).sum::<usize>();
                    let (prompt, cached) = (sum(|run| run.prompt_tokens), sum(|run| run.cached_tokens));
                    let (jumps, misses) = (sum(|run| run.jumps), sum(|run| run.misses));
                    let share = 100.0 * cached as f64 / prompt as f64;
                    let least = runs.iter().map(|run| 100.0 * run.share()).fold(f64::INFINITY, f64::min);
                    if is_json {
                        println!(
                            "{{\"bench\":\"typing\",\"order\":\"{order_name}\",\"shown\":\"{shown_name}\",\
                             \"brackets\":\"{brackets_name}\",\"load\":\"{chats_name}\",\"runs\":{},\"edits\":{edits},\
                             \"jumps\":{jumps},\"misses\":{misses},\"prompt_tokens\":{prompt},\
                             \"cached_tokens\":{cached},\"share_percent\":{share:.2},\"least_percent\":{least:.2}}}",
                            runs.len()
                        );
                        continue;
                    }
                    println!(
                        "{order_name}, {shown_name:<7}, brackets {brackets_name:<6}, {chats_name}: {share:>5.1} % of \
                         {prompt} prompt tokens cached, worst seed {least:.1} %, {jumps} jumps and {misses} misses in \
                         {} edits",
                        runs.len() * edits
                    );
                }
            }
        }
    }
}
