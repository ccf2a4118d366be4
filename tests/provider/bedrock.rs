//! AWS Bedrock: what is sent and how it is opened, and what becomes of refusals.

use super::event_stream::{counts, event_head, stop, text};
use super::server::{Asked, Play, Server};
use super::{Told, begun, chat, door, infill, job, question, remote, tell};
use aws_lc_rs::hmac;
use sconce::domain::{GenerateError, Job, Prompt, Role, SamplingParams, StopRules, UpstreamClass};
use sconce::provider::{
    AwsKeys, AwsSignature, Bedrock, BedrockSampling, BedrockSettings, Clock, Endpoint, Key, bedrock_address,
};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

pub fn bedrock(server: &Server) -> Bedrock {
    Bedrock::new(door(server), settings(server))
}

/// With a key, under no path.
pub fn settings(server: &Server) -> BedrockSettings {
    let key = Key::new("bedrock-api-key-sesame".to_owned());
    let remote = super::Remote { endpoint: Endpoint::new(&server.url(), Some(key)), ..remote(server) };
    BedrockSettings { remote, sampling: BedrockSampling::default(), has_answer_prefix: true, extra: Map::new() }
}

/// With keys that sign.
fn signing(server: &Server, model: &str) -> Bedrock {
    let (secret, token) = (Key::new(SECRET.to_owned()), Some(Key::new("sesame".to_owned())));
    let keys = AwsKeys::new("AKIDEXAMPLE".to_owned(), secret, token).expect("keys that can be used");
    // 2026-11-22T06:00:00Z.
    let clock = Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_327_200));
    let signature = AwsSignature::new(Arc::new(keys), "eu-west-1".to_owned(), clock);
    let endpoint = Endpoint::signed(&server.url(), Arc::new(signature));
    let mut settings = settings(server);
    settings.remote = super::Remote { endpoint, model: model.to_owned(), ..settings.remote };
    Bedrock::new(door(server), settings)
}

async fn answering() -> Server {
    let body = [text("yes"), stop("end_turn"), counts()].concat();
    Server::playing(vec![Play::Send(event_head()), Play::Send(body)]).await
}

