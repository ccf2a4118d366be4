//! OpenAI's completions and chat completions (platform.openai.com/docs/api-reference), with vLLM's extra sampling
//! fields.

mod limits;

pub use limits::RequestLimits;
