//! The alphabet of byte-level BPE: every byte has a visible character. Source: the encoder of GPT-2.

use std::sync::LazyLock;

/// Characters from here on stand for the bytes that have no visible Latin-1 character of their own.
const FIRST_SUBSTITUTE: u32 = 0x100;

struct Alphabet {
    chars: [char; 256],
    /// By code point; the alphabet ends at U+0143.
    bytes: [Option<u8>; 0x144],
}

static ALPHABET: LazyLock<Alphabet> = LazyLock::new(|| {
    let mut alphabet = Alphabet { chars: ['\0'; 256], bytes: [None; 0x144] };
    let mut substitute = FIRST_SUBSTITUTE;
    for byte in 0..=255u8 {
        let stands_for_itself = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if stands_for_itself {
            u32::from(byte)
        } else {
            substitute += 1;
            substitute - 1
        };
        alphabet.chars[usize::from(byte)] = char::from_u32(code).expect("below the surrogates");
        alphabet.bytes[code as usize] = Some(byte);
    }
    alphabet
});

/// Appends the characters that stand for `text`'s bytes.
pub(super) fn encode_into(text: &str, out: &mut String) {
    let chars = &ALPHABET.chars;
    out.extend(text.bytes().map(|byte| chars[usize::from(byte)]));
}

/// Appends the bytes a token stands for; `false`, and nothing appended, if a character is not of the alphabet.
pub(super) fn decode_into(token: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    for char in token.chars() {
        match ALPHABET.bytes.get(char as usize).copied().flatten() {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                return false;
            }
        }
    }
    true
}

/// `<0x0A>` and the like, the byte tokens of SentencePiece.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(hex, 16).expect("two hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_goes_there_and_back() {
        for byte in 0..=255u8 {
            let char = ALPHABET.chars[usize::from(byte)];
            let mut bytes = Vec::new();
            assert!(decode_into(&char.to_string(), &mut bytes));
            assert_eq!(bytes, [byte]);
        }
        let mut text = String::new();
        encode_into(" a\n", &mut text);
        assert_eq!(text, "ĠaĊ");
        assert!(!decode_into("日", &mut Vec::new()));
    }

    #[test]
    fn byte_tokens_are_two_hexadecimal_digits() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        for text in ["<0x>", "<0x+1>", "<0x123>", "0x0A", "<0x0G>"] {
            assert_eq!(byte_token(text), None, "{text}");
        }
    }
}
