//! Models that run in this process: one thread owns each, speaks through bounded channels and answers with streams.
//!
//! Knows the rooms below it and joins them: `checkpoint` and `arch` say what a model is, `nn` computes, `scheduler`
//! decides, `sampler` chooses, `tokenizer` speaks. Must not know of HTTP, of wire formats, or of who is asking.

mod batch;
mod cpu;
#[cfg(test)]
mod fake;
mod handle;
mod load;
mod memory;
mod metrics;
mod rendering;
mod runner;
mod speaker;
#[cfg(test)]
mod tests;
mod worker;

pub use batch::{Batch, EnteringRow, PackedChunk, RowInput, SampledRow};
pub use cpu::CpuRunner;
pub use handle::{DefaultDeadlines, EngineHandle};
pub use load::{Abilities, EngineSettings, LoadError, LoadOptions, Plan, Progress, Source, load, plan};
pub use memory::{MemoryError, MemoryPlan, check_together, human};
pub use metrics::EngineMetrics;
pub use runner::{Collected, RowResult, Runner, StepError};

use crate::domain::{Generate, ModelInfo};
use crate::scheduler::Scheduler;
use crate::tokenizer::Renderer;
use handle::Shared;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Instant;
use worker::{Command, Worker};

/// Jobs that may lie between the callers and the engine's thread, which empties the channel once a step.
const COMMANDS_MAX: usize = 1024;

/// A loaded model and the thread that runs it.
pub struct Engine {
    handle: EngineHandle,
    memory: MemoryPlan,
    thread: Option<JoinHandle<()>>,
}

/// What a running engine is made of.
pub struct Parts {
    pub info: ModelInfo,
    pub renderer: Renderer,
    pub scheduler: Scheduler,
    pub block_tokens: usize,
    pub runner: Box<dyn Runner>,
    pub deadlines: DefaultDeadlines,
    pub metrics: EngineMetrics,
    pub memory: MemoryPlan,
}

impl Engine {
    /// Starts the thread. Errors if the operating system gives none.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        let started = Instant::now();
        let clock = Box::new(move || started.elapsed().as_micros() as u64);
        let tokenizer = Arc::clone(parts.renderer.tokenizer());
        let worker = Worker::new(
            parts.scheduler,
            parts.runner,
            receiver,
            tokenizer,
            worker::Settings { block_tokens: parts.block_tokens, metrics: parts.metrics, clock },
        );
        let name = format!("engine {}", parts.info.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
        let shared = Shared {
            info: parts.info,
            renderer: parts.renderer,
            commands: sender,
            commands_max: COMMANDS_MAX,
            deadlines: parts.deadlines,
            started,
        };
        Ok(Self { handle: EngineHandle { shared: Arc::new(shared) }, memory: parts.memory, thread: Some(thread) })
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

    /// False once the thread has ended, which without [`Engine::stop`] is a bug.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends what is still running with `ShuttingDown` and waits for the thread: at most one step.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A thread that has ended already receives nothing, and joining it says why.
            drop(self.handle.shared.commands.send(Command::Stop));
            if thread.join().is_err() {
                tracing::error!(model = self.info().name, "the engine's thread panicked");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}
