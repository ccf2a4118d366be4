//! Who is asked for what, as `check-config` shows it: one line a feature or model.

use super::{Config, EMBEDDED_NAME, Route};
use serde::Serialize;
use std::fmt;

/// The routes of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RouteTable(pub Vec<RouteRow>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteRow {
    /// `feature NAME`, `model NAME`, `endpoint URL` or `identifier PREFIX/…`.
    pub calls: String,
    /// `never`, `on_failure`, `always`; empty where nothing was said and the model decides.
    pub remote: &'static str,
    /// In the order in which they are asked.
    pub lanes: Vec<String>,
}

impl RouteTable {
    pub fn new(config: &Config) -> Self {
        let features = config.features.keys().chain(config.routes.keys()).copied();
        let mut names: Vec<&str> = features.collect();
        names.sort_unstable();
        names.dedup();
        let of_features = names.into_iter().map(|feature| of_feature(config, feature));
        let embedded = config.catalog.is_embedded_served.then_some(EMBEDDED_NAME);
        let loaded = embedded.into_iter().chain(config.models.iter().map(|model| &*model.name));
        let of_loaded = loaded.map(|name| row("model", name, "never", vec![format!("local:{name}")]));
        let routed = config.routed_models.iter();
        let of_routed = routed.map(|model| row("model", &model.name, rule(&model.route), lanes(&model.route)));
        let endpoints = config.egress.request_endpoints.iter();
        let of_endpoints =
            endpoints.map(|url| row("endpoint", url, "always", vec!["the model of the call".to_owned()]));
        let answering = config.providers.iter().filter(|provider| provider.by_identifier);
        let of_identifiers = answering.flat_map(|provider| {
            let prefixes = provider.kind.identifier_prefixes().iter();
            let lanes = || vec![format!("{}:the model of the call", provider.name)];
            prefixes.map(move |prefix| row("identifier", &format!("{prefix}/…"), "always", lanes()))
        });
        Self(of_features.chain(of_loaded).chain(of_routed).chain(of_endpoints).chain(of_identifiers).collect())
    }
}

fn of_feature(config: &Config, feature: &str) -> RouteRow {
    let named = config.features.get(feature).map(|model| format!("model {model}"));
    let Some(route) = config.routes.get(feature) else {
        return row("feature", feature, "", named.into_iter().collect());
    };
    let of_call = || named.clone().unwrap_or_else(|| "the model of the call".to_owned());
    let lanes = if route.lanes.is_empty() { vec![of_call()] } else { lanes(route) };
    row("feature", feature, rule(route), lanes)
}

fn rule(route: &Route) -> &'static str {
    route.remote.unwrap_or_default().name()
}

fn lanes(route: &Route) -> Vec<String> {
    route.lanes.iter().map(ToString::to_string).collect()
}

fn row(kind: &str, name: &str, remote: &'static str, lanes: Vec<String>) -> RouteRow {
    RouteRow { calls: format!("{kind} {name}"), remote, lanes }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TITLES: [&str; 2] = ["calls for", "remote"];
        let calls = self.0.iter().map(|row| row.calls.chars().count());
        let width = calls.chain([TITLES[0].len()]).max().unwrap_or(0);
        writeln!(formatter, "{:width$}  {:10}  answered by", TITLES[0], TITLES[1])?;
        for RouteRow { calls, remote, lanes } in &self.0 {
            let remote = if remote.is_empty() { "-" } else { remote };
            writeln!(formatter, "{calls:width$}  {remote:10}  {}", lanes.join(", then "))?;
        }
        Ok(())
    }
}
