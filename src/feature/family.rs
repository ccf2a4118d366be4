//! Families: what an administrator calls a self-hosted model in GitLab. A family chooses prompts, not weights.

/// The families that GitLab offers, and those its gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    Mistral,
    Mixtral,
    Codestral,
    Llama3,
    CodeLlama,
    CodeGemma,
    DeepSeekCoder,
    Gpt,
    Claude3,
    General,
    Gemini,
    Qwen,
}

impl Family {
    const NAMES: &[(&str, Self)] = &[
        ("mistral", Self::Mistral),
        ("mixtral", Self::Mixtral),
        ("codestral", Self::Codestral),
        ("codestral-2501", Self::Codestral),
        ("codestral-2508", Self::Codestral),
        ("llama3", Self::Llama3),
        ("codellama", Self::CodeLlama),
        ("codegemma", Self::CodeGemma),
        ("deepseekcoder", Self::DeepSeekCoder),
        ("gpt", Self::Gpt),
        ("claude_3", Self::Claude3),
        ("general", Self::General),
        ("gemini", Self::Gemini),
        ("qwen", Self::Qwen),
        ("qwen2p5-coder-7b", Self::Qwen),
    ];

    /// The family GitLab calls `name`; `None` for names no version of GitLab sends.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family)
    }

    /// Models of this family write `\_` where they mean `_`.
    pub fn escapes_underscores(self) -> bool {
        self == Self::Mixtral
    }
}
