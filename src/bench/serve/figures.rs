//! From samples to figures. Percentiles are exact: every sample is kept, and each percentile is a value that occurred.

use super::super::report::{Spread, percentile};
use super::drive::Round;
use super::plan::Goals;
use super::sample::{Kind, Outcome, Sample};
use std::time::Duration;

/// Kinds of failure that are told apart in a report.
const FAILURES_MAX: usize = 16;

/// How a quantity is distributed, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    pub count: usize,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Distribution {
    /// `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        // Sorted once, the sorting for each percentile has nothing left to do.
        values.sort_by(f64::total_cmp);
        let max = *values.last()?;
        let at = |share| percentile(&values, share);
        Some(Self {
            count: values.len(),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            max,
        })
    }
}

/// Who counted output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedBy {
    /// The server, in its usage.
    Usage,
    /// Nobody: these are the pieces in which text came.
    Pieces,
    /// The server where a request came to its end, pieces where it was given up.
    Both,
}

impl CountedBy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Pieces => "pieces",
            Self::Both => "usage_and_pieces",
        }
    }
}

/// Failures of one sort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    pub kind: &'static str,
    pub status: Option<u16>,
    /// Of the first of them.
    pub message: String,
    pub count: usize,
}

/// Requests that kept what was asked of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goodput {
    pub requests_per_second: f64,
    /// Of all that were awaited, failed ones among them.
    pub share: f64,
}

/// All requests of one kind, at one load, of one server. Latencies are of those that were awaited and answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub wall_seconds: f64,
    pub answered: usize,
    /// Of those answered, without a single piece of text.
    pub empty: usize,
    pub failed: usize,
    pub cancelled: usize,
    pub answered_early: usize,
    pub cut: usize,
    pub requests_per_second: f64,
    pub output_tokens: u64,
    pub output_tokens_per_second: f64,
    pub counted_by: CountedBy,
    pub goodput: Option<Goodput>,
    pub first_token_ms: Option<Distribution>,
    /// Between two pieces of text of a request.
    pub inter_token_ms: Option<Distribution>,
    /// From a request's first piece to its last, by the tokens behind the first.
    pub per_output_token_ms: Option<Distribution>,
    pub end_to_end_ms: Option<Distribution>,
    /// How late the client itself was.
    pub send_lag_ms: Option<Distribution>,
    /// As the server counts.
    pub prompt_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    pub drafted_tokens: Option<u64>,
    pub accepted_tokens: Option<u64>,
    /// Of requests whose server told both.
    pub cached_share: Option<f64>,
    pub accepted_share: Option<f64>,
    pub failures: Vec<Failures>,
}

impl Figures {
    /// Of all samples of `kind` in these rounds.
    pub fn of(rounds: &[Round], kind: Kind, goals: Goals) -> Self {
        let samples: Vec<&Sample> = rounds.iter().flat_map(|round| of_kind(round, kind)).collect();
        let wall_seconds = rounds.iter().map(|round| round.wall.as_secs_f64()).sum::<f64>();
        let answered: Vec<&Sample> = samples.iter().copied().filter(|sample| sample.is_answered()).collect();
        let count = |wanted: &Outcome| samples.iter().filter(|sample| sample.outcome == *wanted).count();
        let failures = failures(&samples);
        let failed = samples.iter().filter(|sample| matches!(sample.outcome, Outcome::Failed(_))).count();
        let output_tokens = samples.iter().map(|sample| sample.output_tokens()).sum();
        let per_second = |count: f64| if wall_seconds > 0.0 { count / wall_seconds } else { 0.0 };
        let good = answered.iter().filter(|sample| is_good(sample, goals)).count();
        let awaited = answered.len() + failed;
        let (cached_tokens, cached_of) = told(&answered, |s| s.counts.cached_tokens.zip(s.counts.prompt_tokens));
        let drafts = |s: &Sample| s.counts.accepted_tokens.zip(s.counts.drafted_tokens);
        let (accepted_tokens, drafted_tokens) = told(&answered, drafts);
        Self {
            wall_seconds,
            answered: answered.len(),
            empty: answered.iter().filter(|sample| sample.texts.is_empty()).count(),
            failed,
            cancelled: count(&Outcome::Cancelled),
            answered_early: count(&Outcome::AnsweredEarly),
            cut: count(&Outcome::Cut),
            requests_per_second: per_second(answered.len() as f64),
            output_tokens,
            output_tokens_per_second: per_second(output_tokens as f64),
            counted_by: counted_by(&samples),
            goodput: (!goals.is_empty() && awaited > 0)
                .then(|| Goodput { requests_per_second: per_second(good as f64), share: good as f64 / awaited as f64 }),
            first_token_ms: distribution(answered.iter().filter_map(|sample| sample.first_text())),
            inter_token_ms: distribution(answered.iter().flat_map(|sample| gaps(sample))),
            per_output_token_ms: distribution(answered.iter().filter_map(|sample| per_output_token(sample))),
            end_to_end_ms: distribution(answered.iter().map(|sample| sample.end)),
            send_lag_ms: distribution(samples.iter().map(|sample| sample.lag)),
            prompt_tokens: answered.iter().filter_map(|sample| sample.counts.prompt_tokens).reduce(u64::saturating_add),
            cached_tokens,
            drafted_tokens,
            accepted_tokens,
            cached_share: share(cached_tokens, cached_of),
            accepted_share: share(accepted_tokens, drafted_tokens),
            failures,
        }
    }

