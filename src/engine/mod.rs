//! Models that run in this process: one thread owns each, speaks through bounded channels and answers with streams.
//!
//! Knows the rooms below it and joins them: `checkpoint` and `arch` say what a model is, `nn` computes, `scheduler`
//! decides, `sampler` chooses, `tokenizer` speaks. Must not know of HTTP, of wire formats, or of who is asking.

mod answers;
mod batch;
mod blueprint;
mod cpu;
#[cfg(test)]
mod fake;
mod gpu;
mod handle;
mod health;
mod load;
mod memory;
mod metrics;
mod rendering;
mod restart;
mod retry;
mod runner;
mod speaker;
mod speculation;
mod supervisor;
#[cfg(test)]
mod tests;
mod worker;

pub use batch::{Batch, EnteringRow, PackedChunk, RowInput, RowSource, SampledRow};
pub use cpu::CpuRunner;
pub use gpu::{GpuLimits, GpuRunner, GpuTimes, LOGIT_BIASES_MAX};
pub use handle::{DefaultDeadlines, EngineHandle};
pub use health::{EngineHealth, HealthFeed};
pub use load::{
    Abilities, BLOCK_TOKENS, EngineSettings, KvMemory, LoadError, LoadOptions, Plan, Progress, Source, load, open,
    plan, start,
};
pub use memory::{MemoryError, MemoryKind, MemoryPlan, check_together, human};
pub use metrics::EngineMetrics;
pub use restart::{Restart, RestartPolicy};
pub use runner::{Collected, MakeRunner, RowResult, Runner, StepError};

use crate::domain::{Generate, ModelInfo};
use crate::scheduler::Scheduler;
use crate::tokenizer::Renderer;
use handle::Shared;
use health::{DeathNotice, HealthCell};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use supervisor::{Reports, Supervisor};
use worker::{Command, Worker};

/// Jobs that may lie between the callers and the engine's thread, which empties the channel once a step.
const COMMANDS_MAX: usize = 1024;

/// How long an engine that is told to stop may take. A step of a large model on a CPU takes seconds; a device that
/// hangs would take for ever, and must not keep the process from ending.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Between attempts to tell a thread to stop whose channel is full.
const STOP_RETRY: Duration = Duration::from_millis(5);

/// A loaded model and the thread that runs it.
pub struct Engine {
    handle: EngineHandle,
    memory: MemoryPlan,
    thread: Option<Running>,
}

/// The thread, and a channel that closes when it ends.
struct Running {
    thread: JoinHandle<()>,
    ended: Receiver<()>,
}

/// What a running engine is made of.
pub struct Parts {
    pub info: ModelInfo,
    pub renderer: Renderer,
    pub scheduler: Scheduler,
    pub block_tokens: usize,
    /// Guessed tokens that one step may verify; 0 guesses nothing.
    pub step_drafts_max: usize,
    pub runner: Box<dyn Runner>,
    pub restart: Restart,
    pub deadlines: DefaultDeadlines,
    pub metrics: EngineMetrics,
    pub memory: MemoryPlan,
}

impl Engine {
    /// Starts the threads. Errors if the operating system gives none.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        let started = Instant::now();
        let clock = Box::new(move || started.elapsed().as_micros() as u64);
        let tokenizer = Arc::clone(parts.renderer.tokenizer());
        let health = HealthCell::new(parts.metrics.healthy.clone());
        let reports = Reports {
            model: parts.info.name.clone(),
            health: health.clone(),
            restarts: parts.metrics.restarts.clone(),
            started,
        };
        let device = Supervisor::new(parts.runner, parts.restart, reports)?;
        let settings = worker::Settings {
            block_tokens: parts.block_tokens,
            step_drafts_max: parts.step_drafts_max,
            vocab_size: parts.info.vocab_size,
            metrics: parts.metrics,
            clock,
        };
        let worker = Worker::new(parts.scheduler, device, receiver, tokenizer, settings);
        let name = format!("engine {}", parts.info.name);
        let notice = DeathNotice { model: parts.info.name.clone(), health: health.clone() };
        let (ending, ended) = sync_channel(0);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _ending: std::sync::mpsc::SyncSender<()> = ending;
            let _notice = notice;
            worker.run();
        })?;
        let shared = Shared {
            info: parts.info,
            renderer: parts.renderer,
            commands: sender,
            commands_max: COMMANDS_MAX,
            deadlines: parts.deadlines,
            started,
            health,
        };
        let thread = Some(Running { thread, ended });
        Ok(Self { handle: EngineHandle { shared: Arc::new(shared) }, memory: parts.memory, thread })
    }

    pub fn info(&self) -> &ModelInfo {
        &self.handle.shared.info
    }

    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    /// The lane to give to callers.
    pub fn handle(&self) -> Arc<dyn Generate> {
        Arc::new(self.handle.clone())
    }

    /// How it stands at this moment.
    pub fn health(&self) -> EngineHealth {
        self.handle.shared.health.get()
    }

    /// For who wants to be told when that changes.
    pub fn health_feed(&self) -> HealthFeed {
        self.handle.shared.health.feed(&self.info().name)
    }

    /// Ends what is still running with `ShuttingDown` and waits for the thread: at most one step, and not for ever.
    pub fn stop(mut self) {
        self.end(STOP_MAX);
    }

    fn end(&mut self, stop_max: Duration) {
        let Some(Running { thread, ended }) = self.thread.take() else { return };
        let give_up = Instant::now() + stop_max;
        while let Err(TrySendError::Full(_)) = self.handle.shared.commands.try_send(Command::Stop) {
            if Instant::now() >= give_up {
                break;
            }
            std::thread::sleep(STOP_RETRY);
        }
        let left = give_up.saturating_duration_since(Instant::now());
        if ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(model = self.info().name, "the engine's thread hangs in its device and is left behind");
            return;
        }
        // A thread that has ended already receives nothing, and joining it says why.
        if thread.join().is_err() {
            tracing::error!(model = self.info().name, "the engine's thread panicked");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end(STOP_MAX);
    }
}
