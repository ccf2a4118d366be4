//! A lane that fails in a row is left alone for a while, then asked by one job before all others may ask again.
//!
//! Pure but for a lock: times are handed in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// When a lane is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row after which it is.
    pub failures_max: u32,
    /// The first rest; each one that ends in another failure is twice as long.
    pub rest: Duration,
    pub rest_max: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures_max: 5, rest: Duration::from_secs(5), rest_max: Duration::from_secs(300) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// So many failures in a row.
    Closed {
        failures: u32,
    },
    Resting {
        until: Instant,
        rest: Duration,
    },
    /// One job is out to see.
    Probing {
        rest: Duration,
    },
}

#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: Mutex<State>,
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Leave to ask the lane, or `None` while it rests.
    pub fn permit(self: &Arc<Self>, now: Instant) -> Option<Permit> {
        let mut state = self.state();
        match *state {
            State::Closed { .. } => {}
            State::Resting { until, .. } if now < until => return None,
            State::Resting { rest, .. } => *state = State::Probing { rest },
            State::Probing { .. } => return None,
        }
        let is_probe = matches!(*state, State::Probing { .. });
        Some(Permit { breaker: self.clone(), is_probe, is_reported: false })
    }

    /// How much longer the lane rests.
    pub fn rests_for(&self, now: Instant) -> Option<Duration> {
        match *self.state() {
            State::Resting { until, .. } => Some(until.saturating_duration_since(now)).filter(|rest| !rest.is_zero()),
            State::Closed { .. } | State::Probing { .. } => None,
        }
    }

    fn succeeded(&self) {
        *self.state() = State::Closed { failures: 0 };
    }

    fn failed(&self, at_once: bool, wait: Option<Duration>, now: Instant) {
        let BreakerSettings { failures_max, rest: first_rest, rest_max } = self.settings;
        let mut state = self.state();
        let rest = match *state {
            State::Closed { failures } if failures + 1 < failures_max && !at_once => {
                *state = State::Closed { failures: failures + 1 };
                return;
            }
            State::Closed { .. } => first_rest,
            State::Probing { rest } => (rest * 2).min(rest_max),
            // A job that was permitted before.
            State::Resting { .. } => return,
        };
        // A lane that says when it is back is believed, up to the longest rest.
        let rest_now = wait.map_or(rest, |wait| wait.max(rest)).min(rest_max);
        *state = State::Resting { until: now + rest_now, rest };
    }

    /// The probe went away without a result: the next one may look.
    fn abandoned(&self, now: Instant) {
        let mut state = self.state();
        if let State::Probing { rest } = *state {
            *state = State::Resting { until: now, rest };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to ask a lane once. Dropped without a report it says nothing about the lane.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    is_probe: bool,
    is_reported: bool,
}

impl Permit {
    pub fn succeeded(mut self) {
        self.is_reported = true;
        self.breaker.succeeded();
    }

    /// `at_once` rests the lane whatever came before. `wait` is what the lane said about its return.
    pub fn failed(mut self, at_once: bool, wait: Option<Duration>, now: Instant) {
        self.is_reported = true;
        self.breaker.failed(at_once, wait, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe && !self.is_reported {
            self.breaker.abandoned(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Arc<Breaker> {
        Arc::new(Breaker::new(BreakerSettings { failures_max: 3, rest: SECOND, rest_max: 3 * SECOND }))
    }

    fn fail(breaker: &Arc<Breaker>, now: Instant) {
        breaker.permit(now).expect("not at rest").failed(false, None, now);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_rest_a_lane_and_one_job_looks_after_it() {
        let (breaker, begun) = (breaker(), Instant::now());
        fail(&breaker, begun);
        fail(&breaker, begun);
        breaker.permit(begun).expect("two are not three").succeeded();
        for _ in 0..3 {
            fail(&breaker, begun);
        }
        assert!(breaker.permit(begun).is_none());
        assert_eq!(breaker.rests_for(begun), Some(SECOND));
        let later = begun + SECOND;
        let probe = breaker.permit(later).expect("the rest is over");
        assert!(breaker.permit(later).is_none(), "one looks, and only one");
        probe.failed(false, None, later);
        assert_eq!(breaker.rests_for(later), Some(2 * SECOND), "twice as long");
        let later = later + 2 * SECOND;
        breaker.permit(later).expect("the rest is over").failed(false, None, later);
        assert_eq!(breaker.rests_for(later), Some(3 * SECOND), "and never longer than this");
        let later = later + 3 * SECOND;
        breaker.permit(later).expect("the rest is over").succeeded();
        fail(&breaker, later);
        assert!(breaker.permit(later).is_some(), "it counts from nought again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_goes_away_lets_the_next_one_look() {
        let (breaker, begun) = (breaker(), Instant::now());
        breaker.permit(begun).expect("new").failed(true, Some(2 * SECOND), begun);
        assert_eq!(breaker.rests_for(begun), Some(2 * SECOND), "a lane is believed when it says how long");
        tokio::time::advance(2 * SECOND).await;
        let now = Instant::now();
        drop(breaker.permit(now).expect("the rest is over"));
        breaker.permit(now).expect("nobody is out to see").succeeded();
        assert!(breaker.permit(now).is_some() && breaker.permit(now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_result_does_not_shorten_a_rest() {
        let (breaker, begun) = (breaker(), Instant::now());
        let early = breaker.permit(begun).expect("new");
        breaker.permit(begun).expect("closed").failed(true, Some(3 * SECOND), begun);
        early.failed(true, None, begun + SECOND);
        assert_eq!(breaker.rests_for(begun), Some(3 * SECOND));
    }
}
