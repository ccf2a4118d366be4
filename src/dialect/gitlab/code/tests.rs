use super::*;
use crate::dialect::gitlab::metadata::Source;
use crate::feature::Family;
use serde_json::{Value, json};

type Read = fn(&[u8]) -> Result<CodeCall, ValidationError>;

fn suggest(body: &[u8]) -> Result<CodeCall, ValidationError> {
    suggestion(body, None)
}

/// What Rails sends for a completion.
fn rails_completion() -> Value {
    json!({
        "project_path": "demo/app", "project_id": 7,
        "current_file": {
            "file_name": "src/area.py", "language_identifier": "python",
            "content_above_cursor": "def area(radius):\n    return ", "content_below_cursor": "\n\nprint(area(2))\n"
        },
        "intent": "completion", "stream": false, "telemetry": [],
        "context": [{"type": "file", "name": "src/const.py", "content": "PI = 3.14159\n"}],
        "model_provider": "litellm", "prompt_version": 2, "prompt": null,
        "model_endpoint": "http://127.0.0.1:5052/v1", "model_name": "codestral",
        "model_identifier": "custom_openai/example-coder"
    })
}

/// What Rails sends for a generation.
fn rails_generation() -> Value {
    let above = "# a function that returns the area of a circle\n";
    json!({
        "prompt_components": [{
            "type": "code_editor_generation",
            "payload": {
                "file_name": "src/area.py", "content_above_cursor": above, "content_below_cursor": "",
                "language_identifier": "Python", "stream": false,
                "prompt_enhancer": {
                    "examples_array": [], "trimmed_content_above_cursor": above, "trimmed_content_below_cursor": "",
                    "related_files": [], "related_snippets": [], "libraries": [],
                    "user_instruction": "Generate the best possible code based on instructions."
                },
                "prompt_id": "code_suggestions/generations", "prompt_version": "^1.0.0"
            }
        }],
        "model_metadata": {
            "provider": "openai", "name": "codestral", "endpoint": "http://127.0.0.1:5052/v1", "api_key": null,
            "identifier": "custom_openai/example-7b-instruct"
        },
        "current_file": {"file_name": "x"}, "intent": "generation", "stream": false
    })
}

/// Puts `value` where `path` points to; `null` values stay, [`Value::default`] is `null`.
fn with(mut body: Value, path: &str, value: Value) -> Value {
    let (parent, name) = path.rsplit_once('/').expect("a path");
    let parent = if parent.is_empty() { &mut body } else { body.pointer_mut(parent).expect("the parent is there") };
    parent[name] = value;
    body
}

fn without(mut body: Value, path: &str) -> Value {
    let (parent, name) = path.rsplit_once('/').expect("a path");
    let parent = if parent.is_empty() { &mut body } else { body.pointer_mut(parent).expect("the parent is there") };
    parent.as_object_mut().expect("an object").remove(name).expect("the field is there");
    body
}

fn read(read: Read, body: &Value) -> Result<CodeCall, ValidationError> {
    read(body.to_string().as_bytes())
}

fn complete_input(call: CodeCall) -> complete::Input {
    match call.input {
        CodeInput::Completion(input) => input,
        CodeInput::Generation(_) => panic!("a completion"),
    }
}

fn generate_input(call: CodeCall) -> generate::Input {
    match call.input {
        CodeInput::Generation(input) => input,
        CodeInput::Completion(_) => panic!("a generation"),
    }
}

#[test]
fn understands_what_rails_sends_for_a_completion() {
    let call = read(completion, &rails_completion()).expect("as Rails sends it");
    assert_eq!(call.kind(), CodeKind::Completion);
    assert_eq!((call.stream, call.provider.as_str(), call.lang), (false, "litellm", "python"));
    assert_eq!((call.model.source, call.model.family), (Source::Flat, Some(Family::Codestral)));
    assert_eq!(call.model.identifier.as_deref(), Some("custom_openai/example-coder"));
    let expected = complete::Input {
        file_name: "src/area.py".to_owned(),
        language_identifier: Some("python".to_owned()),
        prefix: "def area(radius):\n    return ".to_owned(),
        suffix: "\n\nprint(area(2))\n".to_owned(),
        context: vec!["PI = 3.14159\n".to_owned()],
        messages: Vec::new(),
    };
    assert_eq!(complete_input(call), expected);
}

