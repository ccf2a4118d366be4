//! What each editor session was answered lately: the next keystroke's answer is often the rest of the last one.

use super::proposer::SEPARATOR;
use crate::domain::{CacheSalt, SessionKey};
use std::collections::HashMap;
use std::fmt;

const SESSIONS_MAX: usize = 256;
const SESSION_TOKENS_MAX: usize = 1_024;

/// Tokens of the prompt kept before an answer, so that its beginning can be matched.
const LEAD_TOKENS: usize = 8;

/// A session within its tenant: what one tenant was answered is never guessed for another.
pub(in crate::engine) type Session = (SessionKey, CacheSalt);

#[derive(Default)]
pub(super) struct Sessions {
    texts: HashMap<Session, Text>,
    uses: u64,
}

struct Text {
    tokens: Vec<u32>,
    used: u64,
}

impl Sessions {
    /// Answers, oldest first, each with a separator behind it.
    pub fn text(&self, session: &Session) -> Vec<u32> {
        self.texts.get(session).map_or_else(Vec::new, |text| text.tokens.clone())
    }

    /// Adds what followed the first `prompt_tokens`. Whether the user took it nobody tells us.
    pub fn add(&mut self, session: Session, tokens: &[u32], prompt_tokens: usize) {
        if tokens.len() <= prompt_tokens {
            return;
        }
        self.uses += 1;
        let used = self.uses;
        let text = self.texts.entry(session).or_insert_with(|| Text { tokens: Vec::new(), used });
        text.used = used;
        let first =
            prompt_tokens.saturating_sub(LEAD_TOKENS).max((tokens.len() + 1).saturating_sub(SESSION_TOKENS_MAX));
        text.tokens.extend_from_slice(&tokens[first..]);
        text.tokens.push(SEPARATOR);
        let surplus = text.tokens.len().saturating_sub(SESSION_TOKENS_MAX);
        text.tokens.drain(..surplus);
        if self.texts.len() > SESSIONS_MAX {
            let oldest = self.texts.iter().min_by_key(|(_, text)| text.used).map(|(session, _)| session.clone());
            oldest.map(|session| self.texts.remove(&session));
        }
    }
}

/// Never shows tokens.
impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("sessions", &self.texts.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> Session {
        (SessionKey(name.into()), CacheSalt(1))
    }

    #[test]
    fn answers_are_kept_with_what_leads_to_them_and_only_lately() {
        let mut sessions = Sessions::default();
        let tokens: Vec<u32> = (0..30).collect();
        sessions.add(session("a"), &tokens, 30);
        assert!(sessions.text(&session("a")).is_empty(), "no answer, nothing to keep");
        sessions.add(session("a"), &tokens, 28);
        let kept: Vec<u32> = (20..30).chain([SEPARATOR]).collect();
        assert_eq!(sessions.text(&session("a")), kept);
        assert!(sessions.text(&(SessionKey("a".into()), CacheSalt(2))).is_empty(), "another tenant");
        sessions.add(session("a"), &(0..5_000).collect::<Vec<u32>>(), 10);
        let text = sessions.text(&session("a"));
        assert_eq!((text.len(), text[text.len() - 2]), (SESSION_TOKENS_MAX, 4_999));
    }

    #[test]
    fn the_session_used_longest_ago_is_forgotten() {
        let mut sessions = Sessions::default();
        for index in 0..SESSIONS_MAX {
            sessions.add(session(&index.to_string()), &[1, 2], 1);
        }
        sessions.add(session("0"), &[1, 2], 1);
        sessions.add(session("new"), &[1, 2], 1);
        assert_eq!(sessions.texts.len(), SESSIONS_MAX);
        assert!(sessions.text(&session("1")).is_empty() && !sessions.text(&session("0")).is_empty());
    }
}
