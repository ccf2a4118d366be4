//! OpenAI's completions and chat completions (platform.openai.com/docs/api-reference), with vLLM's extra sampling
//! fields `top_k`, `min_p` and `repetition_penalty`.
//!
//! A body becomes a [`Call`] here, validated once and for all; the events of its jobs become a [`Whole`] answer or are
//! spoken one by one by a [`Speaker`]. Fields that are not served are refused by name; those that have no effect are
//! listed in [`Call::ignored`].

mod answer;
mod call;
mod error;
mod limits;
mod logprobs;
mod models;
mod sampling;

pub use answer::{Head, Speaker, Whole};
pub use call::{Call, Delivery, Ticket, chat, completion};
pub use error::{RequestError, error_body, error_event, generate_error_code};
pub use limits::RequestLimits;
pub use models::{model, model_list};

/// A comment that keeps a silent stream alive.
pub const KEEP_ALIVE: &[u8] = crate::wire::sse::KEEP_ALIVE;
