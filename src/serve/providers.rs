//! Providers out of the configuration, each behind the one door, each with what is known of its health.

use super::clouds::{self, Opened};
use super::error::ServeError;
use super::lanes::{host, policy_settings};
use crate::catalog::{Card, Catalog, Part};
use crate::config::{self, Config, ProviderInfill, ProviderKind, Route};
use crate::domain::{Generate, LaneName, ModelInfo};
use crate::egress::Egress;
use crate::provider::{InfillForm, InfillPart, InfillTemplate, Key, Patience, Remote};
use crate::route::policy::{BreakerSettings, Candidate, Guard, Policy, RemoteRule, RouteMetrics};
use crate::route::{Lane, Named, Outside};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many models that nobody wrote into the configuration are told apart: each is a label of metrics.
const UNNAMED_LANES_MAX: usize = 256;

/// Providers and the door to them. Cheap to clone.
#[derive(Clone)]
pub struct Providers(Arc<Inner>);

struct Inner {
    config: Config,
    catalog: Catalog,
    egress: Egress,
    metrics: Arc<RouteMetrics>,
    /// Shared by all routes to a model of a provider.
    guards: Mutex<BTreeMap<LaneName, Guard>>,
    /// By the providers' names.
    opened: BTreeMap<String, Opened>,
    /// The address of a call to what its lanes are called.
    endpoints: BTreeMap<String, String>,
}

impl Providers {
    /// The door opens to the providers and to the endpoints that calls may name, and to nothing else.
    pub fn new(config: &Config, catalog: &Catalog, metrics: Arc<RouteMetrics>) -> Result<Self, ServeError> {
        for provider in &config.providers {
            check_card(provider, catalog)?;
        }
        let mut doors = allowed(config);
        doors.extend(config.egress.request_endpoints.iter().cloned());
        let egress = super::gitlab::door(config, doors)?;
        let named = config.providers.iter();
        let opened = named.map(|provider| Ok((provider.name.clone(), clouds::endpoint(provider, &egress)?)));
        let opened = opened.collect::<Result<_, ServeError>>()?;
        let endpoints = config.egress.request_endpoints.iter();
        let endpoints = endpoints.map(|endpoint| (endpoint.clone(), host(endpoint))).collect();
        let (config, catalog, guards) = (config.clone(), catalog.clone(), Mutex::default());
        Ok(Self(Arc::new(Inner { config, catalog, egress, metrics, guards, opened, endpoints })))
    }

    /// Whether calls may reach models that the configuration does not name.
    pub fn is_reachable(&self) -> bool {
        !self.0.endpoints.is_empty() || self.0.config.providers.iter().any(|provider| provider.by_identifier)
    }

    /// A lane that the configuration names.
    pub fn candidate(&self, lane: &LaneName) -> Result<(ModelInfo, Candidate), ServeError> {
        let provider = self.0.config.providers.iter().find(|provider| provider.name == lane.provider());
        let provider = provider.ok_or_else(|| ServeError::NoSuchLane { lane: lane.clone() })?;
        let guard = self.guard(lane, provider.failures_max, usize::MAX).expect("there is no limit");
        self.open(provider, &self.0.opened[&provider.name], lane.clone(), guard)
    }

    /// A lane, and what callers may know of it.
    fn open(
        &self,
        provider: &config::Provider,
        opened: &Opened,
        lane: LaneName,
        guard: Guard,
    ) -> Result<(ModelInfo, Candidate), ServeError> {
        let Inner { egress, catalog, .. } = &*self.0;
        let remote = Remote {
            name: Arc::from(provider.name.as_str()),
            endpoint: opened.endpoint.clone(),
            model: lane.model().to_owned(),
            max_tokens: provider.max_tokens.get(),
            patience: Patience {
                head: provider.head_timeout,
                idle: provider.idle_timeout,
                whole: self.0.config.engine.chat_deadline,
            },
        };
        let infill = infill(provider, lane.model(), catalog);
        let info = ModelInfo {
            name: lane.model().to_owned(),
            architecture: "remote".to_owned(),
            context_tokens: provider.context_tokens.get(),
            vocab_size: 0,
            parameters: 0,
            has_infill: infill != InfillForm::None || clouds::has_own_infill(provider),
            has_chat: true,
            created: 0,
        };
        let generate: Arc<dyn Generate> = clouds::lane(provider, egress.clone(), remote, opened, infill)?;
        Ok((info, Candidate { name: lane, lane: generate, guard }))
    }

