//! Every combination of what must not matter: alone or in company, with neighbours that leave, found in the cache or
//! not, guessed or not, in one piece or in many. Greedy tokens, and the bits of their log probabilities, are the same.

use super::*;
use prometheus::Registry;

const JOBS: usize = 12;
const SEEDS: std::ops::Range<u64> = 1..4;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Company {
    /// One request after the other.
    Alone,
    /// All at once.
    Together,
    /// All at once, each with twins that leave in the middle or are superseded.
    Deserted,
}

#[derive(Clone, Copy, Debug)]
struct Combination {
    company: Company,
    /// Prompts may be found in the cache; else each request is a tenant of its own.
    shares_cache: bool,
    speculates: bool,
    /// Tokens of one prompt in a step, and of a step in all.
    chunk: (usize, usize),
}

fn combinations() -> Vec<Combination> {
    let mut all = Vec::new();
    for company in [Company::Alone, Company::Together, Company::Deserted] {
        for shares_cache in [false, true] {
            for speculates in [false, true] {
                for chunk in [(3, 20), (16, 48), (256, 256)] {
                    all.push(Combination { company, shares_cache, speculates, chunk });
                }
            }
        }
    }
    all
}

/// Greedy requests: half of them repeat themselves, so that something is guessed, and half begin alike, so that
/// something is found.
fn greedy_jobs(seed: u64) -> Vec<Job> {
    let mut random = Random(seed);
    let stem: Vec<u32> = (0..120).map(|_| random.below(250) as u32).collect();
    (0..JOBS)
        .map(|index| {
            let mut prompt: Vec<u32> = if index % 2 == 0 {
                stem[..30 + random.below(90)].to_vec()
            } else {
                let phrase: Vec<u32> = (0..4 + random.below(10)).map(|_| random.below(250) as u32).collect();
                phrase.repeat(3 + random.below(4))
            };
            prompt.extend((0..random.below(20)).map(|_| random.below(250) as u32));
            let class = if index % 3 == 0 { Class::Chat } else { Class::Completion };
            Job { class, ..job(prompt, 8 + random.below(24)) }
        })
        .collect()
}

fn count(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name).expect("it is counted");
    family.get_metric()[0].get_counter().get_value()
}

impl Combination {
    fn shape(&self) -> Shape {
        let (prefill_chunk_max, step_tokens_max) = self.chunk;
        Shape { prefill_chunk_max, step_tokens_max, speculates: self.speculates, ..ROOMY }
    }

    fn salt(&self, round: usize, index: usize) -> CacheSalt {
        CacheSalt(if self.shares_cache { 1 } else { (1 + round * 100 + index) as u64 })
    }

    /// The answer to one request, with whoever comes and goes beside it.
    async fn answer(&self, engine: &Engine, job: Job, patience: usize) -> Trace {
        let lane = engine.handle();
        if self.company != Company::Deserted {
            return trace(lane, job).await.expect("answers");
        }
        let session = Some(SessionKey(format!("{:?} {patience}", job.prompt).into()));
        let leaver = lane.generate(job.clone()).take(patience).for_each(|_| std::future::ready(()));
        let older = trace(Arc::clone(&lane), Job { session: session.clone(), class: Class::Completion, ..job.clone() });
        let newer = trace(Arc::clone(&lane), Job { session, class: Class::Completion, ..job.clone() });
        futures::join!(leaver, older, newer, trace(lane, job)).3.expect("answers")
    }

    /// All answers, twice: the second time the cache is warm, if it may be. Answers with how many prompt tokens were
    /// found in the cache and how many guesses were right.
    fn check(&self, seed: u64, jobs: &[Job], expected: &[Trace]) -> (f64, f64) {
        let registry = Registry::new();
        let engine = engine_in(self.shape(), &registry);
        let runtime = runtime();
        let mut random = Random(seed);
        for round in 0..2 {
            let answers = jobs.iter().enumerate().map(|(index, job)| {
                let job = Job { cache_salt: self.salt(round, index), ..job.clone() };
                self.answer(&engine, job, 1 + random.below(6))
            });
            let answers: Vec<Trace> = if self.company == Company::Alone {
                answers.map(|answer| runtime.block_on(answer)).collect()
            } else {
                runtime.block_on(join_all(answers))
            };
            for (index, (got, want)) in answers.iter().zip(expected).enumerate() {
                assert!(got == want, "{self:?}, seed {seed}, round {round}, job {index}: {got:?} instead of {want:?}");
            }
        }
        engine.stop();
        let counts = ["sconce_cached_prompt_tokens_total", "sconce_draft_tokens_accepted_total"];
        let [cached, accepted] = counts.map(|name| count(&registry, name));
        assert_eq!(accepted > 0.0, accepted > 0.0 && self.speculates, "{self:?}");
        let has_twins = self.company == Company::Deserted;
        assert!(self.shares_cache || has_twins || cached == 0.0, "{self:?}: {cached} tokens from the cache");
        (cached, accepted)
    }
}

#[test]
fn whatever_is_combined_greedy_answers_are_the_same() {
    let (mut cached, mut accepted) = (0.0, 0.0);
    for seed in SEEDS {
        let jobs = greedy_jobs(seed);
        // Nothing shared, nothing guessed, one after the other, each prompt in one piece.
        let plain = engine(Shape { speculates: false, ..ROOMY });
        let runtime = runtime();
        let expected: Vec<Trace> = jobs
            .iter()
            .enumerate()
            .map(|(index, job)| Job { cache_salt: CacheSalt(index as u64), ..job.clone() })
            .map(|job| runtime.block_on(trace(plain.handle(), job)).expect("answers"))
            .collect();
        let distinct: std::collections::HashSet<&Trace> = expected.iter().collect();
        assert!(distinct.len() > JOBS - 2, "the answers differ, or this test would prove nothing");
        for combination in combinations() {
            let counts = combination.check(seed, &jobs, &expected);
            cached += counts.0;
            accepted += counts.1;
        }
    }
    println!("{cached} tokens from the cache, {accepted} right guesses");
    assert!(cached > 10_000.0 && accepted > 200.0, "{cached} tokens from the cache, {accepted} right guesses");
}
