//! Finds where the end of a text has occurred before, and proposes what came after it then.
//!
//! An index over every run of three tokens: the latest place of each hash, and from each place the one before it. The
//! longest match among the latest places wins; among equals the latest. A token is indexed once and a search looks at a
//! bounded number of places, so the cost per token is constant; memory is eight bytes per indexed token and a table of
//! four bytes per place. Knows no model: the idea is that of LZ77's match finder, and of prompt lookup decoding (Saxena
//! 2023).

use std::fmt;

/// Shorter matches are chance more often than not.
pub(super) const MATCH_TOKENS_MIN: usize = 3;

/// Longer ones are as good as this.
pub(super) const MATCH_TOKENS_MAX: usize = 32;

/// Places with the same hash that a search looks at.
const PLACES_MAX: usize = 8;

/// Of a long text only the end is indexed.
const TEXT_TOKENS_MAX: usize = 32_768;

/// No token: stands between texts that do not continue each other.
pub(super) const SEPARATOR: u32 = u32::MAX;

/// One sequence's text: what its session said before, then its prompt and output.
pub(super) struct Proposer {
    earlier: Vec<u32>,
    /// By hash of a run: the position behind its latest occurrence, 0 for none.
    latest: Vec<u32>,
    /// By position, from `first` on: the position behind the occurrence before, 0 for none.
    before: Vec<u32>,
    first: usize,
    /// The place that the last proposal continued, and how long the text was then.
    followed: Option<(usize, usize)>,
}

/// What may follow, and how many tokens before it matched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proposal {
    pub tokens: Vec<u32>,
    pub matched: usize,
}

impl Proposer {
    /// For a sequence that will have up to `tokens_max` tokens.
    pub fn new(earlier: Vec<u32>, tokens_max: usize) -> Self {
        let places = (earlier.len() + tokens_max).clamp(16, TEXT_TOKENS_MAX).next_power_of_two();
        Self { earlier, latest: vec![0; places], before: Vec::new(), first: 0, followed: None }
    }

    /// At most `count` tokens that may follow `tokens`, which only ever grows. None without a match.
    pub fn propose(&mut self, tokens: &[u32], count: usize) -> Proposal {
        self.index(tokens);
        let text = Text { earlier: &self.earlier, tokens };
        let end = text.len();
        if end < MATCH_TOKENS_MIN || count == 0 {
            return Proposal::default();
        }
        let followed = self.followed.map(|(place, then)| place + end - then).filter(|place| *place < end);
        let mut best = (0, 0);
        for place in followed.into_iter().chain(self.places(&text, end)) {
            let matched = text.matched(place, end);
            if matched > best.0 {
                best = (matched, place);
            }
            if matched == MATCH_TOKENS_MAX {
                break;
            }
        }
        let (matched, place) = best;
        if matched < MATCH_TOKENS_MIN {
            self.followed = None;
            return Proposal::default();
        }
        self.followed = Some((place, end));
        // A match that reaches into its own continuation is a repetition, which goes on in its period.
        let period = end - place;
        let tokens = (0..count).map(|index| text.at(place + index % period)).take_while(|token| *token != SEPARATOR);
        Proposal { tokens: tokens.collect(), matched }
    }

    /// Enters every run that ends before the end of the text: the last one is what is looked for.
    fn index(&mut self, tokens: &[u32]) {
        let text = Text { earlier: &self.earlier, tokens };
        if self.before.is_empty() {
            self.first = MATCH_TOKENS_MIN.max(text.len().saturating_sub(TEXT_TOKENS_MAX));
        }
        for position in self.first + self.before.len()..text.len() {
            let hash = text.hash(position, self.latest.len());
            self.before.push(std::mem::replace(&mut self.latest[hash], position as u32));
        }
    }

    /// Positions behind runs that look like the one before `end`, latest first.
    fn places(&self, text: &Text<'_>, end: usize) -> impl Iterator<Item = usize> {
        let latest = self.latest[text.hash(end, self.latest.len())];
        let older = |place: &u32| self.before.get(*place as usize - self.first).copied().filter(|place| *place > 0);
        std::iter::successors(Some(latest).filter(|place| *place > 0), older)
            .take(PLACES_MAX)
            .map(|place| place as usize)
    }
}

/// Never shows tokens.
impl fmt::Debug for Proposer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Proposer").field("indexed", &self.before.len()).finish_non_exhaustive()
    }
}

struct Text<'a> {
    earlier: &'a [u32],
    tokens: &'a [u32],
}

