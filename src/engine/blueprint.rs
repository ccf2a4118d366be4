//! What a runner is made from: the model's files, its spec, the sizes of its steps, and the device. Kept, because a
//! device that has failed gets everything anew.

use super::gpu::{GpuLimits, GpuRunner};
use super::load::{BLOCK_TOKENS, LoadError};
use super::{CpuRunner, Restart, RestartPolicy, Runner};
use crate::checkpoint::Checkpoint;
use crate::device::{Device, GpuDevice};
use crate::nn::{self, Decoder, DecoderSpec, GpuLoad, Quantise, Workspace};
use kernels::gpu::{GpuError, Reductions};
use kernels::{KvCache, Pool};
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Blueprint {
    pub device: Device,
    pub checkpoint: Arc<Checkpoint>,
    pub spec: DecoderSpec,
    pub quantise: Quantise,
    pub step_tokens_max: usize,
    pub running_max: usize,
    pub context_tokens: usize,
    pub num_blocks: usize,
    pub is_batch_invariant: bool,
    pub speculates: bool,
}

/// Guessed tokens that a step on the CPU has room to verify. Each costs a row of logits in the workspace.
const STEP_DRAFTS_MAX: usize = 32;

/// Numbers of a model on its device.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    pub parameters: u64,
    pub weights_bytes: u64,
    pub kv_bytes_per_token: u64,
}

impl Blueprint {
    /// Weights and cache per token on this device.
    pub fn needs(&self) -> Result<Needs, nn::LoadError> {
        match &self.device {
            Device::Cpu(_) => {
                let nn::Needs { parameters, weights_bytes, kv_bytes_per_token, .. } =
                    nn::plan(&self.checkpoint, &self.spec, self.quantise)?;
                Ok(Needs { parameters, weights_bytes, kv_bytes_per_token })
            }
            Device::Gpu(_) => {
                let nn::GpuNeeds { parameters, weights_bytes, kv_bytes_per_token, .. } =
                    nn::plan_on_gpu(&self.checkpoint, &self.spec, self.quantise.on_gpu()?)?;
                Ok(Needs { parameters, weights_bytes, kv_bytes_per_token })
            }
        }
    }

    /// Everything a step writes besides the cache.
    pub fn workspace_bytes(&self) -> Result<u64, nn::LoadError> {
        Ok(match &self.device {
            Device::Cpu(_) => Workspace::bytes(&self.spec, self.step_tokens_max, self.sampled_rows_max()),
            Device::Gpu(gpu) => GpuRunner::workspace_bytes(gpu.first(), &self.spec, &self.gpu_limits()?),
        })
    }

    /// Allocates and reads the weights. `progress` gets the bytes of memory filled so far.
    pub fn runner(&self, progress: &mut dyn FnMut(u64)) -> Result<Box<dyn Runner>, LoadError> {
        match &self.device {
            Device::Cpu(pool) => self.on_cpu(pool, progress),
            Device::Gpu(gpu) => self.on_gpu(gpu, progress),
        }
    }

    /// Whether and how a runner is made again.
    pub fn restart(&self) -> Restart {
        match &self.device {
            Device::Cpu(_) => Restart::Never,
            Device::Gpu(_) => {
                let blueprint = self.clone();
                let make = Box::new(move || blueprint.runner(&mut |_| ()));
                Restart::With { make, policy: RestartPolicy::default() }
            }
        }
    }

    fn sampled_rows_max(&self) -> usize {
        self.running_max.saturating_add(if self.speculates { STEP_DRAFTS_MAX } else { 0 })
    }

    fn on_cpu(&self, pool: &Arc<Pool>, progress: &mut dyn FnMut(u64)) -> Result<Box<dyn Runner>, LoadError> {
        let Self { spec, step_tokens_max, running_max, .. } = self;
        let decoder = Decoder::load(&self.checkpoint, spec.clone(), self.quantise, progress)?;
        let cache = KvCache::new(spec.layers, self.num_blocks, BLOCK_TOKENS, spec.kv_heads, spec.head_dim)?;
        let workspace = Workspace::new(spec, *step_tokens_max, self.sampled_rows_max());
        Ok(Box::new(CpuRunner::new(decoder, Arc::clone(pool), cache, workspace, *running_max)))
    }

    fn on_gpu(&self, device: &GpuDevice, progress: &mut dyn FnMut(u64)) -> Result<Box<dyn Runner>, LoadError> {
        let options = GpuLoad { quantise: self.quantise, context_tokens: self.context_tokens };
        let limits = self.gpu_limits()?;
        let made = device.open().map_err(LoadError::from).and_then(|gpu| {
            let decoder = nn::GpuDecoder::load(&gpu, &self.checkpoint, self.spec.clone(), &options, progress)?;
            Ok(GpuRunner::new(gpu, decoder, &limits)?)
        });
        match made {
            Ok(runner) => Ok(Box::new(runner)),
            Err(LoadError::Gpu(source) | LoadError::Weights(nn::LoadError::Gpu(source)))
                if matches!(source, GpuError::OutOfMemory { .. }) =>
            {
                let weights_bytes = self.needs().map_or(0, |needs| needs.weights_bytes);
                let needed_bytes = weights_bytes.saturating_add(self.workspace_bytes()?);
                Err(LoadError::GpuMemory { needed_bytes, source })
            }
            Err(error) => Err(error),
        }
    }

    fn gpu_limits(&self) -> Result<GpuLimits, nn::LoadError> {
        Ok(GpuLimits {
            step_tokens_max: self.step_tokens_max,
            running_max: self.running_max,
            context_tokens: self.context_tokens,
            num_blocks: self.num_blocks,
            format: self.quantise.on_gpu()?,
            reductions: if self.is_batch_invariant { Reductions::Invariant } else { Reductions::Fastest },
        })
    }
}
