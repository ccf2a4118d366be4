//! The engine on a GPU: what a request gets, whoever else is there and whatever the cache holds.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use sconce::catalog::Catalog;
use sconce::device::{Device, GpuDevice};
use sconce::domain::{
    CacheSalt, CallId, Class, Event, Generate, GenerateError, Job, Prompt, SamplingParams, StopRules,
};
use sconce::engine::{Engine, EngineSettings, KvMemory, LoadOptions, Source, load, plan};
use sconce::nn::Quantise;
use std::sync::Arc;

use crate::devices::{Kind, kinds};

/// Tokens of an answer with the bits of their log probabilities.
type Trace = Vec<(u32, u32)>;

#[derive(Clone, Copy)]
pub struct Shape {
    pub kv_bytes: u64,
    pub step_tokens_max: usize,
    pub prefill_chunk_max: usize,
    pub running_max: usize,
    pub is_batch_invariant: bool,
}

pub const ROOMY: Shape =
    Shape { kv_bytes: 8 << 20, step_tokens_max: 128, prefill_chunk_max: 64, running_max: 8, is_batch_invariant: true };

pub fn options(shape: Shape) -> LoadOptions {
    let hour = Duration::from_secs(3600);
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
            is_batch_invariant: shape.is_batch_invariant,
            speculates: true,
            chat_share: 0.125,
            promote_after: hour,
            completion_deadline: hour,
            chat_deadline: hour,
        },
    }
}

pub fn engine_on(device: &Device, shape: Shape) -> Engine {
    let source = Source::Path("models/golden/checkpoints/llama3".into());
    let plan = plan(&source, options(shape), device).unwrap();
    load(plan, &Catalog::load(None).unwrap(), &prometheus::Registry::new(), &mut |_| {}).unwrap()
}

fn engine(kind: Kind, shape: Shape, seed: u64) -> Engine {
    engine_on(&Device::Gpu(GpuDevice::new(move || Ok(kind.open(seed))).unwrap()), shape)
}

pub fn job(prompt: Vec<u32>, max_tokens: usize) -> Job {
    Job {
        id: CallId("test".into()),
        prompt: Prompt::Tokens(prompt),
        sampling: SamplingParams { top_logprobs: Some(2), ..SamplingParams::default() },
        stop: StopRules { max_tokens: Some(max_tokens), stop: Vec::new() },
        class: Class::Completion,
        session: None,
        cache_salt: CacheSalt::default(),
        deadline: None,
    }
}

pub async fn trace(lane: Arc<dyn Generate>, job: Job) -> Result<Trace, GenerateError> {
    let mut events = lane.generate(job);
    let mut tokens = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Taken(_) | Event::Started { .. } => {}
            Event::Text { logprobs, .. } => {
                tokens.extend(logprobs.iter().map(|found| (found.token.id, found.token.logprob.to_bits())));
            }
            Event::Finished { .. } => {}
        }
    }
    Ok(tokens)
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Prompts of many lengths, some with a common beginning.
fn jobs() -> Vec<Job> {
    let prompt = |index: u32| {
        let shared = if index.is_multiple_of(3) { 20 } else { 0 };
        let own = 3 + (index * 11) % 40;
        (0..shared)
            .map(|token| 5 + token * 7 % 200)
            .chain((0..own).map(move |token| 7 + (token * 13 + index * 29) % 230))
    };
    (0..10)
        .map(|index| {
            let mut job = job(prompt(index).collect(), 9);
            if index % 2 == 1 {
                // Every other one draws, with everything that a state row can hold.
                job.sampling.temperature = 0.8;
                job.sampling.top_p = 0.9;
                job.sampling.seed = Some(u64::from(index));
                job.sampling.frequency_penalty = 0.5;
                job.sampling.logit_bias = vec![(17, 1.5)];
            }
            job
        })
        .collect()
}

fn together(engine: &Engine) -> Vec<Trace> {
    let answers = jobs().into_iter().map(|job| trace(engine.handle(), job));
    runtime().block_on(join_all(answers)).into_iter().map(Result::unwrap).collect()
}

fn alone(engine: &Engine) -> Vec<Trace> {
    let runtime = runtime();
    jobs().into_iter().map(|job| runtime.block_on(trace(engine.handle(), job)).unwrap()).collect()
}

/// With one order for every reduction nothing depends on company, on how prompts are cut, on preemption, on what is
/// cached or on the order in which a device runs its threads.
#[test]
fn the_same_answer_in_any_company() {
    let tight = Shape { kv_bytes: 160 << 10, step_tokens_max: 24, prefill_chunk_max: 7, running_max: 5, ..ROOMY };
    for kind in kinds() {
        let want = alone(&engine(kind, ROOMY, 1));
        assert!(want.iter().map(Vec::len).sum::<usize>() >= 60, "hardly any tokens");
        for (name, shape, seed) in [("roomy", ROOMY, 2), ("tight", tight, 3)] {
            let engine = engine(kind, shape, seed);
            assert_eq!(together(&engine), want, "{kind:?}, {name}, together");
            assert_eq!(alone(&engine), want, "{kind:?}, {name}, alone with a warm cache");
        }
    }
}

/// Where reductions are the fastest, the tokens of greedy requests are those of one order on this model.
#[test]
fn the_fastest_reductions_choose_the_same_tokens() {
    let tokens = |traces: Vec<Trace>| -> Vec<Vec<u32>> {
        let greedy = traces.into_iter().step_by(2);
        greedy.map(|trace| trace.into_iter().map(|(token, _)| token).collect()).collect()
    };
    for kind in kinds() {
        let want = tokens(alone(&engine(kind, ROOMY, 1)));
        let fastest = engine(kind, Shape { is_batch_invariant: false, ..ROOMY }, 4);
        assert_eq!(tokens(together(&fastest)), want, "{kind:?}");
    }
}
