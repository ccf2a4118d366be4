//! From a path to a running engine: open, understand, plan the memory, refuse or allocate, start.

use super::blueprint::Blueprint;
use super::memory::{MemoryError, MemoryKind, MemoryPlan, human};
use super::rendering::{Naming, renderer};
use super::{DefaultDeadlines, Engine, EngineMetrics, Parts, Restart, Runner};
use crate::arch::{self, SpecError};
use crate::catalog::Catalog;
use crate::checkpoint::{Checkpoint, CheckpointError, Limits};
use crate::device::Device;
use crate::domain::ModelInfo;
use crate::nn::{self, Quantise};
use crate::scheduler::{ConfigError, Scheduler, SchedulerConfig};
use crate::tokenizer::{Renderer, TokenizerError};
use kernels::gpu::GpuError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Positions in a block of the key-value cache. Small, because each request wastes half a block on average.
pub const BLOCK_TOKENS: usize = 16;

/// Of what is free on a device, left to models; the rest is for the driver, other programs and fragments.
const DEVICE_SHARE_PERCENT: u64 = 92;

static EMBEDDED_MODEL: &[u8] = include_bytes!("../../models/embedded/model.gguf");

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The one inside the binary.
    Embedded,
    /// A GGUF file or a Hugging Face folder.
    Path(PathBuf),
}

/// How to load one model.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The name clients ask for.
    pub name: String,
    pub quantise: Quantise,
    /// Cuts the model's own context; `None` keeps it.
    pub context_tokens: Option<usize>,
    pub kv_memory: KvMemory,
    /// The name of the card to use instead of the one found by the model's special tokens.
    pub card: Option<String>,
    pub settings: EngineSettings,
}

/// How much the key-value cache may take. Less is taken where `running_max` full contexts need less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvMemory {
    AtMost(u64),
    /// What weights and workspace leave of an equal share of the device, when so many models share it.
    RestOfDevice {
        models: usize,
    },
}

/// Limits and policy of one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSettings {
    /// Tokens computed in one step at most.
    pub step_tokens_max: usize,
    /// Tokens of one prompt computed in one step at most.
    pub prefill_chunk_max: usize,
    pub running_max: usize,
    pub waiting_max: usize,
    /// Whether a GPU sums in one order for every batch. The CPU always does.
    pub is_batch_invariant: bool,
    /// Whether guesses at the next tokens are verified where the device can and where it pays.
    pub speculates: bool,
    /// Share of a step that chat gets while completions could fill it.
    pub chat_share: f32,
    /// Chat that has waited longer competes as a completion.
    pub promote_after: Duration,
    pub completion_deadline: Duration,
    pub chat_deadline: Duration,
}

/// A model that was opened and understood, and what it will take; nothing large is allocated yet.
pub struct Plan {
    options: LoadOptions,
    blueprint: Blueprint,
    architecture: String,
    parameters: u64,
    memory: MemoryPlan,
}

/// The ways in which a model can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    pub infill: bool,
    pub chat: bool,
}

/// How far loading has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("{}: {source}", path.display())]
    Spec { path: PathBuf, source: Box<SpecError> },
    #[error(transparent)]
    Weights(#[from] nn::LoadError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("{} has no tokenizer.json: without it text cannot become tokens", path.display())]
    NoTokenizer { path: PathBuf },
    #[error("there is no card named {name:?}; the cards are {known}")]
    UnknownCard { name: String, known: String },
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(
        "the context may be at most {model_tokens} tokens, which is what the model was made for; {asked_tokens} were asked for"
    )]
    ContextTooLong { asked_tokens: usize, model_tokens: usize },
    #[error(transparent)]
    Schedule(#[from] ConfigError),
    #[error("no key-value cache: {0}")]
    Cache(#[from] kernels::KvCacheError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(
        "{} does not fit on the GPU: {source}. Lower --kv-memory, load with --quantize fp8 or int4, choose a smaller \
         model, or stop what else uses the GPU (nvidia-smi shows it)",
        human(*needed_bytes)
    )]
    GpuMemory { needed_bytes: u64, source: GpuError },
    #[error("no metrics for a model of this name: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("no thread for the engine: {0}")]
    Thread(std::io::Error),
}

