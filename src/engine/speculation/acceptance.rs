//! How well guesses at one sequence have gone, and how long the next may be.

/// Longest draft of one sequence.
pub(super) const WIDTH_MAX: usize = 16;

/// What a sequence starts with.
const WIDTH_FIRST: usize = 4;

/// Above this average drafts grow, below the other they shrink; in between they stay, so that they do not swing.
const GROW_ABOVE: f64 = 0.7;
const SHRINK_BELOW: f64 = 0.35;

/// Weight of the newest draft.
const NEWEST: f64 = 0.3;

/// Tokens without drafts after the shortest have failed, doubled each time up to the longest pause.
const PAUSE_TOKENS_MIN: usize = 16;
const PAUSE_TOKENS_MAX: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) struct Acceptance {
    average: f64,
    width: usize,
    pause_tokens: usize,
    /// No drafts before the sequence is this long.
    resume_at: usize,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self { average: 0.5, width: WIDTH_FIRST, pause_tokens: PAUSE_TOKENS_MIN, resume_at: 0 }
    }
}

impl Acceptance {
    /// Tokens that a draft may have behind a sequence of `len` tokens.
    pub fn width(&self, len: usize) -> usize {
        if len < self.resume_at { 0 } else { self.width }
    }

    /// How likely one guessed token is right, when so many tokens before it matched. Long matches are hardly chance.
    pub fn likelihood(&self, matched: usize) -> f64 {
        let doubt = super::proposer::MATCH_TOKENS_MIN as f64 / matched.max(1) as f64;
        1.0 - (1.0 - self.average) * doubt.min(1.0)
    }

    /// Of `drafted` tokens behind a sequence of `len`, `accepted` were right.
    pub fn learn(&mut self, len: usize, drafted: usize, accepted: usize) {
        let share = accepted as f64 / drafted as f64;
        self.average += (share - self.average) * NEWEST;
        if accepted > 0 {
            self.pause_tokens = PAUSE_TOKENS_MIN;
        }
        if self.average > GROW_ABOVE {
            self.width = (self.width * 2).min(WIDTH_MAX);
        } else if self.average < SHRINK_BELOW && self.width > 1 {
            self.width /= 2;
        } else if self.average < SHRINK_BELOW && accepted == 0 {
            self.resume_at = len + self.pause_tokens;
            self.pause_tokens = (self.pause_tokens * 2).min(PAUSE_TOKENS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_grow_while_they_are_right_and_shrink_to_a_pause_that_doubles() {
        let mut acceptance = Acceptance::default();
        let widths = [8, 8, 8, 8].map(|drafted| {
            acceptance.learn(100, drafted, drafted);
            acceptance.width(100)
        });
        assert_eq!(widths, [4, 8, 16, 16]);
        let widths = [16; 6].map(|drafted| {
            acceptance.learn(100, drafted, 0);
            acceptance.width(100)
        });
        assert_eq!(widths, [16, 16, 8, 4, 2, 1], "one bad draft does not undo good ones");
        for pause in [16, 32, 64, 128, 256, 256] {
            acceptance.learn(100, 1, 0);
            assert_eq!((acceptance.width(100 + pause - 1), acceptance.width(100 + pause)), (0, 1));
        }
        acceptance.learn(100, 1, 1);
        acceptance.learn(100, 1, 0);
        assert_eq!((acceptance.width(115), acceptance.width(116)), (0, 1), "a right guess shortens the pauses");
    }

    #[test]
    fn between_the_marks_the_width_stays() {
        let mut acceptance = Acceptance::default();
        for _ in 0..50 {
            acceptance.learn(10, 4, 2);
            assert_eq!(acceptance.width(10), WIDTH_FIRST);
        }
    }

    #[test]
    fn a_long_match_is_believed_more_than_a_short_one() {
        let acceptance = Acceptance::default();
        let likely = [3, 6, 12].map(|matched| acceptance.likelihood(matched));
        assert_eq!(likely, [0.5, 0.75, 0.875]);
    }
}
