//! Answers of the chats: the lines of `/v2/chat/agent`, the object of `/v1/chat/*`. Names are in the order in which the
//! reference sends them.

use super::spaced;
use serde::Serialize;

/// One line of the classic chat.
#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum AgentLine<'a> {
    FinalAnswerDelta { text: &'a str, finish_reason: Option<&'static str> },
    Action { tool: &'a str, tool_input: &'a str, thought: &'a str },
    Unknown { text: &'a str },
    Error { message: &'a str, retryable: bool },
}

impl AgentLine<'_> {
    /// Appends the line and its end. GitLab cuts the stream with `(\{.*\})\n`: one object a line, no line without its
    /// end.
    pub fn write(&self, out: &mut Vec<u8>) {
        spaced::write(self, out);
        out.push(b'\n');
    }
}

/// The whole answer of the older chat.
#[derive(Debug, Serialize)]
pub struct LegacyAnswer<'a> {
    pub response: &'a str,
    pub metadata: LegacyMetadata<'a>,
}

#[derive(Debug, Serialize)]
pub struct LegacyMetadata<'a> {
    pub provider: &'a str,
    pub model: &'a str,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
}
