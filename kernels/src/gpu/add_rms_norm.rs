//! Root mean square norm (arXiv:1910.07467) behind the residual addition before it.

use half::bf16;

use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;

/// Values that a thread takes at a time.
const QUAD: usize = 4;
const THREADS_MAX: usize = 1024;
/// Floats of shared memory for the sum over a block.
const SUM_FLOATS: usize = 32;

/// What [`add_rms_norm`] reads and writes; buffers may be longer than their rows.
#[derive(Debug)]
pub struct AddRmsNorm<'a> {
    pub rows: usize,
    /// `[rows, hidden]`: gets `delta` added.
    pub residual: &'a mut Buffer<f32>,
    /// `[rows, hidden]`
    pub delta: &'a Buffer<f32>,
    /// `[hidden]`
    pub weight: &'a Buffer<f32>,
    pub eps: f32,
    /// `[rows, hidden]`
    pub normed: &'a mut Buffer<bf16>,
}

/// `residual += delta`, then `normed = residual / sqrt(mean(residual^2) + eps) * weight` for each row.
///
/// Panics if a buffer is too short.
pub fn add_rms_norm(gpu: &Gpu, norm: AddRmsNorm<'_>) -> Result<(), GpuError> {
    let AddRmsNorm { rows, residual, delta, weight, eps, normed } = norm;
    let hidden = weight.len();
    let values = rows * hidden;
    assert!(residual.len() >= values && delta.len() >= values && normed.len() >= values, "{rows} rows of {hidden}");
    if values == 0 {
        return Ok(());
    }
    let quads = hidden.div_ceil(QUAD);
    let launch = Launch {
        grid: [count(rows), 1, 1],
        block: [count(quads.next_multiple_of(32).min(THREADS_MAX)), 1, 1],
        shared_bytes: count((SUM_FLOATS + quads * QUAD) * size_of::<f32>()),
    };
    let arguments = [
        residual.argument(),
        delta.argument(),
        weight.argument(),
        normed.argument(),
        Argument::U32(count(hidden)),
        Argument::F32(eps),
    ];
    // SAFETY: the arguments are those of the kernel, which touches `rows` rows of `hidden` values, checked above.
    unsafe { gpu.launch("add_rms_norm", launch, &arguments) }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests {
    use super::*;
    use crate::gpu::testing::{BF16_ULP, floats, gpus};
    use crate::reference::rms_norm as reference;
    use crate::testing::{assert_close, assert_same_bits, random_floats};

    fn check(rows: usize, hidden: usize, spare: usize, size: f32) {
        for gpu in gpus() {
            let delta: Vec<f32> = random_floats(rows * hidden, 1).iter().map(|value| value * size).collect();
            let weight = random_floats(hidden, 2);
            let before: Vec<f32> = random_floats(rows * hidden + spare, 3).iter().map(|value| value * size).collect();
            let mut residual = gpu.upload(&before).unwrap();
            let mut normed = gpu.upload(&vec![bf16::ONE; rows * hidden + spare]).unwrap();
            let operation = AddRmsNorm {
                rows,
                residual: &mut residual,
                delta: &gpu.upload(&delta).unwrap(),
                weight: &gpu.upload(&weight).unwrap(),
                eps: 1e-5,
                normed: &mut normed,
            };
            add_rms_norm(&gpu, operation).unwrap();

            let mut sum = before.clone();
            sum.iter_mut().zip(&delta).for_each(|(sum, delta)| *sum += delta);
            assert_same_bits(&gpu.read(&residual, 0, sum.len()).unwrap(), &sum, "residual");
            let mut want = reference(&sum[..rows * hidden], &weight, 1e-5);
            // What lies behind the rows stays as it was.
            want.resize(rows * hidden + spare, 1.0);
            assert_close(&floats(&gpu.read(&normed, 0, want.len()).unwrap()), &want, 1e-6, BF16_ULP);
        }
    }

    #[test]
    fn matches_reference() {
        for (rows, hidden, spare) in
            [(0, 64, 5), (1, 1, 0), (1, 33, 3), (3, 64, 0), (7, 1000, 8), (2, 4100, 0), (2, 4099, 1), (1, 9000, 0)]
        {
            check(rows, hidden, spare, 1.0);
        }
        // The residual stream of a deep model has values far from one; small ones show what `eps` does.
        check(2, 896, 0, 3e4);
        check(2, 896, 0, 1e-3);
        check(2, 896, 0, 0.0);
    }

    #[test]
    #[should_panic(expected = "3 rows of 8")]
    fn refuses_short_buffers() {
        let gpu = Gpu::emulated(1);
        let (mut residual, mut normed) = (gpu.zeroed(24).unwrap(), gpu.zeroed(23).unwrap());
        let (delta, weight) = (gpu.zeroed(24).unwrap(), gpu.zeroed(8).unwrap());
        let operation = AddRmsNorm {
            rows: 3,
            residual: &mut residual,
            delta: &delta,
            weight: &weight,
            eps: 1e-5,
            normed: &mut normed,
        };
        drop(add_rms_norm(&gpu, operation));
    }
}
