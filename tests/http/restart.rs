//! A model whose device fails, seen from outside: what calls are told, what health and metrics say, and that the
//! gateway and its other models go on. The engine is the real one; its device is told when to fail, and when to return.

use crate::client::{Answer, COMPLETION, COMPLETION_STREAM, COMPLETIONS, ask, get, post};
use crate::support::gate;
use axum::Router;
use kernels::Pool;
use prometheus::Registry;
use sconce::auth::Auth;
use sconce::catalog::Catalog;
use sconce::device::Device;
use sconce::engine::{
    Batch, Collected, Engine, EngineSettings, KvMemory, LoadError, LoadOptions, Restart, RestartPolicy, Runner, Source,
    StepError, plan, start,
};
use sconce::http::{AppState, CallLimits, Health, Readiness, app, metrics_app};
use sconce::nn::Quantise;
use sconce::route::{Lane, Routes};
use sconce::sampler::SampledToken;
use sconce::serve::keep_ready;
use serde_json::json;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use tokio::task::{JoinSet, yield_now};

const OTHER: &str = r#"{"model": "other", "prompt": "a"}"#;
const DEVICE_ERROR: &str = "an illegal memory access was encountered";

/// More than any of these tests should take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says the same tokens at the same positions, until it is told to fail.
struct Faulty {
    faults: Arc<Faults>,
    in_flight: VecDeque<Batch>,
}

/// How a device is told to fail, from the test's side.
#[derive(Default)]
struct Faults {
    /// The device fails after this many more steps; 0 is never.
    fails_in: AtomicUsize,
    /// No device can be made.
    is_gone: AtomicBool,
}

impl Faulty {
    fn boxed(faults: &Arc<Faults>) -> Box<dyn Runner> {
        Box::new(Self { faults: Arc::clone(faults), in_flight: VecDeque::new() })
    }
}

impl Runner for Faulty {
    fn depth(&self) -> usize {
        1
    }

    fn submit(&mut self, batch: Batch) -> Result<(), StepError> {
        self.in_flight.push_back(batch);
        Ok(())
    }

    fn collect(&mut self) -> Collected {
        let batch = self.in_flight.pop_front().expect("a step is in flight");
        let steps_left =
            self.faults.fails_in.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if steps_left == Ok(1) {
            return Collected { batch, tokens: Err(StepError::Device { message: DEVICE_ERROR.to_owned() }) };
        }
        let positions = batch.sampled.iter().map(|sampled| batch.positions[sampled.row as usize]);
        let tokens = positions.map(|position| Ok(SampledToken { token: 40 + position * 7 % 100, logprobs: None }));
        let tokens = Ok(tokens.collect());
        Collected { batch, tokens }
    }
}

/// An app with two models: "m", whose device fails on demand, and "other".
struct Bench {
    app: Router,
    metrics: Router,
    faults: Arc<Faults>,
    /// Lets one attempt to restart begin its work.
    permits: SyncSender<()>,
    _engines: Vec<Engine>,
    _keeping: JoinSet<()>,
}

impl Bench {
    fn new(failures_max: u32) -> Self {
        let registry = Registry::new();
        let faults = Arc::new(Faults::default());
        let (permits, permitted) = sync_channel(8);
        let next = Arc::clone(&faults);
        let make = Box::new(move || {
            let gone = || LoadError::Thread(std::io::Error::other("the device is gone"));
            permitted.recv().map_err(|_| gone())?;
            if next.is_gone.load(Ordering::SeqCst) { Err(gone()) } else { Ok(Faulty::boxed(&next)) }
        });
        let policy = RestartPolicy { wait_first: Duration::from_millis(1), failures_max, ..RestartPolicy::default() };
        let engines = vec![
            engine("m", Faulty::boxed(&faults), Restart::With { make, policy }, &registry),
            engine("other", Faulty::boxed(&Arc::default()), Restart::Never, &registry),
        ];
        let lanes = engines.iter().map(|engine| Lane::local(engine.info().clone(), Vec::new(), engine.handle()));
        let routes = Routes::new(lanes.collect()).expect("two names");
        let health = Health::new(Readiness::Ready);
        let state = AppState::new(routes, gate(Auth::Disabled), health.clone(), CallLimits::default(), &registry);
        let feeds = engines.iter().map(Engine::health_feed).collect();
        let mut keeping = JoinSet::new();
        keeping.spawn(async move { keep_ready(feeds, &health).await });
        Self {
            app: app(state.expect("a new registry")),
            metrics: metrics_app(registry),
            faults,
            permits,
            _engines: engines,
            _keeping: keeping,
        }
    }

    async fn complete(&self, body: &str) -> Answer {
        ask(&self.app, post(COMPLETIONS, body.to_owned())).await
    }

