//! What opens providers, and the lanes to them: settings to the types of each kind.

use super::error::ServeError;
use crate::config::{self, Credentials, EntraIdentity, Place, Provider, ProviderKind, ProviderSampling};
use crate::domain::Generate;
use crate::egress::Egress;
use crate::provider::{
    Anthropic, AnthropicSampling, AnthropicSettings, AwsChain, AwsKeys, AwsSignature, Bedrock, BedrockSampling,
    BedrockSettings, Clock, CredentialError, Endpoint, Entra, EntraIdentity as Identity, GOOGLE_METADATA,
    GitLabGateway, GitLabGatewaySettings, GitLabInstance, Habits, InfillForm, Key, Kind, OpenAiCompatible,
    OpenAiSettings, Remote, ServiceAccountKey, Vertex, VertexFamily, VertexSettings, application_default, aws_chain,
    entra, google_machine, service_account, token_file,
};
use std::sync::Arc;

/// What has to be called before a provider can be: the door has to be open for it.
pub fn addresses(provider: &Provider) -> Vec<String> {
    match &provider.credentials {
        Credentials::GoogleMachine => vec![GOOGLE_METADATA.to_owned()],
        Credentials::AwsChain { profile } => chain(provider, profile.clone()).addresses(),
        Credentials::Entra(settings) => entra_settings(settings).addresses(),
        Credentials::Key
        | Credentials::TokenFile(_)
        | Credentials::GoogleServiceAccount(_)
        | Credentials::GoogleDefault
        | Credentials::AwsKeys { .. } => Vec::new(),
    }
}

/// A provider's address with what opens it: made once, so that all its lanes share a token. Inside a runtime only.
pub fn endpoint(provider: &Provider, egress: &Egress) -> Result<Opened, ServeError> {
    open(provider, egress).map_err(|source| ServeError::Credentials { provider: provider.name.clone(), source })
}

/// An address, and the project that Google's key says pays.
#[derive(Clone)]
pub struct Opened {
    pub endpoint: Endpoint,
    project: Option<String>,
}

impl Opened {
    /// An address with a key that somebody else gave.
    pub fn with_key(url: &str, key: Option<Key>) -> Self {
        Self { endpoint: Endpoint::new(url, key), project: None }
    }
}

fn open(provider: &Provider, egress: &Egress) -> Result<Opened, CredentialError> {
    let clock = Clock::system();
    let key = |secret: &config::Secret| Key::new(secret.reveal().to_owned());
    let mut project = None;
    let sign = match &provider.credentials {
        Credentials::Key => return Ok(Opened::with_key(&provider.url, provider.api_key.as_ref().map(key))),
        Credentials::TokenFile(path) => token_file(path.clone(), clock),
        Credentials::GoogleServiceAccount(json) => {
            let account = ServiceAccountKey::parse(json.reveal())?;
            project = account.project().map(str::to_owned);
            service_account(account, clock)
        }
        Credentials::GoogleMachine => google_machine(GOOGLE_METADATA, egress.clone(), clock),
        Credentials::GoogleDefault => return signed(provider, application_default()?, None),
        Credentials::AwsKeys { access_key_id, secret_access_key, session_token } => {
            let (secret, session) = (key(secret_access_key), session_token.as_ref().map(key));
            let keys = AwsKeys::new(access_key_id.clone(), secret, session)?;
            let sign = AwsSignature::new(Arc::new(keys), region(provider), clock);
            return signed(provider, Arc::new(sign), None);
        }
        Credentials::AwsChain { profile } => {
            return signed(provider, aws_chain(chain(provider, profile.clone()), egress.clone(), clock)?, None);
        }
        Credentials::Entra(settings) => {
            return signed(provider, entra(entra_settings(settings), egress.clone(), clock)?, None);
        }
    };
    signed(provider, sign, project)
}

fn signed(
    provider: &Provider,
    sign: Arc<dyn crate::provider::Sign>,
    project: Option<String>,
) -> Result<Opened, CredentialError> {
    Ok(Opened { endpoint: Endpoint::signed(&provider.url, sign), project })
}

/// Requests are signed for the region of the address.
fn region(provider: &Provider) -> String {
    match &provider.place {
        Place::Bedrock { region } => region.clone(),
        // Settings that sign for AWS without Bedrock: nothing there checks the region.
        Place::Anywhere | Place::Vertex { .. } | Place::Gitlab(_) => "us-east-1".to_owned(),
    }
}

