//! The engine through its lane, with a tiny model of real architecture: what a request gets must not depend on who
//! else is there, what the cache holds, how prompts are cut into steps, or who leaves in the middle.

mod cancels;
mod matrix;
mod speculation;
mod typing;

use futures::StreamExt;
use futures::future::join_all;
use kernels::Pool;
use sconce::catalog::Catalog;
use sconce::device::Device;
use sconce::domain::{
    CacheSalt, CallId, Class, Event, FinishReason, Generate, GenerateError, Job, Prompt, SamplingParams, SessionKey,
    StopRules,
};
use sconce::engine::{Engine, EngineSettings, KvMemory, LoadError, LoadOptions, Source, load, plan};
use sconce::nn::Quantise;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// Tokens of output with the bits of their log probabilities and of those beside them.
type Trace = Vec<(u32, u32, Vec<(u32, u32)>)>;

#[derive(Clone, Copy)]
struct Shape {
    kv_bytes: u64,
    step_tokens_max: usize,
    prefill_chunk_max: usize,
    running_max: usize,
    threads: usize,
    speculates: bool,
}

const ROOMY: Shape = Shape {
    kv_bytes: 8 << 20,
    step_tokens_max: 256,
    prefill_chunk_max: 256,
    running_max: 16,
    threads: 1,
    speculates: true,
};

fn options(shape: Shape) -> LoadOptions {
    LoadOptions {
        name: "tiny".to_owned(),
        quantise: Quantise::None,
        context_tokens: None,
        kv_memory: KvMemory::AtMost(shape.kv_bytes),
        card: None,
        settings: EngineSettings {
            step_tokens_max: shape.step_tokens_max,
            prefill_chunk_max: shape.prefill_chunk_max,
            running_max: shape.running_max,
            waiting_max: 300,
            is_batch_invariant: true,
            speculates: shape.speculates,
            chat_share: 0.125,
            promote_after: Duration::from_secs(600),
            completion_deadline: Duration::from_secs(600),
            chat_deadline: Duration::from_secs(600),
        },
    }
}

fn engine(shape: Shape) -> Engine {
    engine_in(shape, &prometheus::Registry::new())
}

fn engine_in(shape: Shape, registry: &prometheus::Registry) -> Engine {
    let source = Source::Path("models/golden/checkpoints/llama3".into());
    let plan = plan(&source, options(shape), &cpu(shape.threads)).expect("a golden checkpoint");
    let catalog = Catalog::load(None).expect("embedded cards");
    load(plan, &catalog, registry, &mut |_| {}).expect("loads")
}

fn cpu(threads: usize) -> Device {
    Device::Cpu(Arc::new(Pool::new(NonZeroUsize::new(threads).expect("above 0"))))
}

/// A small generator, so that schedules are random and the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn job(prompt: Vec<u32>, max_tokens: usize) -> Job {
    Job {
        id: CallId("test".into()),
        prompt: Prompt::Tokens(prompt),
        sampling: SamplingParams { top_logprobs: Some(5), ..SamplingParams::default() },
        stop: StopRules { max_tokens: Some(max_tokens), stop: Vec::new() },
        class: Class::Completion,
        session: None,
        cache_salt: CacheSalt(1),
        deadline: None,
    }
}

/// Requests that share beginnings, greedy and sampled, short and long.
fn jobs(count: usize) -> Vec<Job> {
    let mut random = Random(11);
    let stem: Vec<u32> = (0..160).map(|_| random.below(250) as u32).collect();
    (0..count)
        .map(|index| {
            let shared = random.below(stem.len());
            let own = 1 + random.below(40);
            let prompt = stem[..shared].iter().copied().chain((0..own).map(|_| random.below(250) as u32)).collect();
            let mut job = job(prompt, 1 + random.below(12));
            if index % 3 == 0 {
                job.sampling.temperature = 0.9;
                job.sampling.top_p = 0.95;
                job.sampling.repetition_penalty = 1.1;
                job.sampling.seed = Some(index as u64);
            }
            job.class = if index % 4 == 0 { Class::Chat } else { Class::Completion };
            job
        })
        .collect()
}

async fn trace(lane: Arc<dyn Generate>, job: Job) -> Result<Trace, GenerateError> {
    let mut events = lane.generate(job);
    let mut trace = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Text { logprobs, .. } = event? {
            trace.extend(logprobs.into_iter().map(|logprob| {
                let top = logprob.top.iter().map(|top| (top.id, top.logprob.to_bits())).collect();
                (logprob.token.id, logprob.token.logprob.to_bits(), top)
            }));
        }
    }
    Ok(trace)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn the_same_request_gives_the_same_bits_in_any_company() {
    let jobs = jobs(48);
    let runtime = runtime();
    let expected: Vec<Trace> = {
        let engine = engine(Shape { speculates: false, ..ROOMY });
        jobs.iter()
            .enumerate()
            .map(|(index, job)| {
                // A salt of its own: nothing is found in the cache.
                let job = Job { cache_salt: CacheSalt(1000 + index as u64), ..job.clone() };
                runtime.block_on(trace(engine.handle(), job)).expect("answers")
            })
            .collect()
    };
    let distinct: std::collections::HashSet<&Trace> = expected.iter().collect();
    assert!(distinct.len() > 40, "the requests differ, or this test would prove nothing");
    let shapes = [
        ROOMY,
        // Hardly two prompts fit: sequences are preempted and computed again.
        Shape {
            kv_bytes: 24 * 16 * 1024,
            step_tokens_max: 48,
            prefill_chunk_max: 17,
            running_max: 6,
            threads: 2,
            ..ROOMY
        },
        Shape { step_tokens_max: 16, prefill_chunk_max: 5, running_max: 16, ..ROOMY },
    ];
    for (index, shape) in shapes.into_iter().enumerate() {
        let engine = engine(shape);
        for round in 0..2 {
            let mut random = Random(100 * index as u64 + round);
            let company = jobs.iter().map(|job| {
                // Every third request has a twin who leaves after a few events.
                let patience = (random.below(3) == 0).then(|| random.below(4));
                let leaver = engine.handle().generate(job.clone());
                let lane = engine.handle();
                async move {
                    let leave = async {
                        if let Some(patience) = patience {
                            leaver.take(patience).for_each(|_| std::future::ready(())).await;
                        }
                    };
                    futures::join!(leave, trace(lane, job.clone())).1.expect("answers")
                }
            });
            let answers = runtime.block_on(join_all(company));
            for (request, (got, want)) in answers.iter().zip(&expected).enumerate() {
                assert!(got == want, "shape {index}, round {round}, request {request}: {got:?} instead of {want:?}");
            }
        }
    }
}

