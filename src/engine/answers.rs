//! Which row each result of a step belongs to: behind a guess that was wrong, rows of its sequence have none.

use super::batch::{Batch, SampledRow};
use super::runner::RowResult;
use crate::sampler::{SampleError, SampledToken};
use crate::scheduler::{Sampled, SequenceId};

/// What a step has sampled, as those want it who take it. `sampled` and `tokens` go together.
#[derive(Default)]
pub(super) struct Answers {
    pub sampled: Vec<Sampled>,
    pub tokens: Vec<SampledToken>,
    pub broken: Vec<(SequenceId, SampleError)>,
}

impl Answers {
    pub fn of(batch: &Batch, rows: Vec<RowResult>) -> Self {
        let sequences: Vec<SequenceId> = results(batch, &rows).map(|(row, _)| row.sequence).collect();
        let mut answers = Self::default();
        for (sequence, result) in sequences.into_iter().zip(rows) {
            match result {
                Ok(token) => {
                    answers.sampled.push(Sampled { sequence, token: token.token });
                    answers.tokens.push(token);
                }
                Err(error) => answers.broken.push((sequence, error)),
            }
        }
        answers
    }
}

/// Each result with the row it belongs to.
pub(super) fn results<'a>(
    batch: &'a Batch,
    rows: &'a [RowResult],
) -> impl Iterator<Item = (SampledRow, &'a RowResult)> {
    let mut index = 0;
    rows.iter().map_while(move |result| {
        let row = *batch.sampled.get(index)?;
        index = batch.next_sampled(index, token_of(result));
        Some((row, result))
    })
}

/// How many rows must have results, as far as the results themselves tell.
pub(super) fn counting_rows(batch: &Batch, rows: &[RowResult]) -> usize {
    let (mut index, mut counting) = (0, 0);
    while index < batch.sampled.len() {
        index = batch.next_sampled(index, rows.get(counting).and_then(token_of));
        counting += 1;
    }
    counting
}

fn token_of(result: &RowResult) -> Option<u32> {
    result.as_ref().ok().map(|sampled| sampled.token)
}
