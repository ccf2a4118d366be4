//! Identifier tools: one JSON object with a type and an identifier, in a `json` block.

use super::{prepared, said};
use sconce::feature::Family;
use sconce::feature::prompts::Prepared;
use serde_json::{Value, json};

/// Type and identifier, as GitLab reads them.
pub fn parse(answer: &str) -> Result<(String, String), String> {
    let mut text = answer.to_owned();
    if !text.contains("ResourceIdentifierType") {
        text = format!("```json\n{{\"ResourceIdentifierType\": \"{text}");
    }
    let text = text.split("Question:").next().unwrap_or_default();
    let json = match text.split_once("```json") {
        Some((_, behind)) => behind.split("```").next().unwrap_or_default(),
        None => text,
    };
    let object: Value = serde_json::from_str(json.trim()).map_err(|error| format!("{error}: {json:?}"))?;
    let object = object.as_object().ok_or("no object")?;
    if object.len() != 2 {
        return Err(format!("{} keys", object.len()));
    }
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned).ok_or(format!("no {key}"));
    let (kind, identifier) = (text("ResourceIdentifierType")?, text("ResourceIdentifier")?);
    let is_known = ["current", "iid", "url", "reference"].contains(&kind.as_str());
    if !is_known || identifier.trim().is_empty() {
        return Err(format!("{kind} {identifier:?}"));
    }
    Ok((kind, identifier))
}

fn inputs(question: &str, thought: &str) -> Value {
    json!({"input": question, "suggestions": thought})
}

fn certain(id: &str, question: &str, thought: &str) -> Option<(String, String)> {
    match prepared(id, &inputs(question, thought), None) {
        Prepared::Answer(answer) => Some(parse(&answer).unwrap_or_else(|problem| panic!("{question}: {problem}"))),
        Prepared::Ask(_) => None,
    }
}

#[test]
fn what_the_question_says_needs_no_model() {
    let check = |id: &str, question: &str, thought: &str, expected: (&str, &str)| {
        let found = certain(id, question, thought).unwrap_or_else(|| panic!("{question} asks a model"));
        assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{question}");
    };
    let issue = "chat/issue_reader";
    check(issue, "What is demo/app#12 about?", "I need the issue.", ("reference", "demo/app#12"));
    check(issue, "Is #12 done?", "", ("reference", "#12"));
    check(issue, "summarize issue 12", "", ("iid", "12"));
    check(issue, "summarize issue number 12.", "", ("iid", "12"));
    check(issue, "12", "", ("iid", "12"));
    check(issue, "Summarize this issue", "I need the current issue.", ("current", "current"));
    check(issue, "", "", ("current", "current"));
    check(issue, "Summarize it", "The issue is group/sub/app#7, read it", ("reference", "group/sub/app#7"));
    check(
        issue,
        "See (https://gitlab.example.com/a/b/-/issues/12#note_345), please",
        "",
        ("url", "https://gitlab.example.com/a/b/-/issues/12"),
    );
    check(issue, "http://h/a/b/-/work_items/9?x=1", "", ("url", "http://h/a/b/-/work_items/9"));
    check(issue, "issue 12 (a/b#12)", "", ("reference", "a/b#12"));
    check("chat/work_item_reader", "task 5", "", ("iid", "5"));
    check("chat/epic_reader", "What is group/sub&5?", "", ("reference", "group/sub&5"));
    check("chat/epic_reader", "https://h/groups/g/-/epics/5", "", ("url", "https://h/groups/g/-/epics/5"));
    check("chat/merge_request_reader", "Review !34 please", "", ("reference", "!34"));
    check("chat/merge_request_reader", "a/b!34?", "", ("reference", "a/b!34"));
    check(
        "chat/merge_request_reader",
        "https://h/a/-/merge_requests/34/diffs",
        "",
        ("url", "https://h/a/-/merge_requests/34"),
    );
    check("chat/commit_reader", "explain 6d394385a", "", ("iid", "6d394385a"));
    check("chat/commit_reader", "explain a/b@6d394385", "", ("reference", "a/b@6d394385"));
    check("chat/commit_reader", "https://h/a/-/commit/6d394385?x", "", ("url", "https://h/a/-/commit/6d394385"));
    check("chat/build_reader", "Why did job 1234 fail?", "", ("iid", "1234"));
    check("chat/build_reader", "Why did #1234 fail?", "", ("iid", "1234"));
    check("chat/build_reader", "https://h/a/-/jobs/1234/raw", "", ("url", "https://h/a/-/jobs/1234"));
    // GitLab's request to try again is no question.
    check(issue, "this", "Read it\nObservation: JSON has an invalid format 99. Please retry", ("current", "current"));
}

