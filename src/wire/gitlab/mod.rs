//! What GitLab and its gateway say to each other: the bodies and streams, without logic.

pub mod chat;
pub mod code;
pub mod detail;
pub mod prompts;
pub mod search;
mod spaced;
pub mod sse;
