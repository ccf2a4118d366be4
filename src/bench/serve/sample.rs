//! What is known of one request once it is over, whatever became of it.

use std::time::Duration;
use tokio::time::Instant;

/// What was asked for; figures of different kinds are not mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Completion,
    Chat,
    /// A keystroke's completion.
    Key,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Chat => "chat",
            Self::Key => "typing",
        }
    }
}

/// What a request has seen so far. Its owner keeps it when the request is given up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// When text came, in the order in which it came.
    pub texts: Vec<Instant>,
    pub counts: Counts,
    pub failure: Option<Failure>,
}

/// What the server says about a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub prompt_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    /// Tokens that were guessed ahead, and how many of them were right.
    pub drafted_tokens: Option<u64>,
    pub accepted_tokens: Option<u64>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Status {
        status: u16,
        message: String,
    },
    /// An error in the middle of a stream that began well.
    Event {
        message: String,
    },
    Connect {
        message: String,
    },
    Timeout {
        message: String,
    },
    /// The stream ended before its end.
    Closed {
        message: String,
    },
    NotUnderstood {
        message: String,
    },
    /// Not sent, because too many requests were waiting already.
    NotSent {
        waiting_max: usize,
    },
}

impl Failure {
    /// A stable name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Status { .. } => "status",
            Self::Event { .. } => "error_in_stream",
            Self::Connect { .. } => "no_connection",
            Self::Timeout { .. } => "timeout",
            Self::Closed { .. } => "closed_early",
            Self::NotUnderstood { .. } => "not_understood",
            Self::NotSent { .. } => "not_sent",
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn message(&self) -> String {
        match self {
            Self::Status { message, .. }
            | Self::Event { message }
            | Self::Connect { message }
            | Self::Timeout { message }
            | Self::Closed { message }
            | Self::NotUnderstood { message } => message.clone(),
            Self::NotSent { waiting_max } => format!("{waiting_max} requests were waiting for answers already"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and awaited: these are what latencies are of.
    Answered,
    /// Answered before the next key came, which nobody could know.
    AnsweredEarly,
    /// Given up for the next key, with its connection closed.
    Cancelled,
    /// Given up because the round was over.
    Cut,
    Failed(Failure),
}

/// One request. Times count from the moment it should have begun: in an open loop and for keystrokes that is a
/// schedule's, so that what a slow server or client delays is part of the latency; in a closed loop it is when it was
/// sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub kind: Kind,
    /// Since the round began.
    pub intended: Duration,
    /// How late it was sent.
    pub lag: Duration,
    pub texts: Vec<Duration>,
    pub end: Duration,
    pub counts: Counts,
    pub outcome: Outcome,
}

impl Sample {
    pub fn is_answered(&self) -> bool {
        self.outcome == Outcome::Answered
    }

    pub fn first_text(&self) -> Option<Duration> {
        self.texts.first().copied()
    }

    /// Tokens that came: as the server counts them, else the pieces in which text came.
    pub fn output_tokens(&self) -> u64 {
        self.counts.output_tokens.unwrap_or(self.texts.len() as u64)
    }
}
