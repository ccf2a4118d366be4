//! What a step must move and compute at least, and how long that takes at rates that a device was measured to reach.
//!
//! Counted are: the weights that a step streams, once, whatever the batch; the keys and values that each sequence attends
//! to; two operations (a multiplication and an addition) per parameter and row; four per query value and position
//! attended to (scores and mixture). Norms, rotations and sampling are small beside them and left out.

use super::platform::Ceilings;
use crate::nn::{DecoderSpec, Window};

/// The multiplications of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Parameters of all layers that every row is multiplied with.
    pub layer_parameters: u64,
    /// Parameters of the head, for rows that are sampled.
    pub head_parameters: u64,
    layers: usize,
    q_width: usize,
    window: Window,
}

/// The bytes that a device moves for it, as that device stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// Weights that each step reads.
    pub streamed_bytes: u64,
    /// Keys and values of one position, all layers.
    pub kv_bytes_per_token: u64,
}

/// The least time a piece of work can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub seconds: f64,
    pub by: BoundBy,
}

/// What the least time is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundBy {
    Bandwidth,
    Arithmetic,
}

impl BoundBy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Bandwidth => "bandwidth",
            Self::Arithmetic => "arithmetic",
        }
    }
}

impl Work {
    pub fn of(spec: &DecoderSpec) -> Self {
        let (hidden, q_width, kv_width) = (spec.hidden as u64, spec.q_width() as u64, spec.kv_width() as u64);
        let attention = 2 * hidden * q_width + 2 * hidden * kv_width;
        let mlp = 3 * hidden * spec.mlp.width() as u64;
        Self {
            layer_parameters: spec.layers as u64 * (attention + mlp),
            head_parameters: hidden * spec.vocab as u64,
            layers: spec.layers,
            q_width: spec.q_width(),
            window: spec.attention.window.clone(),
        }
    }

    /// Positions that a row behind `tokens` others attends to, as a mean over the layers: a window hides some.
    pub fn seen_tokens(&self, tokens: f64) -> f64 {
        let seen = |layer| self.window.of_layer(layer).map_or(tokens, |window| tokens.min(window as f64));
        (0..self.layers).map(seen).sum::<f64>() / self.layers as f64
    }

    /// Operations of one decode step of `batch` sequences with `tokens` behind each.
    pub fn decode_operations(&self, batch: usize, tokens: f64) -> f64 {
        let multiplied = 2.0 * (self.layer_parameters + self.head_parameters) as f64;
        batch as f64 * (multiplied + self.attention_operations(self.seen_tokens(tokens)))
    }

    /// Operations of computing a prompt of `tokens` and sampling behind it.
    pub fn prefill_operations(&self, tokens: usize) -> f64 {
        let multiplied = 2.0 * self.layer_parameters as f64 * tokens as f64 + 2.0 * self.head_parameters as f64;
        let tokens = tokens as f64;
        let seen = |layer| {
            // Row after row sees one position more, until the window is full.
            let window = self.window.of_layer(layer).map_or(tokens, |window| tokens.min(window as f64));
            window * (window + 1.0) / 2.0 + (tokens - window) * window
        };
        let seen = (0..self.layers).map(seen).sum::<f64>() / self.layers as f64;
        multiplied + self.attention_operations(seen)
    }

    fn attention_operations(&self, positions: f64) -> f64 {
        4.0 * self.layers as f64 * self.q_width as f64 * positions
    }

    /// The least time of one decode step; `None` where the device's rates are not known.
    pub fn decode_bound(&self, traffic: &Traffic, ceilings: &Ceilings, batch: usize, tokens: f64) -> Option<Bound> {
        let reading = traffic.decode_bytes(batch, self.seen_tokens(tokens)) / ceilings.bandwidth.per_second?;
        let computing = self.decode_operations(batch, tokens) / ceilings.arithmetic.per_second?;
        Some(if reading >= computing {
            Bound { seconds: reading, by: BoundBy::Bandwidth }
        } else {
            Bound { seconds: computing, by: BoundBy::Arithmetic }
        })
    }
}

impl Traffic {
    /// Bytes of one decode step of `batch` sequences that attend to `seen_tokens` positions each.
    pub fn decode_bytes(&self, batch: usize, seen_tokens: f64) -> f64 {
        self.streamed_bytes as f64 + batch as f64 * seen_tokens * self.kv_bytes_per_token as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Model, Rate, Shape};

    /// One H200 by its data sheet: 4.8 TB/s, and 989 T operations of bf16 a second.
    fn h200() -> Ceilings {
        Ceilings {
            bandwidth: Rate { per_second: Some(4.8e12), kind: "read" },
            arithmetic: Rate { per_second: Some(989e12), kind: "bf16" },
        }
    }

