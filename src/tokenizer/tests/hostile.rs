use super::super::TokenizerError;
use super::*;
use serde_json::{Value, json};

/// A small valid tokenizer, changed by `change`.
fn load(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, TokenizerError> {
    load_with_config(change, None)
}

fn load_with_config(change: impl FnOnce(&mut Value), config: Option<&str>) -> Result<Tokenizer, TokenizerError> {
    let mut file = json!({
        "added_tokens": [{"id": 5, "content": "<end>", "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "post_processor": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<": 3, "end>": 4}, "merges": ["a b"]},
    });
    change(&mut file);
    let tokenizer = serde_json::to_vec(&file).unwrap();
    let files = JsonFiles { tokenizer: &tokenizer, config: config.map(str::as_bytes), chat_template: None };
    Tokenizer::from_json(files, 8)
}

#[test]
fn merges_have_to_make_tokens() {
    assert_eq!(load(|_| ()).unwrap().encode_text("abba"), [2, 1, 0]);
    for merges in
        [json!(["ab ab"]), json!(["a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]), json!([["ab", "b"]]), json!(["x y"])]
    {
        let loaded = load(|file| file["model"]["merges"] = merges.clone());
        assert!(matches!(loaded, Err(TokenizerError::BadMerge { rank: 0, .. })), "{merges} {loaded:?}");
    }
    for merges in [json!(["ab"]), json!(["a b c"])] {
        let loaded = load(|file| file["model"]["merges"] = merges);
        assert!(matches!(loaded, Err(TokenizerError::MalformedMerge { rank: 0, .. })));
    }
}

#[test]
fn no_text_merges_into_a_control_token() {
    let tokenizer = load(|file| {
        file["model"]["vocab"]["<end>"] = json!(5);
        file["model"]["merges"] = json!([["<", "end>"], ["a", "b"]]);
        file["model"]["ignore_merges"] = json!(true);
    });
    let tokenizer = tokenizer.unwrap();
    assert!(!tokenizer.encode_text("<end><<end>").contains(&5));
    assert_eq!(tokenizer.special_id("<end>"), Some(5));
}

#[test]
fn ids_are_unique_and_within_the_model() {
    let loaded = load(|file| file["model"]["vocab"]["c"] = json!(8));
    assert!(matches!(loaded, Err(TokenizerError::IdOutOfRange { id: 8, vocab_size: 8, .. })));
    let loaded = load(|file| file["added_tokens"][0]["id"] = json!(4_000_000_000u32));
    assert!(matches!(loaded, Err(TokenizerError::IdOutOfRange { .. })));
    let loaded = load(|file| file["added_tokens"][0]["id"] = json!(0));
    assert!(matches!(loaded, Err(TokenizerError::DuplicateId { id: 0, .. })));
    let loaded = load(|file| file["added_tokens"][0]["content"] = json!("a"));
    assert!(matches!(loaded, Err(TokenizerError::ConflictingId { first: 0, second: 5, .. })));
    let loaded = load(|file| file["added_tokens"][0]["id"] = json!(-1));
    assert!(matches!(loaded, Err(TokenizerError::Json { .. })));
    let loaded = load(|file| {
        file["added_tokens"] = json!([]);
        file["model"]["vocab"] = json!({});
        file["model"]["merges"] = json!([]);
    });
    assert!(matches!(loaded, Err(TokenizerError::EmptyVocabulary)));
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Value), wanted: &str| {
        let error = load(change).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refused(&|file| file["model"] = json!({"type": "Unigram", "vocab": [["a", 0.0]]}), "Unigram");
    refused(&|file| file["model"]["dropout"] = json!(0.1), "dropout");
    refused(&|file| file["model"]["end_of_word_suffix"] = json!("</w>"), "end_of_word_suffix");
    refused(&|file| file["model"]["unk_token"] = json!("<unk>"), "<unk>");
    refused(&|file| file["normalizer"] = json!({"type": "Precompiled"}), "Precompiled");
    refused(&|file| file["normalizer"] = json!({"type": "Prepend", "prepend": "x"}), "Prepend");
    refused(&|file| file["pre_tokenizer"] = Value::Null, "pre_tokenizer");
    refused(&|file| file["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}), "FixedLength");
    refused(&|file| file["pre_tokenizer"]["add_prefix_space"] = json!(true), "add_prefix_space");
    refused(
        &|file| {
            let split = json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"});
            file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [split]});
        },
        "pattern",
    );
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1 << 20)});
    refused(&|file| file["normalizer"] = replace.clone(), "times as long");
    let step = json!({"type": "NFC"});
    let steps: Vec<&Value> = std::iter::repeat_n(&step, 100).collect();
    refused(&|file| file["normalizer"] = json!({"type": "Sequence", "normalizers": steps}), "steps");
}

#[test]
fn broken_files_are_errors() {
    let load = |bytes: &[u8]| Tokenizer::from_json(JsonFiles { tokenizer: bytes, ..Default::default() }, 8);
    let deep = "[".repeat(100_000);
    for bytes in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", b"{\"model\": {}}", deep.as_bytes()] {
        assert!(matches!(load(bytes), Err(TokenizerError::Json { .. })));
    }
}

#[test]
fn a_slow_pattern_ends() {
    let slow = json!({"type": "Split", "pattern": {"Regex": "(?=(a+)+$)(a|aa)+$"}, "behavior": "Isolated"});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
    let loaded = load(|file| {
        file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [slow, byte_level]});
    });
    let text = "a".repeat(60) + "<";
    assert_eq!(loaded.unwrap().encode_text(&text).len(), 61);
}

