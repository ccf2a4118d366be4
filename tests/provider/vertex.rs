//! Models on Vertex AI: addresses, golden requests and streams of each family, and Google's refusals.

use super::server::{Asked, Server};
use super::{Told, begun, chat, door, infill, job, question, remote, tell};
use sconce::domain::{
    ErrorKind, FinishReason, GenerateError, Job, Prompt, Role, SamplingParams, StopRules, UpstreamClass, Usage,
};
use sconce::provider::{
    AnthropicSampling, Clock, Endpoint, FixedToken, InfillForm, Key, Remote, ServiceAccountKey, Vertex, VertexFamily,
    VertexSettings, service_account,
};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};

const PLACE: &str = "/v1/projects/my-project/locations/europe-west1";

/// As long as Google's are at least: longer than any word of which the log shows one.
const TOKEN: &str = "ya29.a0AfB_byC0123456789abcdef";
const BEARER: &str = "Bearer ya29.a0AfB_byC0123456789abcdef";

fn settings(server: &Server, model: &str) -> VertexSettings {
    let family = VertexFamily::of(model);
    VertexSettings {
        remote: Remote {
            endpoint: Endpoint::new(&server.url(), Some(Key::new(TOKEN.to_owned()))),
            model: model.to_owned(),
            ..remote(server)
        },
        project: "my-project".to_owned(),
        location: "europe-west1".to_owned(),
        family,
        infill: if family == VertexFamily::Mistral { InfillForm::Fim } else { InfillForm::None },
        sampling: AnthropicSampling::One,
        has_answer_prefix: true,
        extra: Map::new(),
    }
}

fn vertex(server: &Server, model: &str) -> Vertex {
    Vertex::new(door(server), settings(server, model))
}

const GEMINI: &str = "gemini-2.5-flash";
const CLAUDE: &str = "claude-sonnet-4-5@20250929";
const CODESTRAL: &str = "codestral-2501@001";

fn event(data: Value) -> String {
    format!("data: {data}\r\n\r\n")
}

fn candidate(parts: Value) -> String {
    event(json!({ "candidates": [{ "content": { "role": "model", "parts": parts } }], "responseId": "x" }))
}

fn end(reason: &str) -> String {
    event(json!({
        "candidates": [{ "content": { "role": "model" }, "finishReason": reason }],
        "usageMetadata": {
            "promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 5, "totalTokenCount": 16,
            "cachedContentTokenCount": 4, "trafficType": "ON_DEMAND",
        },
        "modelVersion": GEMINI,
    }))
}

const COUNTED: Usage = Usage { prompt_tokens: 9, completion_tokens: 7, cached_tokens: 4 };

async fn hear(body: &str) -> Told {
    let server = Server::streaming(body).await;
    tell(&vertex(&server, GEMINI), job(question())).await
}

async fn ask(model: &str, body: &str, job: Job) -> Result<Asked, GenerateError> {
    let server = Server::streaming(body).await;
    tell(&vertex(&server, model), job).await.end?;
    Ok(server.asked().pop().expect("a request"))
}

#[tokio::test]
async fn geminis_streams_are_heard_wherever_they_are_cut() {
    let whole = [
        candidate(json!([{ "text": "hm, a letter", "thought": true }])),
        candidate(json!([{ "text": "é" }, { "text": "", "thoughtSignature": "c2ln" }])),
        candidate(json!([{ "text": "😀" }])),
        end("STOP"),
    ]
    .concat();
    let expected = Told { text: "é😀".to_owned(), end: Ok((FinishReason::Stop, COUNTED)) };
    let server = Server::cutting(&whole).await;
    let lane = vertex(&server, GEMINI);
    for cut in 0..=whole.len() {
        assert_eq!(tell(&lane, job(question())).await, expected, "cut at {cut}");
    }
    let told = hear(&format!("{}{}", candidate(json!([{ "text": "a" }])), end("MAX_TOKENS"))).await;
    assert_eq!(told, Told { text: "a".to_owned(), end: Ok((FinishReason::Length, COUNTED)) });
}