    fn spec(shape: &str) -> DecoderSpec {
        Model::random(Shape::named(shape).expect("a shape"), 1).expect("it is recognised").spec
    }

    fn in_bf16(spec: &DecoderSpec) -> (Work, Traffic) {
        let work = Work::of(spec);
        let streamed_bytes = 2 * (work.layer_parameters + work.head_parameters);
        let kv_bytes_per_token = 2 * 2 * (spec.kv_width() * spec.layers) as u64;
        (work, Traffic { streamed_bytes, kv_bytes_per_token })
    }

    #[track_caller]
    fn check(found: f64, want: f64, tolerance: f64) {
        assert!((found / want - 1.0).abs() <= tolerance, "{found} instead of {want}");
    }

    #[test]
    fn decode_bounds_are_those_computed_by_hand() {
        // Total tokens a second at 2,048 tokens of context, worked out on paper from the configurations.
        for (shape, kv_bytes_per_token, want) in [
            ("qwen2.5-coder-1.5b", 28_672, [(1, 1_526.0), (8, 10_796.0), (32, 30_929.0), (128, 57_944.0)]),
            ("qwen2.5-coder-7b", 57_344, [(1, 337.0), (8, 2_546.0), (32, 8_582.0), (128, 21_061.0)]),
            ("qwen2.5-coder-32b", 262_144, [(1, 74.4), (8, 563.0), (32, 1_893.0), (128, 4_630.0)]),
        ] {
            let (work, traffic) = in_bf16(&spec(shape));
            assert_eq!(traffic.kv_bytes_per_token, kv_bytes_per_token, "{shape}");
            for (batch, tokens_per_second) in want {
                let bound = work.decode_bound(&traffic, &h200(), batch, 2048.0).unwrap();
                assert_eq!(bound.by, BoundBy::Bandwidth, "{shape} x{batch}");
                check(batch as f64 / bound.seconds, tokens_per_second, 0.002);
            }
        }
    }

    #[test]
    fn the_parts_of_a_bound_are_those_computed_by_hand() {
        let (work, traffic) = in_bf16(&spec("qwen2.5-coder-7b"));
        check(work.layer_parameters as f64, 6.525e9, 0.001);
        check(work.head_parameters as f64, 0.545e9, 0.001);
        check(traffic.decode_bytes(1, 2048.0), 14.26e9, 0.001);
        check(work.decode_bound(&traffic, &h200(), 1, 2048.0).unwrap().seconds, 2.970e-3, 0.001);
        check(work.decode_operations(128, 2048.0) / 989e12, 1.94e-3, 0.01);
        for (shape, tera) in [("qwen2.5-coder-1.5b", 5.73), ("qwen2.5-coder-7b", 27.6), ("qwen2.5-coder-32b", 131.0)] {
            check(Work::of(&spec(shape)).prefill_operations(2048), tera * 1e12, 0.005);
        }
    }

    #[test]
    fn a_slow_machine_is_bound_by_arithmetic() {
        let (work, traffic) = in_bf16(&spec("qwen2.5-coder-0.5b"));
        let ceilings = Ceilings {
            bandwidth: Rate { per_second: Some(20e9), kind: "read" },
            arithmetic: Rate { per_second: Some(200e9), kind: "f32" },
        };
        assert_eq!(work.decode_bound(&traffic, &ceilings, 1, 512.0).unwrap().by, BoundBy::Bandwidth);
        let bound = work.decode_bound(&traffic, &ceilings, 64, 512.0).unwrap();
        assert_eq!(bound.by, BoundBy::Arithmetic);
        check(bound.seconds, work.decode_operations(64, 512.0) / 200e9, 1e-9);
        let unknown = Ceilings { bandwidth: Rate { per_second: None, kind: "copy" }, ..ceilings };
        assert_eq!(work.decode_bound(&traffic, &unknown, 64, 512.0), None);
    }

    #[test]
    fn a_window_hides_what_lies_before_it() {
        let mut spec = spec("tiny");
        let full = Work::of(&spec);
        spec.attention.window = Window::PerLayer(vec![None, Some(100)]);
        let windowed = Work::of(&spec);
        assert_eq!((full.seen_tokens(300.0), windowed.seen_tokens(300.0)), (300.0, 200.0));
        assert_eq!(windowed.seen_tokens(50.0), 50.0);
        // Rows 1 to 100 see as many, the other 200 see 100 each; the full layer sees 300 * 301 / 2.
        let hidden = full.prefill_operations(300) - windowed.prefill_operations(300);
        assert_eq!(hidden, 4.0 * 64.0 * (45_150.0 - (5_050.0 + 20_000.0)));
    }
}
