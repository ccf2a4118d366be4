//! What a provider says is wrong: the error objects of several APIs, read into one. Nothing of it is shown to a caller; a
//! short and cleaned excerpt goes to the log.

use serde_json::Value;

/// An error object. Texts are the provider's.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Complaint {
    /// `type`, `__type` or Google's `status`, or what a header says.
    pub kind: String,
    /// `code`, where it is a word.
    pub code: String,
    /// Of a code that is a number, or of a type that stands for one.
    pub status: Option<u16>,
    /// The finer code that Azure puts into `innererror` and Anthropic into `details`.
    pub detail: String,
    pub message: String,
    /// llama.cpp counts for us.
    pub prompt_tokens: Option<usize>,
    pub context_tokens: Option<usize>,
}

impl Complaint {
    /// From the body of an answer, which may be anything.
    pub fn parse(body: &[u8]) -> Self {
        serde_json::from_slice(body).map(|body| Self::read(&body)).unwrap_or_default()
    }

    /// From an error object, or from a body with one in it.
    pub fn read(body: &Value) -> Self {
        // Google wraps it in a list where a stream was asked for.
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
        if let Some(message) = error.as_str() {
            return Self { message: message.to_owned(), ..Self::default() };
        }
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let count = |name: &str| error.get(name).and_then(Value::as_u64).and_then(|count| count.try_into().ok());
        let inner = error.get("innererror").map(|inner| text(inner, "code")).filter(|code| !code.is_empty());
        let detail = error.get("details").map(|details| text(details, "error_code"));
        let either = |one, other| [text(error, one), text(error, other)].into_iter().find(|text| !text.is_empty());
        // Google's `status` is a word.
        let kind = either("type", "__type").unwrap_or_else(|| text(error, "status"));
        let kind = bare(&kind).to_owned();
        let code = text(error, "code");
        let number = error.get("code").and_then(Value::as_u64).and_then(|code| code.try_into().ok());
        let status = number.or_else(|| code.parse().ok()).or_else(|| status_of(&kind));
        Self {
            status: status.filter(|status| (400..600).contains(status)),
            kind,
            code,
            detail: inner.or(detail).unwrap_or_default(),
            message: either("message", "Message").unwrap_or_default(),
            prompt_tokens: count("n_prompt_tokens"),
            context_tokens: count("n_ctx"),
        }
    }

    /// With the kind that AWS names outside the body, in the header `x-amzn-errortype` or in the head of a frame.
    pub fn of_kind(mut self, said: Option<&str>) -> Self {
        if let Some(said) = said {
            self.kind = bare(said).to_owned();
            self.status = self.status.or_else(|| status_of(&self.kind));
        }
        self
    }

    /// Whether one of the codes is this one.
    pub fn is(&self, code: &str) -> bool {
        [&self.kind, &self.code, &self.detail].into_iter().any(|said| said.eq_ignore_ascii_case(code))
    }

    /// For the log: codes, and the beginning of the message as far as it can hold neither a prompt nor a key. Validation
    /// errors repeat the request in quotes and brackets, and keys are long words.
    pub fn excerpt(&self) -> String {
        const CHARS_MAX: usize = 160;
        const WORD_CHARS_MAX: usize = 24;
        const CODE_CHARS_MAX: usize = 64;
        let codes = [&self.kind, &self.code, &self.detail].into_iter().filter(|code| is_word(code, CODE_CHARS_MAX));
        let mut parts: Vec<&str> = codes.map(String::as_str).collect();
        let end = self.message.find(['"', '\'', '`', '[', '{', '<', '\n', '\r']).unwrap_or(self.message.len());
        let words = self.message[..end].split_whitespace();
        parts.extend(words.map(|word| if word.chars().count() > WORD_CHARS_MAX { "(…)" } else { word }));
        let text = parts.join(" ");
        text.chars().filter(|char| !char.is_control()).take(CHARS_MAX).collect()
    }
}