#[test]
fn accepts_what_a_replacement_should() {
    let check = |body: Value| {
        let found = read(completion, &body);
        assert!(found.is_ok(), "{}: {body}", found.expect_err("refused"));
    };
    let body = rails_completion;
    check(with(body(), "/model_name", json!("general")));
    check(with(body(), "/model_name", json!("one-we-never-heard-of")));
    check(with(body(), "/foo", json!({"bar": 1})));
    check(with(body(), "/user_instruction", json!("")));
    check(with(body(), "/current_file/content_below_cursor", json!(null)));
    check(without(body(), "/current_file/content_below_cursor"));
    check(without(body(), "/prompt_version"));
    check(with(body(), "/prompt_version", json!(1)));
    check(with(body(), "/telemetry", json!(null)));
    check(with(body(), "/context", json!(null)));
    check(with(body(), "/stream", json!(null)));
    check(with(body(), "/choices_count", json!(0)));
    check(with(body(), "/prompt", json!("an old prompt")));
    check(with(body(), "/current_file/file_name", json!(format!(" {} ", "a".repeat(255)))));
    check(with(body(), "/current_file/content_above_cursor", json!("ä".repeat(100_000))));
    let item = json!({"model_engine": "x", "model_name": null, "lang": "c", "requests": 1, "accepts": 0, "errors": 0});
    check(with(body(), "/telemetry", json!([item])));
}

#[test]
fn a_direct_connection_means_the_default_model() {
    let body = json!({
        "current_file": {"file_name": "src/area.py", "content_above_cursor": "x", "content_below_cursor": ""},
        "prompt_version": 1, "stream": true, "telemetry": [], "choices_count": 0
    });
    let call = read(completion, &body).expect("as a language server sends it");
    assert_eq!((call.stream, call.model.source, call.lang), (true, Source::Absent, "python"));
    assert!(!call.provider.is_empty());
}

/// Checks that `body` is refused, and why.
#[track_caller]
fn refuse(call: Read, body: Value, reason: &str) {
    let found = read(call, &body).expect_err(reason).to_string();
    assert_eq!(found, reason);
}

#[test]
fn refuses_files_that_the_contract_refuses() {
    let body = rails_completion;
    refuse(
        completion,
        with(body(), "/prompt_version", json!("2")),
        "prompt_version has to be an integer, found a string",
    );
    refuse(completion, with(body(), "/prompt_version", json!(4)), "prompt_version has to be 1, 2 or 3");
    refuse(completion, json!({"prompt_version": 2}), "current_file is required");
    refuse(completion, json!([]), "the body has to be an object, found an array");
    refuse(completion, with(body(), "/current_file", json!("x")), "current_file has to be an object, found a string");
    refuse(completion, without(body(), "/current_file/file_name"), "current_file.file_name is required");
    refuse(
        completion,
        without(body(), "/current_file/content_above_cursor"),
        "current_file.content_above_cursor is required",
    );
    refuse(
        completion,
        with(body(), "/current_file/file_name", json!("a".repeat(300))),
        "current_file.file_name has 300 characters, at most 255 are allowed",
    );
    refuse(
        completion,
        with(body(), "/current_file/content_above_cursor", json!("a".repeat(100_001))),
        "current_file.content_above_cursor has 100001 characters, at most 100000 are allowed",
    );
    refuse(
        completion,
        with(body(), "/model_provider", json!("ollama")),
        "model_provider has to be anthropic, vertex-ai, litellm, codestral, fireworks_ai, amazon_q or gitlab",
    );
    refuse(
        completion,
        with(body(), "/model_name", json!("m".repeat(51))),
        "model_name has 51 characters, at most 50 are allowed",
    );
    refuse(completion, with(body(), "/telemetry", json!([{"requests": 1}])), "telemetry[0].accepts is required");
    refuse(
        completion,
        with(body(), "/telemetry", json!([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])),
        "telemetry has 11 items, at most 10 are allowed",
    );
    refuse(completion, with(body(), "/context", json!([{"type": "file"}])), "context[0].name is required");
    refuse(completion, with(body(), "/context", json!([7])), "context[0] has to be an object, found an integer");
    refuse(completion, with(body(), "/prompt", json!([])), "prompt has to be a string, found an array");
    refuse(completion, with(body(), "/stream", json!("maybe")), "stream has to be a boolean, found a string");
    refuse(generation, with(body(), "/prompt", json!(null)), "prompt is required");
    let three = with(with(body(), "/prompt_version", json!(3)), "/prompt", json!([{"role": "tool", "content": "x"}]));
    refuse(generation, three, "prompt[0].role has to be system, user or assistant");
}

