//! Conversations as some APIs want them (Anthropic's, AWS's Converse): what the system says apart from the rest, the rest
//! in turns of a user and an assistant, a user first.

use super::text::Repeated;
use crate::domain::{Chat, GenerateError, Role};

pub struct Conversation {
    /// Empty where there is none.
    pub system: String,
    pub turns: Vec<Turn>,
    /// What the answer may begin with although it was sent.
    pub repeated: Repeated,
}

pub struct Turn {
    /// `user` or `assistant`: every such API calls them so.
    pub role: &'static str,
    pub text: String,
}

/// System messages go to the top, wherever they stood; neighbours of one role become one turn, and empty ones, which are
/// refused over there, none. `goes_on` says whether the model goes on from a last turn of the assistant.
pub fn alternate(chat: &Chat, goes_on: bool, provider: &str) -> Result<Conversation, GenerateError> {
    let not_offered = |what| Err(GenerateError::NotOffered { provider: provider.to_owned(), what });
    let mut system = String::new();
    let mut turns: Vec<Turn> = Vec::new();
    for message in &chat.messages {
        let role = match message.role {
            Role::System => {
                join(&mut system, &message.content);
                continue;
            }
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => return not_offered("messages of tools"),
        };
        match turns.last_mut().filter(|last| last.role == role) {
            Some(last) => join(&mut last.text, &message.content),
            None if message.content.trim().is_empty() => {}
            None => turns.push(Turn { role, text: message.content.clone() }),
        }
    }
    let Some(first) = turns.first() else { return Err(GenerateError::PromptEmpty) };
    if first.role == "assistant" {
        return not_offered("conversations that an assistant begins");
    }
    // A last turn of the assistant would be gone on from, which only a prefix asks for.
    let ends_with_assistant = turns.last().is_some_and(|last| last.role == "assistant");
    if chat.answer_prefix.is_empty() && !ends_with_assistant {
        return Ok(Conversation { system, turns, repeated: Repeated::Nothing });
    }
    if ends_with_assistant {
        return not_offered("conversations that an assistant ends");
    }
    if !goes_on {
        return not_offered("answers that begin as they are told");
    }
    // The last turn must not end with blanks: they are awaited at the beginning of the answer.
    let sent = chat.answer_prefix.trim_end();
    if !sent.is_empty() {
        turns.push(Turn { role: "assistant", text: sent.to_owned() });
    }
    let repeated = Repeated::Blanks(chat.answer_prefix[sent.len()..].to_owned());
    Ok(Conversation { system, turns, repeated })
}

/// With an empty line in between.
fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}
