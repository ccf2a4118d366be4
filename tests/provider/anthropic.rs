//! Anthropic's Messages API: golden requests and streams.

use super::server::Server;
use super::{Told, begun, chat, claude, infill, job, question, tell};
use sconce::domain::{FinishReason, Job, Prompt, Role, SamplingParams, StopRules, UpstreamClass, Usage};
use serde_json::{Value, json};

fn event(kind: &str, data: Value) -> String {
    let mut data = data;
    data["type"] = json!(kind);
    format!("event: {kind}\ndata: {data}\n\n")
}

fn begin() -> String {
    let usage = json!({ "input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 1 });
    event("message_start", json!({ "message": { "id": "m", "usage": usage } })) + &event("ping", json!({}))
}

fn text(text: &str) -> String {
    event("content_block_delta", json!({ "index": 0, "delta": { "type": "text_delta", "text": text } }))
}

fn end(reason: &str) -> String {
    let delta = json!({ "delta": { "stop_reason": reason, "stop_sequence": null }, "usage": { "output_tokens": 7 } });
    event("message_delta", delta) + &event("message_stop", json!({}))
}

async fn hear(body: &str) -> Told {
    let server = Server::streaming(body).await;
    tell(&claude(&server), job(question())).await
}

const COUNTED: Usage = Usage { prompt_tokens: 9, completion_tokens: 7, cached_tokens: 4 };

#[tokio::test]
async fn streams_are_heard_with_all_that_may_be_in_them() {
    let noise = event("content_block_start", json!({ "index": 0, "content_block": { "type": "text", "text": "" } }))
        + &event("content_block_delta", json!({ "index": 0, "delta": { "type": "thinking_delta", "thinking": "hm" } }))
        + &event(
            "content_block_delta",
            json!({ "index": 0, "delta": { "type": "signature_delta", "signature": "x" } }),
        )
        + &event("something_new", json!({ "delta": 1 }));
    for (reason, expected) in [
        ("end_turn", FinishReason::Stop),
        ("stop_sequence", FinishReason::Stop),
        ("max_tokens", FinishReason::Length),
        ("model_context_window_exceeded", FinishReason::Length),
    ] {
        let told = hear(&format!("{}{noise}{}{}{}", begin(), text("é"), text("😀"), end(reason))).await;
        assert_eq!(told, Told { text: "é😀".to_owned(), end: Ok((expected, COUNTED)) });
    }
}

#[tokio::test]
async fn errors_after_the_status_are_errors() {
    use UpstreamClass::{Broken, Failed, Overloaded, Policy};
    let error = |kind: &str| event("error", json!({ "error": { "type": kind, "message": "sesame" } }));
    for (body, class, heard) in [
        (begin() + &error("overloaded_error"), Overloaded, ""),
        (begin() + &text("a") + &error("overloaded_error"), Broken, "a"),
        (begin() + &error("api_error"), Failed, ""),
        (begin(), Failed, ""),
        (begin() + &text("a"), Broken, "a"),
        (begin() + &end("refusal"), Policy, ""),
        (begin() + &end("tool_use"), Failed, ""),
        ("data: [1]\n\n".to_owned(), Failed, ""),
    ] {
        let told = hear(&body).await;
        assert_eq!(told.text, heard, "{body}");
        let error = told.upstream();
        assert_eq!(error.class, class, "{body}");
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
    let error = hear(&(begin() + &text("a"))).await.upstream();
    assert_eq!(error.usage, Usage { completion_tokens: 1, ..COUNTED }, "what was counted is kept");
}

#[tokio::test]
async fn a_conversation_is_phrased_as_the_api_wants_it() {
    let server = Server::streaming(&(begin() + &end("end_turn"))).await;
    let messages = [
        (Role::System, "be brief"),
        (Role::User, "one"),
        (Role::User, "two"),
        (Role::Assistant, ""),
        (Role::System, "be kind"),
        (Role::User, "three"),
        (Role::Assistant, "four"),
        (Role::User, "five"),
    ];
    let stop = StopRules { max_tokens: None, stop: vec!["\n\n".to_owned(), "END".to_owned()] };
    let sampling = SamplingParams { temperature: 0.2, top_p: 0.9, seed: Some(1), ..SamplingParams::default() };
    assert_eq!(claude(&server).leaves_out(&sampling), ["top_p", "seed"]);
    tell(&claude(&server), Job { stop, sampling, ..job(chat(&messages)) }).await.end.expect("an answer");
    let asked = server.asked().pop().expect("a request");
    let expected = json!({
        "model": "large", "max_tokens": 1024, "stream": true, "system": "be brief\n\nbe kind", "temperature": 0.2,
        "stop_sequences": ["END"],
        "messages": [
            { "role": "user", "content": "one\n\ntwo\n\nthree" }, { "role": "assistant", "content": "four" },
            { "role": "user", "content": "five" },
        ],
    });
    assert_eq!((asked.path(), asked.json()), ("/v1/messages", expected));
    assert_eq!((asked.header("x-api-key"), asked.header("anthropic-version")), (Some("sk-key"), Some("2023-06-01")));
    assert_eq!(asked.header("authorization"), None);
    let sampling = SamplingParams { temperature: 1.0, top_p: 0.9, ..SamplingParams::default() };
    tell(&claude(&server), Job { sampling, ..job(question()) }).await.end.expect("an answer");
    let body = server.asked().pop().expect("a request").json();
    assert_eq!((body.get("temperature"), &body["top_p"]), (None, &json!(0.9)));
}

#[tokio::test]
async fn an_answer_begins_as_told_whatever_blanks_it_begins_with() {
    let server = Server::streaming(&format!("{}{}{}{}", begin(), text("\n "), text(" x"), end("end_turn"))).await;
    let told = tell(&claude(&server), job(begun("{\n  "))).await;
    assert_eq!(told.text, "x");
    let body = server.asked().pop().expect("a request").json();
    assert_eq!(body["messages"][1], json!({ "role": "assistant", "content": "{" }));
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_before_anything_is_sent() {
    let hot = SamplingParams { temperature: 1.5, ..SamplingParams::default() };
    let biased = SamplingParams { logit_bias: vec![(1, 1.0)], ..SamplingParams::default() };
    for (job, expected) in [
        (job(infill()), "no fill-in-the-middle"),
        (job(Prompt::Text("x".to_owned())), "raw text"),
        (Job { sampling: hot, ..job(question()) }, "temperatures above 1"),
        (Job { sampling: biased, ..job(question()) }, "logit_bias"),
        (job(chat(&[(Role::System, "x")])), "the prompt is empty"),
        (job(chat(&[(Role::Assistant, "x"), (Role::User, "y")])), "an assistant begins"),
        (job(chat(&[(Role::User, "x"), (Role::Assistant, "y")])), "an assistant ends"),
        (job(chat(&[(Role::User, "x"), (Role::Tool, "y")])), "messages of tools"),
    ] {
        let server = Server::streaming("").await;
        let error = tell(&claude(&server), job).await.end.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(server.asked().len(), 0);
    }
}
