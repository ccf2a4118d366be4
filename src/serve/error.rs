//! Why serving, or loading for another verb, did not begin.

use crate::auth::gitlab::{GitlabAuthSetupError, OwnKeyError};
use crate::auth::{KeyError, KeyFileError, NetworkError};
use crate::catalog::CatalogError;
use crate::domain::LaneName;
use crate::egress::SettingsError;
use crate::engine::{LoadError, MemoryError};
use crate::http::TlsFileError;
use crate::provider::CredentialError;
use crate::route::RouteError;
use crate::route::policy::PolicyError;
use kernels::gpu::GpuError;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("model {name}: {source}")]
    Load { name: String, source: Box<LoadError> },
    #[error("engine.device: {0}")]
    Device(GpuError),
    #[error("{setting} is {set}, a GPU serves at most {max}: lower it, or set engine.device to cpu")]
    GpuLimit { setting: &'static str, set: usize, max: usize },
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Routes(#[from] RouteError),
    #[error("route {name}: {source}")]
    Route { name: String, source: PolicyError },
    #[error("providers.{provider}: {source}")]
    Credentials { provider: String, source: CredentialError },
    #[error("providers.{provider}: no project is named that pays, and its credentials name none: set `project`")]
    NoProject { provider: String },
    #[error("providers.{provider}.infill names the card {card:?}, which has no markers for infilling; known: {known}")]
    NoInfillCard { provider: String, card: String, known: String },
    #[error("there is no lane {lane}: `sconce check-config` names those there are")]
    NoSuchLane { lane: LaneName },
    #[error("cannot read the key file {}: {source}", .path.display())]
    KeyFileUnreadable { path: PathBuf, source: std::io::Error },
    #[error("the key file {} has {bytes} bytes, the limit is {bytes_max}", .path.display())]
    KeyFileTooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    #[error("key file {}: {source}", .path.display())]
    KeyFile { path: PathBuf, source: KeyFileError },
    #[error("key {number} of auth.keys: {source}")]
    Key { number: usize, source: KeyError },
    #[error("API keys: {0}")]
    Keys(KeyError),
    #[error(
        "{setting}: port {} of {} is taken, perhaps by another sconce (`ss -ltnp 'sport = :{}'` names the process); \
         choose another port, or let the system choose one with `{remedy}`",
        .listen.port(), .listen.ip(), .listen.port()
    )]
    PortTaken { setting: &'static str, listen: SocketAddr, remedy: &'static str },
    #[error("{setting}: cannot listen on {listen}: {source}")]
    Listen { setting: &'static str, listen: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    OwnKeys(#[from] OwnKeyError),
    #[error(transparent)]
    GitlabAuth(#[from] GitlabAuthSetupError),
    #[error(transparent)]
    Egress(#[from] SettingsError),
    #[error(transparent)]
    AllowList(#[from] NetworkError),
    #[error("tls: {0}")]
    Tls(#[from] TlsFileError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("no runtime for the server: {0}")]
    Runtime(std::io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot print the address: {0}")]
    Banner(std::io::Error),
}
