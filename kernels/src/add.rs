//! Residual addition.

/// Adds `x` to `residual`, element by element. Panics if the lengths differ.
pub fn add(residual: &mut [f32], x: &[f32]) {
    assert_eq!(residual.len(), x.len(), "both sides of a sum have the same shape");
    for (residual, x) in residual.iter_mut().zip(x) {
        *residual += x;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn adds_in_place() {
        for length in [0, 1, 5, 100] {
            let mut residual: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let x: Vec<f32> = (0..length).map(|i| 2.0 * i as f32).collect();
            super::add(&mut residual, &x);
            assert!(residual.iter().enumerate().all(|(i, sum)| *sum == 3.0 * i as f32));
        }
    }
}
