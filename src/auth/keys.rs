//! API keys at rest. A key file holds one `NAME sha256:HEX` a line; blank lines and lines that begin with `#` are skipped.

use super::Principal;
use crate::domain::CacheSalt;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

const DIGEST_PREFIX: &str = "sha256:";
const DIGEST_BYTES: usize = 32;
const NAME_LENGTH_MAX: usize = 64;
/// Shorter keys could be found by trying, because their digests are fast to compute.
const KEY_LENGTH_MIN: usize = 16;
const KEY_LENGTH_MAX: usize = 512;

/// One key: the name of its owner and its digest. The key itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    name: Arc<str>,
    digest: [u8; DIGEST_BYTES],
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ApiKey({})", self.name)
    }
}

/// The line of a key file.
impl fmt::Display for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {DIGEST_PREFIX}", self.name)?;
        self.digest.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl ApiKey {
    /// Hashes `key` at once. Errors if the name or the key could not be used; the message never holds the key.
    pub fn from_plain(name: &str, key: &str) -> Result<Self, KeyError> {
        let name = valid_name(name)?;
        if !(KEY_LENGTH_MIN..=KEY_LENGTH_MAX).contains(&key.len()) {
            return Err(KeyError::KeyLength { length: key.len() });
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::KeyCharacters);
        }
        Ok(Self { name, digest: Sha256::digest(key.as_bytes()).into() })
    }

    /// Reads `sha256:` and 64 hexadecimal digits.
    pub fn from_digest(name: &str, digest: &str) -> Result<Self, KeyError> {
        let name = valid_name(name)?;
        let hex = digest.strip_prefix(DIGEST_PREFIX).ok_or(KeyError::NotADigest)?;
        Ok(Self { name, digest: decode_hex(hex).ok_or(KeyError::NotADigest)? })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn principal(&self) -> Principal {
        let mut hasher = Sha256::new();
        hasher.update(b"sconce prefix cache\0");
        hasher.update(self.digest);
        let hash: [u8; DIGEST_BYTES] = hasher.finalize().into();
        let salt = hash[..8].iter().fold(0_u64, |salt, byte| salt << 8 | u64::from(*byte));
        Principal { name: self.name.clone(), cache_salt: CacheSalt(salt.max(2)) }
    }
}

/// A set of keys, each with a name and a digest of its own.
#[derive(Clone, Debug)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
    principals: Vec<Principal>,
}

impl ApiKeys {
    /// Errors if there is no key, or if two share a name or a digest.
    pub fn new(keys: Vec<ApiKey>) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::NoKeys);
        }
        for (index, key) in keys.iter().enumerate() {
            if let Some(error) = keys[..index].iter().find_map(|other| clash(other, key)) {
                return Err(error);
            }
        }
        let principals = keys.iter().map(ApiKey::principal).collect();
        Ok(Self { keys, principals })
    }

    /// Reads the text of a key file.
    pub fn parse_file(text: &str) -> Result<Vec<ApiKey>, KeyFileError> {
        let mut keys: Vec<ApiKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at_line = |error| KeyFileError { line: index + 1, error };
            let (name, digest) = line.split_once(char::is_whitespace).ok_or(at_line(KeyError::NotADigest))?;
            let key = ApiKey::from_digest(name, digest.trim()).map_err(at_line)?;
            if let Some(error) = keys.iter().find_map(|other| clash(other, &key)) {
                return Err(at_line(error));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(ApiKey::name)
    }

    /// Compares with every key, so that the time it takes says nothing about which one was close.
    pub(super) fn principal_of(&self, key: &str) -> Option<Principal> {
        let digest: [u8; DIGEST_BYTES] = Sha256::digest(key.as_bytes()).into();
        let mut found = Choice::from(0);
        let mut found_index = 0_u64;
        for (index, known) in self.keys.iter().enumerate() {
            let is_equal = known.digest.ct_eq(&digest);
            found_index.conditional_assign(&(index as u64), is_equal);
            found |= is_equal;
        }
        bool::from(found).then(|| self.principals[found_index as usize].clone())
    }
}

