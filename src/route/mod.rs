//! Picks the lane that answers a call: a model's name leads to exactly one, which may be a [`Policy`] over several.
//!
//! Sees lanes only as `dyn Generate` and has never heard of HTTP, of an engine or of a provider.

mod choice;
mod outside;
pub mod policy;

pub use choice::{DEFAULT_FEATURE, FeatureRoute, FeatureRoutes, Wanted};
pub use outside::{Named, Outside};

use crate::domain::{ErrorKind, Generate, ModelInfo};
use choice::how_to_serve;
use policy::{Policy, RemoteRule};
use std::fmt;
use std::sync::Arc;

/// A way to answer, and what callers may know of it.
#[derive(Clone)]
pub struct Lane {
    pub info: ModelInfo,
    /// More names of it, for calls of GitLab's.
    pub aliases: Vec<String>,
    pub lane: Arc<dyn Generate>,
    /// What `lane` is, where it leads to others: a feature may restrict it. A lane without one stays in this process.
    pub policy: Option<Arc<Policy>>,
}

impl Lane {
    /// A lane of this process.
    pub fn local(info: ModelInfo, aliases: Vec<String>, lane: Arc<dyn Generate>) -> Self {
        Self { info, aliases, lane, policy: None }
    }

    pub fn routed(info: ModelInfo, aliases: Vec<String>, policy: Policy) -> Self {
        let policy = Arc::new(policy);
        Self { info, aliases, lane: policy.clone(), policy: Some(policy) }
    }

    /// The same under a stricter rule; `None` if then nobody is left to ask.
    fn restricted(self, rule: RemoteRule) -> Option<Self> {
        match &self.policy {
            None => Some(self),
            Some(policy) if policy.rule() <= rule => Some(self),
            Some(policy) => Some(Self::routed(self.info, self.aliases, policy.restricted(rule)?)),
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lane").field("info", &self.info).finish_non_exhaustive()
    }
}

/// The lanes of this process, in the order in which they were configured.
#[derive(Clone, Default)]
pub struct Routes {
    lanes: Vec<Lane>,
    features: FeatureRoutes,
    outside: Option<Arc<dyn Outside>>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let features = ("features", &self.features);
        formatter
            .debug_struct("Routes")
            .field("lanes", &self.lanes)
            .field(features.0, features.1)
            .finish_non_exhaustive()
    }
}

impl Routes {
    /// No lanes at all.
    pub const fn none() -> Self {
        Self { lanes: Vec::new(), features: FeatureRoutes::none(), outside: None }
    }

    /// Errors if two lanes have one name.
    pub fn new(lanes: Vec<Lane>) -> Result<Self, RouteError> {
        for (index, lane) in lanes.iter().enumerate() {
            if lanes[..index].iter().any(|other| other.info.name == lane.info.name) {
                return Err(RouteError::DuplicateModel { name: lane.info.name.clone() });
            }
        }
        Ok(Self { lanes, ..Self::default() })
    }

    /// The lane that serves the model called `name`. Names are compared exactly.
    pub fn find(&self, name: &str) -> Result<&Lane, RouteError> {
        self.lanes.iter().find(|lane| lane.info.name == name).ok_or_else(|| RouteError::UnknownModel {
            asked: printable(name),
            suggestion: nearest(name, self.models().map(|info| info.name.as_str())).map(str::to_owned),
            served: self.models().map(|info| info.name.clone()).collect(),
        })
    }

    pub fn models(&self) -> impl Iterator<Item = &ModelInfo> {
        self.lanes.iter().map(|lane| &lane.info)
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RouteError {
    #[error("the model {asked} does not exist here{}; served: {}", hint(.suggestion), list(.served))]
    UnknownModel { asked: String, suggestion: Option<String>, served: Vec<String> },
    #[error("no model called {asked} is served here{}: {}", if *.has_endpoint { ", and the endpoint of the call is not among egress.request_endpoints" } else { "" }, how_to_serve(.suggestion, .served))]
    NotServed { asked: String, suggestion: Option<String>, served: Vec<String>, has_endpoint: bool },
    #[error("{asked} is answered by another machine only, and routes.{feature}.remote is {}: this feature stays here", .rule.name())]
    RemoteForbidden { asked: String, feature: String, rule: RemoteRule },
    #[error("features.{feature} names the model {model:?}, which is not served; served: {}", list(.served))]
    FeatureModel { feature: String, model: String, served: Vec<String> },
    #[error("two models are called {name:?}: give each its own name")]
    DuplicateModel { name: String },
}

impl RouteError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownModel { .. } | Self::NotServed { .. } => ErrorKind::NotFound,
            Self::RemoteForbidden { .. } => ErrorKind::Forbidden,
            Self::FeatureModel { .. } | Self::DuplicateModel { .. } => ErrorKind::Internal,
        }
    }
}

/// A caller's name can be a megabyte of control characters: show enough of it to recognise a typing error.
fn printable(name: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let shown: String = name.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < name.len() { "…" } else { "" };
    format!("{shown:?}{cut}")
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(", did you mean {name:?}?")).unwrap_or_default()
}

fn list(served: &[String]) -> String {
    if served.is_empty() { "no model".to_owned() } else { served.join(", ") }
}

/// The name most like `asked`, if any is close enough to be a typing error of it.
fn nearest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ASKED_BYTES_MAX: usize = 256;
    const LIKENESS_MIN: f64 = 0.6;
    if asked.len() > ASKED_BYTES_MAX {
        return None;
    }
    let asked = asked.to_lowercase();
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&asked, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, GenerateError, Job};
    use futures::StreamExt as _;
    use futures::stream::BoxStream;

    struct Silent;

    impl Generate for Silent {
        fn generate(&self, _job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
            futures::stream::empty().boxed()
        }
    }

    pub(super) fn lane(name: &str) -> Lane {
        let info = ModelInfo {
            name: name.to_owned(),
            architecture: "llama".to_owned(),
            context_tokens: 64,
            vocab_size: 32,
            parameters: 1,
            has_infill: false,
            has_chat: false,
            created: 0,
        };
        Lane::local(info, Vec::new(), Arc::new(Silent))
    }

    #[test]
    fn finds_by_exact_name_and_says_what_is_served() {
        let routes = Routes::new(vec![lane("sconce-tiny"), lane("qwen2.5-coder")]).expect("names differ");
        assert_eq!(routes.find("sconce-tiny").map(|lane| lane.info.name.as_str()), Ok("sconce-tiny"));
        let check = |asked: &str, expected: &str| {
            let error = routes.find(asked).expect_err("not served");
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.kind(), ErrorKind::NotFound);
        };
        check(
            "Sconce-tny",
            r#"the model "Sconce-tny" does not exist here, did you mean "sconce-tiny"?; served: sconce-tiny, qwen2.5-coder"#,
        );
        check("gpt-4o", r#"the model "gpt-4o" does not exist here; served: sconce-tiny, qwen2.5-coder"#);
        check("a\nb", r#"the model "a\nb" does not exist here; served: sconce-tiny, qwen2.5-coder"#);
        assert!(routes.find(&"x".repeat(1 << 20)).expect_err("not served").to_string().len() < 300);
    }

    #[test]
    fn refuses_two_models_of_one_name() {
        assert_eq!(
            Routes::new(vec![lane("a"), lane("a")]).err(),
            Some(RouteError::DuplicateModel { name: "a".to_owned() })
        );
    }
}
