//! Why weights could not be turned into a decoder.

use kernels::MatrixError;
use kernels::gpu::GpuError;

use crate::checkpoint::{CheckpointError, TensorType};

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("tensor `{name}` is missing")]
    MissingTensor { name: String },
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("tensor `{name}` is stored as {found}, supported are {supported}")]
    UnsupportedType { name: String, found: TensorType, supported: &'static str },
    #[error("{count} tensors are not used by this architecture: {}", names.join(", "))]
    Unused { count: usize, names: Vec<String> },
    #[error("tensor `{name}`: {source}")]
    Matrix { name: String, source: MatrixError },
    #[error("weights cannot be quantised to {asked} on {device}: allowed are {allowed}; change --quantize or --device")]
    NotOnDevice { asked: &'static str, device: &'static str, allowed: &'static str },
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error("tensor `{name}` cannot be converted: {source}")]
    Convert { name: String, source: candle_core::Error },
}
