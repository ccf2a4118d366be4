//! The activation of a gated MLP: `silu(gate) * up` (arXiv:2002.05202).

use half::bf16;

use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;

const THREADS: usize = 256;
/// Values that a block takes: four per thread.
const BLOCK_VALUES: usize = 4 * THREADS;

/// `gated = gate / (1 + e^-gate) * up`, where a row of `gate_up` is the gate and then the up projection.
///
/// `gate_up: [rows, 2 * width]`, `gated: [rows, width]`; buffers may be longer. Panics if one is too short.
pub fn silu_mul(
    gpu: &Gpu,
    rows: usize,
    width: usize,
    gate_up: &Buffer<f32>,
    gated: &mut Buffer<bf16>,
) -> Result<(), GpuError> {
    let values = rows * width;
    assert!(gate_up.len() >= 2 * values && gated.len() >= values, "{rows} rows of {width}");
    if values == 0 {
        return Ok(());
    }
    let grid = [count(rows), count(width.div_ceil(BLOCK_VALUES)), 1];
    let launch = Launch { grid, block: [count(THREADS), 1, 1], shared_bytes: 0 };
    let arguments = [gate_up.argument(), gated.argument(), Argument::U32(count(width))];
    // SAFETY: the arguments are those of the kernel, which touches `rows` rows, checked above.
    unsafe { gpu.launch("silu_mul", launch, &arguments) }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16_ULP, floats, gpus};
    use crate::reference::silu_mul as reference;
    use crate::testing::{assert_close, random_floats};

    fn check(rows: usize, width: usize, gate_up: &[f32]) {
        for gpu in gpus() {
            let mut gated = gpu.upload(&vec![bf16::ONE; rows * width + 3]).unwrap();
            silu_mul(&gpu, rows, width, &gpu.upload(gate_up).unwrap(), &mut gated).unwrap();
            let mut want = Vec::new();
            for row in gate_up.chunks(2 * width).take(rows) {
                want.extend(reference(&row[..width], &row[width..]));
            }
            want.extend([1.0; 3]);
            assert_close(&floats(&gpu.read(&gated, 0, want.len()).unwrap()), &want, 1e-30, BF16_ULP);
        }
    }

    #[test]
    fn matches_reference() {
        for (rows, width) in [(0, 8), (1, 1), (1, 33), (3, 64), (5, 1027), (2, 4864)] {
            let gate_up: Vec<f32> = random_floats(rows * 2 * width, 1).iter().map(|value| 20.0 * value).collect();
            check(rows, width, &gate_up);
        }
        // Gates whose exponential is too large for a float, and values that bf16 can just hold.
        check(1, 4, &[-200.0, 200.0, 0.0, 3e38, 1.0, 1e36, 5.0, 1.0]);
    }
}
