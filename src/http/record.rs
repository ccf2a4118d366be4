//! What is kept of a call: one line in the log and a few numbers, whatever its end. Never a prompt, never a key.

use super::error::Failure;
use super::metrics::{CallMetrics, Outcome};
use crate::auth::Principal;
use crate::domain::{Class, ErrorKind, Event};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Follows one call from its first byte to its last. Written down when dropped: a record that was neither finished nor
/// failed by then belongs to a client that went away.
#[derive(Debug)]
pub(super) struct CallRecord {
    metrics: Arc<CallMetrics>,
    principal: Arc<str>,
    class: Class,
    /// Only of models that exist: other names are the caller's text.
    model: Option<String>,
    begun: Instant,
    first_text: Option<Duration>,
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    outcome: Outcome,
    status: Option<u16>,
    error: Option<Failure>,
}

impl CallRecord {
    pub(super) fn begin(metrics: Arc<CallMetrics>, principal: &Principal, class: Class) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            principal: principal.name.clone(),
            class,
            model: None,
            begun: Instant::now(),
            first_text: None,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            outcome: Outcome::Cancelled,
            status: None,
            error: None,
        }
    }

    pub(super) fn routed(&mut self, model: &str, class: Class) {
        self.model = Some(model.to_owned());
        self.class = class;
    }

    /// Counts the work behind `event`: a prompt that got two answers counts twice, unlike in the answer's usage.
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Started { prompt_tokens, cached_tokens } => {
                self.prompt_tokens += prompt_tokens;
                self.cached_tokens += cached_tokens;
            }
            Event::Text { .. } => {
                self.first_text.get_or_insert_with(|| self.begun.elapsed());
            }
            Event::Finished { usage, .. } => self.completion_tokens += usage.completion_tokens,
        }
    }

    /// The status has been decided, the answer goes on.
    pub(super) fn responding(&mut self, status: u16) {
        self.status = Some(status);
    }

    pub(super) fn finish(&mut self) {
        self.outcome = Outcome::Finished;
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.outcome = Outcome::Failed;
        self.status.get_or_insert(failure.status().as_u16());
        self.error = Some(failure);
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let elapsed = self.begun.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.observe(self.class, self.outcome, elapsed, self.first_text);
        self.metrics.count_tokens(self.prompt_tokens, self.cached_tokens, self.completion_tokens);
        let is_our_fault = self.error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Internal);
        let error = self.error.as_ref().map(tracing::field::display);
        let first_text_ms = self.first_text.map(|time| time.as_millis() as u64);
        // The level of an event is a constant of the call site, hence two of them.
        macro_rules! write_down {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    outcome = self.outcome.name(),
                    status = self.status,
                    model = self.model,
                    class = ?self.class,
                    principal = &*self.principal,
                    prompt_tokens = self.prompt_tokens,
                    cached_tokens = self.cached_tokens,
                    completion_tokens = self.completion_tokens,
                    first_text_ms,
                    total_ms = elapsed.as_millis() as u64,
                    error,
                    "call"
                )
            };
        }
        match is_our_fault {
            true => write_down!(tracing::Level::ERROR),
            false => write_down!(tracing::Level::INFO),
        }
    }
}
