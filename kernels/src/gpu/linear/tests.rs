//! Linear layers against plain loops over the stored weights, in every way they are made.

use super::*;
use crate::gpu::INT4_GROUP;
use crate::gpu::testing::{Kind, bf16s, each, gpus, kinds};
use crate::testing::{Random, assert_same_bits, random_floats};

const FORMATS: [WeightFormat; 3] = [WeightFormat::Bf16, WeightFormat::Fp8, WeightFormat::Int4];
/// What outputs hold before; no product is this number.
const UNTOUCHED: f32 = -1234.5;

/// A matrix of random stored values on a device, and what they stand for.
struct Weights {
    matrix: DeviceMatrix,
    /// `[out_features, in_features]`
    values: Vec<f64>,
    bias: Vec<f64>,
}

/// e4m3 by its definition.
fn fp8_value(bits: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f64::from(bits & 7));
    let magnitude = if exponent == 0 { mantissa / 512.0 } else { (8.0 + mantissa) * 2.0_f64.powi(exponent - 10) };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

impl Weights {
    fn new(gpu: &Gpu, format: WeightFormat, [out_features, in_features]: [usize; 2], has_bias: bool) -> Self {
        let mut random = Random(7 + out_features as u64);
        let mut matrix = DeviceMatrix::zeroed(gpu, format, out_features, in_features).unwrap();
        let row_bytes = format.row_bytes(in_features);
        let mut bytes = gpu.read(&matrix.rows, 0, matrix.rows.len()).unwrap();
        let mut values = vec![0.0; out_features * in_features];
        for (row, values) in bytes.chunks_mut(row_bytes.max(1)).zip(values.chunks_mut(in_features.max(1))) {
            for (k, value) in values.iter_mut().enumerate() {
                *value = store_random(format, row, k, &mut random);
            }
        }
        gpu.write(&mut matrix.rows, 0, &bytes).unwrap();
        match &mut matrix.scales {
            Scales::None => {}
            Scales::PerRow(scales) => {
                let drawn: Vec<f32> = (0..scales.len()).map(|_| 0.01 * (1.5 + random.float())).collect();
                gpu.write(scales, 0, &drawn).unwrap();
                scale(&mut values, &drawn, in_features, in_features);
            }
            Scales::PerGroup(scales) => {
                let drawn: Vec<f32> = (0..scales.len()).map(|_| 0.1 * (1.5 + random.float())).collect();
                let drawn = bf16s(&drawn);
                gpu.write(scales, 0, &drawn).unwrap();
                let drawn: Vec<f32> = drawn.iter().map(|scale| scale.to_f32()).collect();
                scale(&mut values, &drawn, in_features, INT4_GROUP);
            }
        }
        let mut bias = vec![0.0; out_features];
        if has_bias {
            bias.fill_with(|| f64::from(random.float()));
            let stored: Vec<f32> = bias.iter().map(|bias| *bias as f32).collect();
            matrix.set_bias(gpu.upload(&stored).unwrap());
        }
        Self { matrix, values, bias }
    }
}

/// Multiplies values by the scales of their groups along rows.
fn scale(values: &mut [f64], scales: &[f32], in_features: usize, group: usize) {
    let groups = values.chunks_mut(in_features.max(1)).flat_map(|row| row.chunks_mut(group.max(1)));
    for (group, scale) in groups.zip(scales) {
        group.iter_mut().for_each(|value| *value *= f64::from(*scale));
    }
}

/// Any stored value but those that are no number.
fn store_random(format: WeightFormat, row: &mut [u8], k: usize, random: &mut Random) -> f64 {
    match format {
        WeightFormat::Bf16 => {
            let value = bf16::from_f32(random.float());
            row[2 * k..2 * k + 2].copy_from_slice(&value.to_le_bytes());
            value.to_f64()
        }
        WeightFormat::Fp8 => {
            let bits = random.below(0x7f) as u8 | (random.below(2) as u8) << 7;
            row[k] = bits;
            fp8_value(bits)
        }
        WeightFormat::Int4 => {
            let nibble = random.below(16) as u8;
            let shift = 4 * (k % 2);
            row[k / 2] = row[k / 2] & !(15 << shift) | nibble << shift;
            f64::from(nibble) - 8.0
        }
    }
}

fn scratch(gpu: &Gpu, reductions: Reductions, matrix: &DeviceMatrix) -> LinearScratch {
    let DeviceMatrix { format, out_features, in_features, .. } = *matrix;
    LinearScratch::new(gpu, reductions, [MatrixSize { format, out_features, in_features }]).unwrap()
}

