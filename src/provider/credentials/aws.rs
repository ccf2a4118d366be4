//! Requests to AWS, signed with Signature Version 4 (docs.aws.amazon.com/IAM, "AWS Signature Version 4 for API
//! requests"). The keys are given by hand, or with the feature `aws` come from wherever AWS's own tools look for them.

#[cfg(feature = "aws")]
mod chain;

use super::super::answer::{Request, Sign};
use super::super::endpoint::Key;
use super::super::failure::Verdict;
use super::bearer::Clock;
use super::error::CredentialError;
use crate::domain::UpstreamClass;
use crate::egress::Egress;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use url::Url;

/// The service's name in signatures, which is not that of its host.
const SERVICE: &str = "bedrock";
const UNSIGNABLE: Verdict =
    Verdict { class: UpstreamClass::Setup, cause: "is at an address that no request can be signed for" };

/// An access key and what proves that it is ours. Never shown.
#[derive(Clone)]
pub struct AwsKeys {
    access_key_id: String,
    secret_access_key: Key,
    session_token: Option<Key>,
}

impl AwsKeys {
    /// Keys that were issued for a while (their id begins with `ASIA`) come with a session token.
    pub fn new(
        access_key_id: String,
        secret_access_key: Key,
        session_token: Option<Key>,
    ) -> Result<Self, CredentialError> {
        let is_sendable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let are_sendable = is_sendable(&access_key_id)
            && is_sendable(secret_access_key.reveal())
            && session_token.as_ref().is_none_or(|token| is_sendable(token.reveal()));
        if !are_sendable {
            let hint = "access key, secret key and session token are single words of ASCII characters";
            return Err(CredentialError::Settings { what: "AWS's signature", hint });
        }
        Ok(Self { access_key_id, secret_access_key, session_token })
    }
}

impl fmt::Debug for AwsKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AwsKeys(..)")
    }
}

/// Where keys come from.
pub trait FindAwsKeys: Send + Sync {
    /// The error's cause says what to put right, its class who may be asked next.
    fn find(&self) -> BoxFuture<'_, Result<AwsKeys, Verdict>>;
}

/// Keys that were handed over by hand. Nobody renews them.
impl FindAwsKeys for AwsKeys {
    fn find(&self) -> BoxFuture<'_, Result<AwsKeys, Verdict>> {
        ready(Ok(self.clone())).boxed()
    }
}

/// Where AWS's own tools look for keys, in this order: the variables of the environment, a profile (its keys, the role
/// it assumes, IAM Identity Center), the token of a Kubernetes pod, what a container is given (ECS, EKS Pod Identity),
/// and the machine (EC2, IMDSv2). A profile's `credential_process` is not run.
#[derive(Clone, Debug)]
pub struct AwsChain {
    /// Where roles are assumed, and whose Bedrock is asked.
    pub region: String,
    /// The one that the environment names, or `default`, where this says nothing.
    pub profile: Option<String>,
}

impl AwsChain {
    /// What may have to be called on the way to keys, and the door therefore has to be open for. A profile of another
    /// region, and a container that is given a local address, need more.
    pub fn addresses(&self) -> Vec<String> {
        let Self { region, .. } = self;
        let domain = aws_domain(region);
        let services = ["sts", "portal.sso", "oidc"].map(|service| format!("https://{service}.{region}.{domain}"));
        // The machine, the containers of ECS and the pods of EKS.
        let hosts = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]"];
        services.into_iter().chain(hosts.map(|host| format!("http://{host}"))).collect()
    }
}

/// The ending of AWS's names in a region.
pub fn aws_domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Signs with keys that AWS's library finds and that are renewed before they end. What it calls, it calls through
/// `egress`, which has to be open for [`AwsChain::addresses`].
#[cfg(feature = "aws")]
pub fn aws_chain(chain: AwsChain, egress: Egress, clock: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    let region = chain.region.clone();
    Ok(Arc::new(AwsSignature::new(chain::keys(chain, egress, clock.clone()), region, clock)))
}

#[cfg(not(feature = "aws"))]
pub fn aws_chain(_: AwsChain, _: Egress, _: Clock) -> Result<Arc<dyn Sign>, CredentialError> {
    let (what, instead) = ("the search for AWS credentials", "an API key of Bedrock, or an access key and its secret");
    Err(CredentialError::NotBuilt { what, feature: "aws", instead })
}

/// Signs requests for a region.
pub struct AwsSignature {
    keys: Arc<dyn FindAwsKeys>,
    region: String,
    clock: Clock,
}

impl AwsSignature {
    pub fn new(keys: Arc<dyn FindAwsKeys>, region: String, clock: Clock) -> Self {
        Self { keys, region, clock }
    }

