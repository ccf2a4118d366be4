//! From the health of the engines to what `/monitoring/ready` says: at the moment it changes, never by asking around.

use crate::engine::{EngineHealth, HealthFeed};
use crate::http::{Health, Readiness};
use futures::future::select_all;

/// Keeps the readiness true. Never resolves.
///
/// One engine that is down makes the process unready, although the others answer: whoever balances load or wakes
/// somebody up should know.
pub async fn keep_ready(mut engines: Vec<HealthFeed>, health: &Health) {
    loop {
        health.set(readiness(&mut engines));
        let changes = engines.iter_mut().map(|engine| Box::pin(engine.changed()));
        match changes.len() {
            0 => std::future::pending().await,
            _ => drop(select_all(changes).await),
        }
    }
}

/// The worst of them, with a sentence for each that is down.
fn readiness(engines: &mut [HealthFeed]) -> Readiness {
    let (mut causes, mut has_failed) = (Vec::new(), false);
    for engine in engines {
        let health = engine.current();
        let model = engine.model();
        match health {
            EngineHealth::Healthy => {}
            EngineHealth::Restarting { attempts, last_error, .. } => {
                causes.push(format!("the engine of {model} is restarting, {attempts} attempts so far: {last_error}"));
            }
            EngineHealth::Failed { last_error } => {
                has_failed = true;
                causes.push(format!("the engine of {model} has failed: {last_error}"));
            }
        }
    }
    let cause = causes.join("; ");
    match (causes.is_empty(), has_failed) {
        (true, _) => Readiness::Ready,
        (false, false) => Readiness::Restarting { cause },
        (false, true) => Readiness::Failed { cause },
    }
}