/// The product of the first `rows` rows, after checking that nothing behind them was written.
fn multiply(scratch: &mut LinearScratch, matrix: &DeviceMatrix, x: &[bf16], rows: usize) -> Vec<f32> {
    let gpu = scratch.gpu.clone();
    let (length, spare) = (rows * matrix.out_features, 37);
    let mut out = gpu.upload(&vec![UNTOUCHED; length + spare]).unwrap();
    let x = gpu.upload(&x[..rows * matrix.in_features]).unwrap();
    linear(scratch, matrix, &x, rows, &mut out).unwrap();
    let mut out = gpu.read(&out, 0, length + spare).unwrap();
    assert_eq!(out.split_off(length), vec![UNTOUCHED; spare], "what lies behind {rows} rows");
    out
}

/// Holds a product to f64 sums. `rounding`: the relative error of a weight on its way.
fn compare(got: &[f32], weights: &Weights, x: &[bf16], rounding: f64, what: &str) {
    let DeviceMatrix { out_features, in_features, .. } = weights.matrix;
    for (index, got) in got.iter().enumerate() {
        let (row, output) = (index / out_features, index % out_features);
        let x = x[row * in_features..][..in_features].iter();
        let terms: Vec<f64> =
            x.zip(&weights.values[output * in_features..]).map(|(x, weight)| x.to_f64() * weight).collect();
        let bias = weights.bias[output];
        let want = terms.iter().sum::<f64>() + bias;
        // Sums in f32: their error grows with the sum of magnitudes.
        let size = terms.iter().map(|term| term.abs()).sum::<f64>();
        let allowed = (1e-5 + rounding) * size + 1e-6 * bias.abs() + 1e-30;
        let error = (f64::from(*got) - want).abs();
        assert!(error <= allowed, "{what}: row {row}, output {output}: got {got}, want {want} +- {allowed}");
    }
}

/// One matrix with these numbers of rows.
fn check(gpu: &Gpu, format: WeightFormat, size: [usize; 2], has_bias: bool, rows: &[usize]) {
    let weights = Weights::new(gpu, format, size, has_bias);
    let x = bf16s(&random_floats(rows.iter().max().unwrap() * size[1], 3));
    for reductions in [Reductions::Fastest, Reductions::Invariant] {
        let mut scratch = scratch(gpu, reductions, &weights.matrix);
        for &rows in rows {
            let is_library = scratch.way(&weights.matrix, rows) == Way::Library;
            // Scaled weights are rounded to bf16 for the library.
            let rounding = if is_library && format != WeightFormat::Bf16 { 1.0 / 256.0 } else { 0.0 };
            let got = multiply(&mut scratch, &weights.matrix, &x, rows);
            compare(&got, &weights, &x, rounding, &format!("{format} {size:?}, {rows} rows, {reductions:?}"));
        }
    }
}

#[test]
fn matches_reference_in_odd_sizes() {
    for gpu in gpus() {
        for format in FORMATS {
            for (index, size) in [[1, 1], [3, 33], [64, 64], [5, 1000], [17, 7], [33, 128]].into_iter().enumerate() {
                check(&gpu, format, size, index % 2 == 0, &[1, 3, 9, 16, 17]);
            }
        }
    }
}

#[test]
fn matches_reference_for_every_number_of_rows() {
    for (gpu, format) in each(&FORMATS) {
        let rows: Vec<usize> = (1..=17).chain([33, 64, 65]).collect();
        check(&gpu, format, [19, 200], true, &rows);
        check(&gpu, format, [130, 257], false, &[2, 11, 66]);
    }
}

/// Rows of weights that are longer than the ring of a lane is, in every slice.
#[test]
fn matches_reference_in_long_rows() {
    let cases = [(WeightFormat::Bf16, 2600), (WeightFormat::Fp8, 5003), (WeightFormat::Int4, 9096)];
    for (gpu, (format, in_features)) in each(&cases) {
        check(&gpu, format, [18, in_features], true, &[1, 10, 18]);
    }
}

/// Emulated devices have a library of products only if they are asked for.
fn with_products(kind: Kind) -> Gpu {
    match kind {
        Kind::Emulated => Gpu::emulated_with_products(5),
        Kind::Cuda => kind.open(5),
    }
}

