//! Counter-based randomness: a value for (seed, counter) without state, so that order of execution cannot matter.
//!
//! SplitMix64's finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") applied twice.

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number in [0, 1) with 53 random bits, the same for the same arguments on every machine.
pub fn uniform(seed: u64, counter: u64) -> f64 {
    let stream = mix(seed.wrapping_add(GOLDEN_GAMMA));
    let bits = mix(stream.wrapping_add(counter.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
