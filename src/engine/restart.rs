//! Whether and when a failed device is tried again, and the thread that tears down old runners and makes new ones.
//!
//! The old runner is dropped before the next one is made: two copies of the weights need not fit the device.

use super::runner::{MakeRunner, Runner, panic_message};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// Whether an engine whose device fails comes back.
pub enum Restart {
    /// The first fatal error is the last: for a device that has none, as the CPU.
    Never,
    With {
        make: MakeRunner,
        policy: RestartPolicy,
    },
}

/// How often and how soon. Failures of a running device and of attempts to restart it count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Before the attempt that follows the first failure; each further failure doubles it.
    pub wait_first: Duration,
    pub wait_max: Duration,
    /// This many failures, with no long health between them, are enough to give up.
    pub failures_max: u32,
    /// Health of this length makes earlier failures forgotten.
    pub forgive_after: Duration,
}

/// Waits of 1, 2, 4 … 60 s: some four minutes, besides the attempts themselves, until the tenth failure ends it.
impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            wait_first: Duration::from_secs(1),
            wait_max: Duration::from_secs(60),
            failures_max: 10,
            forgive_after: Duration::from_secs(600),
        }
    }
}

impl RestartPolicy {
    /// Before the attempt that follows this many failures.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.wait_first.saturating_mul(1 << doublings).min(self.wait_max)
    }
}

/// Where old runners end and new ones are made, which may take long, or for ever where a driver hangs: nobody waits
/// for it, and it ends after the engine.
pub(super) enum Workshop {
    None,
    Thread { orders: SyncSender<Order>, made: Receiver<Result<Box<dyn Runner>, String>> },
}

pub(super) enum Order {
    Discard(Box<dyn Runner>),
    Make,
}

pub(super) enum Made {
    NotYet,
    Runner(Box<dyn Runner>),
    Failed(String),
}

impl Workshop {
    /// At most a runner to discard and one to make are on order at a time.
    const ORDERS_MAX: usize = 2;

    pub(super) fn open(make: MakeRunner, depth: usize, model: &str) -> std::io::Result<Self> {
        let (orders, ordered) = sync_channel(Self::ORDERS_MAX);
        let (finished, made) = sync_channel(1);
        let name = format!("restart {model}");
        std::thread::Builder::new().name(name).spawn(move || work(make, depth, &ordered, &finished))?;
        Ok(Self::Thread { orders, made })
    }

    pub(super) fn can_make(&self) -> bool {
        matches!(self, Self::Thread { .. })
    }

    /// Without a thread the runner ends here: it then has no device that could hang.
    pub(super) fn discard(&self, runner: Box<dyn Runner>) {
        match self {
            Self::None => take_down(runner),
            Self::Thread { orders, .. } => drop(orders.try_send(Order::Discard(runner))),
        }
    }

    /// Whether it could be taken shows in [`Workshop::made`].
    pub(super) fn order(&self) {
        if let Self::Thread { orders, .. } = self {
            drop(orders.try_send(Order::Make));
        }
    }

    pub(super) fn made(&self) -> Made {
        let gone = || Made::Failed("there is no thread for restarts".to_owned());
        let Self::Thread { made, .. } = self else { return gone() };
        match made.try_recv() {
            Ok(Ok(runner)) => Made::Runner(runner),
            Ok(Err(reason)) => Made::Failed(reason),
            Err(TryRecvError::Empty) => Made::NotYet,
            Err(TryRecvError::Disconnected) => gone(),
        }
    }
}

fn work(
    mut make: MakeRunner,
    depth: usize,
    orders: &Receiver<Order>,
    made: &SyncSender<Result<Box<dyn Runner>, String>>,
) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Discard(runner) => take_down(runner),
            Order::Make => {
                if made.send(attempt(&mut make, depth)).is_err() {
                    return;
                }
            }
        }
    }
}

fn take_down(runner: Box<dyn Runner>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(runner))) {
        tracing::warn!(reason = panic_message(&*panic), "a failed runner could not be taken down cleanly");
    }
}

fn attempt(make: &mut MakeRunner, depth: usize) -> Result<Box<dyn Runner>, String> {
    // What a panic leaves half done is the maker's own, which starts anew each time.
    let made = catch_unwind(AssertUnwindSafe(make));
    let runner =
        made.map_err(|panic| format!("a panic: {}", panic_message(&*panic)))?.map_err(|error| error.to_string())?;
    match runner.depth() {
        got if got == depth => Ok(runner),
        got => Err(format!("the new runner has depth {got}, the first had {depth}")),
    }
}
