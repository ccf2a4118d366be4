//! Making a prompt fit the model's context. What is left out is left out where the card allows it, marked in the text and
//! reported: never in silence.

use super::card::{InputCard, InputKind, Keep, PromptCard, Texts};
use super::estimate::tokens;
use super::{Document, Facts, Inputs, PromptError};
use crate::domain::GenerateError;

/// What a chat template adds around two messages.
const TEMPLATE_TOKENS: usize = 64;
/// An answer gets at least this share of the context, so that a long input does not leave room for half a sentence.
const ANSWER_SHARE: usize = 4;
/// Less of an input than this says nothing: it is left out whole.
const PIECE_TOKENS_MIN: usize = 24;
const MARK_TOKENS: usize = 16;

/// A part of an input that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    pub input: &'static str,
    pub chars: usize,
    pub dropped_chars: usize,
}

/// For a header and the log, for example `diff: 1200 of 50000 characters left out`.
impl std::fmt::Display for Trimmed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {} of {} characters left out", self.input, self.dropped_chars, self.chars)
    }
}

/// How a context is shared by prompt and answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub prompt_tokens_max: usize,
    context_tokens: usize,
    wanted_tokens: usize,
    reserved_tokens: usize,
    is_second_try: bool,
}

impl Room {
    pub(super) fn new(card: &PromptCard, facts: &Facts<'_>) -> Self {
        let context_tokens = facts.model.context_tokens;
        let reserved_tokens = reserved_tokens(card, context_tokens);
        let free = context_tokens.saturating_sub(reserved_tokens + TEMPLATE_TOKENS);
        Self {
            prompt_tokens_max: facts.prompt_tokens_max.map_or(free, |given| given.min(free)),
            context_tokens,
            wanted_tokens: card.max_tokens,
            reserved_tokens,
            is_second_try: facts.prompt_tokens_max.is_some(),
        }
    }

    /// What the answer may have. The estimate was wrong once when a budget is given: then only what is reserved.
    pub(super) fn answer_tokens(&self, prompt_tokens_estimate: usize) -> usize {
        if self.is_second_try {
            return self.reserved_tokens;
        }
        let doubtful = prompt_tokens_estimate + prompt_tokens_estimate / 4 + TEMPLATE_TOKENS;
        let free = self.context_tokens.saturating_sub(doubtful);
        free.max(self.reserved_tokens).min(self.wanted_tokens).max(1)
    }
}

fn reserved_tokens(card: &PromptCard, context_tokens: usize) -> usize {
    card.max_tokens.min(context_tokens / ANSWER_SHARE).max(1)
}

/// The budget for another try, after an engine counted more tokens than fit. `None` when its answer says nothing about
/// the length.
#[must_use]
pub fn smaller_budget(card: &PromptCard, prompt_tokens_estimate: usize, error: &GenerateError) -> Option<usize> {
    let GenerateError::PromptTooLong { prompt_tokens, context_tokens, .. } = error else { return None };
    let allowed = context_tokens.saturating_sub(reserved_tokens(card, *context_tokens));
    // A twentieth is kept back: what is cut away may have been the cheaper part.
    Some(prompt_tokens_estimate * allowed / (*prompt_tokens).max(1) * 19 / 20)
}

/// A prompt that fits, as far as cutting could make it.
pub(super) struct Fitted {
    pub texts: Texts,
    pub tokens_estimate: usize,
    pub trimmed: Vec<Trimmed>,
}

/// Writes the prompt, cutting inputs in the order of the card until it has no more than `tokens_max`.
///
/// One that is still too long is returned as it is: only the engine's tokenizer knows for sure.
pub(super) fn fit(card: &'static PromptCard, inputs: &Inputs, tokens_max: usize) -> Result<Fitted, PromptError> {
    let mut texts = card.write(inputs)?;
    let mut tokens_estimate = prompt_tokens(card, &texts);
    let mut trimmed = Vec::new();
    let mut inputs = inputs.clone();
    let cuttable = card.inputs.iter().filter_map(|input| Some((input, input.keep?)));
    for (input, keep) in cuttable {
        if tokens_estimate <= tokens_max {
            break;
        }
        let excess = tokens_estimate - tokens_max + MARK_TOKENS;
        trimmed.extend(cut_input(&mut inputs, input, keep, excess));
        texts = card.write(&inputs)?;
        tokens_estimate = prompt_tokens(card, &texts);
    }
    Ok(Fitted { texts, tokens_estimate, trimmed })
}

