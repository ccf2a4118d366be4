//! RSA keys in PEM (RFC 7468): PKCS#1 and PKCS#8, private and public. Text before and after the key is passed over, and
//! line breaks written as `\n`, as they come out of environment files, are read as line breaks.

use super::key::{KeyParts, KeyProblem, VerifyingKey};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, PublicKey};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Why a text gives no key. Never holds a part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemProblem {
    #[error("there is no PEM in it: expected a line -----BEGIN PRIVATE KEY----- or -----BEGIN RSA PRIVATE KEY-----")]
    NoPem,
    #[error("the PEM has no matching -----END {label}----- line, or something other than base64 before it")]
    Broken { label: &'static str },
    #[error("the key is encrypted: store it without a passphrase, readable by nobody else")]
    Encrypted,
    #[error("it holds a public key, and a private one is needed to sign")]
    PublicOnly,
    #[error("the {label} in it is not an RSA key of 2048 to 8192 bits")]
    Rejected { label: &'static str },
    #[error(transparent)]
    Key(#[from] KeyProblem),
}

const LABELS: [&str; 4] = ["RSA PRIVATE KEY", "PRIVATE KEY", "RSA PUBLIC KEY", "PUBLIC KEY"];

/// Reads a private key.
pub(super) fn private_key(text: &str) -> Result<KeyPair, PemProblem> {
    let (label, der) = section(text)?;
    let pair = match label {
        "RSA PRIVATE KEY" => KeyPair::from_der(&der),
        "PRIVATE KEY" => KeyPair::from_pkcs8(&der),
        _ => return Err(PemProblem::PublicOnly),
    };
    pair.map_err(|_| PemProblem::Rejected { label })
}

/// Reads a public key, or the public half of a private one.
pub(super) fn public_key(text: &str, id: &str) -> Result<VerifyingKey, PemProblem> {
    let (label, der) = section(text)?;
    if label.ends_with("PRIVATE KEY") {
        return Ok(public_half(&private_key(text)?, id)?);
    }
    let public = PublicKey::from_der(&der).map_err(|_| PemProblem::Rejected { label })?;
    Ok(verifying(&public, id)?)
}

pub(super) fn public_half(pair: &KeyPair, id: &str) -> Result<VerifyingKey, KeyProblem> {
    verifying(pair.public_key(), id)
}

/// PKCS#8, in lines of 64 characters.
pub(super) fn encode(pair: &KeyPair) -> Result<String, aws_lc_rs::error::Unspecified> {
    let der = pair.as_der()?;
    let base64 = STANDARD.encode(der.as_ref());
    let mut text = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.push_str(str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    Ok(text)
}

fn verifying(public: &PublicKey, id: &str) -> Result<VerifyingKey, KeyProblem> {
    let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
    let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
    VerifyingKey::from_parts(Some(id), KeyParts { n, e })
}

/// The first key of the text: its label and its DER.
fn section(text: &str) -> Result<(&'static str, Vec<u8>), PemProblem> {
    let text = text.replace("\\n", "\n").replace('\r', "");
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(PemProblem::Encrypted);
    }
    let begins = LABELS.iter().filter_map(|label| {
        let begin = format!("-----BEGIN {label}-----");
        text.find(&begin).map(|at| (at, *label, at + begin.len()))
    });
    let (_, label, body_at) = begins.min_by_key(|(at, ..)| *at).ok_or(PemProblem::NoPem)?;
    let end = text[body_at..].find(&format!("-----END {label}-----")).ok_or(PemProblem::Broken { label })?;
    let base64: String = text[body_at..body_at + end].chars().filter(|character| !character.is_whitespace()).collect();
    let der = STANDARD.decode(base64).map_err(|_| PemProblem::Broken { label })?;
    Ok((label, der))
}
