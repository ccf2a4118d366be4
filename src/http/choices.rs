//! The answers of one call's jobs, as they come.

use crate::domain::{Event, Generate, GenerateError, Job};
use futures::stream::{BoxStream, SelectAll, Stream, StreamExt as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The events of all choices, each with the index of its choice. Ends when every choice has finished, or after the
/// first error. Dropping it drops the jobs.
pub(super) struct Choices {
    streams: SelectAll<BoxStream<'static, Heard>>,
    /// By index of the choice.
    is_finished: Vec<bool>,
    unfinished: usize,
}

/// A choice's index and what it said; `None` if its stream ended.
type Heard = (usize, Option<Result<Event, GenerateError>>);

impl Choices {
    pub(super) fn start(lane: &dyn Generate, jobs: Vec<Job>) -> Self {
        let unfinished = jobs.len();
        let streams = jobs.into_iter().enumerate().map(|(choice_index, job)| {
            let end = futures::stream::once(std::future::ready(None));
            lane.generate(job).map(Some).chain(end).map(move |said| (choice_index, said)).boxed()
        });
        Self { streams: streams.collect(), is_finished: vec![false; unfinished], unfinished }
    }

    fn give_up(&mut self) {
        self.unfinished = 0;
        self.streams.clear();
    }
}

impl Stream for Choices {
    type Item = (usize, Result<Event, GenerateError>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.unfinished > 0 {
            let Some((choice_index, said)) = ready!(this.streams.poll_next_unpin(context)) else { break };
            let said = match said {
                None if this.is_finished[choice_index] => continue,
                None => Err(GenerateError::StepFailed { reason: "the lane ended without finishing".to_owned() }),
                Some(said) => said,
            };
            match said {
                Ok(Event::Finished { .. }) => {
                    this.unfinished -= 1;
                    this.is_finished[choice_index] = true;
                }
                Ok(Event::Taken(_) | Event::Started { .. } | Event::Text { .. }) => {}
                Err(_) => this.give_up(),
            }
            return Poll::Ready(Some((choice_index, said)));
        }
        Poll::Ready(None)
    }
}
