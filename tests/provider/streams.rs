//! Streams of OpenAI's API, well and ill, cut anywhere.

use super::server::{Play, Server, stream_head};
use super::{Told, begun, job, openai, question, tell};
use futures::StreamExt as _;
use sconce::domain::{Event, FinishReason, Generate as _, GenerateError, Job, StopRules, UpstreamClass, Usage};
use sconce::provider::Kind;
use std::time::Duration;

fn chunk(text: &str) -> String {
    format!("data: {{\"choices\": [{{\"index\": 0, \"delta\": {{\"content\": {text:?}}}}}]}}\n\n")
}

const STOP: &str = "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 9, \"completion_tokens\": 2, \
                     \"prompt_tokens_details\": {\"cached_tokens\": 4}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const COUNTED: Usage = Usage { prompt_tokens: 9, completion_tokens: 2, cached_tokens: 4 };

fn uncounted(completion_tokens: usize) -> Usage {
    Usage { completion_tokens, ..Usage::default() }
}

#[track_caller]
fn check(told: Told, text: &str, reason: FinishReason, usage: Usage) {
    assert_eq!(told, Told { text: text.to_owned(), end: Ok((reason, usage)) });
}

async fn hear(body: &str) -> Told {
    let server = Server::streaming(body).await;
    tell(&openai(&server, Kind::Vllm), job(question())).await
}

#[tokio::test]
async fn answers_are_heard_in_every_form_they_come_in() {
    let (a, b) = (chunk("a"), chunk("é😀"));
    let stop = FinishReason::Stop;
    check(hear(&format!("{a}{b}{STOP}{USAGE}{DONE}")).await, "aé😀", stop, COUNTED);
    check(hear(&format!("{a}{b}{STOP}{USAGE}")).await, "aé😀", stop, COUNTED);
    check(hear(&format!("{a}{STOP}{DONE}")).await, "a", stop, uncounted(1));
    check(hear(&format!("{a}{DONE}")).await, "a", stop, uncounted(1));
    check(hear(DONE).await, "", stop, uncounted(0));
    check(hear(&format!(": hello\n\n{a}: keep-alive\n\n{STOP}{DONE}")).await, "a", stop, uncounted(1));
    check(hear(&format!("{a}{b}{STOP}{USAGE}{DONE}").replace('\n', "\r\n")).await, "aé😀", stop, COUNTED);
    let filter = "data: {\"choices\": [], \"prompt_filter_results\": [{\"prompt_index\": 0}]}\n\n";
    check(hear(&format!("{filter}{a}{STOP}{DONE}")).await, "a", stop, uncounted(1));
    let thinking = "data: {\"choices\": [{\"delta\": {\"reasoning_content\": \"hm\", \"content\": null}}]}\n\n";
    check(hear(&format!("{thinking}{a}{STOP}{DONE}")).await, "a", stop, uncounted(1));
    let cut = "data: {\"choices\": [{\"text\": \"b\", \"finish_reason\": \"length\"}], \"new\": [1]}\n\n";
    check(hear(&format!("{cut}{DONE}")).await, "b", FinishReason::Length, uncounted(1));
    check(hear(&format!("{a}{STOP}data: nonsense\n\n{DONE}")).await, "a", stop, uncounted(1));
}

#[tokio::test]
async fn an_answer_does_not_depend_on_how_its_bytes_are_cut() {
    let body = format!("{}{}{STOP}{USAGE}{DONE}", chunk("é"), chunk("😀")).replace("\n\n", "\r\n\r\n");
    let bytes = body.as_bytes();
    for cut in (0..bytes.len()).step_by(3) {
        let plays = [stream_head(), bytes[..cut].to_vec(), bytes[cut..].to_vec()].map(Play::Send);
        let server = Server::playing(plays.to_vec()).await;
        check(tell(&openai(&server, Kind::Vllm), job(question())).await, "é😀", FinishReason::Stop, COUNTED);
    }
}

#[tokio::test]
async fn stop_strings_and_repeated_beginnings_are_cut_here_too() {
    let mut server = Server::playing(vec![
        Play::Send(stream_head()),
        Play::Send(format!("{}{}", chunk("one EN"), chunk("D two")).into_bytes()),
        Play::AwaitClose,
    ])
    .await;
    let stop = StopRules { max_tokens: Some(9), stop: vec!["END".to_owned()] };
    let told = tell(&openai(&server, Kind::Vllm), Job { stop, ..job(question()) }).await;
    check(told, "one ", FinishReason::Stop, uncounted(2));
    assert_eq!(server.noticed.recv().await, Some("closed"), "the other side has to hear of it");
    let server = Server::streaming(&format!("{}{}{STOP}{DONE}", chunk("{\"a"), chunk("\": 1}"))).await;
    let told = tell(&openai(&server, Kind::Mistral), job(begun("{\""))).await;
    check(told, "a\": 1}", FinishReason::Stop, uncounted(2));
}

