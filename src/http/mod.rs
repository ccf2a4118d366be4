//! The HTTP surface: router, middleware, streaming, and the one table that turns errors into statuses (`error`).
//!
//! Knows what a call looks like only through `dialect`, and who answers it only through `route`. [`app`] is a plain
//! service that needs no socket; [`serve_http`] gives it one.

mod access;
mod body;
mod calls;
mod choices;
mod connection;
mod dates;
mod edge;
mod error;
mod gitlab;
mod headers;
mod health;
mod limits;
mod mask;
mod metrics;
mod pages;
mod peer;
mod record;
mod server;
mod stream;
mod tls;

pub use gitlab::{Gitlab, GitlabSettings};
pub use health::{Health, Readiness};
pub use limits::{CallLimits, HttpLimits};
pub use metrics::metrics_app;
pub use peer::Peer;
pub use server::{Drained, Listener, accept, serve_http};
pub use tls::{TlsFileError, TlsListener};

use crate::auth::{AllowList, Auth};
use crate::route::Routes;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use metrics::CallMetrics;
use prometheus::Registry;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// What every request needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    routes: Arc<OnceLock<Routes>>,
    pub auth: Arc<Auth>,
    pub gitlab: Arc<Gitlab>,
    pub allow_list: Arc<AllowList>,
    pub health: Health,
    pub limits: Arc<CallLimits>,
    /// Seconds since the Unix epoch, for `created`.
    pub unix_time: fn() -> u64,
    metrics: Arc<CallMetrics>,
}

/// Who may call.
#[derive(Debug)]
pub struct Gate {
    /// Of the OpenAI surface.
    pub auth: Auth,
    /// Of GitLab's.
    pub gitlab: Gitlab,
    /// Of everything.
    pub allow_list: AllowList,
}

impl AppState {
    /// Registers the metrics of the HTTP surface with `registry`; errors if that was done before.
    pub fn new(
        routes: Routes,
        gate: Gate,
        health: Health,
        limits: CallLimits,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let state = Self::without_routes(gate, health, limits, registry)?;
        state.open(routes);
        Ok(state)
    }

    /// As [`AppState::new`], for a server that answers before its models are there. Its `health` has to be
    /// [`Readiness::Starting`] until [`AppState::open`].
    pub fn without_routes(
        gate: Gate,
        health: Health,
        limits: CallLimits,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            routes: Arc::default(),
            auth: Arc::new(gate.auth),
            gitlab: Arc::new(gate.gitlab),
            allow_list: Arc::new(gate.allow_list),
            health,
            limits: Arc::new(limits),
            unix_time: || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            metrics: Arc::new(CallMetrics::register(registry)?),
        })
    }

    /// Hands out the lanes. Has no effect the second time.
    pub fn open(&self, routes: Routes) {
        drop(self.routes.set(routes));
    }

    /// The lanes; none before [`AppState::open`].
    fn routes(&self) -> &Routes {
        static NONE: Routes = Routes::none();
        self.routes.get().unwrap_or(&NONE)
    }
}

/// The public surface. A service that can be called without a socket.
pub fn app(state: AppState) -> Router {
    let openai = Router::new()
        .route("/v1/completions", post(calls::completions))
        .route("/v1/chat/completions", post(calls::chat_completions))
        .route("/v1/models/{*name}", get(pages::model))
        .route_layer(from_fn_with_state(state.clone(), edge::authenticate));
    let gitlab = gitlab::routes().route_layer(from_fn_with_state(state.clone(), gitlab::authenticate));
    Router::new()
        .merge(openai)
        .merge(gitlab)
        .merge(gitlab::open_routes())
        .merge(models(&state))
        .route("/monitoring/healthz", get(pages::healthz))
        .route("/monitoring/ready", get(pages::ready))
        .fallback(pages::unknown_path)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .layer(from_fn_with_state(state.clone(), edge::admit))
        .with_state(state)
}

/// The list of models: GitLab's set-up check asks for it with a model's key, under the model's endpoint; names are no
/// secret then. Without a GitLab it is for those who may call.
fn models(state: &AppState) -> Router<AppState> {
    if state.gitlab.settings.is_enabled {
        return Router::new()
            .route("/v1/models", get(gitlab::open_models))
            .route("/v1/v1/models", get(gitlab::open_models));
    }
    let list = Router::new().route("/v1/models", get(pages::models));
    list.route_layer(from_fn_with_state(state.clone(), edge::authenticate))
}
