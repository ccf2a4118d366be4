//! Lanes out of engines and providers, and routes out of lanes, as the configuration says.

use super::banner::Remote;
use super::error::ServeError;
use super::providers::Providers;
use crate::catalog::Catalog;
use crate::config::{self, Config};
use crate::domain::{LaneName, ModelInfo};
use crate::egress::Egress;
use crate::engine::Engine;
use crate::route::policy::{BreakerSettings, Candidate, Guard, Policy, PolicySettings, RouteMetrics};
use crate::route::{FeatureRoute, FeatureRoutes, Lane, Routes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every route of the configuration over these engines.
pub fn routes(
    engines: &[Engine],
    config: &Config,
    catalog: &Catalog,
    metrics: RouteMetrics,
) -> Result<Routes, ServeError> {
    let metrics = Arc::new(metrics);
    let providers = Providers::new(config, catalog, metrics.clone())?;
    let mut maker = Maker { engines, config, providers: providers.clone(), metrics, local: BTreeMap::new() };
    let mut lanes: Vec<Lane> = engines.iter().map(|engine| loaded(engine, config)).collect();
    for model in &config.routed_models {
        lanes.push(maker.lane(&model.name, &model.aliases, &model.route)?);
    }
    let features: BTreeSet<&str> = config.features.keys().chain(config.routes.keys()).copied().collect();
    let features = features.into_iter().map(|feature| Ok((feature.to_owned(), maker.feature(feature)?)));
    let features = FeatureRoutes::new(features.collect::<Result<_, ServeError>>()?);
    let routes = Routes::new(lanes)?.with_features(features)?;
    Ok(match providers.is_reachable() {
        true => routes.with_outside(Arc::new(providers)),
        false => routes,
    })
}

fn loaded(engine: &Engine, config: &Config) -> Lane {
    let info: &ModelInfo = engine.info();
    let configured = config.models.iter().find(|model| model.name == info.name).map(|model| &model.aliases);
    let aliases = configured.unwrap_or(&config.catalog.embedded_aliases).clone();
    Lane::local(info.clone(), aliases, engine.handle())
}

struct Maker<'a> {
    engines: &'a [Engine],
    config: &'a Config,
    providers: Providers,
    metrics: Arc<RouteMetrics>,
    /// What is known of the health of lanes of this process, shared by all routes.
    local: BTreeMap<String, Guard>,
}

impl Maker<'_> {
    fn feature(&mut self, feature: &str) -> Result<FeatureRoute, ServeError> {
        let model = self.config.features.get(feature).cloned();
        let Some(route) = self.config.routes.get(feature) else {
            return Ok(FeatureRoute { model, ..FeatureRoute::default() });
        };
        let lane = match route.lanes.as_slice() {
            [] => None,
            [first, ..] => Some(self.lane(first.model(), &[], route)?),
        };
        Ok(FeatureRoute { model, lane, rule: route.remote })
    }

    /// A lane over the lanes of a route. What callers may know of it is what its first lane says.
    fn lane(&mut self, name: &str, aliases: &[String], route: &config::Route) -> Result<Lane, ServeError> {
        let mut infos = Vec::with_capacity(route.lanes.len());
        let mut candidates = Vec::with_capacity(route.lanes.len());
        for lane in &route.lanes {
            let (info, candidate) = match lane.is_remote() {
                true => self.providers.candidate(lane)?,
                false => self.local(lane)?,
            };
            infos.push(info);
            candidates.push(candidate);
        }
        let settings = policy_settings(self.config, route);
        let policy = Policy::new(candidates, settings, self.metrics.clone())
            .map_err(|source| ServeError::Route { name: name.to_owned(), source })?;
        Ok(Lane::routed(together(name, &infos), aliases.to_vec(), policy))
    }

    fn local(&mut self, lane: &LaneName) -> Result<(ModelInfo, Candidate), ServeError> {
        let engine = self.engines.iter().find(|engine| engine.info().name == lane.model());
        let engine = engine.ok_or_else(|| ServeError::NoSuchLane { lane: lane.clone() })?;
        let guard = || Guard::new(BreakerSettings::default());
        let guard = self.local.entry(lane.model().to_owned()).or_insert_with(guard).clone();
        Ok((engine.info().clone(), Candidate { name: lane.clone(), lane: engine.handle(), guard }))
    }
}

/// What holds for whichever lane answers first: prompts are planned for its context, and shortened where another lane
/// says that they are too long.
fn together(name: &str, infos: &[ModelInfo]) -> ModelInfo {
    let first = infos.first().expect("a policy was made of them, which has a lane");
    ModelInfo {
        name: name.to_owned(),
        has_infill: infos.iter().any(|info| info.has_infill),
        has_chat: infos.iter().any(|info| info.has_chat),
        ..first.clone()
    }
}

pub fn policy_settings(config: &Config, route: &config::Route) -> PolicySettings {
    PolicySettings {
        rule: route.remote.unwrap_or_default(),
        leave_after: route.leave_after,
        hedge_after: route.hedge_after,
        longer_elsewhere: route.longer_elsewhere,
        completion_deadline: config.engine.completion_deadline,
        chat_deadline: config.engine.chat_deadline,
    }
}

/// The door to providers and to nobody else.
pub fn provider_door(config: &Config) -> Result<Egress, ServeError> {
    super::gitlab::door(config, super::providers::allowed(config))
}

/// Every model of a provider that a route leads to, without policies around it: for looking whether it answers.
pub fn provider_lanes(config: &Config) -> Result<Vec<Candidate>, ServeError> {
    let catalog = Catalog::load(config.catalog.cards_dir.as_deref())?;
    let metrics = Arc::new(RouteMetrics::register(&prometheus::Registry::new())?);
    let providers = Providers::new(config, &catalog, metrics)?;
    let routes = config.routes.values().chain(config.routed_models.iter().map(|model| &model.route));
    let named: BTreeSet<&LaneName> = routes.flat_map(|route| &route.lanes).filter(|lane| lane.is_remote()).collect();
    named.into_iter().map(|lane| Ok(providers.candidate(lane)?.1)).collect()
}

/// Who else may hear what is asked here.
pub fn remote(config: &Config) -> Remote {
    let routes = config.routes.values().chain(config.routed_models.iter().map(|model| &model.route));
    let named: BTreeSet<&str> = routes.flat_map(|route| &route.lanes).map(LaneName::provider).collect();
    let reached = config.providers.iter().filter(|provider| provider.by_identifier || named.contains(&*provider.name));
    Remote {
        providers: reached.map(|provider| format!("{} at {}", provider.name, host(&provider.url))).collect(),
        endpoints: config.egress.request_endpoints.iter().map(|url| host(url)).collect(),
    }
}

/// The host of an address, with its port.
pub fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest).to_owned()
}
