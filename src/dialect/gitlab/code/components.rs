//! `/v3/code/completions` and `/v4/code/suggestions`: lists of components, of which the first decides.

use super::{
    COMPLETION_CHARS_MAX, CodeCall, CodeInput, GENERATION_CHARS_MAX, NAME_CHARS_MAX, context_item, messages_or_text,
    none_if_empty, provider,
};
use crate::dialect::gitlab::metadata::{ModelChoice, model_metadata};
use crate::dialect::gitlab::validation::{ValidationError, body, boolean, integer, list, text, trimmed_text};
use crate::feature::language::language_of;
use crate::feature::{completion as complete, generation as generate};
use crate::wire::json::Json;
use crate::wire::read::{Field, Fields};

const COMPONENTS_MAX: usize = 100;
const CONTEXT_CHARS_MAX: usize = 100_000;
const PROMPT_CHARS_MAX: usize = 400_000;
const PROVIDERS: &[&str] = &["vertex-ai", "anthropic", "amazon_q"];
const PROVIDERS_EXPECTED: &str = "vertex-ai, anthropic or amazon_q, or absent where model_metadata names the model";
/// What answers call a self-hosted model's provider.
const PROVIDER_DEFAULT: &str = "openai";
/// What answers call whoever generates code.
const GENERATION_ENGINE: &str = "agent";
/// Editors whose language server is older send contexts that are not meant for completions.
const CONTEXT_VERSION_MIN: [u64; 3] = [7, 17, 1];

enum Component {
    Completion(complete::Input, Delivery),
    Generation(generate::Input, Delivery),
    Context(String),
}

struct Delivery {
    stream: bool,
    provider: Option<String>,
}

/// What all editor components have in common.
struct Base {
    file_name: String,
    identifier: Option<String>,
    prefix: String,
    suffix: String,
    delivery: Delivery,
}

/// Understands the body of `POST /v3/code/completions` and `POST /v4/code/suggestions`. `language_server` is the header
/// `X-Gitlab-Language-Server-Version`.
pub fn suggestion(bytes: &[u8], language_server: Option<&str>) -> Result<CodeCall, ValidationError> {
    let mut fields = body(bytes)?;
    let components = fields.required("prompt_components")?;
    let path = components.path.clone();
    let mut components = list(components, COMPONENTS_MAX, component)?.into_iter();
    let model = model_metadata(fields.take("model_metadata"))?;
    match components.next() {
        Some(Component::Completion(mut input, delivery)) => {
            if has_contexts(language_server) {
                input.context.extend(components.filter_map(|component| match component {
                    Component::Context(content) => Some(content),
                    Component::Completion(..) | Component::Generation(..) => None,
                }));
            }
            let lang = lang(&input.file_name, input.language_identifier.as_deref());
            let provider = delivery.provider.unwrap_or_else(|| PROVIDER_DEFAULT.to_owned());
            Ok(call(CodeInput::Completion(input), model, delivery.stream, provider, lang))
        }
        Some(Component::Generation(input, delivery)) => {
            let lang = lang(&input.file_name, input.language_identifier.as_deref());
            Ok(call(CodeInput::Generation(input), model, delivery.stream, GENERATION_ENGINE.to_owned(), lang))
        }
        Some(Component::Context(_)) => {
            let expected = "a completion or a generation: a context alone asks for nothing";
            Err(ValidationError::NotAllowed { path: format!("{path}[0].type"), expected })
        }
        None => Err(ValidationError::NotAllowed { path, expected: "a list of 1 to 100 components" }),
    }
}

fn call(input: CodeInput, model: ModelChoice, stream: bool, provider: String, lang: &'static str) -> CodeCall {
    CodeCall { input, model, stream, provider, lang }
}

fn lang(file_name: &str, identifier: Option<&str>) -> &'static str {
    language_of(file_name, identifier).map_or("", |language| language.id)
}

fn has_contexts(language_server: Option<&str>) -> bool {
    let Some(version) = language_server else { return false };
    let numbers = version.trim().trim_start_matches('v').split(['.', '-', '+']).map(str::parse::<u64>);
    let mut numbers = numbers.map_while(Result::ok);
    let mut number = || numbers.next().unwrap_or(0);
    [number(), number(), number()] >= CONTEXT_VERSION_MIN
}