async fn broken(body: &str, class: UpstreamClass, text: &str) {
    let told = hear(body).await;
    assert_eq!(told.text, text, "{body}");
    let error = told.upstream();
    assert_eq!(error.class, class, "{body}");
    assert!(!error.to_string().contains("sesame"), "{error}");
}

#[tokio::test]
async fn what_goes_wrong_before_the_first_text_is_told_from_what_comes_after() {
    use UpstreamClass::{Broken, Failed, Overloaded, Policy, Request};
    let a = chunk("a");
    broken("", Failed, "").await;
    broken(&a, Broken, "a").await;
    broken("data: {\"choices\": [{\"del", Failed, "").await;
    broken("data: nonsense sesame\n\n", Failed, "").await;
    broken(&format!("{a}data: {{\"choices\": [{{\"del"), Broken, "a").await;
    let overloaded = "data: {\"error\": {\"message\": \"sesame\", \"type\": \"overloaded_error\", \"code\": 503}}\n\n";
    broken(overloaded, Overloaded, "").await;
    broken(&format!("{a}{overloaded}"), Broken, "a").await;
    broken("data: {\"object\": \"error\", \"message\": \"sesame\", \"code\": 400}\n\n", Request, "").await;
    broken("data: {\"error\": \"sesame\"}\n\n", Failed, "").await;
    let filtered = "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"content_filter\"}]}\n\n";
    broken(filtered, Policy, "").await;
    broken(&format!("{a}{filtered}"), Policy, "a").await;
    let tool = "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"tool_calls\"}]}\n\n";
    broken(tool, Failed, "").await;
    broken(&format!("data: {}\n\n", "x".repeat(10 << 20)), Failed, "").await;
}

#[tokio::test]
async fn a_reset_in_the_middle_keeps_what_was_said_and_counted() {
    let plays = [Play::Send(stream_head()), Play::Send((chunk("a") + &chunk("b")).into_bytes()), Play::Hang];
    let server = Server::playing(plays.to_vec()).await;
    let mut events = openai(&server, Kind::Vllm).generate(job(question()));
    let heard: Vec<_> = events.by_ref().take(3).map(|event| event.expect("text")).collect().await;
    assert!(matches!(heard[..], [Event::Started { .. }, Event::Text { .. }, Event::Text { .. }]), "{heard:?}");
    drop(server);
    let Some(Err(GenerateError::Upstream(error))) = events.next().await else { panic!("an error") };
    assert_eq!((error.class, error.usage), (UpstreamClass::Broken, uncounted(2)));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let plays = [Play::Send(stream_head()), Play::Send(chunk("a").into_bytes()), Play::AwaitClose];
    let mut server = Server::playing(plays.to_vec()).await;
    let mut events = openai(&server, Kind::Vllm).generate(job(question()));
    assert!(matches!(events.next().await, Some(Ok(Event::Started { .. }))));
    drop(events);
    assert_eq!(server.noticed.recv().await, Some("closed"));
    // Before the head of an answer too.
    let mut server = Server::playing(vec![Play::AwaitClose]).await;
    let mut events = openai(&server, Kind::Vllm).generate(job(question()));
    let waiting = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    assert!(waiting.is_err(), "nothing was said");
    drop(events);
    assert_eq!(server.noticed.recv().await, Some("closed"));
}

#[tokio::test]
async fn silence_ends_an_answer_by_patience_or_by_deadline() {
    let patience = sconce::provider::Patience::default().idle;
    for (deadline, expected) in [(None, None), (Some(patience / 2), Some("a provider was answering"))] {
        let plays = [Play::Send(stream_head()), Play::Send(chunk("a").into_bytes()), Play::Hang];
        let mut server = Server::playing(plays.to_vec()).await;
        let mut events = openai(&server, Kind::Vllm).generate(Job { deadline, ..job(question()) });
        events.next().await.expect("a beginning").expect("no error");
        events.next().await.expect("text").expect("no error");
        assert_eq!(server.noticed.recv().await, Some("hanging"));
        tokio::time::pause();
        let end = events.next().await.expect("an end").expect_err("nothing comes");
        match end {
            GenerateError::Upstream(error) => assert_eq!((error.class, expected), (UpstreamClass::Broken, None)),
            GenerateError::DeadlineExceeded { phase, .. } => assert_eq!(Some(phase), expected),
            other => panic!("{other:?}"),
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_tail_that_never_comes_does_not_cost_the_answer() {
    let body = format!("{}{STOP}", chunk("a"));
    let plays = [Play::Send(stream_head()), Play::Send(body.into_bytes()), Play::Hang];
    let mut server = Server::playing(plays.to_vec()).await;
    let mut events = openai(&server, Kind::Vllm).generate(job(question()));
    events.next().await.expect("a beginning").expect("no error");
    events.next().await.expect("text").expect("no error");
    assert_eq!(server.noticed.recv().await, Some("hanging"));
    tokio::time::pause();
    let end = events.next().await.expect("an end");
    assert_eq!(end, Ok(Event::Finished { reason: FinishReason::Stop, usage: uncounted(1) }));
}
