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
// Escaped, because some of these characters do not survive an editor that normalises text.
const CJK: &str = "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const DEEPSEEK_LLM_WORDS: &str = "\\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}\
    \u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}\u{3A3}-\
    \u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\
    \u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\
    \u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\
    \u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\
    \u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\
    \u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\
    \u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\
    \u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\
    \u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\
    \u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+";
const DEEPSEEK_LLM_PUNCTUATION: &str =
    "\\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+";
const DEEPSEEK_V3_CJK: &str = "[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
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
