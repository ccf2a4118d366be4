//! What is wrong with a body, the answer that says so, and the readers that hold fields to their limits.
//!
//! GitLab's protocol ignores fields it does not know. Nothing here repeats a value of the body: model keys live there.

use crate::domain::ErrorKind;
use crate::wire::gitlab::detail::{DetailBody, DetailItem, DetailListBody, LocationStep};
use crate::wire::json::{Json, JsonBounds, JsonError, parse};
use crate::wire::read::{Field, Fields, Problem, ReadError};

/// Rails sends bodies of up to 600 kB that hold a few hundred values.
const BOUNDS: JsonBounds = JsonBounds { depth_max: 32, values_max: 100_000 };

/// Why a body is refused, with status 422.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ValidationError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{path} has {found} {unit}, at most {allowed} are allowed")]
    TooLong { path: String, found: usize, unit: &'static str, allowed: usize },
    #[error("{path} has to be {expected}")]
    NotAllowed { path: String, expected: &'static str },
}

/// How an endpoint words its refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The newest gateways: one sentence without reason.
    Plain,
    /// A list whose first `msg` GitLab shows to administrators.
    List,
}

impl ValidationError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Json(_) | Self::Read(_) | Self::TooLong { .. } | Self::NotAllowed { .. } => ErrorKind::Invalid,
        }
    }

    /// The body of the answer. The reason itself, for the log, is the error's `Display`.
    pub fn into_body(self, form: Form) -> Vec<u8> {
        let reason = self.to_string();
        let body = match form {
            Form::Plain => serde_json::to_vec(&DetailBody { detail: "Validation error" }),
            Form::List => {
                let item = DetailItem { kind: self.code(), loc: location(self.path()), msg: &reason };
                serde_json::to_vec(&DetailListBody { detail: vec![item] })
            }
        };
        body.expect("details hold only strings and numbers")
    }

    fn path(&self) -> &str {
        match self {
            Self::Json(_) => "",
            Self::Read(error) => &error.path,
            Self::TooLong { path, .. } | Self::NotAllowed { path, .. } => path,
        }
    }

    /// What the reference's framework calls this.
    fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "json_invalid",
            Self::Read(ReadError { problem: Problem::Missing, .. }) => "missing",
            Self::Read(ReadError { problem: Problem::Unknown { .. }, .. }) => "extra_forbidden",
            Self::Read(ReadError { problem: Problem::WrongType { expected, .. }, .. }) => match *expected {
                "a string" => "string_type",
                "an integer" => "int_type",
                "a boolean" => "bool_type",
                "an array" => "list_type",
                "an object" => "dict_type",
                _ => "value_error",
            },
            Self::TooLong { unit: "characters", .. } => "string_too_long",
            Self::TooLong { .. } => "too_long",
            Self::NotAllowed { .. } => "value_error",
        }
    }
}

/// `a.b[2].c` as `["body", "a", "b", 2, "c"]`.
fn location(path: &str) -> Vec<LocationStep<'_>> {
    let mut steps = vec![LocationStep::Name("body")];
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        steps.push(match step.strip_suffix(']').and_then(|index| index.parse().ok()) {
            Some(index) => LocationStep::Index(index),
            None => LocationStep::Name(step.strip_suffix(']').unwrap_or(step)),
        });
    }
    steps
}

/// The fields of a body, which has to be one JSON object.
pub fn body(text: &[u8]) -> Result<Fields, ValidationError> {
    Ok(Field::body(parse(text, BOUNDS)?).object()?)
}

/// A text of at most `chars_max` characters.
pub fn text(field: Field, chars_max: usize) -> Result<String, ValidationError> {
    let path = field.path.clone();
    let text = field.string()?;
    // Bytes are never fewer than characters: most texts need no counting.
    if text.len() > chars_max {
        let found = text.chars().count();
        if found > chars_max {
            return Err(ValidationError::TooLong { path, found, unit: "characters", allowed: chars_max });
        }
    }
    Ok(text)
}

/// As [`text`], without the white space around it.
pub fn trimmed_text(field: Field, chars_max: usize) -> Result<String, ValidationError> {
    let Field { path, value } = field;
    let value = match value {
        Json::String(text) => Json::String(text.trim().to_owned()),
        value => value,
    };
    text(Field { path, value }, chars_max)
}

