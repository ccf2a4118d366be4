//! GitLab's side of the prompts API: its parsers, written from the contract's parsing facts, and what hostile or weak
//! models write held against them. Every answer is made twice, whole and character by character.

mod documentation;
mod end_to_end;
mod garbage;
mod identifier;
mod resolver;
mod review;
#[path = "../support/full.rs"]
#[expect(dead_code, unused_imports, reason = "shared with other tests and benches, which use more of it")]
mod support;
mod texts;

use sconce::domain::{FinishReason, ModelInfo};
use sconce::feature::prompts::{Ask, Facts, Prepared, lookup, prepare};
use sconce::feature::{Family, shape_whole};
use serde_json::Value;

fn model(context_tokens: usize) -> ModelInfo {
    ModelInfo {
        name: "test".to_owned(),
        architecture: "qwen2".to_owned(),
        context_tokens,
        vocab_size: 32_000,
        parameters: 7_000_000_000,
        has_infill: false,
        has_chat: true,
        created: 0,
    }
}

fn prepared(id: &str, inputs: &Value, family: Option<Family>) -> Prepared {
    let model = model(32_768);
    let facts = Facts { model: &model, family, current_date: "October 05, 2026", prompt_tokens_max: None };
    let card = lookup(id).expect("a known prompt");
    prepare(card, inputs.as_object().expect("an object"), &facts).expect("all inputs are there")
}

fn asked(id: &str, inputs: &Value) -> Box<Ask> {
    match prepared(id, inputs, None) {
        Prepared::Ask(ask) => ask,
        Prepared::Answer(answer) => panic!("no model was asked: {answer}"),
    }
}

/// What GitLab gets when the model writes `text`, and the note for the log.
fn said(id: &str, inputs: &Value, text: &str) -> (String, Option<&'static str>) {
    let mut whole = asked(id, inputs);
    let answer = shape_whole(whole.plan.shape.as_mut(), text, FinishReason::Stop);
    let mut streamed = asked(id, inputs);
    let mut pieces = String::new();
    for char in text.chars() {
        streamed.plan.shape.push(char.encode_utf8(&mut [0; 4]), &mut pieces);
    }
    streamed.plan.shape.finish(FinishReason::Stop, &mut pieces);
    assert_eq!(answer, pieces, "a stream differs from the whole: {text}");
    assert_eq!(whole.note.get(), streamed.note.get(), "{text}");
    (answer, whole.note.get())
}
