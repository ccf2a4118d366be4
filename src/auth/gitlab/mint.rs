//! User access tokens: what an IDE shows when it calls the gateway directly instead of through GitLab.

use super::access::{COMPLETE_CODE, Endpoint, Forbidden, MODEL_PROXY};
use super::caller::{Caller, SELF_MANAGED};
use super::own_keys::OwnKeys;
use super::token::{ALGORITHM, signing_input, with_signature};
use serde::Serialize;
use serde_json::json;
use std::fmt;

/// How long a user access token is good.
pub const USER_TOKEN_S: u64 = 3600;

/// The headers of GitLab that go into a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct MintHeaders<'a> {
    pub global_user_id: Option<&'a str>,
    pub instance_id: Option<&'a str>,
    pub realm: Option<&'a str>,
}

/// A token just made.
#[derive(Clone, PartialEq, Eq)]
pub struct Minted {
    pub token: String,
    /// Seconds since 1970.
    pub expires_at_s: u64,
}

impl fmt::Debug for Minted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Minted").field("expires_at_s", &self.expires_at_s).finish_non_exhaustive()
    }
}

/// Why no token was made: 403 and 500. `Display` is the `detail` of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("Failed to generate JWT")]
    Signing,
}

#[derive(Serialize)]
struct MintedClaims<'a> {
    iss: &'a str,
    sub: Option<&'a str>,
    aud: &'a str,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: String,
    gitlab_realm: &'a str,
    gitlab_instance_id: &'a str,
    scopes: Vec<&'static str>,
    #[serde(flatten)]
    passed_on: PassedOnClaims<'a>,
}

/// Which further claims a token has depends on who runs the instance.
#[derive(Serialize)]
#[serde(untagged)]
enum PassedOnClaims<'a> {
    SelfManaged {
        gitlab_instance_uid: Option<&'a str>,
    },
    Saas {
        gitlab_project_id: Option<&'a str>,
        gitlab_namespace_id: Option<&'a str>,
        gitlab_root_namespace_id: Option<&'a str>,
    },
    None {},
}

/// Makes a token for the user that `headers` name, with as much of the caller's rights as an IDE needs.
pub(super) fn mint(
    own: &OwnKeys,
    service: &str,
    caller: &Caller,
    headers: MintHeaders<'_>,
    now_s: u64,
) -> Result<Minted, MintError> {
    caller.may(Endpoint::UserAccessToken)?;
    let realm = headers.realm.unwrap_or(&caller.realm);
    let passed_on = &caller.passed_on;
    let expires_at_s = now_s + USER_TOKEN_S;
    let claims = MintedClaims {
        iss: service,
        sub: headers.global_user_id,
        aud: service,
        exp: expires_at_s,
        nbf: now_s,
        iat: now_s,
        jti: random_uuid(),
        gitlab_realm: realm,
        gitlab_instance_id: headers.instance_id.unwrap_or_default(),
        scopes: [COMPLETE_CODE, MODEL_PROXY].into_iter().filter(|scope| caller.scopes.has(scope)).collect(),
        passed_on: match realm {
            SELF_MANAGED => PassedOnClaims::SelfManaged { gitlab_instance_uid: passed_on.instance_uid.as_deref() },
            "saas" => PassedOnClaims::Saas {
                gitlab_project_id: passed_on.project_id.as_deref(),
                gitlab_namespace_id: passed_on.namespace_id.as_deref(),
                gitlab_root_namespace_id: passed_on.root_namespace_id.as_deref(),
            },
            _ => PassedOnClaims::None {},
        },
    };
    let header = json!({ "alg": ALGORITHM, "kid": own.signing_key_id(), "typ": "JWT" });
    let signing_input = signing_input(&header, &claims);
    let signature = own.sign(signing_input.as_bytes()).map_err(|_| MintError::Signing)?;
    Ok(Minted { token: with_signature(signing_input, &signature), expires_at_s })
}

/// Version 4 (RFC 9562).
fn random_uuid() -> String {
    let random = rand::random::<u128>();
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
