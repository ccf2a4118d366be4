//! Notices a model that goes in circles: the same line again and again, or the lines before the cursor once more.

use std::hash::{DefaultHasher, Hash, Hasher};

/// So many lines that were said already are no coincidence.
const REPEATED_LINES: usize = 5;
/// A line that says so much is hardly ever meant twice in a row: small models write it without end.
const TELLING_CHARS: usize = 6;
/// Lines before the cursor that are looked at.
const LINES_ABOVE_MAX: usize = 2000;

/// How an answer goes in circles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circle {
    /// The same line came once too often.
    SameLine,
    /// The last lines are lines of the prefix, in their order.
    Prefix,
}

/// Lines of the prefix, and how the answer's last lines relate to them.
#[derive(Debug)]
pub struct Repeats {
    /// Of lines that are not blank; the last one is nearest to the cursor.
    above: Vec<u64>,
    /// Lines of the prefix that would have to come next for the repetition to go on.
    awaited: Vec<usize>,
    /// How many lines of the answer in a row were found above.
    run: usize,
    last: Option<u64>,
    same: usize,
}

impl Repeats {
    pub fn new(prefix: &str) -> Self {
        let mut above: Vec<u64> = prefix
            .rsplit('\n')
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(LINES_ABOVE_MAX)
            .map(hash)
            .collect();
        above.reverse();
        Self { above, awaited: Vec::new(), run: 0, last: None, same: 0 }
    }

    /// Takes in a line that is not blank. Returns how the answer goes in circles, if it does.
    pub fn line(&mut self, line: &str) -> Option<Circle> {
        let is_telling = line.chars().filter(|char| char.is_alphanumeric()).nth(TELLING_CHARS - 1).is_some();
        let same_max = if is_telling { 2 } else { REPEATED_LINES };
        let line = hash(line.trim());
        self.same = if self.last == Some(line) { self.same + 1 } else { 1 };
        self.last = Some(line);
        let above = &self.above;
        let is_there = |index: &usize| above.get(*index) == Some(&line);
        self.awaited.retain(is_there);
        if self.awaited.is_empty() {
            self.awaited = (0..above.len()).filter(is_there).collect();
            self.run = 0;
        }
        self.run = if self.awaited.is_empty() { 0 } else { self.run + 1 };
        self.awaited.iter_mut().for_each(|index| *index += 1);
        if self.run >= REPEATED_LINES {
            return Some(Circle::Prefix);
        }
        (self.same >= same_max).then_some(Circle::SameLine)
    }

    /// Whether the last line may be the first of a repetition.
    pub fn begins(&self) -> bool {
        self.run == 1
    }

    /// Whether the last lines may turn out to be a repetition.
    pub fn is_in_doubt(&self) -> bool {
        self.run > 0
    }
}

/// Whether a line says the same few characters again and again.
pub fn is_stuck(line: &str) -> bool {
    const PERIOD_BYTES_MAX: usize = 24;
    const TIMES: usize = 16;
    const BYTES_MIN: usize = 48;
    let line = line.trim_start().as_bytes();
    (1..=PERIOD_BYTES_MAX).any(|period| {
        let needed = (TIMES * period).max(BYTES_MIN) - period;
        let mut run = 0;
        (period..line.len()).any(|at| {
            // Lines are drawn with signs, not with letters.
            let is_rule = period == 1 && !line[at].is_ascii_alphanumeric();
            run = if line[at] == line[at - period] && !is_rule { run + 1 } else { 0 };
            run >= needed && line[at - run..=at].iter().any(u8::is_ascii_alphanumeric)
        })
    })
}

fn hash(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}
