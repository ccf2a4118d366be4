//! What is not a valid request, and what the caller is told.

use sconce::dialect::openai::{RequestLimits, chat, completion};

/// `fields` are added to a minimal completion; `expected` is code, param and the beginning of the message.
fn check_completion(fields: &str, expected: (&str, &str, &str)) {
    let has_prompt = fields.contains("\"prompt\"");
    let prompt = if has_prompt { "" } else { r#""prompt": "secret", "# };
    let body = format!(r#"{{"model": "m", {prompt}{fields}}}"#);
    let error = completion(body.as_bytes(), &RequestLimits::default()).expect_err(&body);
    check(&error, expected);
}

fn check_chat(fields: &str, expected: (&str, &str, &str)) {
    let messages = r#""messages": [{"role": "user", "content": "secret"}], "#;
    let messages = if fields.contains("\"messages\"") { "" } else { messages };
    let body = format!(r#"{{"model": "m", {messages}{fields}}}"#);
    let error = chat(body.as_bytes(), &RequestLimits::default()).expect_err(&body);
    check(&error, expected);
}

fn check(error: &sconce::dialect::openai::RequestError, (code, param, message): (&str, &str, &str)) {
    let text = error.to_string();
    assert_eq!((error.code(), error.param().unwrap_or_default()), (code, param), "{text}");
    assert!(text.starts_with(message), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn types() {
    let check = |fields, param, message| check_completion(fields, ("invalid_type", param, message));
    check(r#""temperature": "hot""#, "temperature", "temperature has to be a number, found a string");
    check(r#""n": 1.5"#, "n", "n has to be an integer, found a number");
    check(r#""max_tokens": "16""#, "max_tokens", "max_tokens has to be an integer, found a string");
    check(r#""stream": 1"#, "stream", "stream has to be a boolean, found an integer");
    check(r#""stop": {"a": 1}"#, "stop", "stop has to be a string or an array of strings, found an object");
    check(r#""stop": ["a", 7]"#, "stop[1]", "stop[1] has to be a string, found an integer");
    check(r#""prompt": 7"#, "prompt", "prompt has to be a string, an array of strings");
    check(r#""prompt": ["a", 7]"#, "prompt[1]", "prompt[1] has to be a string, found an integer");
    check(r#""prompt": [[1, "secret"]]"#, "prompt[0][1]", "prompt[0][1] has to be an integer, found a string");
    check(r#""logit_bias": [1]"#, "logit_bias", "logit_bias has to be an object, found an array");
    check(r#""logit_bias": {"1": "x"}"#, "logit_bias[\"1\"]", "logit_bias[\"1\"] has to be a number, found a string");
    let check = |fields, param, message| check_chat(fields, ("invalid_type", param, message));
    check(r#""messages": "secret""#, "messages", "messages has to be an array, found a string");
    check(
        r#""messages": [{"role": "user", "content": 7}]"#,
        "messages[0].content",
        "messages[0].content has to be a string or an array of parts, found an integer",
    );
    check(
        r#""messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]"#,
        "messages[0].content[0].text",
        "messages[0].content[0].text has to be a string, found an integer",
    );
    check(r#""logprobs": 2"#, "logprobs", "logprobs has to be a boolean, found an integer");
}

#[test]
fn missing_and_unknown_fields() {
    let limits = RequestLimits::default();
    check(
        &completion(b"{}", &limits).expect_err("empty"),
        ("missing_required_parameter", "model", "model is required"),
    );
    check(&chat(b"[]", &limits).expect_err("a list"), ("invalid_type", "", "the body has to be an object"));
    check_completion(r#""prompt": null"#, ("missing_required_parameter", "prompt", "prompt is required"));
    check_chat(
        r#""messages": [{"role": "user", "text": "secret"}]"#,
        ("unknown_parameter", "messages[0]", "unknown field \"text\" in messages[0]"),
    );
    check_completion(
        r#""temprature": 1"#,
        ("unknown_parameter", "", "unknown field \"temprature\" in the body, did you mean \"temperature\"?"),
    );
    check_completion(r#""messages": []"#, ("unknown_parameter", "", "unknown field \"messages\" in the body"));
    check_completion(
        r#""stream": true, "stream_options": {"include": true}"#,
        ("unknown_parameter", "stream_options", "unknown field \"include\" in stream_options"),
    );
}

#[test]
fn numbers_outside_their_ranges() {
    let check = |fields, param, message| check_completion(fields, ("invalid_value", param, message));
    check(r#""temperature": -1"#, "temperature", "temperature is -1.0, allowed is 0 to 2");
    check(r#""temperature": 1e308"#, "temperature", "temperature is 1e308, allowed is 0 to 2");
    check(r#""top_p": 0"#, "top_p", "top_p is 0.0, allowed is above 0 to 1");
    check(r#""top_p": 1e-60"#, "top_p", "top_p is 1");
    check(r#""top_p": 1.01"#, "top_p", "top_p is 1.01");
    check(r#""top_k": -2"#, "top_k", "top_k is -2, allowed is -1 to 4294967295");
    check(r#""min_p": 1.5"#, "min_p", "min_p is 1.5, allowed is 0 to 1");
    check(r#""presence_penalty": 2.1"#, "presence_penalty", "presence_penalty is 2.1, allowed is -2 to 2");
    check(r#""repetition_penalty": 0"#, "repetition_penalty", "repetition_penalty is 0.0, allowed is above 0 to 10");
    check(r#""n": 0"#, "n", "n is 0, allowed is an integer from 1 to 8");
    check(r#""n": 9"#, "n", "n is 9");
    check(r#""max_tokens": 0"#, "max_tokens", "max_tokens is 0, allowed is an integer from 1 to 1048576");
    check(r#""max_tokens": -1"#, "max_tokens", "max_tokens is -1");
    check(r#""max_tokens": 18446744073709551615"#, "max_tokens", "max_tokens is 18446744073709551615");
    check(r#""logprobs": 21"#, "logprobs", "logprobs is 21, allowed is an integer from 0 to 20");
    check(r#""seed": 9223372036854775808"#, "seed", "seed is 9223372036854775808, allowed is -9223372036854775808");
    check(r#""prompt": [1, -1]"#, "prompt[1]", "prompt[1] is -1, allowed is a token id from 0 to 4294967295");
    check(r#""logit_bias": {"1": 101}"#, "logit_bias[\"1\"]", "logit_bias[\"1\"] is 101.0, allowed is -100 to 100");
    check(r#""logit_bias": {"x": 1}"#, "logit_bias", "logit_bias is given for \"x\", allowed is a token id");
    check(r#""logit_bias": {"+1": 1}"#, "logit_bias", "logit_bias is given for \"+1\"");
}

#[test]
fn too_much_or_nothing() {
    let check = |fields: &str, param, message| check_completion(fields, ("invalid_value", param, message));
    check(r#""prompt": """#, "prompt", "prompt is empty");
    check(r#""prompt": []"#, "prompt", "prompt is empty");
    check(r#""prompt": ["a", ""]"#, "prompt", "prompt is empty");
    check(r#""prompt": [[]]"#, "prompt", "prompt is empty");
    check(r#""prompt": "", "suffix": """#, "prompt", "prompt is empty");
    check(&format!(r#""prompt": [{}"a"]"#, r#""a","#.repeat(8)), "prompt", "prompt has 9 prompts, the limit is 8");
    check(
        r#""prompt": ["a", "b", "c"], "n": 3"#,
        "prompt",
        "prompt has 9 answers to give (prompts times n), the limit is 8",
    );
    check(&format!(r#""stop": [{}"a"]"#, r#""a","#.repeat(10_000)), "stop", "stop has 10001 strings, the limit is 16");
    check(&format!(r#""stop": "{}""#, "a".repeat(257)), "stop[0]", "stop[0] has 257 bytes, the limit is 256");
    check(r#""stop": """#, "stop[0]", "stop[0] is empty");
    let biases: Vec<String> = (0..1025).map(|id| format!("\"{id}\": 1")).collect();
    check(&format!(r#""logit_bias": {{{}}}"#, biases.join(",")), "logit_bias", "logit_bias has 1025 entries");
    check_chat(r#""messages": []"#, ("invalid_value", "messages", "messages is empty"));
    check_chat(
        r#""messages": [{"role": "user"}]"#,
        ("invalid_value", "messages[0].content", "messages[0].content is empty"),
    );
    let messages = vec![r#"{"role": "user", "content": ""}"#; 4097].join(",");
    check_chat(
        &format!(r#""messages": [{messages}]"#),
        ("invalid_value", "messages", "messages has 4097 messages, the limit is 4096"),
    );
}

#[test]
fn what_openai_has_and_we_do_not() {
    let check_both = |fields: &str, param: &str| {
        let message = format!("{param} is not supported here: ");
        check_completion(fields, ("unsupported_parameter", param, &message));
        check_chat(fields, ("unsupported_parameter", param, &message));
    };
    for field in ["tools", "tool_choice", "functions", "function_call", "audio", "modalities", "prediction"] {
        check_both(&format!(r#""{field}": [1]"#), field);
    }
    check_both(r#""parallel_tool_calls": true"#, "parallel_tool_calls");
    check_both(r#""reasoning_effort": "low""#, "reasoning_effort");
    check_both(r#""store": true"#, "store");
    check_both(r#""service_tier": "flex""#, "service_tier");
    check_both(
        r#""stream": true, "stream_options": {"include_obfuscation": true}"#,
        "stream_options.include_obfuscation",
    );
    check_completion(r#""echo": true"#, ("unsupported_parameter", "echo", "echo is not supported here"));
    check_completion(r#""best_of": 3"#, ("unsupported_parameter", "best_of", "best_of is not supported here"));
    check_chat(
        r#""response_format": {"type": "json_schema", "json_schema": {"name": "x"}}"#,
        (
            "unsupported_parameter",
            "response_format",
            "response_format is not supported here: only {\"type\": \"text\"} is",
        ),
    );
    check_chat(
        r#""messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]"#,
        ("unsupported_parameter", "messages[0].role", "messages[0].role is not supported here: no tools"),
    );
    check_chat(
        r#""messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}]"#,
        ("unsupported_parameter", "messages[0].tool_calls", "messages[0].tool_calls is not supported here"),
    );
    check_chat(
        r#""messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]"#,
        (
            "invalid_value",
            "messages[0].content[0].type",
            "messages[0].content[0].type is \"image_url\", allowed is \"text\"",
        ),
    );
    check_chat(
        r#""messages": [{"role": "robot", "content": "a"}]"#,
        ("invalid_value", "messages[0].role", "messages[0].role is \"robot\", allowed is \"system\""),
    );
}

#[test]
fn fields_that_do_not_go_together() {
    check_completion(
        r#""stream_options": {"include_usage": true}"#,
        ("invalid_value", "stream_options", "stream_options does not go with stream"),
    );
    check_completion(r#""prompt": [1], "suffix": "a""#, ("invalid_value", "suffix", "suffix does not go with prompt"));
    check_chat(
        r#""max_tokens": 1, "max_completion_tokens": 1"#,
        ("invalid_value", "max_tokens", "max_tokens does not go with max_completion_tokens"),
    );
    check_chat(r#""top_logprobs": 1"#, ("invalid_value", "top_logprobs", "top_logprobs does not go with logprobs"));
}

#[test]
fn what_is_not_json_or_too_much_of_it() {
    let check = |body: &str, message: &str| {
        let error = completion(body.as_bytes(), &RequestLimits::default()).expect_err("refused");
        assert_eq!((error.code(), error.param()), ("invalid_json", None));
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.to_string().len() < 300, "{error}");
    };
    check("", "the body is empty");
    check(r#"{"model": "m", "temperature": NaN}"#, "the body is not valid JSON: expected value at line 1 column 31");
    check(r#"{"model": "m", "model": "m"}"#, "the name \"model\" occurs twice");
    check(&format!(r#"{{"model": {}"#, "[".repeat(100_000)), "the body nests deeper than 32 levels");
    check(&format!("[{}0]", "0,".repeat(1_000_000)), "the body holds more than 1000000 values");
    check(r#"{"model": "\ud800"}"#, "the body is not valid JSON");
    let name = "x".repeat(1 << 20);
    check(&format!(r#"{{"{name}": 1, "{name}": 2}}"#), "the name \"xxx");
}
