//! The one way every provider answers: opens the request, cuts what comes into events, lets a [`Reading`] say what each
//! means, and speaks our events. Errors carry their class; after the first text they are [`UpstreamClass::Broken`].

use super::complaint::Complaint;
use super::endpoint::Remote;
use super::failure::{CUT_SHORT, POLICY, UNREADABLE, Verdict, in_the_middle, judge, judge_way, lengths};
use super::retry_after::retry_after;
use super::text::Filter;
use crate::domain::{CallId, Event, FinishReason, GenerateError, UpstreamClass, UpstreamError, Usage};
use crate::egress::{Ask, Egress, EgressError, Method, Streamed, TIMEOUT};
use crate::wire::event_reader::{Event as Frame, EventReader};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout, timeout_at};

/// How large one event of a stream may be.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// How much of a refusal is read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// For what comes behind the end of the text: counts, and the end of the stream.
const TAIL_WAIT: Duration = Duration::from_secs(2);
/// For the end of a body behind its last event, so that the connection can be used again.
const DRAIN_WAIT: Duration = Duration::from_millis(50);

/// A request, ready to be sent but for what a [`Sign`] adds.
pub struct Request {
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// Adds what proves who asks, where that is made for each request or expires: a signature, a token with an end.
pub trait Sign: Send + Sync {
    /// Waits within the deadline of the job. The error's cause says what to put right, its class who may be asked next.
    fn sign<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Verdict>>;
}

/// What one event of a provider's stream says, in no protocol's words.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    pub text: String,
    pub counts: Counts,
    pub finish: Option<Finish>,
    /// Nothing follows.
    pub is_last: bool,
}

/// Counts as far as they were said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub prompt_tokens: Option<usize>,
    pub cached_tokens: Option<usize>,
    pub completion_tokens: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Done(FinishReason),
    /// The text ended, but not well.
    Failed(Verdict),
}

/// Why an event is no part of an answer.
pub enum Trouble {
    Unreadable,
    Said(Box<Complaint>),
}

/// Understands the events of one protocol.
pub trait Reading: Send {
    fn read(&mut self, frame: &Frame) -> Result<Heard, Trouble>;

    /// How bytes become events: server-sent ones, unless said otherwise.
    fn cutter(&self) -> Box<dyn Cut> {
        Box::new(EventReader::new(FRAME_BYTES_MAX))
    }
}

/// Cuts a body into events, whatever the borders of its pieces.
pub trait Cut: Send {
    /// Appends the events that are complete. Errors for what can be none of this framing's, or is too large for one.
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Frame>) -> Result<(), Uncut>;
    /// What stands at the end of the body without the mark of its end.
    fn finish(&mut self) -> Option<Frame>;
}

/// Bytes that are no events.
pub struct Uncut;

impl Cut for EventReader {
    fn push(&mut self, bytes: &[u8], events: &mut Vec<Frame>) -> Result<(), Uncut> {
        Self::push(self, bytes, events).map_err(|_| Uncut)
    }

    fn finish(&mut self) -> Option<Frame> {
        Self::finish(self)
    }
}

/// What an answer is made of.
pub struct Plan {
    pub egress: Egress,
    pub remote: Arc<Remote>,
    pub id: CallId,
    pub deadline: Option<Duration>,
    pub max_tokens: usize,
    pub request: Request,
    pub sign: Option<Arc<dyn Sign>>,
    pub reading: Box<dyn Reading>,
    pub filter: Filter,
}

/// Nothing is sent before the stream is polled.
pub fn stream(plan: Plan) -> BoxStream<'static, Result<Event, GenerateError>> {
    let deadline = plan.deadline.unwrap_or(plan.remote.patience.whole);
    let answer = Answer {
        ends_at: Instant::now() + deadline,
        deadline,
        frames: plan.reading.cutter(),
        plan,
        phase: Phase::Asking,
        ready: VecDeque::new(),
        is_started: false,
        counts: Counts::default(),
        num_pieces: 0,
        finish: None,
    };
    Box::pin(futures::stream::unfold(answer, |mut answer| async {
        let said = answer.next().await?;
        Some((said, answer))
    }))
}

/// What ends the stream with an error.
enum Failure {
    Deadline,
    Way(EgressError),
    Judged { verdict: Verdict, status: Option<u16>, retry_after: Option<Duration>, complaint: Box<Complaint> },
}

impl From<Verdict> for Failure {
    fn from(verdict: Verdict) -> Self {
        Self::Judged { verdict, status: None, retry_after: None, complaint: Box::default() }
    }
}

enum Phase {
    Asking,
    Reading(Streamed),
    /// Everything is said.
    Draining(Streamed),
    Over,
}

