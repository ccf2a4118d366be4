//! Limits of requests that a GPU cannot serve: its sampling has room for a fixed number of what a request may ask for. A
//! start with a higher limit is refused, so that no request within the limits fails later.

use super::error::ServeError;
use crate::config::Limits;
use crate::engine::LOGIT_BIASES_MAX;
use kernels::gpu::TOP_LOGPROBS_MAX;

pub fn check(limits: &Limits) -> Result<(), ServeError> {
    let all = [
        ("limits.top_logprobs_max", limits.top_logprobs_max, TOP_LOGPROBS_MAX),
        ("limits.logit_bias_entries_max", limits.logit_bias_entries_max, LOGIT_BIASES_MAX),
    ];
    match all.into_iter().find(|(_, set, max)| set > max) {
        Some((setting, set, max)) => Err(ServeError::GpuLimit { setting, set, max }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment, Flag};

    #[test]
    fn limits_above_those_of_a_gpu_are_refused_with_both_numbers() {
        for (flags, refusal) in [
            (&[][..], None),
            (&[("limits.top_logprobs_max", "20"), ("limits.logit_bias_entries_max", "1024")], None),
            (&[("limits.top_logprobs_max", "21")], Some("limits.top_logprobs_max is 21, a GPU serves at most 20")),
            (
                &[("limits.logit_bias_entries_max", "1025")],
                Some("limits.logit_bias_entries_max is 1025, a GPU serves at most 1024"),
            ),
        ] {
            let flags: Vec<Flag> = flags.iter().map(|(key, value)| Flag::new("--test", key, *value)).collect();
            let config = config::resolve(&Environment::default(), None, &flags).config.expect("valid");
            let refused = check(&config.limits).map_err(|error| error.to_string());
            match (&refused, refusal) {
                (Ok(()), None) => {}
                (Err(error), Some(refusal)) => assert!(error.starts_with(refusal), "{error}"),
                _ => panic!("{flags:?}: {refused:?}"),
            }
        }
    }
}