#[test]
fn refuses_components_that_the_contract_refuses() {
    let body = rails_generation;
    refuse(suggest, json!({}), "prompt_components is required");
    refuse(suggest, json!({"prompt_components": []}), "prompt_components has to be a list of 1 to 100 components");
    refuse(
        suggest,
        json!({"prompt_components": [{"type": "x", "payload": {}}]}),
        "prompt_components[0].type has to be code_editor_completion, code_editor_generation or code_context",
    );
    refuse(
        suggest,
        with(body(), "/prompt_components/0/payload/model_provider", json!("litellm")),
        "prompt_components[0].payload.model_provider has to be vertex-ai, anthropic or amazon_q, or absent where \
         model_metadata names the model",
    );
    refuse(suggest, without(body(), "/prompt_components/0/payload"), "prompt_components[0].payload is required");
    refuse(
        suggest,
        with(body(), "/prompt_components/0/payload/prompt_version", json!(2)),
        "prompt_components[0].payload.prompt_version has to be a string, found an integer",
    );
    refuse(
        suggest,
        with(body(), "/prompt_components/0/metadata", json!({"source": "ide"})),
        "prompt_components[0].metadata.version is required",
    );
    refuse(suggest, with(body(), "/model_metadata", json!({"provider": "openai"})), "model_metadata.name is required");
    let context = json!({"type": "code_context", "payload": {"type": "file", "name": "a", "content": "b"}});
    refuse(
        suggest,
        json!({"prompt_components": [context]}),
        "prompt_components[0].type has to be a completion or a generation: a context alone asks for nothing",
    );
    let many: Vec<Value> = (0..101).map(|_| context.clone()).collect();
    refuse(suggest, json!({"prompt_components": many}), "prompt_components has 101 items, at most 100 are allowed");
    for text in [&b"{"[..], b"", b"null", b"\xff"] {
        assert!(completion(text).is_err() && generation(text).is_err() && suggest(text).is_err(), "{text:?}");
    }
}

