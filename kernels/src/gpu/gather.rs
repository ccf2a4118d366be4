//! Rows picked by number.

use super::buffer::{Buffer, DeviceValue};
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;

const THREADS: u32 = 256;

/// `out[i] = source[indices[i]]` for the first `rows` indices; rows are of `width` values.
///
/// `source: [any, width]`, `indices: [rows]`, `out: [rows, width]`; buffers may be longer. An index of
/// [`super::PAD`] gives zeros; any other beyond the source gives set bits, which are NaN in every float format.
/// Panics if a buffer is too short, or if a row has an odd number of bytes.
pub fn gather_rows<T: DeviceValue>(
    gpu: &Gpu,
    source: &Buffer<T>,
    indices: &Buffer<u32>,
    [rows, width]: [usize; 2],
    out: &mut Buffer<T>,
) -> Result<(), GpuError> {
    let row_bytes = width * size_of::<T>();
    assert!(indices.len() >= rows && out.len() >= rows * width, "{rows} rows of {width}");
    assert!(row_bytes.is_multiple_of(2), "{row_bytes} bytes of a row are moved in pairs");
    if rows * width == 0 {
        return Ok(());
    }
    let launch = Launch { grid: [count(rows), 1, 1], block: [THREADS, 1, 1], shared_bytes: 0 };
    let arguments = [
        source.argument(),
        indices.argument(),
        out.argument(),
        Argument::U32(count(row_bytes)),
        Argument::U32(count(source.len() / width)),
    ];
    // SAFETY: the arguments are those of the kernel; it reads only rows that the source has, and writes `rows` rows.
    unsafe { gpu.launch("gather_rows", launch, &arguments) }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests {
    use super::*;
    use crate::gpu::PAD;
    use crate::gpu::testing::{bf16s, gpus};
    use crate::testing::random_floats;
    use half::bf16;

    fn check<T: DeviceValue + PartialEq + std::fmt::Debug>(values: &[T], width: usize, indices: &[u32]) {
        for gpu in gpus() {
            let rows = indices.len();
            let mut out = gpu.upload(&vec![values[0]; rows * width + 1]).unwrap();
            let (source, numbers) = (gpu.upload(values).unwrap(), gpu.upload(indices).unwrap());
            gather_rows(&gpu, &source, &numbers, [rows, width], &mut out).unwrap();
            let mut want = Vec::new();
            for &index in indices {
                match index {
                    PAD => want.extend(vec![T::default(); width]),
                    _ => want.extend(&values[index as usize * width..][..width]),
                }
            }
            want.push(values[0]);
            assert_eq!(gpu.read(&out, 0, want.len()).unwrap(), want);
        }
    }

    #[test]
    fn matches_reference() {
        for width in [1, 3, 8, 64, 1000, 2048] {
            let values = random_floats(width * 5, 1);
            for indices in [&[][..], &[4], &[0, 4, 4, PAD, 2, 1, PAD]] {
                check(&values, width, indices);
                check(&bf16s(&values), width, indices);
            }
        }
    }

    #[test]
    fn rows_that_do_not_exist_show() {
        let gpu = Gpu::emulated(1);
        let mut out = gpu.zeroed::<bf16>(24).unwrap();
        let source = gpu.zeroed(5 * 8 + 7).unwrap();
        gather_rows(&gpu, &source, &gpu.upload(&[5, 4, PAD - 1]).unwrap(), [3, 8], &mut out).unwrap();
        let got: Vec<bool> = gpu.read(&out, 0, 24).unwrap().iter().map(|value| value.is_nan()).collect();
        assert_eq!(got, [[true; 8], [false; 8], [true; 8]].concat());
    }
}
