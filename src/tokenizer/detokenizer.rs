//! From tokens to text, as they come.

use super::Tokenizer;
use std::sync::Arc;

/// Turns generated tokens into text, one at a time, and never splits a UTF-8 character.
///
/// Works on the bytes of each token, so that every token costs its own length only. Special tokens have no text. Bytes
/// that can be no part of a character become U+FFFD as soon as that is certain.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// The beginning of a character, at most three bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// The text that became complete with this token.
    pub fn push(&mut self, id: u32) -> String {
        let mut text = String::new();
        self.push_into(id, &mut text);
        text
    }

    /// As [`Self::push`], appending to `out`.
    pub fn push_into(&mut self, id: u32, out: &mut String) {
        if self.tokenizer.is_special(id) {
            return;
        }
        self.pending.extend_from_slice(self.tokenizer.token_bytes(id));
        let mut taken = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid();
            let may_continue = chunks.peek().is_none() && is_incomplete(invalid);
            if !invalid.is_empty() && !may_continue {
                out.push(char::REPLACEMENT_CHARACTER);
                taken += invalid.len();
            }
        }
        self.pending.drain(..taken);
    }

    /// What is left when no more tokens come: U+FFFD for a character that was not completed.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }

    /// How many bytes of a character wait for the rest of it.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }
}

/// Whether more bytes could complete the character these begin with.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
