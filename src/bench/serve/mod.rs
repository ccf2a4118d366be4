//! A load generator for servers: the same seeded requests to one or two of them, in turns, and what a client saw of it.
//!
//! A [`Plan`] says what is asked, a [`ServeReport`] holds what came of it, and tables, JSON and a page with plots are
//! written by code that measures nothing. Goes out through `egress` like everything else; must not know of the command
//! line, nor of our own server: it is a client like any other.

mod call;
mod charts;
mod client;
mod code;
mod drive;
mod error;
mod figures;
mod html;
mod json;
mod plan;
mod plot;
mod reply;
mod report;
mod run;
mod sample;
mod seeded;
mod stream;
#[cfg(test)]
mod tests;
mod text;

pub use error::ServeBenchError;
pub use figures::{CountedBy, Distribution, Failures, Figures, Goodput, Ratio};
pub use html::serve_report_html;
pub use json::serve_report_json;
pub use plan::{
    Amount, CONCURRENCY_MAX, Dialect, Goals, Load, Plan, RATE_MAX, SecretHeaders, TARGETS_MAX, TOKENS_MAX, Target,
    Texts, Typing, Workload,
};
pub use report::{RatioRow, Row, ServeReport, TargetReport};
pub use run::{Progress, run};
pub use sample::Kind;
pub use text::serve_report_text;
