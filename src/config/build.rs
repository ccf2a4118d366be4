//! Layers to [`Config`]: every key is read here once, with its range, and what only shows in combination is checked.

use super::build_cloud::Clouds;
use super::gitlab_env::Notice;
use super::problem::Problem;
use super::reader::Reader;
use super::{
    Auth, Catalog, Config, EMBEDDED_NAME, Engine, Environment, Limits, Log, LogFormat, Metrics, Model, Quantise,
    RoutedModel, Server,
};
use super::{build_gateway, build_routing};
use crate::domain::LaneName;
use std::num::NonZeroUsize;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
pub const CONTEXT_TOKENS_MAX: u64 = 1 << 20;
const QUANTISE: &[(&str, Quantise)] =
    &[("none", Quantise::None), ("q8_0", Quantise::Q8_0), ("fp8", Quantise::Fp8), ("int4", Quantise::Int4)];
const SPECULATION: &[(&str, bool)] = &[("auto", true), ("off", false)];

/// Reads everything; problems are left in the reader.
pub fn config(reader: &mut Reader<'_>, environment: &Environment, notices: Vec<Notice>) -> Config {
    let server = server(reader);
    let metrics = metrics(reader, &server);
    let auth = Auth { keys: reader.secrets("auth.keys"), keys_file: reader.path("auth.keys_file") };
    let engine = engine(reader);
    let limits = limits(reader);
    let Models { loaded: models, routed: routed_models } = models(reader, &engine);
    let catalog = catalog(reader, &models, &routed_models);
    let log = log(reader, environment);
    let gitlab = build_gateway::gitlab(reader);
    let features = build_gateway::features(reader);
    let state = build_gateway::state(reader);
    let access = build_gateway::access(reader);
    let tls = build_gateway::tls(reader);
    let egress = build_gateway::egress(reader, &gitlab);
    let clouds = Clouds::read(reader);
    let providers = build_routing::providers(reader, &clouds);
    let routes = build_routing::routes(reader);
    build_gateway::check_names(reader, &models, &routed_models, &catalog);
    if !server.listen.ip().to_canonical().is_loopback() {
        let listen = server.listen;
        if !auth.is_configured() && gitlab.url.is_none() {
            let origin = reader.origin("server.listen");
            reader.problem(Problem::ExposedWithoutKeys { origin, listen });
        }
        build_gateway::refuse_bypass(reader, &gitlab.bypass, listen);
    }
    let config = Config {
        server,
        metrics,
        auth,
        engine,
        limits,
        models,
        catalog,
        routed_models,
        providers,
        features,
        routes,
        gitlab,
        state,
        access,
        tls,
        egress,
        log,
        notices,
    };
    build_routing::check(reader, &config);
    config
}

/// What is written below `models`.
struct Models {
    loaded: Vec<Model>,
    routed: Vec<RoutedModel>,
}

fn server(reader: &mut Reader<'_>) -> Server {
    Server {
        listen: reader.address("server.listen"),
        connections_max: count(reader.whole("server.connections_max", 1..=1_000_000)),
        streams_per_connection_max: count_u32(reader.whole("server.streams_per_connection_max", 1..=10_000)),
        header_bytes_max: count(reader.size("server.header_bytes_max", 8 * KIB..=MIB).0),
        header_read_timeout: Duration::from_secs(reader.whole("server.header_read_timeout_s", 1..=3600)),
        body_bytes_max: count(reader.size("server.body_bytes_max", KIB..=1024 * MIB).0),
        body_read_timeout: Duration::from_secs(reader.whole("server.body_read_timeout_s", 1..=3600)),
        write_stall_timeout: Duration::from_secs(reader.whole("server.write_stall_timeout_s", 1..=3600)),
        keep_alive_interval: Duration::from_secs(reader.whole("server.keep_alive_interval_s", 1..=3600)),
        deadline_max: Duration::from_secs(reader.whole("server.deadline_max_s", 1..=86_400)),
        shutdown_grace: Duration::from_secs(reader.whole("server.shutdown_grace_s", 0..=86_400)),
    }
}

