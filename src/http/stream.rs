//! A streamed answer: events in, bytes of a dialect out, at the pace of the client.

use super::choices::Choices;
use super::record::CallRecord;
use crate::domain::{Event, GenerateError};
use crate::feature::Flow;
use axum::body::Bytes;
use futures::stream::Stream as _;
use hyper::body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};
use tracing::Span;

/// Events that are ready together leave together, up to about this much.
const FRAME_BYTES: usize = 16 * 1024;

/// How a dialect puts events into words.
pub(super) trait Speak: Send {
    /// Appends what `event` makes a client hear, which may be nothing, and says whether there is use for more.
    fn say(&mut self, choice_index: usize, event: Event, out: &mut Vec<u8>) -> Flow;
    /// Appends the end of a stream that went well.
    fn finish(&mut self, out: &mut Vec<u8>);
    /// Appends what a client hears of a failure.
    fn fail(&mut self, error: &GenerateError, out: &mut Vec<u8>) -> Told;
    /// Appends a sign of life; nothing where the format has none.
    fn keep_alive(&mut self, out: &mut Vec<u8>);
}

/// Whether a client can have understood a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    InWords,
    /// The format has no word for it: only a connection that breaks tells a broken answer from a short one.
    ByBreaking,
}

/// How far a body is from breaking its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaking {
    No,
    /// What was said before has to leave first.
    Soon,
    Now,
}

impl Breaking {
    /// The end of a body whose last words have been handed over.
    fn poll<T>(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, BrokenOff>>> {
        match self {
            Self::No => Poll::Ready(None),
            Self::Soon => {
                // The connection flushes while it waits.
                *self = Self::Now;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Now => {
                *self = Self::No;
                Poll::Ready(Some(Err(BrokenOff)))
            }
        }
    }
}

/// Ends a connection in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct BrokenOff;

/// The body of a streamed answer. Asks the lane for an event only when the connection asks for bytes, so a slow reader
/// slows its lane instead of filling memory. Dropping it cancels the call.
pub(super) struct EventBody<S> {
    /// `None` once the end has been said.
    choices: Option<Choices>,
    speaker: S,
    record: CallRecord,
    /// Said, but not yet sent.
    pending: Vec<u8>,
    breaking: Breaking,
    keep_alive: KeepAlive,
    span: Span,
}

impl<S: Speak> EventBody<S> {
    /// A body whose first bytes are a sign of life.
    pub(super) fn silent(choices: Choices, mut speaker: S, record: CallRecord, interval: Duration) -> Self {
        let mut pending = Vec::new();
        speaker.keep_alive(&mut pending);
        Self::new(choices, speaker, record, pending, interval)
    }

    /// A body that begins with `first`.
    pub(super) fn begun(
        choices: Choices,
        first: (usize, Event),
        speaker: S,
        record: CallRecord,
        interval: Duration,
    ) -> Self {
        let mut body = Self::new(choices, speaker, record, Vec::new(), interval);
        body.hear(first.0, Ok(first.1));
        body
    }

    /// A body whose beginning was said before: `pending` are its first bytes.
    pub(super) fn resumed(
        choices: Choices,
        speaker: S,
        record: CallRecord,
        pending: Vec<u8>,
        interval: Duration,
    ) -> Self {
        Self::new(choices, speaker, record, pending, interval)
    }

    fn new(choices: Choices, speaker: S, record: CallRecord, pending: Vec<u8>, interval: Duration) -> Self {
        let (keep_alive, span) = (KeepAlive::new(interval), Span::current());
        Self { choices: Some(choices), speaker, record, pending, breaking: Breaking::No, keep_alive, span }
    }

    fn hear(&mut self, choice_index: usize, said: Result<Event, GenerateError>) {
        match said {
            Ok(event) => {
                self.record.hear(&event);
                if self.speaker.say(choice_index, event, &mut self.pending) == Flow::Enough {
                    self.end();
                }
            }
            Err(error) => {
                if self.speaker.fail(&error, &mut self.pending) == Told::ByBreaking {
                    self.breaking = Breaking::Soon;
                }
                self.record.fail(&error);
                self.choices = None;
            }
        }
    }

    fn end(&mut self) {
        self.speaker.finish(&mut self.pending);
        self.record.finish();
        self.choices = None;
    }

    /// Takes in what the lane has to say, until it has nothing more or there is enough to send.
    fn listen(&mut self, context: &mut Context<'_>) {
        while self.pending.len() < FRAME_BYTES {
            let Some(choices) = &mut self.choices else { return };
            match Pin::new(choices).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(Some((choice_index, said))) => self.hear(choice_index, said),
                Poll::Ready(None) => self.end(),
            }
        }
    }
}

impl<S: Speak + Unpin> Body for EventBody<S> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        let _entered = this.span.clone().entered();
        this.listen(context);
        while this.pending.is_empty() {
            if this.choices.is_none() {
                return this.breaking.poll(context);
            }
            std::task::ready!(this.keep_alive.poll(context));
            this.speaker.keep_alive(&mut this.pending);
        }
        this.keep_alive.sent();
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.pending).into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.choices.is_none() && self.pending.is_empty() && self.breaking == Breaking::No
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
