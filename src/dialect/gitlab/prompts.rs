//! The prompts API: bodies of `/v1/prompts/*` and `/v2/prompts/*`, which differ in the form of the answer only.

use super::metadata::{ModelChoice, model_metadata};
use super::validation::{Form, ValidationError, body, boolean, text};
use crate::domain::{ErrorKind, GenerateError, Usage};
use crate::feature::prompts::{PromptError, VersionError, check_version};
use crate::wire::gitlab::detail::DetailBody;
use crate::wire::gitlab::prompts::{PromptAnswer, TokenUsage, UsageByModel};
use crate::wire::json::Json;
use serde_json::{Map, Number, Value};

const VERSION_CHARS_MAX: usize = 1024;

/// A call of a prompt, whatever its version of the API.
#[derive(Clone, PartialEq)]
pub struct PromptCall {
    pub inputs: Map<String, Value>,
    pub stream: bool,
    pub model: ModelChoice,
    /// `None` stands for `^1.0.0`.
    pub prompt_version: Option<String>,
}

/// Inputs hold code and questions: only their number is shown.
impl std::fmt::Debug for PromptCall {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PromptCall({} inputs, stream: {})", self.inputs.len(), self.stream)
    }
}

impl PromptCall {
    /// Reads a body. Whether its version is one, [`PromptCall::check_version`] says: that comes after the scopes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ValidationError> {
        let mut fields = body(bytes)?;
        let inputs = fields.required("inputs")?.entries()?;
        let prompt_version = fields.take("prompt_version").map(|field| text(field, VERSION_CHARS_MAX)).transpose()?;
        let stream = fields.take("stream").map(boolean).transpose()?.unwrap_or(false);
        let model = model_metadata(fields.take("model_metadata"))?;
        let inputs = inputs.into_iter().map(|(name, field)| (name, plain(field.value))).collect();
        Ok(Self { inputs, stream, model, prompt_version })
    }

    /// There is one version of each prompt, which satisfies every constraint that is one.
    pub fn check_version(&self) -> Result<(), PromptRefusal> {
        Ok(self.prompt_version.as_deref().map_or(Ok(()), check_version)?)
    }
}

/// The id of a prompt from the rest of a path, where slashes may come encoded.
#[must_use]
pub fn prompt_id(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut id = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                id.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                id.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&id).trim_matches('/').to_owned()
}

fn plain(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Integer(value) => {
            Number::from_i128(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
        }
        Json::Float(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        Json::String(text) => Value::String(text),
        Json::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Json::Object(fields) => Value::Object(fields.into_iter().map(|(name, value)| (name, plain(value))).collect()),
    }
}

/// Which of the two forms an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// A bare JSON string, or raw text when streamed.
    V1,
    /// An object with `content` and `usage`, or one such line for each piece.
    V2,
}

/// What an answer cost, under the name the model has in GitLab.
#[derive(Clone, Copy, Debug)]
pub struct Cost<'a> {
    pub model: &'a str,
    pub usage: Usage,
}

impl<'a> Cost<'a> {
    fn by_model(self) -> UsageByModel<'a> {
        let Usage { prompt_tokens, completion_tokens, .. } = self.usage;
        UsageByModel {
            model: self.model,
            usage: TokenUsage { input_tokens: prompt_tokens, output_tokens: completion_tokens },
        }
    }
}

/// The body of a whole answer; without a cost where no model was asked.
#[must_use]
pub fn whole(version: ApiVersion, content: &str, cost: Option<Cost<'_>>) -> Vec<u8> {
    let body = match version {
        ApiVersion::V1 => serde_json::to_vec(content),
        ApiVersion::V2 => serde_json::to_vec(&PromptAnswer { content, usage: cost.map(Cost::by_model) }),
    };
    body.expect("answers hold only strings and numbers")
}

/// Appends a piece of a streamed answer. An empty one says nothing.
pub fn piece(version: ApiVersion, content: &str, out: &mut Vec<u8>) {
    match version {
        _ if content.is_empty() => {}
        ApiVersion::V1 => out.extend_from_slice(content.as_bytes()),
        ApiVersion::V2 => {
            let line = PromptAnswer { content, usage: None };
            serde_json::to_writer(&mut *out, &line).expect("a line holds only a string");
            out.push(b'\n');
        }
    }
}

/// Why a call of a prompt is not answered. `Display` is the reason for the log; the body is [`PromptRefusal::body`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PromptRefusal {
    #[error(transparent)]
    Body(#[from] ValidationError),
    #[error(transparent)]
    Version(#[from] VersionError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error("no scope of the token allows the prompt '{id}'")]
    Scope { id: String },
    #[error("the model server answered {code}: {reason}")]
    ModelServer { code: u16, reason: String },
}

/// How HTTP says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    BadRequest,
    Forbidden,
    Unprocessable,
    /// 421: GitLab shows the detail as the answer of the administrator's model server.
    ModelServer,
    Internal,
}

