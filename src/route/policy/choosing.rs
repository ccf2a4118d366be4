//! The choice for one job, up to the first text.

use super::breaker::Permit;
use super::reaction::{Counting, Reaction, reaction};
use super::{Candidate, Policy, RouteMetrics};
use crate::domain::{
    Event, Exhausted, GenerateError, Job, LaneName, Passed, Taken, UpstreamClass, UpstreamError, Usage, Why,
};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Before the second try; each further one waits twice as long.
const BACKOFF: Duration = Duration::from_millis(200);
/// No wait takes more than this share of the time that is left.
const WAIT_SHARE: u32 = 2;

type Said = Result<Event, GenerateError>;

/// Asks lane after lane.
pub struct Choosing {
    policy: Policy,
    job: Job,
    ends_at: Instant,
    /// Lanes from here on have not been asked.
    next_lane: usize,
    asked: FuturesUnordered<BoxFuture<'static, Attempt>>,
    /// When a lane was last asked for the first time.
    asked_at: Instant,
    /// Whether a lane has got company already.
    is_hedged: bool,
    passed: Vec<Passed>,
    last: Option<GenerateError>,
}

/// A lane that was asked, and how far it came.
struct Attempt {
    lane: usize,
    tries: usize,
    permit: Permit,
    outcome: Result<Vec<Said>, GenerateError>,
    rest: BoxStream<'static, Said>,
}

/// An answer that has begun.
pub struct Begun {
    taken: Taken,
    head: Vec<Said>,
    rest: BoxStream<'static, Said>,
    lane: Candidate,
    metrics: Arc<RouteMetrics>,
}

impl Begun {
    /// The whole answer, with the lane before it. A failure from here on counts against the lane, and ends the answer.
    pub fn into_events(self) -> BoxStream<'static, Said> {
        let Self { taken, head, rest, lane, metrics } = self;
        let rest = rest.inspect(move |said| {
            if let Err(GenerateError::Upstream(_) | GenerateError::EngineDown { .. }) = said {
                metrics.broken(&lane.name);
                let permit = lane.guard.breaker.permit(Instant::now());
                permit.into_iter().for_each(|permit| permit.failed(false, None, Instant::now()));
            }
        });
        let taken = Ok(Event::Taken(Arc::new(taken)));
        stream::iter([taken].into_iter().chain(head)).chain(rest).boxed()
    }
}

/// When the lanes that were asked get company or are left.
enum Turn {
    Hedge(Instant),
    Leave(Instant),
}

impl Choosing {
    pub fn new(policy: Policy, job: Job, deadline: Duration) -> Self {
        Self {
            policy,
            job,
            ends_at: Instant::now() + deadline,
            next_lane: 0,
            asked: FuturesUnordered::new(),
            asked_at: Instant::now(),
            is_hedged: false,
            passed: Vec::new(),
            last: None,
        }
    }

    pub async fn choose(mut self) -> Result<Begun, GenerateError> {
        loop {
            if self.asked.is_empty() && !self.ask_next(false) {
                return Err(self.exhausted());
            }
            let turn = self.turn();
            let at = match &turn {
                Some(Turn::Hedge(at) | Turn::Leave(at)) => *at,
                None => self.ends_at,
            };
            tokio::select! {
                biased;
                Some(attempt) = self.asked.next() => match attempt.outcome {
                    Ok(_) => return Ok(self.begun(attempt)),
                    Err(_) => self.react(attempt)?,
                },
                () = sleep_until(at), if turn.is_some() => {
                    let is_left = matches!(turn, Some(Turn::Leave(_)));
                    self.is_hedged = !is_left;
                    // With nobody left to ask, whoever was asked keeps the time that is left.
                    self.ask_next(is_left);
                }
            }
        }
    }

    /// The next moment at which somebody else is asked, if there is somebody.
    fn turn(&self) -> Option<Turn> {
        let now = Instant::now();
        let is_left = |lane: &Candidate| lane.guard.breaker.rests_for(now).is_none();
        if !self.policy.lanes[self.next_lane..].iter().any(is_left) {
            return None;
        }
        let share = self.ends_at.saturating_duration_since(self.asked_at) / WAIT_SHARE;
        let settings = &self.policy.settings;
        match settings.hedge_after {
            Some(after) if !self.is_hedged => Some(Turn::Hedge(self.asked_at + after.min(share))),
            _ => Some(Turn::Leave(self.asked_at + settings.leave_after.unwrap_or(share))),
        }
    }

