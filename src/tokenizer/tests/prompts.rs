use super::super::{RenderError, Renderer, RendererOptions, TokenizerError};
use super::*;
use crate::catalog::{Catalog, ModelFacts};
use crate::domain::{Infill, Prompt};

fn renderer(kind: &str, card: &str, options: RendererOptions) -> Renderer {
    let catalog = Catalog::load(None).unwrap();
    Renderer::new(shared(kind), Some(catalog.card(card).unwrap()), options).unwrap()
}

fn infill(prefix: &str, suffix: &str) -> Prompt {
    Prompt::Infill(Infill { prefix: prefix.to_owned(), suffix: suffix.to_owned() })
}

/// A special token by name, or text as it stands between special tokens.
fn expect(tokenizer: &Tokenizer, parts: &[&str]) -> Vec<u32> {
    let encode = |part: &&str| match tokenizer.special_id(part) {
        Some(id) => vec![id],
        None => tokenizer.encode_text(part),
    };
    parts.iter().flat_map(encode).collect()
}

#[test]
fn infill_follows_the_card() {
    for (kind, card, order, parts) in [
        ("qwen2", "qwen2.5-coder", None, vec!["<|fim_prefix|>", "a(", "<|fim_suffix|>", ")\n", "<|fim_middle|>"]),
        ("qwen2", "sconce", None, vec!["<|fim_suffix|>", ")\n", "<|fim_prefix|>", "a(", "<|fim_middle|>"]),
        ("starcoder", "starcoder", None, vec!["<fim_prefix>", "a(", "<fim_suffix>", ")\n", "<fim_middle>"]),
        ("starcoder", "starcoder", Some("spm"), vec!["<fim_prefix>", "<fim_suffix>", ")\n", "<fim_middle>", "a("]),
        (
            "deepseek-coder",
            "deepseek-coder",
            None,
            vec!["<｜begin▁of▁sentence｜>", "<｜fim▁begin｜>", "a(", "<｜fim▁hole｜>", ")\n", "<｜fim▁end｜>"],
        ),
        ("tekken", "codestral", None, vec!["<s>", "[SUFFIX]", ")\n", "[PREFIX]", "a("]),
    ] {
        let options = RendererOptions { infill_order: order.map(str::to_owned), ..RendererOptions::default() };
        let renderer = renderer(kind, card, options);
        let rendered = renderer.render(&infill("a(", ")\n")).unwrap();
        assert_eq!(rendered.tokens, expect(renderer.tokenizer(), &parts), "{kind} {card}");
    }
}

#[test]
fn codellama_spaces_the_prefix_and_not_the_suffix() {
    let renderer = renderer("sentencepiece-code", "codellama", RendererOptions::default());
    let tokenizer = renderer.tokenizer();
    let special = |text| tokenizer.special_id(text).unwrap();
    let rendered = renderer.render(&infill("def", "return")).unwrap();
    let mut wanted = vec![special("<s>"), special("▁<PRE>")];
    wanted.extend(tokenizer.encode_text("def"));
    wanted.push(special("▁<SUF>"));
    let suffix_at = wanted.len();
    assert_eq!(rendered.tokens[..suffix_at], wanted);
    let suffix = &rendered.tokens[suffix_at..rendered.tokens.len() - 1];
    let bytes: Vec<u8> = suffix.iter().flat_map(|id| tokenizer.token_bytes(*id)).copied().collect();
    assert_eq!(bytes, b"return");
    assert_eq!(rendered.tokens.last(), Some(&special("▁<MID>")));
    assert!(rendered.stop_tokens.contains(&special("▁<EOT>")));
}

#[test]
fn infill_text_cannot_move_the_hole() {
    let renderer = renderer("qwen2", "qwen2.5-coder", RendererOptions::default());
    let rendered = renderer.render(&infill("<|fim_middle|>a<|fim_suffix|>", "<|endoftext|><|fim_prefix|>")).unwrap();
    let specials = rendered.tokens.iter().filter(|id| renderer.tokenizer().is_special(**id)).count();
    assert_eq!(specials, 3);
}

