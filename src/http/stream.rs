//! A streamed answer: events in, server-sent events out, at the pace of the client.

use super::choices::Choices;
use super::record::CallRecord;
use crate::dialect::openai::{KEEP_ALIVE, Speaker, error_event};
use crate::domain::{Event, GenerateError};
use axum::body::Bytes;
use futures::stream::Stream as _;
use hyper::body::{Body, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};
use tracing::Span;

/// Events that are ready together leave together, up to about this much.
const FRAME_BYTES: usize = 16 * 1024;

/// The body of a streamed answer. Asks the lane for an event only when the connection asks for bytes, so a slow reader
/// slows its lane instead of filling memory. Dropping it cancels the call.
pub(super) struct EventBody {
    /// `None` once the end has been said.
    choices: Option<Choices>,
    speaker: Speaker,
    record: CallRecord,
    /// Said, but not yet sent.
    pending: Vec<u8>,
    keep_alive: KeepAlive,
    span: Span,
}

impl EventBody {
    /// A body whose first bytes are a sign of life.
    pub(super) fn silent(choices: Choices, speaker: Speaker, record: CallRecord, interval: Duration) -> Self {
        let keep_alive = KeepAlive::new(interval);
        let span = Span::current();
        Self { choices: Some(choices), speaker, record, pending: KEEP_ALIVE.to_vec(), keep_alive, span }
    }

    /// A body that begins with `first`.
    pub(super) fn begun(
        choices: Choices,
        first: (usize, Event),
        speaker: Speaker,
        record: CallRecord,
        interval: Duration,
    ) -> Self {
        let mut body = Self::silent(choices, speaker, record, interval);
        body.pending.clear();
        body.hear(first.0, Ok(first.1));
        body
    }

    fn hear(&mut self, choice_index: usize, said: Result<Event, GenerateError>) {
        match said {
            Ok(event) => {
                self.record.hear(&event);
                self.speaker.say(choice_index, event, &mut self.pending);
            }
            Err(error) => {
                error_event(&error, &mut self.pending);
                self.record.fail(error.into());
                self.choices = None;
            }
        }
    }

    /// Takes in what the lane has to say, until it has nothing more or there is enough to send.
    fn listen(&mut self, context: &mut Context<'_>) {
        while self.pending.len() < FRAME_BYTES {
            let Some(choices) = &mut self.choices else { return };
            match Pin::new(choices).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some((choice_index, said))) => self.hear(choice_index, said),
                Poll::Ready(None) => {
                    self.speaker.finish(&mut self.pending);
                    self.record.finish();
                    self.choices = None;
                }
            }
        }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let _entered = this.span.clone().entered();
        this.listen(context);
        if this.pending.is_empty() {
            if this.choices.is_none() {
                return Poll::Ready(None);
            }
            std::task::ready!(this.keep_alive.poll(context));
            this.pending.extend_from_slice(KEEP_ALIVE);
        }
        this.keep_alive.sent();
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.pending).into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.choices.is_none() && self.pending.is_empty()
    }
}

/// Says when nothing was sent for an interval. Sending only notes the time: the timer is moved when it fires, not for
/// every token.
struct KeepAlive {
    interval: Duration,
    last_sent: Instant,
    timer: Pin<Box<Sleep>>,
}

impl KeepAlive {
    fn new(interval: Duration) -> Self {
        Self { interval, last_sent: Instant::now(), timer: Box::pin(sleep(interval)) }
    }

    fn sent(&mut self) {
        self.last_sent = Instant::now();
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let due = self.last_sent + self.interval;
            let is_due = due <= Instant::now();
            self.timer.as_mut().reset(if is_due { Instant::now() + self.interval } else { due });
            if is_due {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
