//! Token vectors, and the empty residual stream that they are first added to.

use super::buffer::Buffer;
use super::count::count;
use super::driver::{Argument, Gpu, Launch};
use super::error::GpuError;
use super::matrix::{DeviceMatrix, Scales};

const THREADS: u32 = 256;

/// `delta = table[token_ids]`, `residual = 0`; both `[rows, hidden]`, `token_ids: [rows]`; buffers may be longer.
///
/// A token of [`super::PAD`] gives a row of zeros, any other that the table does not have a row of NaN. Panics if a
/// buffer is too short.
pub fn embed(
    gpu: &Gpu,
    table: &DeviceMatrix,
    (rows, token_ids): (usize, &Buffer<u32>),
    delta: &mut Buffer<f32>,
    residual: &mut Buffer<f32>,
) -> Result<(), GpuError> {
    let hidden = table.in_features();
    let values = rows * hidden;
    assert!(token_ids.len() >= rows && delta.len() >= values && residual.len() >= values, "{rows} rows of {hidden}");
    if values == 0 {
        return Ok(());
    }
    let (kernel, scales) = match &table.scales {
        Scales::None => ("embed_bf16", None),
        Scales::PerRow(scales) => ("embed_fp8", Some(scales.argument())),
        Scales::PerGroup(scales) => ("embed_int4", Some(scales.argument())),
    };
    let mut arguments = vec![table.rows.argument()];
    arguments.extend(scales);
    arguments.extend([token_ids.argument(), delta.argument(), residual.argument()]);
    let row_bytes = table.format().row_bytes(hidden);
    arguments.extend([hidden, table.out_features(), row_bytes].map(|value| Argument::U32(count(value))));
    let launch = Launch { grid: [count(rows), 1, 1], block: [THREADS, 1, 1], shared_bytes: 0 };
    // SAFETY: the arguments are those of the kernel of this format, which reads rows that the table has and writes
    // `rows` rows, checked above.
    unsafe { gpu.launch(kernel, launch, &arguments) }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests {
    use super::*;
    use crate::gpu::testing::gpus;
    use crate::gpu::{PAD, SourceRows, SourceType, WeightFormat, convert_rows, dequantise};
    use crate::testing::{assert_same_bits, random_floats};
    use half::bf16;

    fn check(format: WeightFormat, hidden: usize, token_ids: &[u32]) {
        const VOCAB: usize = 7;
        for gpu in gpus() {
            let values: Vec<u8> = random_floats(VOCAB * hidden, 1).iter().flat_map(|v| v.to_le_bytes()).collect();
            let mut table = DeviceMatrix::zeroed(&gpu, format, VOCAB, hidden).unwrap();
            let values = gpu.upload(&values).unwrap();
            let source = SourceRows { values: &values, start: 0, source_type: SourceType::F32, rows: VOCAB };
            convert_rows(&gpu, source, &mut table, 0).unwrap();

            let (rows, length) = (token_ids.len(), token_ids.len() * hidden);
            let mut delta = gpu.upload(&vec![1.0; length + 1]).unwrap();
            let mut residual = gpu.upload(&vec![1.0; length + 1]).unwrap();
            embed(&gpu, &table, (rows, &gpu.upload(token_ids).unwrap()), &mut delta, &mut residual).unwrap();

            // Tests of `dequantise` hold it to a reference; a token vector keeps the bits that it rounds away.
            let stride = hidden.next_multiple_of(8);
            let mut known = gpu.zeroed::<bf16>(VOCAB * stride).unwrap();
            if format != WeightFormat::Bf16 {
                dequantise(&gpu, &table, 0..VOCAB, &mut known).unwrap();
            } else {
                let bytes = gpu.read(&table.rows, 0, table.rows.len()).unwrap();
                let bits: Vec<bf16> = bytes.chunks(2).map(|two| bf16::from_le_bytes([two[0], two[1]])).collect();
                gpu.write(&mut known, 0, &bits).unwrap();
            }
            let known = gpu.read(&known, 0, VOCAB * stride).unwrap();
            let got = gpu.read(&delta, 0, length + 1).unwrap();
            for (row, &token) in got.chunks(hidden).zip(token_ids) {
                let want: Vec<f32> = match token {
                    PAD => vec![0.0; hidden],
                    token if token as usize >= VOCAB => {
                        assert!(row.iter().all(|value| value.is_nan()), "token {token}");
                        continue;
                    }
                    token => known[token as usize * stride..][..hidden].iter().map(|value| value.to_f32()).collect(),
                };
                let rounded: Vec<f32> = row.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
                assert_same_bits(&rounded, &want, "token vector");
            }
            let mut zeros = vec![0.0; length];
            zeros.push(1.0);
            assert_same_bits(&gpu.read(&residual, 0, length + 1).unwrap(), &zeros, "residual");
            assert_eq!(got[length], 1.0, "what lies behind the rows stays");
        }
    }

    #[test]
    fn matches_reference() {
        for format in [WeightFormat::Bf16, WeightFormat::Fp8, WeightFormat::Int4] {
            for hidden in [1, 33, 64, 200, 896] {
                for token_ids in [&[][..], &[6], &[0, 3, PAD, 3, 7, PAD - 1, 1]] {
                    check(format, hidden, token_ids);
                }
            }
        }
    }
}
