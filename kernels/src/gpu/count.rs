//! Counts as kernels take them.

/// Panics above 32 bits: no operation has as many rows or columns.
pub(super) fn count(value: usize) -> u32 {
    u32::try_from(value).expect("rows, columns and strides of an operation fit 32 bits")
}
