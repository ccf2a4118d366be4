//! The two shapes in which OpenAI reports probabilities of tokens.

use crate::domain::{TokenLogprob, TopLogprob};
use crate::wire::openai::{ChatLogprobs, ChatTokenLogprob, ChatTopLogprob, TextLogprobs, TopLogprobMap};

/// What OpenAI sends for a probability of zero, because JSON has no infinity.
const LOGPROB_OF_NOTHING: f32 = -9999.0;

/// `text_offset` is the number of characters before the first token, and is moved past the last.
pub(super) fn text_logprobs(tokens: &[TokenLogprob], text_offset: &mut usize) -> TextLogprobs {
    let mut out = TextLogprobs::default();
    for TokenLogprob { token, top } in tokens {
        let mut entries: Vec<(String, f32)> = Vec::with_capacity(top.len() + 1);
        let is_chosen_among = top.iter().any(|other| other.id == token.id);
        for entry in top.iter().chain((!is_chosen_among).then_some(token)) {
            entries.push((name(entry), finite(entry.logprob)));
        }
        out.tokens.push(name(token));
        out.token_logprobs.push(finite(token.logprob));
        out.top_logprobs.push(TopLogprobMap(entries));
        out.text_offset.push(*text_offset);
        *text_offset += token.text.chars().count();
    }
    out
}

pub(super) fn chat_logprobs(tokens: &[TokenLogprob]) -> ChatLogprobs {
    let content = tokens.iter().map(|TokenLogprob { token, top }| ChatTokenLogprob {
        token: chat_logprob(token),
        top_logprobs: top.iter().map(chat_logprob).collect(),
    });
    ChatLogprobs { content: content.collect(), refusal: None }
}

fn chat_logprob(token: &TopLogprob) -> ChatTopLogprob {
    ChatTopLogprob { token: token.text.clone(), logprob: finite(token.logprob), bytes: token.bytes.clone() }
}

/// Tokens that are only a part of a character are told apart by their bytes, as OpenAI does it.
fn name(token: &TopLogprob) -> String {
    if token.text.as_bytes() == token.bytes {
        return token.text.clone();
    }
    token.bytes.iter().fold("bytes:".to_owned(), |name, byte| name + &format!("\\x{byte:02x}"))
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LOGPROB_OF_NOTHING }
}