/// AWS puts a namespace before a kind, or an address behind it.
fn bare(kind: &str) -> &str {
    let kind = kind.split(':').next().unwrap_or(kind);
    kind.rsplit('#').next().unwrap_or(kind).trim()
}

fn is_word(text: &str, chars_max: usize) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !text.is_empty() && text.len() <= chars_max && text.bytes().all(is_part)
}

/// The statuses of types that come without one, in the middle of a stream (Anthropic's, OpenAI's and Bedrock's).
fn status_of(kind: &str) -> Option<u16> {
    let status = match kind {
        "invalid_request_error" | "BadRequestError" | "validationException" => 400,
        "authentication_error" => 401,
        "billing_error" | "insufficient_quota" => 402,
        "permission_error" => 403,
        "not_found_error" | "NotFoundError" => 404,
        "request_too_large" => 413,
        "modelStreamErrorException" => 424,
        "rate_limit_error" | "rate_limit_exceeded" | "tokens" | "requests" | "throttlingException" => 429,
        "api_error" | "server_error" | "InternalServerError" | "internalServerException" => 500,
        "serviceUnavailableException" => 503,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    };
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_objects_of_many_servers_are_read() {
        let check = |body: &str, status: Option<u16>, excerpt: &str| {
            let complaint = Complaint::parse(body.as_bytes());
            assert_eq!((complaint.status, complaint.excerpt().as_str()), (status, excerpt), "{body}");
        };
        check("", None, "");
        check("<html>nginx</html>", None, "");
        check("[1]", None, "");
        check(r#"{"error": "model not found"}"#, None, "model not found");
        check(r#"{"error": {"message": "no", "type": "x_error", "code": null}}"#, None, "x_error no");
        check(
            r#"{"object": "error", "message": "late", "type": "BadRequestError", "code": 400}"#,
            Some(400),
            "BadRequestError late",
        );
        check(
            r#"{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}"#,
            Some(529),
            "overloaded_error Overloaded",
        );
        check(
            r#"{"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}"#,
            None,
            "content_filter ResponsibleAIPolicyViolation",
        );
        check(r#"{"error": {"code": 99999, "message": "odd"}}"#, None, "odd");
        let exhausted =
            r#"{"error": {"code": 429, "message": "slower", "status": "RESOURCE_EXHAUSTED", "details": []}}"#;
        check(exhausted, Some(429), "RESOURCE_EXHAUSTED slower");
        check(&format!("[{exhausted}]"), Some(429), "RESOURCE_EXHAUSTED slower");
        check(r#"{"__type": "com.amazon.coral.service#SlowException", "Message": "no"}"#, None, "SlowException no");
    }

    #[test]
    fn kinds_outside_the_body_are_read() {
        let check = |said: Option<&str>, kind: &str, status: Option<u16>| {
            let complaint = Complaint::parse(br#"{"message": "no", "type": "other"}"#).of_kind(said);
            assert_eq!((complaint.kind.as_str(), complaint.status, complaint.message.as_str()), (kind, status, "no"));
        };
        check(None, "other", None);
        check(Some("ValidationException:http://internal.amazon.com/coral/"), "ValidationException", None);
        check(Some("throttlingException"), "throttlingException", Some(429));
    }

    #[test]
    fn the_log_sees_neither_prompts_nor_keys() {
        for message in [
            "Input should be valid: [{'input': 'def sesame(): pass'}]",
            "Incorrect API key provided: sk-sesame-0123456789abcdef0123456789. See the docs",
            "bad \\\"sesame\\\"",
            "bad\\nsesame",
        ] {
            let body = format!(r#"{{"error": {{"message": "{message}", "type": "a sesame type"}}}}"#);
            let excerpt = Complaint::parse(body.as_bytes()).excerpt();
            assert!(!excerpt.is_empty() && !excerpt.contains("sesame"), "{excerpt}");
        }
        let long = Complaint { message: "word ".repeat(1000), ..Complaint::default() };
        assert_eq!(long.excerpt().len(), 160);
    }
}
