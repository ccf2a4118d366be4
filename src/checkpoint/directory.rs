//! Checks that both formats make of their tensor directory.

use std::collections::BTreeMap;

use super::TensorInfo;
use super::error::HeaderError;
use super::limits::Limits;
use super::tensor_type::TensorType;

/// The shape as sizes that fit this machine, and the bytes it takes.
pub(super) fn checked_shape(
    name: &str,
    shape: &[u64],
    tensor_type: TensorType,
    limits: &Limits,
) -> Result<(Vec<usize>, usize), HeaderError> {
    let axes_max = limits.tensor_axes_max;
    if shape.is_empty() || shape.len() > axes_max || shape.contains(&0) {
        return Err(HeaderError::Shape { name: name.to_owned(), shape: shape.to_vec(), axes_max });
    }
    let overflow = || HeaderError::ShapeOverflow { name: name.to_owned(), shape: shape.to_vec() };
    let mut sizes = Vec::with_capacity(shape.len());
    let mut values = 1_usize;
    for axis in shape {
        let axis = usize::try_from(*axis).map_err(|_| overflow())?;
        values = values.checked_mul(axis).ok_or_else(overflow)?;
        sizes.push(axis);
    }
    let width = sizes[sizes.len() - 1];
    let block = tensor_type.block_values();
    if !width.is_multiple_of(block) {
        return Err(HeaderError::RaggedRows { name: name.to_owned(), width, tensor_type: tensor_type.name(), block });
    }
    let bytes = tensor_type.bytes_of(values).ok_or_else(overflow)?;
    Ok((sizes, bytes))
}

/// The tensors of one file in the order they lie in it.
pub(super) fn by_offset(tensors: &BTreeMap<String, TensorInfo>) -> Vec<(&str, &TensorInfo)> {
    let mut sorted: Vec<_> = tensors.iter().map(|(name, info)| (name.as_str(), info)).collect();
    sorted.sort_by_key(|(_, info)| info.offset);
    sorted
}

/// Refuses two tensors that share a byte.
pub(super) fn refuse_overlaps(tensors: &BTreeMap<String, TensorInfo>, data_start: u64) -> Result<(), HeaderError> {
    for pair in by_offset(tensors).windows(2) {
        let ((first, earlier), (second, later)) = (pair[0], pair[1]);
        if earlier.offset + earlier.len as u64 > later.offset {
            let at = later.offset - data_start;
            return Err(HeaderError::Overlap { first: first.to_owned(), second: second.to_owned(), at });
        }
    }
    Ok(())
}
