//! What can be wrong with a tokenizer, and with a prompt.

/// Why a tokenizer was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("{file} has {bytes} bytes, the limit is {bytes_max}")]
    FileTooLarge { file: &'static str, bytes: usize, bytes_max: usize },
    #[error("{file} is not valid: {source}")]
    Json { file: &'static str, source: serde_json::Error },
    #[error("GGUF metadata: {reason}")]
    Metadata { reason: String },
    #[error("tokenizer model {found:?} is not supported, known are {known}")]
    UnknownModel { found: String, known: &'static str },
    #[error("pre-tokenizer {found:?} is not known, known are {known}")]
    UnknownPreTokenizer { found: String, known: String },
    #[error("the GGUF file does not name its pre-tokenizer (tokenizer.ggml.pre), known are {known}")]
    MissingPreTokenizer { known: String },
    #[error("{part} {found} is not supported")]
    Unsupported { part: &'static str, found: String },
    #[error("{what}: {count}, the limit is {count_max}")]
    TooMany { what: &'static str, count: usize, count_max: usize },
    #[error("the vocabulary is empty")]
    EmptyVocabulary,
    #[error("token {token:?} has id {id}, the model has {vocab_size} tokens")]
    IdOutOfRange { token: String, id: u64, vocab_size: usize },
    #[error("tokens {first:?} and {second:?} have the same id {id}")]
    DuplicateId { id: u32, first: String, second: String },
    #[error("token {token:?} has two ids: {first} and {second}")]
    ConflictingId { token: String, first: u32, second: u32 },
    #[error("{what} has {found} entries for {tokens} tokens")]
    LengthMismatch { what: &'static str, found: usize, tokens: usize },
    #[error("merge {rank} ({left:?} + {right:?}) makes a token that is not in the vocabulary")]
    BadMerge { rank: usize, left: String, right: String },
    #[error("merge {rank} is not two tokens: {found:?}")]
    MalformedMerge { rank: usize, found: String },
    #[error("{what} names token {token:?}, which is not in the vocabulary")]
    MissingToken { what: &'static str, token: String },
    #[error("the normaliser can make text {factor} times as long, the limit is {factor_max}")]
    GrowingNormaliser { factor: usize, factor_max: usize },
    #[error("the split pattern {pattern:?} is not valid: {reason}")]
    BadPattern { pattern: String, reason: String },
    #[error("the tokenizer library refused the vocabulary: {reason}")]
    Library { reason: String },
    #[error("the chat template is not valid: {reason}")]
    ChatTemplate { reason: String },
    #[error("card {card} has no infill order {order:?}")]
    UnknownInfillOrder { card: String, order: String },
}

/// Why a prompt was not rendered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RenderError {
    #[error("the prompt is empty: at least one token is needed")]
    Empty,
    #[error("token id {token} is outside the vocabulary of {vocab_size} tokens")]
    TokenOutOfRange { token: u32, vocab_size: usize },
    #[error("the model has no fill-in-the-middle template")]
    NoInfill,
    #[error("the model has no chat template")]
    NoChat,
    /// The template itself objected, for example to the order of roles.
    #[error("the chat template refused the messages: {reason}")]
    TemplateRefused { reason: String },
    /// A fault in the template, or one of its limits.
    #[error("the chat template failed: {reason}")]
    TemplateFailed { reason: String },
    #[error("the messages use every character that could stand for {needed} reserved ones")]
    NoStandIns { needed: usize },
}