struct Answer {
    plan: Plan,
    ends_at: Instant,
    deadline: Duration,
    phase: Phase,
    frames: Box<dyn Cut>,
    ready: VecDeque<Result<Event, GenerateError>>,
    is_started: bool,
    counts: Counts,
    num_pieces: usize,
    finish: Option<FinishReason>,
}

impl Answer {
    async fn next(&mut self) -> Option<Result<Event, GenerateError>> {
        loop {
            if let (Phase::Draining(body), Some(Ok(Event::Finished { .. }))) = (&mut self.phase, self.ready.front()) {
                // Nobody asks a finished answer for more.
                drop(timeout(DRAIN_WAIT, body.piece()).await);
                self.phase = Phase::Over;
            }
            if let Some(said) = self.ready.pop_front() {
                return Some(said);
            }
            let step = match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Asking => self.ask().await,
                Phase::Reading(body) => self.hear_more(body).await,
                Phase::Draining(_) | Phase::Over => return None,
            };
            if let Err(failure) = step {
                // Behind the text that came in the same piece.
                self.phase = Phase::Over;
                let error = self.explain(failure);
                self.ready.push_back(Err(error));
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        if let Some(sign) = self.plan.sign.clone() {
            let signing = timeout_at(self.ends_at, sign.sign(&mut self.plan.request)).await;
            signing.map_err(|_| Failure::Deadline)??;
        }
        let Plan { egress, request, remote, .. } = &self.plan;
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let patience = remote.patience;
        let ask = Ask {
            method: Method::Post,
            url: &request.url,
            headers: &headers,
            body: Some(&request.body),
            timeout: patience.head,
        };
        let opened = timeout_at(self.ends_at, egress.open(ask, patience.idle)).await.map_err(|_| Failure::Deadline)?;
        let body = opened.map_err(Failure::Way)?;
        // Not needed any more, and as long as the conversation.
        self.plan.request.body = String::new();
        let kind = body.header("content-type").unwrap_or_default().to_ascii_lowercase();
        if body.status != 200 || kind.contains("json") || kind.contains("html") {
            return Err(timeout_at(self.ends_at, refusal(body)).await.map_err(|_| Failure::Deadline)?);
        }
        self.phase = Phase::Reading(body);
        Ok(())
    }

    async fn hear_more(&mut self, mut body: Streamed) -> Result<(), Failure> {
        let piece = timeout_at(self.ends_at, body.piece()).await;
        let mut frames = Vec::new();
        let mut trouble = None;
        let is_over = match piece {
            Ok(Ok(Some(bytes))) => {
                if self.frames.push(&bytes, &mut frames).is_err() {
                    trouble = Some(Failure::from(UNREADABLE));
                }
                false
            }
            Ok(Ok(None)) => {
                frames.extend(self.frames.finish());
                true
            }
            Ok(Err(error)) => {
                trouble = Some(Failure::Way(error));
                false
            }
            Err(_) => {
                trouble = Some(Failure::Deadline);
                false
            }
        };
        for frame in frames {
            if self.hear(&frame)? {
                // After a stop string the connection is closed: that is how the other side hears of it.
                self.phase = if self.finish.is_some() { Phase::Draining(body) } else { Phase::Over };
                return Ok(());
            }
        }
        match trouble {
            // The text is whole; what is missing are counts.
            Some(_) if self.finish.is_some() => self.complete(),
            Some(failure) => return Err(failure),
            None if is_over && self.finish.is_some() => self.complete(),
            None if is_over => return Err(CUT_SHORT.into()),
            None => self.phase = Phase::Reading(body),
        }
        Ok(())
    }

    /// Whether everything is said.
    fn hear(&mut self, frame: &Frame) -> Result<bool, Failure> {
        let heard = match self.plan.reading.read(frame) {
            Ok(heard) => heard,
            // Behind the end of the text nothing can go wrong with it any more.
            Err(_) if self.finish.is_some() => return Ok(false),
            Err(Trouble::Unreadable) => return Err(UNREADABLE.into()),
            Err(Trouble::Said(complaint)) => {
                let status = complaint.status;
                let verdict = judge(status.unwrap_or(500), &complaint);
                return Err(Failure::Judged { verdict, status, retry_after: None, complaint });
            }
        };
        self.counts.add(heard.counts);
        if !heard.text.is_empty() {
            self.num_pieces += 1;
            let passed = self.plan.filter.push(&heard.text);
            self.say(passed.text);
            if passed.is_stopped {
                self.finished(FinishReason::Stop);
                return Ok(true);
            }
        }
        match heard.finish {
            Some(Finish::Done(reason)) => {
                self.finish = Some(reason);
                self.ends_at = self.ends_at.min(Instant::now() + TAIL_WAIT);
            }
            Some(Finish::Failed(verdict)) => return Err(verdict.into()),
            None => {}
        }
        if heard.is_last {
            // A last event without a reason before it is an end all the same.
            self.finish.get_or_insert(FinishReason::Stop);
            self.complete();
        }
        Ok(heard.is_last)
    }

    /// The end of a text whose reason is known.
    fn complete(&mut self) {
        let passed = self.plan.filter.flush();
        self.say(passed.text);
        let reason = if passed.is_stopped { FinishReason::Stop } else { self.finish.unwrap_or(FinishReason::Stop) };
        self.finished(reason);
    }

    fn say(&mut self, text: String) {
        if !text.is_empty() {
            self.start();
            self.ready.push_back(Ok(Event::Text { text, logprobs: Vec::new() }));
        }
    }

    /// Counts are known here only from providers that begin with them; the others count at the end.
    fn start(&mut self) {
        if !std::mem::replace(&mut self.is_started, true) {
            let Usage { prompt_tokens, cached_tokens, .. } = self.usage();
            let queue_wait = Duration::ZERO;
            self.ready.push_back(Ok(Event::Started { prompt_tokens, cached_tokens, queue_wait }));
        }
    }

    fn finished(&mut self, reason: FinishReason) {
        self.start();
        let usage = self.usage();
        self.ready.push_back(Ok(Event::Finished { reason, usage }));
    }

    /// Where nobody counted, a piece of text stands for a token: most servers send them so.
    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.counts.prompt_tokens.unwrap_or(0),
            cached_tokens: self.counts.cached_tokens.unwrap_or(0),
            completion_tokens: self.counts.completion_tokens.unwrap_or(0).max(self.num_pieces_uncounted()),
        }
    }

    fn num_pieces_uncounted(&self) -> usize {
        if self.finish.is_some() && self.counts.completion_tokens.is_some() { 0 } else { self.num_pieces }
    }

    fn explain(&self, failure: Failure) -> GenerateError {
        let (verdict, status, retry_after, complaint) = match failure {
            Failure::Deadline => return self.late(),
            Failure::Way(error) => {
                // Its text says what to do, and holds no body and no key.
                tracing::warn!(provider = %self.plan.remote.name, call = %self.plan.id, "{error}");
                (judge_way(&error), None, None, Box::default())
            }
            Failure::Judged { verdict, status, retry_after, complaint } => {
                let said = complaint.excerpt();
                tracing::warn!(
                    provider = %self.plan.remote.name, call = %self.plan.id, status, said, "a provider {}", verdict.cause
                );
                (verdict, status, retry_after, complaint)
            }
        };
        let remote = &self.plan.remote;
        if let (UpstreamClass::TooLong, false, Some((prompt_tokens, context_tokens))) =
            (verdict.class, self.is_started, lengths(&complaint))
        {
            let (model, max_tokens) = (remote.model.clone(), self.plan.max_tokens);
            return GenerateError::PromptTooLong { model, prompt_tokens, max_tokens, context_tokens };
        }
        let Verdict { class, cause } = if self.is_started { in_the_middle(verdict) } else { verdict };
        let (provider, usage) = (remote.name.clone(), self.usage());
        Box::new(UpstreamError { provider, class, cause, status, retry_after, usage }).into()
    }

    fn late(&self) -> GenerateError {
        let phase = if self.is_started { "a provider was answering" } else { "it waited for a provider" };
        GenerateError::DeadlineExceeded { deadline: self.deadline, phase, retry_after: Duration::from_secs(1) }
    }
}

