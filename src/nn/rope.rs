//! Rotary frequencies and their scalings for longer contexts.
//!
//! Source: RoPE arXiv:2104.09864, YaRN arXiv:2309.00071; values held to `modeling_rope_utils.py` of transformers.

use std::f64::consts::TAU;

/// Rotary position embedding: base and scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub scaling: RopeScaling,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    Plain,
    /// All frequencies divided by one factor.
    Linear {
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, the band between blended (Llama 3.1).
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_tokens: usize,
    },
    Yarn(Yarn),
    /// One divisor per frequency, as GGUF stores the Llama 3 scaling (`rope_freqs.weight`).
    Divisors(Vec<f32>),
}

/// YaRN: dimensions that turn more than `beta_fast` times over the original context are kept, those that turn less
/// than `beta_slow` times are divided by `factor`, the others blended.
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    pub original_tokens: usize,
    pub beta_fast: f64,
    pub beta_slow: f64,
    /// Multiplies cosine and sine; see [`Yarn::attention_factor`] for the usual value.
    pub attention_factor: f64,
    pub edges: YarnEdges,
}

/// Whether the borders of the blended band are moved to whole dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YarnEdges {
    Truncated,
    Exact,
}

impl Yarn {
    pub const BETA_FAST: f64 = 32.0;
    pub const BETA_SLOW: f64 = 1.0;

    /// The factor the paper suggests, `0.1 * mscale * ln(factor) + 1`.
    #[must_use]
    pub fn attention_factor(factor: f64, mscale: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
    }

    /// The dimension that makes `turns` turns over the original context.
    fn dimension_of(&self, turns: f64, theta: f64, head_dim: f64) -> f64 {
        head_dim * (self.original_tokens as f64 / (turns * TAU)).ln() / (2.0 * theta.ln())
    }

    /// Share of the unscaled frequency in each pair.
    fn kept(&self, theta: f64, head_dim: usize) -> impl Fn(usize) -> f64 + use<> {
        let dim = head_dim as f64;
        let mut low = self.dimension_of(self.beta_fast, theta, dim);
        let mut high = self.dimension_of(self.beta_slow, theta, dim);
        if self.edges == YarnEdges::Truncated {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        move |pair| 1.0 - ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0)
    }
}

impl Rope {
    #[must_use]
    pub fn plain(theta: f64) -> Self {
        Self { theta, scaling: RopeScaling::Plain }
    }

    /// Angle per position of each of the `head_dim / 2` pairs, in radians.
    #[must_use]
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        let plain = |pair: usize| self.theta.powf(-((2 * pair) as f64) / head_dim as f64);
        let pairs = 0..head_dim / 2;
        match &self.scaling {
            RopeScaling::Plain => pairs.map(|pair| plain(pair) as f32).collect(),
            RopeScaling::Linear { factor } => pairs.map(|pair| (plain(pair) / factor) as f32).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_tokens } => pairs
                .map(|pair| {
                    let frequency = plain(pair);
                    let turns = *original_tokens as f64 * frequency / TAU;
                    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    ((1.0 - kept) * frequency / factor + kept * frequency) as f32
                })
                .collect(),
            RopeScaling::Yarn(yarn) => {
                let kept = yarn.kept(self.theta, head_dim);
                let blend = |pair| (plain(pair) / yarn.factor) * (1.0 - kept(pair)) + plain(pair) * kept(pair);
                pairs.map(|pair| blend(pair) as f32).collect()
            }
            RopeScaling::Divisors(divisors) => {
                pairs.zip(divisors).map(|(pair, divisor)| (plain(pair) / f64::from(*divisor)) as f32).collect()
            }
        }
    }

    /// What cosine and sine are multiplied with.
    #[must_use]
    pub fn attention_factor(&self) -> f32 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor as f32,
            RopeScaling::Plain | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } | RopeScaling::Divisors(_) => {
                1.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by `ROPE_INIT_FUNCTIONS` of transformers 5.23.0 (torch 2.15.0, f32) for these settings.
    fn check(rope: &Rope, head_dim: usize, attention_factor: f32, want: &[(usize, f32)]) {
        let got = rope.inverse_frequencies(head_dim);
        assert_eq!(got.len(), head_dim / 2);
        assert!((rope.attention_factor() - attention_factor).abs() < 1e-6);
        for (pair, want) in want {
            assert!((got[*pair] - want).abs() <= 1e-6 * want, "pair {pair}: {} is not {want}", got[*pair]);
        }
    }

    #[test]
    fn linear_divides_every_frequency() {
        let rope = Rope { theta: 100_000.0, scaling: RopeScaling::Linear { factor: 4.0 } };
        let want = [(0, 0.25), (1, 0.208_840_64), (31, 0.000_946_378_86), (63, 2.992_712_6e-6)];
        check(&rope, 128, 1.0, &want);
    }

    #[test]
    fn llama3_blends_between_its_two_wavelengths() {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_tokens: 8192 };
        let want = [
            (0, 1.0),
            (10, 0.128_687_38),
            (28, 0.003_211_446),
            (30, 0.001_371_893_7),
            (35, 9.556_212e-5),
            (36, 7.784_655e-5),
            (63, 3.068_926e-7),
        ];
        check(&Rope { theta: 500_000.0, scaling }, 128, 1.0, &want);
    }

    #[test]
    fn yarn_with_the_defaults_of_the_paper() {
        let yarn = Yarn {
            factor: 4.0,
            original_tokens: 32_768,
            beta_fast: Yarn::BETA_FAST,
            beta_slow: Yarn::BETA_SLOW,
            attention_factor: Yarn::attention_factor(4.0, 1.0),
            edges: YarnEdges::Truncated,
        };
        let want = [
            (0, 1.0),
            (10, 0.115_478_2),
            (24, 0.005_375_321_5),
            (30, 0.001_064_361),
            (40, 4.445_698_5e-5),
            (45, 1.510_740_9e-5),
            (63, 3.102_344_4e-7),
        ];
        check(&Rope { theta: 1_000_000.0, scaling: RopeScaling::Yarn(yarn) }, 128, 1.138_629_4, &want);
    }

    #[test]
    fn yarn_with_exact_edges_and_two_scales() {
        let yarn = Yarn {
            factor: 16.0,
            original_tokens: 256,
            beta_fast: 16.0,
            beta_slow: 2.0,
            attention_factor: Yarn::attention_factor(16.0, 0.7) / Yarn::attention_factor(16.0, 1.0),
            edges: YarnEdges::Exact,
        };
        let want = [
            (0, 1.0),
            (5, 0.183_210_76),
            (10, 0.006_960_622),
            (15, 0.000_833_450_93),
            (20, 0.000_197_642_37),
            (25, 4.686_838_7e-5),
            (31, 8.334_509e-6),
        ];
        check(&Rope { theta: 10_000.0, scaling: RopeScaling::Yarn(yarn) }, 64, 0.934_878, &want);
    }
}