#[test]
fn understands_what_rails_sends_for_a_generation() {
    let call = read(suggest, &rails_generation()).expect("as Rails sends it");
    assert_eq!((call.kind(), call.stream, call.provider.as_str()), (CodeKind::Generation, false, "agent"));
    assert_eq!((call.lang, call.model.source), ("python", Source::Metadata));
    let input = generate_input(call);
    assert_eq!(input.prefix, "# a function that returns the area of a circle\n");
    assert_eq!(input.user_instruction.as_deref(), Some("Generate the best possible code based on instructions."));
    assert!(input.given.is_none() && !input.begins_line);

    let enhancer = json!({
        "examples_array": [{"example": "# one", "response": "ONE = 1", "trigger_type": "comment"}, {"x": 1}, 7],
        "trimmed_content_above_cursor": "above", "trimmed_content_below_cursor": "below",
        "related_files": ["<file_content>a</file_content>"], "related_snippets": ["<snippet_content>b</snippet_content>"],
        "libraries": ["numpy", {"name": "x"}], "user_instruction": " "
    });
    let body = with(rails_generation(), "/prompt_components/0/payload/prompt_enhancer", enhancer);
    let input = generate_input(read(suggest, &body).expect("lenient"));
    assert_eq!((input.prefix.as_str(), input.suffix.as_str()), ("above", "below"));
    assert_eq!(input.related, ["<file_content>a</file_content>", "<snippet_content>b</snippet_content>"]);
    assert_eq!(input.libraries, ["numpy"]);
    assert!(input.examples == [generate::Example { code: "# one".to_owned(), answer: "ONE = 1".to_owned() }]);
    assert_eq!(input.user_instruction, None);

    for enhancer in [json!(null), json!({}), json!({"examples_array": null, "related_files": 7})] {
        let body = with(rails_generation(), "/prompt_components/0/payload/prompt_enhancer", enhancer);
        assert!(read(suggest, &body).is_ok(), "{body}");
    }
    let long =
        with(rails_generation(), "/prompt_components/0/payload/content_above_cursor", json!("a".repeat(400_000)));
    assert!(read(suggest, &long).is_ok());
    assert!(read(suggest, &without(rails_generation(), "/model_metadata")).is_ok());
}

#[test]
fn contexts_of_new_enough_editors_are_used_for_completions() {
    let body = json!({
        "prompt_components": [
            {"type": "code_editor_completion", "payload": {
                "file_name": "a.py", "content_above_cursor": "def f", "content_below_cursor": "", "stream": true}},
            {"type": "code_context", "payload": {"type": "file", "name": "b.py", "content": "B = 1"}}
        ],
        "model_metadata": {"provider": "openai", "name": "codestral"}
    });
    let check = |version: Option<&str>, contexts: usize| {
        let call = suggestion(body.to_string().as_bytes(), version).expect("valid");
        assert_eq!((call.kind(), call.stream, call.provider.as_str()), (CodeKind::Completion, true, "openai"));
        assert_eq!(complete_input(call).context.len(), contexts, "{version:?}");
    };
    check(None, 0);
    check(Some("7.17.0"), 0);
    check(Some("7.17.1"), 1);
    check(Some("8.20.0"), 1);
    check(Some("10.0"), 1);
    check(Some("v8.1.2-beta.1"), 1);
    check(Some("unknown"), 0);
}

#[test]
fn prompts_that_are_brought_along_are_kept() {
    let body = |version: u32, prompt: Value| {
        with(with(rails_completion(), "/prompt_version", json!(version)), "/prompt", prompt)
    };
    let given = |body: &Value| generate_input(read(generation, body).expect("valid")).given;
    assert!(given(&without(body(1, json!(null)), "/prompt")).is_none());
    assert!(given(&body(2, json!("Write it."))) == Some(generate::Given::Text("Write it.".to_owned())));
    let messages = json!([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]);
    assert!(
        matches!(given(&body(3, messages.clone())), Some(generate::Given::Messages(messages)) if messages.len() == 2)
    );
    let named = with(body(2, json!("Write it.")), "/prompt_id", json!("code_suggestions/generations"));
    assert!(given(&named).is_none());
    assert!(given(&without(named, "/prompt")).is_none());
    assert_eq!(complete_input(read(completion, &body(3, messages)).expect("valid")).messages.len(), 2);
    let begins = |body: &Value| generate_input(read(generation, body).expect("valid")).begins_line;
    assert!(begins(&body(2, json!("x"))));
    assert!(!begins(&with(body(2, json!("x")), "/stream", json!(true))));
}

