//! `sconce bench engine`: how fast a model computes on this machine, with a line of progress on a terminal, and an end
//! at Ctrl-C that waits for no more than the step at work.

use super::args::{EngineArgs, split_model};
use super::bench_serve::{self, ServeBenchArgs};
use super::error::CliError;
use super::{output, quiet_config};
use crate::bench::{self, BATCH_MAX, BenchError, Model, Report, SHAPES, Settings, Shape, Stage, Watch};
use crate::config::{Config, DeviceChoice, EMBEDDED_NAME, Flag, Quantise};
use crate::device::{Device, Wanted};
use crate::engine::{Source, human};
use crate::nn;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kernels::gpu::Reductions;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

pub const HELP: &str = "\
Examples:
  sconce bench engine                                       the built-in model
  sconce bench engine --model qwen2.5-coder-7b-q4_k_m.gguf
  sconce bench engine --random qwen2.5-coder-7b --quantize q8_0 --batch 1,16 --context 2048
  sconce bench engine --random llama-3.1-8b --json > result.json

Speed depends on a model's shape and not on what it has learnt, so --random needs no
download. Every figure stands beside what this machine could do at best: bandwidth and
arithmetic are measured in the same run. Take a machine that does nothing else.

Ctrl-C ends it after the step at work, with exit code 130.";

/// How long Ctrl-C waits for the step at work.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Prompt tokens in one step where nobody says: what a server takes.
const CHUNK_TOKENS: usize = 256;
const CHUNK_TOKENS_ON_GPU: usize = 1024;

#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Measure a model on this machine, without HTTP
    #[command(after_help = HELP)]
    Engine(EngineBenchArgs),
    /// Measure one or two servers from outside, as their clients
    #[command(after_help = bench_serve::HELP)]
    Serve(ServeBenchArgs),
}

#[derive(Debug, Args)]
pub struct EngineBenchArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Sequences that decode together, one measurement each
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1,4,8", value_parser = count(BATCH_MAX))]
    pub batch: Vec<u64>,
    /// Tokens that each sequence has behind it when decoding begins
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count(TOKENS_MAX))]
    pub context: u64,
    /// Prompt tokens of the prefill
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = count(TOKENS_MAX))]
    pub prefill: u64,
    /// Prompt tokens in one step [default: 256, on a GPU 1024]
    #[arg(long, value_name = "TOKENS", value_parser = count(CHUNK_MAX))]
    pub chunk: Option<u64>,
    /// Decode steps in one run
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count(REPEATS_MAX))]
    pub steps: u64,
    /// Runs of which the median is taken; one more goes before them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count(REPEATS_MAX))]
    pub repeat: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Compute threads
    #[arg(long, value_name = "N")]
    pub threads: Option<String>,
    /// What computes: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Quantise weights while loading: q8_0 on the CPU, fp8 or int4 on a GPU
    #[arg(long, alias = "quantise", value_name = "TYPE", value_parser = ["q8_0", "fp8", "int4", "none"])]
    pub quantize: Option<String>,
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Which model; the built-in one where nothing is said.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ModelArgs {
    /// A GGUF file or a Hugging Face folder
    #[arg(long, value_name = "PATH")]
    pub model: Option<String>,
    /// The built-in model
    #[arg(long)]
    pub embedded: bool,
    /// Random weights in the shape of a model that people run
    #[arg(long, value_name = "SHAPE", value_parser = PossibleValuesParser::new(SHAPES.iter().map(|shape| shape.name)))]
    pub random: Option<String>,
}

const TOKENS_MAX: usize = 1 << 20;
const CHUNK_MAX: usize = 1 << 16;
const REPEATS_MAX: usize = 10_000;

fn count(max: usize) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=max as u64)
}

pub fn run(verb: &BenchVerb) -> Result<(), CliError> {
    let args = match verb {
        BenchVerb::Engine(args) => args,
        BenchVerb::Serve(args) => return bench_serve::run(args),
    };
    let report = engine(args)?;
    let text = match args.json {
        true => format!("{:#}\n", bench::report_json(&report)),
        false => bench::report_text(&report),
    };
    Ok(output::print(&text)?)
}

fn engine(args: &EngineBenchArgs) -> Result<Report, CliError> {
    let engine = EngineArgs { config: args.config.clone(), ..EngineArgs::default() };
    let config = quiet_config(&engine, &args.flags())?;
    let (device, _) = Device::open(wanted(config.engine.device), config.engine.threads).map_err(BenchError::Gpu)?;
    let settings = args.settings(device.is_gpu());
    let model = args.model.open(settings.seed)?.quantised(quantise(&config));
    let reductions = if config.engine.is_batch_invariant { Reductions::Invariant } else { Reductions::Fastest };
    let stop = Arc::new(AtomicBool::new(false));
    let line = Line::new(&settings);
    let shown = line.clone();
    interruptible(&stop.clone(), move || {
        let mut platform = bench::platform(device, reductions)?;
        let mut watch = Watch { stop: &stop, show: &mut |stage| shown.show(stage) };
        bench::run(&model, &settings, &mut *platform, &mut watch)
    })
    .inspect(|_| line.clear())
    .inspect_err(|_| line.clear())
}

