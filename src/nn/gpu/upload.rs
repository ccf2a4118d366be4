//! From the bytes of a file to matrices on the device, through page-locked memory: while one piece travels and is
//! converted there, the next is being written here.

use kernels::WeightType;
use kernels::gpu::{Buffer, DeviceMatrix, Gpu, HostBuffer, SourceRows, SourceType, WeightFormat, convert_rows};

use super::super::convert;
use super::super::error::LoadError;
use super::super::weights::{Bias, RowOrder, Scope, StoredMatrix};

/// Bytes of one piece: large enough for the full speed of the bus, small next to any model.
const PIECE_BYTES: usize = 32 << 20;

/// One matrix out of several modules, one below the other: `("q_proj", q_width, Rotated)` and so on.
pub(super) struct Stack<'a> {
    pub parts: &'a [Part<'a>],
    pub in_features: usize,
    pub bias: Bias,
}

pub(super) struct Part<'a> {
    pub module: &'a str,
    pub out_features: usize,
    pub order: RowOrder,
}

pub(super) struct Uploader {
    gpu: Gpu,
    format: WeightFormat,
    /// Written in turns.
    pieces: [HostBuffer<u8>; 2],
    next: usize,
    on_device: Buffer<u8>,
}

impl Uploader {
    /// `row_values_max`: the widest row of the model.
    pub fn new(gpu: &Gpu, format: WeightFormat, row_values_max: usize) -> Result<Self, LoadError> {
        let bytes = PIECE_BYTES.max(row_values_max * size_of::<f32>());
        Ok(Self {
            gpu: gpu.clone(),
            format,
            pieces: [gpu.host_buffer(bytes)?, gpu.host_buffer(bytes)?],
            next: 0,
            on_device: gpu.uninitialised(bytes)?,
        })
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Reads the modules of a stack and puts them one below the other into one matrix.
    pub fn matrix(&mut self, scope: &Scope<'_, '_>, stack: &Stack<'_>) -> Result<DeviceMatrix, LoadError> {
        let Stack { parts, in_features, bias } = *stack;
        let out_features = parts.iter().map(|part| part.out_features).sum();
        let mut matrix = DeviceMatrix::zeroed(&self.gpu, self.format, out_features, in_features)?;
        let mut biases = Vec::new();
        let mut first_row = 0;
        for part in parts {
            let stored = scope.matrix(part.module, [part.out_features, in_features], part.order)?;
            self.fill(&mut matrix, first_row, &stored)?;
            if let Some(values) = scope.bias(part.module, part.out_features, bias, part.order)? {
                biases.extend(values);
            }
            scope.done(self.format.matrix_bytes(part.out_features, in_features));
            first_row += part.out_features;
        }
        if bias == Bias::Present {
            matrix.set_bias(self.gpu.upload(&biases)?);
        }
        Ok(matrix)
    }

    /// Converts the rows of a stored matrix into `matrix[first_row..]`.
    fn fill(
        &mut self,
        matrix: &mut DeviceMatrix,
        first_row: usize,
        stored: &StoredMatrix<'_>,
    ) -> Result<(), LoadError> {
        let in_features = matrix.in_features();
        let stored_type = convert::stored_type(&stored.name, stored.raw.tensor_type)?;
        let (source_type, is_decoded_here) = match stored_type {
            WeightType::F32 => (SourceType::F32, false),
            WeightType::F16 => (SourceType::F16, false),
            WeightType::Bf16 => (SourceType::Bf16, false),
            // Blocks of a model file become floats here and are rounded again there.
            WeightType::Q8_0 | WeightType::Q4_0 | WeightType::Q4K | WeightType::Q5K | WeightType::Q6K => {
                (SourceType::F32, true)
            }
        };
        let stored_row_bytes = in_features / stored_type.block_values() * stored_type.block_bytes();
        let row_bytes = in_features * source_type.value_bytes();
        let piece_rows = (self.on_device.len() / row_bytes.max(1)).max(1);
        let mut decoded = Vec::new();
        for (index, rows) in stored.raw.bytes.chunks(piece_rows * stored_row_bytes).enumerate() {
            let num_rows = rows.len() / stored_row_bytes;
            let piece = &mut self.pieces[self.next];
            self.next = 1 - self.next;
            let bytes = num_rows * row_bytes;
            let target = &mut piece.values_mut()?[..bytes];
            if is_decoded_here {
                decoded.resize(num_rows * in_features, 0.0);
                kernels::reference::dequantise(stored_type, rows, &mut decoded);
                for (target, value) in target.chunks_exact_mut(size_of::<f32>()).zip(&decoded) {
                    target.copy_from_slice(&value.to_le_bytes());
                }
            } else {
                target.copy_from_slice(rows);
            }
            self.gpu.send(piece, &mut self.on_device, 0, bytes)?;
            let source = SourceRows { values: &self.on_device, start: 0, source_type, rows: num_rows };
            convert_rows(&self.gpu, source, matrix, first_row + index * piece_rows)?;
        }
        Ok(())
    }
}
