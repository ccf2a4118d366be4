//! One answer out of several lanes: who is asked, in which order, how often, and for how long.
//!
//! A [`Policy`] is itself a lane. It commits to a lane with the first text it hears from it: until then a failure may be
//! repaired by asking again or elsewhere, after that nobody can go on from where the answer stopped. Whether a lane of
//! somebody else's machine may be asked at all is the operator's [`RemoteRule`], which is `Never` unless he said otherwise.
//! Classes of failures: `reaction.rs`. Retry budgets after Finagle's, circuit breakers after Nygard's "Release It!".

mod breaker;
mod budget;
mod choosing;
mod metrics;
mod reaction;
#[cfg(test)]
mod tests;

pub use breaker::BreakerSettings;
pub use metrics::RouteMetrics;

use crate::domain::{Class, Event, Generate, GenerateError, Job, LaneName};
use breaker::Breaker;
use budget::RetryBudget;
use choosing::Choosing;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whether a job may leave this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoteRule {
    #[default]
    Never,
    /// When no lane of this machine answers.
    OnFailure,
    /// In the order in which the lanes are written.
    Always,
}

impl RemoteRule {
    pub const NAMED: &[(&str, Self)] =
        &[("never", Self::Never), ("on_failure", Self::OnFailure), ("always", Self::Always)];

    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on_failure",
            Self::Always => "always",
        }
    }
}

/// What is known of a lane's health. Shared by all policies that ask the lane.
#[derive(Clone, Debug)]
pub struct Guard {
    breaker: Arc<Breaker>,
    budget: Arc<RetryBudget>,
}

impl Guard {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { breaker: Arc::new(Breaker::new(settings)), budget: Arc::default() }
    }
}

/// A lane that may be asked.
#[derive(Clone)]
pub struct Candidate {
    pub name: LaneName,
    pub lane: Arc<dyn Generate>,
    pub guard: Guard,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.name)
    }
}

/// How the choice is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySettings {
    pub rule: RemoteRule,
    /// A lane that has said nothing by then is left for the next one. Where it is not set, half of the time that is left.
    pub leave_after: Option<Duration>,
    /// A lane that has said nothing by then gets company: whoever speaks first answers.
    pub hedge_after: Option<Duration>,
    /// Whether a later lane holds more: then what is too long for one goes to the next instead of back to the caller.
    pub longer_elsewhere: bool,
    /// For jobs that bring no deadline of their own.
    pub completion_deadline: Duration,
    pub chat_deadline: Duration,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    #[error("no lane is named: at least one is needed, such as local:NAME or PROVIDER:MODEL")]
    NoLane,
    #[error("the lane {lane} is named twice")]
    Twice { lane: LaneName },
    #[error(
        "the lane {lane} is on another machine, and `remote` is never: set `remote` to on_failure or always if this work may leave this machine, or take the lane out"
    )]
    Forbidden { lane: LaneName },
    #[error(
        "the lane {remote} stands before {local}, and `remote` is on_failure, which asks other machines last: put it behind, or set `remote` to always"
    )]
    Order { remote: LaneName, local: LaneName },
    #[error(
        "all lanes are on other machines, and `remote` is on_failure: name a local lane before them, or set `remote` to always"
    )]
    NothingLocal,
}

/// Lanes in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Policy {
    lanes: Vec<Candidate>,
    settings: PolicySettings,
    metrics: Arc<RouteMetrics>,
}

impl Policy {
    /// Errors where a lane could never be asked under the rule.
    pub fn new(
        lanes: Vec<Candidate>,
        settings: PolicySettings,
        metrics: Arc<RouteMetrics>,
    ) -> Result<Self, PolicyError> {
        check_lanes(&lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>(), settings.rule)?;
        Ok(Self { lanes, settings, metrics })
    }

    pub fn rule(&self) -> RemoteRule {
        self.settings.rule
    }

    pub fn lanes(&self) -> impl Iterator<Item = &LaneName> {
        self.lanes.iter().map(|lane| &lane.name)
    }

    /// The same under a stricter rule. `None` if no lane is left.
    pub fn restricted(&self, rule: RemoteRule) -> Option<Self> {
        let mut lanes = self.lanes.clone();
        match rule {
            RemoteRule::Always => {}
            RemoteRule::OnFailure => lanes.sort_by_key(|lane| lane.name.is_remote()),
            RemoteRule::Never => lanes.retain(|lane| !lane.name.is_remote()),
        }
        let settings = PolicySettings { rule: rule.min(self.settings.rule), ..self.settings };
        let is_left = lanes.iter().any(|lane| rule == RemoteRule::Always || !lane.name.is_remote());
        is_left.then(|| Self { lanes, settings, metrics: self.metrics.clone() })
    }
}

/// Whether every lane of a route could be asked under its rule.
pub fn check_lanes(lanes: &[&LaneName], rule: RemoteRule) -> Result<(), PolicyError> {
    if lanes.is_empty() {
        return Err(PolicyError::NoLane);
    }
    for (index, lane) in lanes.iter().enumerate() {
        if lanes[..index].contains(lane) {
            return Err(PolicyError::Twice { lane: (*lane).clone() });
        }
    }
    let Some(first_remote) = lanes.iter().position(|lane| lane.is_remote()) else { return Ok(()) };
    let remote = lanes[first_remote].clone();
    match rule {
        RemoteRule::Never => Err(PolicyError::Forbidden { lane: remote }),
        RemoteRule::Always => Ok(()),
        RemoteRule::OnFailure => match lanes[first_remote..].iter().find(|lane| !lane.is_remote()) {
            Some(local) => Err(PolicyError::Order { remote, local: (*local).clone() }),
            None if first_remote == 0 => Err(PolicyError::NothingLocal),
            None => Ok(()),
        },
    }
}

impl Generate for Policy {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        let deadline = job.deadline.unwrap_or(match job.class {
            Class::Completion => self.settings.completion_deadline,
            Class::Chat => self.settings.chat_deadline,
        });
        let choosing = Choosing::new(self.clone(), job, deadline);
        let chosen = stream::once(choosing.choose()).map(|chosen| match chosen {
            Ok(begun) => begun.into_events(),
            Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
        });
        chosen.flatten().boxed()
    }
}
