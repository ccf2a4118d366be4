//! Benches of the product itself: how fast a model computes on this machine, next to what the machine could do.
//!
//! Drives the engine's own [`crate::engine::Runner`] with batches made by hand, so that what is measured is what serves. A
//! [`Platform`] loads a model on a device and measures the device; a [`Report`] holds what came out, and is written as a
//! table or as JSON by code that measures nothing. Must not know of the command line, or of tokenizers: what the tokens say
//! does not matter here. Servers are measured from outside, by [`serve`]; the rest must not know of HTTP.

mod bound;
mod cpu;
mod error;
mod gpu;
mod json;
mod machine;
mod measure;
mod model;
mod platform;
mod report;
pub mod serve;
mod settings;
mod shapes;
#[cfg(test)]
mod tests;
mod text;
mod workload;

pub use bound::{Bound, BoundBy, Traffic, Work};
pub use cpu::{CpuPlatform, Effort};
pub use error::BenchError;
pub use gpu::{GpuEffort, GpuPlatform};
pub use json::report_json;
pub use machine::Machine;
pub use measure::{Stage, Watch, run};
pub use model::{Model, Weights};
pub use platform::{Ceilings, DeviceInfo, Loaded, Platform, Rate, Room, StepTimes, TimedRunner, platform};
pub use report::{Decoded, ModelReport, Prefilled, Reached, Report, Spread};
pub use settings::{BATCH_MAX, Settings};
pub use shapes::{SHAPES, Shape};
pub use text::report_text;
