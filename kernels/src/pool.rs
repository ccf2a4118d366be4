//! Persistent worker threads with fork and join, for the operations of a step.
//!
//! A decoding step is hundreds of joins of some ten microseconds each, so workers spin for a short while before they
//! park, tasks are claimed one by one from a counter, and the caller works too. The caller waits only for the workers
//! that entered the job: a worker that the operating system has put aside delays nobody, the others do its share.
//! Results may not depend on who computed which task; every operation of this crate keeps to that.

use crate::simd::Isa;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Pauses of an idle worker before it parks: about 0.1 ms, longer than the gaps inside a step.
const SPINS_BEFORE_PARK: usize = 2000;
/// Pauses of a caller that waits for the last worker before it offers its core to others.
const SPINS_BEFORE_YIELD: usize = 500;

/// State word: generation in the upper half, then one bit "open", then the number of workers inside the job.
const OPEN: u64 = 1 << 31;
const ACTIVE: u64 = OPEN - 1;
const GENERATION: u64 = 1 << 32;

thread_local! {
    /// Whether this thread runs a task at the moment: a nested `run` then works through its tasks in place.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

type Task = dyn Fn(usize) + Sync;

/// Worker threads that share the tasks of one job after the other.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
    threads: NonZeroUsize,
    isa: Isa,
}

impl Pool {
    /// Starts `threads - 1` workers; the thread that calls [`Pool::run`] is the last one.
    ///
    /// Panics if the operating system refuses a thread.
    pub fn new(threads: NonZeroUsize) -> Pool {
        Pool::with_isa(threads, Isa::detect())
    }

    /// As [`Pool::new`], with operations held to one instruction set: for tests and benches.
    pub fn with_isa(threads: NonZeroUsize, isa: Isa) -> Pool {
        let shared = Arc::new(Shared::default());
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("kernels-{index}"));
            builder.spawn(move || shared.work()).expect("the operating system starts a worker thread")
        };
        let workers = (1..threads.get()).map(start).collect();
        Pool { shared, workers, turn: Mutex::new(()), threads, isa }
    }

    pub fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// The instruction set that operations given this pool use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs `f(0)` to `f(tasks - 1)`, each once, and returns when all are done.
    ///
    /// Several threads may call it, one job runs at a time; called from inside a task it runs in place. If a task
    /// panics, the tasks nobody began are dropped and the panic goes on in the caller.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || IN_TASK.get() {
            (0..tasks).for_each(f);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let panicked = self.shared.run(tasks, f);
        drop(turn);
        if let Some(payload) = panicked {
            resume_unwind(payload);
        }
    }

    /// Splits `0..items` into ranges of at least `items_min` items, a few per thread, and runs `f(start, end)` on each.
    pub(crate) fn run_ranges(&self, items: usize, items_min: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        let ranges = (items / items_min.max(1)).clamp(1, self.threads.get() * 4);
        let length = items.div_ceil(ranges);
        self.run(ranges, &|range| {
            let start = (range * length).min(items);
            let end = (start + length).min(items);
            if start < end {
                f(start, end);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a task, so it ends without one.
            let _ended = worker.join();
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Job {
    tasks: usize,
    f: *const Task,
}

#[derive(Default)]
struct Shared {
    state: AtomicU64,
    next: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    parked: AtomicUsize,
    park: Mutex<()>,
    unpark: Condvar,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written only by the one caller that holds
// `Pool::turn`, while the state word says closed with nobody inside, and read only by threads that entered while it
// said open; entering and leaving are read-modify-writes of the state word that order the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is dereferenced only while the caller that owns the closure waits in `Shared::run`.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).field("parked", &self.parked).finish_non_exhaustive()
    }
}

impl Shared {
    fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) -> Option<Box<dyn Any + Send>> {
        // SAFETY: only the lifetime is erased; this function returns after every thread left the job, and no thread
        // enters it later, because the state word is closed by then.
        let f: *const Task = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Task>(f) };
        let job = Job { tasks, f };
        // SAFETY: the caller holds the turn, and the job before this one was closed and left by all (see `Sync`).
        unsafe { *self.job.get() = Some(job) };
        self.next.store(0, Ordering::Relaxed);
        let generation = self.state.load(Ordering::Relaxed) & !(OPEN | ACTIVE);
        self.state.store(generation.wrapping_add(GENERATION) | OPEN, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
        self.claim(job);
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.state.load(Ordering::Acquire) & ACTIVE != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Claims and runs tasks until none is left.
    fn claim(&self, job: Job) {
        let nested = IN_TASK.replace(true);
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= job.tasks {
                break;
            }
            // SAFETY: the closure outlives the job: `Shared::run` returns only when every thread left it.
            let f = unsafe { &*job.f };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(task))) {
                self.panicked.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
                self.next.store(job.tasks, Ordering::Relaxed);
            }
        }
        IN_TASK.set(nested);
    }

    fn work(&self) {
        let mut spins = 0;
        let mut seen = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let state = self.state.load(Ordering::SeqCst);
            let generation = state & !(OPEN | ACTIVE);
            if state & OPEN != 0 && generation != seen {
                let entered = self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
                if entered.is_ok() {
                    seen = generation;
                    // SAFETY: this thread entered an open job, so nobody writes `job` before it leaves again.
                    let job = unsafe { *self.job.get() };
                    self.claim(job.expect("an open job was stored before it was opened"));
                    self.state.fetch_sub(1, Ordering::AcqRel);
                    spins = 0;
                }
            } else if spins < SPINS_BEFORE_PARK {
                spins += 1;
                std::hint::spin_loop();
            } else {
                self.park(seen);
                spins = 0;
            }
        }
    }

    /// Sleeps until a job that this worker has not seen is open, or the pool stops.
    fn park(&self, seen: u64) {
        let mut guard = self.park.lock().unwrap_or_else(PoisonError::into_inner);
        self.parked.fetch_add(1, Ordering::SeqCst);
        loop {
            let state = self.state.load(Ordering::SeqCst);
            let is_open = state & OPEN != 0 && state & !(OPEN | ACTIVE) != seen;
            if is_open || self.stop.load(Ordering::SeqCst) {
                break;
            }
            guard = self.unpark.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.parked.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        let _guard = self.park.lock().unwrap_or_else(PoisonError::into_inner);
        self.unpark.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap())
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = pool(threads);
            for tasks in [0, 1, 2, 7, 100] {
                for _ in 0..200 {
                    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(tasks, &|task| {
                        counts[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} {tasks}");
                }
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = pool(4);
        for _ in 0..20 {
            let caught = catch_unwind(AssertUnwindSafe(|| pool.run(64, &|task| assert_ne!(task, 17))));
            assert!(caught.is_err());
            let done = AtomicUsize::new(0);
            pool.run(64, &|_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(done.load(Ordering::Relaxed), 64);
        }
    }

    #[test]
    fn nested_and_concurrent_callers_are_served() {
        let pool = pool(3);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(5, &|_| {
                            pool.run(3, &|_| {
                                done.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(done.load(Ordering::Relaxed), 4 * 100 * 5 * 3);
    }

    #[test]
    fn parked_workers_wake_up() {
        let pool = pool(2);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let done = AtomicUsize::new(0);
        pool.run(10, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }
}
