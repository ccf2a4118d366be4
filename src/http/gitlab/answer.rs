//! From a plan to an answer: asks the lane, shapes the model's text, and frames it whole or as it comes.

use crate::domain::{Event, FinishReason, Generate, GenerateError, Job, Usage};
use crate::feature::{Flow, Shape};
use crate::http::choices::Choices;
use crate::http::record::CallRecord;
use crate::http::stream::{Speak, Told};
use futures::StreamExt as _;
use std::time::Duration;
use tokio::time::timeout;

/// An answer that has begun, or has been silent for so long that its status has to be decided.
pub(super) struct Opened {
    pub choices: Choices,
    pub first: Option<(usize, Event)>,
}

/// Asks the lane, and waits for a sign of life: a call that fails before it has begun gets a status of its own.
/// Without `patience` it waits as long as it takes.
pub(super) async fn open(lane: &dyn Generate, job: Job, patience: Option<Duration>) -> Result<Opened, GenerateError> {
    let mut choices = Choices::start(lane, vec![job]);
    let first = match patience {
        None => choices.next().await,
        Some(patience) => match timeout(patience, choices.next()).await {
            Ok(first) => first,
            Err(_) => return Ok(Opened { choices, first: None }),
        },
    };
    let (choice_index, said) = first.expect("a lane that ends without a word is made an error by `Choices`");
    Ok(Opened { choices, first: Some((choice_index, said?)) })
}

/// What a whole answer came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answered {
    pub text: String,
    pub usage: Usage,
    pub reason: FinishReason,
}

/// Hears an answer to its end, or until its shape has enough of it.
pub(super) async fn whole(
    opened: Opened,
    shape: Box<dyn Shape>,
    record: &mut CallRecord,
) -> Result<Answered, GenerateError> {
    let Opened { mut choices, first } = opened;
    let mut telling = Telling::new(shape);
    let mut said = first.map(|(_, event)| Ok(event));
    while let Some(event) = said {
        let event = event?;
        record.hear(&event);
        if telling.hear(event) == Flow::Enough {
            break;
        }
        said = choices.next().await.map(|(_, said)| said);
    }
    drop(choices);
    let reason = telling.end();
    record.finish();
    Ok(Answered { text: std::mem::take(&mut telling.text), usage: telling.usage(), reason })
}

/// Follows the events of one job through its shape.
struct Telling {
    shape: Box<dyn Shape>,
    /// Shaped, and not yet taken.
    text: String,
    usage: Usage,
    pieces: usize,
    ended: Option<FinishReason>,
}

impl Telling {
    fn new(shape: Box<dyn Shape>) -> Self {
        Self { shape, text: String::new(), usage: Usage::default(), pieces: 0, ended: None }
    }

    fn hear(&mut self, event: Event) -> Flow {
        match event {
            Event::Taken(_) => Flow::More,
            Event::Started { prompt_tokens, cached_tokens, .. } => {
                self.usage = Usage { prompt_tokens, cached_tokens, completion_tokens: 0 };
                Flow::More
            }
            Event::Text { text, .. } => {
                self.pieces += 1;
                self.shape.push(&text, &mut self.text)
            }
            Event::Finished { reason, usage } => {
                self.usage = usage;
                self.ended = Some(reason);
                Flow::More
            }
        }
    }

    fn end(&mut self) -> FinishReason {
        let reason = self.ended.unwrap_or(FinishReason::Stop);
        self.shape.finish(reason, &mut self.text);
        reason
    }

    /// An answer that was complete before the model had ended has no count of its tokens: its pieces stand for them.
    fn uncounted_tokens(&self) -> usize {
        if self.ended.is_some() { 0 } else { self.pieces }
    }

    fn usage(&self) -> Usage {
        Usage { completion_tokens: self.usage.completion_tokens + self.uncounted_tokens(), ..self.usage }
    }
}

/// How pieces of text become bytes of a stream.
pub(super) trait Framing: Send + Unpin {
    fn begin(&mut self, _out: &mut Vec<u8>) {}
    fn text(&mut self, text: &str, out: &mut Vec<u8>);
    fn end(&mut self, _usage: Usage, _out: &mut Vec<u8>) {}
    fn fail(&mut self, _error: &GenerateError, _out: &mut Vec<u8>) -> Told {
        Told::ByBreaking
    }
    fn keep_alive(&mut self, _out: &mut Vec<u8>) {}
}

/// Text as it is, without a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw;

impl Framing for Raw {
    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Speaks one job's shaped text in a framing.
pub(super) struct Spoken<F> {
    telling: Telling,
    framing: F,
    has_begun: bool,
}

impl<F: Framing> Spoken<F> {
    pub(super) fn new(shape: Box<dyn Shape>, framing: F) -> Self {
        Self { telling: Telling::new(shape), framing, has_begun: false }
    }

    /// Goes on with an answer whose beginning was said already.
    pub(super) fn resumed(shape: Box<dyn Shape>, framing: F) -> Self {
        Self { has_begun: true, ..Self::new(shape, framing) }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.framing.begin(out);
        }
    }

    fn take_text(&mut self, out: &mut Vec<u8>) {
        if !self.telling.text.is_empty() {
            self.framing.text(&self.telling.text, out);
            self.telling.text.clear();
        }
    }
}

impl<F: Framing> Speak for Spoken<F> {
    fn say(&mut self, _choice_index: usize, event: Event, out: &mut Vec<u8>) -> Flow {
        self.begin(out);
        let flow = self.telling.hear(event);
        self.take_text(out);
        flow
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.telling.end();
        self.take_text(out);
        self.framing.end(self.telling.usage(), out);
    }

    fn fail(&mut self, error: &GenerateError, out: &mut Vec<u8>) -> Told {
        self.begin(out);
        self.framing.fail(error, out)
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.framing.keep_alive(out);
    }
}
