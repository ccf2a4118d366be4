//! What AWS's errors mean, and what to put right: by their kind and, where one kind stands for many causes, by words of
//! the message (docs.aws.amazon.com/bedrock, "Troubleshooting Amazon Bedrock API error codes"). A message that changes
//! costs the better advice, not the class.

use super::super::complaint::Complaint;
use super::super::failure::Verdict;
use crate::domain::UpstreamClass::{self, Failed, Limited, Overloaded, Request, Setup, TooLong};

/// An error is this one if its kind is named, or none is, and its message holds the words.
struct Known {
    kind: &'static str,
    words: &'static str,
    class: UpstreamClass,
    cause: &'static str,
}

const fn known(kind: &'static str, words: &'static str, class: UpstreamClass, cause: &'static str) -> Known {
    Known { kind, words, class, cause }
}

const ANY: &str = "";
const ACCESS: &str = "AccessDeniedException";
const VALIDATION: &str = "ValidationException";
const MISSING: &str = "ResourceNotFoundException";

const BY_PROFILE: &str = "takes this model by an inference profile only: name the profile's id (the model's with eu., \
                          us. or global. before it) or its ARN";
const NO_MODEL: &str =
    "does not know the model in this region: check its id, and that the region of the endpoint offers it";
const NO_ACCESS: &str = "has not granted this account access to the model: request it in Bedrock's console, in the \
                         region of the endpoint and in those of its inference profile";
const NO_PERMISSION: &str = "does not let this role call the model: allow it bedrock:InvokeModelWithResponseStream on \
                             the model and, where there is one, on the inference profile";
const BAD_KEY: &str =
    "does not take the API key: check that it has not expired and was made in the region of the endpoint";
const EXPIRED: &str =
    "says that the session token has expired: renew the credentials, or let them be found where they renew themselves";
const WRONG_CLOCK: &str = "finds the signature too old or too new: check this machine's clock";
const WRONG_REGION: &str = "is called with a signature for another region: make the region that of the endpoint";
const WRONG_SECRET: &str = "does not accept the signature: check the secret access key";
const UNKNOWN_KEY: &str =
    "does not know the access key: check its id, and that the session token belongs to it, if it has one";
const NO_CREDENTIALS: &str = "was called without credentials: set an API key of Bedrock or AWS credentials";
const NO_STREAM: &str = "does not stream the answers of this model or cannot converse with it: choose another";
const SAMPLING: &str = "does not take these parameters of sampling with this model: set which of them it takes";
const LONG_ANSWER: &str = "takes a smaller max_tokens than the one it was asked for";
const NO_PREFIX: &str = "does not go on from the beginning of an answer with this model: set that it cannot";
const TOO_LONG: &str = "says that the prompt is too long for its model";
const DAY_SPENT: &str = "has given this account all tokens of the day: ask for a higher quota";
const MANY_TOKENS: &str = "limits the tokens for the moment, and counts max_tokens of each request until it ends";
const MANY_REQUESTS: &str = "limits the requests it takes for the moment";
const LOADING: &str = "is still loading the model";
const MODEL_FAILED: &str = "has a model that failed";
const RETIRED: &str = "has retired the model: name its successor";
const OTHER_SERVICE: &str = "does not know the operation: check that the address is one of bedrock-runtime";

/// The first that fits counts.
const TABLE: &[Known] = &[
    known(ANY, "on-demand throughput", Setup, BY_PROFILE),
    known(ANY, "specified model ID", Setup, NO_ACCESS),
    known(ANY, "not available for this account", Setup, NO_ACCESS),
    known(ANY, "aws-marketplace:", Setup, NO_ACCESS),
    known(ANY, "use case details", Setup, NO_ACCESS),
    known(ANY, "INVALID_PAYMENT_INSTRUMENT", Setup, "wants a valid means of payment in the account"),
    known(ANY, "Operation not allowed", Setup, "does not serve this account: ask AWS's support why"),
    known(ANY, "end of its life", Setup, RETIRED),
    known(ANY, "marked by provider as Legacy", Setup, RETIRED),
    known(ACCESS, "API Key", Setup, BAD_KEY),
    known(ACCESS, "Bearer Token", Setup, BAD_KEY),
    known(ACCESS, "", Setup, NO_PERMISSION),
    known("ExpiredTokenException", "", Setup, EXPIRED),
    known("ExpiredToken", "", Setup, EXPIRED),
    known(ANY, "Signature expired", Setup, WRONG_CLOCK),
    known(ANY, "Signature not yet current", Setup, WRONG_CLOCK),
    known("RequestExpired", "", Setup, WRONG_CLOCK),
    known(ANY, "Credential should be scoped", Setup, WRONG_REGION),
    known("InvalidSignatureException", "", Setup, WRONG_SECRET),
    known("SignatureDoesNotMatch", "", Setup, WRONG_SECRET),
    known("UnrecognizedClientException", "", Setup, UNKNOWN_KEY),
    known("InvalidClientTokenId", "", Setup, UNKNOWN_KEY),
    known("MissingAuthenticationTokenException", "", Setup, NO_CREDENTIALS),
    known("MissingAuthenticationToken", "", Setup, NO_CREDENTIALS),
    known("IncompleteSignatureException", "", Setup, NO_CREDENTIALS),
    known(VALIDATION, "model identifier", Setup, NO_MODEL),
    known(MISSING, "", Setup, NO_MODEL),
    known("UnknownOperationException", "", Setup, OTHER_SERVICE),
    known(VALIDATION, "unsupported for streaming", Setup, NO_STREAM),
    known(VALIDATION, "support the model", Setup, NO_STREAM),
    known(VALIDATION, "support streaming", Setup, NO_STREAM),
    known(VALIDATION, "prefill", Setup, NO_PREFIX),
    known(VALIDATION, "must end with a user message", Setup, NO_PREFIX),
    known(VALIDATION, "maximum tokens you requested", Request, LONG_ANSWER),
    known(VALIDATION, "Input is too long", TooLong, TOO_LONG),
    known(VALIDATION, "Input Tokens Exceeded", TooLong, TOO_LONG),
    known(VALIDATION, "too many total text bytes", TooLong, TOO_LONG),
    known(VALIDATION, "too many tokens", TooLong, TOO_LONG),
    known(VALIDATION, "temperature", Setup, SAMPLING),
    known(VALIDATION, "top_p", Setup, SAMPLING),
    known("ThrottlingException", "per day", Limited, DAY_SPENT),
    known("ThrottlingException", "tokens", Limited, MANY_TOKENS),
    known("ThrottlingException", "", Limited, MANY_REQUESTS),
    known("ServiceQuotaExceededException", "", Limited, "has given this account its quota: ask for a higher one"),
    known("ModelNotReadyException", "", Overloaded, LOADING),
    known("ModelTimeoutException", "", Failed, "waited for its model in vain"),
    known("ModelErrorException", "", Failed, MODEL_FAILED),
    known("ModelStreamErrorException", "", Failed, MODEL_FAILED),
];

