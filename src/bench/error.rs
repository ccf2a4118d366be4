//! Why a bench was not begun, or did not come to its end.

use crate::arch::SpecError;
use crate::checkpoint::CheckpointError;
use crate::engine::{StepError, human};
use crate::nn::LoadError;
use crate::sampler::SampleError;
use kernels::gpu::GpuError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(
        "{what} of {asked_tokens} tokens was asked for, {model} is made for {model_tokens} ({flag} sets it{})",
        if *.steps > 0 { format!(", and {} steps come on top", .steps) } else { String::new() }
    )]
    ContextTooLong {
        what: &'static str,
        flag: &'static str,
        asked_tokens: usize,
        steps: usize,
        model: String,
        model_tokens: usize,
    },
    #[error("{what} is 0, at least 1 is needed")]
    Zero { what: &'static str },
    #[error("a batch of {asked} was asked for, sizes from 1 to {batch_max} are measured")]
    Batch { asked: usize, batch_max: usize },
    #[error(
        "the bench needs {} ({} weights, {} keys and values, {} workspace) and {} are available: take a smaller --batch \
         or --context, --quantize, or a smaller model",
        human(weights_bytes.saturating_add(*kv_bytes).saturating_add(*workspace_bytes)),
        human(*weights_bytes),
        human(*kv_bytes),
        human(*workspace_bytes),
        human(*available_bytes)
    )]
    Memory { weights_bytes: u64, kv_bytes: u64, workspace_bytes: u64, available_bytes: u64 },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{}: {source}", path.display())]
    Spec { path: PathBuf, source: Box<SpecError> },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("no key-value cache: {0}")]
    Cache(#[from] kernels::KvCacheError),
    #[error("the GPU cannot be used: {0}")]
    Gpu(#[from] GpuError),
    #[error("a step failed: {0}")]
    Step(#[from] StepError),
    #[error("a token could not be chosen: {0}")]
    Sample(#[from] SampleError),
    #[error("interrupted")]
    Interrupted,
}
