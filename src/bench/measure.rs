//! Runs the workload and takes the times: `depth` steps in flight besides the one being submitted, as the engine does.

use super::bound::{Bound, Traffic, Work};
use super::error::BenchError;
use super::machine::Machine;
use super::model::{Model, Weights};
use super::platform::{Ceilings, Loaded, Platform, Room, StepTimes, TimedRunner};
use super::report::{Decoded, ModelReport, Prefilled, Reached, Report, Spread, median, percentile};
use super::settings::Settings;
use super::workload::Workload;
use crate::engine::Batch;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a bench is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Measuring the device itself.
    Device,
    Loading {
        done_bytes: u64,
        total_bytes: u64,
    },
    /// Run 0 does not count.
    Prefill {
        run: usize,
    },
    /// Filling the context of all sequences.
    Context,
    Decode {
        batch: usize,
        run: usize,
    },
}

/// Who watches a bench, and may end it.
pub struct Watch<'a> {
    /// The bench ends with [`BenchError::Interrupted`] at the next step once this is set.
    pub stop: &'a AtomicBool,
    /// Called between measurements, never during one.
    pub show: &'a mut dyn FnMut(Stage),
}

impl Watch<'_> {
    fn go_on(&self) -> Result<(), BenchError> {
        if self.stop.load(Ordering::Relaxed) { Err(BenchError::Interrupted) } else { Ok(()) }
    }

    fn enter(&mut self, stage: Stage) -> Result<(), BenchError> {
        (self.show)(stage);
        self.go_on()
    }
}

/// Measures the device, loads the model and measures prefill and every batch size.
pub fn run(
    model: &Model,
    settings: &Settings,
    platform: &mut dyn Platform,
    watch: &mut Watch<'_>,
) -> Result<Report, BenchError> {
    let settings = settings.checked(&model.name, &model.spec)?;
    watch.enter(Stage::Device)?;
    let ceilings = platform.measure(model)?;
    watch.go_on()?;
    let room = Room {
        blocks: settings.blocks(),
        rows_max: settings.chunk_tokens.max(settings.batch_max()),
        running_max: settings.batch_max(),
        context_tokens: settings.context_max(),
    };
    let started = Instant::now();
    let loaded = platform.load(model, &room, &mut |done_bytes, total_bytes| {
        (watch.show)(Stage::Loading { done_bytes, total_bytes });
    })?;
    let load = started.elapsed();
    watch.go_on()?;
    let Loaded { runner, parameters, weights_bytes, traffic, weight_type, kv_type } = loaded;
    let depth_steps = runner.depth();
    let mut bench = Bench {
        runner,
        workload: Workload::new(&settings, model.spec.vocab),
        work: Work::of(&model.spec),
        traffic,
        ceilings,
        settings: &settings,
    };
    let prefill = bench.prefill(watch)?;
    bench.fill_context(watch)?;
    let decode = settings.batches.iter().map(|batch| bench.decode(*batch, watch)).collect::<Result<_, _>>()?;
    Ok(Report {
        machine: Machine::this(),
        device: platform.describe(),
        depth_steps,
        ceilings,
        model: ModelReport {
            name: model.name.clone(),
            architecture: model.architecture.clone(),
            random_seed: match model.weights {
                Weights::Stored => None,
                Weights::Random { seed } => Some(seed),
            },
            parameters,
            weight_type,
            kv_type,
            weights_bytes,
            traffic,
            load,
        },
        settings,
        prefill,
        decode,
    })
}

struct Bench<'a> {
    runner: Box<dyn TimedRunner>,
    workload: Workload,
    work: Work,
    traffic: Traffic,
    ceilings: Ceilings,
    settings: &'a Settings,
}

/// The times of consecutive steps.
pub(super) struct Run {
    pub wall: Duration,
    /// From one step's tokens to the next one's; the first counts from the start.
    pub intervals: Vec<Duration>,
    /// Sums over all steps, where the runner tells.
    pub waited: Option<Duration>,
    pub busy: Option<Duration>,
}

