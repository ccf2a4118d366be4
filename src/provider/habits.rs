//! In what servers of OpenAI's API differ: names of parameters, what they do not know, how they are opened. Data, one set
//! for each kind, any of it to be overridden.

/// Servers that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI's own parameters and nothing else: right for whatever is not listed.
    OpenAi,
    /// Another of this program, by its API of OpenAI's kind.
    Sconce,
    Vllm,
    Sglang,
    LlamaCpp,
    Nim,
    Ollama,
    Mistral,
    Fireworks,
    /// Azure OpenAI: the v1 API, where the model is the name of a deployment, or the address of a deployment.
    Azure,
    BedrockMantle,
}

/// What a server takes. A name of `None` is a parameter it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    pub key_header: KeyHeader,
    /// Whether its addresses may be those of deployments (Azure), which name the model and a version of the API.
    pub has_deployments: bool,
    pub max_tokens: &'static str,
    pub top_k: Option<&'static str>,
    pub min_p: Option<&'static str>,
    pub repetition_penalty: Option<&'static str>,
    pub seed: Option<&'static str>,
    /// Presence and frequency.
    pub has_penalties: bool,
    pub has_logit_bias: bool,
    /// Whether raw prompts are taken, at `/completions`.
    pub has_completions: bool,
    /// Whether a raw prompt may be token ids. They mean the same only to a server with the same model.
    pub has_token_prompts: bool,
    /// How many stop strings are sent; the others are found here.
    pub stops_max: usize,
    /// Whether `stream_options.include_usage` is sent. Some refuse it and count unasked.
    pub asks_for_usage: bool,
    pub answer_prefix: AnswerPrefix,
    /// The header for the milliseconds that a job still has.
    pub deadline_header: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `api-key`.
    ApiKey,
}

/// How a server goes on from the beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerPrefix {
    NotOffered,
    /// A last assistant message, with `continue_final_message` and without `add_generation_prompt`.
    ContinueFinalMessage,
    /// A last assistant message marked `prefix`, which the answer then repeats.
    Flag,
    /// A last assistant message and no more.
    LastMessage,
}

impl Habits {
    const OPENAI: Self = Self {
        key_header: KeyHeader::Bearer,
        has_deployments: false,
        max_tokens: "max_tokens",
        top_k: None,
        min_p: None,
        repetition_penalty: None,
        seed: Some("seed"),
        has_penalties: true,
        has_logit_bias: true,
        has_completions: true,
        has_token_prompts: false,
        stops_max: 4,
        asks_for_usage: true,
        answer_prefix: AnswerPrefix::NotOffered,
        deadline_header: None,
    };

    const VLLM: Self = Self {
        top_k: Some("top_k"),
        min_p: Some("min_p"),
        repetition_penalty: Some("repetition_penalty"),
        has_token_prompts: true,
        stops_max: 16,
        answer_prefix: AnswerPrefix::ContinueFinalMessage,
        ..Self::OPENAI
    };

    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::OpenAi | Kind::Nim => Self::OPENAI,
            Kind::Vllm | Kind::Sglang => Self::VLLM,
            Kind::Sconce => Self {
                answer_prefix: AnswerPrefix::NotOffered,
                deadline_header: Some("x-sconce-deadline-ms"),
                ..Self::VLLM
            },
            // Versions before May 2026 do not know the flags and go on from a last assistant message anyway.
            Kind::LlamaCpp => Self { repetition_penalty: Some("repeat_penalty"), ..Self::VLLM },
            Kind::Ollama => Self { has_logit_bias: false, ..Self::OPENAI },
            Kind::Mistral => Self {
                seed: Some("random_seed"),
                has_logit_bias: false,
                has_completions: false,
                asks_for_usage: false,
                answer_prefix: AnswerPrefix::Flag,
                ..Self::OPENAI
            },
            Kind::Fireworks => Self {
                top_k: Some("top_k"),
                min_p: Some("min_p"),
                repetition_penalty: Some("repetition_penalty"),
                ..Self::OPENAI
            },
            Kind::Azure => Self {
                key_header: KeyHeader::ApiKey,
                has_deployments: true,
                max_tokens: "max_completion_tokens",
                has_completions: false,
                ..Self::OPENAI
            },
            Kind::BedrockMantle => Self { max_tokens: "max_completion_tokens", has_completions: false, ..Self::OPENAI },
        }
    }
}