/// Runs `work` on a thread of its own. Ctrl-C raises `stop` and waits a little; a second one does not wait.
fn interruptible<T: Send + 'static>(
    stop: &AtomicBool,
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let (done, mut answer) = oneshot::channel();
    let thread = std::thread::Builder::new().name("bench".to_owned());
    // Nobody is left to be told when the receiver has gone.
    let thread = thread.spawn(move || drop(done.send(work()))).map_err(CliError::Runtime)?;
    let answer = runtime.block_on(async {
        tokio::select! {
            answer = &mut answer => Some(answer),
            _ = tokio::signal::ctrl_c() => {
                stop.store(true, Ordering::Relaxed);
                tokio::select! {
                    _ = &mut answer => {}
                    _ = tokio::time::sleep(LEAVE_MAX) => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                None
            }
        }
    });
    match answer {
        Some(Ok(result)) => Ok(result?),
        // Only a panic ends the thread without an answer: it goes on here.
        Some(Err(_)) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the thread answers before it ends"),
        },
        None => Err(BenchError::Interrupted.into()),
    }
}

impl EngineBenchArgs {
    fn flags(&self) -> Vec<Flag> {
        super::args::set_flags([
            ("--threads", "engine.threads", &self.threads),
            ("--device", "engine.device", &self.device),
            ("--quantize", "engine.quantise", &self.quantize),
        ])
    }

    fn settings(&self, is_gpu: bool) -> Settings {
        let count = |given: u64| usize::try_from(given).expect("the limits above fit");
        let chunk = if is_gpu { CHUNK_TOKENS_ON_GPU } else { CHUNK_TOKENS };
        Settings {
            batches: self.batch.iter().copied().map(count).collect(),
            context_tokens: count(self.context),
            prefill_tokens: count(self.prefill),
            chunk_tokens: self.chunk.map_or(chunk, count),
            decode_steps: count(self.steps),
            repeats: count(self.repeat),
            ..Settings::default()
        }
    }
}

impl ModelArgs {
    fn open(&self, seed: u64) -> Result<Model, BenchError> {
        if let Some(name) = &self.random {
            return Model::random(Shape::named(name).expect("clap knows the shapes"), seed);
        }
        match &self.model {
            Some(path) => {
                let (name, path) = split_model(path);
                Model::stored(name, &Source::Path(PathBuf::from(path)))
            }
            None => Model::stored(EMBEDDED_NAME.to_owned(), &Source::Embedded),
        }
    }
}

fn wanted(device: DeviceChoice) -> Wanted {
    match device {
        DeviceChoice::Auto => Wanted::Auto,
        DeviceChoice::Cpu => Wanted::Cpu,
        DeviceChoice::Cuda { ordinal } => Wanted::Cuda { ordinal },
    }
}

fn quantise(config: &Config) -> nn::Quantise {
    match config.engine.quantise {
        Quantise::None => nn::Quantise::None,
        Quantise::Q8_0 => nn::Quantise::Q8_0,
        Quantise::Fp8 => nn::Quantise::Fp8,
        Quantise::Int4 => nn::Quantise::Int4,
    }
}

/// One line on a terminal that says what is being measured. It is drawn between measurements only.
#[derive(Clone)]
struct Line {
    bar: ProgressBar,
    repeats: usize,
}

impl Line {
    fn new(settings: &Settings) -> Self {
        let repeats = settings.repeats;
        let runs = (1 + settings.batches.len()) * (1 + repeats);
        let style = ProgressStyle::with_template("{bar:24}  {msg}").expect("the template is a constant that parses");
        // Drawn on a terminal, and nowhere else.
        let bar = ProgressBar::with_draw_target(Some(runs as u64), ProgressDrawTarget::stderr());
        Self { bar: bar.with_style(style), repeats }
    }

    fn show(&self, stage: Stage) {
        let run =
            |run: usize| if run == 0 { "warming up".to_owned() } else { format!("run {run} of {}", self.repeats) };
        let (text, is_run) = match stage {
            Stage::Device => ("measuring the machine".to_owned(), false),
            Stage::Loading { done_bytes, total_bytes } => {
                (format!("loading {} of {}", human(done_bytes), human(total_bytes)), false)
            }
            Stage::Prefill { run: number } => (format!("prefill, {}", run(number)), true),
            Stage::Context => ("filling the context".to_owned(), false),
            Stage::Decode { batch, run: number } => (format!("decode, batch {batch}, {}", run(number)), true),
        };
        if is_run {
            self.bar.inc(1);
        }
        self.bar.set_message(text);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
