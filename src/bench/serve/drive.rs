//! Drives one server through one round of one load, and gathers what became of every request.
//!
//! Closed loop: each stream asks again once it has its answer, so a server that stalls is asked less, and the wait of
//! those who would have come meanwhile is seen by nobody (coordinated omission). Open loop: requests begin at moments
//! fixed beforehand, each on its own, and their latency counts from those moments. Keystrokes are always of the second
//! sort: within a burst nobody waits for a server before typing on.

use super::call::{Call, Calls};
use super::client::Answers;
use super::plan::{Amount, Load, Plan, Typing, Workload};
use super::sample::{Counts, Failure, Kind, Outcome, Sample, Trace};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Requests of an open loop that may wait for answers at once; later ones count as not sent.
pub const WAITING_MAX: usize = 2_048;
/// Developers among whom the requests of an open loop are shared out.
pub const DEVELOPERS: usize = 8;
const SAMPLES_WAITING_MAX: usize = 4_096;

/// What the rounds of one load and one server have in common.
pub struct Stage<A> {
    answers: Arc<A>,
    calls: Calls,
    workload: Workload,
    load: Load,
    typing: Typing,
    chats: usize,
    /// Bursts that each developer has typed; they type on from round to round.
    bursts: Vec<AtomicUsize>,
}

/// What a round gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    pub samples: Vec<Sample>,
    /// From its beginning to the end of its last request.
    pub wall: Duration,
}

/// A round under way, as its tasks see it.
struct Turn<A> {
    stage: Arc<Stage<A>>,
    number: usize,
    amount: Amount,
    start: Instant,
    /// The number of the next request.
    next: AtomicUsize,
    samples: mpsc::Sender<Sample>,
}

impl<A: Answers> Stage<A> {
    pub fn new(answers: Arc<A>, plan: &Plan, load_index: usize, target_index: usize) -> Self {
        Self {
            answers,
            calls: Calls::new(plan, load_index, target_index),
            workload: plan.workload,
            load: plan.loads[load_index],
            typing: plan.typing,
            chats: plan.chats,
            bursts: std::iter::repeat_with(AtomicUsize::default).take(WAITING_MAX + DEVELOPERS).collect(),
        }
    }

    /// How much a warm-up is: every stream once.
    pub fn warm_up(&self) -> Amount {
        Amount::Requests(match self.load {
            Load::Concurrency(streams) => streams,
            Load::Rate(_) => DEVELOPERS,
        })
    }
}

/// Runs a round, and shows every sample to `note` as it comes in. Round 0 is the warm-up.
pub async fn round<A: Answers>(
    stage: &Arc<Stage<A>>,
    number: usize,
    amount: Amount,
    mut note: impl FnMut(&Sample),
) -> Round {
    let (samples, mut gathered) = mpsc::channel(SAMPLES_WAITING_MAX);
    let (stop, stopped) = watch::channel(false);
    let start = Instant::now();
    let turn = Turn { stage: stage.clone(), number, amount, start, next: AtomicUsize::new(0), samples };
    let work = async move {
        let turn = Arc::new(turn);
        let mut foreground = JoinSet::new();
        match stage.load {
            Load::Concurrency(streams) => {
                for stream in 0..streams {
                    let turn = turn.clone();
                    foreground.spawn(async move { turn.stream(stream, streams).await });
                }
            }
            Load::Rate(per_second) => {
                let turn = turn.clone();
                foreground.spawn(async move { turn.arrivals(per_second).await });
            }
        }
        let mut background = JoinSet::new();
        for chat in 0..if stage.workload == Workload::Mixed { stage.chats } else { 0 } {
            let (turn, stopped) = (turn.clone(), stopped.clone());
            background.spawn(async move { turn.chat_until(chat, stopped).await });
        }
        foreground.join_all().await;
        stop.send_replace(true);
        background.join_all().await;
    };
    let gather = async {
        let mut samples = Vec::new();
        while let Some(sample) = gathered.recv().await {
            note(&sample);
            samples.push(sample);
        }
        samples
    };
    let ((), samples) = tokio::join!(work, gather);
    Round { samples, wall: start.elapsed() }
}

impl<A: Answers> Turn<A> {
    /// One stream of a closed loop.
    async fn stream(&self, stream: usize, streams: usize) {
        if self.stage.workload.is_typing() {
            return self.developer(stream, streams).await;
        }
        while let Some(number) = self.take_number() {
            let call = self.stage.calls.single(self.kind(), self.number, stream, number);
            self.single(&call, Instant::now()).await;
        }
    }

    /// Burst after burst, with a pause between them.
    async fn developer(&self, developer: usize, developers: usize) {
        let mut begun = 0;
        let mut start = Instant::now();
        loop {
            let is_over = match self.amount {
                Amount::Requests(requests) => {
                    begun >= requests / developers + usize::from(developer < requests % developers)
                }
                Amount::Duration(duration) => self.start.elapsed() >= duration,
            };
            if is_over {
                return;
            }
            begun += 1;
            self.burst(developer, start).await;
            start = Instant::now() + self.stage.typing.gap;
        }
    }