#[test]
fn what_was_computed_before_is_found_to_the_token() {
    let engine = engine(ROOMY);
    let runtime = runtime();
    let cached = |prompt: Vec<u32>, salt: u64| {
        let mut events = engine.handle().generate(Job { cache_salt: CacheSalt(salt), ..job(prompt, 1) });
        runtime.block_on(async move {
            while let Some(event) = events.next().await {
                if let Event::Finished { usage, .. } = event.expect("answers") {
                    return usage.cached_tokens;
                }
            }
            panic!("never finished")
        })
    };
    let prompt: Vec<u32> = (0..100).collect();
    assert_eq!(cached(prompt.clone(), 1), 0, "nothing is known yet");
    assert_eq!(cached(prompt.clone(), 1), 99, "all but the token whose logits are wanted");
    let mut typed = prompt.clone();
    typed.push(7);
    assert_eq!(cached(typed, 1), 100, "a keystroke costs one token");
    let mut edited = prompt.clone();
    edited[70] = 201;
    assert_eq!(cached(edited, 1), 70, "an edit keeps what is before it, to the token");
    assert_eq!(cached(prompt, 2), 0, "another tenant finds nothing");
}

#[test]
fn n_answers_end_for_n_requests_on_a_small_cache() {
    let engine = engine(Shape { kv_bytes: 24 * 16 * 1024, running_max: 8, ..ROOMY });
    let runtime = runtime();
    let requests = (0..200u32).map(|index| {
        let prompt = (0..150).map(|token| (index * 7 + token) % 250).collect();
        let mut job = job(prompt, 20);
        job.session = (index % 10 == 0).then(|| SessionKey("one editor".into()));
        engine.handle().generate(job).fold(None, |_, event| std::future::ready(Some(event)))
    });
    let outcomes = runtime.block_on(join_all(requests));
    let (mut finished, mut superseded) = (0, 0);
    for outcome in outcomes {
        match outcome {
            Some(Ok(Event::Finished { reason: FinishReason::Length | FinishReason::Stop, .. })) => finished += 1,
            Some(Err(GenerateError::Superseded)) => superseded += 1,
            other => panic!("a request ended with {other:?}"),
        }
    }
    assert_eq!(finished + superseded, 200);
    assert!(superseded <= 19, "{superseded} of the 20 requests of one editor were superseded");
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_numbers() {
    let source = Source::Path("models/golden/checkpoints/llama3".into());
    let cpu = cpu(1);
    let too_small = plan(&source, LoadOptions { kv_memory: KvMemory::AtMost(100), ..options(ROOMY) }, &cpu);
    assert!(matches!(too_small, Err(LoadError::Memory(_))));
    let too_long = plan(&source, LoadOptions { context_tokens: Some(1 << 24), ..options(ROOMY) }, &cpu);
    let message = too_long.err().expect("longer than the model").to_string();
    assert!(message.contains("16777216"), "{message}");
    let running = Shape { running_max: 1 << 40, ..ROOMY };
    let huge = LoadOptions { kv_memory: KvMemory::AtMost(1 << 60), ..options(running) };
    let plan = plan(&source, huge, &cpu).expect("planning allocates nothing");
    assert!(plan.memory().check().is_err(), "{}", plan.memory());
}

#[test]
fn prompts_that_cannot_be_served_say_why() {
    let engine = engine(ROOMY);
    let context = engine.info().context_tokens;
    let runtime = runtime();
    let error = |job: Job| runtime.block_on(trace(engine.handle(), job)).expect_err("refused");
    assert!(matches!(error(job(Vec::new(), 1)), GenerateError::PromptEmpty));
    assert!(
        matches!(error(job(vec![1, 1 << 30], 1)), GenerateError::TokenOutOfRange { token, .. } if token == 1 << 30)
    );
    let too_long = error(job(vec![1; context], 5));
    assert!(
        matches!(too_long, GenerateError::PromptTooLong { prompt_tokens, max_tokens: 5, context_tokens, .. }
            if prompt_tokens == context && context_tokens == context),
        "{too_long}"
    );
    let one = runtime.block_on(trace(engine.handle(), job(vec![5], 3))).expect("a prompt of one token");
    assert_eq!(one.len(), 3);
}
