//! The order of things: every load in turn; at every load the servers round by round, A B A B, so that what the machine
//! does meanwhile falls on both.

use super::super::machine::Machine;
use super::client::{Answers, Server};
use super::drive::{Round, Stage, round};
use super::error::ServeBenchError;
use super::figures::{Figures, ratios};
use super::plan::{Amount, Load, Plan, Workload};
use super::report::{RatioRow, Row, ServeReport, TargetReport};
use super::sample::{Kind, Outcome, Sample};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a bench has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    pub target: &'a str,
    pub load: Load,
    pub rounds: usize,
    /// 0 is the warm-up.
    pub round: usize,
    /// Requests of this round that are over.
    pub done: usize,
    pub failed: usize,
    /// Rounds that are over, of all servers and loads, and how many there are, warm-ups among them.
    pub rounds_done: usize,
    pub rounds_total: usize,
}

/// Measures servers on the network. Their certificates may come from the authorities in `extra_ca_files`.
pub async fn run(
    plan: &Plan,
    extra_ca_files: &[std::path::PathBuf],
    show: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<ServeReport, ServeBenchError> {
    plan.check()?;
    let mut servers = Vec::with_capacity(plan.targets.len());
    for target in &plan.targets {
        servers.push(Arc::new(Server::open(target, extra_ca_files.to_vec(), plan.timeout).await?));
    }
    let models: Vec<Option<String>> = servers.iter().map(|server| server.model().map(str::to_owned)).collect();
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut report = measure(plan, &servers, show).await?;
    report.begun_unix_s = begun;
    for (target, model) in report.targets.iter_mut().zip(models) {
        target.model = model;
    }
    Ok(report)
}

/// Measures whoever answers; one for each target of the plan.
pub(super) async fn measure<A: Answers>(
    plan: &Plan,
    answering: &[Arc<A>],
    show: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<ServeReport, ServeBenchError> {
    let clock = ClientClock::start();
    let mut report = ServeReport {
        machine: Machine::this(),
        begun_unix_s: 0,
        plan: plan.clone(),
        targets: plan.targets.iter().map(target_report).collect(),
        rows: Vec::new(),
        ratios: Vec::new(),
        client_cores: None,
    };
    let mut teller = Teller::new(plan, show);
    for (load_index, load) in plan.loads.iter().enumerate() {
        let stage = |(target_index, answers): (usize, &Arc<A>)| {
            Arc::new(Stage::new(answers.clone(), plan, load_index, target_index))
        };
        let stages: Vec<Arc<Stage<A>>> = answering.iter().enumerate().map(stage).collect();
        for (target_index, stage) in stages.iter().enumerate() {
            let warm_up = teller.round(stage, Place { target_index, load: *load, round: 0 }).await;
            if load_index == 0 {
                never_answers(&plan.targets[target_index].label, &warm_up)?;
            }
        }
        let mut rounds = vec![Vec::with_capacity(plan.rounds); stages.len()];
        for number in 1..=plan.rounds {
            for (target_index, stage) in stages.iter().enumerate() {
                let done = teller.round(stage, Place { target_index, load: *load, round: number }).await;
                rounds[target_index].push(done);
            }
        }
        add_rows(&mut report, *load, rounds);
    }
    report.client_cores = clock.cores();
    Ok(report)
}

/// Where a round belongs.
#[derive(Clone, Copy)]
struct Place {
    target_index: usize,
    load: Load,
    round: usize,
}

/// Runs rounds and tells how far they are.
struct Teller<'a> {
    plan: &'a Plan,
    show: &'a mut (dyn FnMut(Progress<'_>) + Send),
    rounds_done: usize,
}

