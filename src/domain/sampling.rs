//! How the next token is chosen, and when to stop.

/// Parameters of sampling, already validated: see each field for its range. Names and meanings follow OpenAI's
/// completions API where it has them, and vLLM's extension of it for the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy. Range 0..=2.
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; `None` keeps all.
    pub top_k: Option<std::num::NonZeroU32>,
    /// Keep the smallest set of most likely tokens whose probabilities add up to this. Range (0, 1].
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely one. Range 0..=1.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or output (arXiv:1909.05858). 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of every token already generated. Range -2..=2.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a generated token once per occurrence. Range -2..=2.
    pub frequency_penalty: f32,
    /// Added to the logit of a token id. Range of values -100..=100.
    pub logit_bias: Vec<(u32, f32)>,
    /// Same seed, same request, same output. Without one a random seed is drawn.
    pub seed: Option<u64>,
    /// How many of the most likely tokens to report beside the chosen one; `None` reports nothing.
    pub top_logprobs: Option<usize>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            top_logprobs: None,
        }
    }
}

/// When a generation ends, besides the model's own end token.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct StopRules {
    /// At most this many new tokens; `None` means as many as the context has room for.
    pub max_tokens: Option<usize>,
    /// The output ends before the first occurrence of any of these. Found across token borders.
    pub stop: Vec<String>,
}
