//! What the families of GitLab's table ask of a completion.

use crate::feature::Family;

/// The most tokens a family's completion has. Unknown families have the default's.
pub fn max_tokens(family: Option<Family>) -> usize {
    match family {
        Some(Family::Codestral | Family::Mistral | Family::Mixtral | Family::Llama3 | Family::Gpt) => 64,
        Some(
            Family::CodeGemma
            | Family::CodeLlama
            | Family::DeepSeekCoder
            | Family::Claude3
            | Family::General
            | Family::Gemini
            | Family::Qwen,
        )
        | None => 128,
    }
}

/// Control tokens that a family may write out as text: the answer ends before them.
///
/// A blank line is none, though GitLab's cloud stops one model at it: functions have blank lines, and the shape of the
/// answer ends a block where it ends.
pub fn stop(family: Option<Family>) -> &'static [&'static str] {
    match family {
        Some(Family::Codestral | Family::Mistral | Family::Mixtral) => {
            &["[INST]", "[/INST]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"]
        }
        Some(Family::CodeGemma) => &["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_separator|>"],
        Some(Family::CodeLlama) => &["<PRE>", "<SUF>", "<MID>", "<EOT>"],
        Some(Family::Qwen) => &[
            "<|fim_prefix|>",
            "<|fim_suffix|>",
            "<|fim_middle|>",
            "<|fim_pad|>",
            "<|repo_name|>",
            "<|file_sep|>",
            "<|im_start|>",
            "<|im_end|>",
        ],
        Some(
            Family::DeepSeekCoder | Family::Llama3 | Family::Gpt | Family::Claude3 | Family::General | Family::Gemini,
        )
        | None => &[],
    }
}
