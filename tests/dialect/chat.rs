//! `POST /v1/chat/completions`.

use super::*;
use sconce::domain::{Class, Message, Prompt, Role, StopRules};

#[test]
fn messages_keep_their_order_and_their_text() {
    let call = chat(
        r#"{"model": "m", "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "three", "refusal": null, "tool_calls": [], "annotations": [], "audio": null},
            {"role": "user", "content": "", "name": "eve"}],
            "max_completion_tokens": 9, "response_format": {"type": "text"}, "tools": null}"#,
    );
    assert_eq!(call.class, Class::Chat);
    assert_eq!(call.ignored, ["messages[].name"]);
    let job = jobs(call).remove(0);
    assert_eq!(job.stop, StopRules { max_tokens: Some(9), stop: Vec::new() });
    let Prompt::Chat(chat) = job.prompt else { panic!("a chat") };
    let expected = [(Role::System, "be brief"), (Role::User, "one two"), (Role::Assistant, "three"), (Role::User, "")];
    let expected = expected.map(|(role, content)| Message { role, content: content.to_owned() });
    assert!(chat.messages == expected);
}

#[test]
fn an_answer_is_as_long_as_it_gets_unless_asked_otherwise() {
    let job = jobs(chat(r#"{"model": "m", "messages": [{"role": "user", "content": "a"}]}"#)).remove(0);
    assert_eq!(job.stop.max_tokens, None);
    assert_eq!(job.sampling.temperature, 1.0);
}

#[test]
fn a_whole_answer() {
    let call = chat(r#"{"model": "m", "messages": [{"role": "user", "content": "a"}]}"#);
    let events = vec![(0, started()), (0, text("hi")), (0, finished(FinishReason::Stop, 2))];
    assert_eq!(
        whole(&call, events),
        concat!(
            r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":["#,
            r#"{"index":0,"message":{"role":"assistant","content":"hi","refusal":null},"logprobs":null,"#,
            r#""finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"#,
            r#""prompt_tokens_details":{"cached_tokens":2}}}"#,
        )
    );
}

#[test]
fn a_stream_of_two_choices_with_usage() {
    let call = chat(
        r#"{"model": "m", "messages": [{"role": "user", "content": "a"}], "n": 2, "stream": true,
            "stream_options": {"include_usage": true}}"#,
    );
    let events = vec![
        (1, started()),
        (1, text("x")),
        (0, started()),
        (1, finished(FinishReason::Length, 1)),
        (0, finished(FinishReason::Stop, 0)),
    ];
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{rest}}}\n\n"
        )
    };
    let expected = [
        chunk(
            r#"{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null"#,
        ),
        chunk(r#"{"index":1,"delta":{"content":"x"},"logprobs":null,"finish_reason":null}],"usage":null"#),
        chunk(
            r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null"#,
        ),
        chunk(r#"{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null"#),
        chunk(r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null"#),
        chunk(
            r#"],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":2}}"#,
        ),
        "data: [DONE]\n\n".to_owned(),
    ];
    assert_eq!(spoken(&call, events), expected.concat());
}

#[test]
fn probabilities() {
    let call = chat(
        r#"{"model": "m", "messages": [{"role": "user", "content": "a"}], "logprobs": true, "top_logprobs": 1,
            "stream": true}"#,
    );
    assert_eq!(jobs(call.clone())[0].sampling.top_logprobs, Some(1));
    let expected = concat!(
        r#""logprobs":{"content":[{"token":"�","logprob":-0.5,"bytes":[195],"top_logprobs":["#,
        r#"{"token":"�","logprob":-0.5,"bytes":[195]},{"token":"a","logprob":-9999.0,"bytes":[97]}]},"#,
        r#"{"token":"é","logprob":-0.25,"bytes":[195,169],"top_logprobs":["#,
        r#"{"token":"a","logprob":-9999.0,"bytes":[97]}]}],"refusal":null}"#,
    );
    let body = whole(&call, vec![(0, text_with_logprobs())]);
    assert!(body.contains(expected), "{body}");
    let stream = spoken(&call, vec![(0, text_with_logprobs())]);
    assert!(stream.contains(expected), "{stream}");
}
