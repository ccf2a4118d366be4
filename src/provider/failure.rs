//! From what went wrong over there to the class that says who may be tried next, with words of our own.

use super::bedrock::judge_aws;
use super::complaint::Complaint;
use crate::domain::UpstreamClass;
use crate::egress::EgressError;

/// A class and what is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub class: UpstreamClass,
    pub cause: &'static str,
}

const fn verdict(class: UpstreamClass, cause: &'static str) -> Verdict {
    Verdict { class, cause }
}

pub const POLICY: Verdict = verdict(UpstreamClass::Policy, "refuses the content by its policy");
pub const UNREADABLE: Verdict = verdict(UpstreamClass::Failed, "answers with what is no stream of its protocol");
pub const TOOL_NOT_OFFERED: Verdict = verdict(UpstreamClass::Failed, "calls a tool that nobody offered it");
pub const GAVE_UP: Verdict = verdict(UpstreamClass::Failed, "gave up on its answer");
pub const CUT_SHORT: Verdict = verdict(UpstreamClass::Failed, "closed the connection before its answer was complete");

/// What a status and the error object beside it mean.
pub fn judge(status: u16, complaint: &Complaint) -> Verdict {
    use UpstreamClass::{Failed, Limited, Overloaded, Request, Setup, TooLong};
    if is_policy(complaint) {
        return POLICY;
    }
    if is_spent(complaint) {
        return verdict(Setup, "wants a bill paid or a spending limit raised");
    }
    if let Some(verdict) = judge_aws(complaint) {
        return verdict;
    }
    match status {
        413 => verdict(TooLong, "does not take a request of this size"),
        400 | 422 if is_too_long(complaint) => verdict(TooLong, "says that the prompt is too long for its model"),
        400 | 404 | 422 if complaint.is("model_not_found") => {
            verdict(Setup, "does not know the model it was asked for")
        }
        401 | 403 => verdict(Setup, "does not take the credentials it was called with"),
        402 | 412 => verdict(Setup, "does not serve this account before something is put right there"),
        404 | 405 => verdict(Setup, "does not know the address or the model it was asked for"),
        429 => verdict(Limited, "limits the requests it takes for the moment"),
        503 | 529 => verdict(Overloaded, "has too much to do for the moment"),
        408 | 409 | 424 | 425 | 499 | 500.. => verdict(Failed, "failed before it answered"),
        400..500 => verdict(Request, "does not accept the request"),
        _ => UNREADABLE,
    }
}

/// What the way there means, before an answer began.
pub fn judge_way(error: &EgressError) -> Verdict {
    use UpstreamClass::{Failed, Setup};
    match error {
        EgressError::NoAddress | EgressError::Refused { .. } => {
            verdict(Setup, "is at an address that may not be called from here")
        }
        EgressError::Header { .. } => verdict(Setup, "has a key that cannot be sent"),
        EgressError::Redirect { .. } => verdict(Setup, "redirects to another address, which is not followed"),
        EgressError::Dns { .. } => verdict(
            Failed,
            "has a host name that does not resolve: check its address, and the region in it if there is one",
        ),
        EgressError::Connect { .. } => verdict(Failed, "cannot be reached"),
        EgressError::Tls { .. } => verdict(Failed, "cannot be reached by a secure connection"),
        EgressError::Timeout { .. } => verdict(Failed, "did not answer in time"),
        EgressError::Status { .. } | EgressError::TooLarge { .. } => UNREADABLE,
        EgressError::Broken { .. } => CUT_SHORT,
    }
}

/// The same, once the caller has heard the beginning of the answer: nobody can go on from there.
pub fn in_the_middle(verdict: Verdict) -> Verdict {
    match verdict.class {
        UpstreamClass::Policy => verdict,
        UpstreamClass::Request
        | UpstreamClass::TooLong
        | UpstreamClass::Setup
        | UpstreamClass::Limited
        | UpstreamClass::Overloaded
        | UpstreamClass::Failed
        | UpstreamClass::Broken => {
            Verdict { class: UpstreamClass::Broken, cause: "broke off in the middle of its answer" }
        }
    }
}

fn is_policy(complaint: &Complaint) -> bool {
    let codes = ["content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"];
    let phrases = ["content filtering policy", "blocked by Model Armor"];
    codes.iter().any(|code| complaint.is(code)) || phrases.iter().any(|phrase| complaint.message.contains(phrase))
}

/// A limit that no wait of this month lifts, though it comes with the status of one that a wait does.
fn is_spent(complaint: &Complaint) -> bool {
    ["enforced_spend_limit_reached", "insufficient_quota", "billing_hard_limit_reached"]
        .iter()
        .any(|code| complaint.is(code))
}

