//! The composition root: turns a [`Config`] into engines, routes, keys, listeners, and runs them until a signal.
//!
//! Knows every room. Holds what belongs to the process as a whole: the log, signals, the banner.

mod banner;
mod clouds;
mod error;
mod gitlab;
mod gpu_limits;
mod keys;
mod lanes;
mod listen;
mod loading;
mod logging;
mod providers;
mod readiness;
mod signals;

pub use banner::count;
pub use error::ServeError;
pub use gitlab::{KeysByEgress, docs_index, egress};
pub use lanes::{provider_door, provider_lanes};
pub use loading::{Wanted, device, load, plan, wanted};
pub use logging::start as start_logging;
pub use readiness::keep_ready;

use crate::auth::Auth;
use crate::auth::gitlab::GitlabAuth;
use crate::catalog::Catalog;
use crate::config::{Config, Limits, Server};
use crate::dialect::openai::RequestLimits;
use crate::engine::{self, Engine, Plan};
use crate::http::{
    AppState, CallLimits, Drained, Gate, Health, HttpLimits, Listener, Readiness, TlsListener, app, metrics_app,
    serve_http,
};
use crate::route::policy::RouteMetrics;
use banner::Banner;
use signals::Signals;
use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Serves until SIGTERM or SIGINT. Errors are about the start; once the banner is out only a signal ends it.
pub fn run(config: Config) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .build()
        .map_err(ServeError::Runtime)?;
    let served = runtime.block_on(serve(config));
    // A load that a signal interrupted is not waited for.
    runtime.shutdown_background();
    served
}

async fn serve(config: Config) -> Result<(), ServeError> {
    let mut signals = Signals::listen()?;
    for notice in &config.notices {
        tracing::warn!("{notice}");
    }
    let gate = gate(&config)?;
    // Before the models: a taken port should not be found out after a minute of loading, and whoever asks meanwhile is
    // told that there is nothing yet.
    let listener = listen::api(config.server.listen)?;
    let metrics_listener = listen::metrics(config.metrics.as_ref())?;
    let tls = tls(&config)?;
    let registry = prometheus::Registry::new();
    let health = Health::new(Readiness::Starting { cause: "the models are being loaded".to_owned() });
    let listen = listener.local_addr().map_err(ServeError::Banner)?;
    let metrics = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let num_keys = gate.num_keys;
    let gitlab_auth = gate.http.gitlab.auth.clone();
    let limits = call_limits(&config.server, &config.limits);
    let state = AppState::without_routes(gate.http, health.clone(), limits, &registry)?;
    let http_limits = http_limits(&config.server);
    let (stop, stopped) = oneshot::channel();
    let serving = {
        let stopped = async { drop(stopped.await) };
        let listener = Listener { socket: listener, tls: tls.clone() };
        serve_http(listener, app(state.clone()), health.clone(), http_limits.clone(), stopped)
    };
    let mut serving = pin!(serving);
    let beside = async {
        tokio::join!(
            async { optional(gitlab_auth.map(GitlabAuth::keep_fresh)).await },
            async { optional(tls.clone().map(TlsListener::keep_fresh)).await },
            serve_metrics(metrics_listener, registry.clone(), http_limits),
        );
    };
    let mut beside = pin!(beside);
    let loading = tokio::task::spawn_blocking({
        let (config, registry) = (config.clone(), registry.clone());
        move || load_all(&config, &registry)
    });
    let engines = tokio::select! {
        loaded = loading => loaded.expect("loading does not panic, and is not cancelled")?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped while loading");
            return Ok(());
        }
        _ = serving.as_mut() => return Ok(()),
        () = beside.as_mut() => return Ok(()),
    };
    let catalog = Catalog::load(config.catalog.cards_dir.as_deref())?;
    state.open(lanes::routes(&engines, &config, &catalog, RouteMetrics::register(&registry)?)?);
    health.set(Readiness::Ready);
    let models = engines.iter().map(Engine::info).collect();
    let gitlab = config.gitlab.url.as_deref();
    let remote = lanes::remote(&config);
    print(&Banner { models, listen, is_tls: tls.is_some(), metrics, num_keys, gitlab, remote })?;
    tokio::select! {
        drained = serving => say_goodbye(drained),
        () = wait_for_signals(&mut signals, stop) => tracing::warn!("second signal: ended at once"),
        () = keep_ready(engines.iter().map(Engine::health_feed).collect(), &health) => {}
        () = beside => {}
    }
    let stopped = tokio::task::spawn_blocking(|| engines.into_iter().for_each(Engine::stop)).await;
    stopped.expect("stopping an engine does not panic");
    Ok(())
}

