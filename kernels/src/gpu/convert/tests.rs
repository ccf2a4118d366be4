//! Conversions of weights against plain loops over the definitions of the formats.

use half::{bf16, f16};

use super::*;
use crate::gpu::WeightFormat;
use crate::gpu::testing::{floats, gpus};
use crate::testing::random_floats;

/// Values as bytes of a checkpoint, and what they are after rounding to its type.
fn stored(values: &[f32], source_type: SourceType) -> (Vec<u8>, Vec<f32>) {
    let one = |value: f32| match source_type {
        SourceType::F32 => (value.to_le_bytes().to_vec(), value),
        SourceType::F16 => (f16::from_f32(value).to_le_bytes().to_vec(), f16::from_f32(value).to_f32()),
        SourceType::Bf16 => (bf16::from_f32(value).to_le_bytes().to_vec(), bf16::from_f32(value).to_f32()),
    };
    let (bytes, values): (Vec<_>, Vec<_>) = values.iter().map(|value| one(*value)).unzip();
    (bytes.concat(), values)
}

/// e4m3 by its definition.
fn fp8_value(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let magnitude = if exponent == 0 { mantissa / 512.0 } else { (8.0 + mantissa) * 2.0_f32.powi(exponent - 10) };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The format's own error for a row: half the distance of neighbours, as a share of the value or of the scale.
fn fp8_row(row: &[f32], bytes: &[u8], scale: f32) -> Vec<f32> {
    let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let want = if largest / 448.0 < f32::MIN_POSITIVE { 1.0 } else { largest / 448.0 };
    assert_eq!(scale, want, "scale of a row whose largest is {largest}");
    let got: Vec<f32> = bytes.iter().map(|bits| fp8_value(*bits) * scale).collect();
    for (got, want) in got.iter().zip(row) {
        let allowed = (want.abs() / 16.0).max(scale / 1024.0) * 1.0001;
        assert!((got - want).abs() <= allowed, "{want} became {got}, scale {scale}");
    }
    got
}

fn squared_error(group: &[f32], scale: f32) -> f64 {
    let nearest = |value: f32| if scale == 0.0 { 0.0 } else { (value / scale).round_ties_even().clamp(-8.0, 7.0) };
    group.iter().map(|value| f64::from(value - scale * nearest(*value)).powi(2)).sum()
}

/// Nibbles are the nearest of the scale, and no other of the two scales would have been better.
fn int4_group(group: &[f32], nibbles: &[u8], scale: f32) -> Vec<f32> {
    let largest =
        group.iter().fold(0.0_f32, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
    let both =
        [largest / -8.0, largest / 7.0, largest / 8.0, largest / -7.0].map(|scale| bf16::from_f32(scale).to_f32());
    // Two values of one magnitude and different signs: either may be the largest.
    let is_tie = group.iter().any(|value| *value == -largest);
    let candidates = if is_tie { &both[..] } else { &both[..2] };
    assert!(candidates.contains(&scale), "scale {scale} of a group whose largest is {largest}");
    let best = both[..2].iter().map(|scale| squared_error(group, *scale)).fold(f64::INFINITY, f64::min);
    if !is_tie {
        assert!(squared_error(group, scale) <= best * 1.00001, "scale {scale} of a group whose largest is {largest}");
    }
    let got: Vec<f32> = nibbles.iter().map(|nibble| scale * (f32::from(*nibble) - 8.0)).collect();
    for ((got, want), nibble) in got.iter().zip(group).zip(nibbles) {
        let is_cut = *nibble == 0 || *nibble == 15;
        // A scale too small for bf16 is zero, and so is its group.
        let none = if scale == 0.0 { 4e-40 } else { 0.0 };
        let allowed = none + if is_cut { scale.abs() * 1.1 } else { scale.abs() * 0.5001 };
        assert!((got - want).abs() <= allowed, "{want} became {got}, scale {scale}");
    }
    got
}

/// The values that a matrix holds, after checking that they stand for those of `rows` and that padding is zero.
fn checked_values(gpu: &Gpu, matrix: &DeviceMatrix, rows: &[f32]) -> Vec<f32> {
    let width = matrix.in_features();
    let bytes = gpu.read(&matrix.rows, 0, matrix.rows.len()).unwrap();
    let mut values = Vec::new();
    let all = rows.chunks(width).zip(bytes.chunks(matrix.format().row_bytes(width)));
    for (index, (row, bytes)) in all.enumerate() {
        match &matrix.scales {
            Scales::None => {
                let stored = bytes.chunks(2).map(|two| bf16::from_le_bytes([two[0], two[1]]));
                let mut want: Vec<bf16> = row.iter().map(|value| bf16::from_f32(*value)).collect();
                values.extend(floats(&want));
                want.resize(bytes.len() / 2, bf16::ZERO);
                assert_eq!(stored.collect::<Vec<_>>(), want);
            }
            Scales::PerRow(scales) => {
                let scale = gpu.read(scales, index, 1).unwrap()[0];
                values.extend(fp8_row(row, &bytes[..width], scale));
                assert!(bytes[width..].iter().all(|byte| *byte == 0), "padding is zero");
            }
            Scales::PerGroup(scales) => {
                let groups = width.div_ceil(INT4_GROUP);
                let scales = floats(&gpu.read(scales, index * groups, groups).unwrap());
                let nibbles: Vec<u8> = bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).collect();
                for ((row, nibbles), scale) in row.chunks(INT4_GROUP).zip(nibbles.chunks(INT4_GROUP)).zip(scales) {
                    values.extend(int4_group(row, &nibbles[..row.len()], scale));
                }
                assert!(nibbles[width..].iter().all(|nibble| *nibble == 8), "padding is zero");
            }
        }
    }
    values
}

fn check(format: WeightFormat, source_type: SourceType, width: usize, rows: &[f32]) {
    let (bytes, rows) = stored(rows, source_type);
    let num_rows = rows.len().checked_div(width).unwrap_or(0);
    for gpu in gpus() {
        let mut matrix = DeviceMatrix::zeroed(&gpu, format, num_rows, width).unwrap();
        gpu.fill_bytes(&mut matrix.rows, 0xee).unwrap();
        // In two parts, the second behind something else, as a loader's buffers are.
        let first = num_rows / 2;
        let skipped = first * width * source_type.value_bytes();
        for (start, rows, first_row, from) in [(0, first, 0, 0), (8, num_rows - first, first, skipped)] {
            let values = gpu.upload(&[&[0xff; 8][..start], &bytes[from..]].concat()).unwrap();
            let source = SourceRows { values: &values, start, source_type, rows };
            convert_rows(&gpu, source, &mut matrix, first_row).unwrap();
        }
        let values = checked_values(&gpu, &matrix, &rows);
        if format != WeightFormat::Bf16 {
            check_dequantised(&gpu, &matrix, &values);
        }
    }
}

fn check_dequantised(gpu: &Gpu, matrix: &DeviceMatrix, values: &[f32]) {
    let (rows, width) = (matrix.out_features(), matrix.in_features());
    let stride = width.next_multiple_of(8);
    for range in [0..rows, rows / 3..rows] {
        let mut out = gpu.upload(&vec![bf16::ONE; range.len() * stride + 1]).unwrap();
        dequantise(gpu, matrix, range.clone(), &mut out).unwrap();
        let got = floats(&gpu.read(&out, 0, out.len()).unwrap());
        for (got, want) in got.chunks(stride).zip(values.chunks(width.max(1)).skip(range.start)) {
            let mut want: Vec<f32> = want.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
            want.resize(stride, 0.0);
            assert_eq!(got, want, "dequantised row");
        }
        assert_eq!(got[range.len() * stride], 1.0, "what lies behind the rows stays");
    }
}

#[test]
fn matches_reference() {
    for format in [WeightFormat::Bf16, WeightFormat::Fp8, WeightFormat::Int4] {
        for source_type in [SourceType::F32, SourceType::F16, SourceType::Bf16] {
            for (rows, width) in [(0, 8), (1, 1), (1, 33), (3, 64), (5, 130), (2, 1000), (1, 2053)] {
                let values: Vec<f32> = random_floats(rows * width, 1).iter().map(|value| value * 0.1).collect();
                check(format, source_type, width, &values);
            }
        }
    }
}

#[test]
fn extreme_rows_keep_their_size() {
    for format in [WeightFormat::Bf16, WeightFormat::Fp8, WeightFormat::Int4] {
        let mut rows = Vec::new();
        for size in [0.0, 1e-44, 1e-30, 1.0, 1e30] {
            rows.extend(random_floats(200, 7).iter().map(|value| value * size));
        }
        // One value far from all others, of either sign, and a group of one value only.
        rows.extend((0..200).map(|i| if i == 77 { -50.0 } else { 0.01 }));
        rows.extend((0..200).map(|i| if i == 177 { 50.0 } else { -0.01 }));
        rows.extend([-3.0; 200]);
        check(format, SourceType::F32, 200, &rows);
    }
}
