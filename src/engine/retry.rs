//! When a client that was refused should come back.

use std::time::Duration;

/// How long a refused client should stay away: the mean life of recent requests, once per request in front of it.
#[derive(Debug, Default)]
pub(super) struct RetryEstimate {
    mean_us: f64,
}

impl RetryEstimate {
    const LONGEST: Duration = Duration::from_secs(60);

    pub(super) fn note(&mut self, lived_us: u64) {
        let weight = if self.mean_us == 0.0 { 1.0 } else { 0.1 };
        self.mean_us += (lived_us as f64 - self.mean_us) * weight;
    }

    pub(super) fn after(&self, waiting: usize) -> Duration {
        let estimate = Duration::from_micros((self.mean_us * (waiting as f64 / 4.0).max(1.0)) as u64);
        estimate.clamp(Duration::from_secs(1), Self::LONGEST)
    }
}