#[test]
fn the_library_is_given_what_our_kernels_compute() {
    // A real device has the library or has it not; `check` sees which way is taken.
    let gpus = kinds().into_iter().map(with_products);
    for (gpu, format) in gpus.flat_map(|gpu| FORMATS.map(|format| (gpu.clone(), format))) {
        for has_bias in [false, true] {
            check(&gpu, format, [300, 136], has_bias, &[16, 17, 65]);
        }
        // Rows that are no multiple of sixteen bytes are nothing for it.
        check(&gpu, format, [20, 33], true, &[65]);
    }
}

#[test]
fn the_way_depends_on_rows_format_and_library() {
    let check = |has_library, reductions, format, in_features, rows, want: &str| {
        let gpu = if has_library { Gpu::emulated_with_products(1) } else { Gpu::emulated(1) };
        let matrix = DeviceMatrix::zeroed(&gpu, format, 1000, in_features).unwrap();
        let got = match scratch(&gpu, reductions, &matrix).way(&matrix, rows) {
            Way::FewRows => "few",
            Way::Library => "library",
            Way::Tiles { .. } => "tiles",
        };
        assert_eq!(got, want, "{reductions:?} {format} {in_features} {rows}, library: {has_library}");
    };
    use Reductions::{Fastest, Invariant};
    use WeightFormat::{Bf16, Fp8, Int4};
    for (format, rows, fastest) in [
        (Bf16, 1, "few"),
        (Bf16, 16, "few"),
        (Bf16, 17, "library"),
        (Fp8, 16, "few"),
        (Fp8, 64, "tiles"),
        (Fp8, 65, "library"),
        (Int4, 17, "tiles"),
        (Int4, 512, "library"),
    ] {
        let ours = if rows <= 16 { "few" } else { "tiles" };
        check(true, Fastest, format, 64, rows, fastest);
        check(true, Invariant, format, 64, rows, ours);
        check(false, Fastest, format, 64, rows, ours);
        check(true, Fastest, format, 63, rows, ours);
    }
}

#[test]
fn a_matrix_that_the_scratch_has_no_room_for_is_multiplied_by_tiles() {
    let gpu = Gpu::emulated_with_products(6);
    let size = |out_features| MatrixSize { format: WeightFormat::Int4, out_features, in_features: 64 };
    let mut scratch = LinearScratch::new(&gpu, Reductions::Fastest, [size(2), size(20), size(8)]).unwrap();
    assert_eq!(LinearScratch::bytes_needed(&gpu, Reductions::Fastest, [size(2), size(20), size(8)]), 20 * 64 * 2);
    assert_eq!(LinearScratch::bytes_needed(&gpu, Reductions::Invariant, [size(20)]), 0);
    assert_eq!(LinearScratch::bytes_needed(&Gpu::emulated(1), Reductions::Fastest, [size(20)]), 0);
    for (outputs, way) in [(20, Way::Library), (21, Way::Tiles { warps: 2 })] {
        let weights = Weights::new(&gpu, WeightFormat::Int4, [outputs, 64], true);
        let x = bf16s(&random_floats(70 * 64, 8));
        assert_eq!(scratch.way(&weights.matrix, 70), way);
        let got = multiply(&mut scratch, &weights.matrix, &x, 70);
        compare(&got, &weights, &x, 1.0 / 256.0, "scratch");
    }
}

#[test]
fn warps_of_a_block_leave_work_for_every_multiprocessor() {
    for (out_features, rows, want) in
        [(3584, 17, 2), (3584, 65, 2), (37_888, 17, 8), (3584, 2048, 8), (3584, 300, 4), (1, 1, 2)]
    {
        assert_eq!(warps_of(out_features, rows, 132), want, "{out_features} outputs, {rows} rows");
    }
}