    /// What `/monitoring/ready` says once its status is this one.
    async fn ready(&self, status: &str) -> String {
        let becomes = async {
            loop {
                let answer = ask(&self.app, get("/monitoring/ready")).await;
                let is_it = match status {
                    "ready" => answer.status == 200,
                    _ => answer.status == 503 && answer.json()["status"] == status,
                };
                if is_it {
                    return answer.text;
                }
                yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, becomes).await.unwrap_or_else(|_| panic!("never {status}"))
    }

    async fn assert_metrics(&self, lines: &[&str]) {
        let answer = ask(&self.metrics, get("/metrics")).await;
        for line in lines {
            assert!(answer.text.lines().any(|found| found == *line), "{line} in\n{}", answer.text);
        }
    }
}

fn engine(name: &str, runner: Box<dyn Runner>, restart: Restart, registry: &Registry) -> Engine {
    let hour = Duration::from_secs(3600);
    let options = LoadOptions {
        name: name.to_owned(),
        quantise: Quantise::None,
        context_tokens: None,
        kv_memory: KvMemory::AtMost(1 << 20),
        card: None,
        settings: EngineSettings {
            step_tokens_max: 64,
            prefill_chunk_max: 64,
            running_max: 4,
            waiting_max: 16,
            is_batch_invariant: true,
            speculates: true,
            chat_share: 0.125,
            promote_after: hour,
            completion_deadline: hour,
            chat_deadline: hour,
        },
    };
    let source = Source::Path("models/golden/checkpoints/llama3".into());
    let device = Device::Cpu(Arc::new(Pool::new(NonZeroUsize::MIN)));
    let plan = plan(&source, options, &device).expect("a golden checkpoint");
    start(plan, &Catalog::load(None).expect("embedded cards"), registry, runner, restart).expect("starts")
}

fn text(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["choices"][0]["text"].as_str().expect("a text").to_owned()
}

/// Checks that the model was not there, for this cause. Answers with the seconds after which to try again.
fn down(answer: &Answer, cause: &str) -> Option<u32> {
    assert_eq!(answer.status, 503, "{}", answer.text);
    let error = answer.error();
    assert_eq!((error.kind.as_str(), error.code.as_str()), ("service_unavailable_error", "engine_down"));
    assert_eq!(error.message, format!("m is not available: {cause}"));
    answer.header("retry-after").map(|seconds| seconds.parse().expect("whole seconds"))
}

const CUT_OFF: &str = "its device failed while it answered, and the engine is restarting";
const REFUSED: &str = "its engine is restarting after a failure of the device";
const FINAL: &str = "its engine has failed for good, and the log says why";

#[tokio::test]
async fn a_failed_device_turns_health_red_and_its_return_turns_it_green() {
    let bench = Bench::new(10);
    let before = text(&bench.complete(COMPLETION).await);
    let other = text(&bench.complete(OTHER).await);
    bench.ready("ready").await;
    for restarts in 1..=2 {
        bench.faults.fails_in.store(3, Ordering::SeqCst);
        assert!(down(&bench.complete(COMPLETION).await, CUT_OFF).is_some(), "a restart is worth waiting for");
        let cause = bench.ready("restarting").await;
        assert!(cause.contains("the engine of m is restarting") && cause.contains(DEVICE_ERROR), "{cause}");
        assert!(down(&bench.complete(COMPLETION).await, REFUSED).is_some());
        assert_eq!(text(&bench.complete(OTHER).await), other, "other models go on");
        assert_eq!(ask(&bench.app, get("/monitoring/healthz")).await.status, 200, "the process lives");
        bench
            .assert_metrics(&[r#"sconce_engine_healthy{model="m"} 0"#, r#"sconce_engine_healthy{model="other"} 1"#])
            .await;

        bench.permits.send(()).expect("the maker lives");
        bench.ready("ready").await;
        assert_eq!(text(&bench.complete(COMPLETION).await), before, "the same answer as before");
        bench
            .assert_metrics(&[
                r#"sconce_engine_healthy{model="m"} 1"#,
                &format!(r#"sconce_engine_restarts_total{{model="m"}} {restarts}"#),
                r#"sconce_engine_restarts_total{model="other"} 0"#,
            ])
            .await;
    }
}

#[tokio::test]
async fn a_stream_that_the_failure_cuts_off_says_so() {
    let bench = Bench::new(10);
    bench.faults.fails_in.store(6, Ordering::SeqCst);
    let answer = bench.complete(COMPLETION_STREAM).await;
    assert_eq!(answer.status, 200, "it had begun");
    let said: Vec<&str> = answer.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(said.len() > 1, "some of the answer came: {}", answer.text);
    let last = said.last().expect("not empty");
    assert!(last.contains(r#""code":"engine_down""#) && last.contains(CUT_OFF), "{last}");
    assert!(!answer.text.contains("[DONE]"));
    bench.permits.send(()).expect("the maker lives");
    bench.ready("ready").await;
}

#[tokio::test]
async fn a_device_that_never_returns_leaves_the_gateway_answering() {
    let bench = Bench::new(3);
    bench.faults.is_gone.store(true, Ordering::SeqCst);
    bench.faults.fails_in.store(1, Ordering::SeqCst);
    for _ in 0..2 {
        bench.permits.send(()).expect("the maker lives");
    }
    // A wait of a millisecond, and five seconds that a restart is taken to last until one was seen.
    assert_eq!(down(&bench.complete(COMPLETION).await, CUT_OFF), Some(6));
    let body = bench.ready("failed").await;
    let cause = "the engine of m has failed: no thread for the engine: the device is gone";
    assert_eq!(body, json!({"status": "failed", "cause": cause}).to_string());
    assert_eq!(down(&bench.complete(COMPLETION).await, FINAL), None);
    text(&bench.complete(OTHER).await);
    bench.assert_metrics(&[r#"sconce_engine_healthy{model="m"} 0"#]).await;
}
