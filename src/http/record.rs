//! What is kept of a call: a few numbers, whatever its end, for the metrics and for the line of its request. Never a
//! prompt, never a key.

use super::access::{Access, CallFacts};
use super::metrics::{CallMetrics, Outcome};
use crate::domain::{Class, Event, LaneName};
use crate::route::Lane;
use std::sync::Arc;
use tokio::time::Instant;

/// Follows one call from its first byte to its last. Written down when dropped: a record that was neither finished nor
/// failed by then belongs to a client that went away.
#[derive(Debug)]
pub(super) struct CallRecord {
    metrics: Arc<CallMetrics>,
    access: Access,
    class: Class,
    facts: CallFacts,
    begun: Instant,
    started: Option<Instant>,
    /// Texts since the last end of an answer.
    pieces: usize,
    /// Answers that began without a count of their prompt: most providers count at the end.
    uncounted_prompts: usize,
    outcome: Outcome,
}

impl CallRecord {
    pub(super) fn begin(metrics: Arc<CallMetrics>, access: Access, class: Class) -> Self {
        metrics.in_flight.inc();
        let facts = CallFacts::default();
        Self {
            metrics,
            access,
            class,
            facts,
            begun: Instant::now(),
            started: None,
            pieces: 0,
            uncounted_prompts: 0,
            outcome: Outcome::Cancelled,
        }
    }

    /// `feature` is GitLab's name of it, where there is one.
    pub(super) fn asked_for(&mut self, feature: &'static str, class: Class) {
        self.facts.feature = Some(feature);
        self.class = class;
    }

    /// Which of several lanes answers is known when it has been heard.
    pub(super) fn routed(&mut self, lane: &Lane, class: Class) {
        self.facts.model = Some(lane.info.name.clone());
        self.facts.lane = lane.policy.is_none().then(|| LaneName::LOCAL.to_owned());
        self.class = class;
    }

    /// Something an operator should know of this call: what was cut or repaired. Never the caller's text.
    pub(super) fn note(&mut self, note: String) {
        self.facts.notes.push(note);
    }

    /// Counts the work behind `event`: a prompt that got two answers counts twice, unlike in the answer's usage.
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Taken(taken) => {
                self.facts.lane = Some(taken.lane.to_string());
                self.access.taken(taken.clone());
            }
            Event::Started { prompt_tokens, cached_tokens, queue_wait } => {
                self.count_prompt(*prompt_tokens, *cached_tokens);
                self.uncounted_prompts += usize::from(*prompt_tokens == 0);
                self.started.get_or_insert_with(Instant::now);
                self.facts.queue_wait.get_or_insert(*queue_wait);
                self.facts.prefill.get_or_insert(self.begun.elapsed().saturating_sub(*queue_wait));
            }
            Event::Text { .. } => {
                self.pieces += 1;
                self.facts.first_text.get_or_insert_with(|| self.begun.elapsed());
            }
            Event::Finished { usage, .. } => {
                if let Some(left) = self.uncounted_prompts.checked_sub(1) {
                    self.uncounted_prompts = left;
                    self.count_prompt(usage.prompt_tokens, usage.cached_tokens);
                }
                self.facts.completion_tokens += usage.completion_tokens;
                self.pieces = 0;
            }
        }
    }

    fn count_prompt(&mut self, prompt_tokens: usize, cached_tokens: usize) {
        self.facts.prompt_tokens += prompt_tokens;
        self.facts.cached_tokens += cached_tokens;
    }

    pub(super) fn finish(&mut self) {
        self.outcome = Outcome::Finished;
    }

    /// `failure` in words fit for a log.
    pub(super) fn fail(&mut self, failure: &impl std::fmt::Display) {
        self.outcome = Outcome::Failed;
        self.facts.error = Some(failure.to_string());
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let facts = &mut self.facts;
        // Of an answer that nobody heard to its end the pieces are counted: a piece is a token, but for the few that
        // were held back together.
        facts.completion_tokens += self.pieces;
        self.metrics.in_flight.dec();
        self.metrics.observe(self.class, self.outcome, self.begun.elapsed(), facts.first_text);
        self.metrics.count_tokens(facts.prompt_tokens, facts.cached_tokens, facts.completion_tokens);
        facts.outcome = self.outcome.name();
        facts.decode = self.started.map(|started| started.elapsed());
        self.access.call(std::mem::take(facts));
    }
}
