//! What a step costs by its number of rows, learned from the steps themselves.
//!
//! Where weights are streamed from memory, a few more rows cost next to nothing; where the machine computes as fast as
//! it can, each costs as much as the first. Which of the two it is depends on model, device and company: it is
//! measured, not assumed. Times come from the caller.

/// Upper ends of the row counts that share a measurement.
const ROWS: [usize; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96];

/// Weight of the newest step.
const NEWEST: f64 = 0.2;

/// An unlucky measurement keeps nobody from measuring again for longer than so many steps.
const KEPT_STEPS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct StepCosts {
    measured: [Option<Measured>; ROWS.len()],
    steps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    rows: f64,
    micros: f64,
    at_step: u64,
}

impl StepCosts {
    /// A step of so many rows, all of them decoding, took so long.
    pub fn learn(&mut self, rows: usize, micros: u64) {
        self.steps += 1;
        let index = ROWS.partition_point(|end| *end < rows);
        let Some(slot) = self.measured.get_mut(index).filter(|_| micros > 0) else { return };
        let (rows, micros, at_step) = (rows as f64, micros as f64, self.steps);
        *slot = Some(match *slot {
            Some(old) if at_step - old.at_step < KEPT_STEPS => Measured {
                rows: old.rows + (rows - old.rows) * NEWEST,
                micros: old.micros + (micros - old.micros) * NEWEST,
                at_step,
            },
            Some(_) | None => Measured { rows, micros, at_step },
        });
    }

    /// Microseconds, or any number where nothing is known. Between measurements on a line, beyond them level: what was
    /// never tried is taken to be free, and then is measured.
    pub fn of(&self, rows: usize) -> f64 {
        let rows = rows as f64;
        let mut below: Option<Measured> = None;
        for here in self.measured.iter().flatten().filter(|here| self.steps - here.at_step < KEPT_STEPS) {
            if here.rows >= rows {
                return below.map_or(here.micros, |below| {
                    let share = (rows - below.rows) / (here.rows - below.rows);
                    below.micros + (here.micros - below.micros) * share
                });
            }
            below = Some(*here);
        }
        below.map_or(1.0, |below| below.micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_lie_on_lines_between_measurements_and_are_level_beyond() {
        let mut costs = StepCosts::default();
        assert_eq!(costs.of(1), costs.of(16), "nothing is known");
        for (rows, micros) in [(2, 100), (8, 160), (0, 0), (300, 9_000)] {
            costs.learn(rows, micros);
        }
        let all = [1, 2, 5, 8, 9, 64].map(|rows| costs.of(rows));
        assert_eq!(all, [100.0, 100.0, 130.0, 160.0, 160.0, 160.0]);
    }

    #[test]
    fn the_newest_steps_count_most_and_old_ones_are_forgotten() {
        let mut costs = StepCosts::default();
        costs.learn(1, 100);
        costs.learn(4, 10_000);
        for _ in 0..50 {
            costs.learn(1, 200);
        }
        assert!((costs.of(1) - 200.0).abs() < 1.0);
        assert!(costs.of(4) > 9_000.0);
        for _ in 0..KEPT_STEPS {
            costs.learn(1, 200);
        }
        assert!(costs.of(4) < 201.0, "an old measurement is tried again");
    }
}
