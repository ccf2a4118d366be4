use super::super::Detokenizer;
use super::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[test]
fn random_tokens_give_the_text_of_their_bytes() {
    for kind in ["qwen2", "sentencepiece"] {
        let tokenizer = shared(kind);
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..500 {
            let mut detokenizer = Detokenizer::new(tokenizer.clone());
            let mut bytes = Vec::new();
            let mut text = String::new();
            for _ in 0..random.random_range(0..40) {
                // Low ids are single bytes: most of these sequences are no UTF-8.
                let id_max = if random.random_bool(0.5) { 300 } else { VOCAB_SIZE as u32 };
                let id = random.random_range(0..id_max);
                if !tokenizer.is_special(id) {
                    bytes.extend_from_slice(tokenizer.token_bytes(id));
                }
                text += &detokenizer.push(id);
                assert!(detokenizer.pending_bytes() < 4);
            }
            text += &detokenizer.flush();
            assert_eq!(text, String::from_utf8_lossy(&bytes), "{kind}");
        }
    }
}

#[test]
fn characters_come_whole() {
    let tokenizer = shared("sentencepiece");
    let tokens = tokenizer.encode_text("x😀y");
    let mut detokenizer = Detokenizer::new(tokenizer.clone());
    let pieces: Vec<String> = tokens.iter().map(|id| detokenizer.push(*id)).collect();
    assert_eq!(pieces.concat(), " x😀y");
    assert!(pieces.contains(&"😀".to_owned()), "{pieces:?}");
    assert_eq!(detokenizer.flush(), "");
}

#[test]
fn special_tokens_have_no_text_but_a_name() {
    let tokenizer = shared("qwen2");
    let end = tokenizer.special_id("<|im_end|>").unwrap();
    assert!(tokenizer.is_special(end));
    assert_eq!(tokenizer.token_bytes(end), b"<|im_end|>");
    assert_eq!(Detokenizer::new(tokenizer.clone()).push(end), "");
    let unnamed = VOCAB_SIZE as u32 - 1;
    assert!(tokenizer.is_special(unnamed) && tokenizer.is_special(u32::MAX));
    assert_eq!(tokenizer.token_bytes(unnamed), b"");
    assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    assert_eq!(tokenizer.special_id("def"), None);
}