impl<'a> Teller<'a> {
    fn new(plan: &'a Plan, show: &'a mut (dyn FnMut(Progress<'_>) + Send)) -> Self {
        Self { plan, show, rounds_done: 0 }
    }

    async fn round<A: Answers>(&mut self, stage: &Arc<Stage<A>>, place: Place) -> Round {
        let plan = self.plan;
        let mut progress = Progress {
            target: &plan.targets[place.target_index].label,
            load: place.load,
            rounds: plan.rounds,
            round: place.round,
            done: 0,
            failed: 0,
            rounds_done: self.rounds_done,
            rounds_total: plan.loads.len() * plan.targets.len() * (plan.rounds + 1),
        };
        let show = &mut *self.show;
        show(progress);
        let amount = if place.round == 0 { stage.warm_up() } else { amount_of(plan.amount, place.load) };
        let done = round(stage, place.round, amount, |sample: &Sample| {
            progress.done += 1;
            progress.failed += usize::from(matches!(sample.outcome, Outcome::Failed(_)));
            show(progress);
        })
        .await;
        self.rounds_done += 1;
        done
    }
}

/// Fewer requests than streams would leave streams idle that the load promises.
fn amount_of(amount: Amount, load: Load) -> Amount {
    match (amount, load) {
        (Amount::Requests(requests), Load::Concurrency(streams)) => Amount::Requests(requests.max(streams)),
        (amount, _) => amount,
    }
}

/// A server that answers nothing at all is a mistake on the command line more often than a finding.
fn never_answers(label: &str, warm_up: &Round) -> Result<(), ServeBenchError> {
    let failures = warm_up.samples.iter().filter_map(|sample| match &sample.outcome {
        Outcome::Failed(failure) => Some(failure),
        _ => None,
    });
    match failures.clone().next() {
        Some(first) if failures.count() == warm_up.samples.len() => {
            let status = first.status().map_or_else(String::new, |status| format!("status {status}: "));
            let (label, asked) = (label.to_owned(), warm_up.samples.len());
            Err(ServeBenchError::NeverAnswers { label, asked, problem: format!("{status}{}", first.message()) })
        }
        _ => Ok(()),
    }
}

fn add_rows(report: &mut ServeReport, load: Load, rounds: Vec<Vec<Round>>) {
    for kind in kinds(report.plan.workload) {
        let goals = report.plan.goals;
        let by_round: Vec<Vec<Figures>> = rounds
            .iter()
            .map(|rounds| rounds.iter().map(|round| Figures::of(std::slice::from_ref(round), *kind, goals)).collect())
            .collect();
        if let [first, second] = by_round.as_slice() {
            report.ratios.push(RatioRow { kind: *kind, load, ratios: ratios(first, second) });
        }
        for (target_index, (samples, by_round)) in rounds.iter().zip(by_round).enumerate() {
            let figures = Figures::of(samples, *kind, goals);
            let samples = samples.iter().map(|round| only(round, *kind)).collect();
            report.rows.push(Row { kind: *kind, load, target_index, figures, rounds: by_round, samples });
        }
    }
}

fn only(round: &Round, kind: Kind) -> Round {
    let samples = round.samples.iter().filter(|sample| sample.kind == kind).cloned().collect();
    Round { samples, wall: round.wall }
}

/// The kinds of requests that a workload makes, the one it is about first.
fn kinds(workload: Workload) -> &'static [Kind] {
    match workload {
        Workload::Completion => &[Kind::Completion],
        Workload::Chat => &[Kind::Chat],
        Workload::Typing => &[Kind::Key],
        Workload::Mixed => &[Kind::Key, Kind::Chat],
    }
}

fn target_report(target: &super::plan::Target) -> TargetReport {
    TargetReport {
        label: target.label.clone(),
        url: target.url.clone(),
        dialect: target.dialect,
        model: target.model.clone(),
    }
}

/// What the client itself costs, next to the wall.
struct ClientClock {
    begun: std::time::Instant,
    cpu_seconds: Option<f64>,
}

impl ClientClock {
    fn start() -> Self {
        Self { begun: std::time::Instant::now(), cpu_seconds: cpu_seconds() }
    }

    fn cores(&self) -> Option<f64> {
        let wall = self.begun.elapsed().as_secs_f64();
        (wall > 0.0).then_some((cpu_seconds()? - self.cpu_seconds?) / wall)
    }
}

/// Of this process, all threads; Linux counts in hundredths.
fn cpu_seconds() -> Option<f64> {
    ticks(&std::fs::read_to_string(Path::new("/proc/self/stat")).ok()?).map(|ticks| ticks as f64 / 100.0)
}

/// The 14th and 15th field, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ').skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_read_behind_its_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 1 0 100 0 0\n";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(ticks(""), None);
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0), "Linux tells");
    }
}
