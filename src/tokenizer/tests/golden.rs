use super::super::encoder::Position;
use super::super::literals::Segment;
use super::super::{Detokenizer, Renderer, RendererOptions};
use super::*;
use crate::domain::Prompt;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Vectors {
    plain: Vec<Plain>,
    special: Vec<Special>,
    added: Vec<Added>,
    with_begin: WithBegin,
}

#[derive(Deserialize)]
struct Plain {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Special {
    text: String,
    parsed: Vec<u32>,
    as_text: Vec<u32>,
}

#[derive(Deserialize)]
struct Added {
    text: String,
    parsed: Vec<u32>,
}

#[derive(Deserialize)]
struct WithBegin {
    text: String,
    ids: Vec<u32>,
}

/// Special tokens in the text are recognised, as behind a chat template.
fn parse(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut position = Position::Beginning;
    for segment in tokenizer.control.split(text) {
        match segment {
            Segment::Token(id) => tokens.push(id),
            Segment::Text(text) => tokenizer.encode_into(text, position, &mut tokens),
        }
        position = Position::AfterToken;
    }
    tokens
}

fn check(kind: &str, source: &str, tokenizer: Tokenizer) {
    let vectors = std::fs::read(golden_folder(kind).join("vectors.json")).unwrap();
    let vectors: Vectors = serde_json::from_slice(&vectors).unwrap();
    for case in &vectors.plain {
        assert_eq!(tokenizer.encode_text(&case.text), case.ids, "{kind} {source} {:?}", case.text);
    }
    for case in &vectors.special {
        assert_eq!(tokenizer.encode_text(&case.text), case.as_text, "{kind} {source} {:?} as text", case.text);
        assert_eq!(parse(&tokenizer, &case.text), case.parsed, "{kind} {source} {:?} parsed", case.text);
    }
    for case in &vectors.added {
        assert_eq!(parse(&tokenizer, &case.text), case.parsed, "{kind} {source} {:?} parsed", case.text);
    }
    let tokenizer = Arc::new(tokenizer);
    for case in &vectors.plain {
        let mut detokenizer = Detokenizer::new(tokenizer.clone());
        let mut text: String = case.ids.iter().map(|id| detokenizer.push(*id)).collect();
        text += &detokenizer.flush();
        // The reference drops the space that SentencePiece put at the beginning; a completion has to keep its own.
        let text = if kind.starts_with("sentencepiece") { text.strip_prefix(' ').unwrap_or(&text) } else { &text };
        assert_eq!(text, case.decoded, "{kind} {source}");
    }
    let renderer = Renderer::new(tokenizer, None, RendererOptions::default()).unwrap();
    let rendered = renderer.render(&Prompt::Text(vectors.with_begin.text)).unwrap();
    assert_eq!(rendered.tokens, vectors.with_begin.ids, "{kind} {source}");
}

const KINDS: &[&str] = &[
    "deepseek-coder",
    "deepseek-llm",
    "gpt-2",
    "llama-bpe",
    "qwen2",
    "sentencepiece",
    "sentencepiece-code",
    "starcoder",
    "tekken",
];

#[test]
fn ids_from_tokenizer_json_are_those_of_the_reference() {
    for kind in KINDS {
        check(kind, "json", from_json(kind));
    }
}

#[test]
fn ids_from_gguf_are_those_of_the_reference() {
    for kind in KINDS {
        check(kind, "gguf", from_gguf(kind));
    }
}

#[test]
fn every_kind_on_disk_is_checked() {
    let mut on_disk: Vec<String> = std::fs::read_dir(models().join("golden/tokenizers"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    on_disk.sort();
    assert_eq!(on_disk, KINDS);
}

/// The embedded model's own vocabulary.
#[test]
fn the_embedded_vocabulary_gives_the_ids_of_the_reference() {
    #[derive(Deserialize)]
    struct Embedded {
        vectors: Vec<Encoded>,
    }
    #[derive(Deserialize)]
    struct Encoded {
        text: String,
        ids: Vec<u32>,
    }
    let folder = models().join("embedded");
    let checkpoint = Checkpoint::open(&folder.join("model.gguf"), &Limits::default()).unwrap();
    let vocabulary = GgufVocabulary::from_metadata(checkpoint.gguf_metadata().unwrap()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&vocabulary, vocabulary.tokens.len()).unwrap();
    let embedded: Embedded =
        serde_json::from_slice(&std::fs::read(folder.join("tokenizer_vectors.json")).unwrap()).unwrap();
    assert!(!embedded.vectors.is_empty());
    for case in embedded.vectors {
        assert_eq!(tokenizer.encode_text(&case.text), case.ids, "{:?}", case.text);
    }
}

/// Ways of writing a tokenizer that no golden vocabulary uses, against the library itself.
#[test]
fn other_normalisers_and_pre_tokenizers_agree_with_the_library() {
    let metaspace = |scheme: &str, split: bool| {
        json!({"normalizer": null, "pre_tokenizer":
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}})
    };
    let normaliser = |kind: &str| json!({"normalizer": {"type": kind}});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let steps =
        |step: Value| json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [step, byte_level.clone()]}});
    let split = |behavior: &str, invert: bool| {
        let pattern = json!({"Regex": r" ?\p{L}+|\p{N}"});
        steps(json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}))
    };
    let marked = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let lowered = json!({"type": "Replace", "pattern": {"String": "e"}, "content": "a"});
    let replaced = json!({"normalizer": {"type": "Sequence", "normalizers": [lowered, marked]}});
    let digits = |individual: bool| steps(json!({"type": "Digits", "individual_digits": individual}));
    let cases = [
        ("sentencepiece", metaspace("first", false)),
        ("sentencepiece", metaspace("first", true)),
        ("sentencepiece", metaspace("always", false)),
        ("sentencepiece", metaspace("always", true)),
        ("sentencepiece", metaspace("never", false)),
        ("sentencepiece", replaced),
        ("qwen2", normaliser("NFD")),
        ("qwen2", normaliser("NFKC")),
        ("qwen2", normaliser("NFKD")),
        ("qwen2", split("Isolated", false)),
        ("qwen2", split("Isolated", true)),
        ("qwen2", split("Removed", true)),
        ("qwen2", digits(true)),
        ("qwen2", digits(false)),
    ];
    for (kind, change) in cases {
        let mut file: Value =
            serde_json::from_slice(&std::fs::read(golden_folder(kind).join("tokenizer.json")).unwrap()).unwrap();
        for (key, value) in change.as_object().unwrap() {
            file[key] = value.clone();
        }
        let bytes = serde_json::to_vec(&file).unwrap();
        let ours = Tokenizer::from_json(JsonFiles { tokenizer: &bytes, ..JsonFiles::default() }, VOCAB_SIZE).unwrap();
        let mut theirs = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
        let vectors = std::fs::read(golden_folder(kind).join("vectors.json")).unwrap();
        let vectors: Vectors = serde_json::from_slice(&vectors).unwrap();
        for text in vectors.plain.iter().map(|case| &case.text).chain(vectors.special.iter().map(|case| &case.text)) {
            theirs.set_encode_special_tokens(false);
            let wanted = theirs.encode(text.as_str(), false).unwrap();
            assert_eq!(parse(&ours, text), wanted.get_ids(), "{kind} {change} {text:?} parsed");
            if vectors.plain.iter().any(|case| case.text == *text) {
                assert_eq!(ours.encode_text(text), wanted.get_ids(), "{kind} {change} {text:?}");
            }
        }
    }
}
