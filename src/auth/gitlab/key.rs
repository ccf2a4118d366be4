//! Public keys that tokens are checked with, and the key sets (RFC 7517) they come in.
//!
//! A key is used as RSA with SHA-256 and PKCS#1 padding, whatever a set or a token says about algorithms.

use super::claims::quoted;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;

pub(super) const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
/// GitLab publishes about five.
const KEYS_MAX: usize = 64;

/// Tells key material apart, whatever the key is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

/// Checks signatures. Parsed once, when the key arrives.
pub(super) struct VerifyingKey {
    pub(super) id: Option<Arc<str>>,
    pub(super) fingerprint: Fingerprint,
    pub(super) bits: usize,
    decoding: DecodingKey,
    parts: KeyParts,
}

/// Modulus and exponent in base64url, as key sets hold them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyParts {
    pub(super) n: String,
    pub(super) e: String,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifyingKey({:?}, {} bits)", self.id.as_deref().unwrap_or_default(), self.bits)
    }
}

/// Why a key is passed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    #[error("its modulus or exponent is not base64url")]
    Encoding,
    #[error("it has {bits} bits, allowed are {RSA_BITS_MIN} to {RSA_BITS_MAX}")]
    Size { bits: usize },
    #[error("it is not an RSA key")]
    NotRsa,
}

impl VerifyingKey {
    pub(super) fn from_parts(id: Option<&str>, parts: KeyParts) -> Result<Self, KeyProblem> {
        let n = big_endian(&parts.n)?;
        let e = big_endian(&parts.e)?;
        let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(KeyProblem::Size { bits });
        }
        let mut hasher = Sha256::new();
        hasher.update((n.len() as u64).to_be_bytes());
        hasher.update(&n);
        hasher.update(&e);
        let fingerprint = Fingerprint(hasher.finalize().into());
        let decoding = DecodingKey::from_rsa_raw_components(&n, &e);
        // The library that checks tokens takes any numbers for a key.
        let components = PublicKeyComponents { n, e };
        components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(|_| KeyProblem::NotRsa)?;
        Ok(Self { id: id.map(Arc::from), fingerprint, bits, decoding, parts })
    }

    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let signature = URL_SAFE_NO_PAD.encode(signature);
        jsonwebtoken::crypto::verify(&signature, signed, &self.decoding, Algorithm::RS256).unwrap_or(false)
    }

    pub(super) fn parts(&self) -> &KeyParts {
        &self.parts
    }
}

/// Some issuers pad the modulus with a zero byte.
fn big_endian(text: &str) -> Result<Vec<u8>, KeyProblem> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| KeyProblem::Encoding)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    Ok(bytes[zeros..].to_vec())
}

/// The usable keys of one issuer.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Arc<VerifyingKey>>,
    /// What was passed over, one sentence each.
    pub(super) skipped: Vec<String>,
    /// Whether a signing key was among what was passed over, so that this set may lack one.
    pub(super) is_partial: bool,
}

/// Why a text is no key set that could be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetProblem {
    #[error("it is not a JSON object with a list `keys`")]
    Json,
    #[error("it holds {found} keys, at most {KEYS_MAX} are read")]
    TooMany { found: usize },
    #[error("two different keys are both called {id}")]
    DuplicateId { id: String },
    #[error("it holds no RSA key for signatures of {RSA_BITS_MIN} bits or more{}", skipped_list(.skipped))]
    NoKeys { skipped: Vec<String> },
}

fn skipped_list(skipped: &[String]) -> String {
    if skipped.is_empty() { String::new() } else { format!(" ({})", skipped.join("; ")) }
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
struct RawKey {
    #[serde(default)]
    kty: Option<Value>,
    #[serde(default)]
    kid: Option<Value>,
    #[serde(default, rename = "use")]
    purpose: Option<Value>,
    #[serde(default)]
    alg: Option<Value>,
    #[serde(default)]
    n: Option<Value>,
    #[serde(default)]
    e: Option<Value>,
}

impl KeySet {
    /// Reads a key set of an issuer. Keys of other kinds and for other uses are passed over.
    pub(super) fn parse(body: &[u8]) -> Result<Self, KeySetProblem> {
        let raw: RawSet = serde_json::from_slice(body).map_err(|_| KeySetProblem::Json)?;
        if raw.keys.len() > KEYS_MAX {
            return Err(KeySetProblem::TooMany { found: raw.keys.len() });
        }
        let mut set = Self::default();
        for (index, raw) in raw.keys.into_iter().enumerate() {
            let name = match &raw.kid {
                Some(Value::String(id)) => format!("key {}", quoted(id)),
                _ => format!("key {} of the set", index + 1),
            };
            match signing_key(raw) {
                Ok(key) => set.add(key)?,
                Err(Skip::Foreign(why)) => set.skipped.push(format!("{name}: {why}")),
                Err(Skip::Broken(problem)) => {
                    set.skipped.push(format!("{name}: {problem}"));
                    set.is_partial = true;
                }
            }
        }
        if set.keys.is_empty() {
            return Err(KeySetProblem::NoKeys { skipped: set.skipped });
        }
        Ok(set)
    }

    /// The same keys as always, and those of `earlier` that are missing: what an incomplete set can be trusted to say.
    pub(super) fn with_missing_of(mut self, earlier: &Self) -> Self {
        for key in &earlier.keys {
            if !self.keys.iter().any(|known| known.id == key.id || known.fingerprint == key.fingerprint) {
                self.keys.push(Arc::clone(key));
            }
        }
        self
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| key.id.as_deref().unwrap_or("(no id)").to_owned()).collect()
    }

    /// Naming the same key twice is harmless; two keys of one name are a set that nobody meant to publish.
    fn add(&mut self, key: VerifyingKey) -> Result<(), KeySetProblem> {
        if self.keys.iter().any(|known| known.id == key.id && known.fingerprint == key.fingerprint) {
            return Ok(());
        }
        if let Some(id) = &key.id
            && self.keys.iter().any(|known| known.id.as_ref() == Some(id))
        {
            return Err(KeySetProblem::DuplicateId { id: quoted(id) });
        }
        self.keys.push(Arc::new(key));
        Ok(())
    }
}

/// Why an entry of a set gives no key.
enum Skip {
    /// It is meant for something else.
    Foreign(&'static str),
    /// It looks like a signing key and cannot be read or used.
    Broken(KeyProblem),
}

fn signing_key(raw: RawKey) -> Result<VerifyingKey, Skip> {
    let is = |value: &Option<Value>, wanted: &str| value.as_ref().and_then(Value::as_str) == Some(wanted);
    if !is(&raw.kty, "RSA") {
        return Err(Skip::Foreign("not an RSA key"));
    }
    if raw.purpose.is_some() && !is(&raw.purpose, "sig") {
        return Err(Skip::Foreign("not for signatures"));
    }
    if raw.alg.is_some() && !is(&raw.alg, super::token::ALGORITHM) {
        return Err(Skip::Foreign("for another algorithm than RS256"));
    }
    let (Some(Value::String(n)), Some(Value::String(e))) = (raw.n, raw.e) else {
        return Err(Skip::Broken(KeyProblem::Encoding));
    };
    let id = raw.kid.as_ref().and_then(Value::as_str);
    match VerifyingKey::from_parts(id, KeyParts { n, e }) {
        Ok(key) => Ok(key),
        Err(KeyProblem::Size { .. }) => Err(Skip::Foreign("too short or too long, allowed are 2048 to 8192 bits")),
        Err(problem) => Err(Skip::Broken(problem)),
    }
}
