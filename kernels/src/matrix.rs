//! Weights of a linear layer, repacked once when they are loaded (see `pack` for the layout).

use crate::pack::{PANEL, Unit, pack_floats, pack_unit, unpack_row};
use crate::simd::Line;
use crate::weight_type::WeightType;

/// Why bytes are not the weights they were said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    #[error("a width of {in_features} is no multiple of the {block_values} values of a {weight_type} block")]
    Width { weight_type: WeightType, in_features: usize, block_values: usize },
    #[error("weights of {found_bytes} bytes, {out_features} x {in_features} in {weight_type} take {expected_bytes}")]
    Length {
        weight_type: WeightType,
        out_features: usize,
        in_features: usize,
        expected_bytes: usize,
        found_bytes: usize,
    },
    #[error("{out_features} x {in_features} weights in {weight_type} exceed the address space")]
    TooLarge { weight_type: WeightType, out_features: usize, in_features: usize },
    #[error("no memory for {bytes} bytes of weights")]
    NoMemory { bytes: usize },
}

/// Weights `[out_features, in_features]`.
#[derive(Debug)]
pub struct Matrix {
    weight_type: WeightType,
    out_features: usize,
    in_features: usize,
    lines: Vec<Line>,
    panel_lines: usize,
}

impl Matrix {
    /// Repacks weights that lie row by row in the layout of the model file, little endian.
    ///
    /// Outputs past the last are zero up to a multiple of 32. Both sizes may be zero.
    pub fn new(
        weight_type: WeightType,
        out_features: usize,
        in_features: usize,
        bytes: &[u8],
    ) -> Result<Matrix, MatrixError> {
        let block_values = weight_type.block_values();
        if !in_features.is_multiple_of(block_values) {
            return Err(MatrixError::Width { weight_type, in_features, block_values });
        }
        let too_large = MatrixError::TooLarge { weight_type, out_features, in_features };
        let row_bytes = (in_features / block_values).checked_mul(weight_type.block_bytes());
        let expected = row_bytes.and_then(|row_bytes| row_bytes.checked_mul(out_features));
        let expected_bytes = expected.ok_or(too_large.clone())?;
        if bytes.len() != expected_bytes {
            let found_bytes = bytes.len();
            return Err(MatrixError::Length { weight_type, out_features, in_features, expected_bytes, found_bytes });
        }
        let (unit, panels) = (Unit::of(weight_type), out_features.div_ceil(PANEL));
        let panel_lines = in_features.div_ceil(unit.positions).checked_mul(unit.lines()).ok_or(too_large.clone())?;
        let num_lines = panel_lines.checked_mul(panels).ok_or(too_large)?;
        let mut lines = Vec::new();
        let no_memory = MatrixError::NoMemory { bytes: num_lines.saturating_mul(size_of::<Line>()) };
        lines.try_reserve_exact(num_lines).map_err(|_| no_memory)?;
        lines.resize(num_lines, Line::ZERO);
        let mut matrix = Matrix { weight_type, out_features, in_features, lines, panel_lines };
        if num_lines > 0 {
            matrix.fill(bytes, expected_bytes / out_features);
        }
        Ok(matrix)
    }

    fn fill(&mut self, bytes: &[u8], row_bytes: usize) {
        let unit = Unit::of(self.weight_type);
        let unit_bytes = unit.positions / self.weight_type.block_values() * self.weight_type.block_bytes();
        let panels = self.lines.chunks_exact_mut(self.panel_lines).zip(bytes.chunks(row_bytes * PANEL));
        for (panel, rows) in panels {
            for (index, unit_lines) in panel.chunks_exact_mut(unit.lines()).enumerate() {
                for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                    let start = index * unit_bytes;
                    let values = &row[start..row_bytes.min(start + unit_bytes)];
                    match unit.positions {
                        2 => pack_floats(self.weight_type, values, lane, unit_lines),
                        _ => pack_unit(self.weight_type, values, lane, unit_lines),
                    }
                }
            }
        }
    }

    pub fn out_features(&self) -> usize {
        self.out_features
    }

    pub fn in_features(&self) -> usize {
        self.in_features
    }

    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Memory it holds.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// The weights of one output as floats, exactly as the file means them.
    ///
    /// Panics unless `row < out_features` and `out` holds `in_features` values.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.out_features, "row {row} of {} outputs", self.out_features);
        assert_eq!(out.len(), self.in_features, "one value per input");
        unpack_row(self.weight_type, self.panel(row / PANEL), row % PANEL, out);
    }

    pub(crate) fn panels(&self) -> usize {
        self.out_features.div_ceil(PANEL)
    }

    /// The lines of outputs `32 * panel` to `32 * panel + 31`.
    pub(crate) fn panel(&self, panel: usize) -> &[Line] {
        &self.lines[panel * self.panel_lines..][..self.panel_lines]
    }
}

/// Copies the rows of `token_ids` out of an embedding matrix `[vocabulary, hidden]` into `out: [tokens, hidden]`.
///
/// Panics if an id is not below the vocabulary or `out` has another size.
pub fn embed(matrix: &Matrix, token_ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), token_ids.len() * matrix.in_features, "one row per token");
    for (row, &token_id) in token_ids.iter().enumerate() {
        let start = row * matrix.in_features;
        matrix.dequantise_row(token_id as usize, &mut out[start..start + matrix.in_features]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::dequantise;
    use crate::testing::random_weights;

    #[test]
    fn rows_read_back_as_the_file_means_them() {
        for weight_type in WeightType::ALL {
            let block = weight_type.block_values();
            for (outputs, blocks) in [(1, 1), (5, 3), (32, 2), (33, 7), (70, 1), (0, 3), (3, 0)] {
                let width = blocks * block;
                let bytes = random_weights(weight_type, outputs * width, 7 + outputs as u64);
                let matrix = Matrix::new(weight_type, outputs, width, &bytes).unwrap();
                let mut want = vec![0.0; outputs * width];
                dequantise(weight_type, &bytes, &mut want);
                let ids: Vec<u32> = (0..outputs as u32).rev().collect();
                let mut got = vec![0.0; outputs * width];
                embed(&matrix, &ids, &mut got);
                for (row, id) in ids.iter().enumerate() {
                    let (row, id) = (row * width, *id as usize * width);
                    assert_eq!(got[row..row + width], want[id..id + width], "{weight_type} {outputs} {blocks}");
                }
            }
        }
    }

    #[test]
    fn wrong_sizes_are_errors_with_numbers() {
        let error = Matrix::new(WeightType::Q8_0, 1, 33, &[]).unwrap_err();
        assert_eq!(error.to_string(), "a width of 33 is no multiple of the 32 values of a Q8_0 block");
        let error = Matrix::new(WeightType::F16, 2, 3, &[0; 11]).unwrap_err();
        assert_eq!(error.to_string(), "weights of 11 bytes, 2 x 3 in F16 take 12");
        let huge = usize::MAX / 2;
        assert!(matches!(Matrix::new(WeightType::F32, huge, 9, &[]), Err(MatrixError::TooLarge { .. })));
    }
}
