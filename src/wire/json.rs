//! A strict JSON reader (RFC 8259) for bodies of strangers: bounded depth and number of values, no duplicate names, no
//! numbers outside f64, no lone surrogates, nothing after the end.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::cell::{Cell, RefCell};
use std::fmt;

/// A JSON value. Objects keep the order of the text.
#[derive(Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    /// Always finite.
    Float(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// With its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Bodies hold prompts: only the kind is shown.
impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind())
    }
}

/// Bounds of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonBounds {
    pub depth_max: usize,
    pub values_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("the body is empty, expected a JSON object")]
    Empty,
    #[error("the body is not valid JSON: {problem} at line {line} column {column}")]
    Syntax { problem: String, line: usize, column: usize },
    #[error("the body nests deeper than {depth_max} levels")]
    TooDeep { depth_max: usize },
    #[error("the body holds more than {values_max} values")]
    TooManyValues { values_max: usize },
    #[error("the name {name} occurs twice in one object")]
    DuplicateName { name: String },
}

/// Reads one value, which has to be the whole text.
pub fn parse(text: &[u8], bounds: JsonBounds) -> Result<Json, JsonError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Empty);
    }
    let state = State { bounds, values: Cell::new(0), problem: RefCell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let parsed = Value { state: &state, depth: 0 }.deserialize(&mut deserializer);
    parsed.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| match state.problem.into_inner() {
        Some(problem) => problem,
        None => syntax_error(&error),
    })
}

/// A name or word of the caller's, safe to put in a message: short and without control characters.
pub fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{cut}")
}

/// The texts of serde_json's syntax errors are constants: they never hold a part of the body.
fn syntax_error(error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    let problem = text.split(" at line ").next().unwrap_or_default().to_owned();
    JsonError::Syntax { problem, line: error.line(), column: error.column() }
}

struct State {
    bounds: JsonBounds,
    values: Cell<usize>,
    /// Set before serde's error is raised, because that one can only carry text.
    problem: RefCell<Option<JsonError>>,
}

impl State {
    fn refuse<E: serde::de::Error>(&self, problem: JsonError) -> E {
        let error = E::custom(&problem);
        *self.problem.borrow_mut() = Some(problem);
        error
    }
}

/// Reads a value at `depth` containers below the root.
#[derive(Clone, Copy)]
struct Value<'a> {
    state: &'a State,
    depth: usize,
}

impl Value<'_> {
    fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_max = self.state.bounds.depth_max;
        if self.depth >= depth_max {
            return Err(self.state.refuse(JsonError::TooDeep { depth_max }));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let values = self.state.values.get() + 1;
        let values_max = self.state.bounds.values_max;
        if values > values_max {
            return Err(self.state.refuse(JsonError::TooManyValues { values_max }));
        }
        self.state.values.set(values);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        if value.is_finite() { Ok(Json::Float(value)) } else { Err(E::custom("number out of range")) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let inside = self.inside()?;
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let inside = self.inside()?;
        let mut fields: Vec<(String, Json)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            fields.push((name, map.next_value_seed(inside)?));
        }
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(self.state.refuse(JsonError::DuplicateName { name: quoted(twice[0]) }));
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: JsonBounds = JsonBounds { depth_max: 4, values_max: 100 };

    #[test]
    fn reads_every_kind_of_value() {
        let check = |text: &str, expected: Json| assert!(parse(text.as_bytes(), BOUNDS) == Ok(expected), "{text}");
        check(" null ", Json::Null);
        check("-9223372036854775808", Json::Integer(i64::MIN.into()));
        check("18446744073709551615", Json::Integer(u64::MAX.into()));
        check("18446744073709551616", Json::Float(18_446_744_073_709_551_616.0));
        check("1.0", Json::Float(1.0));
        check("-0", Json::Float(-0.0));
        check(r#""\ud83d\ude00é""#, Json::String("😀é".to_owned()));
        check(
            r#"{"b": [true, {}], "a": ""}"#,
            Json::Object(vec![
                ("b".to_owned(), Json::Array(vec![Json::Bool(true), Json::Object(Vec::new())])),
                ("a".to_owned(), Json::String(String::new())),
            ]),
        );
    }

    #[test]
    fn refuses_what_is_not_json() {
        let check = |text: &[u8], expected: &str| {
            let error = parse(text, BOUNDS).expect_err("not accepted").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(b"", "empty");
        check(b" \n", "empty");
        check(b"{\"a\": 1", "EOF while parsing an object at line 1 column 7");
        check(b"{} {}", "trailing characters at line 1 column 4");
        check(b"{\"a\": NaN}", "expected value at line 1 column 7");
        check(b"[Infinity]", "expected value");
        check(b"[-Infinity]", "invalid number");
        check(b"1e400", "number out of range");
        check(b"[1,]", "trailing comma");
        check(b"'a'", "expected value");
        check(br#""\ud800""#, "unexpected end of hex escape");
        check(br#""\udc00""#, "lone leading surrogate");
        check(b"\"\xff\"", "invalid unicode code point");
        check(b"\"a\nb\"", "control character");
        check(b"\xef\xbb\xbf{}", "expected value");
    }

    #[test]
    fn bounds_hold_before_memory_or_stack_is_spent() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes(), BOUNDS), Err(JsonError::TooDeep { depth_max: 4 }));
        let deep = "{\"a\":".repeat(100_000);
        assert_eq!(parse(deep.as_bytes(), BOUNDS), Err(JsonError::TooDeep { depth_max: 4 }));
        let wide = format!("[{}0]", "0,".repeat(100));
        assert_eq!(parse(wide.as_bytes(), BOUNDS), Err(JsonError::TooManyValues { values_max: 100 }));
    }

    #[test]
    fn refuses_duplicate_names_at_any_depth() {
        let error = parse(br#"{"a": 1, "b": {"c": 1, "\u0063": 2}}"#, BOUNDS);
        assert_eq!(error, Err(JsonError::DuplicateName { name: "\"c\"".to_owned() }));
    }
}
