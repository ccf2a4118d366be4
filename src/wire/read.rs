//! Takes a JSON object apart field by field. Every error names the path it is about; a field nobody asked for is one.

use super::json::{Json, quoted};

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// For example `messages[0].content`; empty for the whole body.
    pub path: String,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Missing,
    WrongType { expected: &'static str, found: &'static str },
    Unknown { name: String, suggestion: Option<&'static str> },
}

impl std::error::Error for ReadError {}

impl std::fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "the body" } else { &self.path };
        match &self.problem {
            Problem::Missing => write!(formatter, "{path} is required"),
            Problem::WrongType { expected, found } => {
                write!(formatter, "{path} has to be {expected}, found {found}")
            }
            Problem::Unknown { name, suggestion: None } => write!(formatter, "unknown field {name} in {path}"),
            Problem::Unknown { name, suggestion: Some(suggestion) } => {
                write!(formatter, "unknown field {name} in {path}, did you mean {suggestion:?}?")
            }
        }
    }
}

/// An object being taken apart. Remembers which names were asked for: the others are unknown.
#[derive(Debug)]
pub struct Fields {
    path: String,
    fields: Vec<(String, Json)>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Takes a field out. `null` means absent, as it does in OpenAI's API.
    pub fn take(&mut self, name: &'static str) -> Option<Field> {
        self.known.push(name);
        let index = self.fields.iter().position(|(other, _)| other == name)?;
        let (_, value) = self.fields.swap_remove(index);
        (value != Json::Null).then(|| Field { path: self.path_of(name), value })
    }

    pub fn required(&mut self, name: &'static str) -> Result<Field, ReadError> {
        let path = self.path_of(name);
        self.take(name).ok_or(ReadError { path, problem: Problem::Missing })
    }

    /// Takes out those of `names` that are present, and says which.
    pub fn take_present(&mut self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.take(name).is_some()).collect()
    }

    pub fn is_empty_list(&self, name: &str) -> bool {
        self.fields.iter().any(|(other, value)| other == name && *value == Json::Array(Vec::new()))
    }

    /// Errors if a field is left that nobody asked for.
    pub fn finish(self) -> Result<(), ReadError> {
        match self.fields.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let suggestion = nearest(&name, &self.known);
                Err(ReadError { path: self.path, problem: Problem::Unknown { name: quoted(&name), suggestion } })
            }
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// A value and where it was found.
#[derive(Clone, Debug)]
pub struct Field {
    pub path: String,
    pub value: Json,
}

impl Field {
    pub fn body(value: Json) -> Self {
        Self { path: String::new(), value }
    }

    pub fn object(self) -> Result<Fields, ReadError> {
        match self.value {
            Json::Object(fields) => Ok(Fields { path: self.path, fields, known: Vec::new() }),
            value => Err(wrong_type(self.path, "an object", &value)),
        }
    }

    /// The fields of an object whose names are data.
    pub fn entries(self) -> Result<Vec<(String, Field)>, ReadError> {
        match self.value {
            Json::Object(fields) => Ok(fields
                .into_iter()
                .map(|(name, value)| {
                    let path = format!("{}[{}]", self.path, quoted(&name));
                    (name, Field { path, value })
                })
                .collect()),
            value => Err(wrong_type(self.path, "an object", &value)),
        }
    }

    /// Reads every item of an array.
    pub fn each<T>(self, read: impl Fn(Field) -> Result<T, ReadError>) -> Result<Vec<T>, ReadError> {
        match self.value {
            Json::Array(values) => {
                let items = values.into_iter().enumerate();
                items.map(|(index, value)| read(Field { path: format!("{}[{index}]", self.path), value })).collect()
            }
            value => Err(wrong_type(self.path, "an array", &value)),
        }
    }

    /// Token ids come by the hundred thousand: their paths are made only for errors.
    pub fn integers(self) -> Result<Vec<i128>, ReadError> {
        match self.value {
            Json::Array(values) => {
                let items = values.into_iter().enumerate();
                items
                    .map(|(index, value)| match value {
                        Json::Integer(value) => Ok(value),
                        value => Err(wrong_type(format!("{}[{index}]", self.path), "an integer", &value)),
                    })
                    .collect()
            }
            value => Err(wrong_type(self.path, "an array of integers", &value)),
        }
    }

    pub fn string(self) -> Result<String, ReadError> {
        match self.value {
            Json::String(text) => Ok(text),
            value => Err(wrong_type(self.path, "a string", &value)),
        }
    }

    pub fn boolean(self) -> Result<bool, ReadError> {
        match self.value {
            Json::Bool(value) => Ok(value),
            value => Err(wrong_type(self.path, "a boolean", &value)),
        }
    }

    pub fn integer(self) -> Result<i128, ReadError> {
        match self.value {
            Json::Integer(value) => Ok(value),
            value => Err(wrong_type(self.path, "an integer", &value)),
        }
    }

    pub fn number(self) -> Result<f64, ReadError> {
        match self.value {
            Json::Integer(value) => Ok(value as f64),
            Json::Float(value) => Ok(value),
            value => Err(wrong_type(self.path, "a number", &value)),
        }
    }

    pub fn wrong_type(self, expected: &'static str) -> ReadError {
        wrong_type(self.path, expected, &self.value)
    }
}

fn wrong_type(path: String, expected: &'static str, found: &Json) -> ReadError {
    ReadError { path, problem: Problem::WrongType { expected, found: found.kind() } }
}

fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    const NAME_BYTES_MAX: usize = 128;
    const LIKENESS_MIN: f64 = 0.65;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    known
        .iter()
        .map(|other| (strsim::normalized_damerau_levenshtein(name, other), *other))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json::{JsonBounds, parse};

    fn fields(text: &str) -> Fields {
        let json = parse(text.as_bytes(), JsonBounds { depth_max: 8, values_max: 64 }).expect("valid JSON");
        Field::body(json).object().expect("an object")
    }

    #[test]
    fn errors_name_the_path() {
        let check = |error: ReadError, expected: &str| assert_eq!(error.to_string(), expected);
        let mut body = fields(r#"{"a": [{"b": 1}], "tempratur": 1, "n": null}"#);
        check(body.required("model").expect_err("absent"), "model is required");
        check(body.required("n").expect_err("null is absent"), "n is required");
        let list = body.take("a").expect("present");
        let error = list.each(|item| item.object()?.required("b")?.string()).expect_err("an integer");
        check(error, "a[0].b has to be a string, found an integer");
        assert!(body.take("temperature").is_none());
        check(
            body.finish().expect_err("one is left"),
            "unknown field \"tempratur\" in the body, did you mean \"temperature\"?",
        );
        check(fields(r#"{"x\n": 1}"#).finish().expect_err("one is left"), "unknown field \"x\\n\" in the body");
    }
}
