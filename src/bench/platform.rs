//! What a device has to offer to be measured: a runner, its own measured limits, and, where it can, the time that host
//! and device spent on each step.

use super::bound::Traffic;
use super::cpu::{CpuPlatform, Effort};
use super::error::BenchError;
use super::gpu::{GpuEffort, GpuPlatform};
use super::model::Model;
use crate::device::Device;
use crate::engine::{CpuRunner, Runner};
use kernels::gpu::{GpuError, Reductions};
use std::time::Duration;

/// A device that models can be measured on.
pub trait Platform {
    fn describe(&self) -> DeviceInfo;

    /// Measures the device. Called before a model is loaded, because it may need memory of its own.
    fn measure(&mut self, model: &Model) -> Result<Ceilings, BenchError>;

    /// Loads the model. `progress` gets the bytes filled so far, and those there will be.
    ///
    /// Errors if the room that is asked for does not fit.
    fn load(&mut self, model: &Model, room: &Room, progress: &mut dyn FnMut(u64, u64)) -> Result<Loaded, BenchError>;
}

/// The platform of a device. `reductions` are those of a GPU; a CPU has one order for all.
pub fn platform(device: Device, reductions: Reductions) -> Result<Box<dyn Platform>, BenchError> {
    match device {
        Device::Cpu(pool) => Ok(Box::new(CpuPlatform::new(pool, Effort::default()))),
        Device::Gpu(gpu) => Ok(Box::new(GpuPlatform::new(gpu.open()?, reductions, GpuEffort::default()))),
    }
}

/// What will be asked of a loaded model at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Blocks of the key-value cache, of [`crate::engine::BLOCK_TOKENS`] positions each.
    pub blocks: usize,
    /// Rows of one step.
    pub rows_max: usize,
    /// Sequences at once: rows of the state table, rows sampled in one step, blocks copied before one.
    pub running_max: usize,
    /// Positions of the longest sequence.
    pub context_tokens: usize,
}

/// A model on its device.
pub struct Loaded {
    pub runner: Box<dyn TimedRunner>,
    /// Weights and biases, a tied embedding counted once.
    pub parameters: u64,
    /// Memory of all weights.
    pub weights_bytes: u64,
    pub traffic: Traffic,
    /// What most weights are stored as.
    pub weight_type: String,
    /// What keys and values are stored as.
    pub kv_type: &'static str,
}

/// A runner that may know where the time of its steps went.
pub trait TimedRunner: Runner {
    /// Of the steps that were collected since this was asked last. `None` where host and device are one, so that there
    /// is nothing to tell apart.
    fn take_times(&mut self) -> Result<Option<StepTimes>, GpuError>;
}

/// Sums over steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTimes {
    /// For how long the host did nothing but wait for the device.
    pub waited: Duration,
    /// For how long the device computed; `None` on a device without a clock.
    pub busy: Option<Duration>,
}

impl TimedRunner for CpuRunner {
    fn take_times(&mut self) -> Result<Option<StepTimes>, GpuError> {
        Ok(None)
    }
}

/// What to call the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `cpu`, or as the driver calls it.
    pub name: String,
    /// Threads that share a step, where that is a choice.
    pub threads: Option<usize>,
    /// The instruction set or capability that the kernels use.
    pub instruction_set: String,
    /// Whether a sequence gets the same bits in any batch.
    pub is_batch_invariant: bool,
}

/// The rates that the device was measured to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Bytes.
    pub bandwidth: Rate,
    /// Operations of the kind that the weights ask for; a multiplication and an addition are two.
    pub arithmetic: Rate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// `None` on a device without a clock.
    pub per_second: Option<f64>,
    /// How it was measured: `read`, `copy`; `int8`, `f32`, `bf16` and what multiplied.
    pub kind: &'static str,
}
