//! Everything that stands between the gateway and a GitLab, made from the configuration: the door to its keys, our own
//! keys, the documentation, and who may connect.

use super::error::ServeError;
use crate::auth::gitlab::{
    BypassSettings, Enforcement, FetchError, FetchErrorKind, FetchKeys, GitlabAuth, GitlabAuthSettings, OwnKeySettings,
    OwnKeys, WallClock,
};
use crate::auth::{AllowList, ModelApiKeys};
use crate::config::{self, Config, EgressMode};
use crate::egress::{Egress, EgressError, EgressSettings, Mode};
use crate::http::{Gitlab, GitlabSettings};
use crate::search::Index;
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The age at which a key of our own is replaced.
const ROTATE_AFTER: Duration = Duration::from_secs(90 * 86_400);
/// The index of the documentation, below the state folder.
const DOCS_FILE: &str = "docs.sqlite";

/// Whether the configuration names a GitLab, or a way around its tokens.
pub fn is_wanted(config: &config::Gitlab) -> bool {
    config.url.is_some() || has_bypass(config)
}

fn has_bypass(config: &config::Gitlab) -> bool {
    let bypass = config.bypass;
    bypass.external || bypass.external_with_header || bypass.jwt_signature
}

/// What serves GitLab's calls; switched off if there is no GitLab.
pub fn gitlab(config: &Config) -> Result<Gitlab, ServeError> {
    if !is_wanted(&config.gitlab) {
        tracing::info!("no GitLab to serve: set gitlab.url (AIGW_GITLAB_URL) to be its AI gateway");
        return Ok(Gitlab::off());
    }
    let auth = Arc::new(auth(config)?);
    let settings = GitlabSettings {
        is_enabled: true,
        is_authenticated: !has_bypass(&config.gitlab),
        model_api_key: config.gitlab.model_api_key.as_ref().map(|key| ModelApiKeys::new([key.reveal()])),
        completion_prompt_tokens_max: config.gitlab.completion_prompt_tokens_max.get(),
        chat_max_tokens: config.gitlab.chat_max_tokens.map(usize::from),
        request_deadline: config.gitlab.request_deadline,
        logs_bodies: config.log.has_bodies,
        honours_verbose_header: config.log.honours_instance_verbose,
    };
    if settings.logs_bodies {
        tracing::warn!("log.bodies is on: prompts and answers go to the log, with what looks like a secret hidden");
    }
    Ok(Gitlab::new(auth, settings, docs(config)))
}

fn auth(config: &Config) -> Result<GitlabAuth, ServeError> {
    let gitlab = &config.gitlab;
    let clock = WallClock::system();
    let text = |secret: &Option<config::Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
    let own = OwnKeySettings {
        service: gitlab.audience.clone(),
        signing_pem: text(&gitlab.signing_key),
        validation_pem: text(&gitlab.validation_key),
        folder: config.state.dir.clone(),
        rotate_after: ROTATE_AFTER,
    };
    let enforcement = if gitlab.enforces_scopes { Enforcement::Scopes } else { Enforcement::ValidToken };
    let bypass = BypassSettings {
        external: gitlab.bypass.external,
        external_with_header: gitlab.bypass.external_with_header,
        signature: gitlab.bypass.jwt_signature,
    };
    for bypass in bypass.open() {
        tracing::error!(setting = bypass.setting(), "critical: authentication is switched off in part or in whole");
    }
    let settings = GitlabAuthSettings {
        gitlab_url: gitlab.url.clone().unwrap_or_default(),
        portal_url: gitlab.portal_url.clone().unwrap_or_default(),
        service: gitlab.audience.clone(),
        state_folder: config.state.dir.clone(),
        enforcement,
        bypass,
    };
    let own = OwnKeys::open(own, clock.clone())?;
    let fetch = Arc::new(KeysByEgress(egress(config)?));
    Ok(GitlabAuth::new(settings, own, fetch, clock)?)
}

/// The door to GitLab, as far as the configuration opens it.
pub fn egress(config: &Config) -> Result<Egress, ServeError> {
    let allowed = [&config.gitlab.url, &config.gitlab.api_url, &config.gitlab.portal_url];
    door(config, allowed.into_iter().flatten().cloned().collect())
}

/// A door to these addresses and no others, by the proxies and the authorities of the configuration.
pub fn door(config: &Config, allowed: Vec<String>) -> Result<Egress, ServeError> {
    let egress = &config.egress;
    let proxy = |proxy: &Option<config::ProxyUrl>| proxy.as_ref().map(|proxy| proxy.reveal().to_owned());
    Ok(Egress::new(&EgressSettings {
        allowed,
        mode: match egress.mode {
            EgressMode::Configured => Mode::Configured,
            EgressMode::Airgap => Mode::Airgap,
        },
        extra_ca_files: config.tls.extra_ca_files.clone(),
        https_proxy: proxy(&egress.https_proxy),
        http_proxy: proxy(&egress.http_proxy),
        no_proxy: egress.no_proxy.clone(),
        is_loopback_believed: false,
    })?)
}

/// Key sets through the door.
pub struct KeysByEgress(pub Egress);

impl FetchKeys for KeysByEgress {
    fn get(&self, url: &str) -> BoxFuture<'static, Result<Vec<u8>, FetchError>> {
        let (egress, url) = (self.0.clone(), url.to_owned());
        Box::pin(async move {
            let fetched = egress.get_keys(&url).await.map_err(|error| fetch_error(&error))?;
            match fetched.status {
                200 => Ok(fetched.body),
                status => Err(FetchError::new(FetchErrorKind::Status(status), "")),
            }
        })
    }
}

fn fetch_error(error: &EgressError) -> FetchError {
    let kind = match error {
        EgressError::NoAddress | EgressError::Header { .. } | EgressError::Refused { .. } => FetchErrorKind::Refused,
        EgressError::Dns { .. } => FetchErrorKind::Dns,
        EgressError::Connect { .. } => FetchErrorKind::Connect,
        EgressError::Tls { .. } => FetchErrorKind::Tls,
        EgressError::Timeout { .. } => FetchErrorKind::Timeout,
        EgressError::Status { status, .. } => FetchErrorKind::Status(*status),
        EgressError::TooLarge { .. } => FetchErrorKind::TooLarge,
        EgressError::Redirect { .. } => FetchErrorKind::Redirect,
        EgressError::Broken { .. } => FetchErrorKind::Broken,
    };
    FetchError::new(kind, error.to_string())
}

/// Where the configuration puts the index of the documentation; `None` when it names neither it nor a state folder.
pub fn docs_index(config: &Config) -> Option<PathBuf> {
    let below_state = || config.state.dir.as_ref().map(|dir| dir.join(DOCS_FILE));
    config.gitlab.docs_index.clone().or_else(below_state)
}

/// The documentation. It may be imported while we run; without a place for it there is none.
fn docs(config: &Config) -> Option<Index> {
    let path = docs_index(config)?;
    if !path.exists() {
        tracing::info!("no documentation was imported yet: `sconce docs import DIR` lets chat answer from it");
    }
    Some(Index::open(path))
}

/// From where one may connect.
pub fn allow_list(config: &config::Access) -> Result<AllowList, ServeError> {
    let texts = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    Ok(AllowList::new(&texts(&config.allow), &texts(&config.trusted_proxies))?)
}
