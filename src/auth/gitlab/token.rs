//! The compact form of a signed token (RFC 7515, section 7.1), read strictly: three parts of unpadded base64url, typed
//! JSON in the first two. Of the header only `alg` and `kid` are looked at: `jku`, `x5u`, `jwk` and their like name keys
//! that the sender of a token would choose, so they are passed over unread.

use super::claims::{ClaimProblem, Claims};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

/// GitLab's tokens have less than 4 KiB, and HTTP servers in front refuse headers above 8 to 16 KiB.
pub(super) const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// GitLab's key ids are thumbprints of 43 characters.
const KEY_ID_BYTES_MAX: usize = 256;

/// A token taken apart. Nothing in it is to be believed before the signature was verified.
pub(super) struct Token<'a> {
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    pub(super) claims: Claims,
    /// What the signature is over: the first two parts and the dot between them.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

/// The only algorithm there is, whatever a token's header wishes.
pub(super) const ALGORITHM: &str = "RS256";

/// Why a text is no token. Never holds a part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenProblem {
    #[error(
        "the token is empty: GitLab sends an empty one for a feature that is not set to a self-hosted model, with an offline licence"
    )]
    Empty,
    #[error("the token has {bytes} bytes, at most {TOKEN_BYTES_MAX} are read")]
    TooLong { bytes: usize },
    #[error("a token has three parts with dots between them, this one has {parts}")]
    Parts { parts: usize },
    #[error("the {part} of the token is not base64url without padding")]
    Encoding { part: &'static str },
    #[error("the {part} of the token is not a JSON object, or names a field twice")]
    Json { part: &'static str },
    #[error("the header of the token has no {field}, or one that is not a text")]
    Header { field: &'static str },
    #[error("the key id of the token has {bytes} bytes, at most {KEY_ID_BYTES_MAX} are read")]
    KeyIdTooLong { bytes: usize },
    #[error("the header of the token demands extensions (`crit`), and none is known here")]
    Critical,
    #[error("{0}")]
    Claim(#[from] ClaimProblem),
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: Option<Value>,
    #[serde(default)]
    kid: Option<Value>,
    #[serde(default)]
    crit: Option<Value>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenProblem> {
        if text.is_empty() {
            return Err(TokenProblem::Empty);
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenProblem::TooLong { bytes: text.len() });
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header_text, claims_text, signature_text] = parts[..] else {
            return Err(TokenProblem::Parts { parts: parts.len() });
        };
        let header: Header = object(header_text, "header")?;
        let Some(Value::String(algorithm)) = header.alg else {
            return Err(TokenProblem::Header { field: "alg" });
        };
        if header.crit.is_some() {
            return Err(TokenProblem::Critical);
        }
        Ok(Self {
            algorithm,
            key_id: key_id(header.kid)?,
            claims: Claims::read(object(claims_text, "payload")?)?,
            signed: &text.as_bytes()[..header_text.len() + 1 + claims_text.len()],
            signature: decoded(signature_text, "signature")?,
        })
    }
}

/// Encodes and joins the first two parts of a token to be signed.
pub(super) fn signing_input(header: &Value, claims: &impl serde::Serialize) -> String {
    let claims = serde_json::to_vec(claims).expect("claims are texts, numbers and lists of texts");
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims))
}

/// Adds the third part.
pub(super) fn with_signature(mut signing_input: String, signature: &[u8]) -> String {
    signing_input.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut signing_input);
    signing_input
}

fn key_id(value: Option<Value>) -> Result<Option<String>, TokenProblem> {
    match value {
        None => Ok(None),
        Some(Value::String(id)) if id.len() > KEY_ID_BYTES_MAX => Err(TokenProblem::KeyIdTooLong { bytes: id.len() }),
        Some(Value::String(id)) => Ok(Some(id)),
        Some(_) => Err(TokenProblem::Header { field: "kid" }),
    }
}

fn object<T: serde::de::DeserializeOwned>(text: &str, part: &'static str) -> Result<T, TokenProblem> {
    let bytes = decoded(text, part)?;
    // serde would also take an array for a struct.
    if bytes.first() != Some(&b'{') {
        return Err(TokenProblem::Json { part });
    }
    serde_json::from_slice(&bytes).map_err(|_| TokenProblem::Json { part })
}

fn decoded(text: &str, part: &'static str) -> Result<Vec<u8>, TokenProblem> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenProblem::Encoding { part })
}
