//! Text that GitLab uses as it is: no fence around it, no sentence before it.

use super::collected::Repaired;
use crate::feature::text::{without_outer_fence, without_preface};

/// `fallback` speaks where the model said nothing.
pub(super) fn repair(answer: &str, fallback: impl FnOnce() -> Option<String>) -> Repaired {
    let text = bare(answer);
    if !text.is_empty() {
        return Repaired::clean(text.to_owned());
    }
    match fallback() {
        Some(text) => Repaired::noted(text, "the model wrote nothing: answered from the inputs"),
        None => Repaired::noted(String::new(), "the model wrote nothing"),
    }
}

/// Without what stands around an answer.
pub(super) fn bare(answer: &str) -> &str {
    let mut text = answer.trim();
    // A fence may stand around a preface, and a preface before a fence.
    for _ in 0..3 {
        text = without_outer_fence(without_preface(text).trim()).trim();
    }
    text
}

/// The first sentence of each review comment.
pub(super) fn list_of_comments(notes: &str) -> Option<String> {
    const COMMENTS_MAX: usize = 10;
    let comments = notes.lines().filter_map(|line| {
        let comment = line.trim().strip_prefix("Comment:")?.trim();
        let sentence = comment.split_inclusive(". ").next()?.trim();
        (!sentence.is_empty()).then(|| format!("- {sentence}"))
    });
    let list: Vec<String> = comments.take(COMMENTS_MAX).collect();
    (!list.is_empty()).then(|| format!("I left comments on these points:\n\n{}", list.join("\n")))
}
