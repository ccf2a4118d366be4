//! What an operator can watch of one engine, in Prometheus's terms. Labels are fixed at load: the model's name only.

use crate::scheduler::SchedulerStats;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Upper bounds in seconds: from a step of a tiny model to a cold prompt of a large one on a CPU.
const LATENCY_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Metrics of one model's engine.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    pub requests_ended: IntCounterVec,
    pub time_to_first_token: Histogram,
    pub inter_token: Histogram,
    pub queue_wait: Histogram,
    pub step: Histogram,
    pub generated_tokens: IntCounter,
    pub step_rows: IntCounter,
    pub draft_tokens: IntCounter,
    pub draft_tokens_accepted: IntCounter,
    prompt_tokens: IntCounter,
    cached_prompt_tokens: IntCounter,
    preemptions: IntCounter,
    waiting: IntGauge,
    running: IntGauge,
    blocks: IntGauge,
    blocks_free: IntGauge,
    pub healthy: IntGauge,
    pub restarts: IntCounter,
}

impl EngineMetrics {
    /// Registers the metrics of `model`. Errors if a model of that name is registered already.
    pub fn register(registry: &Registry, model: &str) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(format!("sconce_{name}"), help).const_label("model", model);
        let counter = |name: &str, help: &str| IntCounter::with_opts(opts(name, help));
        let gauge = |name: &str, help: &str| IntGauge::with_opts(opts(name, help));
        let histogram = |name: &str, help: &str| {
            let buckets = LATENCY_BUCKETS.to_vec();
            Histogram::with_opts(HistogramOpts { common_opts: opts(name, help), buckets })
        };
        let metrics = Self {
            requests_ended: IntCounterVec::new(opts("requests_total", "Requests ended, by outcome"), &["outcome"])?,
            time_to_first_token: histogram("time_to_first_token_seconds", "From submission to the first token")?,
            inter_token: histogram("inter_token_latency_seconds", "Between consecutive tokens of one request")?,
            queue_wait: histogram("queue_wait_seconds", "From submission to the first step of a request")?,
            step: histogram("step_seconds", "From submitting a step to having its tokens")?,
            generated_tokens: counter("generated_tokens_total", "Tokens generated")?,
            step_rows: counter("step_rows_total", "Tokens computed in all steps, prompt and output")?,
            draft_tokens: counter("draft_tokens_total", "Tokens guessed and verified in the step of the one before")?,
            draft_tokens_accepted: counter("draft_tokens_accepted_total", "Guessed tokens that were right")?,
            prompt_tokens: counter("prompt_tokens_total", "Prompt tokens of the requests that have started")?,
            cached_prompt_tokens: counter("cached_prompt_tokens_total", "Prompt tokens found in the prefix cache")?,
            preemptions: counter("preemptions_total", "Sequences that gave back their blocks to be recomputed later")?,
            waiting: gauge("requests_waiting", "Requests that wait for a place")?,
            running: gauge("requests_running", "Requests that hold blocks")?,
            blocks: gauge("kv_blocks", "Blocks of the key-value cache")?,
            blocks_free: gauge("kv_blocks_free", "Blocks that no request holds; cached prefixes among them")?,
            healthy: gauge("engine_healthy", "1 while the engine can compute, 0 while it restarts or is down")?,
            restarts: counter("engine_restarts_total", "Times the engine came back after a failure of its device")?,
        };
        metrics.register_all(registry)?;
        Ok(metrics)
    }

    /// Copies the scheduler's counts.
    pub fn observe(&self, stats: &SchedulerStats) {
        self.waiting.set(stats.waiting as i64);
        self.running.set(stats.running as i64);
        self.blocks.set(stats.blocks_total as i64);
        self.blocks_free.set(stats.blocks_free as i64);
        raise(&self.prompt_tokens, stats.prompt_tokens_total);
        raise(&self.cached_prompt_tokens, stats.cached_tokens_total);
        raise(&self.preemptions, stats.preemptions_total);
    }

    #[cfg(test)]
    pub(super) fn held_blocks(&self) -> i64 {
        self.blocks.get() - self.blocks_free.get()
    }

    #[cfg(test)]
    pub(super) fn running_and_waiting(&self) -> (i64, i64) {
        (self.running.get(), self.waiting.get())
    }

    fn register_all(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.requests_ended.clone()))?;
        for histogram in [&self.time_to_first_token, &self.inter_token, &self.queue_wait, &self.step] {
            registry.register(Box::new(histogram.clone()))?;
        }
        let counters = [
            &self.generated_tokens,
            &self.step_rows,
            &self.draft_tokens,
            &self.draft_tokens_accepted,
            &self.prompt_tokens,
            &self.cached_prompt_tokens,
            &self.preemptions,
            &self.restarts,
        ];
        for counter in counters {
            registry.register(Box::new(counter.clone()))?;
        }
        for gauge in [&self.waiting, &self.running, &self.blocks, &self.blocks_free, &self.healthy] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(())
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
