//! The numbers of the HTTP surface, and the port that shows all numbers of the process.

use super::error::{EdgeError, Failure};
use crate::domain::Class;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TEXT_FORMAT, TextEncoder,
};
use std::time::Duration;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Finished,
    Failed,
    /// The client went away.
    Cancelled,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Counters and histograms of calls. Every label has a fixed set of values.
#[derive(Debug)]
pub(super) struct CallMetrics {
    pub in_flight: IntGauge,
    calls: IntCounterVec,
    responses: IntCounterVec,
    tokens: IntCounterVec,
    first_text_seconds: HistogramVec,
    call_seconds: HistogramVec,
}

impl CallMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 15.0, 60.0, 300.0];
        let histogram =
            |name, help| HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), &["class"]);
        let metrics = Self {
            in_flight: IntGauge::new("sconce_http_calls_in_flight", "Generation calls being answered")?,
            calls: IntCounterVec::new(
                Opts::new("sconce_http_calls_total", "Generation calls by how they ended"),
                &["class", "outcome"],
            )?,
            responses: IntCounterVec::new(
                Opts::new("sconce_http_responses_total", "Responses begun, by endpoint and status"),
                &["endpoint", "status"],
            )?,
            tokens: IntCounterVec::new(
                Opts::new("sconce_http_tokens_total", "Tokens of calls: prompt, cached (a part of prompt), completion"),
                &["kind"],
            )?,
            first_text_seconds: histogram("sconce_http_first_text_seconds", "From a call's arrival to its first text")?,
            call_seconds: histogram("sconce_http_call_seconds", "From a call's arrival to its end")?,
        };
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.responses.clone()))?;
        registry.register(Box::new(metrics.tokens.clone()))?;
        registry.register(Box::new(metrics.first_text_seconds.clone()))?;
        registry.register(Box::new(metrics.call_seconds.clone()))?;
        Ok(metrics)
    }

    pub(super) fn observe(&self, class: Class, outcome: Outcome, elapsed: Duration, first_text: Option<Duration>) {
        let class = class_name(class);
        self.calls.with_label_values(&[class, outcome.name()]).inc();
        self.call_seconds.with_label_values(&[class]).observe(elapsed.as_secs_f64());
        if let Some(first_text) = first_text {
            self.first_text_seconds.with_label_values(&[class]).observe(first_text.as_secs_f64());
        }
    }

    pub(super) fn count_tokens(&self, prompt: usize, cached: usize, completion: usize) {
        for (kind, tokens) in [("prompt", prompt), ("cached", cached), ("completion", completion)] {
            self.tokens.with_label_values(&[kind]).inc_by(tokens as u64);
        }
    }

    /// `endpoint` is the router's name for it, never the caller's path.
    pub(super) fn count_response(&self, endpoint: &str, status: StatusCode) {
        self.responses.with_label_values(&[endpoint, status.as_str()]).inc();
    }
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Completion => "completion",
        Class::Chat => "chat",
    }
}

/// `GET /metrics` in Prometheus' text format, for a port of its own.
pub fn metrics_app(registry: Registry) -> Router {
    let unknown = || async { Failure::from(EdgeError::UnknownPath { endpoints: "GET /metrics" }) };
    Router::new().route("/metrics", get(move || std::future::ready(encode(&registry)))).fallback(unknown)
}

fn encode(registry: &Registry) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "could not encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
