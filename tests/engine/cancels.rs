//! Clients that hang up and editors that type on, at random moments, through the whole engine: whoever stays is
//! answered as if nobody had been there, and afterwards nothing is held for anybody.

use super::*;
use prometheus::Registry;
use std::collections::HashMap;

const WAVES: usize = 12;
const WAVE: usize = 60;
const EDITORS: usize = 5;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Left,
    Superseded,
    Finished,
}

/// Asks, and hangs up after so many events; `None` stays. 0 hangs up while the prompt may still be on its way.
async fn ask(lane: Arc<dyn Generate>, job: Job, patience: Option<usize>) -> (End, Trace) {
    match patience {
        Some(0) => {
            let mut events = lane.generate(job);
            // Whether anything was heard by then depends on the threads.
            drop(futures::poll!(events.next()));
            (End::Left, Trace::new())
        }
        Some(patience) => {
            lane.generate(job).take(patience).for_each(|_| std::future::ready(())).await;
            (End::Left, Trace::new())
        }
        None => match trace(lane, job).await {
            Ok(trace) => (End::Finished, trace),
            Err(GenerateError::Superseded) => (End::Superseded, Trace::new()),
            Err(error) => panic!("a request ended with {error}"),
        },
    }
}

/// The values of all metrics, with the outcome where there is one.
fn metrics(registry: &Registry) -> HashMap<String, f64> {
    let mut values = HashMap::new();
    for family in registry.gather() {
        for metric in family.get_metric() {
            let outcome = metric.get_label().iter().find(|label| label.name() == "outcome");
            let name = outcome.map_or(family.name().to_owned(), |label| format!("{} {}", family.name(), label.value()));
            values.insert(name, metric.get_gauge().get_value() + metric.get_counter().get_value());
        }
    }
    values
}

fn check(shape: Shape, seed: u64) {
    let jobs = jobs(24);
    let runtime = runtime();
    let expected: Vec<Trace> = {
        let engine = engine(Shape { speculates: false, ..ROOMY });
        jobs.iter().map(|job| runtime.block_on(trace(engine.handle(), job.clone())).expect("answers")).collect()
    };
    let registry = Registry::new();
    let engine = engine_in(shape, &registry);
    let mut random = Random(seed);
    let mut ends: HashMap<End, usize> = HashMap::new();
    for wave in 0..WAVES {
        let asked: Vec<usize> = (0..WAVE).map(|_| random.below(jobs.len())).collect();
        let answers = asked.iter().map(|index| {
            let mut job = jobs[*index].clone();
            if random.below(2) == 0 {
                job.session = Some(SessionKey(format!("editor {}", random.below(EDITORS)).into()));
                job.class = Class::Completion;
            }
            let patience = (random.below(5) < 3).then(|| random.below(8));
            ask(engine.handle(), job, patience)
        });
        let answers = runtime.block_on(join_all(answers));
        for (index, (end, answer)) in asked.iter().zip(answers) {
            *ends.entry(end).or_default() += 1;
            assert!(end != End::Finished || answer == expected[*index], "wave {wave}, job {index}: {answer:?}");
        }
    }
    let last = runtime.block_on(trace(engine.handle(), jobs[0].clone())).expect("answers");
    assert_eq!(last, expected[0], "whoever comes afterwards is answered");
    engine.stop();
    let metrics = metrics(&registry);
    println!("{ends:?}, {metrics:?}");
    assert_eq!((metrics["sconce_requests_waiting"], metrics["sconce_requests_running"]), (0.0, 0.0));
    assert_eq!(metrics["sconce_kv_blocks_free"], metrics["sconce_kv_blocks"], "every block came back");
    assert!(ends[&End::Left] > 200 && ends[&End::Superseded] > 20 && ends[&End::Finished] > 50, "{ends:?}");
    let ended = |outcome: &str| metrics[&format!("sconce_requests_total {outcome}")];
    assert!(ended("abandoned") > 100.0 && ended("superseded") > 20.0, "they came as far as the engine");
}

#[test]
fn who_leaves_or_is_superseded_at_any_moment_leaves_nothing_behind() {
    check(ROOMY, 1);
    // Hardly two prompts fit, in small pieces: many leave while they wait, are preempted, or are in the middle.
    check(Shape { kv_bytes: 24 * 16 * 1024, step_tokens_max: 32, prefill_chunk_max: 9, running_max: 5, ..ROOMY }, 2);
}