fn is_too_long(complaint: &Complaint) -> bool {
    let codes = ["context_length_exceeded", "exceed_context_size_error", "string_above_max_length"];
    let phrases = [
        "maximum context length",
        "prompt is too long",
        "exceed context limit",
        "context window",
        "exceeds the maximum number of tokens allowed",
    ];
    codes.iter().any(|code| complaint.is(code)) || phrases.iter().any(|phrase| complaint.message.contains(phrase))
}

/// How many tokens the prompt has and how many the model takes, where the complaint says so: then the prompt can be
/// planned again, smaller.
pub fn lengths(complaint: &Complaint) -> Option<(usize, usize)> {
    if let (Some(prompt), Some(context)) = (complaint.prompt_tokens, complaint.context_tokens) {
        return Some((prompt, context));
    }
    let message = complaint.message.as_str();
    let behind = |phrase: &str| {
        let rest = &message[message.find(phrase)? + phrase.len()..];
        rest[..rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
    };
    let before = |phrase: &str| {
        let head = &message[..message.find(phrase)?];
        head[head.rfind(|char: char| !char.is_ascii_digit()).map_or(0, |at| at + 1)..].parse().ok()
    };
    // Anthropic: `prompt is too long: 210000 tokens > 200000 maximum`.
    if let (Some(prompt), Some(context)) = (behind("prompt is too long: "), behind(" tokens > ")) {
        return Some((prompt, context));
    }
    // Google: `The input token count (25270) exceeds the maximum number of tokens allowed (4000).`
    if let (Some(prompt), Some(context)) = (behind("input token count ("), behind("number of tokens allowed (")) {
        return Some((prompt, context));
    }
    // OpenAI and vLLM, whose wording of the second number changed twice.
    let context = behind("maximum context length is ")?;
    let ends = [" in the messages", " in the prompt", " input tokens"];
    let prompt = ends.iter().find_map(|phrase| before(phrase)).or_else(|| behind("your messages resulted in "))?;
    Some((prompt, context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use UpstreamClass::{Failed, Limited, Overloaded, Policy, Request, Setup, TooLong};

    #[test]
    fn statuses_fall_into_classes() {
        let check = |status: u16, body: &str, class: UpstreamClass| {
            assert_eq!(judge(status, &Complaint::parse(body.as_bytes())).class, class, "{status} {body}");
        };
        for (status, class) in [
            (400, Request),
            (422, Request),
            (413, TooLong),
            (401, Setup),
            (402, Setup),
            (403, Setup),
            (404, Setup),
            (412, Setup),
            (429, Limited),
            (503, Overloaded),
            (529, Overloaded),
            (408, Failed),
            (500, Failed),
            (502, Failed),
            (504, Failed),
            (200, Failed),
        ] {
            check(status, "", class);
            check(status, "{}", class);
        }
        check(400, r#"{"error": {"code": "content_filter"}}"#, Policy);
        check(400, r#"{"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}"#, Policy);
        check(400, r#"{"error": {"message": "Output blocked by content filtering policy"}}"#, Policy);
        check(400, r#"{"error": {"code": "context_length_exceeded"}}"#, TooLong);
        check(400, r#"{"error": {"code": "model_not_found"}}"#, Setup);
        check(429, r#"{"error": {"type": "rate_limit_error"}}"#, Limited);
        check(429, r#"{"error": {"details": {"error_code": "enforced_spend_limit_reached"}}}"#, Setup);
        check(429, r#"{"error": {"code": "insufficient_quota"}}"#, Setup);
    }

    #[test]
    fn lengths_are_read_where_they_are_said() {
        let check = |body: &str, expected: Option<(usize, usize)>| {
            assert_eq!(lengths(&Complaint::parse(body.as_bytes())), expected, "{body}");
        };
        let said = |message: &str| format!(r#"{{"error": {{"message": "{message}"}}}}"#);
        check(&said("prompt is too long: 210000 tokens > 200000 maximum"), Some((210_000, 200_000)));
        let context = "This model's maximum context length is 4096 tokens.";
        let asked = "However, you requested 5000 tokens (4000 in the messages, 1000 in the completion)";
        check(&said(&format!("{context} {asked}")), Some((4000, 4096)));
        check(&said(&format!("{context} However, your request has 5000 input tokens.")), Some((5000, 4096)));
        check(&said(&format!("{context} However, your messages resulted in 5001 tokens.")), Some((5001, 4096)));
        check(r#"{"error": {"n_prompt_tokens": 900, "n_ctx": 512}}"#, Some((900, 512)));
        let google = "The input token count (25270) exceeds the maximum number of tokens allowed (4000).";
        check(&said(google), Some((25_270, 4000)));
        check(&said(context), None);
        check(&said("99999999999999999999999 input tokens, maximum context length is 5"), None);
        check("", None);
    }
}
