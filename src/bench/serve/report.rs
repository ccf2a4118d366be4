//! What a bench of servers found, free of how it is shown.

use super::super::machine::Machine;
use super::drive::Round;
use super::figures::{Figures, Ratio};
use super::plan::{Dialect, Load, Plan};
use super::sample::Kind;

/// All of one `bench serve`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeReport {
    /// The client's, which on loopback is the servers' too.
    pub machine: Machine,
    /// Seconds since 1970.
    pub begun_unix_s: u64,
    pub plan: Plan,
    pub targets: Vec<TargetReport>,
    pub rows: Vec<Row>,
    /// Of two servers.
    pub ratios: Vec<RatioRow>,
    /// Processor cores that the client itself kept busy; `None` where the system does not say.
    pub client_cores: Option<f64>,
}

/// A server under measurement, as reports show it: without anything secret.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetReport {
    pub label: String,
    pub url: String,
    pub dialect: Dialect,
    pub model: Option<String>,
}

/// One kind of request at one load of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub kind: Kind,
    pub load: Load,
    pub target_index: usize,
    pub figures: Figures,
    pub rounds: Vec<Figures>,
    /// Everything that the figures are of, for plots.
    pub samples: Vec<Round>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RatioRow {
    pub kind: Kind,
    pub load: Load,
    pub ratios: Vec<Ratio>,
}

impl ServeReport {
    /// Requests that failed, of all servers and loads.
    pub fn failed(&self) -> usize {
        self.rows.iter().map(|row| row.figures.failed).sum()
    }

    /// How to read the latencies of this report.
    pub fn loop_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.plan.loads.iter().any(|load| load.is_open()) {
            notes.push(
                "open loop (rates): requests begin at random moments fixed beforehand; latency counts from those, so \
                 that coordinated omission is corrected"
                    .to_owned(),
            );
        }
        let is_typing = self.plan.workload.is_typing();
        if self.plan.loads.iter().any(|load| !load.is_open()) {
            notes.push(
                if is_typing {
                    "streams: each developer begins a burst when the one before has been answered; keys within a burst \
                     come at moments fixed beforehand, and latency counts from those"
                } else {
                    "closed loop (streams): each asks again when it has its answer, so a server that stalls is asked \
                     less and coordinated omission hides part of the stall; use --rate where that matters"
                }
                .to_owned(),
            );
        }
        if is_typing {
            notes.push(
                "typing: latencies are of the last key of each burst; the others are cancelled by the next key"
                    .to_owned(),
            );
        }
        if self.plan.workload == super::plan::Workload::Mixed {
            notes.push(format!(
                "mixed: {} chat stream(s) run beside the typing, in a closed loop whatever the load of the typing",
                self.plan.chats
            ));
        }
        if (0..self.plan.targets.len()).any(|index| self.plan.salt(index) > 0) {
            notes.push("both names lead to one server, so each has texts of its own".to_owned());
        }
        notes
    }
}
