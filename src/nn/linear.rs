//! The one seam over the packed matrices of `kernels`: everything above multiplies through [`Linear`].

use kernels::{Matrix, Pool, Rows, linear, quantises};

/// A linear layer: weights `[out_features, in_features]` as a step reads them, and a bias.
#[derive(Debug)]
pub struct Linear {
    matrix: Matrix,
    bias: Option<Vec<f32>>,
}

impl Linear {
    pub(super) fn new(matrix: Matrix, bias: Option<Vec<f32>>) -> Self {
        Self { matrix, bias }
    }

    pub(super) fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// Bytes of weights and bias.
    pub(super) fn bytes(&self) -> usize {
        self.matrix.bytes() + self.bias.as_ref().map_or(0, |bias| size_of_val(bias.as_slice()))
    }

    /// `out: [rows, out_features]` from the rows loaded last.
    pub(super) fn forward(&self, pool: &Pool, inputs: &Rows, out: &mut [f32]) {
        linear(pool, &self.matrix, self.bias.as_deref(), inputs, out);
    }
}

/// Loads `x: [rows, width]` in the forms that the layers which share it read: f32, int8 blocks or both.
pub(super) fn load_inputs(pool: &Pool, inputs: &mut Rows, x: &[f32], rows: usize, readers: &[&Linear]) {
    let width = readers[0].matrix.in_features();
    let is_quantised = |reader: &&Linear| quantises(reader.matrix.weight_type());
    if readers.iter().all(is_quantised) {
        inputs.load_quantised(pool, x, rows, width);
    } else {
        inputs.load(pool, x, rows, width, readers.iter().any(is_quantised));
    }
}