impl PromptRefusal {
    /// A model that is not known here, as a model server says it.
    #[must_use]
    pub fn model_not_found() -> Self {
        Self::ModelServer { code: 404, reason: "no such model is served".to_owned() }
    }

    #[must_use]
    pub fn model_loading() -> Self {
        Self::ModelServer { code: 503, reason: "the model is being loaded".to_owned() }
    }

    #[must_use]
    pub fn refused(&self) -> Refused {
        match self {
            Self::Version(_) | Self::Prompt(PromptError::Unknown { .. }) => Refused::BadRequest,
            Self::Scope { .. } => Refused::Forbidden,
            Self::Body(_) | Self::Prompt(PromptError::Unsupported { .. } | PromptError::MissingInput { .. }) => {
                Refused::Unprocessable
            }
            Self::ModelServer { .. } => Refused::ModelServer,
            Self::Prompt(PromptError::Template { .. }) => Refused::Internal,
        }
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.refused() {
            Refused::BadRequest | Refused::Unprocessable => ErrorKind::Invalid,
            Refused::Forbidden => ErrorKind::Forbidden,
            Refused::ModelServer => ErrorKind::Upstream,
            Refused::Internal => ErrorKind::Internal,
        }
    }

    /// The body, with the words GitLab and its administrators know.
    #[must_use]
    pub fn body(self) -> Vec<u8> {
        let text = match self {
            Self::Body(error) => return error.into_body(Form::List),
            Self::Version(error) => error.to_string(),
            Self::Scope { id } => format!("Unauthorized to access '{id}'"),
            Self::Prompt(PromptError::Unknown { id }) => {
                format!(
                    "Failed to load prompt definition for '{id}': Prompt definition directory not found: prompts/{id}"
                )
            }
            Self::Prompt(PromptError::Unsupported { id }) => format!("Prompt '{id}' is not supported"),
            Self::Prompt(error @ PromptError::MissingInput { .. }) => error.to_string(),
            Self::Prompt(PromptError::Template { .. }) => "Internal server error".to_owned(),
            Self::ModelServer { code, .. } => format!("{code}: {}", status_words(code)),
        };
        serde_json::to_vec(&DetailBody { detail: &text }).expect("a detail is a string")
    }
}

/// A lane stands where GitLab supposes a model server: its errors are that server's.
impl From<&GenerateError> for PromptRefusal {
    fn from(error: &GenerateError) -> Self {
        Self::ModelServer { code: model_server_code(error.kind()), reason: error.to_string() }
    }
}

fn model_server_code(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Invalid => 400,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::Forbidden => 403,
        ErrorKind::NotFound => 404,
        ErrorKind::Superseded => 409,
        ErrorKind::TooLarge => 413,
        ErrorKind::Overloaded => 429,
        ErrorKind::Internal => 500,
        ErrorKind::Upstream => 502,
        ErrorKind::Deadline | ErrorKind::ShuttingDown | ErrorKind::Starting | ErrorKind::Unavailable => 503,
    }
}

