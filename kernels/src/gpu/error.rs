//! Why a device did not do what it was asked.

/// A failure of the device, its driver or its memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    #[error("this build has no GPU support: build with `--features cuda`")]
    NotBuilt,
    #[error(
        "no NVIDIA driver was found: libcuda.so.1 cannot be opened; install the driver (580 or newer) or, in a container, \
         start it with access to the GPU"
    )]
    NoDriver,
    #[error(
        "the driver supports CUDA {found}, kernels of this build need {needed}: update the NVIDIA driver to 580 or newer"
    )]
    OldDriver { found: String, needed: String },
    #[error("there is no GPU {ordinal}: the driver shows {count}")]
    NoDevice { ordinal: usize, count: usize },
    #[error("{name} has compute capability {found}, kernels of this build are made for {built}")]
    UnsupportedDevice { name: String, found: String, built: String },
    #[error("no GPU memory for {bytes} bytes: {free_bytes} of {total_bytes} are free")]
    OutOfMemory { bytes: usize, free_bytes: usize, total_bytes: usize },
    #[error("no page-locked host memory for {bytes} bytes")]
    OutOfHostMemory { bytes: usize },
    #[error("{call} failed: {message}")]
    Call { call: &'static str, message: String },
    #[error("there is no kernel `{name}` in this build")]
    UnknownKernel { name: &'static str },
    #[error("kernel `{name}`: {message}")]
    Kernel { name: &'static str, message: String },
}
