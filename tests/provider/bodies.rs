//! Golden requests of every kind of server of OpenAI's API.

use super::server::{Asked, Server};
use super::{begun, chat, door, infill, job, openai, openai_settings, question, tell};
use sconce::domain::{GenerateError, Job, Prompt, Role, SamplingParams, StopRules};
use sconce::provider::{InfillForm, InfillPart, InfillTemplate, Kind, OpenAiCompatible, OpenAiSettings};
use serde_json::{Value, json};
use std::time::Duration;

const DONE: &str = "data: [DONE]\n\n";

async fn ask(kind: Kind, infill: InfillForm, job: Job) -> Result<Asked, GenerateError> {
    let server = Server::streaming(DONE).await;
    let provider = OpenAiCompatible::new(door(&server), OpenAiSettings { infill, ..openai_settings(&server, kind) });
    tell(&provider, job).await.end?;
    Ok(server.asked().pop().expect("a request"))
}

async fn check(kind: Kind, infill: InfillForm, job: Job, path: &str, expected: Value) {
    let asked = ask(kind, infill, job).await.expect("a job that can be phrased");
    assert_eq!((asked.path(), asked.json()), (path, expected), "{kind:?}");
}

fn colourful() -> SamplingParams {
    SamplingParams {
        temperature: 0.7,
        top_k: std::num::NonZeroU32::new(40),
        top_p: 0.9,
        min_p: 0.05,
        repetition_penalty: 1.1,
        presence_penalty: 0.5,
        frequency_penalty: -0.5,
        seed: Some(u64::MAX),
        ..SamplingParams::default()
    }
}

#[tokio::test]
async fn a_chat_is_phrased_in_each_servers_words() {
    let talk = || chat(&[(Role::System, "be brief"), (Role::User, "hi"), (Role::Assistant, "yes"), (Role::User, "é?")]);
    let messages = json!([
        { "role": "system", "content": "be brief" }, { "role": "user", "content": "hi" },
        { "role": "assistant", "content": "yes" }, { "role": "user", "content": "é?" },
    ]);
    let stop = StopRules { max_tokens: None, stop: ["1", "2", "3", "4", "5"].map(str::to_owned).to_vec() };
    let whole = json!({
        "model": "large", "messages": messages, "stream": true, "stream_options": { "include_usage": true },
        "max_tokens": 1024, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": i64::MAX, "stop": ["1", "2", "3", "4", "5"],
    });
    let change = |removed: &[&str], added: Value| {
        let mut body = whole.as_object().expect("an object").clone();
        removed.iter().for_each(|name| drop(body.remove(*name)));
        body.extend(added.as_object().expect("an object").clone());
        Value::Object(body)
    };
    let extras = ["top_k", "min_p", "repetition_penalty"];
    let four = json!({ "stop": ["1", "2", "3", "4"] });
    let capped = json!({ "stop": ["1", "2", "3", "4"], "max_completion_tokens": 1024 });
    let completed = ["top_k", "min_p", "repetition_penalty", "max_tokens"];
    for (kind, expected) in [
        (Kind::Vllm, whole.clone()),
        (Kind::Sglang, whole.clone()),
        (Kind::LlamaCpp, change(&["repetition_penalty"], json!({ "repeat_penalty": 1.1 }))),
        (Kind::OpenAi, change(&extras, four.clone())),
        (Kind::Nim, change(&extras, four.clone())),
        (Kind::Ollama, change(&extras, four.clone())),
        (Kind::Fireworks, change(&[], four)),
        (Kind::Azure, change(&completed, capped.clone())),
        (Kind::BedrockMantle, change(&completed, capped)),
        (
            Kind::Mistral,
            change(
                &["top_k", "min_p", "repetition_penalty", "seed", "stream_options"],
                json!({ "stop": ["1", "2", "3", "4"], "random_seed": i64::MAX }),
            ),
        ),
    ] {
        let job = Job { sampling: colourful(), stop: stop.clone(), ..job(talk()) };
        check(kind, InfillForm::None, job, "/v1/chat/completions", expected).await;
    }
    let plain = json!({
        "model": "large", "messages": [{ "role": "user", "content": "sesame?" }], "stream": true, "max_tokens": 16,
        "stream_options": { "include_usage": true }, "temperature": 0.0,
    });
    check(Kind::Vllm, InfillForm::None, job(question()), "/v1/chat/completions", plain).await;
}

#[tokio::test]
async fn what_is_left_out_is_named() {
    let server = Server::streaming(DONE).await;
    let left_out = |kind| openai(&server, kind).leaves_out(&colourful());
    assert_eq!(left_out(Kind::Vllm), Vec::<&str>::new());
    assert_eq!(left_out(Kind::Azure), ["top_k", "min_p", "repetition_penalty"]);
    assert_eq!(openai(&server, Kind::Azure).leaves_out(&SamplingParams::default()), Vec::<&str>::new());
}

