//! Every element type a GGUF or safetensors file can name, so that an unsupported one is an error with a name.
//!
//! Source: `enum ggml_type` in ggml.h and the block structures in ggml-common.h; the safetensors format description.

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[rustfmt::skip]
#[expect(non_camel_case_types, reason = "the names are ggml's, with its underscores, so that they can be searched for")]
pub enum TensorType {
    F64, F32, F16, Bf16,
    I64, I32, I16, I8, U64, U32, U16, U8, Bool, F8E4M3, F8E5M2,
    Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1,
    Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K,
    IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS,
    TQ1_0, TQ2_0, MXFP4, NVFP4,
}

/// A type with its name, its id in GGUF (if it has one) and the size of its smallest unit.
struct Row {
    tensor_type: TensorType,
    name: &'static str,
    gguf_id: Option<u32>,
    block_values: usize,
    block_bytes: usize,
}

const fn row(
    tensor_type: TensorType,
    name: &'static str,
    gguf_id: Option<u32>,
    block_values: usize,
    block_bytes: usize,
) -> Row {
    Row { tensor_type, name, gguf_id, block_values, block_bytes }
}

/// In the order of the enum, which a test checks.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(TensorType::F64, "F64", Some(28), 1, 8),
    row(TensorType::F32, "F32", Some(0), 1, 4),
    row(TensorType::F16, "F16", Some(1), 1, 2),
    row(TensorType::Bf16, "BF16", Some(30), 1, 2),
    row(TensorType::I64, "I64", Some(27), 1, 8),
    row(TensorType::I32, "I32", Some(26), 1, 4),
    row(TensorType::I16, "I16", Some(25), 1, 2),
    row(TensorType::I8, "I8", Some(24), 1, 1),
    row(TensorType::U64, "U64", None, 1, 8),
    row(TensorType::U32, "U32", None, 1, 4),
    row(TensorType::U16, "U16", None, 1, 2),
    row(TensorType::U8, "U8", None, 1, 1),
    row(TensorType::Bool, "BOOL", None, 1, 1),
    row(TensorType::F8E4M3, "F8_E4M3", None, 1, 1),
    row(TensorType::F8E5M2, "F8_E5M2", None, 1, 1),
    row(TensorType::Q4_0, "Q4_0", Some(2), 32, 18),
    row(TensorType::Q4_1, "Q4_1", Some(3), 32, 20),
    row(TensorType::Q5_0, "Q5_0", Some(6), 32, 22),
    row(TensorType::Q5_1, "Q5_1", Some(7), 32, 24),
    row(TensorType::Q8_0, "Q8_0", Some(8), 32, 34),
    row(TensorType::Q8_1, "Q8_1", Some(9), 32, 36),
    row(TensorType::Q2_K, "Q2_K", Some(10), 256, 84),
    row(TensorType::Q3_K, "Q3_K", Some(11), 256, 110),
    row(TensorType::Q4_K, "Q4_K", Some(12), 256, 144),
    row(TensorType::Q5_K, "Q5_K", Some(13), 256, 176),
    row(TensorType::Q6_K, "Q6_K", Some(14), 256, 210),
    row(TensorType::Q8_K, "Q8_K", Some(15), 256, 292),
    row(TensorType::IQ1_S, "IQ1_S", Some(19), 256, 50),
    row(TensorType::IQ1_M, "IQ1_M", Some(29), 256, 56),
    row(TensorType::IQ2_XXS, "IQ2_XXS", Some(16), 256, 66),
    row(TensorType::IQ2_XS, "IQ2_XS", Some(17), 256, 74),
    row(TensorType::IQ2_S, "IQ2_S", Some(22), 256, 82),
    row(TensorType::IQ3_XXS, "IQ3_XXS", Some(18), 256, 98),
    row(TensorType::IQ3_S, "IQ3_S", Some(21), 256, 110),
    row(TensorType::IQ4_NL, "IQ4_NL", Some(20), 32, 18),
    row(TensorType::IQ4_XS, "IQ4_XS", Some(23), 256, 136),
    row(TensorType::TQ1_0, "TQ1_0", Some(34), 256, 54),
    row(TensorType::TQ2_0, "TQ2_0", Some(35), 256, 66),
    row(TensorType::MXFP4, "MXFP4", Some(39), 32, 17),
    row(TensorType::NVFP4, "NVFP4", Some(40), 64, 36),
];

/// Ids that ggml once gave out and has taken back.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

impl TensorType {
    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The name as files spell it, such as `Q4_K` or `BF16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Values in the smallest unit that can be stored; rows are whole multiples of it.
    #[must_use]
    pub fn block_values(self) -> usize {
        self.row().block_values
    }

    /// Bytes of that unit.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// Bytes of `values` values, or `None` if they are no whole number of blocks or overflow.
    #[must_use]
    pub fn bytes_of(self, values: usize) -> Option<usize> {
        let row = self.row();
        values.is_multiple_of(row.block_values).then(|| (values / row.block_values).checked_mul(row.block_bytes))?
    }

    /// The type with this GGUF id; `Err` carries the name of an id that was taken back, if it is one.
    pub(super) fn from_gguf_id(id: u32) -> Result<Self, Option<&'static str>> {
        match TABLE.iter().find(|row| row.gguf_id == Some(id)) {
            Some(row) => Ok(row.tensor_type),
            None => Err(REMOVED.iter().find(|(removed, _)| *removed == id).map(|(_, name)| *name)),
        }
    }

    /// The type a safetensors header calls `dtype`; only plain types exist there.
    pub(super) fn from_safetensors(dtype: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.block_values == 1 && row.name == dtype).map(|row| row.tensor_type)
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_the_enum() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.tensor_type as usize, index, "{}", row.name);
        }
    }

    #[test]
    fn bytes_are_counted_in_whole_blocks() {
        assert_eq!(TensorType::Q4_K.bytes_of(512), Some(288));
        assert_eq!(TensorType::Q4_K.bytes_of(300), None);
        assert_eq!(TensorType::F64.bytes_of(usize::MAX), None);
        assert_eq!(TensorType::from_gguf_id(17), Ok(TensorType::IQ2_XS));
        assert_eq!(TensorType::from_gguf_id(4), Err(Some("Q4_2")));
        assert_eq!(TensorType::from_gguf_id(99), Err(None));
    }
}