fn prompt_tokens(card: &PromptCard, texts: &Texts) -> usize {
    tokens(&texts.system) + tokens(&texts.user) + tokens(&card.answer_prefix)
}

fn cut_input(inputs: &mut Inputs, input: &'static InputCard, keep: Keep, excess: usize) -> Option<Trimmed> {
    if input.kind == InputKind::Documents {
        return cut_documents(inputs, input, excess);
    }
    let text = inputs.text(&input.name);
    let target = tokens(text).saturating_sub(excess);
    let (cut, dropped_chars) = cut_text(text, keep, target);
    if dropped_chars == 0 {
        return None;
    }
    let trimmed = Trimmed { input: &input.name, chars: text.chars().count(), dropped_chars };
    inputs.set(&input.name, cut);
    Some(trimmed)
}

/// The last ones are the least likely to help.
fn cut_documents(inputs: &mut Inputs, input: &'static InputCard, excess: usize) -> Option<Trimmed> {
    let chars = |documents: &[Document]| documents.iter().map(|document| document.content.chars().count()).sum();
    let mut documents = inputs.documents().to_vec();
    let before: usize = chars(&documents);
    let mut excess = excess;
    while let Some(mut document) = documents.pop() {
        let has = tokens(&document.content);
        if has > excess + PIECE_TOKENS_MIN {
            document.content = cut_text(&document.content, Keep::Head, has - excess).0;
            documents.push(document);
            break;
        }
        excess = excess.saturating_sub(has);
        if excess == 0 {
            break;
        }
    }
    let dropped_chars = before.saturating_sub(chars(&documents));
    inputs.set_documents(documents);
    (dropped_chars > 0).then_some(Trimmed { input: &input.name, chars: before, dropped_chars })
}

/// The text cut to about `target` tokens at line breaks, and how many characters were left out.
fn cut_text(text: &str, keep: Keep, target: usize) -> (String, usize) {
    let chars = text.chars().count();
    if target < PIECE_TOKENS_MIN {
        return (String::new(), chars);
    }
    let (head, tail) = match keep {
        Keep::Head => (head(text, target), ""),
        Keep::Tail => ("", tail(text, target)),
        Keep::Ends => {
            let head = head(text, target / 2);
            (head, tail(&text[head.len()..], target / 2))
        }
    };
    let dropped = &text[head.len()..text.len() - tail.len()];
    if dropped.is_empty() {
        return (text.to_owned(), 0);
    }
    let dropped_chars = dropped.chars().count();
    let mark = format!("[{} lines left out here]", dropped.lines().count());
    let parts = [head.trim_end_matches('\n'), &mark, tail];
    let kept: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    (kept.join("\n"), dropped_chars)
}

/// Whole lines from the start; of a first line that is too long alone, as much as fits.
fn head(text: &str, target: usize) -> &str {
    let mut spent = 0;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        spent += tokens(line);
        if spent > target {
            break;
        }
        end += line.len();
    }
    if end > 0 {
        return &text[..end];
    }
    let fits = longest(text.len(), |length| tokens(&text[..text.floor_char_boundary(length)]) <= target);
    &text[..text.floor_char_boundary(fits)]
}

fn tail(text: &str, target: usize) -> &str {
    let mut spent = 0;
    let mut start = text.len();
    for line in text.split_inclusive('\n').rev() {
        spent += tokens(line);
        if spent > target {
            break;
        }
        start -= line.len();
    }
    if start < text.len() {
        return &text[start..];
    }
    let from = |length: usize| text.ceil_char_boundary(text.len() - length);
    let fits = longest(text.len(), |length| tokens(&text[from(length)..]) <= target);
    &text[from(fits)..]
}

/// The greatest length up to `length_max` that fits, when every shorter one does.
fn longest(length_max: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut bad) = (0, length_max + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}