    /// Chat after chat, until the typing beside them is over.
    async fn chat_until(&self, stream: usize, mut stopped: watch::Receiver<bool>) {
        for asked in 0.. {
            // Streams count in strides: no two ask the same.
            let number = stream + asked * self.stage.chats;
            let call = self.stage.calls.single(Kind::Chat, self.number, stream, number);
            let over = async { drop(stopped.wait_for(|is_over| *is_over).await) };
            let sample = self.ask(&call, Instant::now(), over).await;
            let is_failed = matches!(sample.outcome, Outcome::Failed(_));
            if sample.outcome == Outcome::Cancelled {
                return self.put(Sample { outcome: Outcome::Cut, ..sample }).await;
            }
            self.put(sample).await;
            if is_failed {
                // A server that refuses at once would be asked as fast as the wire allows.
                tokio::time::sleep(self.stage.typing.gap).await;
            }
        }
    }

    /// Everything that begins in an open loop.
    async fn arrivals(self: Arc<Self>, per_second: f64) {
        let mut running = JoinSet::new();
        let free = Arc::new(Mutex::new((0..DEVELOPERS).collect::<VecDeque<usize>>()));
        let mut developers = DEVELOPERS;
        for (number, seconds) in self.stage.calls.arrivals(self.number, per_second).enumerate() {
            let is_over = match self.amount {
                Amount::Requests(requests) => number >= requests,
                Amount::Duration(duration) => seconds >= duration.as_secs_f64(),
            };
            if is_over {
                break;
            }
            let intended = self.start + Duration::from_secs_f64(seconds);
            sleep_until(intended).await;
            while let Some(done) = running.try_join_next() {
                done.expect("requests do not panic");
            }
            if running.len() >= WAITING_MAX {
                self.put(self.unsent(intended)).await;
                continue;
            }
            let turn = self.clone();
            if self.stage.workload.is_typing() {
                // Nobody types in two places: who is busy is passed over, and if all are, somebody new comes.
                let developer = locked(&free).pop_front().unwrap_or_else(|| {
                    developers += 1;
                    developers - 1
                });
                let free = free.clone();
                running.spawn(async move {
                    turn.burst(developer, intended).await;
                    locked(&free).push_back(developer);
                });
            } else {
                running.spawn(async move {
                    let call = turn.stage.calls.single(turn.kind(), turn.number, number % DEVELOPERS, number);
                    turn.single(&call, intended).await;
                });
            }
        }
        running.join_all().await;
    }

    /// Keys one by one, each at its moment whatever became of the one before.
    async fn burst(&self, developer: usize, start: Instant) {
        let number = self.stage.bursts[developer].fetch_add(1, Ordering::Relaxed);
        let calls = self.stage.calls.burst(developer, number);
        let pauses = self.stage.calls.pauses(developer, number);
        let last = calls.len() - 1;
        let mut at = start;
        for (index, (call, pause)) in calls.iter().zip(pauses).enumerate() {
            sleep_until(at).await;
            if index == last {
                return self.single(call, at).await;
            }
            let next = at + self.stage.typing.gap.mul_f64(pause);
            let sample = self.ask(call, at, sleep_until(next)).await;
            let outcome = match sample.outcome {
                Outcome::Answered => Outcome::AnsweredEarly,
                other => other,
            };
            self.put(Sample { outcome, ..sample }).await;
            at = next;
        }
    }

    async fn single(&self, call: &Call, intended: Instant) {
        let sample = self.ask(call, intended, std::future::pending()).await;
        self.put(sample).await;
    }

    /// Asks until there is an answer or `give_up` is over.
    async fn ask(&self, call: &Call, intended: Instant, give_up: impl Future<Output = ()>) -> Sample {
        let lag = intended.elapsed();
        let mut trace = Trace::default();
        let is_over = tokio::select! {
            biased;
            () = self.stage.answers.answer(call, &mut trace) => true,
            () = give_up => false,
        };
        let outcome = match trace.failure {
            _ if !is_over => Outcome::Cancelled,
            Some(failure) => Outcome::Failed(failure),
            None => Outcome::Answered,
        };
        Sample {
            kind: call.kind,
            intended: intended - self.start,
            lag,
            texts: trace.texts.iter().map(|at| *at - intended).collect(),
            end: intended.elapsed(),
            counts: trace.counts,
            outcome,
        }
    }

    fn unsent(&self, intended: Instant) -> Sample {
        Sample {
            kind: self.kind(),
            intended: intended - self.start,
            lag: Duration::ZERO,
            texts: Vec::new(),
            end: Duration::ZERO,
            counts: Counts::default(),
            outcome: Outcome::Failed(Failure::NotSent { waiting_max: WAITING_MAX }),
        }
    }

    async fn put(&self, sample: Sample) {
        // The other side gathers until every sender is gone; where it is gone itself, nobody wants the sample.
        drop(self.samples.send(sample).await);
    }

    /// The number of the next request of a closed loop, while there is one.
    fn take_number(&self) -> Option<usize> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let is_wanted = match self.amount {
            Amount::Requests(requests) => number < requests,
            Amount::Duration(duration) => self.start.elapsed() < duration,
        };
        is_wanted.then_some(number)
    }

    fn kind(&self) -> Kind {
        match self.stage.workload {
            Workload::Completion => Kind::Completion,
            Workload::Chat => Kind::Chat,
            Workload::Typing | Workload::Mixed => Kind::Key,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
