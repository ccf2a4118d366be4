//! The GGUF header, versions 2 and 3: metadata and tensor directory, read without trusting a single length.
//!
//! Source: docs/gguf.md of ggml.

use std::collections::BTreeMap;

use super::TensorInfo;
use super::directory;
use super::error::{HeaderError, MetadataError};
use super::limits::Limits;
use super::metadata::{Array, Metadata, Value};
use super::source::{Cursor, Source};
use super::tensor_type::TensorType;

/// What a GGUF file says about itself.
pub(super) struct Header {
    pub metadata: Metadata,
    pub tensors: BTreeMap<String, TensorInfo>,
}

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
/// Spec: `ALIGNMENT` is a multiple of 8.
const ALIGNMENT_MIN: u64 = 8;
/// Key length, value type and the smallest value.
const METADATA_ENTRY_BYTES_MIN: u64 = 8 + 4 + 1;
/// Name length, number of axes, one axis, type, offset.
const TENSOR_ENTRY_BYTES_MIN: u64 = 8 + 4 + 8 + 4 + 8;

pub(super) fn read_header(source: &Source, limits: &Limits) -> Result<Header, HeaderError> {
    let mut cursor = Cursor::new(source, limits.gguf_header_bytes_max);
    let magic = cursor.array::<4>("magic")?;
    if &magic != MAGIC {
        return Err(HeaderError::Magic { found: magic });
    }
    let version = cursor.u32("version")?;
    if !(2..=3).contains(&version) {
        return Err(HeaderError::Version { found: version });
    }
    let tensor_count = cursor.count("tensor count", limits.tensors_max, TENSOR_ENTRY_BYTES_MIN)?;
    let entry_count = cursor.count("metadata count", limits.metadata_entries_max, METADATA_ENTRY_BYTES_MIN)?;

    let mut metadata = Metadata::default();
    for _ in 0..entry_count {
        let key = cursor.string("metadata key", limits.key_bytes_max)?;
        let type_id = cursor.u32("metadata type")?;
        let value = read_value(&mut cursor, type_id, limits)?;
        metadata.insert(key, value).map_err(|name| HeaderError::Duplicate { what: "metadata key", name })?;
    }
    refuse_split(&metadata)?;
    let alignment = alignment(&metadata, limits)?;

    let mut entries = Vec::new();
    for _ in 0..tensor_count {
        entries.push(read_tensor_entry(&mut cursor, limits)?);
    }
    let data_start = cursor.position().next_multiple_of(alignment).min(source.bytes());
    let tensors = place(entries, data_start, source.bytes() - data_start, alignment, limits)?;
    Ok(Header { metadata, tensors })
}

/// A model cut into several files is loadable only whole.
fn refuse_split(metadata: &Metadata) -> Result<(), HeaderError> {
    match metadata.u64("split.count") {
        Ok(Some(count)) if count > 1 => Err(HeaderError::Split { count }),
        _ => Ok(()),
    }
}

fn alignment(metadata: &Metadata, limits: &Limits) -> Result<u64, HeaderError> {
    let max = limits.alignment_max;
    let found = match metadata.u64("general.alignment") {
        Ok(found) => found.unwrap_or(DEFAULT_ALIGNMENT),
        Err(MetadataError::Missing { .. } | MetadataError::WrongType { .. } | MetadataError::OutOfRange { .. }) => 0,
    };
    if !found.is_power_of_two() || !(ALIGNMENT_MIN..=max).contains(&found) {
        return Err(HeaderError::Alignment { found, max });
    }
    Ok(found)
}

/// Metadata type ids of the specification.
mod type_id {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

fn read_value(cursor: &mut Cursor<'_>, id: u32, limits: &Limits) -> Result<Value, HeaderError> {
    const WHAT: &str = "metadata value";
    Ok(match id {
        type_id::U8 => Value::UInt(cursor.array::<1>(WHAT)?[0].into()),
        type_id::I8 => Value::Int(i8::from_le_bytes(cursor.array(WHAT)?).into()),
        type_id::U16 => Value::UInt(u16::from_le_bytes(cursor.array(WHAT)?).into()),
        type_id::I16 => Value::Int(i16::from_le_bytes(cursor.array(WHAT)?).into()),
        type_id::U32 => Value::UInt(cursor.u32(WHAT)?.into()),
        type_id::I32 => Value::Int(i32::from_le_bytes(cursor.array(WHAT)?).into()),
        type_id::F32 => Value::Float(f32::from_le_bytes(cursor.array(WHAT)?).into()),
        type_id::BOOL => {
            let offset = cursor.position();
            Value::Bool(to_bool(cursor.array::<1>(WHAT)?[0], offset)?)
        }
        type_id::STRING => Value::String(cursor.string("metadata string", limits.string_bytes_max)?),
        type_id::ARRAY => Value::Array(read_array(cursor, limits, limits.array_depth_max)?),
        type_id::U64 => Value::UInt(cursor.u64(WHAT)?),
        type_id::I64 => Value::Int(i64::from_le_bytes(cursor.array(WHAT)?)),
        type_id::F64 => Value::Float(f64::from_le_bytes(cursor.array(WHAT)?)),
        id => return Err(HeaderError::UnknownType { what: WHAT, id }),
    })
}

fn to_bool(byte: u8, offset: u64) -> Result<bool, HeaderError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(HeaderError::NotBool { offset, found }),
    }
}