    /// What is known of the lane's health; `None` where one more would be too many.
    fn guard(&self, lane: &LaneName, failures_max: u32, lanes_max: usize) -> Option<Guard> {
        let mut guards = self.0.guards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = guards.get(lane) {
            return Some(guard.clone());
        }
        if guards.len() >= lanes_max {
            tracing::error!(lanes_max, "no further model is told apart: name models of providers in [routes] instead");
            return None;
        }
        let guard = Guard::new(BreakerSettings { failures_max, ..BreakerSettings::default() });
        guards.insert(lane.clone(), guard.clone());
        Some(guard)
    }

    /// A lane of its own for a call. That it may leave this machine was said by the setting that let it come here.
    fn alone(&self, provider: &config::Provider, opened: &Opened, model: &str) -> Option<Lane> {
        let lane = LaneName::remote(&provider.name, model);
        let guard = self.guard(&lane, provider.failures_max, UNNAMED_LANES_MAX)?;
        let opened = self.open(provider, opened, lane, guard);
        let (info, candidate) = opened.inspect_err(|error| tracing::error!("{error}")).ok()?;
        let route = Route { remote: Some(RemoteRule::Always), ..Route::default() };
        let settings = policy_settings(&self.0.config, &route);
        let policy = Policy::new(vec![candidate], settings, self.0.metrics.clone()).ok()?;
        Some(Lane::routed(info, Vec::new(), policy))
    }
}

impl Outside for Providers {
    /// The caller's key goes to the endpoint that it came with; ours stays here.
    fn at_endpoint(&self, named: Named<'_>) -> Option<Lane> {
        let address = named.endpoint?.trim().trim_end_matches('/');
        let (address, name) = self.0.endpoints.get_key_value(address)?;
        // What the operator says of this address, if he says anything: how it is spoken to, and what it holds.
        let known = self.0.config.providers.iter().find(|provider| provider.url == *address);
        let provider = known.cloned();
        let provider = provider.unwrap_or_else(|| config::Provider::at_endpoint(name, address));
        let key = named.api_key.map(|key| Key::new(key.to_owned()));
        self.alone(&provider, &Opened::with_key(address, key), named.model)
    }

    fn by_prefix(&self, named: Named<'_>) -> Option<Lane> {
        let prefix = named.prefix?;
        let answers = |provider: &&config::Provider| {
            provider.by_identifier && (provider.name == prefix || provider.kind.identifier_prefixes().contains(&prefix))
        };
        let provider = self.0.config.providers.iter().find(answers)?;
        self.alone(provider, &self.0.opened[&provider.name], named.model)
    }
}

/// Addresses of providers, and of whoever gives out their tokens.
pub fn allowed(config: &Config) -> Vec<String> {
    let of = |provider: &config::Provider| [vec![provider.url.clone()], clouds::addresses(provider)].concat();
    config.providers.iter().flat_map(of).collect()
}

fn check_card(provider: &config::Provider, catalog: &Catalog) -> Result<(), ServeError> {
    let ProviderInfill::Card(name) = &provider.infill else { return Ok(()) };
    if catalog.card(name).and_then(template).is_some() {
        return Ok(());
    }
    let known = catalog.cards().filter(|card| card.infill.is_some()).map(|card| card.name.as_str());
    let known = known.collect::<Vec<_>>().join(", ");
    Err(ServeError::NoInfillCard { provider: provider.name.clone(), card: name.clone(), known })
}

fn infill(provider: &config::Provider, model: &str, catalog: &Catalog) -> InfillForm {
    let card = match &provider.infill {
        ProviderInfill::None => return InfillForm::None,
        ProviderInfill::Suffix => return InfillForm::Suffix,
        ProviderInfill::Fim => return InfillForm::Fim,
        ProviderInfill::Card(name) => catalog.card(name),
        ProviderInfill::Auto if provider.kind == ProviderKind::Vertex && model.starts_with("codestral") => {
            return InfillForm::Fim;
        }
        ProviderInfill::Auto if !provider.kind.has_completions() => None,
        ProviderInfill::Auto => catalog.served_as(model),
    };
    card.and_then(template).map_or(InfillForm::None, InfillForm::Template)
}

fn template(card: &Card) -> Option<InfillTemplate> {
    let infill = card.infill.as_ref()?;
    let parts = infill.orders.get(&infill.order)?.iter().map(|part| match part {
        Part::Token(token) => InfillPart::Literal(token.clone()),
        Part::Prefix => InfillPart::Prefix,
        Part::Suffix => InfillPart::Suffix,
    });
    Some(InfillTemplate { parts: parts.collect(), stop: infill.stop_tokens.clone() })
}
