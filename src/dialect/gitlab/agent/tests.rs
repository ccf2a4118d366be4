//! Calls and streams of the classic chat, from body to bytes, read back as GitLab reads them.

use super::*;
use crate::domain::{ModelInfo, Prompt};
use crate::feature::Flow;
use crate::feature::agent::{Facts, plan, required_scopes};
use serde_json::Value;
use std::time::Duration;

const ISSUE: &str = r#"{"messages":[{"role":"user","content":"What is issue 12 about?","context":{"type":"issue","title":"Login fails"},"current_file":null,"additional_context":[]}],"model_metadata":{"provider":"openai","name":"mistral","endpoint":"http://127.0.0.1:5052/v1","api_key":null,"identifier":"custom_openai/example-7b-instruct"},"unavailable_resources":["Pipelines","Vulnerabilities"]}"#;

const STEP: &str = r#"{"messages":[{"role":"user","content":"What is issue 12 about?","context":{"type":"issue","title":"Login fails"},"current_file":null,"additional_context":[]},{"role":"assistant","agent_scratchpad":[{"action":{"thought":"I need the issue","tool":"issue_reader","tool_input":"issue 12"},"observation":"Please use this information about identified issue: title Login fails"}]}]}"#;

fn call(text: &str) -> AgentCall {
    agent_call(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The bytes that GitLab gets for what a model writes.
fn stream(body: &str, model_text: &str) -> String {
    let model = ModelInfo {
        name: "coder".to_owned(),
        architecture: "qwen2".to_owned(),
        context_tokens: 32_768,
        vocab_size: 1000,
        parameters: 1,
        has_infill: true,
        has_chat: true,
        created: 0,
    };
    let call = call(body);
    let facts = Facts {
        model: &model,
        family: call.model.family,
        has_scope: &|_| true,
        gitlab_version: Some("18.9.0"),
        current_date: "October 05, 2026",
        max_tokens: None,
        answer_now: false,
    };
    let mut planned = plan(call.input, &facts).expect("the model can chat");
    assert!(matches!(planned.plan.prompt, Prompt::Chat(_)));
    let (mut events, mut out) = (Vec::new(), Vec::new());
    for char in model_text.chars() {
        let flow = planned.parser.push(char.encode_utf8(&mut [0; 4]), &mut events);
        write_events(&events, &mut out);
        events.clear();
        if flow == Flow::Enough {
            break;
        }
    }
    planned.parser.finish(FinishReason::Stop, &mut events);
    write_events(&events, &mut out);
    String::from_utf8(out).expect("lines are text")
}

/// What Rails finds with `(\{.*\})\n`: on each line that was ended, from the first brace to the last.
fn rails_events(stream: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut rest = stream;
    while let Some(end) = rest.find('\n') {
        let line = &rest[..end];
        if let (Some(first), true) = (line.find('{'), line.ends_with('}')) {
            events.push(serde_json::from_str(&line[first..]).unwrap_or_else(|error| panic!("{error}: {line}")));
        }
        rest = &rest[end + 1..];
    }
    assert_eq!(rest, "", "what follows the last line break is lost");
    events
}

fn answer_of(stream: &str) -> String {
    let events = rails_events(stream);
    let last = events.len() - 1;
    events
        .iter()
        .enumerate()
        .map(|(index, event)| {
            assert_eq!(event["type"], "final_answer_delta", "{event}");
            let reason = if index == last { Value::from("stop") } else { Value::Null };
            assert_eq!(event["data"]["finish_reason"], reason);
            event["data"]["text"].as_str().expect("a text").to_owned()
        })
        .collect()
}

#[test]
fn streams_are_what_gitlab_reads() {
    let hi =
        r#"{"messages":[{"role":"user","content":"Hi","context":null,"current_file":null,"additional_context":null}]}"#;
    assert_eq!(answer_of(&stream(hi, " Hello.\nFinal Answer: Hello! How can I help?")), "Hello! How can I help?");
    assert_eq!(
        answer_of(&stream(STEP, " I know.\nFinal Answer: It is:\n1. \"Login\"\n2. {fails}\n")),
        "It is:\n1. \"Login\"\n2. {fails}"
    );
    assert_eq!(
        stream(ISSUE, "I need the issue\nAction: issue_reader\nAction Input: issue 12"),
        "{\"type\": \"action\", \"data\": {\"tool\": \"issue_reader\", \"tool_input\": \"issue 12\", \"thought\": \"I need the issue\"}}\n"
    );
    assert_eq!(
        stream(ISSUE, "It is about login."),
        "{\"type\": \"unknown\", \"data\": {\"text\": \"It is about login.\"}}\n"
    );
    let mut out = Vec::new();
    let delta = |text: &str, finish_reason| AgentEvent::Delta { text: text.to_owned(), finish_reason };
    write_events(&[delta("Hello", None), delta("! How can I help?", Some(FinishReason::Stop))], &mut out);
    assert_eq!(
        String::from_utf8(out).expect("text"),
        "{\"type\": \"final_answer_delta\", \"data\": {\"text\": \"Hello\", \"finish_reason\": null}}\n{\"type\": \
         \"final_answer_delta\", \"data\": {\"text\": \"! How can I help?\", \"finish_reason\": \"stop\"}}\n"
    );
    let mut out = Vec::new();
    write_events(&[delta("a\n\u{2028}\u{85}\0\"}", Some(FinishReason::Length))], &mut out);
    let events = rails_events(&String::from_utf8(out).expect("text"));
    assert_eq!(events[0]["data"]["text"], "a\n\u{2028}\u{85}\0\"}");
    assert_eq!(events[0]["data"]["finish_reason"], "length");
}

#[test]
fn errors_are_said_in_words_that_gitlab_knows() {
    let model = || "coder".to_owned();
    let retry_after = Duration::from_secs(1);
    let check = |error: GenerateError, message: &str, retryable: bool| {
        let line = String::from_utf8(error_line(&error)).expect("text");
        let expected =
            format!("{{\"type\": \"error\", \"data\": {{\"message\": \"{message}\", \"retryable\": {retryable}}}}}\n");
        assert_eq!(line, expected);
    };
    let long = |prompt_tokens, max_tokens, context_tokens| GenerateError::PromptTooLong {
        model: model(),
        prompt_tokens,
        max_tokens,
        context_tokens,
    };
    check(long(140_000, 0, 128_000), "prompt is too long: 140000 tokens > 128000 maximum", false);
    check(long(3500, 1024, 4096), "prompt is too long: 3500 tokens > 3072 maximum", false);
    let small = GenerateError::CacheTooSmall { needed_tokens: 9, cache_tokens: 8 };
    check(small, "prompt is too long: 9 tokens > 8 maximum", false);
    check(GenerateError::QueueFull { waiting: 9, waiting_max: 9, retry_after }, "overloaded_error", true);
    check(GenerateError::ShuttingDown, "overloaded_error", true);
    let down = |retry_after| GenerateError::EngineDown { model: model(), cause: "it failed", retry_after };
    check(down(Some(retry_after)), "overloaded_error", true);
    check(down(None), "coder is not available: it failed", false);
    let phase = "it was waiting";
    check(
        GenerateError::DeadlineExceeded { deadline: Duration::from_secs(2), phase, retry_after },
        "not finished within its deadline of 2000 ms (it was waiting)",
        false,
    );
    let reason = || "insides".to_owned();
    check(GenerateError::StepFailed { reason: reason() }, "the model failed while it answered", false);
    check(
        GenerateError::Template { model: model(), reason: reason() },
        "the chat template of coder does not take this conversation",
        false,
    );
    let no_chat = "the model coder has no chat template: choose a model trained for chat for GitLab Duo Chat";
    check(GenerateError::NoChat { model: model() }, no_chat, false);
    let refusal = String::from_utf8(refusal_line(&AgentError::NoChat { model: model() })).expect("text");
    assert!(refusal.contains(no_chat) && refusal.ends_with("\"retryable\": false}}\n"));
}

#[test]
fn every_field_is_read() {
    let text = r#"{"messages":[
        {"role":"system","content":"Be brief."},
        {"role":"assistant","content":null},
        {"role":"user","content":"summarise","later":1,
         "context":{"type":"issue","content":"…"},
         "current_file":{"file_path":"a.rb","data":"puts 1","selected_code":true},
         "additional_context":[
            {"category":"file","id":"lib/b.rb","content":"b","metadata":{"n":1,"title":"B"}},
            {"category":"user_rule","id":null,"content":null,"metadata":null},
            {"category":"snippet","content":"c"}]}]}"#;
    let AgentCall { input, .. } = call(text);
    let [system, assistant, user] = &input.turns[..] else { panic!("three turns") };
    assert_eq!((system.role, system.content.as_str()), (Role::System, "Be brief."));
    assert_eq!((assistant.role, assistant.content.as_str()), (Role::Assistant, ""));
    assert_eq!((user.role, user.content.as_str()), (Role::User, "summarise"));
    let resource = user.context.resource.as_ref().expect("a page");
    assert_eq!((resource.kind.as_str(), &resource.title, resource.content.as_deref()), ("issue", &None, Some("…")));
    let file = user.context.current_file.as_ref().expect("a file");
    assert_eq!((file.path.as_str(), file.data.as_str(), file.is_selection), ("a.rb", "puts 1", true));
    let items: Vec<_> = user
        .context
        .items
        .iter()
        .map(|item| (&*item.category, item.id.as_deref(), item.label.as_deref(), &*item.content))
        .collect();
    assert_eq!(
        items,
        [("file", Some("lib/b.rb"), Some("B"), "b"), ("user_rule", None, None, ""), ("snippet", None, None, "c")]
    );
    assert_eq!(input.unavailable, ["Merge Requests, Pipelines, Vulnerabilities"]);
    assert_eq!(required_scopes(&input), ["include_file_context", "include_snippet_context"]);
    let build =
        call(r#"{"messages":[{"role":"user","content":"q","context":{"type":"build"}}],"unavailable_resources":[]}"#);
    assert_eq!(build.input.turns[0].context.resource.as_ref().map(|resource| &*resource.kind), Some("build"));
    assert_eq!(build.input.unavailable, [""; 0]);
    let bare = call(
        r#"{"messages":[{"role":"user","content":"q","context":{},"current_file":{"data":null},"agent_scratchpad":null}],"options":null}"#,
    );
    assert!(bare.input.turns[0].context == Context::default());
}

#[test]
fn steps_are_those_of_the_last_message_and_the_older_form_wins() {
    let steps = |text: &str| -> Vec<(String, String, String, String)> {
        let steps = call(text).input.steps.into_iter();
        steps.map(|step| (step.thought, step.tool, step.tool_input, step.observation)).collect()
    };
    let step = |words: [&str; 4]| {
        let [thought, tool, tool_input, observation] = words.map(str::to_owned);
        (thought, tool, tool_input, observation)
    };
    let observation = "Please use this information about identified issue: title Login fails";
    let expected = step(["I need the issue", "issue_reader", "issue 12", observation]);
    assert_eq!(steps(STEP), [expected]);
    let pending = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"agent_scratchpad":[{"action":{"thought":null,"tool":"epic_reader"}}]}]}"#;
    assert_eq!(steps(pending), [step(["", "epic_reader", "", ""])]);
    let past = STEP.replace("]}]}", "]},{\"role\":\"user\",\"content\":\"thanks\"}]}");
    assert_eq!(steps(&past), []);
    let options = r#","options":{"agent_scratchpad":{"agent_type":"react","steps":[{"thought":"t","tool":"x","tool_input":"i","observation":"o"}]}}}"#;
    let older = format!("{}{options}", STEP.strip_suffix('}').expect("an object"));
    assert_eq!(steps(&older), [step(["t", "x", "i", "o"])]);
}

