//! `POST /v1/chat/{name}`: the chat of 17.x and of the documentation's troubleshooting page.

use super::metadata::{FlatKeys, ModelChoice, flat_model};
use super::validation::{Form, ValidationError, body, boolean, integer, list, text};
use crate::domain::{ErrorKind, Message, Role};
use crate::feature::chat::{Input, turns};
use crate::wire::gitlab::chat::{LegacyAnswer, LegacyMetadata};
use crate::wire::gitlab::detail::DetailBody;
use crate::wire::json::Json;
use crate::wire::read::{Field, Fields};

const CONTENT_CHARS_MAX: usize = 400_000;
const MESSAGES_MAX: usize = 100;
const TYPE_CHARS_MAX: usize = 100;
const PROVIDER_CHARS_MAX: usize = 100;
const STOPS_MAX: usize = 10;
const STOP_CHARS_MAX: usize = 225;
const OUTPUT_TOKENS_MAX: i128 = 8192;

/// What can be asked under `/v1/chat/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyName {
    Agent,
    ExplainCode,
    WriteTests,
    RefactorCode,
    ExplainVulnerability,
    SummarizeComments,
    TroubleshootJob,
}

impl LegacyName {
    /// `None`: there is nothing at this path.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "agent" => Self::Agent,
            "explain_code" => Self::ExplainCode,
            "write_tests" => Self::WriteTests,
            "refactor_code" => Self::RefactorCode,
            "explain_vulnerability" => Self::ExplainVulnerability,
            "summarize_comments" => Self::SummarizeComments,
            "troubleshoot_job" => Self::TroubleshootJob,
            _ => return None,
        })
    }

    /// The scope that a token needs.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Agent | Self::ExplainCode | Self::WriteTests | Self::RefactorCode => "duo_chat",
            Self::ExplainVulnerability => "explain_vulnerability",
            Self::SummarizeComments => "summarize_comments",
            Self::TroubleshootJob => "troubleshoot_job",
        }
    }

    /// The body for a token without the scope.
    pub fn forbidden_body(self) -> Vec<u8> {
        detail(&format!("Unauthorized to access {}", self.scope()))
    }
}

/// A call, read and valid.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyCall {
    pub name: LegacyName,
    pub model: ModelChoice,
    /// As it was sent; answers repeat it.
    pub provider: Option<String>,
    pub input: Input,
    pub is_streamed: bool,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LegacyCallError {
    /// Status 404.
    #[error("there is no chat of this name")]
    UnknownName,
    /// Status 422.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
}

impl LegacyCallError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownName => ErrorKind::NotFound,
            Self::Invalid(error) => error.kind(),
        }
    }

    pub fn into_body(self) -> Vec<u8> {
        match self {
            Self::UnknownName => detail("Not found"),
            Self::Invalid(error) => error.into_body(Form::Plain),
        }
    }
}

/// Understands a body sent to `name`.
pub fn legacy_call(name: &str, text: &[u8]) -> Result<LegacyCall, LegacyCallError> {
    let name = LegacyName::named(name).ok_or(LegacyCallError::UnknownName)?;
    let mut fields = body(text)?;
    let is_streamed = fields.take("stream").map(boolean).transpose()?.unwrap_or(false);
    let mut payload = payload(fields.required("prompt_components").map_err(ValidationError::from)?)?;
    let provider = payload.take("provider").map(provider).transpose()?;
    let model = flat_model(&mut payload, &FlatKeys::CHAT)?;
    let messages = content(payload.required("content").map_err(ValidationError::from)?)?;
    let input = match payload.take("params") {
        Some(params) => params_of(params, messages)?,
        None => Input { messages, ..Input::default() },
    };
    Ok(LegacyCall { name, model, provider, input, is_streamed })
}

/// The payload of the one component there is.
fn payload(components: Field) -> Result<Fields, ValidationError> {
    let path = components.path.clone();
    let mut components = list(components, 1, |component| Ok(component.object()?))?;
    let Some(mut component) = components.pop() else {
        return Err(ValidationError::NotAllowed { path, expected: "a list of one component" });
    };
    component.take("type").map(|kind| text(kind, TYPE_CHARS_MAX)).transpose()?;
    Ok(component.required("payload")?.object()?)
}

