//! Drafts without a draft model: code repeats what the prompt, the answer itself and the session's earlier answers say.
//!
//! [`Proposer`] finds a continuation, [`Acceptance`] says how long it may be for this sequence, [`StepCosts`] whether
//! the rows are worth their time in this company, and a budget bounds what wrong guesses may cost in all: as long as
//! nothing is accepted, at most one row in fifty. A guess never changes an answer: each row is sampled by its own
//! position's parameters, penalties and draw, and a guess counts only if it is what was sampled.
//!
//! Knows tokens, rows and microseconds; no model, no clock, no device.

mod acceptance;
mod costs;
mod proposer;
mod sessions;
#[cfg(test)]
mod tests;

use super::answers::results;
use super::batch::Batch;
use super::runner::RowResult;
use crate::scheduler::{DraftRequest, Drafter, SequenceId};
use acceptance::{Acceptance, WIDTH_MAX};
use costs::StepCosts;
use proposer::{MATCH_TOKENS_MIN, Proposer};
use sessions::Sessions;
use std::collections::HashMap;

use sessions::Session;

/// Rows that may be guessed in vain for each row computed in any case.
const WASTE_SHARE: f64 = 0.02;

/// Rows that may be guessed in vain for each guess that was right.
const WASTE_PER_ACCEPTED: f64 = 3.0;

/// What can be saved up, in rows: good times do not pay for bad ones without end.
const BUDGET_MAX: f64 = 128.0;

/// Steps larger than this are given no drafts, whatever they cost: there is company enough to stream weights for.
const STEP_TOKENS_MAX: usize = 64;

/// A draft must promise so much more speed than the step has without it.
const GAIN_MIN: f64 = 1.02;

/// The engine's guesses at what its sequences say next.
#[derive(Debug)]
pub(super) struct Speculator {
    step_drafts_max: usize,
    sequences: HashMap<SequenceId, Guessing>,
    sessions: Sessions,
    costs: StepCosts,
    /// Rows that may be guessed in vain.
    budget: f64,
}

#[derive(Debug)]
struct Guessing {
    session: Option<Session>,
    prompt_tokens: usize,
    tokens_max: usize,
    /// Made when it is first asked.
    proposer: Option<Proposer>,
    acceptance: Acceptance,
}

/// Tokens guessed in a step, and how many of them were right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verified {
    pub drafted: usize,
    pub accepted: usize,
}

impl Speculator {
    /// For a device that verifies so many tokens in a step; 0 switches it off.
    pub fn new(step_drafts_max: usize) -> Self {
        let (sequences, sessions) = (HashMap::new(), Sessions::default());
        Self { step_drafts_max, sequences, sessions, costs: StepCosts::default(), budget: 0.0 }
    }

    /// A sequence that was admitted, with the tokens that its prompt has and those it may say.
    pub fn admit(&mut self, sequence: SequenceId, session: Option<Session>, prompt_tokens: usize, max_tokens: usize) {
        if self.step_drafts_max > 0 {
            let tokens_max = prompt_tokens.saturating_add(max_tokens);
            let (proposer, acceptance) = (None, Acceptance::default());
            self.sequences.insert(sequence, Guessing { session, prompt_tokens, tokens_max, proposer, acceptance });
        }
    }

    /// A sequence that has ended, with what its session may go on from.
    pub fn forget(&mut self, sequence: SequenceId, tokens: &[u32]) {
        if let Some(Guessing { session: Some(session), prompt_tokens, .. }) = self.sequences.remove(&sequence) {
            self.sessions.add(session, tokens, prompt_tokens);
        }
    }

    /// What a computed step says about the guesses in it, and about the cost of its rows.
    pub fn learn(&mut self, batch: &Batch, rows: &[RowResult], micros: u64) -> Verified {
        if self.step_drafts_max == 0 {
            return Verified::default();
        }
        if batch.sampled.len() == batch.rows() {
            self.costs.learn(batch.rows(), micros);
        }
        let mut all = Verified::default();
        let mut answered = results(batch, rows).map(|(row, _)| row.sequence).peekable();
        for chunk in batch.chunks.iter() {
            let sampled = batch.sampled_rows(chunk);
            let mut answers = 0;
            while answered.next_if_eq(&chunk.sequence).is_some() {
                answers += 1;
            }
            let (drafted, accepted) = (sampled.saturating_sub(1), usize::saturating_sub(answers, 1));
            if drafted > 0 {
                all.drafted += drafted;
                all.accepted += accepted;
                if let Some(guessing) = self.sequences.get_mut(&chunk.sequence) {
                    let len = chunk.start + 1 + answers;
                    guessing.acceptance.learn(len, drafted, accepted);
                }
            }
        }
        let earned = (batch.rows() - all.drafted) as f64 * WASTE_SHARE;
        // The right guesses' own rows come back: they would have been computed in any case.
        let returned = all.accepted as f64 * (1.0 + WASTE_PER_ACCEPTED);
        self.budget = (self.budget + earned + returned).min(BUDGET_MAX);
        all
    }

    /// How many of `drafts_max` guessed tokens make the step fastest, per token of output; 0 where none do.
    fn best_count(&self, request: &DraftRequest<'_>, likelihood: f64, drafts_max: usize) -> usize {
        let rate = |tokens: f64, drafts: usize| tokens / self.costs.of(request.step_tokens + drafts);
        let mut expected = request.step_decodes as f64;
        let mut best = (rate(expected, 0) * GAIN_MIN, 0);
        let mut right = 1.0;
        for drafts in 1..=drafts_max {
            right *= likelihood;
            expected += right;
            let reached = rate(expected, drafts);
            if reached > best.0 {
                best = (reached, drafts);
            }
        }
        best.1
    }
}

impl Drafter for Speculator {
    fn step_drafts_max(&self) -> usize {
        self.step_drafts_max
    }

    fn draft(&mut self, request: DraftRequest<'_>) -> Vec<u32> {
        let len = request.tokens.len();
        let Some(guessing) = self.sequences.get_mut(&request.sequence) else { return Vec::new() };
        let room = STEP_TOKENS_MAX.saturating_sub(request.step_tokens).min(request.tokens_max).min(WIDTH_MAX);
        let count = room.min(guessing.acceptance.width(len)).min(self.budget as usize);
        if count == 0 {
            return Vec::new();
        }
        let (session, tokens_max) = (&guessing.session, guessing.tokens_max);
        let proposer = guessing.proposer.get_or_insert_with(|| {
            let earlier = session.as_ref().map_or_else(Vec::new, |session| self.sessions.text(session));
            Proposer::new(earlier, tokens_max)
        });
        let mut proposal = proposer.propose(request.tokens, count);
        let likelihood = guessing.acceptance.likelihood(proposal.matched);
        let believed = 4 * (proposal.matched + 1).saturating_sub(MATCH_TOKENS_MIN);
        let count = self.best_count(&request, likelihood, proposal.tokens.len().min(believed));
        proposal.tokens.truncate(count);
        self.budget -= count as f64;
        proposal.tokens
    }
}