/// Opens a model: reads its headers, and nothing large.
pub fn open(source: &Source) -> Result<Checkpoint, CheckpointError> {
    let limits = Limits::default();
    match source {
        Source::Embedded => Checkpoint::from_gguf_bytes("embedded model", EMBEDDED_MODEL, &limits),
        Source::Path(path) => Checkpoint::open(path, &limits),
    }
}

/// Opens a model and says what loading it on `device` will take.
pub fn plan(source: &Source, options: LoadOptions, device: &Device) -> Result<Plan, LoadError> {
    let checkpoint = open(source)?;
    let arch::Recognised { architecture, spec } = arch::recognise(&checkpoint)
        .map_err(|source| LoadError::Spec { path: checkpoint.path().to_owned(), source: Box::new(source) })?;
    let context_tokens = match options.context_tokens {
        Some(asked_tokens) if asked_tokens > spec.context_tokens => {
            return Err(LoadError::ContextTooLong { asked_tokens, model_tokens: spec.context_tokens });
        }
        asked => asked.unwrap_or(spec.context_tokens),
    };
    let mut blueprint = Blueprint {
        device: device.clone(),
        checkpoint: Arc::new(checkpoint),
        spec,
        quantise: options.quantise,
        step_tokens_max: options.settings.step_tokens_max,
        running_max: options.settings.running_max,
        context_tokens,
        num_blocks: 0,
        is_batch_invariant: options.settings.is_batch_invariant,
        speculates: options.settings.speculates,
    };
    let needs = blueprint.needs()?;
    let workspace_bytes = blueprint.workspace_bytes()?;
    let available_bytes = device.available_memory();
    let kv_bytes = match options.kv_memory {
        KvMemory::AtMost(bytes) => bytes,
        KvMemory::RestOfDevice { models } => {
            let share = available_bytes.unwrap_or(0) / 100 * DEVICE_SHARE_PERCENT / models.max(1) as u64;
            share.saturating_sub(needs.weights_bytes).saturating_sub(workspace_bytes)
        }
    };
    blueprint.num_blocks = num_blocks(kv_bytes, &options, context_tokens, needs.kv_bytes_per_token)?;
    let kv_tokens = blueprint.num_blocks * BLOCK_TOKENS;
    let memory = MemoryPlan {
        kind: if device.is_gpu() { MemoryKind::Gpu } else { MemoryKind::Host },
        weights_bytes: needs.weights_bytes,
        kv_bytes: kv_tokens as u64 * needs.kv_bytes_per_token,
        kv_tokens,
        workspace_bytes,
        available_bytes,
    };
    blueprint.context_tokens = context_tokens.min(kv_tokens);
    Ok(Plan { options, blueprint, architecture, parameters: needs.parameters, memory })
}

/// As many blocks as the setting allows, but no more than every place filled with a whole context would use.
fn num_blocks(
    kv_bytes: u64,
    options: &LoadOptions,
    context_tokens: usize,
    bytes_per_token: u64,
) -> Result<usize, MemoryError> {
    let block_bytes = bytes_per_token.saturating_mul(BLOCK_TOKENS as u64).max(1);
    let allowed = usize::try_from(kv_bytes / block_bytes).unwrap_or(usize::MAX);
    if allowed == 0 {
        let tokens = usize::try_from(kv_bytes / bytes_per_token.max(1)).unwrap_or(usize::MAX);
        let block_tokens = BLOCK_TOKENS;
        return Err(MemoryError::CacheTooSmall { kv_bytes, tokens, block_tokens, block_bytes });
    }
    let useful = context_tokens.div_ceil(BLOCK_TOKENS).saturating_add(1).saturating_mul(options.settings.running_max);
    Ok(allowed.min(useful))
}

