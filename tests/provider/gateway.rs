//! Other gateways: one of GitLab's kind by the endpoints it has for GitLab, and another Sconce by OpenAI's.

use super::server::{Asked, Play, Server};
use super::{Told, begun, chat, door, infill, job, openai_settings, question, remote, tell};
use sconce::domain::{
    ErrorKind, FinishReason, GenerateError, Infill, Job, Prompt, Role, SamplingParams, StopRules, UpstreamClass, Usage,
};
use sconce::provider::{
    Endpoint, GitLabGateway, GitLabGatewaySettings, GitLabInstance, InfillForm, Key, Kind, OpenAiCompatible,
    OpenAiSettings, Remote,
};
use serde_json::json;

fn gateway(server: &Server, provider: Option<&str>) -> GitLabGateway {
    let remote = Remote {
        endpoint: Endpoint::new(&format!("{}/ai/", server.url()), Some(Key::new("eyJ.token".to_owned()))),
        ..remote(server)
    };
    let instance = GitLabInstance {
        realm: "self-managed".to_owned(),
        id: "7f1c".to_owned(),
        host: "gitlab.example.com".to_owned(),
        version: "18.9.0".to_owned(),
        global_user_id: "Zm9v".to_owned(),
    };
    let settings = GitLabGatewaySettings { remote, provider: provider.map(str::to_owned), instance };
    GitLabGateway::new(door(server), settings)
}

/// Chunked, as a gateway sends what it does not know the length of. `end` is what stands behind the last chunk.
fn chunked(pieces: &[&[u8]], end: &str) -> Vec<Play> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |piece: &&[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    let pieces = pieces.iter().filter(|piece| !piece.is_empty()).map(chunk);
    let plays = [head.as_bytes().to_vec()].into_iter().chain(pieces).chain([end.as_bytes().to_vec()]);
    plays.map(Play::Send).collect()
}

const LAST: &str = "0\r\n\r\n";

fn uncounted(completion_tokens: usize) -> Usage {
    Usage { completion_tokens, ..Usage::default() }
}

async fn ask(provider: Option<&str>, job: Job) -> Asked {
    let server = Server::playing(chunked(&[b"x"], LAST)).await;
    tell(&gateway(&server, provider), job).await.end.expect("an answer");
    server.asked().pop().expect("a request")
}

#[tokio::test]
async fn raw_text_is_heard_wherever_it_is_cut() {
    let text = "a\né😀data: [DONE]\n\n";
    let bytes = text.as_bytes();
    for cut in 0..=bytes.len() {
        let server = Server::playing(chunked(&[&bytes[..cut], &bytes[cut..]], LAST)).await;
        let told = tell(&gateway(&server, None), job(infill())).await;
        assert_eq!(told.text, text, "cut at {cut}");
        let (reason, usage) = told.end.expect("an end");
        assert_eq!((reason, usage.prompt_tokens), (FinishReason::Stop, 0));
    }
    let server = Server::playing(chunked(&[b"one EN", b"D two"], LAST)).await;
    let stop = StopRules { max_tokens: Some(9), stop: vec!["END".to_owned()] };
    let told = tell(&gateway(&server, None), Job { stop, ..job(question()) }).await;
    assert_eq!(told, Told { text: "one ".to_owned(), end: Ok((FinishReason::Stop, uncounted(2))) });
}

#[tokio::test]
async fn half_an_answer_is_not_passed_off_as_whole() {
    use UpstreamClass::{Broken, Failed};
    for (pieces, end, class, heard) in [
        (&[&b"a"[..]][..], "", Broken, "a"),
        (&[], "", Failed, ""),
        (&[b"a\xc3"], LAST, Broken, "a"),
        (&[b"a", b"\xff\xff"], LAST, Broken, "a"),
        // A conversation that nobody answers.
        (&[], LAST, Failed, ""),
    ] {
        let server = Server::playing(chunked(pieces, end)).await;
        let told = tell(&gateway(&server, None), job(question())).await;
        assert_eq!(told.text, heard, "{pieces:?}");
        assert_eq!(told.upstream().class, class, "{pieces:?}");
    }
    // That nothing comes to mind is an answer.
    let server = Server::playing(chunked(&[], LAST)).await;
    let told = tell(&gateway(&server, None), job(infill())).await;
    assert_eq!(told, Told { text: String::new(), end: Ok((FinishReason::Stop, uncounted(0))) });
}

