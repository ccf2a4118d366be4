//! Who is calling: static API keys, kept only as SHA-256 digests and compared in constant time; GitLab's callers with
//! their signed tokens ([`gitlab`]); and from which addresses anybody may call at all ([`AllowList`]).
//!
//! Knows neither HTTP nor the environment: it is handed the text of a key file and the values of headers. The digests
//! need no salt and no slow hash because keys are long and random; short ones are refused.

mod allow_list;
pub mod gitlab;
mod keys;
mod model_key;

pub use allow_list::{AllowList, NetworkError, Refused};
pub use keys::{ApiKey, ApiKeys, KeyError, KeyFileError, NewKey, generate_key};
pub use model_key::ModelApiKeys;

use crate::domain::{CacheSalt, ErrorKind};
use std::sync::Arc;

/// Who a call is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub name: Arc<str>,
    /// Parts the prefix cache; never 0, and not to be guessed from the name.
    pub cache_salt: CacheSalt,
}

impl Principal {
    /// The one caller of a server without authentication.
    pub fn anonymous() -> Self {
        Self { name: Arc::from("anonymous"), cache_salt: CacheSalt(1) }
    }
}

/// Whether callers have to show a key.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Everybody on this machine is [`Principal::anonymous`]; only to be used on loopback.
    Disabled,
    Keys(ApiKeys),
    /// Nobody has a key: other machines can reach this server, and it is there for GitLab alone.
    Closed,
}

impl Auth {
    pub fn is_enabled(&self) -> bool {
        match self {
            Self::Disabled => false,
            Self::Keys(_) | Self::Closed => true,
        }
    }

    /// `authorization` is the value of the header of that name, if there was one.
    pub fn identify(&self, authorization: Option<&str>) -> Result<Principal, AuthError> {
        let keys = match self {
            Self::Disabled => return Ok(Principal::anonymous()),
            Self::Closed => return Err(AuthError::Closed),
            Self::Keys(keys) => keys,
        };
        let (scheme, key) =
            authorization.ok_or(AuthError::Missing)?.trim().split_once(' ').ok_or(AuthError::NotBearer)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::NotBearer);
        }
        let key = key.trim();
        keys.principal_of(key).ok_or_else(|| AuthError::Incorrect { tail: tail(key) })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("no API key was sent: this server expects the header \"Authorization: Bearer YOUR_KEY\"")]
    Missing,
    #[error(
        "this server is there for GitLab, and no API keys are configured for others: `sconce key new NAME` makes one"
    )]
    Closed,
    #[error("the Authorization header is not of the form \"Bearer YOUR_KEY\"")]
    NotBearer,
    #[error("incorrect API key{}", .tail.as_ref().map(|tail| format!(" ending in {tail}")).unwrap_or_default())]
    Incorrect { tail: Option<String> },
}

impl AuthError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing | Self::Closed | Self::NotBearer | Self::Incorrect { .. } => ErrorKind::Unauthenticated,
        }
    }
}

/// Enough of a key to tell which one was used; nothing where that would be a good part of it.
fn tail(key: &str) -> Option<String> {
    const SHOWN: usize = 4;
    const KEY_LENGTH_MIN: usize = 16;
    let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
    (is_plain && key.len() >= KEY_LENGTH_MIN).then(|| key[key.len() - SHOWN..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-sconce-0123456789abcdef";

    #[test]
    fn without_keys_everybody_is_anonymous() {
        assert_eq!(Auth::Disabled.identify(None), Ok(Principal::anonymous()));
        assert_ne!(Principal::anonymous().cache_salt, CacheSalt(0));
    }

    #[test]
    fn tells_missing_malformed_and_incorrect_keys_apart() {
        let key = ApiKey::from_plain("alice", KEY).expect("long enough");
        let auth = Auth::Keys(ApiKeys::new(vec![key]).expect("one key"));
        let check = |header: Option<&str>, expected: Result<&str, &str>| {
            let found = auth.identify(header);
            let found = found.as_ref().map(|principal| &*principal.name).map_err(ToString::to_string);
            assert_eq!(found, expected.map_err(str::to_owned), "{header:?}");
        };
        check(Some("Bearer sk-sconce-0123456789abcdef"), Ok("alice"));
        check(Some("bearer  sk-sconce-0123456789abcdef "), Ok("alice"));
        check(None, Err("no API key was sent: this server expects the header \"Authorization: Bearer YOUR_KEY\""));
        check(Some(KEY), Err("the Authorization header is not of the form \"Bearer YOUR_KEY\""));
        check(Some("Basic YWxpY2U6eA=="), Err("the Authorization header is not of the form \"Bearer YOUR_KEY\""));
        check(Some("Bearer sk-sconce-0123456789abcdeF"), Err("incorrect API key ending in cdeF"));
        check(Some("Bearer sk-sconce-0123456789abcde"), Err("incorrect API key ending in bcde"));
        check(Some("Bearer short"), Err("incorrect API key"));
        check(Some("Bearer "), Err("the Authorization header is not of the form \"Bearer YOUR_KEY\""));
    }
}
