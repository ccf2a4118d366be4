//! Numbers that look random and are the same for a seed on every machine: texts, pauses and arrivals come from here.

/// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// `key` names what the numbers are for: other keys give other sequences.
    pub fn new(seed: u64, key: &[u64]) -> Self {
        let mut state = Self(seed);
        for part in key {
            state.0 = state.number() ^ part.wrapping_mul(0x9fb2_1c65_1e98_df25);
        }
        state
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to `end`, which is left out and at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        // The share of results that come up once more than others is below 2^-32 for every `end` of ours.
        ((u128::from(self.number()) * end as u128) >> 64) as usize
    }

    /// From 0 up to 1, which is left out.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How long until the next event of a Poisson process of this many events a second.
    pub fn gap_seconds(&mut self, per_second: f64) -> f64 {
        -(1.0 - self.unit()).ln() / per_second
    }

    pub fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_keys_decide_everything() {
        let first = |seed, key: &[u64]| Seeded::new(seed, key).number();
        assert_eq!(first(1, &[2, 3]), first(1, &[2, 3]));
        let others = [first(1, &[2, 3]), first(2, &[2, 3]), first(1, &[3, 2]), first(1, &[2]), first(1, &[2, 3, 0])];
        for (index, number) in others.iter().enumerate() {
            assert!(!others[..index].contains(number), "{index}");
        }
        // The published sequence of seed 0.
        let mut zero = Seeded::new(0, &[]);
        assert_eq!([zero.number(), zero.number()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn arrivals_come_at_their_rate_and_without_memory() {
        let mut seeded = Seeded::new(7, &[]);
        let gaps: Vec<f64> = (0..100_000).map(|_| seeded.gap_seconds(5.0)).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.2).abs() < 0.002, "{mean}");
        // Of an exponential distribution, a share of 1/e lies above the mean, and the deviation is the mean.
        let above = gaps.iter().filter(|gap| **gap > 0.2).count() as f64 / gaps.len() as f64;
        assert!((above - (-1.0_f64).exp()).abs() < 0.005, "{above}");
        assert!(gaps.iter().all(|gap| gap.is_finite() && *gap >= 0.0));
    }

    #[test]
    fn choices_stay_within_their_bounds_and_reach_them() {
        let mut seeded = Seeded::new(1, &[]);
        let mut seen = [false; 7];
        for _ in 0..1_000 {
            seen[seeded.below(7)] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(seeded.below(1), 0);
    }
}