    /// The headers that a signature consists of. The door out adds the content type, which is signed with the rest.
    fn headers(&self, keys: &AwsKeys, request: &Request) -> Option<Vec<(&'static str, String)>> {
        // As it will be sent. Without a host the signer would have nothing to sign.
        let url = Url::parse(&request.url).ok().filter(Url::has_host)?;
        let AwsKeys { access_key_id, secret_access_key, session_token } = keys;
        let session_token = session_token.as_ref().map(|token| token.reveal().to_owned());
        let identity =
            Credentials::new(access_key_id, secret_access_key.reveal(), session_token, None, "sconce").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(self.clock.now())
            .settings(SigningSettings::default())
            .build();
        let params = SigningParams::from(params.ok()?);
        // The signer would log a body that it is given.
        let digest: String = Sha256::digest(&request.body).iter().map(|byte| format!("{byte:02x}")).collect();
        let headers = [("content-type", "application/json")].into_iter();
        let body = SignableBody::Precomputed(digest);
        let signable = SignableRequest::new("POST", url.as_str(), headers, body).ok()?;
        let (instructions, _) = sign(signable, &params).ok()?.into_parts();
        let (headers, _) = instructions.into_parts();
        Some(headers.into_iter().map(|header| (header.name(), header.value().to_owned())).collect())
    }
}

impl Sign for AwsSignature {
    fn sign<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Verdict>> {
        async move {
            let keys = self.keys.find().await?;
            let headers = self.headers(&keys, request).ok_or(UNSIGNABLE)?;
            request.headers.extend(headers);
            Ok(())
        }
        .boxed()
    }
}

impl fmt::Debug for AwsSignature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AwsSignature({})", self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn keys(session_token: Option<&str>) -> AwsKeys {
        let session_token = session_token.map(|token| Key::new(token.to_owned()));
        AwsKeys::new("AKIDEXAMPLE".to_owned(), Key::new(SECRET.to_owned()), session_token).expect("keys")
    }

    async fn signed(keys: AwsKeys, url: &str) -> Result<Vec<(&'static str, String)>, Verdict> {
        // 2026-11-22T06:00:00Z.
        let clock = Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_327_200));
        let signature = AwsSignature::new(Arc::new(keys), "eu-west-1".to_owned(), clock);
        let mut request = Request { url: url.to_owned(), headers: Vec::new(), body: "{\"a\":1}".to_owned() };
        signature.sign(&mut request).await?;
        request.headers.sort();
        Ok(request.headers)
    }

    /// Expected: computed by a program in another language, which was held to AWS's published examples.
    #[tokio::test]
    async fn a_request_is_signed_as_another_program_signs_it() {
        let url = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/eu.anthropic.claude-x-v1%3A0/converse-stream";
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/eu-west-1/bedrock/aws4_request, \
                        SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
                        Signature=7bca3724b513b56fe41df1a7dc8e2e92f2c7ffd51a2a04b6fa6e1a8b8b7a07eb";
        let headers = signed(keys(Some("sesame")), url).await.expect("a signature");
        assert_eq!(
            headers,
            [
                ("authorization", expected.to_owned()),
                ("x-amz-date", "20261122T060000Z".to_owned()),
                ("x-amz-security-token", "sesame".to_owned()),
            ]
        );
        let headers = signed(keys(None), url).await.expect("a signature");
        assert_eq!(headers.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["authorization", "x-amz-date"]);
    }

    #[cfg(not(feature = "aws"))]
    #[test]
    fn what_is_not_built_names_what_builds_it() {
        let chain = AwsChain { region: "eu-west-1".to_owned(), profile: None };
        let egress = Egress::new(&crate::egress::EgressSettings::default()).expect("settings that can be used");
        let error = aws_chain(chain, egress, Clock::system()).err().expect("no chain");
        assert!(error.to_string().contains("--features aws"), "{error}");
    }

    #[test]
    fn the_way_to_keys_leads_to_the_region_and_to_the_machine() {
        for (region, expected) in [
            ("eu-west-1", "https://sts.eu-west-1.amazonaws.com"),
            ("cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
        ] {
            let addresses = AwsChain { region: region.to_owned(), profile: None }.addresses();
            for expected in [expected, "http://169.254.169.254", "http://[fd00:ec2::254]"] {
                assert!(addresses.iter().any(|address| address == expected), "{expected} is not in {addresses:?}");
            }
            let settings = crate::egress::EgressSettings { allowed: addresses, ..Default::default() };
            Egress::new(&settings).expect("addresses that a door can be opened for");
        }
    }

    #[tokio::test]
    async fn addresses_without_a_host_are_not_signed_for() {
        for url in ["", "model/x", "/model/x", "https://", "mailto:a@b.test", "data:x"] {
            assert_eq!(signed(keys(None), url).await, Err(UNSIGNABLE), "{url}");
        }
    }

    #[test]
    fn keys_that_no_header_can_hold_are_refused_and_none_is_shown() {
        for (id, secret, token) in
            [("", "x", None), ("x", "", None), ("a b", "x", None), ("x", "x\n", None), ("x", "x", Some("é"))]
        {
            let token = token.map(|token: &str| Key::new(token.to_owned()));
            let error = AwsKeys::new(id.to_owned(), Key::new(secret.to_owned()), token).expect_err("no keys");
            assert!(error.to_string().contains("ASCII"), "{error}");
        }
        let signature = AwsSignature::new(Arc::new(keys(Some("sesame"))), "eu-west-1".to_owned(), Clock::system());
        let shown = format!("{:?} {signature:?}", keys(Some("sesame")));
        assert_eq!(shown, "AwsKeys(..) AwsSignature(eu-west-1)");
    }
}
