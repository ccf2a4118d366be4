//! `sconce version`: which release this is, and which devices this build of it has kernels for.

/// `architectures` are those of NVIDIA GPUs; none in a build without GPU support.
pub fn text(architectures: &[&str]) -> String {
    let gpu = match architectures {
        [] => "not in this build".to_owned(),
        architectures => format!("cuda ({})", architectures.join(", ")),
    };
    format!("sconce {}\ngpu: {gpu}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_gpus_have_kernels() {
        for (architectures, gpu) in
            [(&[][..], "gpu: not in this build\n"), (&["sm_80", "sm_90a"], "gpu: cuda (sm_80, sm_90a)\n")]
        {
            assert_eq!(text(architectures), format!("sconce {}\n{gpu}", env!("CARGO_PKG_VERSION")));
        }
    }
}
