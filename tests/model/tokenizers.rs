//! Every kind of tokenizer gives the reference's ids, from `tokenizer.json` and from GGUF, and back to the same text.

use std::sync::Arc;

use sconce::checkpoint::Checkpoint;
use sconce::domain::{Chat, Message, Prompt, Role};
use sconce::tokenizer::{Detokenizer, GgufVocabulary, JsonFiles, Renderer, RendererOptions, Tokenizer};

use crate::golden::{self, FAMILIES, GGUF_FILES, Vectors};
use crate::{bytes, check};

const KINDS: &[&str] = &[
    "llama-bpe",
    "qwen2",
    "deepseek-coder",
    "deepseek-llm",
    "starcoder",
    "tekken",
    "gpt-2",
    "sentencepiece",
    "sentencepiece-code",
];
const VOCAB: usize = 1024;

fn from_json(kind: &str) -> Tokenizer {
    let bytes = std::fs::read(golden::tokenizer(kind).join("tokenizer.json")).unwrap();
    let files = JsonFiles { tokenizer: &bytes, ..JsonFiles::default() };
    Tokenizer::from_json(files, VOCAB).unwrap_or_else(|error| panic!("{kind}: {error}"))
}

fn from_gguf(checkpoint: &Checkpoint, name: &str) -> Tokenizer {
    let vocabulary = GgufVocabulary::from_metadata(checkpoint.gguf_metadata().unwrap());
    let vocabulary = vocabulary.unwrap_or_else(|error| panic!("{name}: {error}"));
    Tokenizer::from_gguf(&vocabulary, VOCAB).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn decode(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> String {
    let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer));
    let mut text: String = ids.iter().map(|id| detokenizer.push(*id)).collect();
    text.push_str(&detokenizer.flush());
    text
}

/// Holds one tokenizer to the vectors of its kind; collects every difference before it fails.
fn check(name: &str, tokenizer: Tokenizer, vectors: &Vectors, drops_first_space: bool) {
    let tokenizer = Arc::new(tokenizer);
    let mut wrong = Vec::new();
    for case in &vectors.plain {
        let ids = tokenizer.encode_text(&case.text);
        if ids != case.ids {
            wrong.push(format!("{:?}: {ids:?}, expected {:?}", case.text, case.ids));
            continue;
        }
        let mut decoded = decode(&tokenizer, &ids);
        if drops_first_space && decoded.starts_with(' ') {
            decoded.remove(0);
        }
        if decoded != case.decoded {
            wrong.push(format!("{:?}: decoded as {decoded:?}, expected {:?}", case.text, case.decoded));
        }
    }
    for case in &vectors.special {
        let ids = tokenizer.encode_text(&case.text);
        if ids != case.as_text {
            wrong.push(format!("{:?} as text: {ids:?}, expected {:?}", case.text, case.as_text));
        }
        if let ([id], [_, _, ..]) = (&case.parsed[..], &case.as_text[..])
            && tokenizer.special_id(&case.text) != Some(*id)
        {
            wrong.push(format!("{:?} is not known as the special token {id}", case.text));
        }
    }
    for case in &vectors.added {
        // The reference recognises these anywhere; here text from users never becomes a marker.
        let ids = tokenizer.encode_text(&case.text);
        if let Some(id) = ids.iter().find(|id| tokenizer.is_special(**id)) {
            wrong.push(format!("{:?}: text became the special token {id}", case.text));
        }
        if decode(&tokenizer, &ids).trim_start() != case.text {
            wrong.push(format!("{:?} does not come back as itself", case.text));
        }
    }
    let begin = [tokenizer.begin_tokens(), &tokenizer.encode_text(&vectors.with_begin.text)].concat();
    if begin != vectors.with_begin.ids {
        wrong.push(format!("with its begin tokens {begin:?}, expected {:?}", vectors.with_begin.ids));
    }
    assert!(wrong.is_empty(), "{name}: {} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn json_vectors() {
    for kind in KINDS {
        check(kind, from_json(kind), &golden::vectors(kind), kind.starts_with("sentencepiece"));
    }
}

#[test]
fn gguf_vectors() {
    for kind in KINDS {
        let checkpoint = check::open(&golden::tokenizer(kind).join("tokenizer.gguf")).unwrap();
        let tokenizer = from_gguf(&checkpoint, kind);
        check(&format!("{kind} in GGUF"), tokenizer, &golden::vectors(kind), kind.starts_with("sentencepiece"));
    }
}

/// Both tokenizers of a family render the recorded conversation to the recorded ids.
fn check_chat(name: &str, tokenizer: Tokenizer, golden: &golden::Chat) {
    let renderer = Renderer::new(Arc::new(tokenizer), None, RendererOptions::default()).unwrap();
    let messages = golden.messages.iter().map(|message| Message {
        role: match message.role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => panic!("{name}: a message of {other}"),
        },
        content: message.content.clone(),
    });
    let prompt = Prompt::Chat(Chat { messages: messages.collect(), ..Chat::default() });
    let rendered = renderer.render(&prompt).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(rendered.tokens, golden.ids, "{name}: {:?}", golden.text);
}

#[test]
fn chats_of_folders() {
    for family in FAMILIES {
        let checkpoint = check::open(&golden::folder(family)).unwrap();
        let files = JsonFiles {
            tokenizer: checkpoint.file("tokenizer.json").unwrap(),
            config: checkpoint.file("tokenizer_config.json"),
            chat_template: checkpoint.file("chat_template.jinja"),
        };
        let tokenizer = Tokenizer::from_json(files, VOCAB).unwrap_or_else(|error| panic!("{family}: {error}"));
        check_chat(family, tokenizer, &golden::of_family(family).chat.unwrap());
    }
}

#[test]
fn chats_of_gguf() {
    for (file, family) in GGUF_FILES {
        let checkpoint = check::open(&golden::gguf(file)).unwrap();
        check_chat(file, from_gguf(&checkpoint, file), &golden::of_family(family).chat.unwrap());
    }
}

/// A vocabulary that asks for a split nobody knows is refused, and so is one that does not say.
#[test]
fn unknown_pre_tokenizers_are_refused() {
    let whole = std::fs::read(golden::tokenizer("qwen2").join("tokenizer.gguf")).unwrap();
    let refusal = |from: &[u8], to: &[u8]| {
        let at = bytes::find(&whole, from);
        let mut changed = whole.clone();
        changed[at..at + to.len()].copy_from_slice(to);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, changed).unwrap();
        let checkpoint = check::open(&path).unwrap();
        let vocabulary = GgufVocabulary::from_metadata(checkpoint.gguf_metadata().unwrap());
        let tokenizer = vocabulary.and_then(|vocabulary| Tokenizer::from_gguf(&vocabulary, VOCAB));
        tokenizer.expect_err("an unknown pre-tokenizer").to_string()
    };
    let pre = [b"tokenizer.ggml.pre".as_slice(), &[8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], b"qwen2"].concat();
    let unknown = [&pre[..pre.len() - 5], b"qwen9"].concat();
    assert!(refusal(&pre, &unknown).contains("qwen9"));
    assert!(refusal(b"tokenizer.ggml.pre", b"tokenizer.ggml.prx").contains("tokenizer.ggml.pre"));
    assert!(refusal(b"gpt2", b"bert").contains("bert"));
}