/// A list of at most `items_max`, each read by `read`.
pub fn list<T>(
    field: Field,
    items_max: usize,
    read: impl Fn(Field) -> Result<T, ValidationError>,
) -> Result<Vec<T>, ValidationError> {
    let path = field.path.clone();
    let items = field.each(Ok)?;
    if items.len() > items_max {
        return Err(ValidationError::TooLong { path, found: items.len(), unit: "items", allowed: items_max });
    }
    items.into_iter().map(read).collect()
}

/// A number, also where it was written as text: so does the reference.
pub fn integer(field: Field) -> Result<i128, ValidationError> {
    match &field.value {
        Json::String(text) => {
            let number = text.trim().parse::<i128>();
            number.map_err(|_| field.wrong_type("an integer").into())
        }
        Json::Float(number) if number.fract() == 0.0 => Ok(*number as i128),
        Json::Bool(value) => Ok((*value).into()),
        _ => Ok(field.integer()?),
    }
}

/// A truth value, also as 0, 1 or one of the usual words: so does the reference.
pub fn boolean(field: Field) -> Result<bool, ValidationError> {
    match &field.value {
        Json::Integer(number @ (0 | 1)) => Ok(*number == 1),
        Json::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err(field.wrong_type("a boolean").into()),
        },
        _ => Ok(field.boolean()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field_and_never_its_value() {
        let check = |error: ValidationError, expected: &str| {
            let body = String::from_utf8(error.clone().into_body(Form::List)).expect("JSON is text");
            assert_eq!(body, expected);
            assert_eq!(error.into_body(Form::Plain), b"{\"detail\":\"Validation error\"}");
        };
        let mut fields = body(br#"{"a": {"b": [{"c": 7}]}, "key": "sk-secret"}"#).expect("an object");
        check(
            fields.required("current_file").expect_err("absent").into(),
            r#"{"detail":[{"type":"missing","loc":["body","current_file"],"msg":"current_file is required"}]}"#,
        );
        let inner = fields.take("a").expect("present").object().expect("an object").take("b").expect("present");
        let error = list(inner, 5, |item| text(item.object()?.required("c")?, 3)).expect_err("not a string");
        check(
            error,
            r#"{"detail":[{"type":"string_type","loc":["body","a","b",0,"c"],"msg":"a.b[0].c has to be a string, found an integer"}]}"#,
        );
        check(
            text(fields.take("key").expect("present"), 3).expect_err("too long"),
            r#"{"detail":[{"type":"string_too_long","loc":["body","key"],"msg":"key has 9 characters, at most 3 are allowed"}]}"#,
        );
        check(
            body(b"{").expect_err("no JSON"),
            r#"{"detail":[{"type":"json_invalid","loc":["body"],"msg":"the body is not valid JSON: EOF while parsing an object at line 1 column 1"}]}"#,
        );
        check(
            body(b"[]").expect_err("no object"),
            r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"the body has to be an object, found an array"}]}"#,
        );
    }

    #[test]
    fn numbers_and_truth_values_are_read_as_leniently_as_the_reference_does() {
        let field = |value: Json| Field { path: "x".to_owned(), value };
        let string = |text: &str| Json::String(text.to_owned());
        assert_eq!(integer(field(string("7"))), Ok(7));
        assert_eq!(integer(field(Json::Float(7.0))), Ok(7));
        assert!(integer(field(Json::Float(7.5))).is_err());
        assert!(integer(field(string("seven"))).is_err());
        assert_eq!(boolean(field(string("True"))), Ok(true));
        assert_eq!(boolean(field(Json::Integer(0))), Ok(false));
        assert!(boolean(field(Json::Integer(2))).is_err());
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let field = |text: &str| Field { path: "x".to_owned(), value: Json::String(text.to_owned()) };
        assert_eq!(text(field("äöü"), 3).as_deref(), Ok("äöü"));
        assert_eq!(trimmed_text(field("  abc "), 3).as_deref(), Ok("abc"));
        assert!(text(field("äöüß"), 3).is_err());
    }
}
