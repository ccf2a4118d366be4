//! The model inside the binary, held to what its training code recorded when it exported it.

use std::path::{Path, PathBuf};

use sconce::tokenizer::{GgufVocabulary, Tokenizer};
use serde::Deserialize;

use crate::check::{self, Model};
use crate::golden;

/// Activations are rounded to eight bits; 6.5e-3 was measured.
const TOLERANCE: f32 = 1.5e-2;

#[derive(Deserialize)]
struct Recorded {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    dequantised: Outputs,
}

/// What the reference computes from the weights as they are in the file.
#[derive(Deserialize)]
struct Outputs {
    greedy: Vec<u32>,
    top_tokens: Vec<u32>,
    top_logits: Vec<f32>,
}

#[derive(Deserialize)]
struct TokenizerVectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    text: String,
    ids: Vec<u32>,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/embedded").join(name)
}

#[test]
fn logits_and_greedy_tokens() {
    let recorded: Recorded = golden::read(&file("golden.json"));
    let mut model = Model::load(&file("model.gguf")).unwrap();
    let mut worst = 0.0_f32;
    for prompt in &recorded.prompts {
        let want = &prompt.dequantised;
        let mut row = model.logits(&prompt.ids).pop().unwrap();
        let got: Vec<f32> = want.top_tokens.iter().map(|token| row[*token as usize]).collect();
        let difference = check::relative_difference(&got, &want.top_logits);
        assert!(difference <= TOLERANCE, "prompt of {} tokens: logits differ by {difference:.2e}", prompt.ids.len());
        worst = worst.max(difference);
        for (step, token) in want.greedy.iter().enumerate() {
            // The recorded token is the best, or so near to it that rounding may have turned the two around.
            let best = row[check::argmax(&row) as usize];
            let behind = (best - row[*token as usize]) / best.abs();
            assert!(behind <= 2.0 * TOLERANCE, "step {step} of a prompt of {} tokens: {behind:.2e}", prompt.ids.len());
            row = model.decode(*token).remove(0);
        }
    }
    println!("embedded model: {worst:.2e}");
}

#[test]
fn tokenizer() {
    let recorded: TokenizerVectors = golden::read(&file("tokenizer_vectors.json"));
    let checkpoint = check::open(&file("model.gguf")).unwrap();
    let vocabulary = GgufVocabulary::from_metadata(checkpoint.gguf_metadata().unwrap()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&vocabulary, vocabulary.tokens.len()).unwrap();
    for vector in &recorded.vectors {
        assert_eq!(tokenizer.encode_text(&vector.text), vector.ids, "{:?}", vector.text);
    }
}