#[test]
fn bodies_that_are_refused_say_why_to_the_log_and_little_to_the_caller() {
    let check = |text: &str, reason: &str, answer: &str| {
        let error = agent_call(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), reason);
        assert_eq!(String::from_utf8(error.into_body()).expect("text"), answer);
    };
    let invalid = r#"{"detail":"Validation error"}"#;
    check(
        r#"{"messages":[{"role":"user","content":"x","agent_scratchpad":[]}]}"#,
        "messages[0].agent_scratchpad can only be sent with the role assistant",
        r#"{"detail":"agent_scratchpad can only be present when role is ASSISTANT"}"#,
    );
    check("{}", "messages is required", invalid);
    check(r#"{"messages":[]}"#, "messages has to be a list of at least one message", invalid);
    check(r#"{"messages":["x"]}"#, "messages[0] has to be an object, found a string", invalid);
    check(r#"{"messages":[{"content":"x"}]}"#, "messages[0].role is required", invalid);
    check(r#"{"messages":[{"role":"tool"}]}"#, "messages[0].role has to be system, user or assistant", invalid);
    check(
        r#"{"messages":[{"role":"user","content":7}]}"#,
        "messages[0].content has to be a string, found an integer",
        invalid,
    );
    check(
        r#"{"messages":[{"role":"user","additional_context":[{"id":"x"}]}]}"#,
        "messages[0].additional_context[0].category is required",
        invalid,
    );
    check(
        r#"{"messages":[{"role":"assistant","agent_scratchpad":[{"observation":"x"}]}]}"#,
        "messages[0].agent_scratchpad[0].action is required",
        invalid,
    );
    let many = vec![r#"{"role":"user"}"#; 1001].join(",");
    check(&format!(r#"{{"messages":[{many}]}}"#), "messages has 1001 items, at most 1000 are allowed", invalid);
    check(r#"{"messages":[{"role":"user"}],"model_metadata":{}}"#, "model_metadata.name is required", invalid);
}