fn provider(field: Field) -> Result<String, ValidationError> {
    let path = field.path.clone();
    let provider = text(field, PROVIDER_CHARS_MAX)?;
    match provider.as_str() {
        "anthropic" | "litellm" => Ok(provider),
        _ => Err(ValidationError::NotAllowed { path, expected: "anthropic or litellm" }),
    }
}

fn content(field: Field) -> Result<Vec<Message>, ValidationError> {
    if !matches!(field.value, Json::Array(_)) {
        return Ok(turns(&text(field, CONTENT_CHARS_MAX)?));
    }
    let path = field.path.clone();
    let messages = list(field, MESSAGES_MAX, message)?;
    if messages.is_empty() {
        return Err(ValidationError::NotAllowed { path, expected: "a text, or a list of 1 to 100 messages" });
    }
    Ok(messages)
}

fn message(field: Field) -> Result<Message, ValidationError> {
    let mut fields = field.object()?;
    let role = fields.required("role")?;
    let path = role.path.clone();
    let role = match text(role, TYPE_CHARS_MAX)?.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(ValidationError::NotAllowed { path, expected: "system, user or assistant" }),
    };
    Ok(Message { role, content: text(fields.required("content")?, CONTENT_CHARS_MAX)? })
}

fn params_of(params: Field, messages: Vec<Message>) -> Result<Input, ValidationError> {
    let mut params = params.object()?;
    let temperature = match params.take("temperature") {
        Some(field) => {
            let path = field.path.clone();
            let value = field.number()?;
            if !(0.0..=1.0).contains(&value) {
                return Err(ValidationError::NotAllowed { path, expected: "a number from 0 to 1" });
            }
            Some(value as f32)
        }
        None => None,
    };
    let max_tokens = match params.take("max_tokens_to_sample") {
        Some(field) => {
            let path = field.path.clone();
            let expected = "a whole number from 1 to 8192";
            let value = Some(integer(field)?).filter(|value| (1..=OUTPUT_TOKENS_MAX).contains(value));
            let value = value.and_then(|value| usize::try_from(value).ok());
            Some(value.ok_or(ValidationError::NotAllowed { path, expected })?)
        }
        None => None,
    };
    let stop = match params.take("stop_sequences") {
        Some(field) => {
            let path = field.path.clone();
            let stop = list(field, STOPS_MAX, |stop| text(stop, STOP_CHARS_MAX))?;
            if stop.is_empty() || stop.iter().any(String::is_empty) {
                return Err(ValidationError::NotAllowed {
                    path,
                    expected: "a list of 1 to 10 texts that are not empty",
                });
            }
            stop
        }
        None => Vec::new(),
    };
    Ok(Input { messages, temperature, max_tokens, stop })
}

/// The body of an answer that is not streamed; streams are the text itself. `model` is the one that answered, for
/// callers that named none.
pub fn legacy_answer(call: &LegacyCall, model: &str, text: &str, timestamp: u64) -> Vec<u8> {
    let named = Some(call.model.family_name.as_str()).filter(|name| !name.is_empty());
    let metadata = LegacyMetadata {
        provider: call.provider.as_deref().unwrap_or("litellm"),
        model: named.unwrap_or(model),
        timestamp,
    };
    serde_json::to_vec(&LegacyAnswer { response: text, metadata }).expect("answers hold only strings and numbers")
}

