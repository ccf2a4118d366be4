//! A GPU that fails while it computes, and one that is too small: through the engine, as a request sees it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kernels::gpu::{Fault, Gpu, GpuError};
use sconce::catalog::Catalog;
use sconce::device::{Device, GpuDevice};
use sconce::domain::GenerateError;
use sconce::engine::{Engine, EngineHealth, KvMemory, LoadError, LoadOptions, Source, load, plan};

use crate::company::{ROOMY, engine_on, job, options, runtime, trace};

const HEALTHY: Fault = Fault { launches_before: None, memory_bytes: None };

/// A device that is opened with one fault after the other; the first opening is for planning.
fn device(faults: &'static [Fault]) -> Device {
    let opened = AtomicU32::new(0);
    let open = move || {
        let index = opened.fetch_add(1, Ordering::Relaxed) as usize;
        Ok(Gpu::emulated_with_fault(index as u64, faults[index.min(faults.len() - 1)]))
    };
    Device::Gpu(GpuDevice::new(open).unwrap())
}

fn wait_until_healthy(engine: &Engine) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !matches!(engine.health(), EngineHealth::Healthy) {
        assert!(Instant::now() < patience, "not healthy again");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_device_that_fails_is_opened_again() {
    // Some launches more than loading takes: the failure comes in a step.
    static FAULTS: [Fault; 3] = [HEALTHY, Fault { launches_before: Some(1300), memory_bytes: None }, HEALTHY];
    let want = runtime().block_on(trace(engine_on(&device(&[HEALTHY]), ROOMY).handle(), job(vec![5, 6, 7], 12)));
    let engine = engine_on(&device(&FAULTS), ROOMY);
    let runtime = runtime();
    let mut failed = None;
    for _ in 0..200 {
        match runtime.block_on(trace(engine.handle(), job(vec![5, 6, 7], 12))) {
            Ok(tokens) => assert_eq!(Ok(tokens), want),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let error = failed.expect("the fault comes");
    assert!(matches!(error, GenerateError::EngineDown { .. }), "{error}");
    wait_until_healthy(&engine);
    assert_eq!(runtime.block_on(trace(engine.handle(), job(vec![5, 6, 7], 12))), want);
}

#[test]
fn a_model_that_does_not_fit_says_so_before_it_is_loaded() {
    static SMALL: [Fault; 1] = [Fault { launches_before: None, memory_bytes: Some(1 << 20) }];
    let source = Source::Path("models/golden/checkpoints/llama3".into());
    let plan = plan(&source, options(ROOMY), &device(&SMALL)).unwrap();
    let error = plan.memory().check().unwrap_err().to_string();
    assert!(error.contains("1.0 MiB are available") && error.contains("fp8"), "{error}");
}

/// Memory that was free when the plan was made may be taken when it is carried out.
#[test]
fn memory_that_is_gone_at_load_is_an_error_with_numbers() {
    static SHRINKS: [Fault; 2] = [HEALTHY, Fault { launches_before: None, memory_bytes: Some(1 << 20) }];
    let source = Source::Path("models/golden/checkpoints/llama3".into());
    let plan = plan(&source, options(ROOMY), &device(&SHRINKS)).unwrap();
    let loaded = load(plan, &Catalog::load(None).unwrap(), &prometheus::Registry::new(), &mut |_| {});
    let error = loaded.err().unwrap();
    assert!(matches!(error, LoadError::GpuMemory { source: GpuError::OutOfMemory { .. }, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("--kv-memory") && text.contains("nvidia-smi"), "{text}");
}

/// Where nobody says how much, the cache takes what is left of an equal share.
#[test]
fn the_cache_takes_what_is_free() {
    let source = Source::Path("models/golden/checkpoints/llama3".into());
    let tokens = |models: usize, memory_bytes: usize| {
        let open = move || Ok(Gpu::emulated_with_fault(1, Fault { memory_bytes: Some(memory_bytes), ..HEALTHY }));
        let device = Device::Gpu(GpuDevice::new(open).unwrap());
        let options = LoadOptions { kv_memory: KvMemory::RestOfDevice { models }, ..options(ROOMY) };
        let plan = plan(&source, options, &device).ok()?;
        plan.memory().check().unwrap();
        Some(plan.memory().kv_tokens)
    };
    let least = (1..64).map(|quarter| quarter << 18).find(|bytes| tokens(1, *bytes).is_some()).unwrap();
    let one = tokens(1, least).unwrap();
    assert!(tokens(2, 2 * least).unwrap().abs_diff(one) <= 32);
    assert!(tokens(1, least + (1 << 18)).unwrap() > one);
    // More than every place filled with a whole context is not taken.
    assert_eq!(tokens(1, 1 << 30), tokens(1, 1 << 31));
}
