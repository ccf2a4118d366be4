//! A GPU as a platform: bandwidth by copying buffers that no cache holds, arithmetic by the product of large matrices in
//! the way that prompts take on this device. Times are the device's own, between events of its stream.

use super::bound::Traffic;
use super::error::BenchError;
use super::model::Model;
use super::platform::{Ceilings, DeviceInfo, Loaded, Platform, Rate, Room, StepTimes, TimedRunner};
use super::report::median;
use crate::engine::{GpuLimits, GpuRunner, GpuTimes};
use crate::nn::{self, GpuDecoder, GpuLoad};
use half::bf16;
use kernels::gpu::{
    DeviceMatrix, Gpu, GpuError, LinearScratch, Reductions, SourceRows, SourceType, WeightFormat, convert_rows, linear,
};

/// Rows of noise that a matrix is filled with over and over.
const NOISE_ROWS: usize = 64;

/// How much to measure of the device itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuEffort {
    /// Size of the buffers that are copied; well above the last cache.
    pub copy_bytes: usize,
    /// Rows and columns of the matrices that are multiplied.
    pub product_width: usize,
    /// Copies, and products, of which the median is taken.
    pub repeats: usize,
}

impl Default for GpuEffort {
    fn default() -> Self {
        Self { copy_bytes: 1 << 30, product_width: 8192, repeats: 20 }
    }
}

pub struct GpuPlatform {
    gpu: Gpu,
    reductions: Reductions,
    effort: GpuEffort,
}

impl GpuPlatform {
    /// `reductions` are those of the model; the device is measured at its fastest.
    pub fn new(gpu: Gpu, reductions: Reductions, effort: GpuEffort) -> Self {
        Self { gpu, reductions, effort }
    }

    /// Bytes a second, read and written ones together.
    fn copy_rate(&self) -> Result<Option<f64>, GpuError> {
        let gpu = &self.gpu;
        // The buffers are gone before the model is loaded, but a small device must have room for them too.
        let bytes = self.effort.copy_bytes.min(gpu.memory_free()? / 4);
        let (mut from, mut to) = (gpu.uninitialised::<u8>(bytes)?, gpu.uninitialised::<u8>(bytes)?);
        gpu.fill_bytes(&mut from, 0x5a)?;
        self.rate(2.0 * bytes as f64, || gpu.copy(&from, &mut to))
    }

    /// Operations a second of a product in bf16.
    fn product_rate(&self) -> Result<Option<f64>, GpuError> {
        let (gpu, width) = (&self.gpu, self.effort.product_width);
        // Noise, because a GPU that multiplies zeros draws less power and runs faster than it would with anything else.
        let noise = noise(NOISE_ROWS.min(width) * width);
        let noise_bytes: Vec<u8> = noise.iter().flat_map(|value| value.to_le_bytes()).collect();
        let on_device = gpu.upload(&noise_bytes)?;
        let mut matrix = DeviceMatrix::zeroed(gpu, WeightFormat::Bf16, width, width)?;
        let mut x = gpu.uninitialised::<bf16>(width * width)?;
        for first_row in (0..width).step_by(NOISE_ROWS) {
            let rows = NOISE_ROWS.min(width - first_row);
            let source = SourceRows { values: &on_device, start: 0, source_type: SourceType::Bf16, rows };
            convert_rows(gpu, source, &mut matrix, first_row)?;
            gpu.write(&mut x, first_row * width, &noise[..rows * width])?;
        }
        let mut out = gpu.uninitialised::<f32>(width * width)?;
        let mut scratch = LinearScratch::new(gpu, Reductions::Fastest, [])?;
        self.rate(2.0 * (width as f64).powi(3), || linear(&mut scratch, &matrix, &x, width, &mut out))
    }

