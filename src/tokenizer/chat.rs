//! Chat templates: Jinja as transformers runs it, within limits.
//!
//! A template comes with a model and is as trustworthy as the model's author. It gets messages and the names of special
//! tokens, no clock, no file, no other template; its instructions, output and nesting are bounded. Reference:
//! `chat_template_utils.py` of transformers.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, context};
use serde::Serialize;
use serde_json::ser::Formatter;
use std::io;

/// Instructions one rendering may execute; a message costs some dozens.
const FUEL: u64 = 2_000_000;
const NESTING_MAX: usize = 100;
const SOURCE_BYTES_MAX: usize = 1024 * 1024;
/// What a template may write beyond what it was given.
const OUTPUT_BYTES_BEYOND_INPUT: usize = 1024 * 1024;
/// How often a template may write out what it was given.
const OUTPUT_TIMES_INPUT: usize = 4;
const NAME: &str = "chat";

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

/// What a template is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversation<'a> {
    pub messages: Vec<TemplateMessage<'a>>,
    pub bos_token: &'a str,
    pub eos_token: &'a str,
    pub unk_token: &'a str,
    pub pad_token: &'a str,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct TemplateMessage<'a> {
    pub role: &'static str,
    pub content: &'a str,
}

/// Why a template gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("the template has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("{reason}")]
    Malformed { reason: String },
    /// The template called `raise_exception`.
    #[error("{reason}")]
    Refused { reason: String },
    #[error("{reason}")]
    Failed { reason: String },
    #[error("more than {instructions_max} instructions")]
    TooManyInstructions { instructions_max: u64 },
    #[error("more than {bytes_max} bytes of output")]
    TooMuchOutput { bytes_max: usize },
}

impl ChatTemplate {
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::TooLarge { bytes: source.len(), bytes_max: SOURCE_BYTES_MAX });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual delimiters are valid"));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(NESTING_MAX);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(write_value);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_marks(source))
            .map_err(|error| TemplateError::Malformed { reason: describe(&error) })?;
        Ok(Self { environment })
    }

    pub(super) fn render(&self, conversation: &Conversation<'_>) -> Result<String, TemplateError> {
        let input_bytes: usize = conversation.messages.iter().map(|message| message.content.len()).sum();
        let bytes_max = input_bytes.saturating_mul(OUTPUT_TIMES_INPUT).saturating_add(OUTPUT_BYTES_BEYOND_INPUT);
        let template = self.environment.get_template(NAME).expect("added when this was made");
        let context = context! {
            messages => Value::from(Serde(&conversation.messages)),
            bos_token => conversation.bos_token,
            eos_token => conversation.eos_token,
            unk_token => conversation.unk_token,
            pad_token => conversation.pad_token,
            add_generation_prompt => true,
            tools => (),
            documents => (),
            output_bytes_max => bytes_max,
        };
        let mut output = Bounded { bytes: Vec::new(), bytes_max, is_full: false };
        let rendered = template.render_captured_to(context, &mut output).map(drop);
        match rendered {
            Ok(()) => Ok(String::from_utf8(output.bytes).expect("templates write text")),
            Err(_) if output.is_full => Err(TemplateError::TooMuchOutput { bytes_max }),
            Err(error) => Err(classify(&error, bytes_max)),
        }
    }
}

fn classify(error: &Error, bytes_max: usize) -> TemplateError {
    // Faults inside a macro or block arrive wrapped.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<Refusal>() {
            return TemplateError::Refused { reason: current.to_string() };
        }
        if current.is::<OutputLimit>() {
            return TemplateError::TooMuchOutput { bytes_max };
        }
        if current.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::TooManyInstructions { instructions_max: FUEL };
        }
        cause = current.source();
    }
    TemplateError::Failed { reason: describe(error) }
}

fn describe(error: &Error) -> String {
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{}{detail}{line}", error.kind())
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(reason: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(reason)))
}

#[derive(Debug, thiserror::Error)]
#[error("output limit")]
struct OutputLimit;

/// Bytes written so far in one rendering, into the output or into a variable.
#[derive(Default)]
struct Written(usize);

/// Writes as Python prints, and counts: what is captured in a variable never reaches the bounded output.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text: std::borrow::Cow<'_, str> = match value.as_str() {
        Some(text) => text.into(),
        None if value.is_none() => "None".into(),
        None if value.kind() == ValueKind::Bool && value.is_true() => "True".into(),
        None if value.kind() == ValueKind::Bool => "False".into(),
        None => value.to_string().into(),
    };
    let bytes_max = state.lookup("output_bytes_max").and_then(|max| max.as_usize()).unwrap_or(usize::MAX);
    let written = state.get_or_insert_extension(Written::default());
    written.0 = written.0.saturating_add(text.len());
    if written.0 > bytes_max {
        return Err(Error::new(ErrorKind::WriteFailure, "output limit").with_source(OutputLimit));
    }
    out.write_str(&text).map_err(Error::from)
}

struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_full: bool,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            self.is_full = true;
            return Err(io::Error::other("output limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Training marks the assistant's words with `{% generation %}`; for rendering it is a block that is always there.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start..start + length + 2]);
        out.push_str(before);
        match tag.trim_matches(|char: char| "{%-+}".contains(char) || char.is_whitespace()) {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}

/// `json.dumps` of Python, which unlike Jinja's own filter escapes nothing for HTML.
fn to_json(value: Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = kwargs.get::<Option<usize>>("indent")?;
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    let _: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let spaces = vec![b' '; width.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PythonSpacing)).map_err(failed)?;
        }
    }
    Ok(String::from_utf8(bytes).expect("JSON is text"))
}

/// A space behind commas and colons.
struct PythonSpacing;

impl Formatter for PythonSpacing {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