#[tokio::test]
async fn code_is_asked_for_as_gitlab_does() {
    let asked = ask(None, job(infill())).await;
    let file = json!({ "file_name": "completion.txt", "content_above_cursor": "a(", "content_below_cursor": ")\n" });
    let mut expected = json!({ "prompt_version": 1, "current_file": file, "stream": true });
    assert_eq!((asked.path(), asked.json()), ("/ai/v2/code/completions", expected.clone()));
    for (name, value) in [
        ("authorization", "Bearer eyJ.token"),
        ("x-gitlab-authentication-type", "oidc"),
        ("x-gitlab-realm", "self-managed"),
        ("x-gitlab-instance-id", "7f1c"),
        ("x-gitlab-host-name", "gitlab.example.com"),
        ("x-gitlab-version", "18.9.0"),
        ("x-gitlab-global-user-id", "Zm9v"),
        ("x-request-id", "01TEST"),
    ] {
        assert_eq!(asked.header(name), Some(value), "{name}");
    }
    expected["model_provider"] = json!("anthropic");
    expected["model_name"] = json!("large");
    assert_eq!(ask(Some("anthropic"), job(infill())).await.json(), expected);
    // What stands nearest to the cursor is kept, in whole characters.
    let far = |text: &str| text.repeat(100_000);
    let around = Infill { prefix: format!("far{}", far("é")), suffix: format!("{}far", far("😀")) };
    let body = ask(None, job(Prompt::Infill(around))).await.json();
    assert_eq!(body["current_file"]["content_above_cursor"], json!(far("é")));
    assert_eq!(body["current_file"]["content_below_cursor"], json!(far("😀")));
}

