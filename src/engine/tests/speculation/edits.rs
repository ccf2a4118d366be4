//! How many tokens a step yields where a model edits code that its prompt shows: functions of this repository with one
//! name changed, written a second time with another name and a line more, or moved behind their neighbour. The device
//! is taught the edited text, so that what is counted is the guessing alone and not a small model's taste for
//! repetition.

use super::*;
use crate::engine::{Source, open};
use crate::tokenizer::GgufVocabulary;

const FILES: [&str; 6] = [
    "src/scheduler/queue.rs",
    "src/scheduler/config.rs",
    "src/tokenizer/stop.rs",
    "src/engine/batch.rs",
    "src/sampler/mod.rs",
    "src/nn/decoder.rs",
];

/// A tokenizer trained on code, with 8,192 tokens.
fn code_tokenizer() -> Arc<Tokenizer> {
    let checkpoint = open(&Source::Embedded).expect("the embedded model");
    let metadata = checkpoint.gguf_metadata().expect("a GGUF file");
    let vocabulary = GgufVocabulary::from_metadata(metadata).expect("a vocabulary");
    Arc::new(Tokenizer::from_gguf(&vocabulary, 8192).expect("loads"))
}

/// The functions of a file, from signature to closing brace.
fn functions(source: &str) -> Vec<String> {
    let mut functions = Vec::new();
    let lines: Vec<&str> = source.lines().collect();
    for (first, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        if !(trimmed.starts_with("pub fn ") || trimmed.starts_with("fn ")) {
            continue;
        }
        let closing = format!("{}}}", &line[..line.len() - trimmed.len()]);
        if let Some(len) = lines[first..].iter().position(|line| **line == closing) {
            functions.push(lines[first..=first + len].join("\n") + "\n");
        }
    }
    functions.into_iter().filter(|function| (6..60).contains(&function.lines().count())).collect()
}

/// The longest name that a function uses more than once.
fn repeated_name(function: &str) -> Option<&str> {
    let names = function.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    names.filter(|name| name.len() > 4 && function.matches(name).count() > 1).max_by_key(|name| name.len())
}

fn renamed(function: &str, _: &str) -> Option<String> {
    repeated_name(function).map(|name| function.replace(name, "renamed_thing"))
}

fn written_again(function: &str, _: &str) -> Option<String> {
    let name = function.split("fn ").nth(1)?.split(['(', '<']).next()?;
    let (signature, body) =
        function.replacen(name, "another_one", 1).split_once("{\n").map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    Some(format!("{signature}{{\n        tracing::debug!(\"again\");\n{body}"))
}

fn moved(function: &str, next: &str) -> Option<String> {
    Some(format!("{next}\n{function}"))
}

type Edit = fn(&str, &str) -> Option<String>;

/// Tokens per step over all functions of all files.
fn tokens_per_step(tokenizer: &Arc<Tokenizer>, edit: Edit) -> f64 {
    let (mut tokens, mut steps) = (0, 0);
    for file in FILES {
        let source = std::fs::read_to_string(file).expect("a file of this repository");
        let functions = functions(&source);
        for (index, function) in functions.iter().enumerate() {
            let next = functions.get(index + 1).unwrap_or(&functions[0]);
            let Some(edited) = edit(function, next) else { continue };
            let prompt = tokenizer.encode_text(&format!("{source}\n// The same, edited:\n"));
            let answer = tokenizer.encode_text(&edited);
            let tokenizer = Arc::clone(tokenizer);
            let lesson = Lesson { config: roomy(), vocab: 8192, tokenizer, texts: vec![(prompt, answer.clone())] };
            let on = lesson.run(24, &|_| Ask::default());
            assert_eq!(on.answers, [(edited, Some(FinishReason::Length))], "{file}");
            tokens += answer.len();
            steps += on.sampling_steps;
        }
    }
    println!("{tokens} tokens in {steps} steps");
    assert!(tokens > 3_000, "{tokens} tokens are too few to prove anything");
    tokens as f64 / steps as f64
}

#[test]
fn edits_of_this_repositorys_functions_come_three_tokens_a_step() {
    let tokenizer = code_tokenizer();
    for (name, edit) in [("renamed", renamed as Edit), ("written again", written_again), ("moved", moved)] {
        let reached = tokens_per_step(&tokenizer, edit);
        println!("{name}: {reached:.2} tokens a step");
        assert!(reached >= 3.0, "{name}: {reached:.2} tokens a step");
    }
}
