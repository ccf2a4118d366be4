//! Models, from the configuration to running engines: planned all together, so that what does not fit is refused
//! before anything is allocated; then loaded one by one, with a bar on a terminal and log lines elsewhere.

use super::error::ServeError;
use crate::catalog::Catalog;
use crate::config::{self, Config, EMBEDDED_NAME};
use crate::device::{self, Device, Fallback};
use crate::engine::{self, Engine, EngineSettings, KvMemory, LoadOptions, Plan, Progress, Source};
use crate::nn::Quantise;
use indicatif::{ProgressBar, ProgressStyle};
use kernels::gpu::GpuError;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Shorter loads show no bar: it would only flicker.
const BAR_DELAY: Duration = Duration::from_millis(300);

/// How often a long load says how far it is where there is no terminal.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// A model to be loaded.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub source: Source,
    pub options: LoadOptions,
}

/// Every model the configuration asks for, the embedded one first.
pub fn wanted(config: &Config, device: &Device) -> Vec<Wanted> {
    let models = config.models.len() + usize::from(config.catalog.is_embedded_served);
    let place = Place { device, models };
    let embedded = config.catalog.is_embedded_served.then(|| embedded(config, &place));
    let configured = config.models.iter().map(|model| Wanted {
        source: Source::Path(model.path.clone()),
        options: LoadOptions {
            name: model.name.clone(),
            quantise: quantise(model.quantise),
            context_tokens: model.context_tokens.map(usize::from),
            kv_memory: kv_memory(model.kv_memory, &place),
            card: model.card.clone(),
            settings: settings(&config.engine, device),
        },
    });
    embedded.into_iter().chain(configured).collect()
}

/// Where models are loaded, and how many of them.
struct Place<'a> {
    device: &'a Device,
    models: usize,
}

fn embedded(config: &Config, place: &Place<'_>) -> Wanted {
    Wanted {
        source: Source::Embedded,
        options: LoadOptions {
            name: EMBEDDED_NAME.to_owned(),
            quantise: quantise(config.engine.quantise),
            context_tokens: None,
            kv_memory: kv_memory(config.engine.kv_memory, place),
            card: None,
            settings: settings(&config.engine, place.device),
        },
    }
}

/// Opens one model and counts what it will take.
pub fn plan(wanted: Wanted, device: &Device) -> Result<Plan, ServeError> {
    let name = wanted.options.name.clone();
    engine::plan(&wanted.source, wanted.options, device)
        .map_err(|source| ServeError::Load { name, source: Box::new(source) })
}

/// The device that the configuration asks for; says why where it is not the one that was hoped for.
pub fn device(config: &config::Engine) -> Result<Device, ServeError> {
    let wanted = match config.device {
        config::DeviceChoice::Auto => device::Wanted::Auto,
        config::DeviceChoice::Cpu => device::Wanted::Cpu,
        config::DeviceChoice::Cuda { ordinal } => device::Wanted::Cuda { ordinal },
    };
    let (device, fallback) = Device::open(wanted, config.threads).map_err(ServeError::Device)?;
    match fallback {
        Some(Fallback::Unusable { reason }) => {
            tracing::warn!(%device, %reason, "a GPU is there and cannot be used: the CPU computes");
        }
        // Nobody expects a GPU of such a build.
        Some(Fallback::NoGpu { reason: reason @ GpuError::NotBuilt }) => {
            tracing::debug!(%device, %reason, "no GPU: the CPU computes");
        }
        Some(Fallback::NoGpu { reason }) => {
            tracing::warn!(%device, %reason, "this build is for GPUs and finds none: the CPU computes");
        }
        None => {}
    }
    Ok(device)
}

/// Loads planned models, one after the other.
pub fn load(plans: Vec<Plan>, catalog: &Catalog, registry: &prometheus::Registry) -> Result<Vec<Engine>, ServeError> {
    plans.into_iter().map(|plan| load_one(plan, catalog, registry)).collect()
}