#[test]
fn doubt_asks_a_model() {
    let check = |id: &str, question: &str| assert_eq!(certain(id, question, ""), None, "{question}");
    check("chat/issue_reader", "Compare a/b#12 with a/b#13");
    check("chat/issue_reader", "a/b#12 and c/d#12");
    check("chat/issue_reader", "Name the 3 main points");
    check("chat/issue_reader", "https://h/a/-/merge_requests/34");
    check("chat/commit_reader", "who defaced effaced");
    check("chat/build_reader", "the last 2 jobs");
}

/// Both questions leave a doubt.
const TWO: &str = "Compare a/b#12 with a/b#13, the newer of https://h/x/y/-/issues/14";
const NONE: &str = "Name the 3 main points of this issue";

fn check(question: &str, written: &str, expected: (&str, &str)) {
    let (answer, _) = said("chat/issue_reader", &inputs(question, ""), written);
    let found = parse(&answer).unwrap_or_else(|problem| panic!("{problem}\n{written}\n---\n{answer}"));
    assert_eq!((found.0.as_str(), found.1.as_str()), expected, "{written}");
}

fn object(kind: &str, identifier: &str) -> String {
    format!("{{\"ResourceIdentifierType\": \"{kind}\", \"ResourceIdentifier\": \"{identifier}\"}}")
}

#[test]
fn answers_of_models_are_read_in_any_form() {
    let expected = ("reference", "a/b#13");
    check(TWO, &object("reference", "a/b#13"), expected);
    check(TWO, &format!("```json\n{}\n```", object("reference", "a/b#13")), expected);
    check(TWO, &format!("Sure! Here it is:\n```\n{}\n```\nAnything else?", object("reference", "a/b#13")), expected);
    check(
        TWO,
        &format!("{}\n```\n\nQuestion: and this?\n{}", object("current", "current"), object("reference", "a/b#13")),
        expected,
    );
    check(TWO, &format!("<think>{}</think>{}", object("iid", "1"), object("reference", "a/b#13")), expected);
    check(TWO, "reference\", \"ResourceIdentifier\": \"a/b#13\"}", expected);
    check(TWO, "{\"ResourceIdentifierType\": \"reference\", \"ResourceIdentifier\": \"a/b#13\"", expected);
    check(TWO, "{\"ResourceIdentifierType\": \"reference\", \"ResourceIdentifier\": \"a/b#13", expected);
    check(
        TWO,
        "{\"ResourceIdentifier\": \"a/b#13\", \"note\": [1], \"ResourceIdentifierType\": \"Reference\"}",
        expected,
    );
    check(TWO, &object("issue", "a/b#13"), expected);
    check(TWO, &object("iid", "a/b#13"), expected);
    check(TWO, "{\"ResourceIdentifierType\": \"iid\", \"ResourceIdentifier\": 13}", ("iid", "13"));
    check(TWO, &object("url", "https://h/x/y/-/issues/14"), ("url", "https://h/x/y/-/issues/14"));
    check(NONE, &object("current", "current"), ("current", "current"));
    check(NONE, &object("current", "whatever ``` Question: is here"), ("current", "current"));
}

#[test]
fn inventions_are_not_passed_on() {
    let first = ("reference", "a/b#12");
    check(TWO, &object("iid", "999"), first);
    check(TWO, &object("reference", "evil/project#12"), first);
    check(TWO, &object("url", "https://evil.example/x/-/issues/12"), first);
    check(TWO, &object("url", "javascript:alert(12)"), first);
    check(TWO, &object("reference", "``` {} Question:"), first);
    check(TWO, &object("iid", ""), first);
    check(TWO, "", first);
    check(TWO, "I do not know which issue you mean.", first);
    check(TWO, "{\"ResourceIdentifierType\": null}", first);
    check(TWO, "[[[[{{{{", first);
    check(NONE, "no idea", ("iid", "3"));
    check("The 12 of a", &object("iid", "77"), ("iid", "12"));
    check("https://h/a/-/merge_requests/34", "nothing", ("current", "current"));
}

#[test]
fn underscores_of_mixtral_are_its_own() {
    let inputs = inputs("a/b_c#1 or a/b_c#2", "");
    let Prepared::Ask(mut ask) = prepared("chat/issue_reader", &inputs, Some(Family::Mixtral)) else {
        panic!("no doubt was seen");
    };
    let written = "{\"ResourceIdentifierType\": \"reference\", \"ResourceIdentifier\": \"a/b\\_c#2\"}";
    let answer = sconce::feature::shape_whole(ask.plan.shape.as_mut(), written, sconce::domain::FinishReason::Stop);
    assert_eq!(parse(&answer), Ok(("reference".to_owned(), "a/b_c#2".to_owned())));
}