/// Reads an array; `depth_left` counts how many arrays may still stand inside each other.
fn read_array(cursor: &mut Cursor<'_>, limits: &Limits, depth_left: usize) -> Result<Array, HeaderError> {
    if depth_left == 0 {
        let limit = limits.array_depth_max as u64;
        return Err(HeaderError::OverLimit { what: "depth of arrays in arrays", found: limit + 1, limit });
    }
    let id = cursor.u32("array element type")?;
    let element_bytes_min: u64 = match id {
        type_id::U8 | type_id::I8 | type_id::BOOL => 1,
        type_id::U16 | type_id::I16 => 2,
        type_id::U32 | type_id::I32 | type_id::F32 => 4,
        type_id::U64 | type_id::I64 | type_id::F64 | type_id::STRING => 8,
        type_id::ARRAY => 12,
        id => return Err(HeaderError::UnknownType { what: "array element", id }),
    };
    let count = cursor.count("array length", limits.array_elements_max, element_bytes_min)?;
    Ok(match id {
        type_id::U8 => Array::I32s(numbers(cursor, count, |[byte]: [u8; 1]| byte.into())?),
        type_id::I8 => Array::I32s(numbers(cursor, count, |bytes| i8::from_le_bytes(bytes).into())?),
        type_id::U16 => Array::I32s(numbers(cursor, count, |bytes| u16::from_le_bytes(bytes).into())?),
        type_id::I16 => Array::I32s(numbers(cursor, count, |bytes| i16::from_le_bytes(bytes).into())?),
        type_id::I32 => Array::I32s(numbers(cursor, count, i32::from_le_bytes)?),
        type_id::U32 => Array::UInts(numbers(cursor, count, |bytes| u32::from_le_bytes(bytes).into())?),
        type_id::U64 => Array::UInts(numbers(cursor, count, u64::from_le_bytes)?),
        type_id::I64 => Array::Ints(numbers(cursor, count, i64::from_le_bytes)?),
        type_id::F32 => Array::Floats(numbers(cursor, count, f32::from_le_bytes)?),
        type_id::F64 => Array::Doubles(numbers(cursor, count, f64::from_le_bytes)?),
        type_id::BOOL => {
            let offset = cursor.position();
            let bytes = cursor.take("array of booleans", count as u64)?;
            let flags = bytes.iter().enumerate().map(|(index, byte)| to_bool(*byte, offset + index as u64));
            Array::Bools(flags.collect::<Result<_, _>>()?)
        }
        type_id::STRING => {
            let mut strings = Vec::new();
            for _ in 0..count {
                strings.push(cursor.string("string in an array", limits.string_bytes_max)?);
            }
            Array::Strings(strings)
        }
        _ => {
            let mut arrays = Vec::new();
            for _ in 0..count {
                arrays.push(read_array(cursor, limits, depth_left - 1)?);
            }
            Array::Nested(arrays)
        }
    })
}

/// `count` numbers of `N` bytes each; [`Cursor::count`] has found them to be there.
fn numbers<const N: usize, T>(
    cursor: &mut Cursor<'_>,
    count: usize,
    convert: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, HeaderError> {
    let bytes = cursor.take("array of numbers", (count * N) as u64)?;
    Ok(bytes.chunks_exact(N).map(|chunk| convert(chunk.try_into().expect("chunks are N bytes long"))).collect())
}

/// A tensor as the directory lists it.
struct Entry {
    name: String,
    /// Innermost axis last, as everywhere outside GGUF.
    shape: Vec<u64>,
    tensor_type: TensorType,
    offset: u64,
}

fn read_tensor_entry(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Entry, HeaderError> {
    let name = cursor.string("tensor name", limits.tensor_name_bytes_max)?;
    let axes = cursor.u32("number of axes")?;
    if axes as usize > limits.tensor_axes_max {
        let limit = limits.tensor_axes_max as u64;
        return Err(HeaderError::OverLimit { what: "number of axes", found: axes.into(), limit });
    }
    let mut shape = Vec::new();
    for _ in 0..axes {
        shape.push(cursor.u64("tensor axis")?);
    }
    shape.reverse();
    let id = cursor.u32("tensor type")?;
    let tensor_type = TensorType::from_gguf_id(id).map_err(|removed| match removed {
        Some(found) => HeaderError::RemovedType { what: "tensor", name: name.clone(), found },
        None => HeaderError::UnknownTensorType { name: name.clone(), id },
    })?;
    let offset = cursor.u64("tensor offset")?;
    Ok(Entry { name, shape, tensor_type, offset })
}

/// Turns the listed tensors into checked ranges of the file.
fn place(
    entries: Vec<Entry>,
    data_start: u64,
    available: u64,
    alignment: u64,
    limits: &Limits,
) -> Result<BTreeMap<String, TensorInfo>, HeaderError> {
    let mut tensors = BTreeMap::new();
    for Entry { name, shape, tensor_type, offset: start } in entries {
        let (shape, len) = directory::checked_shape(&name, &shape, tensor_type, limits)?;
        if !start.is_multiple_of(alignment) {
            return Err(HeaderError::Misaligned { name, offset: start, alignment });
        }
        let end = start.checked_add(len as u64).filter(|end| *end <= available).ok_or_else(|| {
            HeaderError::OutsideFile { name: name.clone(), start, end: start.saturating_add(len as u64), available }
        })?;
        debug_assert!(end <= available);
        let info = TensorInfo { tensor_type, shape, source_index: 0, offset: data_start + start, len };
        if tensors.contains_key(&name) {
            return Err(HeaderError::Duplicate { what: "tensor", name });
        }
        tensors.insert(name, info);
    }
    directory::refuse_overlaps(&tensors, data_start)?;
    Ok(tensors)
}