/// The words of RFC 9110 for what model servers answer.
fn status_words(code: u16) -> &'static str {
    match code {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::gitlab::metadata::Source;
    use crate::feature::Family;
    use crate::feature::prompts::lookup;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("JSON is text")
    }

    #[test]
    fn bodies_are_read_as_gitlab_sends_them() {
        let call = PromptCall::parse(
            br#"{"inputs": {"diff": "a", "n": null, "libraries": ["x"], "deep": {"a": [1, 2.5, 99999999999999999999]}},
                "stream": true, "prompt_version": "^1.0.0", "later": 1,
                "model_metadata": {"provider": "openai", "name": "mistral", "endpoint": "http://127.0.0.1:5052/v1",
                "api_key": null, "identifier": "custom_openai/example-7b-instruct"}}"#,
        )
        .expect("valid");
        let expected = serde_json::json!({"diff": "a", "n": null, "libraries": ["x"], "deep": {"a": [1, 2.5, 1e20]}});
        assert_eq!(call.inputs["diff"], expected["diff"]);
        assert_eq!(call.inputs["n"], Value::Null);
        assert_eq!(call.inputs["libraries"], expected["libraries"]);
        assert!(call.stream);
        assert_eq!(call.model.family, Some(Family::Mistral));
        assert_eq!(call.check_version(), Ok(()));
        let call = PromptCall::parse(br#"{"inputs": {}, "stream": null, "prompt_version": null}"#).expect("valid");
        assert_eq!((call.stream, call.model.source, call.prompt_version), (false, Source::Absent, None));
    }

    #[test]
    fn bodies_that_are_none_are_refused() {
        let check = |body: &str, expected: &str| {
            let error = PromptRefusal::from(PromptCall::parse(body.as_bytes()).expect_err(body));
            assert_eq!(error.refused(), Refused::Unprocessable, "{body}");
            let body = text(error.body());
            assert!(body.contains(expected), "{body}");
        };
        check(r#"{"prompt_version": "^1.0.0"}"#, r#""loc":["body","inputs"],"msg":"inputs is required""#);
        check(r#"{"inputs": null}"#, "inputs is required");
        check(r#"{"inputs": "x"}"#, "has to be an object");
        check(r#"{"inputs": {}, "stream": "x"}"#, "has to be a boolean");
        check(r#"{"inputs": {}, "prompt_version": 1}"#, "has to be a string");
        check("{", "not valid JSON");
        check("[]", "has to be an object");
    }

    #[test]
    fn ids_come_with_slashes_of_both_kinds() {
        let check = |path: &str, expected: &str| assert_eq!(prompt_id(path), expected, "{path}");
        check("model_configuration%2Fcheck", "model_configuration/check");
        check("model_configuration%2fcheck", "model_configuration/check");
        check("model_configuration/check", "model_configuration/check");
        check("/chat/explain_code/", "chat/explain_code");
        check("100%", "100%");
        check("%zz%2", "%zz%2");
        check("a%FFb", "a\u{fffd}b");
        assert!(lookup(&prompt_id("model_configuration%2Fcheck")).is_ok());
    }

    #[test]
    fn answers_have_the_form_of_their_version() {
        let usage = Usage { prompt_tokens: 20, completion_tokens: 6, cached_tokens: 3 };
        let cost = Some(Cost { model: "a \"b\"", usage });
        assert_eq!(text(whole(ApiVersion::V1, "Replace a\nwith \"b\" é", cost)), r#""Replace a\nwith \"b\" é""#);
        assert_eq!(text(whole(ApiVersion::V2, "x", None)), r#"{"content":"x"}"#);
        let expected = r#"{"content":"x","usage":{"a \"b\"":{"input_tokens":20,"output_tokens":6}}}"#;
        assert_eq!(text(whole(ApiVersion::V2, "x", cost)), expected);
        let mut stream = Vec::new();
        for content in ["Adds ", "", "x.\n"] {
            piece(ApiVersion::V2, content, &mut stream);
        }
        assert_eq!(text(stream), "{\"content\":\"Adds \"}\n{\"content\":\"x.\\n\"}\n");
        let mut stream = Vec::new();
        for content in ["Adds ", "", "x.\n"] {
            piece(ApiVersion::V1, content, &mut stream);
        }
        assert_eq!(text(stream), "Adds x.\n");
    }

    #[test]
    fn refusals_have_the_words_gitlab_knows() {
        let check = |refusal: PromptRefusal, refused: Refused, expected: &str| {
            assert_eq!(refusal.refused(), refused);
            assert_eq!(text(refusal.body()), expected);
        };
        check(PromptRefusal::model_not_found(), Refused::ModelServer, r#"{"detail":"404: Not Found"}"#);
        check(PromptRefusal::model_loading(), Refused::ModelServer, r#"{"detail":"503: Service Unavailable"}"#);
        let full = GenerateError::QueueFull { waiting: 1, waiting_max: 1, retry_after: std::time::Duration::ZERO };
        check((&full).into(), Refused::ModelServer, r#"{"detail":"429: Too Many Requests"}"#);
        let key = PromptRefusal::ModelServer { code: 401, reason: "key".to_owned() };
        check(key, Refused::ModelServer, r#"{"detail":"401: Unauthorized"}"#);
        let scope = PromptRefusal::Scope { id: "chat/explain_code".to_owned() };
        check(scope, Refused::Forbidden, r#"{"detail":"Unauthorized to access 'chat/explain_code'"}"#);
        check(
            lookup("chat/react").expect_err("not plain").into(),
            Refused::Unprocessable,
            r#"{"detail":"Prompt 'chat/react' is not supported"}"#,
        );
        check(
            lookup("no/such").expect_err("unknown").into(),
            Refused::BadRequest,
            r#"{"detail":"Failed to load prompt definition for 'no/such': Prompt definition directory not found: prompts/no/such"}"#,
        );
        let missing = PromptError::MissingInput { id: "generate_commit_message", name: "diff" };
        check(
            missing.into(),
            Refused::Unprocessable,
            r#"{"detail":"prompt 'generate_commit_message' needs the input 'diff', which is missing"}"#,
        );
        let call = PromptCall::parse(br#"{"inputs": {}, "prompt_version": "latest"}"#).expect("valid");
        let refusal = call.check_version().expect_err("no version");
        assert_eq!(refusal.refused(), Refused::BadRequest);
        assert!(text(refusal.body()).starts_with(r#"{"detail":"invalid version constraint: "#));
    }
}