/// Runs what there is to run for ever; without it, waits for ever.
async fn optional(task: Option<impl Future<Output = ()>>) {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Who may call what.
struct Gates {
    http: Gate,
    num_keys: usize,
}

fn gate(config: &Config) -> Result<Gates, ServeError> {
    let keys::Gate { auth, num_keys } = keys::gate(&config.auth)?;
    let gitlab = gitlab::gitlab(config)?;
    // A gateway that other machines reach has no door without a lock: GitLab's tokens do not open this one.
    let auth = match auth {
        Auth::Disabled if gitlab.settings.is_enabled && gitlab.settings.is_authenticated => Auth::Closed,
        auth => auth,
    };
    let allow_list = gitlab::allow_list(&config.access)?;
    Ok(Gates { http: Gate { auth, gitlab, allow_list }, num_keys })
}

fn tls(config: &Config) -> Result<Option<Arc<TlsListener>>, ServeError> {
    let Some(files) = config.tls.listener.clone() else { return Ok(None) };
    let timeout = config.server.header_read_timeout;
    Ok(Some(Arc::new(TlsListener::load(files.cert_file, files.key_file, timeout)?)))
}

fn load_all(config: &Config, registry: &prometheus::Registry) -> Result<Vec<Engine>, ServeError> {
    let catalog = Catalog::load(config.catalog.cards_dir.as_deref())?;
    let device = device(&config.engine)?;
    tracing::info!(%device, "models are computed here");
    if device.is_gpu() {
        gpu_limits::check(&config.limits)?;
    }
    let plans = wanted(config, &device).into_iter().map(|wanted| plan(wanted, &device));
    let plans = plans.collect::<Result<Vec<_>, _>>()?;
    for plan in &plans {
        tracing::info!(model = plan.name(), memory = %plan.memory(), "memory plan");
        warn_of_short_context(plan);
    }
    engine::check_together(&plans.iter().map(Plan::memory).collect::<Vec<_>>())?;
    load(plans, &catalog, registry)
}

/// A cache that holds less than one full context shortens the context: said, because clients will meet the limit.
fn warn_of_short_context(plan: &Plan) {
    let (context_tokens, model_context_tokens) = (plan.context_tokens(), plan.model_context_tokens());
    if plan.memory().kv_tokens < model_context_tokens && context_tokens < model_context_tokens {
        tracing::warn!(
            model = plan.name(),
            context_tokens,
            model_context_tokens,
            "the context is cut to what the key-value cache holds: raise --kv-memory for all of it"
        );
    }
}

/// Resolves at the second signal; the first begins the drain.
async fn wait_for_signals(signals: &mut Signals, stop: oneshot::Sender<()>) {
    let signal = signals.next().await;
    tracing::info!(signal, "shutting down: running answers may finish");
    drop(stop);
    signals.next().await;
}

fn say_goodbye(drained: Drained) {
    match drained.aborted {
        0 => tracing::info!("every answer is finished"),
        aborted => tracing::warn!(aborted, "the grace period is over: connections were cut"),
    }
}

/// Answers scrapes until dropped: through a shutdown as well, which is when they are of interest.
async fn serve_metrics(listener: Option<TcpListener>, registry: prometheus::Registry, limits: HttpLimits) {
    if let Some(listener) = listener {
        let health = Health::new(Readiness::Ready);
        serve_http(listener, metrics_app(registry), health, limits, std::future::pending()).await;
    }
    std::future::pending().await
}

fn print(banner: &Banner<'_>) -> Result<(), ServeError> {
    let mut stdout = std::io::stdout().lock();
    match write!(stdout, "{banner}").and_then(|()| stdout.flush()) {
        // Whoever started us may not care to read.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(ServeError::Banner(error)),
        _ => Ok(()),
    }
}

fn http_limits(server: &Server) -> HttpLimits {
    HttpLimits {
        connections_max: server.connections_max,
        header_read_timeout: server.header_read_timeout,
        header_bytes_max: server.header_bytes_max,
        streams_per_connection_max: server.streams_per_connection_max,
        write_stall_timeout: server.write_stall_timeout,
        shutdown_grace: server.shutdown_grace,
    }
}

fn call_limits(server: &Server, limits: &Limits) -> CallLimits {
    CallLimits {
        body_bytes_max: server.body_bytes_max,
        body_read_timeout: server.body_read_timeout,
        deadline_max: server.deadline_max,
        keep_alive_interval: server.keep_alive_interval,
        request: RequestLimits {
            choices_max: limits.choices_max,
            max_tokens_max: limits.max_tokens_max,
            messages_max: limits.messages_max,
            stop_strings_max: limits.stop_strings_max,
            stop_bytes_max: limits.stop_bytes_max,
            logit_bias_entries_max: limits.logit_bias_entries_max,
            top_logprobs_max: limits.top_logprobs_max,
            json_values_max: limits.json_values_max,
            json_depth_max: limits.json_depth_max,
        },
    }
}