#[tokio::test]
async fn a_conversation_is_asked_for_with_what_it_may_be_told() {
    let stops: Vec<String> = (0..12).map(|number| format!("stop {number}")).collect();
    let stop = StopRules { max_tokens: Some(100_000), stop: [vec!["x".repeat(226)], stops.clone()].concat() };
    let sampling = SamplingParams { temperature: 0.7, top_p: 0.9, seed: Some(1), ..SamplingParams::default() };
    let server = Server::playing(Vec::new()).await;
    assert_eq!(gateway(&server, None).leaves_out(&sampling), ["top_p", "seed"]);
    let talk = chat(&[(Role::System, "be brief"), (Role::User, "hi"), (Role::Assistant, "yes"), (Role::User, "é?")]);
    let asked = ask(Some("anthropic"), Job { stop, sampling, ..job(talk) }).await;
    let expected = json!({
        "prompt_components": [{
            "type": "prompt",
            "metadata": { "source": "sconce", "version": env!("CARGO_PKG_VERSION") },
            "payload": {
                "content": [
                    { "role": "system", "content": "be brief" }, { "role": "user", "content": "hi" },
                    { "role": "assistant", "content": "yes" }, { "role": "user", "content": "é?" },
                ],
                "provider": "anthropic",
                "model": "large",
                "params": { "temperature": 0.7, "max_tokens_to_sample": 8192, "stop_sequences": stops[..10] },
            },
        }],
        "stream": true,
    });
    assert_eq!((asked.path(), asked.json()), ("/ai/v1/chat/agent", expected));
    let plain = ask(None, job(question())).await.json();
    let payload = json!({
        "content": [{ "role": "user", "content": "sesame?" }],
        "params": { "temperature": 0.0, "max_tokens_to_sample": 16 },
    });
    assert_eq!(plain["prompt_components"][0]["payload"], payload);
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_before_anything_is_sent() {
    let hot = SamplingParams { temperature: 1.5, ..SamplingParams::default() };
    let biased = SamplingParams { logit_bias: vec![(1, 1.0)], ..SamplingParams::default() };
    let curious = SamplingParams { top_logprobs: Some(1), ..SamplingParams::default() };
    let long: Vec<_> = (0..101).map(|at| (if at % 2 == 0 { Role::User } else { Role::Assistant }, "x")).collect();
    for (job, expected) in [
        (job(Prompt::Text("x".to_owned())), "raw text"),
        (job(Prompt::Tokens(vec![1])), "raw text"),
        (job(begun("{")), "begin as they are told"),
        (job(chat(&[(Role::User, "x"), (Role::Tool, "y")])), "messages of tools"),
        (job(chat(&long)), "more than 100 messages"),
        (Job { sampling: hot, ..job(question()) }, "temperatures above 1"),
        (Job { sampling: biased, ..job(question()) }, "logit_bias"),
        (Job { sampling: curious, ..job(infill()) }, "log probabilities"),
    ] {
        let server = Server::playing(Vec::new()).await;
        let error = tell(&gateway(&server, None), job).await.end.expect_err("refused");
        assert!(matches!(error, GenerateError::NotOffered { .. }) && error.to_string().contains(expected), "{error}");
        assert_eq!(server.asked().len(), 0);
    }
}

#[tokio::test]
async fn a_gateways_refusals_have_their_class() {
    use UpstreamClass::{Limited, Overloaded, Request, Setup};
    for (status, headers, body, class, kind) in [
        (401, "", r#"{"error":"Forbidden by auth provider"}"#, Setup, ErrorKind::Upstream),
        (
            402,
            "",
            r#"{"error":"insufficient_credits","error_code":"USAGE_QUOTA_EXCEEDED"}"#,
            Setup,
            ErrorKind::Upstream,
        ),
        (403, "", r#"{"detail":"Unauthorized to access code completions"}"#, Setup, ErrorKind::Upstream),
        (404, "", r#"{"detail":"Not found"}"#, Setup, ErrorKind::Upstream),
        (422, "", r#"{"detail":[{"type":"missing","loc":["body"],"msg":"sesame"}]}"#, Request, ErrorKind::Invalid),
        (429, "Retry-After: 7\r\n", r#"{"detail":"Too many requests."}"#, Limited, ErrorKind::Overloaded),
        (503, "", r#"{"detail":"Inference failed"}"#, Overloaded, ErrorKind::Unavailable),
    ] {
        let server = Server::refusing(status, headers, body).await;
        let error = tell(&gateway(&server, None), job(infill())).await.upstream();
        assert_eq!((error.class, error.kind()), (class, kind), "{status} {body}");
        assert_eq!(error.retry_after.is_some(), !headers.is_empty());
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
}

#[tokio::test]
async fn another_sconce_is_told_all_of_a_job_but_how_to_begin() {
    let server = Server::streaming("data: [DONE]\n\n").await;
    let settings = openai_settings(&server, Kind::Sconce);
    let lane = OpenAiCompatible::new(door(&server), OpenAiSettings { infill: InfillForm::Suffix, ..settings });
    let sampling = SamplingParams {
        temperature: 0.7,
        top_k: std::num::NonZeroU32::new(40),
        min_p: 0.05,
        repetition_penalty: 1.1,
        logit_bias: vec![(7, 1.0)],
        seed: Some(3),
        ..SamplingParams::default()
    };
    assert_eq!(lane.leaves_out(&sampling), Vec::<&str>::new());
    tell(&lane, Job { sampling, ..job(infill()) }).await.end.expect("an answer");
    let asked = server.asked().pop().expect("a request");
    let expected = json!({
        "model": "large", "prompt": "a(", "suffix": ")\n", "stream": true, "stream_options": { "include_usage": true },
        "max_tokens": 16, "temperature": 0.7, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
        "logit_bias": { "7": 1.0 }, "seed": 3,
    });
    assert_eq!((asked.path(), asked.json()), ("/v1/completions", expected));
    let error = tell(&lane, job(begun("{"))).await.end.expect_err("refused").to_string();
    assert!(error.contains("begin as they are told"), "{error}");
}
