//! Models, from the configuration to running engines: planned all together, so that what does not fit is refused
//! before anything is allocated; then loaded one by one, with a bar on a terminal and log lines elsewhere.

use super::error::ServeError;
use crate::catalog::Catalog;
use crate::config::{self, Config};
use crate::engine::{self, Engine, EngineSettings, LoadOptions, Plan, Progress, Source};
use crate::nn::Quantise;
use indicatif::{ProgressBar, ProgressStyle};
use kernels::Pool;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the model inside the binary is called.
pub const EMBEDDED_NAME: &str = "sconce";

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
pub fn wanted(config: &Config) -> Vec<Wanted> {
    let embedded = config.catalog.is_embedded_served.then(|| embedded(config));
    let configured = config.models.iter().map(|model| Wanted {
        source: Source::Path(model.path.clone()),
        options: LoadOptions {
            name: model.name.clone(),
            quantise: quantise(model.quantise),
            context_tokens: model.context_tokens.map(usize::from),
            kv_bytes: kv_bytes(model.kv_memory),
            card: model.card.clone(),
            settings: settings(&config.engine),
        },
    });
    embedded.into_iter().chain(configured).collect()
}

fn embedded(config: &Config) -> Wanted {
    Wanted {
        source: Source::Embedded,
        options: LoadOptions {
            name: EMBEDDED_NAME.to_owned(),
            quantise: quantise(config.engine.quantise),
            context_tokens: None,
            kv_bytes: kv_bytes(config.engine.kv_memory),
            card: None,
            settings: settings(&config.engine),
        },
    }
}

/// Opens one model and counts what it will take.
pub fn plan(wanted: Wanted) -> Result<Plan, ServeError> {
    let name = wanted.options.name.clone();
    engine::plan(&wanted.source, wanted.options).map_err(|source| ServeError::Load { name, source: Box::new(source) })
}

/// Loads planned models. They take turns on one pool of threads.
pub fn load(
    plans: Vec<Plan>,
    catalog: &Catalog,
    config: &config::Engine,
    registry: &prometheus::Registry,
) -> Result<Vec<Engine>, ServeError> {
    let pool = Arc::new(Pool::new(config.threads));
    plans.into_iter().map(|plan| load_one(plan, catalog, &pool, registry)).collect()
}

fn load_one(
    plan: Plan,
    catalog: &Catalog,
    pool: &Arc<Pool>,
    registry: &prometheus::Registry,
) -> Result<Engine, ServeError> {
    let name = plan.name().to_owned();
    let mut display = Display::new(&name, plan.memory().weights_bytes);
    let started = Instant::now();
    let loaded = engine::load(plan, catalog, Arc::clone(pool), registry, &mut |progress| display.show(progress));
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

/// Memory for keys and values where nobody set it.
const KV_BYTES: u64 = 512 << 20;

fn kv_bytes(set: Option<config::Bytes>) -> u64 {
    set.map_or(KV_BYTES, |bytes| bytes.0)
}

fn settings(engine: &config::Engine) -> EngineSettings {
    EngineSettings {
        step_tokens_max: engine.step_tokens_max.get(),
        prefill_chunk_max: engine.prefill_chunk_max.get(),
        running_max: engine.running_max.get(),
        waiting_max: engine.waiting_max.get(),
        chat_share: engine.chat_share as f32,
        promote_after: engine.promote_after,
        completion_deadline: engine.completion_deadline,
        chat_deadline: engine.chat_deadline,
    }
}
