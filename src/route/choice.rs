//! Which model a GitLab call is for: what the configuration says of the feature, then the name that GitLab sends.

use super::{Lane, RouteError, Routes, list, nearest, printable};

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
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// GitLab's name of the feature setting, for example `code_completions`.
    pub feature: &'a str,
    /// For example `custom_openai/qwen2.5-coder`.
    pub identifier: Option<&'a str>,
    /// For example `mistral`: names prompts, and a model only where nothing else does.
    pub family: &'a str,
    /// Nobody named a model: the default is meant.
    pub is_unnamed: bool,
}

/// Overrides of the configuration: feature to model name. `default` stands for calls that name no model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureModels {
    entries: Vec<(String, String)>,
}

/// The override for calls that name no model.
pub const DEFAULT_FEATURE: &str = "default";

impl FeatureModels {
    pub const fn none() -> Self {
        Self { entries: Vec::new() }
    }

    pub fn new(entries: Vec<(String, String)>) -> Self {
        Self { entries }
    }

    fn get(&self, feature: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| known == feature).map(|(_, model)| model.as_str())
    }
}

impl Routes {
    /// Sends features to models whatever their calls ask for. Errors if a model is not served.
    pub fn with_features(mut self, features: FeatureModels) -> Result<Self, RouteError> {
        for (feature, model) in &features.entries {
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

    /// The lane for a call of GitLab's. The configuration wins; then the identifier, with or without the provider in
    /// front, as a name, an alias or the last part of one; a call that names nothing gets the default.
    pub fn choose(&self, wanted: Wanted<'_>) -> Result<&Lane, RouteError> {
        if let Some(lane) = self.features.get(wanted.feature).and_then(|model| self.by_name(model)) {
            return Ok(lane);
        }
        let default = || {
            let named = self.features.get(DEFAULT_FEATURE).and_then(|model| self.by_name(model));
            named.or(self.lanes.first()).ok_or_else(|| self.not_served(wanted.feature))
        };
        if wanted.is_unnamed {
            return default();
        }
        match wanted.identifier {
            Some(identifier) => self.by_identifier(identifier).ok_or_else(|| self.not_served(identifier)),
            None => self.by_name(wanted.family).map_or_else(default, Ok),
        }
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

    fn not_served(&self, asked: &str) -> RouteError {
        let names = || self.models().map(|info| info.name.as_str());
        let last = asked.rsplit('/').next().unwrap_or(asked);
        RouteError::NotServed {
            asked: printable(asked),
            suggestion: nearest(last, names()).map(str::to_owned),
            served: names().map(str::to_owned).collect(),
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
    use crate::route::tests::lane;

    fn routes() -> Routes {
        let mut coder = lane("Qwen/Qwen2.5-Coder-7B");
        coder.aliases = vec!["example-coder".to_owned()];
        Routes::new(vec![lane("sconce"), coder]).expect("names differ")
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
        let entries = vec![("default".to_owned(), "example-coder".to_owned())];
        let routes = routes().with_features(FeatureModels::new(entries)).expect("served");
        assert_eq!(chosen(&routes, unnamed).as_deref(), Ok("Qwen/Qwen2.5-Coder-7B"));
        assert!(chosen(&Routes::default(), unnamed).expect_err("nothing is served").contains("served: no model"));
    }

    #[test]
    fn the_configuration_overrules_the_call() {
        let entries = vec![("code_completions".to_owned(), "sconce".to_owned())];
        let routes = routes().with_features(FeatureModels::new(entries)).expect("served");
        let wanted = Wanted {
            feature: "code_completions",
            identifier: Some("custom_openai/example-coder"),
            ..Wanted::default()
        };
        assert_eq!(chosen(&routes, wanted).as_deref(), Ok("sconce"));
        assert_eq!(chosen(&routes, Wanted { feature: "duo_chat", ..wanted }).as_deref(), Ok("Qwen/Qwen2.5-Coder-7B"));
        let unserved = FeatureModels::new(vec![("duo_chat".to_owned(), "nope".to_owned())]);
        let error = super::super::tests::lane("a");
        let error = Routes::new(vec![error]).expect("one").with_features(unserved).expect_err("not served");
        assert_eq!(error.to_string(), "features.duo_chat names the model \"nope\", which is not served; served: a");
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