impl Text<'_> {
    fn len(&self) -> usize {
        self.earlier.len() + self.tokens.len()
    }

    fn at(&self, position: usize) -> u32 {
        match position.checked_sub(self.earlier.len()) {
            Some(position) => self.tokens[position],
            None => self.earlier[position],
        }
    }

    /// Of the run that ends before `position`.
    fn hash(&self, position: usize, places: usize) -> usize {
        let run = (position - MATCH_TOKENS_MIN..position)
            .fold(0_u64, |hash, position| (hash ^ u64::from(self.at(position))).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (run >> 40) as usize & (places - 1)
    }

    /// How many tokens before `place` are those before `end`.
    fn matched(&self, place: usize, end: usize) -> usize {
        let back = 1..=place.min(MATCH_TOKENS_MAX);
        back.take_while(|back| self.at(place - back) == self.at(end - back) && self.at(end - back) != SEPARATOR).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(earlier: &[u32], tokens: &[u32], count: usize, expected: (&[u32], usize)) {
        let mut whole = Proposer::new(earlier.to_vec(), 100);
        let at_once = whole.propose(tokens, count);
        assert_eq!((&at_once.tokens[..], at_once.matched), expected, "{tokens:?} after {earlier:?}");
        // Token by token the same is found, unless an older place was being followed.
        let mut grown = Proposer::new(earlier.to_vec(), 100);
        for end in 0..tokens.len() {
            grown.propose(&tokens[..end], 1);
        }
        assert_eq!(grown.propose(tokens, count).matched, expected.1);
    }

    #[test]
    fn what_followed_the_longest_match_is_proposed() {
        check(&[], &[1, 2, 3, 4, 5, 9, 1, 2, 3], 2, (&[4, 5], 3));
        check(&[], &[1, 2, 3, 4, 5, 9, 1, 2, 3], 16, (&[4, 5, 9, 1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5, 9, 1], 3));
        check(&[], &[7, 1, 2, 3, 4, 8, 1, 2, 3, 5, 7, 1, 2, 3], 1, (&[4], 4));
        check(&[], &[7, 1, 2, 3, 4, 8, 1, 2, 3, 5, 6, 1, 2, 3], 1, (&[5], 3));
        check(&[], &[1, 2, 3, 4, 1, 2], 4, (&[], 0));
        check(&[], &[1, 2, 3, 4, 5, 6], 4, (&[], 0));
        check(&[], &[1, 2], 4, (&[], 0));
        check(&[], &[], 4, (&[], 0));
    }

    #[test]
    fn a_repetition_goes_on_in_its_period() {
        check(&[], &[5, 6, 5, 6, 5, 6], 5, (&[5, 6, 5, 6, 5], 4));
        check(&[], &[8, 8, 8, 8], 3, (&[8, 8, 8], 3));
    }

    #[test]
    fn what_the_session_said_is_proposed_up_to_its_end() {
        check(&[1, 2, 3, 4, 5, SEPARATOR], &[1, 2, 3], 4, (&[4, 5], 3));
        check(&[1, 2, 3, SEPARATOR, 4], &[1, 2, 3], 4, (&[], 3));
        check(&[1, 2, SEPARATOR], &[3, 9, 9, 1, 2, 3], 4, (&[], 0));
    }

    #[test]
    fn a_place_once_found_is_followed_beyond_the_latest_places() {
        // Nine lines that begin alike; the text goes on as the first of them did.
        let line = |index: u32| [50, 51, 52, 60 + index, 80 + index, 90 + index, 100 + index];
        let mut tokens: Vec<u32> = (0..9).flat_map(line).collect();
        tokens.extend(&line(0)[..6]);
        let mut proposer = Proposer::new(Vec::new(), 200);
        assert_eq!(proposer.propose(&tokens, 4).tokens, [100, 50, 51, 52]);
        tokens.extend([100, 50, 51, 52]);
        assert_eq!(proposer.propose(&tokens, 1).tokens, [61], "the second line followed the first");
    }

    #[test]
    fn only_the_end_of_a_long_text_is_indexed() {
        let long: Vec<u32> = (0..TEXT_TOKENS_MAX as u32 * 2).collect();
        for (start, found) in [(0, 0), (TEXT_TOKENS_MAX as u32 * 2 - 100, 8)] {
            let mut proposer = Proposer::new(Vec::new(), usize::MAX / 2);
            let tokens: Vec<u32> = long.iter().copied().chain(start..start + 8).collect();
            assert_eq!(proposer.propose(&tokens, 2).matched, found);
            assert!(proposer.before.len() <= TEXT_TOKENS_MAX && proposer.latest.len() <= TEXT_TOKENS_MAX);
        }
    }
}
