//! How much of chats' prompts a step computes when somebody completes code: so much that nobody waits long for it.
//!
//! While a completion waits or runs, a step takes longer by chat's share of it at most. While none does but one may
//! come any moment, a step may take as long as whoever comes will hardly notice next to the completion itself. With no
//! completion in sight there is no limit but the configured ones. What steps take is learned ([`StepTimes`]); until
//! something was measured there is no limit either.

use super::step_times::{StepTimes, Work};

/// Somebody who completed code a minute ago is still at it.
const IN_SIGHT_US: u64 = 60_000_000;

/// Of a completion's own time, so much may be spent waiting for the step in which it arrives.
const WAIT_SHARE: f64 = 0.6;

/// Such a step takes at least so many times what it takes without chats' prompts: less would be spent on moving
/// weights and not on the prompts, whatever it spares a very short completion.
const WAIT_STEPS_MIN: f64 = 4.0;

/// Weight of the newest completion.
const NEWEST: f64 = 0.1;

#[derive(Debug, Default)]
pub(super) struct Pace {
    pub times: StepTimes,
    /// When a completion last waited or ran.
    completion_at_us: Option<u64>,
    /// What steps took, without chats' prompts, while a completion waited or ran.
    served_us: f64,
    /// What of it passes between a completion's first step and its last, on average.
    completion_us: Option<f64>,
}

/// Who may be kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// A completion waits or runs.
    Completion,
    /// None does, but one was there not long ago.
    MayCome,
    Nobody,
}

impl Pace {
    /// Called for each step that is planned.
    pub fn look_around(&mut self, num_completions: usize, now_us: u64) -> Company {
        if num_completions > 0 {
            self.completion_at_us = Some(now_us);
            return Company::Completion;
        }
        match self.completion_at_us {
            Some(at_us) if now_us.saturating_sub(at_us) < IN_SIGHT_US => Company::MayCome,
            Some(_) | None => Company::Nobody,
        }
    }

    /// One was admitted; it may be gone before the next step is planned.
    pub fn note_completion(&mut self, now_us: u64) {
        self.completion_at_us = Some(now_us);
    }

    /// A step took so long; `chats` is what of it chats' prompts were.
    pub fn learn(&mut self, work: Work, chats: Work, has_completion: bool, micros: u64) {
        self.times.learn(work, micros);
        if has_completion && micros > 0 {
            self.served_us += self.times.of(work.without(chats));
        }
    }

    /// The reading to pass to [`Self::learn_completion`] when a completion that starts now has finished.
    pub fn served_us(&self) -> f64 {
        self.served_us
    }

    pub fn learn_completion(&mut self, started_at: f64) {
        let own_us = self.served_us - started_at;
        if own_us > 0.0 {
            self.completion_us = Some(self.completion_us.map_or(own_us, |mean| mean + (own_us - mean) * NEWEST));
        }
    }

    /// Microseconds that chats' prompts may add to a step that computes `own` besides. `None`: as long as they take.
    pub fn chat_us(&mut self, company: Company, own: Work, terms: Terms) -> Option<f64> {
        if company == Company::Nobody || !self.times.is_known() || terms.chat_share >= 1.0 {
            return None;
        }
        let own_us = self.times.of(own);
        let shared_us = own_us * terms.chat_share / (1.0 - terms.chat_share);
        if company == Company::Completion {
            return Some(shared_us);
        }
        let wait_us = self.completion_us.unwrap_or_default() * WAIT_SHARE / terms.steps_waited as f64;
        Some((wait_us.max(own_us * WAIT_STEPS_MIN) - own_us).max(shared_us))
    }
}

/// What the configuration says about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub chat_share: f64,
    /// Steps that are computed before one that is planned now, if as many are in flight as may be, and that one.
    pub steps_waited: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW_US: u64 = 20_000;

    fn row() -> Work {
        let mut row = Work::default();
        row.add_decode(0, 1);
        row
    }

    /// A machine on which a row takes 20 ms, and ten prompt tokens ten more.
    fn measured() -> Pace {
        let mut pace = Pace::default();
        for _ in 0..8 {
            let mut with_prompt = row();
            with_prompt.add_prefill(0, 10);
            pace.learn(row(), Work::default(), false, ROW_US);
            pace.learn(with_prompt, Work::prefill(0, 10), false, ROW_US + 10_000);
        }
        pace
    }

    fn check(pace: &mut Pace, company: Company, terms: Terms, expected_us: Option<f64>) {
        let given = pace.chat_us(company, row(), terms);
        let is_close = match (given, expected_us) {
            (Some(given), Some(expected)) => (given - expected).abs() < 100.0,
            (given, expected) => given == expected,
        };
        assert!(is_close, "{given:?} instead of {expected_us:?} for {company:?}");
    }

    #[test]
    fn a_completion_is_in_sight_for_a_minute_after_it_was_there() {
        let mut pace = Pace::default();
        assert_eq!(pace.look_around(0, 5), Company::Nobody);
        assert_eq!(pace.look_around(2, 10), Company::Completion);
        assert_eq!(pace.look_around(0, 10 + IN_SIGHT_US - 1), Company::MayCome);
        assert_eq!(pace.look_around(0, 10 + IN_SIGHT_US), Company::Nobody);
        pace.note_completion(IN_SIGHT_US * 2);
        assert_eq!(pace.look_around(0, IN_SIGHT_US * 2 + 1), Company::MayCome, "it was gone before a step was planned");
    }

    #[test]
    fn chats_get_their_share_beside_a_completion_and_more_before_one() {
        let terms = Terms { chat_share: 0.25, steps_waited: 1 };
        check(&mut Pace::default(), Company::Completion, terms, None);
        let mut pace = measured();
        let row_us = ROW_US as f64;
        check(&mut pace, Company::Nobody, terms, None);
        check(&mut pace, Company::Completion, Terms { chat_share: 1.0, ..terms }, None);
        check(&mut pace, Company::Completion, Terms { chat_share: 0.0, ..terms }, Some(0.0));
        check(&mut pace, Company::Completion, terms, Some(row_us / 3.0));
        check(&mut pace, Company::MayCome, terms, Some(row_us * (WAIT_STEPS_MIN - 1.0)));
        check(&mut pace, Company::MayCome, Terms { chat_share: 0.9, ..terms }, Some(row_us * 9.0));
        // A completion of 40 rows may wait for 24.
        let started_at = pace.served_us();
        for _ in 0..40 {
            pace.learn(row(), Work::default(), true, ROW_US);
        }
        pace.learn_completion(started_at);
        check(&mut pace, Company::MayCome, terms, Some(row_us * (40.0 * WAIT_SHARE - 1.0)));
        check(
            &mut pace,
            Company::MayCome,
            Terms { steps_waited: 2, ..terms },
            Some(row_us * (20.0 * WAIT_SHARE - 1.0)),
        );
    }
}