#[tokio::test]
async fn a_conversation_is_phrased_as_the_api_wants_it() {
    let server = answering().await;
    let messages = [
        (Role::System, "be brief"),
        (Role::User, "one"),
        (Role::User, "two"),
        (Role::Assistant, "three"),
        (Role::System, "be kind"),
        (Role::User, "four"),
    ];
    let stops = ["\n\n", "1", "2", "3", "4", "5"].map(str::to_owned).to_vec();
    let stop = StopRules { max_tokens: None, stop: stops };
    let top_k = std::num::NonZeroU32::new(4);
    let sampling = SamplingParams { temperature: 0.2, top_p: 0.9, top_k, seed: Some(1), ..SamplingParams::default() };
    assert_eq!(bedrock(&server).leaves_out(&sampling), ["top_p", "top_k", "seed"]);
    tell(&bedrock(&server), Job { stop, sampling, ..job(chat(&messages)) }).await.end.expect("an answer");
    let asked = server.asked().pop().expect("a request");
    let said = |role: &str, text: &str| json!({ "role": role, "content": [{ "text": text }] });
    let expected = json!({
        "system": [{ "text": "be brief\n\nbe kind" }],
        "messages": [said("user", "one\n\ntwo"), said("assistant", "three"), said("user", "four")],
        "inferenceConfig": { "maxTokens": 1024, "temperature": 0.2, "stopSequences": ["1", "2", "3", "4"] },
    });
    assert_eq!((asked.path(), asked.json()), ("/model/large/converse-stream", expected));
    assert_eq!(asked.header("authorization"), Some("Bearer bedrock-api-key-sesame"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn models_take_both_parameters_of_sampling_one_or_none() {
    use BedrockSampling::{Both, Either, Neither};
    let config = |more: Value| {
        let mut config = json!({ "maxTokens": 16 });
        config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        config
    };
    for (taken, temperature, top_p, expected, left_out) in [
        (Both, 0.2, 0.9, json!({ "temperature": 0.2, "topP": 0.9 }), &[][..]),
        (Either, 0.2, 1.0, json!({ "temperature": 0.2 }), &[]),
        (Either, 0.2, 0.9, json!({ "temperature": 0.2 }), &["top_p"]),
        (Either, 1.0, 0.9, json!({ "topP": 0.9 }), &[]),
        (Neither, 0.2, 0.9, json!({}), &["temperature", "top_p"]),
        (Neither, 1.5, 1.0, json!({}), &["temperature"]),
    ] {
        let server = answering().await;
        let lane = Bedrock::new(door(&server), BedrockSettings { sampling: taken, ..settings(&server) });
        let sampling = SamplingParams { temperature, top_p, ..SamplingParams::default() };
        assert_eq!(lane.leaves_out(&sampling), left_out);
        tell(&lane, Job { sampling, ..job(question()) }).await.end.expect("an answer");
        let body = server.asked().pop().expect("a request").json();
        assert_eq!(body["inferenceConfig"], config(expected), "{taken:?} {temperature} {top_p}");
    }
}

#[tokio::test]
async fn an_operators_fields_are_sent_beside_ours_and_answers_begin_as_told() {
    let server = answering().await;
    let extra = json!({
        "additionalModelRequestFields": { "top_k": 40 }, "guardrailConfig": { "guardrailIdentifier": "g" },
        "messages": "sesame", "inferenceConfig": {},
    });
    let extra = extra.as_object().expect("an object").clone();
    let lane = Bedrock::new(door(&server), BedrockSettings { extra, ..settings(&server) });
    tell(&lane, job(begun("{\n  "))).await.end.expect("an answer");
    let body = server.asked().pop().expect("a request").json();
    assert_eq!(body["additionalModelRequestFields"], json!({ "top_k": 40 }));
    assert_eq!(body["guardrailConfig"], json!({ "guardrailIdentifier": "g" }));
    assert_eq!(body["messages"][1], json!({ "role": "assistant", "content": [{ "text": "{" }] }));
    assert_eq!(body["inferenceConfig"]["maxTokens"], json!(16));
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_before_anything_is_sent() {
    let hot = SamplingParams { temperature: 1.5, ..SamplingParams::default() };
    let biased = SamplingParams { logit_bias: vec![(1, 1.0)], ..SamplingParams::default() };
    let curious = SamplingParams { top_logprobs: Some(0), ..SamplingParams::default() };
    for (job, expected) in [
        (job(infill()), "no fill-in-the-middle"),
        (job(Prompt::Text("x".to_owned())), "raw text"),
        (job(Prompt::Tokens(vec![1])), "raw text"),
        (Job { sampling: hot, ..job(question()) }, "temperatures above 1"),
        (Job { sampling: biased, ..job(question()) }, "logit_bias"),
        (Job { sampling: curious, ..job(question()) }, "log probabilities"),
        (job(chat(&[(Role::User, "x"), (Role::Assistant, "y")])), "an assistant ends"),
        (job(begun("{")), "begin as they are told"),
    ] {
        let server = answering().await;
        let settings = BedrockSettings { has_answer_prefix: false, ..settings(&server) };
        let error = tell(&Bedrock::new(door(&server), settings), job).await.end.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(server.asked().len(), 0);
    }
}

#[test]
fn addresses_are_those_of_the_region() {
    assert_eq!(bedrock_address("eu-central-1"), "https://bedrock-runtime.eu-central-1.amazonaws.com");
    assert_eq!(bedrock_address("cn-north-1"), "https://bedrock-runtime.cn-north-1.amazonaws.com.cn");
}

/// Signature Version 4, worked out from what arrived: the headers that it names, the path encoded once more, the digest
/// of the body.
fn signature(asked: &Asked, secret: &str) -> String {
    let authorization = asked.header("authorization").expect("a signature");
    let part = |name: &str| {
        let rest = &authorization[authorization.find(name).expect("a part of it") + name.len()..];
        rest.split(',').next().expect("there is one").to_owned()
    };
    let (scope, names) = (part("Credential="), part("SignedHeaders="));
    let scope = scope.split_once('/').expect("a key before it").1.to_owned();
    let (method, date) = (asked.head.split(' ').next().expect("a method"), asked.header("x-amz-date").expect("a date"));
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string grows");
            text
        })
    };
    let encoded = asked.path().replace('%', "%25").replace('@', "%40");
    let headers = names.split(';').map(|name| format!("{name}:{}\n", asked.header(name).expect("what is signed")));
    let headers: String = headers.collect();
    let digest = hex(&Sha256::digest(&asked.body));
    let request = format!("{method}\n{encoded}\n\n{headers}\n{names}\n{digest}");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let start = format!("AWS4{secret}").into_bytes();
    let mac =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let key = scope.split('/').fold(start, |key, part| mac(&key, part));
    hex(&mac(&key, &text))
}

fn is_signed(asked: &Asked, secret: &str) -> bool {
    let authorization = asked.header("authorization").expect("a signature");
    authorization.ends_with(&format!("Signature={}", signature(asked, secret)))
}

/// Requests of AWS's own suite of examples for signers.
#[test]
fn the_check_of_signatures_knows_good_ones_from_bad_ones() {
    let signed = |key: &str, names: &str, signature: &str| {
        let scope = "20150830/us-east-1/service/aws4_request";
        format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
    };
    let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let with_token = signed(
        "AKIDEXAMPLE",
        "host;x-amz-date;x-amz-security-token",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    );
    let with_body = signed(
        "AKIDEXAMPLE",
        "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
        "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    );
    let host = "Host: example.amazonaws.com\r\nX-Amz-Date: 20150830T123600Z";
    let digest = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e";
    let typed = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 13";
    for (head, body) in [
        (format!("GET / HTTP/1.1\r\n{host}\r\nX-Amz-Security-Token: {token}\r\n{with_token}"), ""),
        (
            format!("POST / HTTP/1.1\r\n{host}\r\n{typed}\r\nx-amz-content-sha256: {digest}\r\n{with_body}"),
            "Param1=value1",
        ),
    ] {
        let asked = Asked { head, body: body.to_owned() };
        assert!(is_signed(&asked, SECRET), "{}", asked.head);
        assert!(!is_signed(&asked, "another secret"));
        assert!(!is_signed(&Asked { body: "another body".to_owned(), ..asked }, SECRET));
    }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_signed() {
    let arn = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-x-v1:0";
    let arn_path = "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2F\
                    eu.anthropic.claude-x-v1%3A0/converse-stream";
    for (model, path) in [
        ("eu.anthropic.claude-x-v1:0", "/model/eu.anthropic.claude-x-v1%3A0/converse-stream"),
        (arn, arn_path),
        ("../é x", "/model/..%2F%C3%A9%20x/converse-stream"),
    ] {
        let server = answering().await;
        tell(&signing(&server, model), job(question())).await.end.expect("an answer");
        let asked = server.asked().pop().expect("a request");
        assert_eq!(asked.path(), path);
        assert!(is_signed(&asked, SECRET), "{}", asked.head);
        let scope = "Credential=AKIDEXAMPLE/20261122/eu-west-1/bedrock/aws4_request";
        assert!(asked.header("authorization").is_some_and(|header| header.contains(scope)), "{}", asked.head);
        assert_eq!(asked.header("x-amz-security-token"), Some("sesame"));
    }
}

async fn refused(status: u16, headers: &str, body: &str) -> Told {
    let server = Server::refusing(status, headers, body).await;
    let told = tell(&signing(&server, "large"), job(question())).await;
    assert_eq!(server.asked().len(), 1, "nobody here asks twice");
    told
}

#[tokio::test]
async fn refusals_have_a_class_and_name_what_to_put_right() {
    use UpstreamClass::{Failed, Limited, Overloaded, Request, Setup, TooLong};
    let on_demand = "Invocation of model ID x with on-demand throughput isn’t supported. Retry your request with the \
                     ID or ARN of an inference profile that contains this model.";
    for (status, kind, message, class, hint) in [
        (400, "ValidationException", on_demand, Setup, "inference profile"),
        (400, "ValidationException", "The provided model identifier is invalid.", Setup, "region"),
        (400, "ValidationException", "Input is too long for requested model.", TooLong, "too long"),
        (400, "ValidationException", "sesame", Request, "does not accept"),
        (403, "AccessDeniedException", "User: sesame is not authorized", Setup, "InvokeModelWithResponseStream"),
        (
            403,
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
            Setup,
            "console",
        ),
        (403, "ExpiredTokenException", "The security token included in the request is expired", Setup, "renew"),
        (403, "InvalidSignatureException", "Signature expired: sesame", Setup, "clock"),
        (403, "InvalidSignatureException", "Credential should be scoped to a valid region.", Setup, "another region"),
        (403, "UnrecognizedClientException", "The security token is invalid.", Setup, "access key"),
        (404, "ResourceNotFoundException", "sesame", Setup, "region"),
        (429, "ThrottlingException", "Too many tokens, please wait before trying again.", Limited, "max_tokens"),
        (429, "ThrottlingException", "Too many requests, please wait.", Limited, "requests"),
        (429, "ModelNotReadyException", "sesame", Overloaded, "loading"),
        (408, "ModelTimeoutException", "sesame", Failed, "in vain"),
        (424, "ModelErrorException", "sesame", Failed, "failed"),
        (500, "InternalServerException", "sesame", Failed, "failed"),
        (503, "ServiceUnavailableException", "Too many connections", Overloaded, "too much"),
    ] {
        let header = format!("x-amzn-ErrorType: {kind}:http://internal.amazon.com/coral/com.amazon.bedrock/\r\n");
        let body = json!({ "message": message }).to_string();
        let error = refused(status, &header, &body).await.upstream();
        assert_eq!((error.class, error.status), (class, Some(status)), "{kind}: {message}");
        assert!(error.cause.contains(hint) && !error.to_string().contains("sesame"), "{kind}: {error}");
    }
    let said = "The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum";
    let said = json!({ "message": said }).to_string();
    let told = refused(400, "x-amzn-ErrorType: ValidationException\r\n", &said).await;
    let (model, max_tokens) = ("large".to_owned(), 16);
    let expected = GenerateError::PromptTooLong { model, prompt_tokens: 210_000, max_tokens, context_tokens: 200_000 };
    assert_eq!(told.end, Err(expected));
    let waiting = refused(429, "x-amz-retry-after: 1500\r\n", "{}").await.upstream();
    assert_eq!((waiting.class, waiting.retry_after), (Limited, Some(Duration::from_millis(1500))));
}

/// A log that is kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_most_talkative_log_holds_neither_keys_nor_prompts() {
    let log = Log::default();
    let kept = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || kept.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // With one alone, what other tests reach first on their threads would be taken for unwanted everywhere.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let answering = answering().await;
    tell(&signing(&answering, "large"), job(question())).await.end.expect("an answer");
    tell(&bedrock(&answering), job(question())).await.end.expect("an answer");
    let said = json!({ "message": format!("User: x, key {SECRET} and token 'sesame'") }).to_string();
    let denying = Server::refusing(403, "x-amzn-ErrorType: AccessDeniedException\r\n", &said).await;
    let error = tell(&signing(&denying, "large"), job(question())).await.upstream();
    let text = String::from_utf8(log.0.lock().expect("nobody panics with it").clone()).expect("text");
    let shown = format!("{error} {error:?} {:?} {:?}", settings(&answering), Key::new("sesame".to_owned()));
    assert!(text.contains("AccessDeniedException"), "{text}");
    for said in [text, shown] {
        assert!(!said.contains("sesame") && !said.contains(SECRET), "{said}");
    }
}
