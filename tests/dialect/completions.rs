//! `POST /v1/completions`.

use super::*;
use sconce::dialect::openai::Delivery;
use sconce::domain::{Class, Infill, Prompt, SamplingParams, StopRules};

#[test]
fn a_short_request_has_openais_defaults() {
    let call = completion(r#"{"model": "m", "prompt": "def f("}"#);
    assert_eq!((call.model.as_str(), call.class, call.delivery), ("m", Class::Completion, Delivery::Whole));
    let jobs = jobs(call);
    assert_eq!(jobs.len(), 1);
    assert!(jobs[0].prompt == Prompt::Text("def f(".to_owned()));
    assert_eq!(jobs[0].sampling, SamplingParams { temperature: 1.0, ..SamplingParams::default() });
    assert_eq!(jobs[0].stop, StopRules { max_tokens: Some(16), stop: Vec::new() });
    assert_eq!(jobs[0].cache_salt, CacheSalt(7));
}

#[test]
fn every_field_arrives() {
    let call = completion(
        r#"{"model": "m", "prompt": "a", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1,
            "presence_penalty": -2, "frequency_penalty": 2, "repetition_penalty": 1.1, "logit_bias": {"15": -100},
            "seed": -1, "stop": ["\n", "END"], "stream": true, "stream_options": {"include_usage": true},
            "logprobs": 3, "n": 1, "best_of": 1, "echo": false, "user": "u", "store": false, "service_tier": "auto",
            "metadata": {"a": "b"}, "suffix": null}"#,
    );
    assert_eq!(call.delivery, Delivery::Streamed { include_usage: true });
    assert_eq!(call.ignored, ["user", "metadata", "service_tier"]);
    let job = jobs(call).remove(0);
    assert_eq!(
        job.sampling,
        SamplingParams {
            temperature: 0.5,
            top_p: 0.9,
            top_k: std::num::NonZeroU32::new(40),
            min_p: 0.1,
            presence_penalty: -2.0,
            frequency_penalty: 2.0,
            repetition_penalty: 1.1,
            logit_bias: vec![(15, -100.0)],
            seed: Some(u64::MAX),
            top_logprobs: Some(3),
        }
    );
    assert_eq!(job.stop, StopRules { max_tokens: Some(7), stop: vec!["\n".to_owned(), "END".to_owned()] });
}