impl Plan {
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    pub fn name(&self) -> &str {
        &self.options.name
    }

    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// What prompt and output may have together: the model's context, or less where the cache holds less.
    pub fn context_tokens(&self) -> usize {
        self.blueprint.context_tokens
    }

    /// What clients may ask of it, from its tokenizer, card and chat template.
    pub fn abilities(&self, catalog: &Catalog) -> Result<Abilities, LoadError> {
        let renderer = self.renderer(catalog)?;
        Ok(Abilities { infill: renderer.has_infill(), chat: renderer.has_chat() })
    }

    fn renderer(&self, catalog: &Catalog) -> Result<Renderer, LoadError> {
        let card = self.options.card.as_deref();
        let naming = Naming { name: &self.options.name, architecture: &self.architecture, card };
        renderer(&self.blueprint.checkpoint, catalog, &naming, self.blueprint.spec.vocab)
    }

    /// What the model itself was made for.
    pub fn model_context_tokens(&self) -> usize {
        self.blueprint.spec.context_tokens
    }
}

/// Allocates, reads the weights and starts the engine. `progress` is called as bytes are read.
pub fn load(
    plan: Plan,
    catalog: &Catalog,
    registry: &prometheus::Registry,
    progress: &mut dyn FnMut(Progress),
) -> Result<Engine, LoadError> {
    plan.memory.check()?;
    // Before the weights: what is wrong with a tokenizer should not be found out after a minute of reading.
    let renderer = plan.renderer(catalog)?;
    let total_bytes = plan.memory.weights_bytes;
    let runner = plan.blueprint.runner(&mut |done_bytes| progress(Progress { done_bytes, total_bytes }))?;
    let restart = plan.blueprint.restart();
    assemble(plan, renderer, Computing { runner, restart }, registry)
}

/// Starts an engine over a runner that was made for the plan by somebody else.
pub fn start(
    plan: Plan,
    catalog: &Catalog,
    registry: &prometheus::Registry,
    runner: Box<dyn Runner>,
    restart: Restart,
) -> Result<Engine, LoadError> {
    let renderer = plan.renderer(catalog)?;
    assemble(plan, renderer, Computing { runner, restart }, registry)
}

/// What computes, and what becomes of the engine when it fails.
struct Computing {
    runner: Box<dyn Runner>,
    restart: Restart,
}

fn assemble(
    plan: Plan,
    renderer: Renderer,
    computing: Computing,
    registry: &prometheus::Registry,
) -> Result<Engine, LoadError> {
    let Plan { options, blueprint, architecture, parameters, memory } = plan;
    let Blueprint { spec, context_tokens, num_blocks, .. } = blueprint;
    let Computing { runner, restart } = computing;
    let EngineSettings { step_tokens_max, prefill_chunk_max, running_max, waiting_max, .. } = options.settings;
    let scheduler = Scheduler::new(SchedulerConfig {
        block_tokens: BLOCK_TOKENS,
        num_blocks,
        step_tokens_max,
        running_max,
        waiting_max,
        context_tokens,
        depth: runner.depth(),
        chat_share: options.settings.chat_share,
        promote_after_us: options.settings.promote_after.as_micros() as u64,
        prefill_chunk_max,
    })?;
    let info = ModelInfo {
        name: options.name.clone(),
        architecture,
        context_tokens,
        vocab_size: spec.vocab,
        parameters,
        has_infill: renderer.has_infill(),
        has_chat: renderer.has_chat(),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    let metrics = EngineMetrics::register(registry, &options.name)?;
    let deadlines =
        DefaultDeadlines { completion: options.settings.completion_deadline, chat: options.settings.chat_deadline };
    let block_tokens = BLOCK_TOKENS;
    let step_drafts_max = if options.settings.speculates { runner.step_drafts_max() } else { 0 };
    let parts =
        Parts { info, renderer, scheduler, block_tokens, step_drafts_max, runner, restart, deadlines, metrics, memory };
    Engine::start(parts).map_err(LoadError::Thread)
}