fn metrics(reader: &mut Reader<'_>, server: &Server) -> Option<Metrics> {
    let listen = reader.address_or_off("metrics.listen")?;
    if listen == server.listen && listen.port() != 0 {
        reader.problem(Problem::SameAddress { listen });
    }
    Some(Metrics { listen, is_required: reader.origin("metrics.listen") != "default" })
}

fn engine(reader: &mut Reader<'_>) -> Engine {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = reader.whole_or_auto("engine.threads", 1..=1024, &format!("auto ({cores})")).map(count_nonzero);
    let engine = Engine {
        threads: threads.unwrap_or(cores),
        device: reader.device("engine.device"),
        kv_memory: reader.size_or_auto("engine.kv_memory", MIB..=16 * TIB),
        quantise: reader.choice("engine.quantise", QUANTISE),
        context_tokens_max: reader
            .whole_or_auto("engine.context_tokens_max", 16..=CONTEXT_TOKENS_MAX, "auto")
            .map(count_nonzero),
        step_tokens_max: reader.whole_or_auto("engine.step_tokens_max", 1..=65_536, "auto").map(count_nonzero),
        prefill_chunk_max: reader.whole_or_auto("engine.prefill_chunk_max", 1..=65_536, "auto").map(count_nonzero),
        running_max: reader.whole_or_auto("engine.running_max", 1..=4096, "auto").map(count_nonzero),
        waiting_max: count_nonzero(reader.whole("engine.waiting_max", 1..=1_000_000)),
        is_batch_invariant: reader.flag("engine.batch_invariant"),
        speculates: reader.choice("engine.speculation", SPECULATION),
        chat_share: reader.share("engine.chat_share"),
        promote_after: Duration::from_millis(reader.whole("engine.promote_after_ms", 0..=3_600_000)),
        completion_deadline: Duration::from_millis(reader.whole("engine.completion_deadline_ms", 1..=86_400_000)),
        chat_deadline: Duration::from_millis(reader.whole("engine.chat_deadline_ms", 1..=86_400_000)),
    };
    let limited = [("engine.prefill_chunk_max", engine.prefill_chunk_max), ("engine.running_max", engine.running_max)];
    for (smaller_key, smaller) in limited {
        if let (Some(smaller), Some(larger)) = (smaller, engine.step_tokens_max)
            && smaller > larger
        {
            reader.problem(Problem::Exceeds {
                smaller_key,
                smaller: smaller.get() as u64,
                larger_key: "engine.step_tokens_max",
                larger: larger.get() as u64,
            });
        }
    }
    engine
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    let mut limit = |key, max| count(reader.whole(key, 1..=max));
    Limits {
        choices_max: limit("limits.choices_max", 1024),
        max_tokens_max: limit("limits.max_tokens_max", CONTEXT_TOKENS_MAX),
        messages_max: limit("limits.messages_max", 1_000_000),
        stop_strings_max: limit("limits.stop_strings_max", 1024),
        stop_bytes_max: limit("limits.stop_bytes_max", 65_536),
        logit_bias_entries_max: limit("limits.logit_bias_entries_max", 1_000_000),
        top_logprobs_max: limit("limits.top_logprobs_max", 256),
        json_values_max: limit("limits.json_values_max", 100_000_000),
        json_depth_max: limit("limits.json_depth_max", 128),
    }
}

