//! The safetensors header: one JSON object, bounded, whose ranges must cover the data exactly.
//!
//! Source: the format section of the safetensors README.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::TensorInfo;
use super::directory;
use super::error::HeaderError;
use super::limits::Limits;
use super::source::{Cursor, Source};
use super::tensor_type::TensorType;

/// Reads the directory of one file; `source_index` says which file of the model it is.
pub(super) fn read_header(
    source: &Source,
    source_index: usize,
    limits: &Limits,
) -> Result<BTreeMap<String, TensorInfo>, HeaderError> {
    let mut cursor = Cursor::new(source, source.bytes());
    let header_len = cursor.count("header length", limits.safetensors_header_bytes_max, 1)?;
    let Directory(entries) = serde_json::from_slice(cursor.take("header", header_len as u64)?)?;
    let found = entries.len() as u64;
    if found > limits.tensors_max {
        return Err(HeaderError::OverLimit { what: "tensor count", found, limit: limits.tensors_max });
    }
    let data_start = cursor.position();
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let info = check_entry(&name, &entry, data_start, cursor.left(), limits)?;
        if tensors.contains_key(&name) {
            return Err(HeaderError::Duplicate { what: "tensor", name });
        }
        tensors.insert(name, TensorInfo { source_index, ..info });
    }
    refuse_holes(&tensors, data_start, source.bytes())?;
    Ok(tensors)
}

fn check_entry(
    name: &str,
    entry: &Entry,
    data_start: u64,
    available: u64,
    limits: &Limits,
) -> Result<TensorInfo, HeaderError> {
    let found = name.len() as u64;
    if found > limits.tensor_name_bytes_max {
        return Err(HeaderError::OverLimit {
            what: "length of a tensor name",
            found,
            limit: limits.tensor_name_bytes_max,
        });
    }
    let name = || name.to_owned();
    let [start, end] = entry.data_offsets;
    let found = end.checked_sub(start).ok_or_else(|| HeaderError::Reversed { name: name(), start, end })?;
    if end > available {
        return Err(HeaderError::OutsideFile { name: name(), start, end, available });
    }
    let tensor_type = TensorType::from_safetensors(&entry.dtype)
        .ok_or_else(|| HeaderError::UnknownDtype { name: name(), dtype: entry.dtype.chars().take(32).collect() })?;
    // A scalar has no axes; one value is what it holds.
    let shape = if entry.shape.is_empty() { &[1][..] } else { &entry.shape };
    let (sizes, len) = directory::checked_shape(&name(), shape, tensor_type, limits)?;
    if found != len as u64 {
        let (tensor_type, needed) = (tensor_type.name(), len as u64);
        return Err(HeaderError::Length { name: name(), tensor_type, shape: shape.to_vec(), found, needed });
    }
    Ok(TensorInfo { tensor_type, shape: sizes, source_index: 0, offset: data_start + start, len })
}

/// The format leaves no byte unnamed: between tensors, before the first or after the last.
fn refuse_holes(tensors: &BTreeMap<String, TensorInfo>, data_start: u64, file_end: u64) -> Result<(), HeaderError> {
    directory::refuse_overlaps(tensors, data_start)?;
    let mut covered = data_start;
    for (_, info) in directory::by_offset(tensors) {
        if info.offset != covered {
            return Err(HeaderError::Hole { start: covered - data_start, end: info.offset - data_start });
        }
        covered = info.offset + info.len as u64;
    }
    if covered != file_end {
        return Err(HeaderError::Hole { start: covered - data_start, end: file_end - data_start });
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's entries in file order, doubles included: a map would silently keep one of two.
struct Directory(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Directory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Directory;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Directory, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Directory(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
