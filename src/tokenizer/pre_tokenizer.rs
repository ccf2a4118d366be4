//! How vocabularies named in GGUF files split text: the values of `tokenizer.ggml.pre`.
//!
//! The patterns are those of the published `tokenizer.json` files, which are the reference; where the common converter
//! gives two families one name they split alike.

use super::TokenizerError;
use super::encoder::{Normalisation, Split};

/// The pattern of GPT-2, also what `ByteLevel` splits by where no other pattern is given.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CJK: &str = "[一-龥ࠀ-一가-퟿]+";
const DEEPSEEK_LLM_WORDS: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_LLM_PUNCTUATION: &str = "\\s?[!-/:-~！-／：-～‘-‟　-。]+";
const DEEPSEEK_V3_CJK: &str = "[一-龥぀-ゟ゠-ヿ]+";
const DEEPSEEK_V3_WORDS: &str = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

/// One way to split, and what else goes with its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct PreTokenizer {
    names: &'static [&'static str],
    steps: &'static [Step],
    /// A word that is a token as a whole is not merged.
    pub ignore_merges: bool,
    /// Whether text begins with the begin token where the file does not say.
    pub add_bos: bool,
    is_nfc: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pattern(&'static str),
    EachDigit,
}

use Step::{EachDigit, Pattern};

const fn plain(names: &'static [&'static str], steps: &'static [Step]) -> PreTokenizer {
    PreTokenizer { names, steps, ignore_merges: false, add_bos: false, is_nfc: false }
}

const KNOWN: &[PreTokenizer] = &[
    PreTokenizer {
        ignore_merges: true,
        add_bos: true,
        ..plain(&["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"], &[Pattern(LLAMA3)])
    },
    plain(&["smaug-bpe", "dbrx"], &[Pattern(LLAMA3)]),
    PreTokenizer { is_nfc: true, ..plain(&["qwen2", "deepseek-r1-qwen", "megrez"], &[Pattern(QWEN2)]) },
    plain(&["stablelm2"], &[Pattern(QWEN2)]),
    PreTokenizer { ignore_merges: true, add_bos: true, ..plain(&["tekken"], &[Pattern(TEKKEN)]) },
    plain(
        &["deepseek-coder"],
        &[Pattern("[\r\n]"), Pattern(r"\s?\p{L}+"), Pattern(r"\s?\p{P}+"), Pattern(CJK), EachDigit],
    ),
    plain(
        &["deepseek-llm"],
        &[
            Pattern("[\r\n]"),
            Pattern(DEEPSEEK_LLM_WORDS),
            Pattern(DEEPSEEK_LLM_PUNCTUATION),
            Pattern(r"\s+$"),
            Pattern(CJK),
            Pattern(r"\p{N}+"),
        ],
    ),
    plain(&["deepseek-v3"], &[Pattern(r"\p{N}{1,3}"), Pattern(DEEPSEEK_V3_CJK), Pattern(DEEPSEEK_V3_WORDS)]),
    plain(&["starcoder", "refact", "command-r", "smollm", "codeshell"], &[EachDigit, Pattern(GPT2)]),
    plain(&["gpt-2", "phi-2", "olmo", "mellum", "exaone4"], &[Pattern(GPT2)]),
];

/// Errors if the name is not in the table: a wrong split gives worse answers that nobody would trace back.
pub(super) fn by_name(name: Option<&str>) -> Result<&'static PreTokenizer, TokenizerError> {
    let known = || KNOWN.iter().flat_map(|known| known.names).copied().collect::<Vec<_>>().join(", ");
    let Some(name) = name else { return Err(TokenizerError::MissingPreTokenizer { known: known() }) };
    KNOWN
        .iter()
        .find(|pre_tokenizer| pre_tokenizer.names.contains(&name))
        .ok_or_else(|| TokenizerError::UnknownPreTokenizer { found: name.to_owned(), known: known() })
}

impl PreTokenizer {
    pub(super) fn splits(&self) -> Result<Vec<Split>, TokenizerError> {
        self.steps
            .iter()
            .map(|step| match step {
                Pattern(pattern) => Split::pattern(pattern, true),
                EachDigit => Ok(Split::Digits { individual: true }),
            })
            .collect()
    }

    pub(super) fn normalisation(&self) -> Vec<Normalisation> {
        if self.is_nfc { vec![Normalisation::Nfc] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_pattern_compiles_and_names_are_unique() {
        let mut names: Vec<&str> = Vec::new();
        for pre_tokenizer in KNOWN {
            pre_tokenizer.splits().unwrap();
            names.extend(pre_tokenizer.names);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn unknown_names_are_errors_that_list_the_known() {
        let error = by_name(Some("bpe-of-tomorrow")).unwrap_err().to_string();
        assert!(error.contains("bpe-of-tomorrow") && error.contains("qwen2") && error.contains("tekken"), "{error}");
        assert!(by_name(None).unwrap_err().to_string().contains("tokenizer.ggml.pre"));
    }
}
