//! The bytes of each protocol: strict reading, response types, framing. No logic, and nothing of `domain`.
//!
//! Knows nobody.

pub mod anthropic;
pub mod event_reader;
pub mod gemini;
pub mod gitlab;
pub mod json;
pub mod openai;
pub mod read;
pub mod sse;
