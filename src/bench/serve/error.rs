//! Why a bench of servers was not begun, or did not come to its end. What goes wrong with single requests is no reason:
//! that is counted.

use super::plan::{CONCURRENCY_MAX, Load, RATE_MAX};
use crate::egress::{EgressError, SettingsError};

#[derive(Debug, thiserror::Error)]
pub enum ServeBenchError {
    #[error("{given} servers were named, from 1 to {targets_max} are measured")]
    Targets { given: usize, targets_max: usize },
    #[error("{what} is 0, at least 1 is needed")]
    Zero { what: &'static str },
    #[error(
        "a load of {load} was asked for: from 1 to {CONCURRENCY_MAX} streams are possible, and rates above 0 up to \
         {RATE_MAX}/s"
    )]
    Load { load: Load },
    #[error("the gitlab dialect has the workloads completion and typing, {workload} was asked for")]
    NoChats { workload: &'static str },
    #[error(transparent)]
    Egress(#[from] SettingsError),
    #[error("{label} does not say which models it has: {problem} (name one with --model)")]
    NoModels { label: String, problem: String },
    #[error("{label}: {source}")]
    Address { label: String, source: EgressError },
    #[error("{label} answered none of {asked} request(s) of the warm-up: {problem}")]
    NeverAnswers { label: String, asked: usize, problem: String },
    #[error("interrupted")]
    Interrupted,
}
