//! Answers of the prompts API: `/v1/prompts/*` and `/v2/prompts/*`.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// A whole answer of the second version, or a line of its stream.
#[derive(Debug, Serialize)]
pub struct PromptAnswer<'a> {
    pub content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageByModel<'a>>,
}

/// An object with one entry, named after the model.
#[derive(Clone, Copy, Debug)]
pub struct UsageByModel<'a> {
    pub model: &'a str,
    pub usage: TokenUsage,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct TokenUsage {
    pub input_tokens: usize,
    pub output_tokens: usize,
}

impl Serialize for UsageByModel<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.model, &self.usage)?;
        map.end()
    }
}