#[test]
fn prompts_come_in_four_forms_and_with_a_suffix() {
    let check = |fields: &str, expected: Vec<Prompt>| {
        let jobs = jobs(completion(&format!(r#"{{"model": "m", {fields}}}"#)));
        assert!(jobs.into_iter().map(|job| job.prompt).eq(expected), "{fields}");
    };
    let text = |text: &str| Prompt::Text(text.to_owned());
    let infill =
        |prefix: &str, suffix: &str| Prompt::Infill(Infill { prefix: prefix.to_owned(), suffix: suffix.to_owned() });
    check(r#""prompt": "a""#, vec![text("a")]);
    check(r#""prompt": ["a", "b"]"#, vec![text("a"), text("b")]);
    check(r#""prompt": [1, 2]"#, vec![Prompt::Tokens(vec![1, 2])]);
    check(r#""prompt": [[1], [2, 4294967295]]"#, vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, u32::MAX])]);
    check(r#""prompt": ["a", "b"], "n": 2"#, vec![text("a"), text("a"), text("b"), text("b")]);
    check(r#""prompt": "a", "suffix": "z""#, vec![infill("a", "z")]);
    check(r#""prompt": "", "suffix": "z""#, vec![infill("", "z")]);
    check(r#""prompt": "a", "suffix": """#, vec![infill("a", "")]);
    check(r#""prompt": ["a", "b"], "suffix": "z""#, vec![infill("a", "z"), infill("b", "z")]);
}

#[test]
fn answers_to_one_prompt_have_seeds_and_sessions_of_their_own() {
    let jobs = jobs(completion(r#"{"model": "m", "prompt": ["a", "b"], "n": 2, "seed": 5}"#));
    let seeds: Vec<_> = jobs.iter().map(|job| job.sampling.seed).collect();
    assert_eq!((seeds[0], seeds[2]), (Some(5), Some(5)));
    assert_eq!(seeds[1], seeds[3]);
    assert_ne!(seeds[0], seeds[1]);
    for (index, job) in jobs.iter().enumerate() {
        assert!(jobs[..index].iter().all(|other| other.session != job.session));
    }
}

#[test]
fn a_whole_answer() {
    let call = completion(r#"{"model": "m", "prompt": "a", "n": 2}"#);
    let events = vec![
        (1, started()),
        (0, started()),
        (0, text("x \"y\"")),
        (1, text("z")),
        (1, finished(FinishReason::Length, 16)),
        (0, text("\n")),
        (0, finished(FinishReason::Stop, 3)),
    ];
    assert_eq!(
        whole(&call, events),
        concat!(
            r#"{"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m","choices":["#,
            r#"{"text":"x \"y\"\n","index":0,"logprobs":null,"finish_reason":"stop"},"#,
            r#"{"text":"z","index":1,"logprobs":null,"finish_reason":"length"}],"#,
            r#""usage":{"prompt_tokens":5,"completion_tokens":19,"total_tokens":24,"#,
            r#""prompt_tokens_details":{"cached_tokens":2}}}"#,
        )
    );
}

#[test]
fn a_stream() {
    let call = completion(r#"{"model": "m", "prompt": "a", "stream": true}"#);
    let events = vec![(0, started()), (0, text("x")), (0, text("y")), (0, finished(FinishReason::Stop, 2))];
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{rest}]}}\n\n"
        )
    };
    let expected = [
        chunk(r#"{"text":"x","index":0,"logprobs":null,"finish_reason":null}"#),
        chunk(r#"{"text":"y","index":0,"logprobs":null,"finish_reason":null}"#),
        chunk(r#"{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}"#),
        "data: [DONE]\n\n".to_owned(),
    ];
    assert_eq!(spoken(&call, events), expected.concat());
}

#[test]
fn a_stream_that_ends_with_usage() {
    let call = completion(
        r#"{"model": "m", "prompt": ["a", "b"], "stream": true, "stream_options": {"include_usage": true}}"#,
    );
    let events = vec![(0, finished(FinishReason::Stop, 2)), (1, finished(FinishReason::Stop, 3))];
    let chunk = |rest: &str| {
        format!(
            "data: {{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{rest}}}\n\n"
        )
    };
    let expected = [
        chunk(r#"{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"usage":null"#),
        chunk(r#"{"text":"","index":1,"logprobs":null,"finish_reason":"stop"}],"usage":null"#),
        chunk(
            r#"],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4}}"#,
        ),
        "data: [DONE]\n\n".to_owned(),
    ];
    assert_eq!(spoken(&call, events), expected.concat());
}

#[test]
fn probabilities() {
    let call = completion(r#"{"model": "m", "prompt": "a", "logprobs": 2, "stream": true}"#);
    let body = whole(&call, vec![(0, text_with_logprobs())]);
    let expected = concat!(
        r#""logprobs":{"tokens":["bytes:\\xc3","é"],"token_logprobs":[-0.5,-0.25],"#,
        r#""top_logprobs":[{"bytes:\\xc3":-0.5,"a":-9999.0},{"a":-9999.0,"é":-0.25}],"text_offset":[0,1]}"#,
    );
    assert!(body.contains(expected), "{body}");
    let stream = spoken(&call, vec![(0, text_with_logprobs()), (0, text_with_logprobs())]);
    assert!(stream.contains(expected), "{stream}");
    assert!(stream.contains(r#""text_offset":[2,3]"#), "{stream}");
}
