//! `sconce export`: the models served here, as the values of a Helm chart that serves them from a cluster. Reads headers,
//! not weights; sends nothing. Fields are those of the chart `vllm-stack` of vLLM's production stack (`helm/values.yaml`).

use super::args::{EngineArgs, model_flag, split_model};
use super::error::CliError;
use super::{output, quiet_config};
use crate::config::{Config, Flag, Model};
use crate::serve;
use clap::{Args, ValueEnum};
use std::fmt::Write as _;
use std::num::NonZeroUsize;

/// What the cluster's router takes for the name of a session; `affinity` of a provider sends it.
const SESSION_HEADER: &str = "x-session-id";
/// Of the cluster's nodes, for what is no weight: the server's process and its caches.
const MEMORY_BESIDE_WEIGHTS: u64 = 8 << 30;

pub const HELP: &str = "\
Examples:
  sconce export --target vllm-stack --config /etc/sconce.toml > values.yaml
  sconce export --target vllm-stack --model coder=Qwen2.5-Coder-7B --source coder=Qwen/Qwen2.5-Coder-7B
  helm install vllm vllm/vllm-stack -f values.yaml

The values end with the lines that make the cluster a provider of this server.
docs/scale-out.md says when that is worth it.";

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub engine: EngineArgs,
    /// What to write values for
    #[arg(long, value_enum)]
    target: Target,
    /// A model of yours, as for serve: NAME=PATH
    #[arg(long = "model", value_name = "NAME=PATH")]
    models: Vec<String>,
    /// Where the cluster finds a model: NAME=SOURCE, a Hugging Face name or a path there; the path here otherwise
    #[arg(long = "source", value_name = "NAME=SOURCE")]
    sources: Vec<String>,
    /// Servers per model
    #[arg(long, default_value = "2")]
    replicas: NonZeroUsize,
    /// GPUs per server
    #[arg(long, default_value = "1")]
    gpus: NonZeroUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The Helm chart of vLLM's production stack
    VllmStack,
}

/// A model as the chart wants to hear of it.
#[derive(Debug)]
struct Spec {
    name: String,
    source: String,
    context_tokens: usize,
    memory_gib: u64,
}

pub fn run(args: &ExportArgs) -> Result<(), CliError> {
    let flags: Vec<Flag> = args.models.iter().map(|model| model_flag(model)).collect();
    let config = quiet_config(&args.engine, &flags)?;
    let Target::VllmStack = args.target;
    for (name, _) in args.sources.iter().map(|source| split_model(source)) {
        if !config.models.iter().any(|model| model.name == name) {
            let names = config.models.iter().map(|model| model.name.clone()).collect();
            return Err(CliError::NoSuchModel { asked: name, names });
        }
    }
    let specs = config.models.iter().map(|model| spec(model, &config, args)).collect::<Result<Vec<_>, _>>()?;
    if specs.is_empty() {
        return Err(CliError::ExportNothing);
    }
    Ok(output::print(&values(&specs, args))?)
}

fn spec(model: &Model, config: &Config, args: &ExportArgs) -> Result<Spec, CliError> {
    let mut sources = args.sources.iter().map(|source| split_model(source));
    let source = sources.find(|(name, _)| *name == model.name).map(|(_, source)| source.to_owned());
    if source.is_none() && !model.path.is_dir() {
        return Err(CliError::ExportFormat { name: model.name.clone(), path: model.path.clone() });
    }
    let device = serve::device(&config.engine)?;
    let wanted = serve::wanted(config, &device).into_iter().find(|wanted| wanted.options.name == model.name);
    let plan = serve::plan(wanted.expect("every model of the configuration is wanted"), &device)?;
    Ok(Spec {
        name: model.name.clone(),
        source: source.unwrap_or_else(|| model.path.display().to_string()),
        context_tokens: plan.model_context_tokens(),
        memory_gib: (plan.memory().weights_bytes + MEMORY_BESIDE_WEIGHTS).div_ceil(1 << 30),
    })
}

/// YAML by hand: lists of a few fields, every text quoted as JSON quotes it, which YAML reads.
fn values(specs: &[Spec], args: &ExportArgs) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("text is JSON");
    let mut text = String::from("# Values for the Helm chart vllm-stack, written by `sconce export`.\n");
    text += "servingEngineSpec:\n  modelSpec:\n";
    for Spec { name, source, context_tokens, memory_gib } in specs {
        let (replicas, gpus) = (args.replicas, args.gpus);
        let arguments = ["--served-model-name", name].map(quoted).join(", ");
        let lines = [
            format!("  - name: {}", quoted(&label(name))),
            "    repository: \"vllm/vllm-openai\"".to_owned(),
            "    tag: \"latest\"    # better: the version that you have tested".to_owned(),
            format!("    modelURL: {}", quoted(source)),
            format!("    replicaCount: {replicas}"),
            "    requestCPU: 4".to_owned(),
            format!("    requestMemory: \"{memory_gib}Gi\""),
            format!("    requestGPU: {gpus}"),
            "    vllmConfig:".to_owned(),
            "      enablePrefixCaching: true".to_owned(),
            "      enableChunkedPrefill: true".to_owned(),
            format!("      maxModelLen: {context_tokens}"),
            format!("      tensorParallelSize: {gpus}"),
            format!("      extraArgs: [{arguments}]"),
        ];
        text += &lines.join("\n");
        text.push('\n');
    }
    text += "# Calls of one session go to one server, which has their prefix in its cache.\n";
    let _ = write!(text, "routerSpec:\n  routingLogic: \"session\"\n  sessionKey: \"{SESSION_HEADER}\"\n");
    text += "\n# For the configuration of sconce:\n#\n# [providers.cluster]\n# kind = \"vllm\"\n";
    let _ = write!(text, "# url = \"http://vllm-router-service/v1\"\n# affinity = true\n");
    for Spec { name, .. } in specs {
        let _ = write!(text, "#\n# [models.\"{name}-anywhere\"]\n# lanes = [\"local:{name}\", \"cluster:{name}\"]\n");
        text += "# remote = \"on_failure\"\n";
    }
    text
}

/// Names of Kubernetes: small letters, digits and dashes (RFC 1123).
fn label(name: &str) -> String {
    let label = name.to_ascii_lowercase().replace(|char: char| !char.is_ascii_alphanumeric(), "-");
    label.trim_matches('-').chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ExportArgs,
    }

    #[test]
    fn the_chart_gets_what_the_models_need() {
        let Line { args } = Line::parse_from(["export", "--target", "vllm-stack", "--replicas", "3"]);
        let spec = Spec {
            name: "Qwen/Coder.7B".to_owned(),
            source: "Qwen/Qwen2.5-Coder-7B".to_owned(),
            context_tokens: 32_768,
            memory_gib: 23,
        };
        let text = values(&[spec], &args);
        for line in [
            "  - name: \"qwen-coder-7b\"",
            "    modelURL: \"Qwen/Qwen2.5-Coder-7B\"",
            "    replicaCount: 3",
            "    requestMemory: \"23Gi\"",
            "      maxModelLen: 32768",
            "      extraArgs: [\"--served-model-name\", \"Qwen/Coder.7B\"]",
            "  sessionKey: \"x-session-id\"",
            "# affinity = true",
            "# lanes = [\"local:Qwen/Coder.7B\", \"cluster:Qwen/Coder.7B\"]",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is missing from:\n{text}");
        }
    }
}
