//! How key sets get here: a trait, because the door to the network is another room's.

use futures::future::BoxFuture;

/// Fetches a small document. Implementors follow no redirect to another host, read at most 1 MiB and give up after 10 s.
pub trait FetchKeys: Send + Sync {
    fn get(&self, url: &str) -> BoxFuture<'static, Result<Vec<u8>, FetchError>>;
}

/// Why a document did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    pub kind: FetchErrorKind,
    /// What exactly, in a few words, for people; empty if the kind says it all.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The name has no address.
    Dns,
    Connect,
    Tls,
    Timeout,
    Status(u16),
    TooLarge,
    /// The answer sends us to another host.
    Redirect,
    /// Our own configuration does not allow this address.
    Refused,
    /// The connection broke, or the answer is not HTTP.
    Broken,
}

impl FetchError {
    pub fn new(kind: FetchErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}
