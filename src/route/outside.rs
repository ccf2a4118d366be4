//! Models that a call names and nobody gave a name here: at an address that the operator allows, or of a provider that
//! answers for all of its models.

use super::Lane;

/// What a call says of a model that is not served by name.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// What stands before the name, such as `bedrock` in `bedrock/anthropic.claude`.
    pub prefix: Option<&'a str>,
    pub model: &'a str,
    pub endpoint: Option<&'a str>,
    /// The caller's own: for `endpoint` and for nobody else.
    pub api_key: Option<&'a str>,
}

/// Makes lanes for such models. A key never goes to an address that it was not given with.
pub trait Outside: Send + Sync {
    /// `None` if the endpoint is not one that calls may name.
    fn at_endpoint(&self, named: Named<'_>) -> Option<Lane>;
    /// `None` if no provider answers for the prefix.
    fn by_prefix(&self, named: Named<'_>) -> Option<Lane>;
}
