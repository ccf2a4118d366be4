//! The key-value part of a GGUF file, with getters that say what was found when it is not what was wanted.

use std::collections::BTreeMap;

use super::error::MetadataError;

/// One metadata value. Integers are widened: the width a writer chose carries no meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(i64),
    UInt(u64),
    Float(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// The values of an array, by element type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    Ints(Vec<i64>),
    UInts(Vec<u64>),
    /// Narrow integers keep their width in memory: token types are as many as the vocabulary.
    I32s(Vec<i32>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Bools(Vec<bool>),
    Strings(Vec<String>),
    Nested(Vec<Array>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Int(_) | Self::UInt(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::String(_) => "a string",
            Self::Array(Array::Ints(_) | Array::UInts(_) | Array::I32s(_)) => "an array of integers",
            Self::Array(Array::Floats(_) | Array::Doubles(_)) => "an array of floats",
            Self::Array(Array::Bools(_)) => "an array of booleans",
            Self::Array(Array::Strings(_)) => "an array of strings",
            Self::Array(Array::Nested(_)) => "an array of arrays",
        }
    }
}

/// All metadata of one GGUF file. A getter gives `None` for an absent key and an error for one of another type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
}

impl Metadata {
    /// Adds an entry; gives it back if the key is taken.
    pub(super) fn insert(&mut self, key: String, value: Value) -> Result<(), String> {
        if self.entries.contains_key(&key) {
            return Err(key);
        }
        self.entries.insert(key, value);
        Ok(())
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Turns an absent entry into an error: `metadata.required("general.architecture", Metadata::string)?`.
    pub fn required<'a, T>(
        &'a self,
        key: &str,
        getter: impl FnOnce(&'a Self, &str) -> Result<Option<T>, MetadataError>,
    ) -> Result<T, MetadataError> {
        getter(self, key)?.ok_or_else(|| MetadataError::Missing { key: key.to_owned() })
    }

    pub fn string(&self, key: &str) -> Result<Option<&str>, MetadataError> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, MetadataError> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Any integer that fits `u32`, whatever width it is stored in.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, MetadataError> {
        match self.u64(key)? {
            None => Ok(None),
            Some(wide) => match u32::try_from(wide) {
                Ok(narrow) => Ok(Some(narrow)),
                Err(_) => Err(out_of_range(key, wide, "u32")),
            },
        }
    }

    /// Any integer that is not negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, MetadataError> {
        match self.get(key) {
            Some(Value::Int(value)) => match u64::try_from(*value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(out_of_range(key, value, "u64")),
            },
            _ => self.typed(key, "an integer", |value| match value {
                Value::UInt(value) => Some(*value),
                _ => None,
            }),
        }
    }

    /// A float of either width, rounded to f32.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, MetadataError> {
        self.typed(key, "a float", |value| match value {
            Value::Float(value) => Some(*value as f32),
            _ => None,
        })
    }

    pub fn string_array(&self, key: &str) -> Result<Option<&[String]>, MetadataError> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::Strings(strings)) => Some(strings.as_slice()),
            _ => None,
        })
    }

    pub fn i32_array(&self, key: &str) -> Result<Option<&[i32]>, MetadataError> {
        self.typed(key, "an array of 32-bit integers", |value| match value {
            Value::Array(Array::I32s(values)) => Some(values.as_slice()),
            _ => None,
        })
    }

    pub fn f32_array(&self, key: &str) -> Result<Option<&[f32]>, MetadataError> {
        self.typed(key, "an array of 32-bit floats", |value| match value {
            Value::Array(Array::Floats(values)) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Number of elements of an array of any type, such as the vocabulary.
    pub fn array_len(&self, key: &str) -> Result<Option<usize>, MetadataError> {
        self.typed(key, "an array", |value| match value {
            Value::Array(array) => Some(match array {
                Array::Ints(values) => values.len(),
                Array::UInts(values) => values.len(),
                Array::I32s(values) => values.len(),
                Array::Floats(values) => values.len(),
                Array::Doubles(values) => values.len(),
                Array::Bools(values) => values.len(),
                Array::Strings(values) => values.len(),
                Array::Nested(values) => values.len(),
            }),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MetadataError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match pick(value) {
                Some(picked) => Ok(Some(picked)),
                None => Err(MetadataError::WrongType { key: key.to_owned(), found: value.kind(), expected }),
            },
        }
    }
}

fn out_of_range(key: &str, found: impl ToString, expected: &'static str) -> MetadataError {
    MetadataError::OutOfRange { key: key.to_owned(), found: found.to_string(), expected }
}
