//! Which device computes. Today that is the CPU; the only `cfg(feature = "cuda")` of `src/` will live here.
//!
//! Knows nobody.

use std::num::NonZeroUsize;

/// A device a model can be loaded on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu { threads: NonZeroUsize },
}

impl Device {
    /// The CPU with as many threads as asked for, or as many as the machine runs at once.
    #[must_use]
    pub fn cpu(threads: Option<NonZeroUsize>) -> Self {
        let available = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::Cpu { threads: threads.unwrap_or_else(available) }
    }

    /// Threads that share the work of a step.
    #[must_use]
    pub fn threads(self) -> NonZeroUsize {
        match self {
            Self::Cpu { threads } => threads,
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu { threads } => write!(f, "cpu, {threads} threads"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_asked_for_are_threads_used() {
        assert_eq!(Device::cpu(NonZeroUsize::new(3)).threads().get(), 3);
        assert_eq!(Device::cpu(None).threads(), std::thread::available_parallelism().expect("a machine"));
    }
}