fn load_one(plan: Plan, catalog: &Catalog, registry: &prometheus::Registry) -> Result<Engine, ServeError> {
    let name = plan.name().to_owned();
    let mut display = Display::new(&name, plan.memory().weights_bytes);
    let started = Instant::now();
    let loaded = engine::load(plan, catalog, registry, &mut |progress| display.show(progress));
    display.clear();
    let engine = loaded.map_err(|source| ServeError::Load { name: name.clone(), source: Box::new(source) })?;
    tracing::info!(model = name, load_ms = started.elapsed().as_millis() as u64, "model loaded");
    Ok(engine)
}

/// How far a load is: a bar, or a line now and then.
struct Display {
    name: String,
    total_bytes: u64,
    last: Instant,
    is_terminal: bool,
    bar: Option<ProgressBar>,
}

impl Display {
    fn new(name: &str, total_bytes: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { name: name.to_owned(), total_bytes, last: Instant::now(), is_terminal, bar: None }
    }

    fn show(&mut self, progress: Progress) {
        let Progress { done_bytes, total_bytes } = progress;
        if let Some(bar) = &self.bar {
            bar.set_position(done_bytes);
        } else if self.is_terminal && self.last.elapsed() >= BAR_DELAY {
            self.bar = Some(self.start_bar());
        } else if !self.is_terminal && self.last.elapsed() >= REPORT_INTERVAL {
            self.last = Instant::now();
            tracing::info!(model = self.name, done_bytes, total_bytes, "loading");
        }
    }

    fn start_bar(&self) -> ProgressBar {
        const TEMPLATE: &str = "loading {msg}  {bar:32}  {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left";
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant that parses");
        ProgressBar::new(self.total_bytes).with_style(style).with_message(self.name.clone())
    }

    fn clear(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn quantise(quantise: config::Quantise) -> Quantise {
    match quantise {
        config::Quantise::None => Quantise::None,
        config::Quantise::Q8_0 => Quantise::Q8_0,
        config::Quantise::Fp8 => Quantise::Fp8,
        config::Quantise::Int4 => Quantise::Int4,
    }
}

/// Memory for keys and values on the CPU where nobody set it.
const KV_BYTES: u64 = 512 << 20;

fn kv_memory(set: Option<config::Bytes>, place: &Place<'_>) -> KvMemory {
    match (set, place.device) {
        (Some(bytes), _) => KvMemory::AtMost(bytes.0),
        (None, Device::Cpu(_)) => KvMemory::AtMost(KV_BYTES),
        (None, Device::Gpu(_)) => KvMemory::RestOfDevice { models: place.models },
    }
}

/// Sizes of steps where nobody set them: a GPU needs more rows to be busy.
struct StepSizes {
    step_tokens: usize,
    chunk_tokens: usize,
    running: usize,
}

const ON_CPU: StepSizes = StepSizes { step_tokens: 512, chunk_tokens: 256, running: 64 };
const ON_GPU: StepSizes = StepSizes { step_tokens: 2048, chunk_tokens: 1024, running: 128 };

/// What is not set follows what is: a step has room for every running sequence and for a whole chunk.
fn step_sizes(engine: &config::Engine, usual: &StepSizes) -> StepSizes {
    let limit = engine.step_tokens_max.map_or(usize::MAX, usize::from);
    let chunk_tokens = engine.prefill_chunk_max.map_or(usual.chunk_tokens.min(limit), usize::from);
    let running = engine.running_max.map_or(usual.running.min(limit), usize::from);
    let step_tokens = engine.step_tokens_max.map_or(usual.step_tokens.max(chunk_tokens).max(running), usize::from);
    StepSizes { step_tokens, chunk_tokens, running }
}

fn settings(engine: &config::Engine, device: &Device) -> EngineSettings {
    let sizes = step_sizes(engine, if device.is_gpu() { &ON_GPU } else { &ON_CPU });
    EngineSettings {
        step_tokens_max: sizes.step_tokens,
        prefill_chunk_max: sizes.chunk_tokens,
        running_max: sizes.running,
        waiting_max: engine.waiting_max.get(),
        is_batch_invariant: engine.is_batch_invariant,
        speculates: engine.speculates,
        chat_share: engine.chat_share as f32,
        promote_after: engine.promote_after,
        completion_deadline: engine.completion_deadline,
        chat_deadline: engine.chat_deadline,
    }
}