fn models(reader: &mut Reader<'_>, engine: &Engine) -> Models {
    let mut models = Models { loaded: Vec::new(), routed: Vec::new() };
    for name in reader.names_below("models") {
        if !is_model_name(&name) {
            let origin = reader.origin_below("models", &name);
            reader.problem(Problem::ModelName { origin, name });
            continue;
        }
        let key = |last: &str| format!("models.{name}.{last}");
        let path = reader.path(&key("path"));
        let quantise = reader.is_set(&key("quantise")).then(|| reader.choice(&key("quantise"), QUANTISE));
        let context = reader.is_set(&key("context_tokens"));
        let context = context.then(|| reader.whole(&key("context_tokens"), 16..=CONTEXT_TOKENS_MAX)).map(count_nonzero);
        let kv_memory =
            reader.is_set(&key("kv_memory")).then(|| reader.size_or_auto(&key("kv_memory"), MIB..=16 * TIB));
        let card = reader.text(&key("card"));
        let aliases = names(reader, &key("aliases"));
        let path = match (path, reader.is_set(&key("lanes"))) {
            (Some(path), false) => path,
            (None, true) => {
                models.routed.push(build_routing::routed_model(reader, &name, aliases));
                continue;
            }
            (Some(_), true) => {
                reader.problem(Problem::ModelTwice { name });
                continue;
            }
            (None, false) => {
                reader.problem(Problem::ModelWithoutPath { name });
                continue;
            }
        };
        models.loaded.push(Model {
            path,
            quantise: quantise.unwrap_or(engine.quantise),
            context_tokens: context.or(engine.context_tokens_max),
            kv_memory: kv_memory.unwrap_or(engine.kv_memory),
            card,
            aliases,
            name,
        });
    }
    models
}

fn catalog(reader: &mut Reader<'_>, models: &[Model], routed: &[RoutedModel]) -> Catalog {
    let choices = [("auto", None), ("on", Some(true)), ("off", Some(false))];
    let embedded = reader.choice("catalog.embedded", &choices);
    // A lane that leads to the built-in model asks for it.
    let is_local = |lane: &LaneName| !lane.is_remote() && lane.model() == EMBEDDED_NAME;
    let is_routed_to = build_routing::lanes(reader, routed).iter().any(is_local);
    let is_embedded_served = embedded.unwrap_or(reader.names_below("models").is_empty() || is_routed_to);
    if !is_embedded_served && models.is_empty() && reader.names_below("models").is_empty() {
        reader.problem(Problem::NoModel);
    }
    let embedded_aliases = names(reader, "catalog.embedded_aliases");
    Catalog { cards_dir: reader.path("catalog.cards_dir"), is_embedded_served, embedded_aliases }
}

/// Names a model may have.
fn names(reader: &mut Reader<'_>, key: &str) -> Vec<String> {
    let expected =
        "a list of names: letters, digits and any of . _ - / :, at most 128, beginning with a letter or digit";
    reader.list(key, expected, |name| is_model_name(name).then(|| name.to_owned()))
}

fn log(reader: &mut Reader<'_>, environment: &Environment) -> Log {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = reader.choice("log.format", &formats);
    let level = reader.text("log.level").unwrap_or_else(|| "info".to_owned());
    if !is_log_level(&level) {
        reader.problem(Problem::WrongValue {
            origin: reader.origin("log.level"),
            key: "log.level".to_owned(),
            found: format!("{level:?}"),
            expected: "error, warn, info, debug, trace, or directives such as info,sconce::engine=debug".to_owned(),
        });
    }
    Log {
        format,
        level,
        may_colour: environment.get("NO_COLOR").is_none(),
        has_bodies: reader.flag("log.bodies"),
        honours_instance_verbose: reader.flag("log.honour_instance_verbose"),
    }
}

/// Levels, alone or behind a target. The parser of tracing takes a misspelt level for a target and falls silent.
fn is_log_level(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| LEVELS.contains(&text);
    text.split(',').all(|directive| match directive.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(directive),
    })
}

/// Names travel in JSON, in metric labels and in shells.
fn is_model_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|char: char| char.is_ascii_alphanumeric())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "._-/:".contains(char))
}

pub fn count(number: u64) -> usize {
    usize::try_from(number).expect("every range ends below 2^32, or is a size this machine can address")
}

fn count_u32(number: u64) -> u32 {
    u32::try_from(number).expect("the range it was read with ends below 2^32")
}

pub fn count_nonzero(number: u64) -> NonZeroUsize {
    NonZeroUsize::new(count(number)).expect("every range read here begins at 1 or above")
}
