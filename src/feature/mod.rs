//! What GitLab's features ask of a model: each turns a call into a [`Plan`] (prompt, sampling, limits) and a [`Shape`]
//! that turns the model's text into what GitLab parses.
//!
//! Pure: knows no wire format, no HTTP and no model's special tokens. The prompt texts are our own.

pub mod agent;
pub mod chat;
pub mod completion;
mod family;
pub mod generation;
pub mod language;
mod output;
pub mod prompts;
mod shape;
mod text;

pub use family::Family;
pub use shape::{Flow, Plain, Shape, shape_whole};

use crate::domain::{Class, Prompt, SamplingParams, StopRules};

/// What to ask a lane, and how to read its answer.
pub struct Plan {
    pub prompt: Prompt,
    pub sampling: SamplingParams,
    pub stop: StopRules,
    pub class: Class,
    pub shape: Box<dyn Shape>,
}
