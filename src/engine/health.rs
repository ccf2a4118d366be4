//! Whether an engine can compute: set by its thread at the moment at which that changes, read and awaited by others.

use crate::domain::GenerateError;
use prometheus::IntGauge;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How an engine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineHealth {
    Healthy,
    /// Its device has failed and a new runner is being made, or will be after a wait.
    Restarting {
        since: Instant,
        /// Begun since then.
        attempts: u32,
        last_error: String,
        /// How long a caller should stay away: when this was set, the next attempt was about as far off.
        retry_after: Duration,
    },
    /// For good: only a new process helps.
    Failed {
        last_error: String,
    },
}

impl EngineHealth {
    /// `None` while the engine is well.
    pub(super) fn outage(&self, model: &str) -> Option<Outage> {
        let retry_after = match self {
            Self::Healthy => return None,
            Self::Restarting { retry_after, .. } => Some(*retry_after),
            Self::Failed { .. } => None,
        };
        Some(Outage { model: model.to_owned(), retry_after })
    }
}

/// What callers are told of an engine that is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    pub(super) model: String,
    /// `None` for good.
    pub(super) retry_after: Option<Duration>,
}

impl Outage {
    pub(super) fn is_final(&self) -> bool {
        self.retry_after.is_none()
    }

    /// To a call that comes, or waits, meanwhile.
    pub(super) fn refusal(&self) -> GenerateError {
        self.say("its engine is restarting after a failure of the device")
    }

    /// To a call whose answer the failure has cut off.
    pub(super) fn cut_off(&self) -> GenerateError {
        self.say("its device failed while it answered, and the engine is restarting")
    }

    fn say(&self, while_restarting: &'static str) -> GenerateError {
        let cause = match self.retry_after {
            Some(_) => while_restarting,
            None => "its engine has failed for good, and the log says why",
        };
        GenerateError::EngineDown { model: self.model.clone(), cause, retry_after: self.retry_after }
    }
}

/// The health of one engine, for all who want to know. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct HealthCell {
    state: Arc<watch::Sender<EngineHealth>>,
    /// 1 while healthy, 0 otherwise.
    gauge: IntGauge,
}

impl HealthCell {
    pub(super) fn new(gauge: IntGauge) -> Self {
        gauge.set(1);
        Self { state: Arc::new(watch::Sender::new(EngineHealth::Healthy)), gauge }
    }

    pub(super) fn set(&self, health: EngineHealth) {
        self.gauge.set(i64::from(health == EngineHealth::Healthy));
        self.state.send_replace(health);
    }

    pub(super) fn get(&self) -> EngineHealth {
        self.state.borrow().clone()
    }

    /// `None` while the engine is well.
    pub(super) fn outage(&self, model: &str) -> Option<Outage> {
        self.state.borrow().outage(model)
    }

    pub(super) fn feed(&self, model: &str) -> HealthFeed {
        HealthFeed { model: model.to_owned(), state: self.state.subscribe() }
    }
}

/// Follows the health of one engine.
#[derive(Clone, Debug)]
pub struct HealthFeed {
    model: String,
    state: watch::Receiver<EngineHealth>,
}

impl HealthFeed {
    /// The name of the engine's model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The health now; [`HealthFeed::changed`] then waits for the next one.
    pub fn current(&mut self) -> EngineHealth {
        self.state.borrow_and_update().clone()
    }

    /// Resolves when the health is no longer what was read last. Never, once the engine is gone.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Lies on the engine's thread, and says so when a panic ends it.
pub(super) struct DeathNotice {
    pub(super) model: String,
    pub(super) health: HealthCell,
}

impl Drop for DeathNotice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(model = self.model, "the engine's thread has ended");
            self.health.set(EngineHealth::Failed { last_error: "the engine's thread panicked".to_owned() });
        }
    }
}
