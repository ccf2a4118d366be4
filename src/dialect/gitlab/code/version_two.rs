//! `/v2/code/completions` and `/v2/code/generations`.

use super::{
    COMPLETION_CHARS_MAX, CodeCall, CodeInput, GENERATION_CHARS_MAX, NAME_CHARS_MAX, context_item, messages,
    none_if_empty, provider,
};
use crate::dialect::gitlab::metadata::{FlatKeys, ModelChoice, flat_model};
use crate::dialect::gitlab::validation::{ValidationError, body, boolean, integer, list, text, trimmed_text};
use crate::domain::Message;
use crate::feature::language::language_of;
use crate::feature::{completion as complete, generation as generate};
use crate::wire::read::{Field, Fields};

const PROVIDERS: &[&str] = &["anthropic", "vertex-ai", "litellm", "codestral", "fireworks_ai", "amazon_q", "gitlab"];
const PROVIDERS_EXPECTED: &str = "anthropic, vertex-ai, litellm, codestral, fireworks_ai, amazon_q or gitlab";
/// What GitLab names for a self-hosted model, and answers say where nothing was named.
const PROVIDER_DEFAULT: &str = "litellm";
const TELEMETRY_ITEMS_MAX: usize = 10;
const TELEMETRY_CHARS_MAX: usize = 50;
const CONTEXT_ITEMS_MAX: usize = 100;
const CONTEXT_CHARS_MAX: usize = 500_000;

/// Which prompt a body brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PromptVersion {
    /// None: the gateway makes it.
    One,
    /// A text.
    Two,
    /// A conversation.
    Three,
}

/// What both endpoints have in common.
struct Common {
    version: PromptVersion,
    file: File,
    model: ModelChoice,
    provider: String,
    stream: bool,
    context: Vec<String>,
    prompt_id: Option<String>,
}

struct File {
    name: String,
    identifier: Option<String>,
    prefix: String,
    suffix: String,
}

impl File {
    fn lang(&self) -> &'static str {
        language_of(&self.name, self.identifier.as_deref()).map_or("", |language| language.id)
    }
}

/// Understands the body of `POST /v2/code/completions`.
pub fn completion(bytes: &[u8]) -> Result<CodeCall, ValidationError> {
    let mut fields = body(bytes)?;
    let common = common(&mut fields, COMPLETION_CHARS_MAX)?;
    let messages = match (common.version, fields.take("prompt")) {
        (PromptVersion::Three, Some(prompt)) => messages(prompt)?,
        (PromptVersion::Two, Some(prompt)) => {
            // Older gateways sent this text to the model as it is; what is around the cursor says the same.
            prompt.string()?;
            Vec::new()
        }
        (_, _) => Vec::new(),
    };
    let lang = common.file.lang();
    let input = complete::Input {
        file_name: common.file.name,
        language_identifier: common.file.identifier,
        prefix: common.file.prefix,
        suffix: common.file.suffix,
        context: common.context,
        messages,
    };
    let input = CodeInput::Completion(input);
    Ok(CodeCall { input, model: common.model, stream: common.stream, provider: common.provider, lang })
}

/// Understands the body of `POST /v2/code/generations`.
pub fn generation(bytes: &[u8]) -> Result<CodeCall, ValidationError> {
    let mut fields = body(bytes)?;
    let common = common(&mut fields, GENERATION_CHARS_MAX)?;
    let given = given(&mut fields, &common)?;
    let lang = common.file.lang();
    let input = generate::Input {
        file_name: common.file.name,
        language_identifier: common.file.identifier,
        prefix: common.file.prefix,
        suffix: common.file.suffix,
        related: common.context,
        given,
        begins_line: !common.stream && common.prompt_id.is_none(),
        ..generate::Input::default()
    };
    let input = CodeInput::Generation(input);
    Ok(CodeCall { input, model: common.model, stream: common.stream, provider: common.provider, lang })
}

