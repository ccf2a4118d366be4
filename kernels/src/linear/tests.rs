//! Linear layers against the plain reference, and the promise that rows do not see each other.

use super::*;
use crate::blocks::dequantise;
use crate::simd::Isa;
use crate::testing::{assert_close, assert_same_bits, random_floats, random_weights};
use crate::weight_type::quantises;
use std::num::NonZeroUsize;

fn pool(threads: usize, isa: Isa) -> Pool {
    Pool::with_isa(NonZeroUsize::new(threads).unwrap(), isa)
}

fn multiply(pool: &Pool, matrix: &Matrix, bias: Option<&[f32]>, x: &[f32], rows: usize) -> Vec<f32> {
    let width = matrix.in_features();
    let mut loaded = Rows::with_capacity(rows, width);
    loaded.load(pool, x, rows, width, quantises(matrix.weight_type()));
    let mut out = vec![f32::NAN; rows * matrix.out_features()];
    linear(pool, matrix, bias, &loaded, &mut out);
    out
}

/// What a quantised matrix really multiplies: activations rounded to int8 in blocks of 32.
fn rounded(x: &[f32], width: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for block in x.chunks_exact(width).flat_map(|row| row.chunks(32)) {
        let peak = block.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
        out.extend(block.iter().map(|x| (x * (127.0 / peak)).round_ties_even() * (peak / 127.0)));
    }
    out
}

#[test]
fn matches_reference() {
    for isa in Isa::available() {
        let pool = pool(3, isa);
        for weight_type in WeightType::ALL {
            let block = weight_type.block_values();
            for (rows, outputs, blocks) in
                [(1, 1, 1), (1, 33, 3), (2, 64, 2), (3, 31, 5), (5, 16, 9), (7, 95, 1), (13, 40, 2), (130, 33, 11)]
            {
                let width = blocks * block;
                let bytes = random_weights(weight_type, outputs * width, 1 + blocks as u64);
                let matrix = Matrix::new(weight_type, outputs, width, &bytes).unwrap();
                let mut weights = vec![0.0; outputs * width];
                dequantise(weight_type, &bytes, &mut weights);
                let (x, bias) = (random_floats(rows * width, 5), random_floats(outputs, 6));
                let got = multiply(&pool, &matrix, Some(&bias), &x, rows);
                let x = if quantises(weight_type) { rounded(&x, width) } else { x };
                let want = reference(&weights, Some(&bias), &x, width);
                let norm = want.iter().fold(1.0f32, |norm, want| norm.max(want.abs()));
                assert_close(&got, &want, 1e-5 * norm, 0.0);
            }
        }
    }
}

#[test]
fn empty_products_are_zero_or_nothing() {
    let pool = Pool::new(NonZeroUsize::MIN);
    for weight_type in WeightType::ALL {
        let matrix = Matrix::new(weight_type, 3, 0, &[]).unwrap();
        assert_eq!(multiply(&pool, &matrix, None, &[], 2), [0.0; 6]);
        assert_eq!(multiply(&pool, &matrix, Some(&[1.0, 2.0, 3.0]), &[], 1), [1.0, 2.0, 3.0]);
        let matrix = Matrix::new(weight_type, 0, 256, &[]).unwrap();
        assert_eq!(multiply(&pool, &matrix, None, &[0.0; 256], 1), []);
        assert_eq!(multiply(&pool, &matrix, None, &[], 0), []);
    }
}

/// The same row alone, in any batch, on any number of threads and at any place: the same bits.
#[test]
fn rows_do_not_see_each_other() {
    for isa in Isa::available() {
        for weight_type in WeightType::ALL {
            let width = weight_type.block_values().max(31) * 3;
            let (outputs, rows) = (70, 137);
            let bytes = random_weights(weight_type, outputs * width, 11);
            let matrix = Matrix::new(weight_type, outputs, width, &bytes).unwrap();
            let x = random_floats(rows * width, 12);
            let single = pool(1, isa);
            let alone: Vec<f32> =
                x.chunks_exact(width).flat_map(|row| multiply(&single, &matrix, None, row, 1)).collect();
            for threads in [1, 2, 5] {
                let pool = pool(threads, isa);
                for batch in [2, 3, 4, 5, 6, 7, 8, 11, 16, 64, 137] {
                    let together: Vec<f32> = x
                        .chunks(batch * width)
                        .flat_map(|rows| multiply(&pool, &matrix, None, rows, rows.len() / width))
                        .collect();
                    let what = format!("{} {weight_type}, batches of {batch} on {threads} threads", isa.name());
                    assert_same_bits(&together, &alone, &what);
                }
            }
        }
    }
}

/// Instruction sets with fused multiply-add agree to the bit.
#[cfg(target_arch = "x86_64")]
#[test]
fn vector_paths_agree() {
    let vector: Vec<Isa> = Isa::available().into_iter().filter(|isa| isa.name() != "portable").collect();
    for weight_type in WeightType::ALL {
        let (outputs, rows, width) = (47, 9, 512);
        let matrix =
            Matrix::new(weight_type, outputs, width, &random_weights(weight_type, outputs * width, 21)).unwrap();
        let x = random_floats(rows * width, 22);
        let results: Vec<_> = vector.iter().map(|isa| multiply(&pool(2, *isa), &matrix, None, &x, rows)).collect();
        for pair in results.windows(2) {
            assert_same_bits(&pair[0], &pair[1], weight_type.name());
        }
    }
}

/// The extremes of every quant and of activations: no intermediate sum may saturate.
#[test]
fn extreme_quants_do_not_saturate() {
    for isa in Isa::available() {
        let pool = pool(1, isa);
        for weight_type in WeightType::ALL.into_iter().filter(|weight_type| quantises(*weight_type)) {
            let width = 256;
            for fill in [0x00, 0x7f, 0x80, 0xff] {
                let mut bytes = vec![fill; width / weight_type.block_values() * weight_type.block_bytes()];
                for block in bytes.chunks_exact_mut(weight_type.block_bytes()) {
                    let one = half::f16::ONE.to_le_bytes();
                    let at = if weight_type == WeightType::Q6K { 208 } else { 0 };
                    block[at..at + 2].copy_from_slice(&one);
                    if matches!(weight_type, WeightType::Q4K | WeightType::Q5K) {
                        block[2..4].copy_from_slice(&one);
                    }
                }
                let matrix = Matrix::new(weight_type, 1, width, &bytes).unwrap();
                let mut weights = vec![0.0; width];
                dequantise(weight_type, &bytes, &mut weights);
                for x in [[127.0; 256], [-127.0; 256]] {
                    let got = multiply(&pool, &matrix, None, &x, 1);
                    let want = reference(&weights, None, &x, width);
                    assert_close(&got, &want, 0.0, 1e-6);
                }
            }
        }
    }
}
