//! The HTTP surface: router, middleware, streaming, and the one table that turns errors into statuses (`error`).
//!
//! Knows what a call looks like only through `dialect`, and who answers it only through `route`. [`app`] is a plain
//! service that needs no socket; [`serve_http`] gives it one.

mod body;
mod calls;
mod choices;
mod connection;
mod edge;
mod error;
mod headers;
mod health;
mod limits;
mod metrics;
mod pages;
mod record;
mod server;
mod stream;

pub use health::{Health, Readiness};
pub use limits::{CallLimits, HttpLimits};
pub use metrics::metrics_app;
pub use server::{Drained, accept, serve_http};

use crate::auth::Auth;
use crate::route::Routes;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use metrics::CallMetrics;
use prometheus::Registry;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What every request needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    pub routes: Arc<Routes>,
    pub auth: Arc<Auth>,
    pub health: Health,
    pub limits: Arc<CallLimits>,
    /// Seconds since the Unix epoch, for `created`.
    pub unix_time: fn() -> u64,
    metrics: Arc<CallMetrics>,
}

impl AppState {
    /// Registers the metrics of the HTTP surface with `registry`; errors if that was done before.
    pub fn new(
        routes: Routes,
        auth: Auth,
        health: Health,
        limits: CallLimits,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            routes: Arc::new(routes),
            auth: Arc::new(auth),
            health,
            limits: Arc::new(limits),
            unix_time: || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            metrics: Arc::new(CallMetrics::register(registry)?),
        })
    }
}

/// The public surface. A service that can be called without a socket.
pub fn app(state: AppState) -> Router {
    Router::new()
        .route("/v1/models", get(pages::models))
        .route("/v1/models/{*name}", get(pages::model))
        .route("/v1/completions", post(calls::completions))
        .route("/v1/chat/completions", post(calls::chat_completions))
        .route_layer(from_fn_with_state(state.clone(), edge::authenticate))
        .route("/monitoring/healthz", get(pages::healthz))
        .route("/monitoring/ready", get(pages::ready))
        .fallback(pages::unknown_path)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .layer(from_fn_with_state(state.clone(), edge::admit))
        .with_state(state)
}
