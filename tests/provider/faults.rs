//! Refusals and failures before an answer: their class, their wait, and nothing of the other side's words.

use super::server::{Play, Server};
use super::{Told, claude, door, job, openai, openai_settings, question, tell};
use sconce::domain::{ErrorKind, GenerateError, UpstreamClass};
use sconce::egress::{Egress, EgressSettings};
use sconce::provider::{Kind, OpenAiCompatible};
use std::time::Duration;

async fn refused(status: u16, headers: &str, body: &str) -> Told {
    let server = Server::refusing(status, headers, body).await;
    let told = tell(&openai(&server, Kind::Vllm), job(question())).await;
    assert_eq!(server.asked().len(), 1, "nobody here asks twice");
    told
}

#[tokio::test]
async fn refusals_have_a_class_a_kind_and_a_wait() {
    use UpstreamClass::{Failed, Limited, Overloaded, Policy, Request, Setup, TooLong};
    let spent = r#"{"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}}"#;
    let day = Duration::from_secs(24 * 60 * 60);
    let s = Duration::from_secs;
    for (status, headers, body, class, kind, wait) in [
        (400, "", r#"{"error": {"message": "sesame"}}"#, Request, ErrorKind::Invalid, None),
        (400, "", r#"{"error": {"code": "content_filter"}}"#, Policy, ErrorKind::Invalid, None),
        (413, "", "sesame", TooLong, ErrorKind::Invalid, None),
        (401, "", r#"{"error": "sesame"}"#, Setup, ErrorKind::Upstream, None),
        (403, "", "", Setup, ErrorKind::Upstream, None),
        (404, "", "<html>sesame</html>", Setup, ErrorKind::Upstream, None),
        (429, "", "{}", Limited, ErrorKind::Overloaded, None),
        (429, "Retry-After: 7\r\n", "{}", Limited, ErrorKind::Overloaded, Some(s(7))),
        (429, "Retry-After: -1\r\n", "{}", Limited, ErrorKind::Overloaded, None),
        (429, "Retry-After: 1000000000\r\n", "{}", Limited, ErrorKind::Overloaded, Some(day)),
        (
            429,
            "retry-after-ms: 1500\r\nRetry-After: 9\r\n",
            "{}",
            Limited,
            ErrorKind::Overloaded,
            Some(s(1) + s(1) / 2),
        ),
        (
            429,
            "Date: Sun, 22 Nov 2026 06:00:00 GMT\r\nRetry-After: Sun, 22 Nov 2026 06:00:30 GMT\r\n",
            "{}",
            Limited,
            ErrorKind::Overloaded,
            Some(s(30)),
        ),
        (429, "", spent, Setup, ErrorKind::Upstream, None),
        (529, "Retry-After: 3\r\n", "{}", Overloaded, ErrorKind::Unavailable, Some(s(3))),
        (503, "x-amz-retry-after: 2000\r\n", "", Overloaded, ErrorKind::Unavailable, Some(s(2))),
        (500, "", "sesame", Failed, ErrorKind::Upstream, None),
        (200, "", "{\"error\": {\"message\": \"sesame\", \"code\": 429}}", Limited, ErrorKind::Overloaded, None),
        (200, "", "{\"choices\": []}", Failed, ErrorKind::Upstream, None),
        (204, "", "", Failed, ErrorKind::Upstream, None),
    ] {
        let error = refused(status, headers, body).await.upstream();
        assert_eq!((error.class, error.kind(), error.retry_after), (class, kind, wait), "{status} {headers}{body}");
        let text = error.to_string();
        assert!(text.starts_with("the provider eu ") && !text.contains("sesame"), "{text}");
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_told_with_its_numbers() {
    let said = r#"{"error": {"message": "This model's maximum context length is 4096 tokens. However, your request has 5000 input tokens.", "type": "BadRequestError", "code": 400}}"#;
    let expected = GenerateError::PromptTooLong {
        model: "large".to_owned(),
        prompt_tokens: 5000,
        max_tokens: 16,
        context_tokens: 4096,
    };
    assert_eq!(refused(400, "", said).await.end, Err(expected));
    let error = refused(400, "", r#"{"error": {"code": "context_length_exceeded"}}"#).await.upstream();
    assert_eq!(error.class, UpstreamClass::TooLong);
}

#[tokio::test]
async fn anthropics_look_alikes_are_told_apart() {
    use UpstreamClass::{Limited, Overloaded, Setup};
    let error = |kind: &str| format!(r#"{{"type": "error", "error": {{"type": "{kind}", "message": "no"}}}}"#);
    let spent =
        error("rate_limit_error").replace("}}", r#", "details": {"error_code": "enforced_spend_limit_reached"}}}"#);
    for (status, headers, body, class) in [
        (429, "Retry-After: 7\r\n", error("rate_limit_error"), Limited),
        (429, "", spent, Setup),
        (529, "", error("overloaded_error"), Overloaded),
        (402, "", error("billing_error"), Setup),
    ] {
        let server = Server::refusing(status, headers, &body).await;
        let error = tell(&claude(&server), job(question())).await.upstream();
        assert_eq!(error.class, class, "{status} {body}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_resets_or_hangs_has_failed() {
    let gone = Server::playing(Vec::new()).await;
    let provider = openai(&gone, Kind::Vllm);
    drop(gone);
    let error = tell(&provider, job(question())).await.upstream();
    assert_eq!((error.class, error.cause), (UpstreamClass::Failed, "cannot be reached"));
    let resetting = Server::playing(vec![Play::Reset]).await;
    let error = tell(&openai(&resetting, Kind::Vllm), job(question())).await.upstream();
    assert_eq!(error.class, UpstreamClass::Failed);
    let mut hanging = Server::playing(vec![Play::Send(b"HTTP/1.1 200".to_vec()), Play::Hang]).await;
    let provider = openai(&hanging, Kind::Vllm);
    let job = job(question());
    let (told, _) = tokio::join!(tell(&provider, job), async {
        assert_eq!(hanging.noticed.recv().await, Some("hanging"));
        tokio::time::pause();
    });
    let error = told.upstream();
    assert_eq!((error.class, error.cause), (UpstreamClass::Failed, "did not answer in time"));
}

#[tokio::test]
async fn a_key_is_not_taken_elsewhere() {
    let other = Server::streaming("data: [DONE]\n\n").await;
    let moved = format!("Location: {}/v1/chat/completions\r\n", other.url());
    let server = Server::refusing(307, &moved, "").await;
    let error = tell(&openai(&server, Kind::Vllm), job(question())).await.upstream();
    assert_eq!(error.class, UpstreamClass::Setup);
    // A host that was not named is not asked at all.
    let egress = Egress::new(&EgressSettings { allowed: vec![server.url()], ..EgressSettings::default() });
    let settings = openai_settings(&other, Kind::Vllm);
    let provider = OpenAiCompatible::new(egress.expect("settings that can be used"), settings);
    let error = tell(&provider, job(question())).await.upstream();
    assert_eq!((error.class, error.kind()), (UpstreamClass::Setup, ErrorKind::Upstream));
    assert_eq!(other.asked().len(), 0);
    drop(door(&other));
}

/// Steps of a small generator (SplitMix64): the seed is in the message of every assertion.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

/// A server that breaks off at random places: what was heard is always a beginning of the answer, and an end is only
/// told where the server told one.
#[tokio::test]
async fn no_schedule_of_faults_makes_half_an_answer_whole() {
    let texts = ["one ", "two ", "é😀 ", "four"];
    let whole: String = texts.concat();
    let chunks = texts.map(|text| format!("data: {{\"choices\": [{{\"delta\": {{\"content\": {text:?}}}}}]}}\n\n"));
    let body =
        chunks.concat() + "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}\n\ndata: [DONE]\n\n";
    let told_after = body.find("finish_reason").expect("it is there");
    for seed in 0..60_u64 {
        let mut state = seed;
        let cut = (next(&mut state) as usize) % (body.len() + 1);
        let first = (next(&mut state) as usize) % (cut + 1);
        let end = if next(&mut state).is_multiple_of(2) { Play::Reset } else { Play::Send(Vec::new()) };
        let head = super::server::stream_head();
        let bytes = body.as_bytes();
        let plays =
            vec![Play::Send(head), Play::Send(bytes[..first].to_vec()), Play::Send(bytes[first..cut].to_vec()), end];
        let server = Server::playing(plays).await;
        let told = tell(&openai(&server, Kind::Vllm), job(question())).await;
        assert!(whole.starts_with(&told.text), "seed {seed}: {:?}", told.text);
        match told.end {
            Ok(_) => assert!(cut > told_after && told.text == whole, "seed {seed}, cut at {cut}"),
            Err(GenerateError::Upstream(error)) => {
                let is_broken = error.class == UpstreamClass::Broken;
                assert_eq!(is_broken, !told.text.is_empty(), "seed {seed}: {error:?}");
            }
            Err(other) => panic!("seed {seed}: {other:?}"),
        }
    }
}
