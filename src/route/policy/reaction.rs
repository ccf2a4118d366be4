//! What the failure of a lane means for the job: asked again, asked elsewhere, or told as it is.

use crate::domain::{GenerateError, UpstreamClass, Why};
use std::time::Duration;

/// What may be done about a failure before the first text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reaction {
    pub why: Why,
    /// How often the same lane may be asked again; waits are between.
    pub again_max: usize,
    /// What the lane itself said about waiting.
    pub wait: Option<Duration>,
    /// Whether it speaks against the health of the lane.
    pub counts: Counting,
}

/// How a failure counts against the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// The lane is well: it was asked for something it does not do.
    Not,
    /// As one of several in a row.
    Once,
    /// Asking again before somebody has put it right is useless.
    AtOnce,
}

/// `None`: nobody else is asked, and the error is told as it is.
///
/// What is the caller's fault stays so wherever it is asked. What a provider's rules about content forbid is never
/// carried to somebody with other rules. A newer request, a deadline and a shutdown end the job itself.
pub fn reaction(error: &GenerateError, longer_elsewhere: bool) -> Option<Reaction> {
    use Counting::{AtOnce, Not, Once};
    let reaction = |why, again_max, wait, counts| Some(Reaction { why, again_max, wait, counts });
    let too_long = || longer_elsewhere.then_some(Reaction { why: Why::TooLong, again_max: 0, wait: None, counts: Not });
    match error {
        GenerateError::PromptTooLong { .. } | GenerateError::CacheTooSmall { .. } => too_long(),
        GenerateError::NoInfill { .. } | GenerateError::NoChat { .. } | GenerateError::NotOffered { .. } => {
            reaction(Why::NotOffered, 0, None, Not)
        }
        GenerateError::QueueFull { retry_after, .. } => reaction(Why::Overloaded, 0, Some(*retry_after), Not),
        GenerateError::Starting { .. } | GenerateError::EngineDown { .. } | GenerateError::StepFailed { .. } => {
            reaction(Why::Failed, 0, None, Once)
        }
        GenerateError::Upstream(error) => match error.class {
            UpstreamClass::Request | UpstreamClass::Policy => None,
            UpstreamClass::TooLong => too_long(),
            UpstreamClass::Setup => reaction(Why::Setup, 0, None, AtOnce),
            UpstreamClass::Limited => reaction(Why::Overloaded, 1, error.retry_after, Once),
            UpstreamClass::Overloaded => reaction(Why::Overloaded, 2, error.retry_after, Once),
            UpstreamClass::Failed | UpstreamClass::Broken => reaction(Why::Failed, 1, None, Once),
        },
        GenerateError::PromptEmpty
        | GenerateError::TokenOutOfRange { .. }
        | GenerateError::Template { .. }
        | GenerateError::Superseded
        | GenerateError::DeadlineExceeded { .. }
        | GenerateError::ShuttingDown
        | GenerateError::Exhausted(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{UpstreamError, Usage};
    use std::sync::Arc;

    fn upstream(class: UpstreamClass) -> GenerateError {
        let (provider, cause, usage) = (Arc::from("cluster"), "failed", Usage::default());
        let retry_after = Some(Duration::from_secs(3));
        Box::new(UpstreamError { provider, class, cause, status: None, retry_after, usage }).into()
    }

    #[test]
    fn each_failure_has_its_own_way() {
        let check = |error: &GenerateError, expected: Option<(Why, usize, Counting)>| {
            let found = reaction(error, false).map(|reaction| (reaction.why, reaction.again_max, reaction.counts));
            assert_eq!(found, expected, "{error:?}");
        };
        check(&upstream(UpstreamClass::Request), None);
        check(&upstream(UpstreamClass::Policy), None);
        check(&upstream(UpstreamClass::TooLong), None);
        check(&upstream(UpstreamClass::Setup), Some((Why::Setup, 0, Counting::AtOnce)));
        check(&upstream(UpstreamClass::Limited), Some((Why::Overloaded, 1, Counting::Once)));
        check(&upstream(UpstreamClass::Overloaded), Some((Why::Overloaded, 2, Counting::Once)));
        check(&upstream(UpstreamClass::Failed), Some((Why::Failed, 1, Counting::Once)));
        let second = Duration::from_secs(1);
        let full = GenerateError::QueueFull { waiting: 9, waiting_max: 8, retry_after: second };
        check(&full, Some((Why::Overloaded, 0, Counting::Not)));
        let down = GenerateError::EngineDown { model: "a".to_owned(), cause: "the GPU failed", retry_after: None };
        check(&down, Some((Why::Failed, 0, Counting::Once)));
        check(&GenerateError::NoInfill { model: "a".to_owned() }, Some((Why::NotOffered, 0, Counting::Not)));
        check(&GenerateError::Superseded, None);
        check(&GenerateError::ShuttingDown, None);
        check(&GenerateError::PromptEmpty, None);
    }

    #[test]
    fn what_is_too_long_goes_elsewhere_only_where_that_was_said() {
        let too_long = GenerateError::CacheTooSmall { needed_tokens: 2, cache_tokens: 1 };
        assert_eq!(reaction(&too_long, false), None);
        assert_eq!(reaction(&too_long, true).map(|reaction| reaction.why), Some(Why::TooLong));
        assert_eq!(reaction(&upstream(UpstreamClass::TooLong), true).map(|found| found.counts), Some(Counting::Not));
    }
}