/// The same row, alone or in any batch, in any kernel of ours, with any launch: the same bits.
#[test]
fn rows_do_not_see_each_other() {
    for gpu in gpus() {
        for format in FORMATS {
            for size in [[35, 777], [70, 1200]] {
                let Weights { matrix, .. } = Weights::new(&gpu, format, size, true);
                let x = bf16s(&random_floats(70 * size[1], 9));
                let mut scratch = scratch(&gpu, Reductions::Invariant, &matrix);
                let want = multiply(&mut scratch, &matrix, &x, 70);
                for rows in [1, 2, 5, 8, 9, 16, 17, 33] {
                    let got = multiply(&mut scratch, &matrix, &x, rows);
                    assert_same_bits(&got, &want[..rows * size[0]], &format!("{format} {size:?}, {rows} rows"));
                    // At another place of the batch.
                    let got = multiply(&mut scratch, &matrix, &x[20 * size[1]..], rows);
                    assert_same_bits(&got, &want[20 * size[0]..][..rows * size[0]], &format!("{format}, from row 20"));
                }
                for warps in [1, 2, 3, 8] {
                    let device_x = gpu.upload(&x).unwrap();
                    let out = gpu.upload(&vec![UNTOUCHED; want.len()]).unwrap();
                    let product =
                        Product { gpu: &gpu, matrix: &matrix, x: device_x.pointer(), rows: 70, out: out.pointer() };
                    product.tiles(warps).unwrap();
                    let got = gpu.read(&out, 0, want.len()).unwrap();
                    assert_same_bits(&got, &want, &format!("{format}, {warps} warps"));
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    for (gpu, format) in each(&FORMATS) {
        // In rows of 129 the value behind the end of a row is the first of the next.
        for size in [[20, 129], [20, 136]] {
            let Weights { matrix, .. } = Weights::new(&gpu, format, size, false);
            let clean = bf16s(&random_floats(20 * size[1], 10));
            for rows in [3, 12, 20] {
                let mut scratch = scratch(&gpu, Reductions::Fastest, &matrix);
                let want = multiply(&mut scratch, &matrix, &clean, rows);
                for value in [bf16::NAN, bf16::INFINITY] {
                    let mut x = clean.clone();
                    x[size[1]] = value;
                    let got = multiply(&mut scratch, &matrix, &x, rows);
                    for (row, (got, want)) in got.chunks(size[0]).zip(want.chunks(size[0])).enumerate() {
                        let what = format!("{format} {size:?}, row {row} of {rows}, {value}");
                        if row == 1 {
                            assert!(got.iter().all(|value| !value.is_finite()), "{what}: {got:?}");
                        } else {
                            assert_same_bits(got, want, &what);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn empty_products_are_bias_or_nothing() {
    let gpus = kinds().into_iter().map(with_products);
    for (gpu, format) in gpus.flat_map(|gpu| FORMATS.map(|format| (gpu.clone(), format))) {
        let weights = Weights::new(&gpu, format, [5, 0], true);
        let mut scratch = scratch(&gpu, Reductions::Invariant, &weights.matrix);
        for rows in [1, 20] {
            compare(&multiply(&mut scratch, &weights.matrix, &[], rows), &weights, &[], 0.0, "no inputs");
        }
        let weights = Weights::new(&gpu, format, [5, 40], false);
        assert!(multiply(&mut scratch, &weights.matrix, &[], 0).is_empty());
        let weights = Weights::new(&gpu, format, [0, 40], false);
        assert!(multiply(&mut scratch, &weights.matrix, &[bf16::ONE; 120], 3).is_empty());
    }
}

/// A recorded product reads x again each time.
#[test]
fn products_can_be_recorded() {
    let cases = [(WeightFormat::Bf16, 4), (WeightFormat::Fp8, 30), (WeightFormat::Int4, 66)];
    let gpus = kinds().into_iter().map(with_products);
    for (gpu, (format, rows)) in gpus.flat_map(|gpu| cases.map(|case| (gpu.clone(), case))) {
        let weights = Weights::new(&gpu, format, [9, 64], true);
        let mut scratch = scratch(&gpu, Reductions::Fastest, &weights.matrix);
        let mut x = gpu.zeroed(rows * 64).unwrap();
        let mut out = gpu.upload(&vec![UNTOUCHED; rows * 9]).unwrap();
        let graph = gpu.capture(|| linear(&mut scratch, &weights.matrix, &x, rows, &mut out)).unwrap();
        for seed in [11, 12] {
            let values = bf16s(&random_floats(rows * 64, seed));
            gpu.write(&mut x, 0, &values).unwrap();
            graph.replay().unwrap();
            let got = gpu.read(&out, 0, rows * 9).unwrap();
            compare(&got, &weights, &values, 1.0 / 256.0, &format!("{format}, {rows} rows, seed {seed}"));
        }
    }
}

#[test]
#[should_panic(expected = "3 rows of 8 to 2 values, x has 24, out 5")]
fn refuses_short_buffers() {
    let gpu = Gpu::emulated(1);
    let matrix = DeviceMatrix::zeroed(&gpu, WeightFormat::Bf16, 2, 8).unwrap();
    let mut scratch = scratch(&gpu, Reductions::Fastest, &matrix);
    drop(linear(&mut scratch, &matrix, &gpu.zeroed(24).unwrap(), 3, &mut gpu.zeroed(5).unwrap()));
}
