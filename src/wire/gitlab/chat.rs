//! Answers of the chats: the lines of `/v2/chat/agent`, the object of `/v1/chat/*`. Names are in the order in which the
//! reference sends them.

use serde::Serialize;
use serde_json::ser::Formatter;
use std::io;

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
        let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Spaced);
        self.serialize(&mut serializer).expect("lines hold only strings and booleans");
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

/// A space behind each colon and comma, as the reference's library writes it.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if is_first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if is_first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
