//! What a runner is made from: the model's files, its spec, the sizes of its steps, and the device. Kept, because a
//! device that has failed gets everything anew.

use super::load::{BLOCK_TOKENS, LoadError};
use super::{CpuRunner, Restart, RestartPolicy, Runner};
use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::nn::{self, Decoder, DecoderSpec, Needs, Quantise, Workspace};
use kernels::gpu::GpuError;
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
}

impl Blueprint {
    /// Weights and cache per token on this device.
    pub fn needs(&self) -> Result<Needs, nn::LoadError> {
        match &self.device {
            Device::Cpu(_) => nn::plan(&self.checkpoint, &self.spec, self.quantise),
            Device::Gpu(_) => Err(nn::LoadError::Gpu(GpuError::NotBuilt)),
        }
    }

    /// Everything a step writes besides the cache.
    pub fn workspace_bytes(&self) -> u64 {
        match &self.device {
            Device::Cpu(_) => Workspace::bytes(&self.spec, self.step_tokens_max, self.running_max),
            Device::Gpu(_) => 0,
        }
    }

    /// Allocates and reads the weights. `progress` gets the bytes of memory filled so far.
    pub fn runner(&self, progress: &mut dyn FnMut(u64)) -> Result<Box<dyn Runner>, LoadError> {
        match &self.device {
            Device::Cpu(pool) => self.on_cpu(pool, progress),
            Device::Gpu(_) => Err(LoadError::Gpu(GpuError::NotBuilt)),
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

    fn on_cpu(&self, pool: &Arc<Pool>, progress: &mut dyn FnMut(u64)) -> Result<Box<dyn Runner>, LoadError> {
        let Self { spec, step_tokens_max, running_max, .. } = self;
        let decoder = Decoder::load(&self.checkpoint, spec.clone(), self.quantise, progress)?;
        let cache = KvCache::new(spec.layers, self.num_blocks, BLOCK_TOKENS, spec.kv_heads, spec.head_dim)?;
        let workspace = Workspace::new(spec, *step_tokens_max, *running_max);
        Ok(Box::new(CpuRunner::new(decoder, Arc::clone(pool), cache, workspace, *running_max)))
    }
}