    /// Asks the next lane that does not rest; with `leaves`, in the place of those that were asked. Whether there was one.
    fn ask_next(&mut self, leaves: bool) -> bool {
        let first_new = self.passed.len();
        while let Some(lane) = self.policy.lanes.get(self.next_lane) {
            let index = self.next_lane;
            self.next_lane += 1;
            let Some(permit) = lane.guard.breaker.permit(Instant::now()) else {
                self.passed.push(Passed { lane: lane.name.clone(), why: Why::Resting });
                continue;
            };
            lane.guard.budget.earn();
            self.asked_at = Instant::now();
            if leaves {
                self.leave_all(first_new, index);
            }
            self.ask(index, 0, permit, Duration::ZERO);
            return true;
        }
        false
    }

    /// Drops what was asked, which cancels it. Lanes are named in the order in which they were asked.
    fn leave_all(&mut self, at: usize, before: usize) {
        self.asked.clear();
        let is_known = |name: &LaneName| self.passed.iter().any(|passed| passed.lane == *name);
        let slow = self.policy.lanes[..before].iter().map(|lane| lane.name.clone()).filter(|name| !is_known(name));
        let slow: Vec<_> = slow.map(|lane| Passed { lane, why: Why::Slow }).collect();
        for passed in &slow {
            self.policy.metrics.passed(&passed.lane, passed.why);
            tracing::warn!(call = %self.job.id, lane = %passed.lane, why = "slow", "a lane is left for the next");
        }
        self.passed.splice(at..at, slow);
    }

