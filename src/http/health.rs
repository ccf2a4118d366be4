//! Whether this process can answer: set by whoever knows, read from memory by `/monitoring/ready` and by every call.

use crate::domain::GenerateError;
use std::sync::Arc;
use tokio::sync::watch;

/// What `/monitoring/ready` says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Starting {
        cause: String,
    },
    Ready,
    /// A model's device has failed and comes back by itself, unless it turns into [`Readiness::Failed`].
    Restarting {
        cause: String,
    },
    Failed {
        cause: String,
    },
    /// Shutting down: for good.
    Stopping,
}

/// The cached state of the process. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<watch::Sender<Readiness>>,
}

impl Health {
    pub fn new(readiness: Readiness) -> Self {
        Self { state: Arc::new(watch::Sender::new(readiness)) }
    }

    /// Has no effect once the state is [`Readiness::Stopping`].
    pub fn set(&self, readiness: Readiness) {
        self.state.send_if_modified(|state| {
            let is_change = *state != Readiness::Stopping && *state != readiness;
            if is_change {
                *state = readiness;
            }
            is_change
        });
    }

    pub fn readiness(&self) -> Readiness {
        self.state.borrow().clone()
    }

    /// Errors if no call can be taken: the models are not there yet, or the process is about to end.
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        match &*self.state.borrow() {
            Readiness::Starting { cause } => Err(GenerateError::Starting { cause: cause.clone() }),
            Readiness::Stopping => Err(GenerateError::ShuttingDown),
            // An engine that is down says so itself, and other engines may be well.
            Readiness::Ready | Readiness::Restarting { .. } | Readiness::Failed { .. } => Ok(()),
        }
    }

    pub fn is_stopping(&self) -> bool {
        *self.state.borrow() == Readiness::Stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_for_good() {
        let health = Health::new(Readiness::Starting { cause: "loading".to_owned() });
        health.set(Readiness::Ready);
        assert_eq!(health.readiness(), Readiness::Ready);
        health.clone().set(Readiness::Stopping);
        health.set(Readiness::Ready);
        assert!(health.is_stopping());
    }
}
