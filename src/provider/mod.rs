//! Remote lanes: each file named after a kind of provider is a way to answer by asking somebody else's server.
//!
//! A provider turns a job into one streaming request and the stream that comes back into events. It tries once: who is
//! asked next, and whether at all, is routing's to say, by the class of the [`crate::domain::UpstreamError`]. Dropping
//! the stream of events closes the connection, and with it the work over there. Knows nothing of models on this machine;
//! of the tokenizer only the search for stop strings. Facts about each API are from its public documentation.

mod affinity;
mod answer;
mod anthropic;
mod azure;
mod bedrock;
mod complaint;
mod conversation;
mod credentials;
mod endpoint;
mod failure;
mod gemini;
mod gitlab_gateway;
mod habits;
mod infill;
mod openai;
mod retry_after;
mod text;
mod vertex;

pub use answer::Sign;
pub use anthropic::{Anthropic, AnthropicSampling, AnthropicSettings};
pub use bedrock::{Bedrock, BedrockSampling, BedrockSettings, bedrock_address};
pub use credentials::{
    AwsChain, AwsKeys, AwsSignature, Bearer, Clock, CredentialError, Entra, EntraIdentity, FindAwsKeys, FixedToken,
    GOOGLE_METADATA, ServiceAccountKey, application_default, aws_chain, entra, google_machine, service_account,
    token_file,
};
pub use endpoint::{Endpoint, Key, Patience, Remote};
pub use gitlab_gateway::{GitLabGateway, GitLabGatewaySettings, GitLabInstance};
pub use habits::{AnswerPrefix, Habits, KeyHeader, Kind};
pub use infill::{InfillForm, InfillPart, InfillTemplate};
pub use openai::{OpenAiCompatible, OpenAiSettings};
pub use vertex::{Vertex, VertexFamily, VertexSettings};
