//! Guessed tokens over a real decoder: on or off, nothing of an answer changes.

use super::*;

/// Prompts that repeat themselves, long answers, everything that sampling can be asked: guessed tokens, chunks, what
/// the cache holds and who else is there change no token and no log probability.
#[test]
fn guessed_tokens_change_nothing_in_any_company() {
    let mut random = Random(23);
    let jobs: Vec<Job> = (0..24)
        .map(|index: usize| {
            let phrase: Vec<u32> = (0..4 + random.below(12)).map(|_| random.below(250) as u32).collect();
            let times = 2 + random.below(6);
            let mut job = job(phrase.repeat(times), 20 + random.below(40));
            // Without penalties a tiny model of random weights falls into repetition, which is what is guessed.
            if index % 3 == 1 {
                job.sampling.temperature = 0.3;
                job.sampling.seed = Some(index as u64);
            }
            if index % 4 == 3 {
                job.sampling.frequency_penalty = 0.2;
                job.sampling.presence_penalty = 0.1;
            }
            job.session = index.is_multiple_of(5).then(|| SessionKey(format!("editor {index}").into()));
            job.class = if index.is_multiple_of(4) { Class::Chat } else { Class::Completion };
            job
        })
        .collect();
    let runtime = runtime();
    let expected: Vec<Trace> = {
        let engine = engine(Shape { speculates: false, ..ROOMY });
        jobs.iter().map(|job| runtime.block_on(trace(engine.handle(), job.clone())).expect("answers")).collect()
    };
    let shapes = [
        ROOMY,
        Shape { running_max: 1, ..ROOMY },
        Shape { kv_bytes: 24 * 16 * 1024, step_tokens_max: 48, prefill_chunk_max: 7, running_max: 5, ..ROOMY },
        Shape { step_tokens_max: 24, prefill_chunk_max: 5, running_max: 3, threads: 2, ..ROOMY },
    ];
    let mut accepted = 0.0;
    for (index, shape) in shapes.into_iter().enumerate() {
        let registry = prometheus::Registry::new();
        let engine = engine_in(shape, &registry);
        for round in 0..2 {
            let company = jobs.iter().map(|job| trace(engine.handle(), job.clone()));
            let answers = runtime.block_on(join_all(company));
            for (request, (got, want)) in answers.iter().zip(&expected).enumerate() {
                let got = got.as_ref().expect("answers");
                assert!(got == want, "shape {index}, round {round}, request {request}: {got:?} instead of {want:?}");
            }
        }
        let families = registry.gather();
        let counted = families.iter().find(|family| family.name() == "sconce_draft_tokens_accepted_total");
        accepted += counted.expect("it is counted").get_metric()[0].get_counter().get_value();
    }
    println!("{accepted} guessed tokens were right");
    assert!(accepted > 200.0, "{accepted} guessed tokens were right, too few to prove anything");
}