#[test]
fn answers_have_the_contracts_form() {
    let call = read(completion, &rails_completion()).expect("valid");
    let tokens = TokenCounts { input: 31, output: 9, is_output_cut: false, context_sent: 6, context_used: 6 };
    let answered = Answered { model_name: "example", created: 1_760_000_000, feature_flags: Some("b,a"), tokens };
    let check = |body: Vec<u8>, expected: &str| assert_eq!(String::from_utf8(body).expect("text"), expected);
    check(
        call.version_two_body("3 * radius", &answered),
        r#"{"id":"id","model":{"engine":"litellm","name":"codestral","lang":"python","tokens_consumption_metadata":{"input_tokens":31,"output_tokens":9,"max_output_tokens_used":false,"context_tokens_sent":6,"context_tokens_used":6},"region":null},"experiments":[],"object":"text_completion","created":1760000000,"choices":[{"text":"3 * radius","index":0,"finish_reason":"length"}],"metadata":{"enabled_feature_flags":["b","a"]}}"#,
    );
    let flags = |header: Option<&str>, body: &dyn Fn(&Answered<'_>) -> Vec<u8>| -> Value {
        let body: Value = serde_json::from_slice(&body(&Answered { feature_flags: header, ..answered })).expect("JSON");
        body["metadata"]["enabled_feature_flags"].clone()
    };
    let version_two = |answered: &Answered<'_>| call.version_two_body(" \n", answered);
    assert_eq!(flags(Some(""), &version_two), json!([""]));
    assert_eq!(flags(None, &version_two), json!([]));
    let empty: Value = serde_json::from_slice(&version_two(&answered)).expect("JSON");
    assert_eq!(empty["choices"], json!([]));

    let call = read(generation, &with(rails_completion(), "/prompt", json!("x"))).expect("valid");
    let body: Value = serde_json::from_slice(&call.version_two_body("x", &answered)).expect("JSON");
    assert_eq!(body["model"]["tokens_consumption_metadata"], json!(null));

    let call = read(suggest, &rails_generation()).expect("valid");
    check(
        call.suggestion_body("x = 1\n", &Answered { feature_flags: Some(""), ..answered }),
        r#"{"choices":[{"text":"x = 1\n","index":0,"finish_reason":"length"}],"metadata":{"model":{"engine":"agent","name":"Code generation","lang":"python"},"timestamp":1760000000,"enabled_feature_flags":[""],"region":null},"model":{"engine":"agent","name":"Code generation","lang":"python"}}"#,
    );
    let component = json!({"type": "code_editor_completion", "payload": {
        "file_name": "a.py", "content_above_cursor": "def f", "content_below_cursor": "", "language_identifier": "python"}});
    let body = json!({"prompt_components": [component]});
    let call = read(suggest, &body).expect("valid");
    check(
        call.suggestion_body("", &Answered { feature_flags: Some(""), ..answered }),
        r#"{"choices":[],"metadata":{"model":{"engine":"openai","name":"example","lang":"python"},"timestamp":1760000000,"enabled_feature_flags":[],"region":null},"model":{"engine":"openai","name":"example","lang":"python"}}"#,
    );
}

#[test]
fn streams_have_the_contracts_form() {
    let call = read(suggest, &rails_generation()).expect("valid");
    let answered = Answered { created: 1_760_000_000, feature_flags: Some("a"), ..Answered::default() };
    let mut out = Vec::new();
    call.stream_start(&answered, &mut out);
    content_chunk("x = 1\n", &mut out);
    ping(1_760_000_015, &mut out);
    stream_end(&mut out);
    let expected = "event: stream_start\r\ndata: {\"metadata\": {\"model\": {\"engine\": \"agent\", \"name\": \"Code generation\"}, \
         \"timestamp\": 1760000000, \"enabled_feature_flags\": [\"a\"]}}\r\n\r\n\
         event: content_chunk\r\ndata: {\"choices\": [{\"delta\": {\"content\": \"x = 1\\n\"}, \"index\": 0}]}\r\n\r\n\
         : ping - 1760000015\r\n\r\n\
         event: stream_end\r\ndata: null\r\n\r\n";
    assert_eq!(String::from_utf8(out).expect("text"), expected);
}

#[test]
fn debug_output_shows_neither_code_nor_keys() {
    let body = with(rails_completion(), "/model_api_key", json!("sk-secret"));
    let shown = format!("{:?}", read(completion, &body).expect("valid"));
    for secret in ["sk-secret", "radius", "3.14159"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
