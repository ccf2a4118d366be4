//! Layers: a decoder built from a [`DecoderSpec`], its weights, and the buffers its steps write.
//!
//! Knows `checkpoint`, where weights come from, and the operations of `kernels`. Must not know any architecture by name
//! (`arch` writes specs), nor requests, sequences or scheduling. candle converts weights while they are loaded; a step
//! reads packed matrices and writes into a [`Workspace`] that the caller owns.

mod block;
mod convert;
mod decoder;
mod error;
mod gpu;
mod linear;
mod names;
mod plan;
mod rope;
mod spec;
mod weights;
mod workspace;

pub use convert::Quantise;
pub use decoder::{Decoder, DecoderBatch};
pub use error::LoadError;
pub use gpu::{
    GpuDecoder, GpuLoad, GpuNeeds, GpuWorkspace, HostTables, StepLimits, StepShape, StepTables, TablesLayout,
    plan_on_gpu,
};
pub use linear::Linear;
pub use plan::{Needs, plan};
pub use rope::{Rope, RopeScaling, Yarn, YarnEdges};
pub use spec::{
    Activation, Attention, AttentionBias, DecoderSpec, Head, Mlp, MlpBias, Norm, QkNorm, RotaryRows, TensorNames,
    Window,
};
pub use workspace::Workspace;

#[cfg(test)]
mod tests;