    pub fn prompt_tokens_mean(&self) -> Option<f64> {
        self.prompt_tokens.filter(|_| self.answered > 0).map(|tokens| tokens as f64 / self.answered as f64)
    }
}

/// A figure of two servers compared round by round: above 1, the first is better, whichever way better is.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    pub figure: &'static str,
    pub advantage: Spread,
    pub rounds: usize,
}

/// Whether more or less of a figure is better.
#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

/// A name, which way is better, and where the figure is.
type Compared = (&'static str, Better, fn(&Figures) -> Option<f64>);

const COMPARED: [Compared; 7] = [
    ("first_token_p50", Better::Less, |figures| Some(figures.first_token_ms?.p50)),
    ("first_token_p90", Better::Less, |figures| Some(figures.first_token_ms?.p90)),
    ("end_to_end_p50", Better::Less, |figures| Some(figures.end_to_end_ms?.p50)),
    ("end_to_end_p90", Better::Less, |figures| Some(figures.end_to_end_ms?.p90)),
    ("inter_token_p50", Better::Less, |figures| Some(figures.inter_token_ms?.p50)),
    ("output_tokens_per_s", Better::More, |figures| Some(figures.output_tokens_per_second)),
    ("requests_per_s", Better::More, |figures| Some(figures.requests_per_second)),
];

/// The figures that are compared, in their order.
pub const COMPARED_NAMES: [&str; COMPARED.len()] = {
    let mut names = [""; COMPARED.len()];
    let mut index = 0;
    while index < COMPARED.len() {
        names[index] = COMPARED[index].0;
        index += 1;
    }
    names
};

/// Rounds in which one of the two has no such figure are left out; a figure without any round too.
pub fn ratios(first: &[Figures], second: &[Figures]) -> Vec<Ratio> {
    let compare = |(figure, better, of): Compared| {
        let pairs = first.iter().zip(second).filter_map(|(first, second)| Some((of(first)?, of(second)?)));
        let positive = pairs.filter(|(first, second)| *first > 0.0 && *second > 0.0);
        let quotients: Vec<f64> = positive
            .map(|(first, second)| match better {
                Better::More => first / second,
                Better::Less => second / first,
            })
            .collect();
        let rounds = quotients.len();
        (rounds > 0).then(|| Ratio { figure, advantage: Spread::of(&quotients), rounds })
    };
    COMPARED.into_iter().filter_map(compare).collect()
}

pub fn of_kind(round: &Round, kind: Kind) -> impl Iterator<Item = &Sample> {
    round.samples.iter().filter(move |sample| sample.kind == kind)
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn distribution(durations: impl Iterator<Item = Duration>) -> Option<Distribution> {
    Distribution::of(durations.map(milliseconds).collect())
}

fn gaps(sample: &Sample) -> impl Iterator<Item = Duration> {
    sample.texts.windows(2).map(|pair| pair[1].saturating_sub(pair[0]))
}

fn per_output_token(sample: &Sample) -> Option<Duration> {
    let (first, last) = (sample.texts.first()?, sample.texts.last()?);
    let behind_first = u32::try_from(sample.output_tokens().checked_sub(1)?).ok()?;
    (behind_first > 0 && sample.texts.len() > 1).then(|| last.saturating_sub(*first) / behind_first)
}

fn is_good(sample: &Sample, goals: Goals) -> bool {
    let is_prompt = goals.first_token.is_none_or(|goal| sample.first_text().unwrap_or(sample.end) <= goal);
    is_prompt && goals.end_to_end.is_none_or(|goal| sample.end <= goal)
}

/// Sums over the requests whose server told both numbers; `None` where none did.
fn told(samples: &[&Sample], both: impl Fn(&Sample) -> Option<(u64, u64)>) -> (Option<u64>, Option<u64>) {
    let sums = samples.iter().filter_map(|sample| both(sample));
    let sums = sums.reduce(|sum, next| (sum.0.saturating_add(next.0), sum.1.saturating_add(next.1)));
    (sums.map(|sums| sums.0), sums.map(|sums| sums.1))
}

fn share(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    let (part, whole) = part.zip(whole)?;
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn counted_by(samples: &[&Sample]) -> CountedBy {
    let with_text = || samples.iter().filter(|sample| sample.output_tokens() > 0);
    let by_usage = with_text().filter(|sample| sample.counts.output_tokens.is_some()).count();
    match by_usage {
        0 => CountedBy::Pieces,
        all if all == with_text().count() => CountedBy::Usage,
        _ => CountedBy::Both,
    }
}

fn failures(samples: &[&Sample]) -> Vec<Failures> {
    let mut sorts: Vec<Failures> = Vec::new();
    for sample in samples {
        let Outcome::Failed(failure) = &sample.outcome else { continue };
        let (kind, status) = (failure.kind(), failure.status());
        match sorts.iter().position(|sort| sort.kind == kind && sort.status == status) {
            Some(known) => sorts[known].count += 1,
            None if sorts.len() < FAILURES_MAX => {
                sorts.push(Failures { kind, status, message: failure.message(), count: 1 });
            }
            None => {}
        }
    }
    sorts.sort_by_key(|sort| std::cmp::Reverse(sort.count));
    sorts
}
