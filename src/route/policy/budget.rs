//! How much of the traffic of a lane may be second tries: a tenth, so that an outage is not made worse by us.

use std::sync::atomic::{AtomicU32, Ordering};

/// A second try costs this many, a first one earns one.
const COST: u32 = 10;
/// What an idle lane may have saved: ten tries.
const SAVED_MAX: u32 = 10 * COST;

/// Earned by first tries, spent by second ones. A bucket of tokens without a clock.
#[derive(Debug)]
pub struct RetryBudget {
    saved: AtomicU32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: AtomicU32::new(SAVED_MAX) }
    }
}

impl RetryBudget {
    pub fn earn(&self) {
        let add = |saved: u32| (saved < SAVED_MAX).then(|| saved + 1);
        // What is full stays so.
        let _: Result<u32, u32> = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether there is enough for one more try, which is then spent.
    pub fn spend(&self) -> bool {
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(COST)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_first_tries_pay_for_a_second() {
        let budget = RetryBudget::default();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10, "what was saved is spent");
        for _ in 0..9 {
            budget.earn();
        }
        assert!(!budget.spend());
        budget.earn();
        assert!(budget.spend() && !budget.spend());
    }
}