#[tokio::test]
async fn code_is_completed_by_template_by_suffix_or_not_at_all() {
    let literal = |text: &str| InfillPart::Literal(text.to_owned());
    let parts = vec![literal("<P>"), InfillPart::Prefix, literal("<S>"), InfillPart::Suffix, literal("<M>")];
    let template = InfillForm::Template(InfillTemplate { parts, stop: vec!["<E>".to_owned()] });
    let body = |rest: Value| {
        let mut body = json!({ "model": "large", "stream": true, "max_tokens": 16, "temperature": 0.0 });
        body.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        body
    };
    let usage = json!({ "include_usage": true });
    let rendered = body(json!({ "prompt": "<P>a(<S>)\n<M>", "stop": ["<E>"], "stream_options": usage }));
    check(Kind::Vllm, template, job(infill()), "/v1/completions", rendered).await;
    let both = body(json!({ "prompt": "a(", "suffix": ")\n", "stream_options": usage }));
    check(Kind::Ollama, InfillForm::Suffix, job(infill()), "/v1/completions", both).await;
    let both = body(json!({ "prompt": "a(", "suffix": ")\n" }));
    check(Kind::Mistral, InfillForm::Fim, job(infill()), "/v1/fim/completions", both).await;
    let text = body(json!({ "prompt": "once", "stream_options": usage }));
    check(Kind::LlamaCpp, InfillForm::None, job(Prompt::Text("once".to_owned())), "/v1/completions", text).await;
    let tokens = body(json!({ "prompt": [1, 2], "stream_options": usage }));
    check(Kind::Vllm, InfillForm::None, job(Prompt::Tokens(vec![1, 2])), "/v1/completions", tokens).await;
    let error = ask(Kind::Vllm, InfillForm::None, job(infill())).await.expect_err("no template");
    assert_eq!(error, GenerateError::NoInfill { model: "large".to_owned() });
}

#[tokio::test]
async fn an_answer_begins_as_told_where_the_server_can() {
    for (kind, last, flags) in [
        (Kind::Vllm, json!({ "role": "assistant", "content": "{\n" }), Some((true, false))),
        (Kind::Mistral, json!({ "role": "assistant", "content": "{\n", "prefix": true }), None),
    ] {
        let body = ask(kind, InfillForm::None, job(begun("{\n"))).await.expect("an answer").json();
        assert_eq!(body["messages"][1], last, "{kind:?}");
        let sent = body["continue_final_message"].as_bool().zip(body["add_generation_prompt"].as_bool());
        assert_eq!(sent, flags, "{kind:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_before_anything_is_sent() {
    let biased = SamplingParams { logit_bias: vec![(1, 1.0)], ..SamplingParams::default() };
    let curious = SamplingParams { top_logprobs: Some(0), ..SamplingParams::default() };
    for (kind, job, expected) in [
        (Kind::Azure, job(begun("{")), "begin as they are told"),
        (Kind::Azure, job(Prompt::Text("x".to_owned())), "raw text"),
        (Kind::OpenAi, job(Prompt::Tokens(vec![1])), "token ids"),
        (Kind::Ollama, Job { sampling: biased, ..job(question()) }, "logit_bias"),
        (Kind::Vllm, Job { sampling: curious, ..job(question()) }, "log probabilities"),
        (Kind::Vllm, job(chat(&[(Role::Tool, "42")])), "messages of tools"),
    ] {
        let server = Server::streaming(DONE).await;
        let error = tell(&openai(&server, kind), job).await.end.expect_err("refused").to_string();
        assert!(error.contains(expected) && error.contains("the provider eu"), "{error}");
        assert_eq!(server.asked().len(), 0);
    }
}

#[tokio::test]
async fn keys_go_into_the_header_of_their_kind_and_nowhere_else() {
    for (kind, header, value) in [(Kind::Vllm, "authorization", "Bearer sk-key"), (Kind::Azure, "api-key", "sk-key")] {
        let asked = ask(kind, InfillForm::None, job(question())).await.expect("an answer");
        assert_eq!(asked.header(header), Some(value), "{kind:?}");
        let elsewhere = format!("{}{}", asked.head.replace(value, ""), asked.body);
        assert!(!elsewhere.contains("sk-key"), "{elsewhere}");
        assert_eq!(
            (asked.header("accept"), asked.header("content-type")),
            (Some("text/event-stream"), Some("application/json"))
        );
    }
    let server = Server::streaming(DONE).await;
    let settings = openai_settings(&server, Kind::Vllm);
    assert!(!format!("{settings:?}").contains("sk-key"), "{settings:?}");
}

#[tokio::test]
async fn a_call_keeps_its_id_its_time_and_its_company() {
    let hurried = || Job { deadline: Some(Duration::from_millis(1500)), ..job(question()) };
    let asked = ask(Kind::Sconce, InfillForm::None, hurried()).await.expect("an answer");
    assert_eq!((asked.header("x-request-id"), asked.header("x-sconce-deadline-ms")), (Some("01TEST"), Some("1500")));
    assert_eq!(asked.header("x-session-id"), None);
    let asked = ask(Kind::Vllm, InfillForm::None, hurried()).await.expect("an answer");
    assert_eq!((asked.header("x-request-id"), asked.header("x-sconce-deadline-ms")), (Some("01TEST"), None));
    let server = Server::streaming(DONE).await;
    let provider = OpenAiCompatible::new(door(&server), openai_settings(&server, Kind::Vllm)).with_affinity();
    for _ in 0..2 {
        tell(&provider, job(question())).await.end.expect("an answer");
    }
    let sessions: Vec<_> = server.asked().iter().map(|asked| asked.header("x-session-id").map(str::to_owned)).collect();
    assert!(
        sessions[0].as_ref().is_some_and(|session| session.len() == 32) && sessions[0] == sessions[1],
        "{sessions:?}"
    );
}

#[tokio::test]
async fn an_operators_fields_are_sent_beside_ours() {
    let server = Server::streaming(DONE).await;
    let extra = json!({ "prompt_cache_max_len": 0, "model": "other", "stream": false });
    let extra = extra.as_object().expect("an object").clone();
    let settings = OpenAiSettings { extra, ..openai_settings(&server, Kind::Fireworks) };
    tell(&OpenAiCompatible::new(door(&server), settings), job(question())).await.end.expect("an answer");
    let body = server.asked().pop().expect("a request").json();
    assert_eq!(
        (&body["prompt_cache_max_len"], &body["model"], &body["stream"]),
        (&json!(0), &json!("large"), &json!(true))
    );
}
