//! What was said so far.

use crate::domain::{Chat, Message, Role};

#[derive(Clone)]
pub struct Conversation {
    system: Option<String>,
    turns: Vec<Message>,
}

impl Conversation {
    pub fn new(system: Option<String>) -> Self {
        Self { system, turns: Vec::new() }
    }

    pub fn say(&mut self, role: Role, content: impl Into<String>) {
        self.turns.push(Message { role, content: content.into() });
    }

    /// Takes back a question that got no answer.
    pub fn unsay(&mut self) {
        self.turns.pop();
    }

    pub fn forget_all(&mut self) {
        self.turns.clear();
    }

    /// Forgets the oldest question and its answer. False when only the current question is left.
    pub fn forget_oldest(&mut self) -> bool {
        if self.turns.len() < 3 {
            return false;
        }
        self.turns.drain(..2);
        true
    }

    pub fn chat(&self) -> Chat {
        let system = self.system.iter().map(|text| Message { role: Role::System, content: text.clone() });
        Chat { messages: system.chain(self.turns.iter().cloned()).collect(), ..Chat::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_in_pairs_and_keeps_the_question() {
        let mut conversation = Conversation::new(Some("be brief".to_owned()));
        for (role, text) in [(Role::User, "a"), (Role::Assistant, "b"), (Role::User, "c")] {
            conversation.say(role, text);
        }
        let texts = |conversation: &Conversation| -> Vec<String> {
            conversation.chat().messages.into_iter().map(|message| message.content).collect()
        };
        assert_eq!(texts(&conversation), ["be brief", "a", "b", "c"]);
        assert!(conversation.forget_oldest());
        assert_eq!(texts(&conversation), ["be brief", "c"]);
        assert!(!conversation.forget_oldest());
        conversation.unsay();
        assert_eq!(texts(&conversation), ["be brief"]);
    }
}
