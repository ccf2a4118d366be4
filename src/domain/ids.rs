//! Identities, each a type of its own so that one cannot be passed for another.

use std::fmt;
use std::sync::Arc;

/// Names one call from the edge to the batch: the correlation id of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub Arc<str>);

impl fmt::Display for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Names a place where one developer types: a newer completion of the same session supersedes the older.
///
/// Made of an explicit session id together with the principal that sent it, never of a key alone, so that two people
/// who share a key do not cancel each other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionKey(pub Arc<str>);

impl fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionKey(..)")
    }
}

/// Parts the prefix cache by tenant: blocks are shared only between sequences of the same salt, so that nobody can
/// learn from timing what another tenant has asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CacheSalt(pub u64);

impl fmt::Debug for CacheSalt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CacheSalt(..)")
    }
}
