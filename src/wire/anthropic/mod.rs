//! Bodies of Anthropic's Messages API (docs.anthropic.com/en/api/messages), version 2023-06-01.

mod event;
mod request;

pub use event::{Delta, MessageDelta, StartedMessage, StreamEvent, Usage};
pub use request::{Message, MessagesRequest};

/// Sent with every request.
pub const VERSION: &str = "2023-06-01";
