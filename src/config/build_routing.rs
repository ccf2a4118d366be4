//! Layers to providers and routes. Every route is checked here against what there is, so that `check-config` finds what
//! would fail at the start.

use super::build::{CONTEXT_TOKENS_MAX, count_nonzero};
use super::build_cloud::{Below, Clouds};
use super::build_gateway::{bare_address, secret};
use super::cloud::Place;
use super::keys::{FEATURES, suggest};
use super::problem::Problem;
use super::reader::Reader;
use super::routing::{Provider, ProviderInfill, ProviderKind, ProviderSampling, Route, RoutedModel};
use super::{Catalog, Config, EMBEDDED_NAME, EgressMode, Model};
use crate::domain::LaneName;
use crate::provider::{Vertex, bedrock_address};
use crate::route::policy::{RemoteRule, check_lanes};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

pub fn providers(reader: &mut Reader<'_>, clouds: &Clouds) -> Vec<Provider> {
    let names = reader.names_below("providers");
    names.into_iter().filter_map(|name| provider(reader, clouds, name)).collect()
}

fn provider(reader: &mut Reader<'_>, clouds: &Clouds, name: String) -> Option<Provider> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) || name == LaneName::LOCAL {
        let origin = reader.origin_below("providers", &name);
        reader.problem(Problem::ProviderName { origin, name });
        return None;
    }
    let key = |last: &str| format!("providers.{name}.{last}");
    let kinds = ProviderKind::NAMED;
    if !reader.is_set(&key("kind")) {
        let kinds = kinds.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        reader.problem(Problem::ProviderWithoutKind { name, kinds });
        return None;
    }
    let kind = reader.choice(&key("kind"), kinds);
    let api_key = secret(reader, &key("api_key"));
    let mut below = Below { reader, clouds, name: &name, kind };
    let place = below.place();
    let credentials = below.credentials(api_key.is_some() || clouds.api_key(kind).is_some());
    let api_key = api_key.or_else(|| clouds.api_key(kind));
    let url = address(reader, &key("url")).or_else(|| kind.url().map(str::to_owned)).or_else(|| match &place {
        Some(Place::Bedrock { region }) => Some(bedrock_address(region)),
        Some(Place::Vertex { location, .. }) => Some(Vertex::base(location)),
        Some(Place::Anywhere | Place::Gitlab(_)) | None => None,
    });
    let mut number = |last: &str, range, default| match reader.is_set(&key(last)) {
        true => reader.whole(&key(last), range),
        false => default,
    };
    let max_tokens = number("max_tokens", 1..=CONTEXT_TOKENS_MAX, Provider::MAX_TOKENS.get() as u64);
    let context_tokens = number("context_tokens", 64..=CONTEXT_TOKENS_MAX * 16, Provider::CONTEXT_TOKENS.get() as u64);
    let head_timeout = number("head_timeout_s", 1..=3600, Provider::HEAD_TIMEOUT.as_secs());
    let idle_timeout = number("idle_timeout_s", 1..=3600, Provider::IDLE_TIMEOUT.as_secs());
    let failures_max = number("failures_max", 1..=1_000_000, u64::from(Provider::FAILURES_MAX));
    let infill = infill(reader, &key("infill"), kind);
    let by_identifier = reader.is_set(&key("by_identifier")) && reader.flag(&key("by_identifier"));
    let has_answer_prefix = reader.is_set(&key("answer_prefix")) && reader.flag(&key("answer_prefix"));
    let sampling = match reader.is_set(&key("sampling")) {
        true => reader.choice(&key("sampling"), ProviderSampling::NAMED),
        false => ProviderSampling::default(),
    };
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).ok();
    let shown = |fields: &Map<String, Value>| fields.keys().cloned().collect::<Vec<_>>().join(", ");
    let extra = reader.parsed(&key("extra"), "a JSON object, such as '{\"seed\": 1}'", object, shown);
    let has_affinity = reader.is_set(&key("affinity")) && reader.flag(&key("affinity"));
    let Some(url) = url else {
        if !reader.is_set(&key("url")) && place.is_some() {
            reader.problem(Problem::ProviderWithoutUrl { name });
        }
        return None;
    };
    let (place, credentials) = (place?, credentials?);
    Some(Provider {
        kind,
        place,
        credentials,
        sampling,
        has_answer_prefix,
        extra: extra.unwrap_or_default(),
        url,
        api_key,
        max_tokens: count_nonzero(max_tokens),
        context_tokens: count_nonzero(context_tokens),
        infill,
        head_timeout: Duration::from_secs(head_timeout),
        idle_timeout: Duration::from_secs(idle_timeout),
        by_identifier,
        has_affinity,
        failures_max: u32::try_from(failures_max).expect("the range it was read with ends below 2^32"),
        name,
    })
}

/// The address of a provider. Azure's may carry the version of its API, and nothing else stands behind a path.
fn address(reader: &mut Reader<'_>, key: &str) -> Option<String> {
    let parse = |text: &str| {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let is_version = query.is_empty() || (query.starts_with("api-version=") && !query.contains(['&', '#']));
        bare_address(base).filter(|_| is_version).map(|base| match query {
            "" => base,
            query => format!("{base}?{query}"),
        })
    };
    let expected = "an http or https address without user name and query, such as https://models.example.com/v1";
    reader.parsed(key, expected, parse, String::clone)
}

fn infill(reader: &mut Reader<'_>, key: &str, kind: ProviderKind) -> ProviderInfill {
    let read = reader.text(key);
    match read.as_deref() {
        Some("auto") => ProviderInfill::Auto,
        Some("none") => ProviderInfill::None,
        Some("suffix") => ProviderInfill::Suffix,
        Some("fim") => ProviderInfill::Fim,
        Some(card) => ProviderInfill::Card(card.to_owned()),
        None if kind == ProviderKind::Mistral => ProviderInfill::Fim,
        None if kind == ProviderKind::Sconce => ProviderInfill::Suffix,
        None => ProviderInfill::Auto,
    }
}

