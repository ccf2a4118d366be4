//! What a model is asked, still free of any model's special tokens.

/// The abstract input of a job. Rendering to token ids, or to a remote body, happens per lane.
#[derive(Clone, PartialEq)]
pub enum Prompt {
    /// A conversation, rendered through the model's chat template.
    Chat(Chat),
    /// Code around a cursor, rendered through the infill template of the model's card.
    Infill(Infill),
    /// Raw text to continue.
    Text(String),
    /// Token ids to continue, as OpenAI's completions accept them. Ids outside the vocabulary are refused.
    Tokens(Vec<u32>),
}

/// Messages in order.
#[derive(Clone, PartialEq, Default)]
pub struct Chat {
    pub messages: Vec<Message>,
    /// How the answer begins: the model goes on from here, and its text does not repeat it. Empty for a free answer.
    pub answer_prefix: String,
}

#[derive(Clone, PartialEq)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

/// Code before and after a cursor.
#[derive(Clone, PartialEq, Default)]
pub struct Infill {
    pub prefix: String,
    pub suffix: String,
}

/// Prompts never reach logs: only their sizes do.
impl std::fmt::Debug for Prompt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Prompt::Chat(chat) => write!(formatter, "Chat({} messages)", chat.messages.len()),
            Prompt::Infill(infill) => {
                write!(formatter, "Infill({} + {} bytes)", infill.prefix.len(), infill.suffix.len())
            }
            Prompt::Text(text) => write!(formatter, "Text({} bytes)", text.len()),
            Prompt::Tokens(tokens) => write!(formatter, "Tokens({})", tokens.len()),
        }
    }
}