fn chain(provider: &Provider, profile: Option<String>) -> AwsChain {
    AwsChain { region: region(provider), profile }
}

fn entra_settings(settings: &config::Entra) -> Entra {
    let identity = match settings.identity.clone() {
        EntraIdentity::Secret { tenant, client, secret } => {
            Identity::ClientSecret { tenant, client, secret: Key::new(secret.reveal().to_owned()) }
        }
        EntraIdentity::Workload { tenant, client, token_file } => {
            Identity::WorkloadIdentity { tenant, client, token_file }
        }
        EntraIdentity::Machine { client } => Identity::Managed { client },
    };
    Entra { identity, scope: settings.scope.clone(), authority: settings.authority.clone() }
}

/// The lane to a model of a provider.
pub fn lane(
    provider: &Provider,
    egress: Egress,
    remote: Remote,
    opened: &Opened,
    infill: InfillForm,
) -> Result<Arc<dyn Generate>, ServeError> {
    let (extra, has_answer_prefix) = (provider.extra.clone(), provider.has_answer_prefix);
    let sampling = match provider.sampling {
        ProviderSampling::Both => AnthropicSampling::All,
        ProviderSampling::Either => AnthropicSampling::One,
        ProviderSampling::Neither => AnthropicSampling::None,
    };
    Ok(match provider.kind {
        ProviderKind::Anthropic => {
            Arc::new(Anthropic::new(egress, AnthropicSettings { remote, sampling, has_answer_prefix }))
        }
        ProviderKind::Bedrock => {
            let sampling = match provider.sampling {
                ProviderSampling::Both => BedrockSampling::Both,
                ProviderSampling::Either => BedrockSampling::Either,
                ProviderSampling::Neither => BedrockSampling::Neither,
            };
            Arc::new(Bedrock::new(egress, BedrockSettings { remote, sampling, has_answer_prefix, extra }))
        }
        ProviderKind::Vertex => {
            let Place::Vertex { project, location } = &provider.place else {
                unreachable!("the configuration gives Vertex AI a location")
            };
            let project = project.clone().or_else(|| opened.project.clone());
            let no_project = || ServeError::NoProject { provider: provider.name.clone() };
            let (project, location) = (project.ok_or_else(no_project)?, location.clone());
            let family = VertexFamily::of(&remote.model);
            let settings =
                VertexSettings { remote, project, location, family, infill, sampling, has_answer_prefix, extra };
            Arc::new(Vertex::new(egress, settings))
        }
        ProviderKind::Gitlab => {
            let Place::Gitlab(instance) = &provider.place else {
                unreachable!("the configuration gives another gateway an instance")
            };
            let config::GitlabInstance { realm, id, host, version, global_user_id, model_provider } = instance.clone();
            let instance = GitLabInstance { realm, id, host, version, global_user_id };
            Arc::new(GitLabGateway::new(egress, GitLabGatewaySettings { remote, provider: model_provider, instance }))
        }
        kind => {
            let settings = OpenAiSettings { remote, habits: Habits::of(openai(kind)), infill, extra };
            let lane = OpenAiCompatible::new(egress, settings);
            Arc::new(if provider.has_affinity { lane.with_affinity() } else { lane })
        }
    })
}

/// The kinds that speak OpenAI's API.
fn openai(kind: ProviderKind) -> Kind {
    match kind {
        ProviderKind::Vllm => Kind::Vllm,
        ProviderKind::Sglang => Kind::Sglang,
        ProviderKind::LlamaCpp => Kind::LlamaCpp,
        ProviderKind::Nim => Kind::Nim,
        ProviderKind::Ollama => Kind::Ollama,
        ProviderKind::Mistral => Kind::Mistral,
        ProviderKind::Fireworks => Kind::Fireworks,
        ProviderKind::Azure => Kind::Azure,
        ProviderKind::BedrockMantle => Kind::BedrockMantle,
        ProviderKind::Sconce => Kind::Sconce,
        ProviderKind::OpenAi
        | ProviderKind::Anthropic
        | ProviderKind::Bedrock
        | ProviderKind::Vertex
        | ProviderKind::Gitlab => Kind::OpenAi,
    }
}

/// Whether a model completes code around a cursor, of kinds that have their own way to.
pub fn has_own_infill(provider: &Provider) -> bool {
    provider.kind == ProviderKind::Gitlab
}
