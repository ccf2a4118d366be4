//! What a bench found, free of how it is shown. Times are in seconds, rates per second.

use super::bound::{BoundBy, Traffic};
use super::machine::Machine;
use super::platform::{Ceilings, DeviceInfo};
use super::settings::Settings;
use std::time::Duration;

/// All of one `bench engine`.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub machine: Machine,
    pub device: DeviceInfo,
    /// Steps in flight besides the one being submitted.
    pub depth_steps: usize,
    pub ceilings: Ceilings,
    pub model: ModelReport,
    pub settings: Settings,
    pub prefill: Prefilled,
    pub decode: Vec<Decoded>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModelReport {
    pub name: String,
    pub architecture: String,
    /// The seed of weights that are noise.
    pub random_seed: Option<u64>,
    pub parameters: u64,
    pub weight_type: String,
    pub kv_type: &'static str,
    pub weights_bytes: u64,
    pub traffic: Traffic,
    pub load: Duration,
}

/// The prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Prefilled {
    pub tokens: usize,
    pub tokens_per_second: Spread,
    /// From the first step's submission to the first sampled token.
    pub time_to_first_token_seconds: Spread,
    pub operations: f64,
    /// Of the arithmetic ceiling, at the median.
    pub share_of_arithmetic: Option<f64>,
}

/// Sequences decoding together.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub batch: usize,
    /// Behind each sequence, as a mean over the steps of a run.
    pub context_tokens: f64,
    /// All sequences together.
    pub tokens_per_second: Spread,
    pub inter_token_p50_seconds: f64,
    pub inter_token_p99_seconds: f64,
    /// What the bound counts.
    pub step_bytes: f64,
    /// `None` where the device's rates are not known.
    pub bound: Option<Reached>,
    /// Besides waiting for the device; `None` where the host is the device.
    pub host_seconds_per_step: Option<f64>,
    pub device_idle_share: Option<f64>,
}

/// What the device could do at best, and how much of that it did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// Of the bound.
    pub tokens_per_second: f64,
    pub by: BoundBy,
    /// At the median.
    pub share: f64,
}

/// The middle of several runs, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `values` holds at least one.
    pub(super) fn of(values: &[f64]) -> Self {
        Self {
            median: median(values.to_vec()),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    pub(super) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { median: f(self.median), min: f(self.min), max: f(self.max) }
    }
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

/// The smallest value that at least `share` of all values do not exceed.
pub(super) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(Spread::of(&[3.0, 1.0, 8.0]), Spread { median: 3.0, min: 1.0, max: 8.0 });
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (share, want) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)] {
            assert_eq!(percentile(&values, share), want, "{share}");
        }
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 0.99), 3.0);
    }
}