fn detail(detail: &str) -> Vec<u8> {
    serde_json::to_vec(&DetailBody { detail }).expect("a detail is a string")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::gitlab::metadata::Source;

    fn component(payload: &str) -> String {
        let metadata = r#"{"source":"GitLab EE","version":"17.9.0"}"#;
        format!(
            r#"{{"prompt_components":[{{"type":"prompt","metadata":{metadata},"payload":{payload}}}],"stream":true}}"#
        )
    }

    fn problem(payload: &str) -> String {
        match legacy_call("agent", component(payload).as_bytes()) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_call_of_17_is_understood() {
        let payload = r#"{"content":"\n\nHuman: hi\n\nAssistant: Thought:","provider":"litellm","model":"mistral",
            "model_endpoint":"http://127.0.0.1:5052/v1","model_api_key":null,"model_identifier":"custom_openai/m",
            "params":{"stop_sequences":["\n\nHuman","Observation:"],"temperature":0.2,"max_tokens_to_sample":4096}}"#;
        let call = legacy_call("troubleshoot_job", component(payload).as_bytes()).expect("valid");
        assert_eq!(call.name.scope(), "troubleshoot_job");
        assert!(call.is_streamed);
        assert_eq!((call.model.source, call.model.identifier.as_deref()), (Source::Flat, Some("custom_openai/m")));
        assert_eq!(call.input.temperature, Some(0.2));
        assert_eq!(call.input.max_tokens, Some(4096));
        assert_eq!(call.input.stop, ["\n\nHuman", "Observation:"]);
        let messages: Vec<_> = call.input.messages.iter().map(|message| (message.role, &*message.content)).collect();
        assert_eq!(messages, [(Role::User, "hi"), (Role::Assistant, "Thought:")]);
        let answer = String::from_utf8(legacy_answer(&call, "coder", "a\"b", 7)).expect("text");
        let expected = r#"{"response":"a\"b","metadata":{"provider":"litellm","model":"mistral","timestamp":7}}"#;
        assert_eq!(answer, expected);
        let call = legacy_call("agent", component(r#"{"content":[{"role":"user","content":"x"}]}"#).as_bytes());
        let answer = legacy_answer(&call.expect("valid"), "coder", "y", 7);
        assert!(String::from_utf8(answer).expect("text").contains(r#""provider":"litellm","model":"coder""#));
    }

    #[test]
    fn limits_are_named() {
        let check = |payload: &str, expected: &str| assert_eq!(problem(payload), expected, "{payload:.120}");
        let at = "prompt_components[0].payload";
        check("{}", &format!("{at}.content is required"));
        check(r#"{"content":7}"#, &format!("{at}.content has to be a string, found an integer"));
        check(r#"{"content":[]}"#, &format!("{at}.content has to be a text, or a list of 1 to 100 messages"));
        check(
            &format!(r#"{{"content":"{}"}}"#, "x".repeat(400_001)),
            &format!("{at}.content has 400001 characters, at most 400000 are allowed"),
        );
        let many = vec![r#"{"role":"user","content":"x"}"#; 101].join(",");
        check(&format!(r#"{{"content":[{many}]}}"#), &format!("{at}.content has 101 items, at most 100 are allowed"));
        let wrong = format!("{at}.content[0].role has to be system, user or assistant");
        check(r#"{"content":[{"role":"tool","content":"x"}]}"#, &wrong);
        check(r#"{"content":"x","provider":"vertex"}"#, &format!("{at}.provider has to be anthropic or litellm"));
        let params = |params: &str| format!(r#"{{"content":"x","params":{{{params}}}}}"#);
        let at = format!("{at}.params");
        let range = format!("{at}.temperature has to be a number from 0 to 1");
        check(&params(r#""temperature":1.1"#), &range);
        check(&params(r#""temperature":-1"#), &range);
        let range = format!("{at}.max_tokens_to_sample has to be a whole number from 1 to 8192");
        check(&params(r#""max_tokens_to_sample":0"#), &range);
        check(&params(r#""max_tokens_to_sample":8193"#), &range);
        let range = format!("{at}.stop_sequences has to be a list of 1 to 10 texts that are not empty");
        check(&params(r#""stop_sequences":[]"#), &range);
        check(&params(r#""stop_sequences":[""]"#), &range);
        check(&params(r#""temperature":0,"max_tokens_to_sample":8192,"stop_sequences":["x"]"#), "accepted");
    }

    #[test]
    fn only_known_names_and_one_component() {
        let check = |name: &str, body: &str, kind: ErrorKind, expected: &str| {
            let error = legacy_call(name, body.as_bytes()).expect_err("refused");
            assert_eq!(error.kind(), kind);
            assert_eq!(String::from_utf8(error.into_body()).expect("text"), expected);
        };
        check("nope", "{}", ErrorKind::NotFound, r#"{"detail":"Not found"}"#);
        let invalid = r#"{"detail":"Validation error"}"#;
        check("agent", r#"{"prompt_components":[{},{}]}"#, ErrorKind::Invalid, invalid);
        check("agent", r#"{"prompt_components":[]}"#, ErrorKind::Invalid, invalid);
        check("agent", "{}", ErrorKind::Invalid, invalid);
        let forbidden = String::from_utf8(LegacyName::WriteTests.forbidden_body()).expect("text");
        assert_eq!(forbidden, r#"{"detail":"Unauthorized to access duo_chat"}"#);
    }
}
