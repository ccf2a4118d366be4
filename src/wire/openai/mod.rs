//! Bodies of OpenAI's API (platform.openai.com/docs/api-reference): completions, chat completions, models, errors.

mod chunk;
mod request;
mod response;

pub use chunk::{IncomingChoice, IncomingChunk, IncomingDelta, IncomingPromptDetails, IncomingUsage};
pub use request::{ChatRequest, CompletionRequest, Content, Message, Part, PromptInput, Shared, StreamOptions};
pub use response::{
    ChatChoice, ChatLogprobs, ChatMessage, ChatTokenLogprob, ChatTopLogprob, ChunkChoice, Delta, ErrorBody,
    ErrorDetail, Model, ModelCard, ModelList, PromptTokensDetails, Reply, TextChoice, TextLogprobs, TopLogprobMap,
    Usage,
};
