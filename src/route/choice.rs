//! Which model a GitLab call is for: what the configuration says of the feature, then the name that GitLab sends.

use super::policy::RemoteRule;
use super::{Lane, Named, Outside, RouteError, Routes, list, nearest, printable};
use std::sync::Arc;

/// Names of remote kinds that GitLab puts before a model's name, and that mean nothing to a model served here.
const PROVIDER_PREFIXES: [&str; 8] = [
    "custom_openai",
    "openai",
    "text-completion-openai",
    "openai_like",
    "litellm_proxy",
    "hosted_vllm",
    "local",
    "sconce",
];

/// What a call says of its model.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// GitLab's name of the feature setting, for example `code_completions`.
    pub feature: &'a str,
    /// For example `custom_openai/qwen2.5-coder`.
    pub identifier: Option<&'a str>,
    /// For example `mistral`: names prompts, and a model only where nothing else does.
    pub family: &'a str,
    /// Nobody named a model: the default is meant.
    pub is_unnamed: bool,
    /// The address of a model server, as GitLab's administrator entered it.
    pub endpoint: Option<&'a str>,
    /// The key for that address, and for no other.
    pub api_key: Option<&'a str>,
}

/// A key never shows itself.
impl std::fmt::Debug for Wanted<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Wanted");
        shown.field("feature", &self.feature).field("identifier", &self.identifier).finish_non_exhaustive()
    }
}

/// What the configuration says of features, whatever their calls ask for.
#[derive(Clone, Debug, Default)]
pub struct FeatureRoutes {
    entries: Vec<(String, FeatureRoute)>,
}

/// What it says of one.
#[derive(Clone, Debug, Default)]
pub struct FeatureRoute {
    /// The name of the model that answers.
    pub model: Option<String>,
    /// The lane that answers; goes before `model`.
    pub lane: Option<Lane>,
    /// How far its work may go, if that was said: whoever answers.
    pub rule: Option<RemoteRule>,
}

/// The override for calls that name no model. Its rule is for all features without one of their own.
pub const DEFAULT_FEATURE: &str = "default";

impl FeatureRoutes {
    pub const fn none() -> Self {
        Self { entries: Vec::new() }
    }

    pub fn new(entries: Vec<(String, FeatureRoute)>) -> Self {
        Self { entries }
    }

    fn get(&self, feature: &str) -> Option<&FeatureRoute> {
        self.entries.iter().find(|(known, _)| known == feature).map(|(_, route)| route)
    }

    fn rule(&self, feature: &str) -> Option<RemoteRule> {
        let own = self.get(feature).and_then(|route| route.rule);
        own.or_else(|| self.get(DEFAULT_FEATURE).and_then(|route| route.rule))
    }
}

impl Routes {
    /// Sends features to models whatever their calls ask for. Errors if a model is not served.
    pub fn with_features(mut self, features: FeatureRoutes) -> Result<Self, RouteError> {
        for (feature, route) in &features.entries {
            let Some(model) = &route.model else { continue };
            if self.by_name(model).is_none() {
                return Err(RouteError::FeatureModel {
                    feature: feature.clone(),
                    model: model.clone(),
                    served: self.models().map(|info| info.name.clone()).collect(),
                });
            }
        }
        self.features = features;
        Ok(self)
    }

    /// Lets calls reach models that are not served by name.
    pub fn with_outside(mut self, outside: Arc<dyn Outside>) -> Self {
        self.outside = Some(outside);
        self
    }

    /// The lane for a call of GitLab's, under the rule of its feature. The configuration wins; then an endpoint that calls
    /// may name; then the identifier, with or without the provider in front, as a name, an alias or the last part of one;
    /// then a provider that answers for all models of that prefix. A call that names nothing gets the default.
    pub fn choose(&self, wanted: Wanted<'_>) -> Result<Lane, RouteError> {
        let lane = self.choose_freely(wanted)?;
        let Some(rule) = self.features.rule(wanted.feature) else { return Ok(lane) };
        let name = lane.info.name.clone();
        let forbidden =
            || RouteError::RemoteForbidden { asked: printable(&name), feature: wanted.feature.to_owned(), rule };
        lane.restricted(rule).ok_or_else(forbidden)
    }