impl Bench<'_> {
    fn prefill(&mut self, watch: &mut Watch<'_>) -> Result<Prefilled, BenchError> {
        let (tokens, runs) = (self.settings.prefill_tokens, self.settings.repeats);
        let steps = self.workload.prompt_steps(tokens);
        let mut seconds = Vec::with_capacity(runs);
        for run in 0..=runs {
            watch.enter(Stage::Prefill { run })?;
            let measured = self.steps(steps, watch, |workload, step| workload.prompt(tokens, step))?;
            if run > 0 {
                seconds.push(measured.wall.as_secs_f64());
            }
        }
        let operations = self.work.prefill_operations(tokens);
        let time_to_first_token_seconds = Spread::of(&seconds);
        Ok(Prefilled {
            tokens,
            tokens_per_second: Spread::of(&seconds.iter().map(|seconds| tokens as f64 / seconds).collect::<Vec<_>>()),
            time_to_first_token_seconds,
            operations,
            share_of_arithmetic: self
                .ceilings
                .arithmetic
                .per_second
                .map(|per_second| operations / time_to_first_token_seconds.median / per_second),
        })
    }

    /// Computes the context of the first sequence and copies it to the others: they read memory of their own.
    fn fill_context(&mut self, watch: &mut Watch<'_>) -> Result<(), BenchError> {
        watch.enter(Stage::Context)?;
        let tokens = self.settings.context_tokens;
        let steps = self.workload.prompt_steps(tokens);
        self.steps(steps, watch, |workload, step| workload.prompt(tokens, step))?;
        if self.settings.batch_max() > 1 {
            let steps = self.workload.sharing_steps();
            self.steps(steps, watch, Workload::sharing)?;
        }
        Ok(())
    }

    fn decode(&mut self, batch: usize, watch: &mut Watch<'_>) -> Result<Decoded, BenchError> {
        let (steps, runs) = (self.settings.decode_steps, self.settings.repeats);
        let mut measured = Vec::with_capacity(runs);
        for run in 0..=runs {
            watch.enter(Stage::Decode { batch, run })?;
            let times = self.steps(steps, watch, |workload, step| workload.decode(batch, step))?;
            if run > 0 {
                measured.push(times);
            }
        }
        // The context grows by a token a step.
        let context_tokens = self.settings.context_tokens as f64 + steps as f64 / 2.0;
        let bound = self.work.decode_bound(&self.traffic, &self.ceilings, batch, context_tokens);
        let tokens_per_second: Vec<f64> =
            measured.iter().map(|run| (batch * steps) as f64 / run.wall.as_secs_f64()).collect();
        let intervals: Vec<f64> = measured.iter().flat_map(|run| &run.intervals).map(Duration::as_secs_f64).collect();
        let tokens_per_second = Spread::of(&tokens_per_second);
        let bound = bound.map(|Bound { seconds, by }| {
            let bound_tokens_per_second = batch as f64 / seconds;
            Reached {
                tokens_per_second: bound_tokens_per_second,
                by,
                share: tokens_per_second.median / bound_tokens_per_second,
            }
        });
        Ok(Decoded {
            batch,
            context_tokens,
            tokens_per_second,
            inter_token_p50_seconds: percentile(&intervals, 0.50),
            inter_token_p99_seconds: percentile(&intervals, 0.99),
            step_bytes: self.traffic.decode_bytes(batch, self.work.seen_tokens(context_tokens)),
            bound,
            host_seconds_per_step: median_of(&measured, Run::host_seconds_per_step),
            device_idle_share: median_of(&measured, Run::device_idle_share),
        })
    }

    fn steps(
        &mut self,
        steps: usize,
        watch: &Watch<'_>,
        make: impl FnMut(&mut Workload, usize) -> Batch,
    ) -> Result<Run, BenchError> {
        steps_in_flight(&mut *self.runner, &mut self.workload, steps, watch, make)
    }
}

/// Computes `steps` steps with as many in flight as the runner takes.
pub(super) fn steps_in_flight(
    runner: &mut dyn TimedRunner,
    workload: &mut Workload,
    steps: usize,
    watch: &Watch<'_>,
    mut make: impl FnMut(&mut Workload, usize) -> Batch,
) -> Result<Run, BenchError> {
    let depth = runner.depth();
    let mut run = Run { wall: Duration::ZERO, intervals: Vec::with_capacity(steps), waited: None, busy: None };
    let start = Instant::now();
    let (mut submitted, mut last) = (0, start);
    for collected in 0..steps {
        watch.go_on()?;
        while submitted < steps && submitted - collected <= depth {
            runner.submit(make(workload, submitted))?;
            submitted += 1;
        }
        let finished = runner.collect();
        let now = Instant::now();
        run.intervals.push(now - last);
        last = now;
        for token in finished.tokens? {
            token?;
        }
        workload.give_back(finished.batch);
    }
    run.wall = last - start;
    if let Some(StepTimes { waited, busy }) = runner.take_times()? {
        (run.waited, run.busy) = (Some(waited), busy);
    }
    Ok(run)
}

impl Run {
    /// What the host did besides waiting.
    pub fn host_seconds_per_step(&self) -> Option<f64> {
        let worked = self.wall.saturating_sub(self.waited?);
        Some(worked.as_secs_f64() / self.intervals.len() as f64)
    }

    /// The share of the time in which the device had nothing to do.
    pub fn device_idle_share(&self) -> Option<f64> {
        let idle = self.wall.saturating_sub(self.busy?);
        Some(idle.as_secs_f64() / self.wall.as_secs_f64())
    }
}

fn median_of(runs: &[Run], figure: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
    runs.iter().map(figure).collect::<Option<Vec<f64>>>().map(median)
}
