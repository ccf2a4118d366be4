//! Weights of a linear layer on the device.

use half::bf16;

use super::buffer::Buffer;
use super::driver::Gpu;
use super::error::GpuError;

/// Values along a row that share one scale in [`WeightFormat::Int4`].
pub const INT4_GROUP: usize = 128;

/// Rows start at multiples of this many bytes.
const ROW_ALIGNMENT: usize = 16;

/// How the values of a matrix are stored on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    Bf16,
    /// e4m3 with one f32 scale per row: value = scale * stored.
    Fp8,
    /// Two values per byte, low nibble first, groups of [`INT4_GROUP`] along a row with one bf16 scale each:
    /// value = scale * (nibble - 8).
    Int4,
}

impl WeightFormat {
    /// Bytes from one row to the next.
    #[must_use]
    pub fn row_bytes(self, in_features: usize) -> usize {
        let bytes = match self {
            Self::Bf16 => in_features * 2,
            Self::Fp8 => in_features,
            Self::Int4 => in_features.div_ceil(2),
        };
        bytes.next_multiple_of(ROW_ALIGNMENT)
    }

    /// Bytes of a matrix with its scales; saturates.
    #[must_use]
    pub fn matrix_bytes(self, out_features: usize, in_features: usize) -> u64 {
        let scales = match self {
            Self::Bf16 => 0,
            Self::Fp8 => size_of::<f32>(),
            Self::Int4 => in_features.div_ceil(INT4_GROUP) * size_of::<bf16>(),
        };
        (out_features as u64).saturating_mul((self.row_bytes(in_features) + scales) as u64)
    }
}

impl std::fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int4 => "int4",
        })
    }
}

/// The scales of a matrix.
#[derive(Debug)]
pub(super) enum Scales {
    None,
    /// `[out_features]`
    PerRow(Buffer<f32>),
    /// `[out_features, ceil(in_features / 128)]`
    PerGroup(Buffer<bf16>),
}

/// A matrix `[out_features, in_features]` on the device, row-major, and an optional bias `[out_features]`.
#[derive(Debug)]
pub struct DeviceMatrix {
    pub(super) format: WeightFormat,
    pub(super) out_features: usize,
    pub(super) in_features: usize,
    /// `[out_features, row_bytes]`; what pads a row is zero (nibbles of 8 in int4).
    pub(super) rows: Buffer<u8>,
    pub(super) scales: Scales,
    pub(super) bias: Option<Buffer<f32>>,
}

impl DeviceMatrix {
    /// A matrix of zeros; rows are filled by [`super::convert_rows`].
    pub fn zeroed(gpu: &Gpu, format: WeightFormat, out_features: usize, in_features: usize) -> Result<Self, GpuError> {
        let mut rows = gpu.uninitialised(out_features * format.row_bytes(in_features))?;
        gpu.fill_bytes(&mut rows, if format == WeightFormat::Int4 { 0x88 } else { 0 })?;
        let scales = match format {
            WeightFormat::Bf16 => Scales::None,
            WeightFormat::Fp8 => Scales::PerRow(gpu.zeroed(out_features)?),
            WeightFormat::Int4 => Scales::PerGroup(gpu.zeroed(out_features * in_features.div_ceil(INT4_GROUP))?),
        };
        Ok(Self { format, out_features, in_features, rows, scales, bias: None })
    }

    /// Sets the bias, `[out_features]`.
    pub fn set_bias(&mut self, bias: Buffer<f32>) {
        assert_eq!(bias.len(), self.out_features, "a bias for every output");
        self.bias = Some(bias);
    }

    #[must_use]
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    #[must_use]
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    #[must_use]
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Device memory of weights, scales and bias.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let scales = match &self.scales {
            Scales::None => 0,
            Scales::PerRow(scales) => scales.bytes(),
            Scales::PerGroup(scales) => scales.bytes(),
        };
        (self.rows.bytes() + scales + self.bias.as_ref().map_or(0, Buffer::bytes)) as u64
    }
}