    fn ask(&mut self, index: usize, tries: usize, permit: Permit, wait: Duration) {
        let (lane, mut job, ends_at) = (self.policy.lanes[index].lane.clone(), self.job.clone(), self.ends_at);
        let asking = async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            job.deadline = Some(ends_at.saturating_duration_since(Instant::now()));
            let mut rest = lane.generate(job);
            let outcome = hear_beginning(&mut rest).await;
            Attempt { lane: index, tries: tries + 1, permit, outcome, rest }
        };
        self.asked.push(asking.boxed());
    }

    fn begun(mut self, attempt: Attempt) -> Begun {
        attempt.permit.succeeded();
        let lane = self.policy.lanes[attempt.lane].clone();
        // Company that was slower, or is still asked, did not fail: only what stands in `passed` did.
        self.passed.retain(|passed| passed.lane != lane.name);
        let taken = Taken { lane: lane.name.clone(), passed: self.passed };
        self.policy.metrics.answered(&lane.name, !taken.passed.is_empty());
        if !taken.passed.is_empty() {
            tracing::warn!(call = %self.job.id, lane = %lane.name, passed = ?names(&taken.passed), "a fallback answers");
        }
        let head = attempt.outcome.unwrap_or_default();
        Begun { taken, head, rest: attempt.rest, lane, metrics: self.policy.metrics }
    }

    /// After a failure: asks again, or leaves the lane. Errors with what is told to the caller as it is.
    fn react(&mut self, attempt: Attempt) -> Result<(), GenerateError> {
        let Attempt { lane: index, tries, permit, outcome, .. } = attempt;
        let Err(error) = outcome else { return Ok(()) };
        let lane = self.policy.lanes[index].clone();
        let Some(reaction) = reaction(&error, self.policy.settings.longer_elsewhere) else {
            self.policy.metrics.told(&lane.name);
            return Err(error);
        };
        if let Some(wait) = self.wait_before_again(&reaction, tries, &lane) {
            tracing::info!(call = %self.job.id, lane = %lane.name, wait_ms = wait.as_millis() as u64, "asked again: {error}");
            self.ask(index, tries, permit, wait);
            return Ok(());
        }
        self.count(&reaction, permit, &lane);
        let why = reaction.why;
        match why {
            Why::Setup => {
                tracing::error!(call = %self.job.id, lane = %lane.name, why = why.name(), "a lane is left, and has to be put right: {error}");
            }
            _ => tracing::warn!(call = %self.job.id, lane = %lane.name, why = why.name(), "a lane is left: {error}"),
        }
        self.passed.push(Passed { lane: lane.name, why });
        self.last = Some(error);
        Ok(())
    }

    fn count(&self, reaction: &Reaction, permit: Permit, lane: &Candidate) {
        let now = Instant::now();
        self.policy.metrics.passed(&lane.name, reaction.why);
        match reaction.counts {
            Counting::Not => permit.succeeded(),
            Counting::Once => permit.failed(false, reaction.wait, now),
            Counting::AtOnce => permit.failed(true, reaction.wait, now),
        }
        if lane.guard.breaker.rests_for(now).is_some() {
            self.policy.metrics.rests(&lane.name);
        }
    }

    /// How long to wait before the same lane is asked again; `None` if it is not.
    ///
    /// A lane that is full is waited for only where nobody else can be asked. A lane that broke off is asked again at
    /// once: more often than not it was an idle connection that the other side had closed.
    fn wait_before_again(&self, reaction: &Reaction, tries: usize, lane: &Candidate) -> Option<Duration> {
        let now = Instant::now();
        let is_other = |lane: &Candidate| lane.guard.breaker.rests_for(now).is_none();
        let others = self.policy.lanes[self.next_lane..].iter().any(is_other) || !self.asked.is_empty();
        let is_full = reaction.why == Why::Overloaded;
        if tries > reaction.again_max || (is_full && others) {
            return None;
        }
        let wait = match (is_full, reaction.wait) {
            (false, _) => Duration::ZERO,
            (true, Some(wait)) => wait,
            (true, None) => self.backoff(tries),
        };
        let left = self.ends_at.saturating_duration_since(now);
        (wait <= left / WAIT_SHARE && lane.guard.budget.spend()).then_some(wait)
    }

    /// Between half and the whole of the time, by the job and the try: no two jobs of a wave come back together.
    fn backoff(&self, tries: usize) -> Duration {
        let mut hasher = DefaultHasher::new();
        (&*self.job.id.0, tries).hash(&mut hasher);
        let whole = BACKOFF * 2u32.pow(u32::try_from(tries).unwrap_or(1).clamp(1, 8) - 1);
        whole / 2 + whole.mul_f64((hasher.finish() % 1000) as f64 / 2000.0)
    }

    /// A single lane's error is told as it is, and so is that a prompt is too long for all of them: it can be shortened.
    fn exhausted(self) -> GenerateError {
        let Self { passed, last, policy, .. } = self;
        let last = last.unwrap_or_else(|| resting(&policy));
        if passed.len() < 2 || passed.iter().all(|passed| passed.why == Why::TooLong) {
            return last;
        }
        GenerateError::Exhausted(Box::new(Exhausted { passed, last }))
    }
}

/// Events up to the first that a caller sees: from then on the lane is the lane.
async fn hear_beginning(events: &mut BoxStream<'static, Said>) -> Result<Vec<Said>, GenerateError> {
    let mut head = Vec::new();
    while let Some(said) = events.next().await {
        let event = said?;
        let is_seen = matches!(event, Event::Text { .. } | Event::Finished { .. });
        head.push(Ok(event));
        if is_seen {
            return Ok(head);
        }
    }
    Err(GenerateError::StepFailed { reason: "a lane ended without an answer".to_owned() })
}

/// What is told when nobody could be asked at all.
fn resting(policy: &Policy) -> GenerateError {
    let now = Instant::now();
    let rests = policy.lanes.iter().map(|lane| (lane.guard.breaker.rests_for(now).unwrap_or_default(), &lane.name));
    let (rest, name) = rests.min_by_key(|(rest, _)| *rest).expect("a policy has a lane");
    let error = UpstreamError {
        provider: Arc::from(name.provider()),
        class: UpstreamClass::Overloaded,
        cause: "failed several times in a row and is left alone for a while",
        status: None,
        retry_after: Some(rest.max(Duration::from_secs(1))),
        usage: Usage::default(),
    };
    Box::new(error).into()
}

fn names(passed: &[Passed]) -> Vec<String> {
    passed.iter().map(|passed| format!("{} ({})", passed.lane, passed.why.name())).collect()
}
