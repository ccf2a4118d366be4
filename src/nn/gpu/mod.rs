//! The same decoder on a GPU: built from the same [`DecoderSpec`] and the same names, computed by `kernels::gpu`.
//!
//! What differs from the CPU is where things lie. Queries, keys and values come from one fused matrix, so do gate and
//! up; weights are bf16, fp8 or int4 whatever the file stores; and what changes from step to step is read from device
//! memory ([`StepTables`]), so that a step can be recorded once and replayed.
//!
//! [`DecoderSpec`]: super::DecoderSpec

mod block;
mod decoder;
mod plan;
mod tables;
mod upload;
mod workspace;

pub use decoder::{GpuDecoder, GpuLoad};
pub use plan::{GpuNeeds, plan_on_gpu};
pub use tables::{HostTables, StepShape, StepTables, TablesLayout};
pub use workspace::{GpuWorkspace, StepLimits};
