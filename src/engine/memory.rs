//! What a model will take before anything is allocated.

use std::fmt;

/// Whose memory is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    Host,
    Gpu,
}

impl MemoryKind {
    /// What makes weights smaller there.
    fn quantise_advice(self) -> &'static str {
        match self {
            Self::Host => "--quantize q8_0",
            Self::Gpu => "--quantize fp8 or int4",
        }
    }
}

/// Bytes by purpose, next to what the machine has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    pub kind: MemoryKind,
    pub weights_bytes: u64,
    pub kv_bytes: u64,
    /// Tokens that the key-value cache holds.
    pub kv_tokens: usize,
    pub workspace_bytes: u64,
    /// What the operating system says is free for us, where it says so.
    pub available_bytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error(
        "the model needs {} ({} weights, {} key-value cache, {} workspace) and {} are available: lower --kv-memory, load \
         with {}, or choose a smaller model",
        human(plan.total_bytes()),
        human(plan.weights_bytes),
        human(plan.kv_bytes),
        human(plan.workspace_bytes),
        human(plan.available_bytes.unwrap_or(0)),
        plan.kind.quantise_advice()
    )]
    DoesNotFit { plan: MemoryPlan },
    #[error(
        "{models} models need {} together and {} are available: serve fewer, lower --kv-memory, or load with {}",
        human(*needed_bytes),
        human(*available_bytes),
        kind.quantise_advice()
    )]
    DoNotFitTogether { kind: MemoryKind, models: usize, needed_bytes: u64, available_bytes: u64 },
    #[error(
        "a key-value cache of {} holds {tokens} tokens, fewer than one block of {block_tokens}: raise --kv-memory to at \
         least {}",
        human(*kv_bytes),
        human(*block_bytes)
    )]
    CacheTooSmall { kv_bytes: u64, tokens: usize, block_tokens: usize, block_bytes: u64 },
}

impl MemoryPlan {
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes.saturating_add(self.kv_bytes).saturating_add(self.workspace_bytes)
    }

    /// Errors when the plan asks for more than is there. Unknown availability is not held against the plan.
    pub fn check(&self) -> Result<(), MemoryError> {
        match self.available_bytes {
            Some(available) if self.total_bytes() > available => Err(MemoryError::DoesNotFit { plan: self.clone() }),
            _ => Ok(()),
        }
    }
}

/// Errors when plans that each fit ask together for more than is there.
pub fn check_together(plans: &[&MemoryPlan]) -> Result<(), MemoryError> {
    let needed_bytes = plans.iter().map(|plan| plan.total_bytes()).fold(0, u64::saturating_add);
    match plans.iter().filter_map(|plan| plan.available_bytes).min() {
        Some(available_bytes) if needed_bytes > available_bytes => {
            let kind = plans.first().map_or(MemoryKind::Host, |plan| plan.kind);
            Err(MemoryError::DoNotFitTogether { kind, models: plans.len(), needed_bytes, available_bytes })
        }
        _ => Ok(()),
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "weights {}, key-value cache {} ({} tokens), workspace {}, in all {}",
            human(self.weights_bytes),
            human(self.kv_bytes),
            self.kv_tokens,
            human(self.workspace_bytes),
            human(self.total_bytes())
        )?;
        match self.available_bytes {
            Some(available) => write!(formatter, " of {} available", human(available)),
            None => Ok(()),
        }
    }
}

/// Bytes as people read them: `7.1 MiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_does_not_fit_is_refused_with_its_numbers() {
        let mut plan = MemoryPlan {
            kind: MemoryKind::Host,
            weights_bytes: 3 << 30,
            kv_bytes: 1 << 30,
            kv_tokens: 1000,
            workspace_bytes: 1 << 20,
            available_bytes: Some(2 << 30),
        };
        let message = plan.check().expect_err("4 GiB into 2").to_string();
        assert!(
            message.contains("4.0 GiB") && message.contains("2.0 GiB") && message.contains("--kv-memory"),
            "{message}"
        );
        assert!(message.contains("q8_0") && !message.contains("fp8"), "{message}");
        plan.kind = MemoryKind::Gpu;
        assert!(plan.check().expect_err("4 GiB into 2").to_string().contains("fp8"));
        plan.available_bytes = Some(8 << 30);
        assert_eq!(plan.check(), Ok(()));
        plan.available_bytes = None;
        assert_eq!(plan.check(), Ok(()));
    }

    #[test]
    fn models_that_fit_alone_are_refused_where_they_do_not_fit_together() {
        let plan = MemoryPlan {
            kind: MemoryKind::Host,
            weights_bytes: 3 << 30,
            kv_bytes: 0,
            kv_tokens: 0,
            workspace_bytes: 0,
            available_bytes: Some(5 << 30),
        };
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(check_together(&[&plan]), Ok(()));
        let message = check_together(&[&plan, &plan]).expect_err("6 GiB into 5").to_string();
        assert!(message.contains("2 models need 6.0 GiB") && message.contains("5.0 GiB"), "{message}");
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(human(999), "999 B");
        assert_eq!(human(7_444_889), "7.1 MiB");
    }
}