impl Counts {
    /// Later counts take the place of earlier ones: they are sums.
    fn add(&mut self, later: Self) {
        self.prompt_tokens = later.prompt_tokens.or(self.prompt_tokens);
        self.cached_tokens = later.cached_tokens.or(self.cached_tokens);
        self.completion_tokens = later.completion_tokens.or(self.completion_tokens);
    }
}

/// Reads an answer that is none, as far as it is worth.
async fn refusal(mut body: Streamed) -> Failure {
    let mut bytes = Vec::new();
    let reading = async {
        while let Ok(Some(piece)) = body.piece().await {
            let room = REFUSAL_BYTES_MAX - bytes.len();
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if bytes.len() == REFUSAL_BYTES_MAX {
                break;
            }
        }
    };
    // What was said until then has to do.
    drop(timeout(TIMEOUT, reading).await);
    let complaint = Box::new(Complaint::parse(&bytes).of_kind(body.header("x-amzn-errortype")));
    let status = match (body.status, complaint.status) {
        (200, Some(status)) => status,
        (status, _) => status,
    };
    let retry_after = retry_after(|name| body.header(name), SystemTime::now());
    Failure::Judged { verdict: judge(status, &complaint), status: Some(status), retry_after, complaint }
}

/// What a refusal of content in the middle of a stream means.
pub const REFUSED: Finish = Finish::Failed(POLICY);