#[test]
fn the_configuration_decides_about_the_begin_token() {
    let begin = |config: &str| {
        let loaded = load_with_config(|_| (), Some(config)).unwrap();
        (loaded.begin_tokens().to_vec(), loaded.end_tokens().to_vec())
    };
    assert_eq!(begin(r#"{"bos_token": "<end>", "eos_token": {"content": "<end>"}}"#), (vec![], vec![5]));
    assert_eq!(begin(r#"{"bos_token": "<end>", "add_bos_token": true}"#), (vec![5], vec![]));
    assert_eq!(begin(r#"{"bos_token": "<end>", "tokenizer_class": "LlamaTokenizerFast"}"#), (vec![5], vec![]));
    assert_eq!(begin(r#"{"bos_token": "<none>", "tokenizer_class": "LlamaTokenizer"}"#), (vec![], vec![]));
    let templates = r#"{"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    assert_eq!(load_with_config(|_| (), Some(templates)).unwrap().chat_template(), Some("d"));
}

fn gguf(change: impl FnOnce(&mut GgufVocabulary<'_>)) -> Result<Tokenizer, TokenizerError> {
    let tokens: Vec<String> = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "▁a", "s>", "</"].map(String::from).into();
    let types = [2, 3, 3, 6, 1, 1, 1, 1, 1];
    let scores = [0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0];
    let mut vocabulary = GgufVocabulary {
        model: "llama",
        tokens: &tokens,
        token_types: &types,
        scores: Some(&scores),
        ..GgufVocabulary::default()
    };
    change(&mut vocabulary);
    Tokenizer::from_gguf(&vocabulary, 9)
}

#[test]
fn gguf_vocabularies_are_checked() {
    let tokenizer = gguf(|_| ()).unwrap();
    assert_eq!(tokenizer.encode_text("a a\n"), [6, 6, 3]);
    assert!(!tokenizer.encode_text("</s>").contains(&2));
    assert_eq!((tokenizer.begin_tokens(), tokenizer.end_tokens()), (&[1][..], &[2][..]));
    assert!(matches!(gguf(|gguf| gguf.model = "bert"), Err(TokenizerError::UnknownModel { .. })));
    assert!(matches!(gguf(|gguf| gguf.token_types = &[1]), Err(TokenizerError::LengthMismatch { found: 1, .. })));
    assert!(matches!(gguf(|gguf| gguf.scores = Some(&[])), Err(TokenizerError::LengthMismatch { found: 0, .. })));
    assert!(matches!(gguf(|gguf| gguf.scores = None), Err(TokenizerError::Metadata { .. })));
    assert!(matches!(gguf(|gguf| gguf.eos = Some(9)), Err(TokenizerError::IdOutOfRange { id: 9, .. })));
    assert!(matches!(gguf(|gguf| gguf.model = "gpt2"), Err(TokenizerError::MissingPreTokenizer { .. })));
    assert!(gguf(|gguf| gguf.scores = Some(&[f32::NAN; 9])).is_ok());
}
