//! Counts of what lanes were asked and what became of it. Labels are names from the configuration and fixed words.

use crate::domain::{LaneName, Why};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

#[derive(Debug)]
pub struct RouteMetrics {
    attempts: IntCounterVec,
    fallbacks: IntCounterVec,
    resting: IntGaugeVec,
}

impl RouteMetrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            attempts: IntCounterVec::new(
                Opts::new("sconce_route_attempts_total", "Times a lane was asked, by what became of it"),
                &["lane", "outcome"],
            )?,
            fallbacks: IntCounterVec::new(
                Opts::new("sconce_route_fallbacks_total", "Answers of a lane that was not the first to be asked"),
                &["lane"],
            )?,
            resting: IntGaugeVec::new(
                Opts::new("sconce_route_lane_resting", "1 while a lane that failed in a row is left alone"),
                &["lane"],
            )?,
        };
        registry.register(Box::new(metrics.attempts.clone()))?;
        registry.register(Box::new(metrics.fallbacks.clone()))?;
        registry.register(Box::new(metrics.resting.clone()))?;
        Ok(metrics)
    }

    pub(super) fn answered(&self, lane: &LaneName, is_fallback: bool) {
        let lane = lane.to_string();
        self.attempts.with_label_values(&[&lane, "answered"]).inc();
        self.resting.with_label_values(&[&lane]).set(0);
        if is_fallback {
            self.fallbacks.with_label_values(&[&lane]).inc();
        }
    }

    pub(super) fn passed(&self, lane: &LaneName, why: Why) {
        self.attempts.with_label_values(&[&lane.to_string(), why.name()]).inc();
    }

    /// An answer that broke off after its beginning.
    pub(super) fn broken(&self, lane: &LaneName) {
        self.attempts.with_label_values(&[&lane.to_string(), "broken"]).inc();
    }

    /// A failure that is told to the caller as it is.
    pub(super) fn told(&self, lane: &LaneName) {
        self.attempts.with_label_values(&[&lane.to_string(), "refused"]).inc();
    }

    pub(super) fn rests(&self, lane: &LaneName) {
        self.resting.with_label_values(&[&lane.to_string()]).set(1);
    }

    #[cfg(test)]
    pub(super) fn count(&self, lane: &str, outcome: &str) -> u64 {
        self.attempts.with_label_values(&[lane, outcome]).get()
    }
}
