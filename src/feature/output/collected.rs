//! Answers that GitLab uses whole: collected to their end, then repaired at once.

use crate::domain::FinishReason;
use crate::feature::text::without_thinking;
use crate::feature::{Flow, Shape};
use std::sync::{Arc, OnceLock};

/// More than any model writes in one answer; a lane that sends more has gone wrong.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Makes GitLab's form of a whole answer, reasoning already left out.
pub(super) type Repair = Box<dyn FnOnce(&str, FinishReason) -> Repaired + Send>;

/// Why an answer is not what the model wrote, for the log: set when a shape has finished, and only then.
#[derive(Clone, Debug, Default)]
pub struct Note(Arc<OnceLock<&'static str>>);

impl Note {
    #[must_use]
    pub fn get(&self) -> Option<&'static str> {
        self.0.get().copied()
    }

    /// The first one counts: it names the cause.
    pub(super) fn set(&self, note: &'static str) {
        let _is_first = self.0.set(note).is_ok();
    }
}

/// GitLab's form of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Repaired {
    pub text: String,
    /// Why it is not what the model wrote.
    pub note: Option<&'static str>,
}

impl Repaired {
    pub(super) fn clean(text: String) -> Self {
        Self { text, note: None }
    }

    pub(super) fn noted(text: String, note: &'static str) -> Self {
        Self { text, note: Some(note) }
    }
}

/// Says nothing before the model has ended.
pub(super) struct Collected {
    prefix: String,
    escapes_underscores: bool,
    text: String,
    repair: Option<Repair>,
    note: Note,
}

impl Collected {
    pub(super) fn new(prefix: &str, escapes_underscores: bool, repair: Repair, note: Note) -> Self {
        Self { prefix: prefix.to_owned(), escapes_underscores, text: String::new(), repair: Some(repair), note }
    }

    /// The answer as if the model had written its beginning too. Lanes that cannot be given a beginning may have made
    /// the model repeat it.
    fn whole(&self) -> String {
        let answer = without_thinking(&self.text);
        let is_repeated = answer.trim_start().starts_with(self.prefix.trim());
        let mut whole = if is_repeated { String::new() } else { self.prefix.clone() };
        // A database that keeps text refuses this one character.
        whole.extend(answer.chars().filter(|char| *char != '\0'));
        if self.escapes_underscores { whole.replace("\\_", "_") } else { whole }
    }
}

impl Shape for Collected {
    fn push(&mut self, text: &str, _out: &mut String) -> Flow {
        self.text.push_str(text);
        if self.text.len() > TEXT_BYTES_MAX { Flow::Enough } else { Flow::More }
    }

    fn finish(&mut self, reason: FinishReason, out: &mut String) {
        let whole = self.whole();
        if let Some(repair) = self.repair.take() {
            let repaired = repair(&whole, reason);
            out.push_str(&repaired.text);
            repaired.note.into_iter().for_each(|note| self.note.set(note));
        }
    }
}
