//! What a cluster's router may know of a call to send it where its prefix is cached: a digest, the same for all calls of
//! a session or conversation, and of no use to learn either from.

use crate::domain::{Job, Prompt};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// The header that carries it. Routers are told to read it (`sessionKey` of vLLM's production stack).
pub const HEADER: &str = "x-session-id";
/// How much of a prompt makes it: conversations begin alike and grow, so only their beginning stays.
const TEXT_BYTES: usize = 1024;
const DIGEST_BYTES: usize = 16;

/// A completion's session where it has one; else who asks and how the prompt begins, of a conversation up to its first
/// question.
pub fn affinity(job: &Job) -> String {
    let mut hasher = Sha256::new();
    hasher.update(job.cache_salt.0.to_le_bytes());
    match (&job.session, &job.prompt) {
        (Some(session), _) => hasher.update(session.0.as_bytes()),
        (None, Prompt::Text(text)) => hasher.update(beginning(text)),
        (None, Prompt::Infill(infill)) => hasher.update(beginning(&infill.prefix)),
        (None, Prompt::Tokens(tokens)) => {
            tokens.iter().take(TEXT_BYTES / 4).for_each(|token| hasher.update(token.to_le_bytes()));
        }
        (None, Prompt::Chat(chat)) => {
            chat.messages.iter().take(2).for_each(|message| hasher.update(beginning(&message.content)));
        }
    }
    hasher.finalize().iter().take(DIGEST_BYTES).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn beginning(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CacheSalt, CallId, Chat, Class, Message, Role, SamplingParams, SessionKey, StopRules};
    use std::sync::Arc;

    fn job(contents: &[&str], session: Option<&str>, salt: u64) -> Job {
        let message = |content: &&str| Message { role: Role::User, content: (*content).to_owned() };
        let messages = contents.iter().map(message).collect();
        Job {
            id: CallId(Arc::from("a")),
            prompt: Prompt::Chat(Chat { messages, answer_prefix: String::new() }),
            sampling: SamplingParams::default(),
            stop: StopRules { max_tokens: None, stop: Vec::new() },
            class: Class::Chat,
            session: session.map(|session| SessionKey(Arc::from(session))),
            cache_salt: CacheSalt(salt),
            deadline: None,
        }
    }

    #[test]
    fn a_conversation_stays_together_and_others_spread() {
        let first = affinity(&job(&["be kind", "what is Rust?"], None, 1));
        assert_eq!(first.len(), 2 * DIGEST_BYTES);
        assert_eq!(affinity(&job(&["be kind", "what is Rust?", "a language", "and C?"], None, 1)), first);
        assert_ne!(affinity(&job(&["be kind", "what is C?"], None, 1)), first);
        assert_ne!(affinity(&job(&["be kind", "what is Rust?"], None, 2)), first, "tenants do not meet");
        let session = affinity(&job(&["a"], Some("s"), 1));
        assert_eq!(affinity(&job(&["b"], Some("s"), 1)), session);
        assert_ne!(affinity(&job(&["a"], Some("t"), 1)), session);
    }
}
