//! What one request may ask for, each limit a named setting.

/// Limits of one request. The ranges of the sampling parameters are part of the API and not settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Prompts times `n`.
    pub choices_max: usize,
    pub max_tokens_max: usize,
    pub messages_max: usize,
    pub stop_strings_max: usize,
    pub stop_bytes_max: usize,
    pub logit_bias_entries_max: usize,
    pub top_logprobs_max: usize,
    /// How many JSON values a body may hold.
    pub json_values_max: usize,
    /// How deep they may be nested.
    pub json_depth_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            choices_max: 8,
            max_tokens_max: 1 << 20,
            messages_max: 4096,
            stop_strings_max: 16,
            stop_bytes_max: 256,
            logit_bias_entries_max: 1024,
            top_logprobs_max: 20,
            json_values_max: 1_000_000,
            json_depth_max: 32,
        }
    }
}