    fn choose_freely(&self, wanted: Wanted<'_>) -> Result<Lane, RouteError> {
        if let Some(lane) = self.of_feature(wanted.feature) {
            return Ok(lane);
        }
        let default = || {
            let lane = self.of_feature(DEFAULT_FEATURE).or_else(|| self.lanes.first().cloned());
            lane.ok_or_else(|| self.not_served(wanted.feature, false))
        };
        if wanted.is_unnamed {
            return default();
        }
        match wanted.identifier {
            Some(identifier) => self.named(identifier, wanted),
            None => self.by_name(wanted.family).cloned().map_or_else(default, Ok),
        }
    }

    fn of_feature(&self, feature: &str) -> Option<Lane> {
        let route = self.features.get(feature)?;
        route.lane.clone().or_else(|| self.by_name(route.model.as_deref()?).cloned())
    }

    fn named(&self, identifier: &str, wanted: Wanted<'_>) -> Result<Lane, RouteError> {
        let (prefix, model) = match identifier.split_once('/') {
            Some((prefix, model)) => (Some(prefix), model),
            None => (None, identifier),
        };
        let named = Named { prefix, model, endpoint: wanted.endpoint, api_key: wanted.api_key };
        let outside = self.outside.as_deref();
        let at_endpoint = wanted.endpoint.and(outside).and_then(|outside| outside.at_endpoint(named));
        at_endpoint
            .or_else(|| self.by_identifier(identifier).cloned())
            .or_else(|| outside.and_then(|outside| outside.by_prefix(named)))
            .ok_or_else(|| self.not_served(identifier, wanted.endpoint.is_some() && outside.is_some()))
    }

    fn by_identifier(&self, identifier: &str) -> Option<&Lane> {
        let bare = match identifier.split_once('/') {
            Some((provider, rest)) if PROVIDER_PREFIXES.contains(&provider) => rest,
            _ => identifier,
        };
        let last = bare.rsplit('/').next().unwrap_or(bare);
        [identifier, bare, last].into_iter().find_map(|name| self.by_name(name)).or_else(|| {
            let has_last = |lane: &&Lane| lane.info.name.rsplit('/').next().is_some_and(|name| is_same(name, last));
            self.lanes.iter().find(has_last)
        })
    }

    fn by_name(&self, name: &str) -> Option<&Lane> {
        let exact = self.lanes.iter().find(|lane| lane.info.name == name);
        let is_alias = |lane: &&Lane| lane.aliases.iter().any(|alias| is_same(alias, name));
        exact.or_else(|| self.lanes.iter().find(|lane| is_same(&lane.info.name, name) || is_alias(lane)))
    }

    fn not_served(&self, asked: &str, has_endpoint: bool) -> RouteError {
        let names = || self.models().map(|info| info.name.as_str());
        let last = asked.rsplit('/').next().unwrap_or(asked);
        RouteError::NotServed {
            asked: printable(asked),
            suggestion: nearest(last, names()).map(str::to_owned),
            served: names().map(str::to_owned).collect(),
            has_endpoint,
        }
    }
}