    /// `amount` over the median of the times that `submit` takes. All are submitted before the first is waited for, so
    /// that the device does not wait between them; one more goes before them. `None` on a device without a clock.
    fn rate(&self, amount: f64, mut submit: impl FnMut() -> Result<(), GpuError>) -> Result<Option<f64>, GpuError> {
        submit()?;
        let mut events = vec![self.gpu.record()?];
        for _ in 0..self.effort.repeats.max(1) {
            submit()?;
            events.push(self.gpu.record()?);
        }
        let elapsed_ms = events.windows(2).map(|pair| pair[1].elapsed_ms(&pair[0]));
        let elapsed_ms: Option<Vec<f32>> = elapsed_ms.collect::<Result<_, _>>()?;
        Ok(elapsed_ms.and_then(|elapsed_ms| {
            let seconds = median(elapsed_ms.into_iter().map(|ms| f64::from(ms) / 1e3).collect());
            // Events are half a microsecond apart at least, or not apart: there is no rate of so little.
            (seconds > 0.0).then(|| amount / seconds)
        }))
    }

    fn limits(&self, room: &Room, format: WeightFormat) -> GpuLimits {
        GpuLimits {
            step_tokens_max: room.rows_max,
            running_max: room.running_max,
            context_tokens: room.context_tokens,
            num_blocks: room.blocks,
            format,
            reductions: self.reductions,
        }
    }
}

impl Platform for GpuPlatform {
    fn describe(&self) -> DeviceInfo {
        let info = self.gpu.info();
        let (major, minor) = (info.capability / 10, info.capability % 10);
        DeviceInfo {
            name: info.name.clone(),
            threads: None,
            instruction_set: format!("compute capability {major}.{minor}, CUDA {}", info.driver),
            is_batch_invariant: self.reductions == Reductions::Invariant,
        }
    }

    fn measure(&mut self, model: &Model) -> Result<Ceilings, BenchError> {
        // Asked first, because it is an error that needs no measuring.
        model.quantise.on_gpu()?;
        // Weights of every format are multiplied as bf16.
        let kind = if self.gpu.has_matrix_library() { "bf16 cuBLASLt" } else { "bf16 tiles" };
        Ok(Ceilings {
            bandwidth: Rate { per_second: self.copy_rate()?, kind: "copy" },
            arithmetic: Rate { per_second: self.product_rate()?, kind },
        })
    }

    fn load(&mut self, model: &Model, room: &Room, progress: &mut dyn FnMut(u64, u64)) -> Result<Loaded, BenchError> {
        let (gpu, spec) = (&self.gpu, &model.spec);
        let format = model.quantise.on_gpu()?;
        let needs = nn::plan_on_gpu(&model.checkpoint, spec, format)?;
        let limits = self.limits(room, format);
        let kv_bytes = ((room.blocks * kernels::gpu::BLOCK_TOKENS) as u64).saturating_mul(needs.kv_bytes_per_token);
        let workspace_bytes = GpuRunner::workspace_bytes(gpu, spec, &limits);
        let weights_bytes = needs.weights_bytes;
        let available_bytes = gpu.memory_free()? as u64;
        if weights_bytes.saturating_add(kv_bytes).saturating_add(workspace_bytes) > available_bytes {
            return Err(BenchError::Memory { weights_bytes, kv_bytes, workspace_bytes, available_bytes });
        }
        let options = GpuLoad { quantise: model.quantise, context_tokens: room.context_tokens };
        let decoder = GpuDecoder::load(gpu, &model.checkpoint, spec.clone(), &options, &mut |done_bytes| {
            progress(done_bytes, weights_bytes);
        })?;
        let mut runner = GpuRunner::new(gpu.clone(), decoder, &limits)?;
        runner.measure();
        Ok(Loaded {
            runner: Box::new(runner),
            parameters: needs.parameters,
            weights_bytes,
            traffic: Traffic { streamed_bytes: needs.streamed_bytes, kv_bytes_per_token: needs.kv_bytes_per_token },
            weight_type: format.to_string().to_uppercase(),
            kv_type: "BF16",
        })
    }
}

impl TimedRunner for GpuRunner {
    fn take_times(&mut self) -> Result<Option<StepTimes>, GpuError> {
        let GpuTimes { waited, busy } = GpuRunner::take_times(self)?;
        Ok(Some(StepTimes { waited, busy }))
    }
}

/// Numbers from -0.5 to 0.5 without a pattern, the same every time: the upper bits of a linear congruential generator
/// (Knuth's MMIX).
fn noise(values: usize) -> Vec<bf16> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bf16::from_f32((state >> 40) as f32 / (1 << 24) as f32 - 0.5)
    };
    std::iter::repeat_with(next).take(values).collect()
}