#[tokio::test]
async fn geminis_ends_that_are_not_well_are_told() {
    use UpstreamClass::{Broken, Failed, Limited, Policy};
    let a = candidate(json!([{ "text": "a" }]));
    let blocked = event(json!({
        "promptFeedback": { "blockReason": "PROHIBITED_CONTENT" }, "usageMetadata": { "promptTokenCount": 9 },
    }));
    let exhausted = event(json!({ "error": { "code": 429, "message": "sesame", "status": "RESOURCE_EXHAUSTED" } }));
    let call = candidate(json!([{ "functionCall": { "name": "f", "args": {} } }]));
    let mut cases = vec![
        (blocked, Policy, ""),
        (a.clone(), Broken, "a"),
        (String::new(), Failed, ""),
        (event(json!({ "candidates": null })), Failed, ""),
        (event(json!([1])), Failed, ""),
        (end("OTHER"), Failed, ""),
        (end("MALFORMED_FUNCTION_CALL"), Failed, ""),
        (end("FINISH_REASON_UNSPECIFIED"), Failed, ""),
        (end("OF_2027"), Failed, ""),
        (call + &end("STOP"), Failed, ""),
        (exhausted.clone(), Limited, ""),
        (a.clone() + &exhausted, Broken, "a"),
    ];
    for reason in ["SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"] {
        cases.push((end(reason), Policy, ""));
        cases.push((a.clone() + &end(reason), Policy, "a"));
    }
    for (body, class, heard) in cases {
        let told = hear(&body).await;
        assert_eq!(told.text, heard, "{body}");
        let error = told.upstream();
        assert_eq!(error.class, class, "{body}");
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
}

#[tokio::test]
async fn gemini_is_asked_in_its_own_words() {
    let talk = chat(&[
        (Role::System, "be brief"),
        (Role::User, "hi"),
        (Role::User, "there"),
        (Role::Assistant, "yes"),
        (Role::User, "é?"),
    ]);
    let sampling = SamplingParams {
        temperature: 0.7,
        top_p: 0.9,
        top_k: std::num::NonZeroU32::new(40),
        min_p: 0.05,
        presence_penalty: 0.5,
        seed: Some(u64::MAX),
        ..SamplingParams::default()
    };
    let stop = StopRules { max_tokens: None, stop: ["1", "2", "3", "4", "5", "6"].map(str::to_owned).to_vec() };
    let server = Server::streaming(&end("STOP")).await;
    let mut settings = settings(&server, GEMINI);
    settings.extra = json!({
        "generationConfig": { "thinkingConfig": { "thinkingBudget": 0 }, "maxOutputTokens": 1 },
        "safetySettings": [], "contents": [],
    })
    .as_object()
    .expect("an object")
    .clone();
    let lane = Vertex::new(door(&server), settings);
    assert_eq!(lane.leaves_out(&sampling), ["min_p", "presence_penalty"]);
    tell(&lane, Job { sampling, stop, ..job(talk) }).await.end.expect("an answer");
    let asked = server.asked().pop().expect("a request");
    let text = |text: &str| json!([{ "text": text }]);
    let expected = json!({
        "contents": [
            { "role": "user", "parts": text("hi\n\nthere") }, { "role": "model", "parts": text("yes") },
            { "role": "user", "parts": text("é?") },
        ],
        "systemInstruction": { "parts": text("be brief") },
        "generationConfig": {
            "maxOutputTokens": 1024, "temperature": 0.7, "topP": 0.9, "topK": 40, "seed": i32::MAX,
            "stopSequences": ["1", "2", "3", "4", "5"], "thinkingConfig": { "thinkingBudget": 0 },
        },
        "safetySettings": [],
    });
    let path = format!("{PLACE}/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert_eq!((asked.path(), asked.json()), (path.as_str(), expected));
    assert_eq!(asked.header("authorization"), Some(BEARER));
    let plain = ask(GEMINI, &end("STOP"), job(question())).await.expect("an answer").json();
    let expected = json!({
        "contents": [{ "role": "user", "parts": text("sesame?") }],
        "generationConfig": { "maxOutputTokens": 16, "temperature": 0.0 },
    });
    assert_eq!(plain, expected);
}

const CLAUDES: &str = concat!(
    "event: vertex_event\ndata: {\"type\":\"vertex_event\",\"usage\":{}}\n\n",
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,",
    "\"delta\":{\"type\":\"text_delta\",\"text\":\"é😀\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},",
    "\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[tokio::test]
async fn claude_is_asked_and_heard_as_at_home_but_for_where_its_name_is() {
    let usage = Usage { prompt_tokens: 9, completion_tokens: 7, cached_tokens: 0 };
    let expected = Told { text: "é😀".to_owned(), end: Ok((FinishReason::Stop, usage)) };
    let server = Server::cutting(CLAUDES).await;
    let lane = vertex(&server, CLAUDE);
    for cut in 0..=CLAUDES.len() {
        assert_eq!(tell(&lane, job(question())).await, expected, "cut at {cut}");
    }
    let asked = server.asked().pop().expect("a request");
    let expected = json!({
        "anthropic_version": "vertex-2023-10-16", "max_tokens": 16, "stream": true, "temperature": 0.0,
        "messages": [{ "role": "user", "content": "sesame?" }],
    });
    let path = format!("{PLACE}/publishers/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict");
    assert_eq!((asked.path(), asked.json()), (path.as_str(), expected));
    assert_eq!(asked.header("authorization"), Some(BEARER));
    assert_eq!((asked.header("x-api-key"), asked.header("anthropic-version")), (None, None));
}

#[tokio::test]
async fn codestral_completes_code_and_talks_at_one_address() {
    let stream = concat!(
        "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":",
        "{\"content\":\"é😀\"},\"finish_reason\":null}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}],",
        "\"usage\":{\"prompt_tokens\":9,\"total_tokens\":11,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
    );
    let usage = Usage { prompt_tokens: 9, completion_tokens: 2, cached_tokens: 0 };
    let expected = Told { text: "é😀".to_owned(), end: Ok((FinishReason::Stop, usage)) };
    let server = Server::cutting(stream).await;
    let lane = vertex(&server, CODESTRAL);
    for cut in 0..=stream.len() {
        assert_eq!(tell(&lane, job(infill())).await, expected, "cut at {cut}");
    }
    let path = format!("{PLACE}/publishers/mistralai/models/{CODESTRAL}:streamRawPredict");
    let with = |more: Value| {
        let mut body = json!({ "model": "codestral-2501", "stream": true, "max_tokens": 16, "temperature": 0.0 });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let asked = server.asked().pop().expect("a request");
    let expected = with(json!({ "prompt": "a(", "suffix": ")\n" }));
    assert_eq!((asked.path(), asked.json()), (path.as_str(), expected));
    assert_eq!(asked.header("authorization"), Some(BEARER));
    let asked = ask(CODESTRAL, stream, job(question())).await.expect("an answer");
    let expected = with(json!({ "messages": [{ "role": "user", "content": "sesame?" }] }));
    assert_eq!((asked.path(), asked.json()), (path.as_str(), expected));
}

#[tokio::test]
async fn open_models_are_asked_in_openais_words() {
    let asked = ask("meta/llama-4-maas", "data: [DONE]\n\n", job(question())).await.expect("an answer");
    assert_eq!(asked.path(), format!("{PLACE}/endpoints/openapi/chat/completions"));
    assert_eq!(
        (asked.json()["model"].as_str(), asked.header("authorization")),
        (Some("meta/llama-4-maas"), Some(BEARER))
    );
}

#[tokio::test]
async fn names_and_bases_of_all_forms_lead_to_the_same_place() {
    for (base, model, expected) in [
        ("", "google/gemini-2.5-pro", "publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("/", "gemini-2.5-pro", "publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("/v1/", "gemini-2.5-pro", "publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
        ("", "gemini/../x?y", "publishers/google/models/gemini%2F..%2Fx%3Fy:streamGenerateContent?alt=sse"),
    ] {
        let server = Server::streaming(&end("STOP")).await;
        let mut settings = settings(&server, model);
        settings.remote.endpoint = Endpoint::new(&format!("{}{base}", server.url()), None);
        tell(&Vertex::new(door(&server), settings), job(question())).await.end.expect("an answer");
        let asked = server.asked().pop().expect("a request");
        assert_eq!(asked.path(), format!("{PLACE}/{expected}"), "{base} {model}");
        assert_eq!(asked.header("authorization"), None);
    }
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_before_anything_is_sent() {
    let biased = SamplingParams { logit_bias: vec![(1, 1.0)], ..SamplingParams::default() };
    let curious = SamplingParams { top_logprobs: Some(1), ..SamplingParams::default() };
    for (model, job, expected) in [
        (GEMINI, job(infill()), "no fill-in-the-middle"),
        (GEMINI, job(begun("{")), "begin as they are told"),
        (GEMINI, job(Prompt::Text("x".to_owned())), "raw text"),
        (GEMINI, job(chat(&[(Role::System, "x")])), "the prompt is empty"),
        (GEMINI, job(chat(&[(Role::User, "x"), (Role::Tool, "y")])), "messages of tools"),
        (GEMINI, Job { sampling: biased, ..job(question()) }, "logit_bias"),
        (GEMINI, Job { sampling: curious, ..job(question()) }, "log probabilities"),
        (CLAUDE, job(infill()), "no fill-in-the-middle"),
        (CODESTRAL, job(Prompt::Text("x".to_owned())), "raw text"),
        ("meta/llama-4-maas", job(Prompt::Text("x".to_owned())), "raw text"),
    ] {
        let server = Server::streaming("").await;
        let error = tell(&vertex(&server, model), job).await.end.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(server.asked().len(), 0);
    }
}

#[tokio::test]
async fn googles_refusals_have_their_class() {
    use UpstreamClass::{Failed, Limited, Overloaded, Policy, Request, Setup};
    for (status, word, message, class, kind) in [
        (429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.", Limited, ErrorKind::Overloaded),
        (400, "INVALID_ARGUMENT", "sesame", Request, ErrorKind::Invalid),
        (400, "INVALID_ARGUMENT", "The prompt was blocked by Model Armor.", Policy, ErrorKind::Invalid),
        (401, "UNAUTHENTICATED", "sesame", Setup, ErrorKind::Upstream),
        (403, "PERMISSION_DENIED", "sesame", Setup, ErrorKind::Upstream),
        (404, "NOT_FOUND", "sesame", Setup, ErrorKind::Upstream),
        (499, "CANCELLED", "sesame", Failed, ErrorKind::Upstream),
        (500, "INTERNAL", "sesame", Failed, ErrorKind::Upstream),
        (503, "UNAVAILABLE", "sesame", Overloaded, ErrorKind::Unavailable),
        (504, "DEADLINE_EXCEEDED", "sesame", Failed, ErrorKind::Upstream),
    ] {
        let body = json!({ "error": { "code": status, "message": message, "status": word, "details": [] } });
        for (model, body) in [(GEMINI, json!([body])), (CLAUDE, body.clone()), (CODESTRAL, body)] {
            let server = Server::refusing(status, "", &body.to_string()).await;
            let error = tell(&vertex(&server, model), job(question())).await.upstream();
            assert_eq!((error.class, error.kind()), (class, kind), "{status} {body}");
            assert!(!error.to_string().contains("sesame"), "{error}");
        }
    }
    let message = "The input token count (25270) exceeds the maximum number of tokens allowed (4000).";
    let body = json!([{ "error": { "code": 400, "message": message, "status": "INVALID_ARGUMENT" } }]);
    let server = Server::refusing(400, "", &body.to_string()).await;
    let end = tell(&vertex(&server, GEMINI), job(question())).await.end;
    let (model, max_tokens) = (GEMINI.to_owned(), 16);
    let expected = GenerateError::PromptTooLong { model, prompt_tokens: 25_270, max_tokens, context_tokens: 4000 };
    assert_eq!(end, Err(expected));
}

#[tokio::test]
async fn a_service_account_signs_for_every_family() {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let file = json!({
        "type": "service_account", "private_key_id": "key-1", "private_key": pair.serialize_pem(),
        "client_email": "sconce@p.iam.gserviceaccount.com",
    });
    let account = service_account(ServiceAccountKey::parse(&file.to_string()).expect("a key"), Clock::system());
    let mut borne = Vec::new();
    for (model, stream) in
        [(GEMINI, end("STOP")), (CLAUDE, CLAUDES.to_owned()), (CODESTRAL, "data: [DONE]\n\n".to_owned())]
    {
        let server = Server::streaming(&stream).await;
        let mut settings = settings(&server, model);
        settings.remote.endpoint = Endpoint::signed(&server.url(), account.clone());
        assert!(!format!("{settings:?}").contains("PRIVATE"), "settings are shown without their secrets");
        tell(&Vertex::new(door(&server), settings), job(question())).await.end.expect("an answer");
        let asked = server.asked().pop().expect("a request");
        borne.push(asked.header("authorization").expect("a token").to_owned());
    }
    assert!(borne[0].starts_with("Bearer ey"), "{}", borne[0].len());
    borne.dedup();
    assert_eq!(borne.len(), 1, "one token for all");
}

/// What is written to the log, at any level.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_key_or_prompt_reaches_the_log() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    // Beside one subscriber alone, a thread without it that first comes by a place silences that place for all.
    let _other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let said =
        json!({ "error": { "code": 429, "message": format!("slow down {TOKEN} 'sesame?'"), "status": "UNAVAILABLE" } });
    let fine = Server::streaming(&end("STOP")).await;
    let refusing = Server::refusing(429, "", &said.to_string()).await;
    let gone = Server::playing(Vec::new()).await;
    for (server, is_there) in [(&fine, true), (&refusing, true), (&gone, false)] {
        for model in [GEMINI, CLAUDE, CODESTRAL] {
            let mut settings = settings(server, model);
            if model == CLAUDE {
                let token = FixedToken::new(Key::new(TOKEN.to_owned()));
                settings.remote.endpoint = Endpoint::signed(&server.url(), Arc::new(token));
            }
            let text = format!("{settings:?}");
            assert!(!text.contains("ya29"), "{text}");
            let told = tell(&Vertex::new(door(server), settings), job(question())).await;
            assert!(is_there || told.end.is_err());
        }
    }
    let log = String::from_utf8(written.0.lock().expect("nobody panics with it").clone()).expect("text");
    assert!(log.contains("slow down"), "the log is written: {log}");
    for secret in ["ya29", "sesame"] {
        assert!(!log.contains(secret), "{log}");
    }
}
