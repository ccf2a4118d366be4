//! What the tests of operations on an emulated GPU share.

use half::bf16;

use super::Gpu;

/// Emulated devices that differ in the order of blocks and threads.
pub fn gpus() -> [Gpu; 2] {
    [1, 2].map(Gpu::emulated)
}

pub fn floats(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

pub fn bf16s(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|value| bf16::from_f32(*value)).collect()
}

/// How far a bf16 may lie from what it should be, relative: a unit of its last place, for a sum that fell on the other
/// side of a rounding boundary.
pub const BF16_ULP: f32 = 1.0 / 128.0;