/// What an error of AWS's means, where more can be said of it than its status does.
pub fn judge_aws(complaint: &Complaint) -> Option<Verdict> {
    let is_kind = |kind: &str| if kind == ANY { complaint.kind.ends_with("Exception") } else { complaint.is(kind) };
    let mut fitting = TABLE.iter().filter(|known| is_kind(known.kind) && complaint.message.contains(known.words));
    fitting.next().map(|Known { class, cause, .. }| Verdict { class: *class, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, message: &str, expected: Option<(UpstreamClass, &str)>) {
        let complaint = Complaint { kind: kind.to_owned(), message: message.to_owned(), ..Complaint::default() };
        let verdict = judge_aws(&complaint);
        assert_eq!(verdict.map(|verdict| (verdict.class, verdict.cause)), expected, "{kind}: {message}");
    }

    #[test]
    fn errors_name_what_to_put_right() {
        let profile = "Invocation of model ID anthropic.claude-x-v1:0 with on-demand throughput isn’t supported. Retry \
                       your request with the ID or ARN of an inference profile that contains this model.";
        let role = "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: \
                    bedrock:InvokeModelWithResponseStream on resource: arn:aws:bedrock:eu-west-1::foundation-model/x";
        check(VALIDATION, profile, Some((Setup, BY_PROFILE)));
        check("", profile, None);
        check(ACCESS, "You don't have access to the model with the specified model ID.", Some((Setup, NO_ACCESS)));
        check(ACCESS, "x is not available for this account.", Some((Setup, NO_ACCESS)));
        check(ACCESS, "Model access is denied: aws-marketplace:Subscribe is missing", Some((Setup, NO_ACCESS)));
        check(MISSING, "Model use case details have not been submitted", Some((Setup, NO_ACCESS)));
        check(ACCESS, role, Some((Setup, NO_PERMISSION)));
        check(ACCESS, "Authentication failed: Please make sure your API Key is valid.", Some((Setup, BAD_KEY)));
        check(ACCESS, "Bearer Token has expired", Some((Setup, BAD_KEY)));
        check("ExpiredTokenException", "The security token is expired", Some((Setup, EXPIRED)));
        let wrong = "InvalidSignatureException";
        check(wrong, "Signature expired: 1 is now earlier than 2", Some((Setup, WRONG_CLOCK)));
        check(wrong, "Credential should be scoped to a valid region.", Some((Setup, WRONG_REGION)));
        check(wrong, "The request signature we calculated does not match", Some((Setup, WRONG_SECRET)));
        check("UnrecognizedClientException", "The security token is invalid.", Some((Setup, UNKNOWN_KEY)));
        check("MissingAuthenticationTokenException", "", Some((Setup, NO_CREDENTIALS)));
        check(VALIDATION, "The provided model identifier is invalid.", Some((Setup, NO_MODEL)));
        check(MISSING, "no", Some((Setup, NO_MODEL)));
        check(VALIDATION, "The model is unsupported for streaming", Some((Setup, NO_STREAM)));
        check(VALIDATION, "The conversation must end with a user message.", Some((Setup, NO_PREFIX)));
        check(VALIDATION, "`temperature` and `top_p` cannot both be specified", Some((Setup, SAMPLING)));
        let limit = "The maximum tokens you requested exceeds the model limit of 4096.";
        check(VALIDATION, limit, Some((Request, LONG_ANSWER)));
        check(VALIDATION, "Input is too long for requested model.", Some((TooLong, TOO_LONG)));
        check(VALIDATION, "Malformed input request", None);
        check("throttlingException", "Too many tokens, please wait.", Some((Limited, MANY_TOKENS)));
        check("ThrottlingException", "Too many tokens per day", Some((Limited, DAY_SPENT)));
        check("ThrottlingException", "Too many requests", Some((Limited, MANY_REQUESTS)));
        check("ModelNotReadyException", "", Some((Overloaded, LOADING)));
        check("modelStreamErrorException", "", Some((Failed, MODEL_FAILED)));
        check("ServiceUnavailableException", "Too many connections", None);
        check("rate_limit_error", "Operation not allowed", None);
    }
}
