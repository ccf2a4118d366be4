//! The CPU as a platform: bandwidth by reading a buffer that no cache holds, arithmetic out of registers.

use super::bound::Traffic;
use super::error::BenchError;
use super::model::Model;
use super::platform::{Ceilings, DeviceInfo, Loaded, Platform, Rate, Room};
use super::report::median;
use crate::engine::{BLOCK_TOKENS, CpuRunner};
use crate::nn::{self, Decoder, Workspace};
use kernels::{KvCache, Pool, ceiling};
use std::sync::Arc;

/// How much to measure of the machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Size of the buffer that is read; well above the last cache.
    pub meter_bytes: usize,
    /// Samples of the arithmetic rate, under a millisecond each.
    pub rate_samples: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { meter_bytes: 1 << 30, rate_samples: 50 }
    }
}

pub struct CpuPlatform {
    pool: Arc<Pool>,
    effort: Effort,
}

impl CpuPlatform {
    pub fn new(pool: Arc<Pool>, effort: Effort) -> Self {
        Self { pool, effort }
    }
}

impl Platform for CpuPlatform {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo {
            name: "cpu".to_owned(),
            threads: Some(self.pool.threads().get()),
            instruction_set: self.pool.isa().name().to_owned(),
            is_batch_invariant: true,
        }
    }

    fn measure(&mut self, model: &Model) -> Result<Ceilings, BenchError> {
        let needs = nn::plan(&model.checkpoint, &model.spec, model.quantise)?;
        // The buffer is gone before the model is loaded, but a small machine must have room for it too.
        let spare_bytes = kernels::available_memory().map_or(u64::MAX, |bytes| bytes / 4);
        let meter_bytes = self.effort.meter_bytes.min(usize::try_from(spare_bytes).unwrap_or(usize::MAX));
        let meter = ceiling::Meter::new(meter_bytes);
        let read = median((0..meter.windows()).map(|window| meter.read(&self.pool, window)).collect());
        drop(meter);
        // Blocks of integers are multiplied as integers, all else as f32.
        let (kind, rate): (_, fn(&Pool) -> f64) = match kernels::quantises(needs.weight_type) {
            true => ("int8", ceiling::int8_rate),
            false => ("f32", ceiling::float_rate),
        };
        let arithmetic = median((0..self.effort.rate_samples.max(1)).map(|_| rate(&self.pool)).collect());
        Ok(Ceilings {
            bandwidth: Rate { per_second: Some(read), kind: "read" },
            arithmetic: Rate { per_second: Some(arithmetic), kind },
        })
    }

    fn load(&mut self, model: &Model, room: &Room, progress: &mut dyn FnMut(u64, u64)) -> Result<Loaded, BenchError> {
        let spec = &model.spec;
        let needs = nn::plan(&model.checkpoint, spec, model.quantise)?;
        let kv_bytes = ((room.blocks * BLOCK_TOKENS) as u64).saturating_mul(needs.kv_bytes_per_token);
        check_memory(&needs, kv_bytes, Workspace::bytes(spec, room.rows_max, room.running_max))?;
        let decoder = Decoder::load(&model.checkpoint, spec.clone(), model.quantise, &mut |done_bytes| {
            progress(done_bytes, needs.weights_bytes);
        })?;
        let cache = KvCache::new(spec.layers, room.blocks, BLOCK_TOKENS, spec.kv_heads, spec.head_dim)?;
        let workspace = Workspace::new(spec, room.rows_max, room.running_max);
        let runner = CpuRunner::new(decoder, Arc::clone(&self.pool), cache, workspace, room.running_max);
        Ok(Loaded {
            runner: Box::new(runner),
            parameters: needs.parameters,
            weights_bytes: needs.weights_bytes,
            traffic: Traffic { streamed_bytes: needs.streamed_bytes, kv_bytes_per_token: needs.kv_bytes_per_token },
            weight_type: needs.weight_type.name().to_owned(),
            kv_type: "F32",
        })
    }
}

fn check_memory(needs: &nn::Needs, kv_bytes: u64, workspace_bytes: u64) -> Result<(), BenchError> {
    let weights_bytes = needs.weights_bytes;
    let needed = weights_bytes.saturating_add(kv_bytes).saturating_add(workspace_bytes);
    match kernels::available_memory() {
        Some(available_bytes) if needed > available_bytes => {
            Err(BenchError::Memory { weights_bytes, kv_bytes, workspace_bytes, available_bytes })
        }
        _ => Ok(()),
    }
}
