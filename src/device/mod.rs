//! Which device computes: the threads of the CPU, or one GPU. Whether this build has GPU support is decided in
//! `kernels`, which opens the driver at run time; nothing here or above is compiled differently.
//!
//! Knows nobody.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kernels::Pool;
use kernels::gpu::{Gpu, GpuError};

/// What computes the steps of models.
#[derive(Clone)]
pub enum Device {
    /// Models share the threads.
    Cpu(Arc<Pool>),
    /// Each model opens it for itself.
    Gpu(GpuDevice),
}

/// A GPU that can be opened, and opened again after it has failed.
#[derive(Clone)]
pub struct GpuDevice {
    open: Arc<dyn Fn() -> Result<Gpu, GpuError> + Send + Sync>,
    /// Opened first, for what has to be known before a model is loaded.
    first: Gpu,
}

/// Which device is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A GPU where there is one, the CPU elsewhere.
    Auto,
    Cpu,
    Cuda {
        ordinal: usize,
    },
}

/// Why the CPU computes where a GPU would have been taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing is missing: this build or this machine has no GPU.
    NoGpu { reason: GpuError },
    /// There is a driver or a GPU, and it cannot be used.
    Unusable { reason: GpuError },
}

impl Device {
    /// Opens what is wanted. For [`Wanted::Auto`] a GPU that cannot be had is no error: the CPU is taken, and the reason
    /// comes with it.
    pub fn open(wanted: Wanted, threads: NonZeroUsize) -> Result<(Self, Option<Fallback>), GpuError> {
        let cpu = || Self::Cpu(Arc::new(Pool::new(threads)));
        match wanted {
            Wanted::Cpu => Ok((cpu(), None)),
            Wanted::Cuda { ordinal } => Ok((Self::Gpu(GpuDevice::cuda(ordinal)?), None)),
            Wanted::Auto => match GpuDevice::cuda(0) {
                Ok(gpu) => Ok((Self::Gpu(gpu), None)),
                Err(reason @ (GpuError::NotBuilt | GpuError::NoDriver | GpuError::NoDevice { .. })) => {
                    Ok((cpu(), Some(Fallback::NoGpu { reason })))
                }
                Err(reason) => Ok((cpu(), Some(Fallback::Unusable { reason }))),
            },
        }
    }

    /// Whether it is a GPU.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        matches!(self, Self::Gpu(_))
    }

    /// Bytes that are free for models, where the device says so.
    #[must_use]
    pub fn available_memory(&self) -> Option<u64> {
        match self {
            Self::Cpu(_) => kernels::available_memory(),
            Self::Gpu(gpu) => gpu.first.memory_free().ok().map(|bytes| bytes as u64),
        }
    }
}

impl GpuDevice {
    /// The CUDA device with this number.
    pub fn cuda(ordinal: usize) -> Result<Self, GpuError> {
        Self::new(move || Gpu::cuda(ordinal))
    }

    /// Whatever `open` opens; it is opened once here, to ask what it is and what is free on it.
    pub fn new(open: impl Fn() -> Result<Gpu, GpuError> + Send + Sync + 'static) -> Result<Self, GpuError> {
        Ok(Self { first: open()?, open: Arc::new(open) })
    }

    /// Opens it: a stream of its own, and nothing left of what failed before.
    pub fn open(&self) -> Result<Gpu, GpuError> {
        (self.open)()
    }

    /// The handle that was opened first: to ask, not to compute.
    #[must_use]
    pub fn first(&self) -> &Gpu {
        &self.first
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu(pool) => write!(f, "cpu, {} threads", pool.threads()),
            Self::Gpu(gpu) => {
                let info = gpu.first.info();
                let gigabytes = info.memory_bytes as f64 / (1_u64 << 30) as f64;
                write!(f, "{}, {gigabytes:.0} GiB, CUDA {}", info.name, info.driver)
            }
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_the_cpu_computes_unless_the_gpu_was_demanded() {
        let threads = NonZeroUsize::new(3).expect("three");
        let (device, fallback) = Device::open(Wanted::Cpu, threads).expect("the CPU is always there");
        assert_eq!((device.to_string().as_str(), fallback), ("cpu, 3 threads", None));
        if Gpu::cuda(0).is_ok() {
            return;
        }
        let (device, fallback) = Device::open(Wanted::Auto, threads).expect("the CPU is always there");
        assert!(!device.is_gpu() && fallback.is_some());
        let error = Device::open(Wanted::Cuda { ordinal: 0 }, threads).expect_err("demanded");
        assert!(error.to_string().contains("--features cuda") || error.to_string().contains("driver"), "{error}");
    }
}