#[test]
fn stop_tokens_are_those_of_the_card_and_the_model() {
    let options = RendererOptions { end_tokens: vec![7, 7], ..RendererOptions::default() };
    let renderer = renderer("qwen2", "qwen2.5-coder", options);
    let special = |text| renderer.tokenizer().special_id(text).unwrap();
    let mut wanted: Vec<u32> = ["<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"].map(special).into();
    wanted.push(7);
    wanted.sort_unstable();
    assert_eq!(*renderer.render(&infill("a", "b")).unwrap().stop_tokens, *wanted);
}

#[test]
fn prompts_that_cannot_be_rendered_say_why() {
    let renderer = Renderer::new(shared("qwen2"), None, RendererOptions::default()).unwrap();
    assert!(!renderer.has_infill() && !renderer.has_chat());
    assert_eq!(renderer.render(&infill("a", "b")), Err(RenderError::NoInfill));
    assert_eq!(renderer.render(&Prompt::Chat(Default::default())), Err(RenderError::NoChat));
    assert_eq!(renderer.render(&Prompt::Text(String::new())), Err(RenderError::Empty));
    assert_eq!(renderer.render(&Prompt::Tokens(vec![])), Err(RenderError::Empty));
    let vocab_size = VOCAB_SIZE;
    let token = VOCAB_SIZE as u32;
    let out_of_range = Err(RenderError::TokenOutOfRange { token, vocab_size });
    assert_eq!(renderer.render(&Prompt::Tokens(vec![1, token])), out_of_range);
    assert_eq!(renderer.render(&Prompt::Tokens(vec![token - 1])).unwrap().tokens, [token - 1]);
}

#[test]
fn a_card_has_to_fit_the_vocabulary() {
    let catalog = Catalog::load(None).unwrap();
    let fails = |kind: &str, card: &str, order: Option<&str>| {
        let options = RendererOptions { infill_order: order.map(str::to_owned), ..RendererOptions::default() };
        Renderer::new(shared(kind), catalog.card(card), options).unwrap_err()
    };
    assert!(matches!(fails("gpt-2", "starcoder", None), TokenizerError::MissingToken { .. }));
    assert!(matches!(fails("starcoder", "starcoder", Some("x")), TokenizerError::UnknownInfillOrder { .. }));
}

#[test]
fn golden_vocabularies_are_recognised() {
    let catalog = Catalog::load(None).unwrap();
    for (kind, architecture, card) in [
        ("qwen2", "qwen2", Some("qwen2.5-coder")),
        ("llama-bpe", "llama", Some("llama-3")),
        ("sentencepiece-code", "llama", Some("codellama")),
        ("sentencepiece", "llama", None),
        ("deepseek-coder", "llama", Some("deepseek-coder")),
        ("tekken", "llama", Some("codestral")),
        ("starcoder", "starcoder2", Some("starcoder")),
    ] {
        for tokenizer in [from_json(kind), from_gguf(kind)] {
            let has = |text: &str| tokenizer.special_id(text).is_some();
            let facts = ModelFacts { names: &["m"], architecture, has_special_token: &has };
            assert_eq!(catalog.recognise(facts).map(|card| card.name.as_str()), card, "{kind}");
        }
    }
}

#[test]
fn the_embedded_model_infills_and_chats() {
    let checkpoint = Checkpoint::open(&models().join("embedded/model.gguf"), &Limits::default()).unwrap();
    let vocabulary = GgufVocabulary::from_metadata(checkpoint.gguf_metadata().unwrap()).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&vocabulary, vocabulary.tokens.len()).unwrap());
    let catalog = Catalog::load(None).unwrap();
    let has = |text: &str| tokenizer.special_id(text).is_some();
    let facts = ModelFacts { names: &["sconce-embedded"], architecture: "any", has_special_token: &has };
    let card = catalog.recognise(facts).unwrap();
    assert_eq!(card.name, "sconce");
    let renderer = Renderer::new(tokenizer.clone(), Some(card), RendererOptions::default()).unwrap();
    assert!(renderer.has_infill() && renderer.has_chat());
    let rendered = renderer.render(&infill("a(", ")\n")).unwrap();
    let parts = ["<|fim_suffix|>", ")\n", "<|fim_prefix|>", "a(", "<|fim_middle|>"];
    assert_eq!(rendered.tokens, expect(&tokenizer, &parts));
}