fn is_same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// For [`RouteError::NotServed`].
pub(super) fn how_to_serve(suggestion: &Option<String>, served: &[String]) -> String {
    match suggestion {
        Some(name) => format!("did you mean custom_openai/{name}? served: {}", list(served)),
        None => {
            format!("served: {}; add the name to `aliases` of a model, or map the feature in [features]", list(served))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LaneName;
    use crate::route::policy::{BreakerSettings, Candidate, Guard, Policy, PolicySettings, RouteMetrics};
    use crate::route::tests::lane;
    use std::time::Duration;

    fn routes() -> Routes {
        let mut coder = lane("Qwen/Qwen2.5-Coder-7B");
        coder.aliases = vec!["example-coder".to_owned()];
        Routes::new(vec![lane("sconce"), coder]).expect("names differ")
    }

    fn models(entries: &[(&str, &str)]) -> FeatureRoutes {
        let route = |model: &str| FeatureRoute { model: Some(model.to_owned()), ..FeatureRoute::default() };
        FeatureRoutes::new(entries.iter().map(|(feature, model)| ((*feature).to_owned(), route(model))).collect())
    }

    fn chosen(routes: &Routes, wanted: Wanted<'_>) -> Result<String, String> {
        routes.choose(wanted).map(|lane| lane.info.name.clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_is_found_behind_whatever_gitlab_puts_before_it() {
        let routes = routes();
        let check = |identifier: &str, expected: &str| {
            let wanted = Wanted { identifier: Some(identifier), family: "mistral", ..Wanted::default() };
            assert_eq!(chosen(&routes, wanted).as_deref(), Ok(expected), "{identifier}");
        };
        check("sconce", "sconce");
        check("custom_openai/sconce", "sconce");
        check("custom_openai/Sconce", "sconce");
        check("text-completion-openai/sconce", "sconce");
        check("custom_openai/Qwen/Qwen2.5-Coder-7B", "Qwen/Qwen2.5-Coder-7B");
        check("Qwen/Qwen2.5-Coder-7B", "Qwen/Qwen2.5-Coder-7B");
        check("custom_openai/qwen2.5-coder-7b", "Qwen/Qwen2.5-Coder-7B");
        check("custom_openai/example-coder", "Qwen/Qwen2.5-Coder-7B");
    }

    #[test]
    fn a_call_that_names_no_model_gets_the_default() {
        let unnamed = Wanted { is_unnamed: true, feature: "duo_chat", ..Wanted::default() };
        assert_eq!(chosen(&routes(), unnamed).as_deref(), Ok("sconce"));
        let family_only = Wanted { family: "general", ..Wanted::default() };
        assert_eq!(chosen(&routes(), family_only).as_deref(), Ok("sconce"));
        let entries = [("default", "example-coder")];
        let routes = routes().with_features(models(&entries)).expect("served");
        assert_eq!(chosen(&routes, unnamed).as_deref(), Ok("Qwen/Qwen2.5-Coder-7B"));
        assert!(chosen(&Routes::default(), unnamed).expect_err("nothing is served").contains("served: no model"));
    }

    #[test]
    fn the_configuration_overrules_the_call() {
        let entries = [("code_completions", "sconce")];
        let routes = routes().with_features(models(&entries)).expect("served");
        let wanted = Wanted {
            feature: "code_completions",
            identifier: Some("custom_openai/example-coder"),
            ..Wanted::default()
        };
        assert_eq!(chosen(&routes, wanted).as_deref(), Ok("sconce"));
        assert_eq!(chosen(&routes, Wanted { feature: "duo_chat", ..wanted }).as_deref(), Ok("Qwen/Qwen2.5-Coder-7B"));
        let unserved = models(&[("duo_chat", "nope")]);
        let error = super::super::tests::lane("a");
        let error = Routes::new(vec![error]).expect("one").with_features(unserved).expect_err("not served");
        assert_eq!(error.to_string(), "features.duo_chat names the model \"nope\", which is not served; served: a");
    }

    fn far(name: &str) -> Lane {
        let Lane { info, lane, .. } = lane(name);
        let name = LaneName::remote("cluster", name);
        let candidate = Candidate { name, lane, guard: Guard::new(BreakerSettings::default()) };
        let settings = PolicySettings {
            rule: RemoteRule::Always,
            leave_after: None,
            hedge_after: None,
            longer_elsewhere: false,
            completion_deadline: Duration::from_secs(1),
            chat_deadline: Duration::from_secs(1),
        };
        let metrics = RouteMetrics::register(&prometheus::Registry::new()).expect("an empty registry");
        let policy = Policy::new(vec![candidate], settings, Arc::new(metrics)).expect("one lane");
        Lane::routed(info, Vec::new(), policy)
    }

    /// Allows one endpoint, and answers for one prefix.
    struct Cluster;

    impl Outside for Cluster {
        fn at_endpoint(&self, named: Named<'_>) -> Option<Lane> {
            (named.endpoint == Some("https://cluster/v1")).then(|| far(&format!("endpoint:{}", named.model)))
        }

        fn by_prefix(&self, named: Named<'_>) -> Option<Lane> {
            (named.prefix == Some("bedrock")).then(|| far(&format!("bedrock:{}", named.model)))
        }
    }

    #[test]
    fn other_machines_are_reached_by_an_endpoint_or_a_prefix_that_is_allowed() {
        let named = |identifier| Wanted { identifier: Some(identifier), ..Wanted::default() };
        let check = |wanted: Wanted<'_>, expected: Result<&str, &str>| {
            let found = chosen(&routes().with_outside(Arc::new(Cluster)), wanted);
            match (&found, expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => panic!("{found:?}, expected {expected:?}"),
            }
        };
        check(named("bedrock/a.b:1"), Ok("bedrock:a.b:1"));
        check(named("azure/a"), Err("no model called \"azure/a\" is served here: served: "));
        let at = |endpoint, wanted| Wanted { endpoint: Some(endpoint), ..wanted };
        check(at("https://cluster/v1", named("custom_openai/Qwen/a")), Ok("endpoint:Qwen/a"));
        // What is named goes where it is named, though the name is known here.
        check(at("https://cluster/v1", named("custom_openai/sconce")), Ok("endpoint:sconce"));
        check(at("https://evil/v1", named("custom_openai/sconce")), Ok("sconce"));
        check(at("https://evil/v1", named("custom_openai/b")), Err("not among egress.request_endpoints"));
        assert!(chosen(&routes(), named("bedrock/a.b:1")).is_err(), "nobody allowed it");
    }

    #[test]
    fn a_feature_that_stays_here_stays_here() {
        let rules = |rule| {
            let rule = FeatureRoute { rule: Some(rule), ..FeatureRoute::default() };
            let strict = FeatureRoute { rule: Some(RemoteRule::Always), ..FeatureRoute::default() };
            FeatureRoutes::new(vec![(DEFAULT_FEATURE.to_owned(), rule), ("duo_chat".to_owned(), strict)])
        };
        let check = |rule, feature: &str, expected: bool| {
            let routes = routes().with_outside(Arc::new(Cluster)).with_features(rules(rule)).expect("served");
            let wanted = Wanted { feature, identifier: Some("bedrock/a"), ..Wanted::default() };
            let found = chosen(&routes, wanted);
            assert_eq!(found.is_ok(), expected, "{rule:?} {feature}: {found:?}");
            let wanted = Wanted { identifier: Some("custom_openai/sconce"), ..wanted };
            assert_eq!(chosen(&routes, wanted).as_deref(), Ok("sconce"), "a lane of this process is always allowed");
        };
        check(RemoteRule::Never, "code_completions", false);
        check(RemoteRule::OnFailure, "code_completions", false);
        check(RemoteRule::Always, "code_completions", true);
        check(RemoteRule::Never, "duo_chat", true);
    }

    #[test]
    fn a_feature_has_a_lane_of_its_own() {
        let route = FeatureRoute { lane: Some(far("far")), rule: Some(RemoteRule::Always), model: None };
        let features = FeatureRoutes::new(vec![("duo_chat".to_owned(), route)]);
        let routes = routes().with_features(features).expect("served");
        let wanted = Wanted { feature: "duo_chat", identifier: Some("custom_openai/sconce"), ..Wanted::default() };
        assert_eq!(chosen(&routes, wanted).as_deref(), Ok("far"));
        assert_eq!(chosen(&routes, Wanted { feature: "code_completions", ..wanted }).as_deref(), Ok("sconce"));
    }

    #[test]
    fn says_what_is_served_when_a_name_is_not() {
        let wanted = Wanted { identifier: Some("bedrock/anthropic.claude"), ..Wanted::default() };
        let error = chosen(&routes(), wanted).expect_err("not served");
        assert!(error.starts_with("no model called \"bedrock/anthropic.claude\" is served here"), "{error}");
        let wanted = Wanted { identifier: Some("custom_openai/scnce"), ..Wanted::default() };
        let error = chosen(&routes(), wanted).expect_err("not served");
        assert!(error.contains("did you mean custom_openai/sconce?"), "{error}");
    }
}