fn component(field: Field) -> Result<Component, ValidationError> {
    let mut fields = field.object()?;
    let kind = fields.required("type")?;
    let path = kind.path.clone();
    let kind = kind.string()?;
    if let Some(metadata) = fields.take("metadata") {
        let mut metadata = metadata.object()?;
        for name in ["source", "version"] {
            text(metadata.required(name)?, NAME_CHARS_MAX)?;
        }
    }
    match kind.as_str() {
        "code_editor_completion" => completion(fields.required("payload")?.object()?),
        "code_editor_generation" => generation(fields.required("payload")?.object()?),
        "code_context" => Ok(Component::Context(context_item(fields.required("payload")?, CONTEXT_CHARS_MAX)?)),
        _ => {
            let expected = "code_editor_completion, code_editor_generation or code_context";
            Err(ValidationError::NotAllowed { path, expected })
        }
    }
}

fn completion(mut payload: Fields) -> Result<Component, ValidationError> {
    let base = base(&mut payload, COMPLETION_CHARS_MAX)?;
    payload.take("choices_count").map(integer).transpose()?;
    let input = complete::Input {
        file_name: base.file_name,
        language_identifier: base.identifier,
        prefix: base.prefix,
        suffix: base.suffix,
        context: Vec::new(),
        messages: messages_or_text(payload.take("prompt"))?,
    };
    Ok(Component::Completion(input, base.delivery))
}

fn generation(mut payload: Fields) -> Result<Component, ValidationError> {
    let base = base(&mut payload, GENERATION_CHARS_MAX)?;
    let prompt = payload.take("prompt").map(|field| text(field, PROMPT_CHARS_MAX)).transpose()?.and_then(none_if_empty);
    let prompt_id = payload.take("prompt_id").map(Field::string).transpose()?.and_then(none_if_empty);
    // Any version is as good as another: there is one prompt.
    payload.take("prompt_version").map(Field::string).transpose()?;
    let mut input = generate::Input {
        file_name: base.file_name,
        language_identifier: base.identifier,
        prefix: base.prefix,
        suffix: base.suffix,
        given: prompt.filter(|_| prompt_id.is_none()).map(generate::Given::Text),
        begins_line: !base.delivery.stream && prompt_id.is_none(),
        ..generate::Input::default()
    };
    if let Some(enhancer) = payload.take("prompt_enhancer") {
        enhance(&mut input, enhancer.object()?);
    }
    Ok(Component::Generation(input, base.delivery))
}

fn base(payload: &mut Fields, content_chars_max: usize) -> Result<Base, ValidationError> {
    let file_name = trimmed_text(payload.required("file_name")?, NAME_CHARS_MAX)?;
    let prefix = text(payload.required("content_above_cursor")?, content_chars_max)?;
    let suffix = payload.take("content_below_cursor").map(|field| text(field, content_chars_max)).transpose()?;
    let identifier = payload.take("language_identifier").map(|field| text(field, NAME_CHARS_MAX)).transpose()?;
    let provider = provider(payload.take("model_provider"), PROVIDERS, PROVIDERS_EXPECTED)?;
    for name in ["model_name", "role_arn"] {
        payload.take(name).map(Field::string).transpose()?;
    }
    let stream = payload.take("stream").map(boolean).transpose()?.unwrap_or(false);
    let delivery = Delivery { stream, provider };
    Ok(Base { file_name, identifier, prefix, suffix: suffix.unwrap_or_default(), delivery })
}

/// Takes over what Rails has collected. Nothing of it is required, and what has another form than usual is left out.
fn enhance(input: &mut generate::Input, mut enhancer: Fields) {
    let mut string = |name: &'static str| match enhancer.take(name).map(|field| field.value) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    };
    // The trimmed texts are what Rails wants to be seen of the file. Both are empty where it has trimmed nothing.
    let above = string("trimmed_content_above_cursor").and_then(none_if_empty);
    let below = string("trimmed_content_below_cursor").and_then(none_if_empty);
    if let Some(above) = above {
        input.suffix = below.unwrap_or_default();
        input.prefix = above;
    }
    input.user_instruction = string("user_instruction").filter(|text| !text.trim().is_empty());
    input.related = strings(enhancer.take("related_files"));
    input.related.extend(strings(enhancer.take("related_snippets")));
    input.libraries = strings(enhancer.take("libraries"));
    let examples = items(enhancer.take("examples_array")).into_iter();
    input.examples = examples.filter_map(|item| example(item.object().ok()?)).collect();
}

fn example(mut fields: Fields) -> Option<generate::Example> {
    let code = fields.take("example")?.string().ok()?;
    let answer = fields.take("response")?.string().ok()?;
    Some(generate::Example { code, answer })
}

fn strings(field: Option<Field>) -> Vec<String> {
    items(field).into_iter().filter_map(|item| item.string().ok()).filter(|text| !text.is_empty()).collect()
}

fn items(field: Option<Field>) -> Vec<Field> {
    field.and_then(|field| field.each(Ok).ok()).unwrap_or_default()
}
