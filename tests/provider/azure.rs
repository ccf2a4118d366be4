//! Azure OpenAI: addresses of deployments, keys and tokens, and what its content filter adds to streams and refusals.

use super::server::{Asked, Server};
use super::{Told, door, job, openai_settings, question, tell};
use sconce::domain::{ErrorKind, FinishReason, UpstreamClass, Usage};
use sconce::provider::{Endpoint, FixedToken, Key, Kind, OpenAiCompatible, OpenAiSettings, Remote};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// As the service sends it: the findings about the prompt first, findings in every choice, a last chunk of counts.
const STREAM: &str = concat!(
    "data: {\"choices\":[],\"created\":0,\"id\":\"\",\"model\":\"\",\"object\":\"\",\"prompt_filter_results\":",
    "[{\"prompt_index\":0,\"content_filter_results\":{\"hate\":{\"filtered\":false,\"severity\":\"safe\"}}}]}\n\n",
    "data: {\"choices\":[{\"content_filter_results\":{},\"delta\":{\"content\":\"\",\"refusal\":null,",
    "\"role\":\"assistant\"},\"finish_reason\":null,\"index\":0,\"logprobs\":null}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"content_filter_results\":{\"hate\":{\"filtered\":false}},\"delta\":{\"content\":\"é😀\"},",
    "\"finish_reason\":null,\"index\":0}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"content_filter_results\":{},\"delta\":{},\"finish_reason\":\"stop\",\"index\":0}]}\n\n",
    "data: {\"choices\":[{\"content_filter_offsets\":{\"check_offset\":44,\"start_offset\":44,\"end_offset\":198},",
    "\"content_filter_results\":{},\"finish_reason\":null,\"index\":0}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"completion_tokens\":2,\"prompt_tokens\":9,\"total_tokens\":11,",
    "\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n",
    "data: [DONE]\n\n",
);

fn azure(server: &Server, endpoint: Endpoint) -> OpenAiCompatible {
    let settings = openai_settings(server, Kind::Azure);
    let remote = Remote { endpoint, model: "gpt-4o".to_owned(), ..settings.remote };
    OpenAiCompatible::new(door(server), OpenAiSettings { remote, ..settings })
}

async fn ask(endpoint: impl Fn(String) -> Endpoint) -> Asked {
    let server = Server::streaming(STREAM).await;
    tell(&azure(&server, endpoint(server.url())), job(question())).await.end.expect("an answer");
    server.asked().pop().expect("a request")
}

#[tokio::test]
async fn both_apis_are_asked_as_their_addresses_say() {
    let capped = json!({ "max_completion_tokens": 16, "stream_options": { "include_usage": true } });
    let dated = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    for (base, path, limits) in [
        ("/openai/v1/", "/openai/v1/chat/completions", capped.clone()),
        ("/openai/deployments/gpt-4o", dated, capped.clone()),
        (dated, dated, capped.clone()),
        ("?api-version=2024-10-21", dated, capped.clone()),
        (
            "/openai/deployments/a?api-version=2024-06-01",
            "/openai/deployments/a/chat/completions?api-version=2024-06-01",
            json!({ "max_tokens": 16 }),
        ),
    ] {
        let asked = ask(|server| Endpoint::new(&format!("{server}{base}"), Some(Key::new("sk-key".to_owned())))).await;
        let mut expected = json!({
            "model": "gpt-4o", "messages": [{ "role": "user", "content": "sesame?" }], "stream": true,
            "temperature": 0.0,
        });
        expected.as_object_mut().expect("an object").extend(limits.as_object().expect("an object").clone());
        assert_eq!((asked.path(), asked.json()), (path, expected), "{base}");
        assert_eq!((asked.header("api-key"), asked.header("authorization")), (Some("sk-key"), None), "{base}");
    }
}

#[tokio::test]
async fn a_token_takes_the_place_of_a_key() {
    let asked = ask(|server| {
        let token = FixedToken::new(Key::new("entra-token".to_owned()));
        Endpoint::signed(&format!("{server}/openai/v1"), Arc::new(token))
    })
    .await;
    assert_eq!((asked.header("authorization"), asked.header("api-key")), (Some("Bearer entra-token"), None));
}

#[tokio::test]
async fn a_stream_with_findings_of_the_filter_is_heard_wherever_it_is_cut() {
    let counted = Usage { prompt_tokens: 9, completion_tokens: 2, cached_tokens: 4 };
    let expected = Told { text: "é😀".to_owned(), end: Ok((FinishReason::Stop, counted)) };
    let server = Server::cutting(STREAM).await;
    let lane = azure(&server, Endpoint::new(&format!("{}/openai/v1", server.url()), None));
    for cut in 0..=STREAM.len() {
        assert_eq!(tell(&lane, job(question())).await, expected, "cut at {cut}");
    }
}

#[tokio::test]
async fn refusals_have_their_class_and_their_wait() {
    use UpstreamClass::{Limited, Policy, Request, Setup, TooLong};
    let ms = Duration::from_millis;
    let error = |code: &str, more: Value| {
        let mut error = json!({ "code": code, "message": "sesame" });
        error.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "error": error }).to_string()
    };
    let filtered = json!({
        "param": "prompt", "type": null, "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": { "jailbreak": { "detected": true, "filtered": true } },
        },
    });
    let plain = |code: &str| error(code, json!({}));
    for (status, headers, body, class, kind, wait) in [
        (400, "", error("content_filter", filtered), Policy, ErrorKind::Invalid, None),
        (400, "", plain("context_length_exceeded"), TooLong, ErrorKind::Invalid, None),
        (400, "", plain("OperationNotSupported"), Request, ErrorKind::Invalid, None),
        (401, "", plain("401"), Setup, ErrorKind::Upstream, None),
        (401, "", plain("PermissionDenied"), Setup, ErrorKind::Upstream, None),
        (404, "", plain("DeploymentNotFound"), Setup, ErrorKind::Upstream, None),
        (
            429,
            "retry-after-ms: 1250\r\nretry-after: 2\r\n",
            plain("429"),
            Limited,
            ErrorKind::Overloaded,
            Some(ms(1250)),
        ),
        (429, "retry-after-ms: -1\r\nretry-after: -1\r\n", plain("429"), Limited, ErrorKind::Overloaded, None),
        (429, "retry-after: 2\r\n", plain("RateLimitReached"), Limited, ErrorKind::Overloaded, Some(ms(2000))),
        (429, "", plain("too_many_requests"), Limited, ErrorKind::Overloaded, None),
        (429, "", plain("insufficient_quota"), Setup, ErrorKind::Upstream, None),
    ] {
        let server = Server::refusing(status, headers, &body).await;
        let endpoint = Endpoint::new(&format!("{}/openai/v1", server.url()), None);
        let error = tell(&azure(&server, endpoint), job(question())).await.upstream();
        assert_eq!((error.class, error.kind(), error.retry_after), (class, kind, wait), "{status} {headers}{body}");
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
}

#[tokio::test]
async fn text_that_the_filter_ends_is_not_passed_off_as_whole() {
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
    let ended = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\ndata: [DONE]\n\n";
    for (body, heard) in [(ended.to_owned(), ""), (format!("{begun}{ended}"), "a")] {
        let server = Server::streaming(&body).await;
        let endpoint = Endpoint::new(&format!("{}/openai/v1", server.url()), None);
        let told = tell(&azure(&server, endpoint), job(question())).await;
        assert_eq!(told.text, heard);
        assert_eq!(told.upstream().class, UpstreamClass::Policy);
    }
}