/// What is written below `routes`.
pub fn routes(reader: &mut Reader<'_>) -> BTreeMap<&'static str, Route> {
    let names = reader.names_below("routes");
    let features = FEATURES.iter().copied().filter(|feature| names.iter().any(|name| name == feature));
    features.map(|feature| (feature, route(reader, &format!("routes.{feature}")))).collect()
}

/// All lanes that are named anywhere, before they are checked.
pub fn lanes(reader: &Reader<'_>, routed: &[RoutedModel]) -> Vec<LaneName> {
    let features = FEATURES.iter().flat_map(|feature| reader.texts(&format!("routes.{feature}.lanes")));
    let of_features: Vec<_> = features.filter_map(|lane| LaneName::parse(&lane)).collect();
    of_features.into_iter().chain(routed.iter().flat_map(|model| model.route.lanes.clone())).collect()
}

/// The models that have lanes in the place of a path.
pub fn routed_model(reader: &mut Reader<'_>, name: &str, aliases: Vec<String>) -> RoutedModel {
    RoutedModel { name: name.to_owned(), aliases, route: route(reader, &format!("models.{name}")) }
}

fn route(reader: &mut Reader<'_>, above: &str) -> Route {
    let key = |last: &str| format!("{above}.{last}");
    let expected =
        "a list of lanes: local:NAME for a model served here, PROVIDER:MODEL for one of [providers.PROVIDER]";
    let lanes = reader.list(&key("lanes"), expected, LaneName::parse);
    let remote = reader.is_set(&key("remote")).then(|| reader.choice(&key("remote"), RemoteRule::NAMED));
    let mut wait = |last: &str| {
        let wait = reader.is_set(&key(last)).then(|| reader.whole_or_auto(&key(last), 1..=3_600_000, "auto"));
        wait.flatten().map(Duration::from_millis)
    };
    let (leave_after, hedge_after) = (wait("leave_after_ms"), wait("hedge_after_ms"));
    let longer_elsewhere = reader.is_set(&key("longer_elsewhere")) && reader.flag(&key("longer_elsewhere"));
    Route { lanes, remote, leave_after, hedge_after, longer_elsewhere }
}

/// Addresses that GitLab may name in its calls.
pub fn request_endpoints(reader: &mut Reader<'_>) -> Vec<String> {
    let expected =
        "a list of http or https addresses without user name and query, such as https://models.example.com/v1";
    reader.list("egress.request_endpoints", expected, bare_address)
}

/// Whether every lane leads somewhere and could be asked.
pub fn check(reader: &mut Reader<'_>, config: &Config) {
    let Config { models, catalog, providers, routed_models, .. } = config;
    let known = Known::new(models, catalog, providers);
    for (feature, route) in &config.routes {
        known.check(reader, &format!("routes.{feature}"), route);
    }
    for model in routed_models {
        known.check(reader, &format!("models.{}", model.name), &model.route);
    }
    for (feature, _) in config
        .features
        .iter()
        .filter(|(feature, _)| config.routes.get(*feature).is_some_and(|route| !route.lanes.is_empty()))
    {
        let origin = reader.origin(&format!("features.{feature}"));
        reader.problem(Problem::FeatureTwice { origin, feature });
    }
    if config.egress.mode == EgressMode::Airgap {
        for provider in providers {
            let origin = reader.origin_below("providers", &provider.name);
            reader.problem(Problem::RemoteInAirgap { origin, key: format!("providers.{}", provider.name) });
        }
        if !config.egress.request_endpoints.is_empty() {
            let (origin, key) = (reader.origin("egress.request_endpoints"), "egress.request_endpoints".to_owned());
            reader.problem(Problem::RemoteInAirgap { origin, key });
        }
    }
}

struct Known {
    local: Vec<String>,
    providers: Vec<String>,
}

impl Known {
    fn new(models: &[Model], catalog: &Catalog, providers: &[Provider]) -> Self {
        let embedded = catalog.is_embedded_served.then(|| EMBEDDED_NAME.to_owned());
        let local = embedded.into_iter().chain(models.iter().map(|model| model.name.clone())).collect();
        Self { local, providers: providers.iter().map(|provider| provider.name.clone()).collect() }
    }

    fn check(&self, reader: &mut Reader<'_>, above: &str, route: &Route) {
        let key = format!("{above}.lanes");
        let origin = reader.origin(&key);
        for lane in &route.lanes {
            let (known, part) = match lane.is_remote() {
                true => (&self.providers, lane.provider()),
                false => (&self.local, lane.model()),
            };
            if !known.iter().any(|known| known == part) {
                let what = if lane.is_remote() { "provider" } else { "local model" };
                let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let meant = suggest(part, known.iter().map(String::as_str));
                let meant = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
                reader.problem(Problem::LaneUnknown {
                    origin: origin.clone(),
                    key: key.clone(),
                    lane: lane.to_string(),
                    hint: format!("{what}; known: {names}{meant}"),
                });
            }
        }
        if route.lanes.is_empty() {
            if above.starts_with("routes.") && route.remote.is_none() {
                reader.problem(Problem::RouteEmpty { key: above.to_owned() });
            }
            return;
        }
        let lanes: Vec<_> = route.lanes.iter().collect();
        if let Err(reason) = check_lanes(&lanes, route.remote.unwrap_or_default()) {
            reader.problem(Problem::Route { origin, key, reason });
        }
    }
}