/// A key just made. `key` is shown once and not kept; `entry` is the line for the key file.
#[derive(Clone)]
pub struct NewKey {
    pub key: String,
    pub entry: ApiKey,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("NewKey").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// Makes a key of 256 random bits for `name`.
pub fn generate_key(name: &str) -> Result<NewKey, KeyError> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const RANDOM_CHARS: usize = 43; // 43 * 6 bits >= 256 bits
    let random = (0..RANDOM_CHARS).map(|_| char::from(ALPHABET[usize::from(rand::random::<u8>() % 64)]));
    let key: String = "sk-sconce-".chars().chain(random).collect();
    let entry = ApiKey::from_plain(name, &key)?;
    Ok(NewKey { key, entry })
}

/// Why a key cannot be used. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key's name has 1 to {NAME_LENGTH_MAX} letters, digits or . _ @ -, this one does not")]
    Name,
    #[error("a key has {KEY_LENGTH_MIN} to {KEY_LENGTH_MAX} characters, this one has {length}")]
    KeyLength { length: usize },
    #[error("a key is made of visible ASCII characters, this one is not")]
    KeyCharacters,
    #[error("expected NAME sha256:HEX with 64 hexadecimal digits; `sconce key new NAME` prints such a line")]
    NotADigest,
    #[error("two keys are called {name:?}")]
    DuplicateName { name: String },
    #[error("{first:?} and {second:?} are the same key")]
    DuplicateKey { first: String, second: String },
    #[error("authentication is on, but there is no key")]
    NoKeys,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct KeyFileError {
    /// Counted from 1.
    pub line: usize,
    pub error: KeyError,
}

fn clash(first: &ApiKey, second: &ApiKey) -> Option<KeyError> {
    if first.name == second.name {
        return Some(KeyError::DuplicateName { name: second.name.to_string() });
    }
    (first.digest == second.digest)
        .then(|| KeyError::DuplicateKey { first: first.name.to_string(), second: second.name.to_string() })
}

fn valid_name(name: &str) -> Result<Arc<str>, KeyError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    let is_valid = (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(is_allowed);
    if is_valid { Ok(Arc::from(name)) } else { Err(KeyError::Name) }
}

fn decode_hex(hex: &str) -> Option<[u8; DIGEST_BYTES]> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() != 2 * DIGEST_BYTES {
        return None;
    }
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_known_by_its_line() {
        let made = generate_key("alice").expect("a good name");
        assert_eq!(made.key.len(), 53);
        assert!(!format!("{made:?}").contains(&made.key));
        let keys = ApiKeys::parse_file(&format!("# keys\n\n{}\n", made.entry)).expect("a good file");
        let keys = ApiKeys::new(keys).expect("one key");
        let principal = keys.principal_of(&made.key).expect("the same key");
        assert_eq!(&*principal.name, "alice");
        assert!(principal.cache_salt.0 > 1);
        assert_eq!(keys.principal_of("sk-sconce-something-else"), None);
        assert_ne!(generate_key("alice").map(|other| other.key), Ok(made.key));
    }

    #[test]
    fn salts_differ_between_keys() {
        let salt = |key| ApiKey::from_plain("a", key).expect("long enough").principal().cache_salt;
        assert_ne!(salt("0123456789abcdef"), salt("0123456789abcdeg"));
    }

    #[test]
    fn file_errors_name_the_line_and_never_the_key() {
        let good = "a".repeat(64);
        let check = |text: &str, expected: &str| {
            let error = ApiKeys::parse_file(text).expect_err("a bad file").to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("secret"));
        };
        check("alice sk-a-secret-that-is-plain", "line 1: expected NAME sha256:HEX");
        check("# x\n\nsk-a-secret-alone", "line 3: expected NAME sha256:HEX");
        check(&format!("al!ce sha256:{good}"), "line 1: a key's name has 1 to 64");
        check(&format!("alice sha256:{good}0"), "line 1: expected");
        check("alice sha256:secret", "line 1: expected");
        check(&format!("a sha256:{good}\na sha256:{}", "b".repeat(64)), "line 2: two keys are called \"a\"");
        check(&format!("a sha256:{good}\nb sha256:{good}"), "line 2: \"a\" and \"b\" are the same key");
    }

    #[test]
    fn plain_keys_must_be_long_and_visible() {
        assert_eq!(ApiKey::from_plain("a", "short"), Err(KeyError::KeyLength { length: 5 }));
        assert_eq!(ApiKey::from_plain("a", "with a space in it"), Err(KeyError::KeyCharacters));
        assert_eq!(ApiKeys::new(Vec::new()).err(), Some(KeyError::NoKeys));
    }
}
