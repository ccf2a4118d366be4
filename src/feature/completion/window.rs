//! How much of a file a prompt shows. Tokens are estimated from characters, dearer than most tokenizers count them.
//!
//! A prompt that begins elsewhere at every keystroke shares nothing with the one before, and a prefix cache is useless:
//! the cut moves in jumps of an eighth of the budget, and stays where it is in between.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Rails sends the last so many characters above the cursor: the left edge of a longer file moves with every keystroke.
pub const RAILS_PREFIX_CHARS: usize = 100_000;

/// Parts of a token in which characters are counted.
const UNITS: usize = 12;
/// The cut moves by this part of the prefix's budget.
const JUMPS: usize = 8;
/// Of the budget, what follows the cursor may use so much.
const SUFFIX_PERCENT: usize = 7;

/// What of a file goes into a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Window<'a> {
    pub context: String,
    pub prefix: &'a str,
    pub suffix: &'a str,
    pub trimmed: Trimmed,
}

/// Characters that found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Trimmed {
    pub prefix_chars_dropped: usize,
    pub suffix_chars_dropped: usize,
    pub context_chars_dropped: usize,
}

impl Trimmed {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Chooses what to show of the code around a cursor, and of further files, within a budget of tokens.
pub fn window<'a>(prefix: &'a str, suffix: &'a str, context: &[String], budget_tokens: usize) -> Window<'a> {
    let budget = budget_tokens * UNITS;
    let suffix_budget = budget * SUFFIX_PERCENT / 100;
    let prefix_budget = budget - suffix_budget;
    let shown_prefix = cut_left(prefix, prefix_budget);
    let shown_suffix = cut_right(suffix, suffix_budget);
    let left = budget_left(cost(shown_prefix), prefix_budget, cost(shown_suffix), suffix_budget);
    let (shown_context, context_chars_dropped) = further_files(context, left);
    let trimmed = Trimmed {
        prefix_chars_dropped: dropped(prefix, shown_prefix),
        suffix_chars_dropped: dropped(suffix, shown_suffix),
        context_chars_dropped,
    };
    Window { context: shown_context, prefix: shown_prefix, suffix: shown_suffix, trimmed }
}

/// The most important of further files within a budget, and how many characters of them found no room.
///
/// What changes least stands first. An editor names the file that was used last first, and it is the one that was changed
/// last, so that order is turned round: whoever goes back and forth between two files leaves the beginning of the
/// prompt as it was, and has what matters most next to the cursor.
fn further_files(context: &[String], budget: usize) -> (String, usize) {
    let separator = char_cost('\n');
    let mut left = budget;
    let mut dropped_chars = 0;
    let mut shown = Vec::new();
    for item in context.iter().filter(|item| !item.is_empty()) {
        let piece = cut_right(item, left);
        dropped_chars += dropped(item, piece);
        // Nothing of what matters less is shown in place of what found no room.
        left = if piece.len() < item.len() { 0 } else { left.saturating_sub(cost(piece) + separator) };
        shown.extend((!piece.is_empty()).then_some(piece));
    }
    shown.reverse();
    (shown.join("\n"), dropped_chars)
}

/// An estimate, rounded up.
pub fn estimated_tokens(text: &str) -> usize {
    cost(text).div_ceil(UNITS)
}

/// What further files may use. Goes down in jumps as the prefix grows: they stand before the prefix, so that a change of
/// theirs makes everything after them new.
fn budget_left(prefix: usize, prefix_budget: usize, suffix: usize, suffix_budget: usize) -> usize {
    let jump = (prefix_budget / JUMPS).max(1);
    let prefix_left = prefix_budget.saturating_sub(prefix.div_ceil(jump) * jump);
    let suffix_left = if suffix == 0 { suffix_budget } else { 0 };
    prefix_left + suffix_left
}

fn dropped(all: &str, shown: &str) -> usize {
    if all.len() == shown.len() { 0 } else { all.chars().count() - shown.chars().count() }
}

/// The end of `text` that costs at most `budget`, from the beginning of a line.
fn cut_left(text: &str, budget: usize) -> &str {
    let total = cost(text);
    if total <= budget {
        return text;
    }
    let jump = (budget / JUMPS).max(1);
    let surplus = total - budget;
    let is_capped = text.len() >= RAILS_PREFIX_CHARS && text.chars().count() == RAILS_PREFIX_CHARS;
    let at = match is_capped {
        false => {
            let least = surplus.div_ceil(jump) * jump;
            line_start_between(text, least, least + jump, |_, found| found.is_none())
        }
        true => line_start_between(text, surplus, surplus + 2 * jump, |line, found| {
            found.is_none_or(|best| content_hash(line) <= content_hash(best))
        }),
    };
    &text[at..]
}

/// Where a line begins behind `least` and not behind `most` units. `is_better` compares a line with the best so far, each
/// from its beginning to the end of the text. Without such a line, the first character behind `least`.
fn line_start_between(text: &str, least: usize, most: usize, is_better: impl Fn(&str, Option<&str>) -> bool) -> usize {
    let mut spent = 0;
    let mut first = None;
    let mut best: Option<usize> = None;
    let mut is_line_start = true;
    for (at, char) in text.char_indices() {
        if spent > most {
            break;
        }
        if spent >= least {
            first.get_or_insert(at);
            if is_line_start && is_better(&text[at..], best.map(|best| &text[best..])) {
                best = Some(at);
            }
        }
        is_line_start = char == '\n';
        spent += char_cost(char);
    }
    best.or(first).unwrap_or(text.len())
}

/// A line is told from others of the same text by those that follow it.
fn content_hash(text: &str) -> u64 {
    const LINES: usize = 3;
    let mut hasher = DefaultHasher::new();
    text.split('\n').take(LINES).for_each(|line| line.hash(&mut hasher));
    hasher.finish()
}

/// The beginning of `text` that costs at most `budget`, to the end of a line where there is one.
fn cut_right(text: &str, budget: usize) -> &str {
    let mut spent = 0;
    let mut line_end = 0;
    for (at, char) in text.char_indices() {
        spent += char_cost(char);
        if spent > budget {
            return if line_end > 0 { &text[..line_end] } else { &text[..at] };
        }
        if char == '\n' {
            line_end = at + 1;
        }
    }
    text
}

fn cost(text: &str) -> usize {
    text.chars().map(char_cost).sum()
}

/// Letters come several to a token, signs nearly one by one, and what is not ASCII may take several tokens a character.
fn char_cost(char: char) -> usize {
    match char {
        'a'..='z' | 'A'..='Z' | '_' => 4,
        ' ' => 3,
        '0'..='9' | '\n' | '\t' => 8,
        _ if char.is_ascii() => 9,
        _ => match char.len_utf8() {
            2 => 14,
            3 => 20,
            _ => 36,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> String {
        (0..count).map(|number| format!("    value_{number} = compute({number}, other)\n")).collect()
    }

    /// Types `count` characters, looking at the prompt's prefix after each. Returns how often it began elsewhere.
    fn moves(file: &str, count: usize, budget: usize, cap: Option<usize>) -> usize {
        let mut file: Vec<char> = file.chars().collect();
        let mut moved = 0;
        let mut last = String::new();
        for typed in "ab = cd(e)\n".chars().cycle().take(count) {
            file.push(typed);
            let from = cap.map_or(0, |cap| file.len().saturating_sub(cap));
            let prefix: String = file[from..].iter().collect();
            let shown = window(&prefix, "", &[], budget).prefix;
            assert!(estimated_tokens(shown) <= budget, "{} of {budget}", estimated_tokens(shown));
            if !last.is_empty() && !shown.starts_with(&last) {
                moved += 1;
            }
            last = shown.to_owned();
        }
        moved
    }

    #[test]
    fn typing_moves_the_cut_in_jumps_of_an_eighth_of_the_budget() {
        for (file, budget) in [(lines(40), 200), (lines(400), 1000), (lines(3), 64), ("x".repeat(5000), 400)] {
            let count = 2000;
            let moved = moves(&file, count, budget, None);
            let allowed = count.div_ceil(budget / JUMPS) + 1;
            assert!(moved <= allowed, "{moved} moves, {allowed} allowed with a budget of {budget}");
            assert!(moved > 0, "a test of a cut that never moves tests nothing");
        }
    }

    #[test]
    fn a_prefix_that_rails_has_cut_keeps_its_cut_for_long() {
        let count = 400;
        let moved = moves(&lines(4000), count, 2000, Some(RAILS_PREFIX_CHARS));
        assert!(moved <= 4, "{moved} moves in {count} keystrokes");
    }

    #[test]
    fn what_is_shown_is_whole_lines_and_the_rest_is_counted() {
        let prefix = lines(100);
        let suffix = lines(20);
        let shown = window(&prefix, &suffix, &["A = 1\n".repeat(500)], 500);
        assert!(shown.prefix.starts_with("    value_") && prefix.ends_with(shown.prefix));
        assert!(shown.suffix.ends_with('\n') && suffix.starts_with(shown.suffix));
        let total = estimated_tokens(shown.prefix) + estimated_tokens(shown.suffix) + estimated_tokens(&shown.context);
        assert!(total <= 500, "{total}");
        assert_eq!(shown.trimmed.prefix_chars_dropped, prefix.len() - shown.prefix.len());
        assert_eq!(shown.trimmed.suffix_chars_dropped, suffix.len() - shown.suffix.len());
        assert_eq!(shown.trimmed.context_chars_dropped, 3000 - shown.context.len());
        assert!(!shown.trimmed.is_nothing());
    }

    #[test]
    fn further_files_use_what_is_left_and_change_in_jumps() {
        let item = "A = 1\n".repeat(500);
        let mut prefix = String::new();
        let mut changes = 0;
        let mut last = None;
        for _ in 0..2000 {
            prefix.push('x');
            let context = window(&prefix, "\n", std::slice::from_ref(&item), 400).context;
            if last.as_ref().is_some_and(|last| *last != context) {
                changes += 1;
            }
            last = Some(context);
        }
        assert!((1..=JUMPS).contains(&changes), "{changes}");
    }

    #[test]
    fn going_back_and_forth_between_two_files_leaves_the_others_where_they_are() {
        let file = |name: &str| format!("# {name}\n{}", "A = 1\n".repeat(20));
        let show = |names: [&str; 3], budget| window("x", "", &names.map(file), budget).context;
        let (in_a, in_b) = (show(["b", "c", "d"], 1_000), show(["a", "c", "d"], 1_000));
        let stays = format!("{}\n{}\n", file("d"), file("c"));
        assert!(in_a.starts_with(&stays) && in_b.starts_with(&stays), "{in_a}");
        assert!(in_a.ends_with(&file("b")) && in_b.ends_with(&file("a")));
        // Without room for all it is the least important one that is cut.
        let cut = show(["b", "c", "d"], 130);
        assert!(cut.ends_with(&format!("\n{}", file("b"))) && cut.starts_with("# c\n"), "{cut}");
        assert!(!cut.contains("# d") && !cut.starts_with(&file("c")), "{cut}");
    }

    #[test]
    fn small_files_are_shown_whole_and_nothing_fits_no_budget() {
        let context = ["PI = 3\n".to_owned(), String::new(), "E = 2\n".to_owned()];
        let shown = window("a", "b", &context, 1000);
        assert_eq!((shown.prefix, shown.suffix, shown.context.as_str()), ("a", "b", "E = 2\n\nPI = 3\n"));
        assert!(shown.trimmed.is_nothing());
        let shown = window("äöü", "äöü", &context, 0);
        assert_eq!((shown.prefix, shown.suffix, shown.context.as_str()), ("", "", ""));
    }

    #[test]
    fn what_is_not_ascii_is_counted_dearer() {
        assert!(estimated_tokens("漢字漢字") > estimated_tokens("abcdabcd"));
        assert_eq!(estimated_tokens(""), 0);
    }
}
