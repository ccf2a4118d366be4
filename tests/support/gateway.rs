//! A gateway on a socket of its own, in front of a fake GitLab and of lanes that do what a test says.

use super::gitlab::FakeGitlab;
use super::gitlab::tokens::GITLAB_2;
use super::model;
use futures::future::BoxFuture;
use prometheus::Registry;
use sconce::auth::gitlab::{
    BypassSettings, Enforcement, FetchError, FetchErrorKind, FetchKeys, GitlabAuth, GitlabAuthSettings, OwnKeySettings,
    OwnKeys, WallClock,
};
use sconce::auth::{AllowList, Auth};
use sconce::domain::{Generate, ModelInfo};
use sconce::http::{
    AppState, CallLimits, Gate, Gitlab, GitlabSettings, Health, HttpLimits, Readiness, app, metrics_app, serve_http,
};
use sconce::route::{Lane, Routes};
use sconce::search::Index;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A running gateway. Ends with it.
pub struct Gateway {
    pub gitlab: FakeGitlab,
    pub health: Health,
    address: SocketAddr,
    metrics: SocketAddr,
    _serving: JoinSet<()>,
}

/// What can be different about a gateway.
pub struct Options {
    pub models: Vec<&'static str>,
    /// Of a lane that is no fake.
    pub info: Option<ModelInfo>,
    pub settings: GitlabSettings,
    pub auth: Auth,
    pub allow_list: AllowList,
    pub docs: Option<Index>,
    pub limits: CallLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            models: vec!["m"],
            info: None,
            settings: GitlabSettings { is_enabled: true, ..GitlabSettings::default() },
            auth: Auth::Closed,
            allow_list: AllowList::new(&[], &[]).expect("an empty list"),
            docs: None,
            limits: CallLimits::default(),
        }
    }
}

impl Gateway {
    pub async fn start(lane: Arc<dyn Generate>, options: Options) -> Self {
        let gitlab = FakeGitlab::start().await;
        let registry = Registry::new();
        let auth = Arc::new(gitlab_auth(&gitlab.url()));
        let mut serving = JoinSet::new();
        let lanes = options.models.iter().map(|name| {
            let info = options.info.clone().unwrap_or_else(|| model(name));
            Lane::local(info, Vec::new(), Arc::clone(&lane))
        });
        let gate = Gate {
            auth: options.auth,
            gitlab: Gitlab::new(Arc::clone(&auth), options.settings, options.docs),
            allow_list: options.allow_list,
        };
        let health = Health::new(Readiness::Ready);
        let routes = Routes::new(lanes.collect()).expect("names differ");
        let state = AppState::new(routes, gate, health.clone(), options.limits, &registry).expect("a new registry");
        serving.spawn(auth.keep_fresh());
        let address = serve(&mut serving, app(state), health.clone()).await;
        let metrics = serve(&mut serving, metrics_app(registry), Health::new(Readiness::Ready)).await;
        Self { gitlab, health, address, metrics, _serving: serving }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn metrics_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.metrics)
    }
}

async fn serve(serving: &mut JoinSet<()>, app: axum::Router, health: Health) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    serving.spawn(async move {
        serve_http(listener, app, health, HttpLimits::default(), std::future::pending()).await;
    });
    address
}

fn gitlab_auth(url: &str) -> GitlabAuth {
    const SERVICE: &str = "gitlab-ai-gateway";
    let clock = WallClock::system();
    let own = OwnKeySettings {
        service: SERVICE.to_owned(),
        signing_pem: Some(GITLAB_2.pem.to_owned()),
        validation_pem: None,
        folder: None,
        rotate_after: Duration::from_secs(90 * 86_400),
    };
    let settings = GitlabAuthSettings {
        gitlab_url: url.to_owned(),
        portal_url: String::new(),
        service: SERVICE.to_owned(),
        state_folder: None,
        enforcement: Enforcement::Scopes,
        bypass: BypassSettings::default(),
    };
    let own = OwnKeys::open(own, clock.clone()).expect("a good key");
    GitlabAuth::new(settings, own, Arc::new(Plainly), clock).expect("a good URL")
}

/// Fetches over plain HTTP, as far as a fake GitLab needs it.
struct Plainly;

impl FetchKeys for Plainly {
    fn get(&self, url: &str) -> BoxFuture<'static, Result<Vec<u8>, FetchError>> {
        let request = client().get(url);
        Box::pin(async move {
            let broken = |error: reqwest::Error| FetchError::new(FetchErrorKind::Broken, error.to_string());
            let response = request.send().await.map_err(broken)?;
            match response.status().as_u16() {
                200 => Ok(response.bytes().await.map_err(broken)?.to_vec()),
                status => Err(FetchError::new(FetchErrorKind::Status(status), "")),
            }
        })
    }
}

/// A client without proxy, redirects or TLS.
pub fn client() -> reqwest::Client {
    // reqwest asks for a TLS provider even where none is used.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().expect("a plain client")
}
