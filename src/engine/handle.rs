//! The engine as everybody else sees it: a lane that takes jobs and answers with streams.

use super::health::HealthCell;
use super::speaker::event_channel;
use super::worker::{Command, Submission};
use crate::domain::{Class, Event, Generate, GenerateError, Job, ModelInfo};
use crate::tokenizer::{RenderError, Renderer};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Deadlines of jobs that name none.
#[derive(Clone, Copy, Debug)]
pub struct DefaultDeadlines {
    pub completion: Duration,
    pub chat: Duration,
}

/// Renders jobs and hands them to the engine's thread. Cheap to clone; dropping every clone stops the thread.
#[derive(Clone)]
pub struct EngineHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) info: ModelInfo,
    pub(super) renderer: Renderer,
    pub(super) commands: SyncSender<Command>,
    pub(super) commands_max: usize,
    pub(super) deadlines: DefaultDeadlines,
    pub(super) started: Instant,
    pub(super) health: HealthCell,
}

type Events = mpsc::Receiver<Result<Event, GenerateError>>;

impl Generate for EngineHandle {
    fn generate(&self, job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        let shared = Arc::clone(&self.shared);
        let received = Instant::now();
        let submitted = async move {
            // Rendering a long prompt takes milliseconds, which would delay the other connections of this thread.
            let rendering = tokio::task::spawn_blocking(move || shared.submit(job, received));
            rendering.await.map_err(|error| GenerateError::StepFailed { reason: error.to_string() })?
        };
        stream::once(submitted).map_ok(listen).try_flatten().boxed()
    }
}

/// The events of one answer. Ends after `Finished` or an error; an engine that went away is an error too.
fn listen(events: Events) -> impl futures::Stream<Item = Result<Event, GenerateError>> {
    stream::unfold(Some(events), |events| async move {
        let mut events = events?;
        let event = events.recv().await.unwrap_or_else(|| Err(engine_gone()));
        let is_last = matches!(event, Err(_) | Ok(Event::Finished { .. }));
        Some((event, (!is_last).then_some(events)))
    })
}

fn engine_gone() -> GenerateError {
    GenerateError::StepFailed { reason: "the engine's thread has ended".to_owned() }
}

impl Shared {
    fn submit(&self, job: Job, received: Instant) -> Result<Events, GenerateError> {
        // Before the work of rendering. A device that fails from here on is noticed by the thread.
        if let Some(outage) = self.health.outage(&self.info.name) {
            return Err(outage.refusal());
        }
        let rendered = self.renderer.render(&job.prompt).map_err(|error| self.explain(error))?;
        let max_tokens = self.room_for_output(rendered.tokens.len(), job.stop.max_tokens)?;
        let (events, receiver) = event_channel(max_tokens);
        let deadline = job.deadline.unwrap_or(match job.class {
            Class::Completion => self.deadlines.completion,
            Class::Chat => self.deadlines.chat,
        });
        let submission = Submission {
            id: job.id,
            prompt: rendered.tokens,
            stop_tokens: rendered.stop_tokens,
            stop: job.stop.stop,
            seed: job.sampling.seed.unwrap_or_else(rand::random),
            params: Arc::new(job.sampling),
            max_tokens,
            class: job.class,
            session: job.session,
            cache_salt: job.cache_salt,
            received_us: received.saturating_duration_since(self.started).as_micros() as u64,
            deadline,
            events,
        };
        match self.commands.try_send(Command::Submit(Box::new(submission))) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(GenerateError::QueueFull {
                waiting: self.commands_max,
                waiting_max: self.commands_max,
                retry_after: Duration::from_secs(1),
            }),
            Err(TrySendError::Disconnected(_)) => Err(engine_gone()),
        }
    }

    /// How many tokens may be generated, given what the context leaves.
    fn room_for_output(&self, prompt_tokens: usize, asked: Option<usize>) -> Result<usize, GenerateError> {
        if prompt_tokens == 0 {
            return Err(GenerateError::PromptEmpty);
        }
        let context_tokens = self.info.context_tokens;
        let room = context_tokens.saturating_sub(prompt_tokens);
        let max_tokens = asked.unwrap_or(room.max(1));
        if max_tokens > room {
            let model = self.info.name.clone();
            return Err(GenerateError::PromptTooLong { model, prompt_tokens, max_tokens, context_tokens });
        }
        Ok(max_tokens)
    }

    fn explain(&self, error: RenderError) -> GenerateError {
        let model = self.info.name.clone();
        match error {
            RenderError::NoInfill => GenerateError::NoInfill { model },
            RenderError::NoChat => GenerateError::NoChat { model },
            RenderError::TokenOutOfRange { token, vocab_size } => {
                GenerateError::TokenOutOfRange { model, token, vocab_size }
            }
            RenderError::Empty => GenerateError::PromptEmpty,
            RenderError::TemplateRefused { .. }
            | RenderError::TemplateFailed { .. }
            | RenderError::NoStandIns { .. } => GenerateError::Template { model, reason: error.to_string() },
        }
    }
}