/// The prompt of a generation: versions 2 and 3 bring one, unless a prompt of the gateway is named.
fn given(fields: &mut Fields, common: &Common) -> Result<Option<generate::Given>, ValidationError> {
    let is_named = common.prompt_id.is_some();
    let prompt = match (common.version, is_named) {
        (PromptVersion::One, _) => None,
        (_, true) => fields.take("prompt"),
        (_, false) => Some(fields.required("prompt")?),
    };
    let Some(prompt) = prompt else { return Ok(None) };
    let given = match common.version {
        PromptVersion::Three => {
            let messages: Vec<Message> = messages(prompt)?;
            (!messages.is_empty()).then_some(generate::Given::Messages(messages))
        }
        PromptVersion::One | PromptVersion::Two => none_if_empty(prompt.string()?).map(generate::Given::Text),
    };
    Ok(given.filter(|_| !is_named))
}

fn common(fields: &mut Fields, content_chars_max: usize) -> Result<Common, ValidationError> {
    let version = prompt_version(fields.take("prompt_version"))?;
    let project_path = fields.take("project_path");
    project_path.map(|field| trimmed_text(field, NAME_CHARS_MAX)).transpose()?;
    for name in ["project_id", "choices_count"] {
        fields.take(name).map(integer).transpose()?;
    }
    let file = file(fields.required("current_file")?, content_chars_max)?;
    let provider = provider(fields.take("model_provider"), PROVIDERS, PROVIDERS_EXPECTED)?;
    let telemetry = fields.take("telemetry");
    telemetry.map(|field| list(field, TELEMETRY_ITEMS_MAX, check_telemetry)).transpose()?;
    let context = fields.take("context");
    let context = context.map(|field| list(field, CONTEXT_ITEMS_MAX, |item| context_item(item, CONTEXT_CHARS_MAX)));
    fields.take("role_arn").map(Field::string).transpose()?;
    Ok(Common {
        version,
        file,
        model: flat_model(fields, &FlatKeys::CODE)?,
        provider: provider.unwrap_or_else(|| PROVIDER_DEFAULT.to_owned()),
        stream: fields.take("stream").map(boolean).transpose()?.unwrap_or(false),
        context: context.transpose()?.unwrap_or_default(),
        prompt_id: fields.take("prompt_id").map(Field::string).transpose()?.and_then(none_if_empty),
    })
}

/// Tells three kinds of bodies apart, so that a number written as text is no number.
fn prompt_version(field: Option<Field>) -> Result<PromptVersion, ValidationError> {
    let Some(field) = field else { return Ok(PromptVersion::One) };
    let path = field.path.clone();
    match field.integer()? {
        1 => Ok(PromptVersion::One),
        2 => Ok(PromptVersion::Two),
        3 => Ok(PromptVersion::Three),
        _ => Err(ValidationError::NotAllowed { path, expected: "1, 2 or 3" }),
    }
}

fn file(field: Field, content_chars_max: usize) -> Result<File, ValidationError> {
    let mut fields = field.object()?;
    let name = trimmed_text(fields.required("file_name")?, NAME_CHARS_MAX)?;
    let identifier = fields.take("language_identifier").map(|field| text(field, NAME_CHARS_MAX)).transpose()?;
    let prefix = text(fields.required("content_above_cursor")?, content_chars_max)?;
    // Rails makes an empty text of null; other clients may not.
    let suffix = fields.take("content_below_cursor").map(|field| text(field, content_chars_max)).transpose()?;
    Ok(File { name, identifier, prefix, suffix: suffix.unwrap_or_default() })
}

/// Counts of suggestions that were shown and taken, which are kept nowhere.
fn check_telemetry(field: Field) -> Result<(), ValidationError> {
    let mut fields = field.object()?;
    for name in ["model_engine", "model_name", "lang"] {
        fields.take(name).map(|field| text(field, TELEMETRY_CHARS_MAX)).transpose()?;
    }
    for name in ["requests", "accepts", "errors"] {
        integer(fields.required(name)?)?;
    }
    Ok(())
}
