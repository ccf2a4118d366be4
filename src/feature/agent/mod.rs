//! Classic chat with tools (ReAct): a conversation, what the user looks at and the steps done so far become a prompt;
//! the model's text becomes one of the three things GitLab understands: an answer piece by piece, one action, or text
//! that is neither.
//!
//! Knows `domain` only. GitLab executes the tools itself and calls again with what it observed; every call stands
//! alone. The wording is our own, short and with an example, for models of 7B to 32B.

mod action;
mod answer;
mod input;
mod marker;
mod parser;
mod phrases;
mod plan;
mod tools;
mod version;

pub use input::{Context, CurrentFile, Input, Item, Resource, Step, Turn, required_scopes};
pub use parser::{AgentEvent, AgentParser};
pub use plan::{AgentError, Facts, Planned, plan};
pub use tools::TOOL_SCOPES;

#[cfg(test)]
mod tests;
