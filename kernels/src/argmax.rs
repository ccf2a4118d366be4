//! The most likely token.

const LANES: usize = 16;

/// Index of the largest logit: the lowest of equals, NaN never; 0 if all are NaN.
///
/// Panics if there are no logits.
pub fn argmax(logits: &[f32]) -> u32 {
    assert!(!logits.is_empty(), "an argmax needs a logit");
    let larger = |best: f32, x: f32| if x > best { x } else { best };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *x);
        }
    }
    let best = lanes.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger);
    let index = logits.iter().position(|x| *x == best).unwrap_or(0);
    u32::try_from(index).expect("a vocabulary is counted in u32")
}

#[cfg(test)]
mod tests {
    use super::argmax;
    use crate::testing::random_floats;

    #[test]
    fn lowest_index_wins_and_nan_never_does() {
        let nan = f32::NAN;
        let cases: &[(&[f32], u32)] = &[
            (&[3.0], 0),
            (&[1.0, 2.0, 2.0], 1),
            (&[nan, -1.0, nan], 1),
            (&[nan, nan], 0),
            (&[f32::NEG_INFINITY, f32::NEG_INFINITY], 0),
            (&[nan, f32::NEG_INFINITY], 1),
            (&[0.0, f32::INFINITY, f32::INFINITY], 1),
        ];
        for (logits, want) in cases {
            assert_eq!(argmax(logits), *want, "{logits:?}");
        }
    }

    #[test]
    fn matches_a_plain_loop() {
        for length in [1, 15, 16, 17, 1000, 4097] {
            let logits = random_floats(length, length as u64);
            let mut want = 0;
            for (index, logit) in logits.iter().enumerate() {
                if *logit > logits[want] {
                    want = index;
                }
            }
            assert_eq!(argmax(&logits) as usize, want);
        }
    }
}
