//! Which of several lanes answers, and what became of the others.

use super::GenerateError;
use std::fmt;
use std::sync::Arc;

/// The lane that answers a job, and those that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub lane: LaneName,
    pub passed: Vec<Passed>,
}

/// A lane that was to answer and did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub lane: LaneName,
    pub why: Why,
}

/// Why a lane was left for the next one; a fixed set, fit for headers and for labels of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Too much to do for the moment, a limit or a full queue.
    Overloaded,
    /// It had not begun to answer when its time was over.
    Slow,
    /// It failed, or cannot be reached.
    Failed,
    /// It has failed so often that it is left alone for a while.
    Resting,
    /// Key, bill, address or model have to be put right.
    Setup,
    /// It does not know how to do what is asked.
    NotOffered,
    /// Its model holds less than was asked for.
    TooLong,
}

impl Why {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Slow => "slow",
            Self::Failed => "failed",
            Self::Resting => "resting",
            Self::Setup => "setup",
            Self::NotOffered => "not_offered",
            Self::TooLong => "too_long",
        }
    }
}

/// `local:MODEL`, or a provider of the operator's and its model: `PROVIDER:MODEL`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneName {
    provider: Arc<str>,
    model: Arc<str>,
}

impl LaneName {
    /// What stands for this process in the place of a provider.
    pub const LOCAL: &str = "local";

    pub fn local(model: &str) -> Self {
        Self::remote(Self::LOCAL, model)
    }

    pub fn remote(provider: &str, model: &str) -> Self {
        Self { provider: Arc::from(provider), model: Arc::from(model) }
    }

    /// Splits at the first colon: a model's name may hold more of them. `None` without a colon, or with nothing on
    /// either side of it.
    pub fn parse(text: &str) -> Option<Self> {
        let (provider, model) = text.trim().split_once(':')?;
        (!provider.is_empty() && !model.is_empty()).then(|| Self::remote(provider, model))
    }

    pub fn provider(&self) -> &str {
        &self.provider
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    pub fn is_remote(&self) -> bool {
        &*self.provider != Self::LOCAL
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.provider, self.model)
    }
}

/// Every lane that may be asked was asked, or left out for a reason; with the error of the last one that was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no lane could answer: {}; the last said: {last}", list(.passed))]
pub struct Exhausted {
    pub passed: Vec<Passed>,
    pub last: GenerateError,
}

fn list(passed: &[Passed]) -> String {
    passed.iter().map(|passed| format!("{} ({})", passed.lane, passed.why.name())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_its_first_colon() {
        let check = |text: &str, expected: Option<(&str, &str, bool)>| {
            let name = LaneName::parse(text);
            let parts = name.as_ref().map(|name| (name.provider(), name.model(), name.is_remote()));
            assert_eq!(parts, expected, "{text}");
        };
        check("local:sconce", Some(("local", "sconce", false)));
        check("bedrock:anthropic.claude-v2:1", Some(("bedrock", "anthropic.claude-v2:1", true)));
        check(" cluster:Qwen/Qwen2.5 ", Some(("cluster", "Qwen/Qwen2.5", true)));
        check("sconce", None);
        check(":sconce", None);
        check("local:", None);
        assert_eq!(LaneName::local("a").to_string(), "local:a");
    }

    #[test]
    fn says_what_became_of_every_lane() {
        let passed = |lane, why| Passed { lane, why };
        let exhausted = Exhausted {
            passed: vec![
                passed(LaneName::local("a"), Why::Overloaded),
                passed(LaneName::remote("cluster", "b"), Why::Resting),
            ],
            last: GenerateError::PromptEmpty,
        };
        let expected = "no lane could answer: local:a (overloaded), cluster:b (resting); the last said: the prompt is \
                        empty: at least one token is needed";
        assert_eq!(exhausted.to_string(), expected);
    }
}
