//! A gateway's authentication with its surroundings under control: a network that counts, a state folder, and clocks that
//! the tests turn. Time stands still but for `pass`; runtimes are started paused.

use crate::gitlab::tokens::{self, GITLAB_1, INSTANCE_ID, USER_ID};
use crate::network::{GITLAB, Network};
use sconce::auth::gitlab::{
    BypassSettings, Caller, Credentials, Enforcement, GitlabAuth, GitlabAuthError, GitlabAuthSettings, OwnKeySettings,
    OwnKeys, WallClock,
};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub const START_S: u64 = 1_760_000_000;
pub const SERVICE: &str = "gitlab-ai-gateway";
pub const DAY: Duration = Duration::from_secs(86_400);

/// The wall clock: goes with tokio's time, and can be put forward or back on its own.
#[derive(Clone)]
pub struct TurnedClock {
    began: Instant,
    turned_s: Arc<AtomicI64>,
}

impl TurnedClock {
    pub fn new() -> Self {
        Self { began: Instant::now(), turned_s: Arc::default() }
    }

    pub fn turn(&self, by_s: i64) {
        self.turned_s.fetch_add(by_s, Ordering::SeqCst);
    }

    pub fn now_s(&self) -> u64 {
        (START_S + self.began.elapsed().as_secs()).saturating_add_signed(self.turned_s.load(Ordering::SeqCst))
    }

    pub fn wall(&self) -> WallClock {
        let clock = self.clone();
        WallClock::new(move || -> SystemTime { UNIX_EPOCH + Duration::from_secs(clock.now_s()) })
    }
}

/// What a test may want otherwise.
pub struct Scene {
    pub gitlab_url: String,
    pub portal_url: String,
    pub enforcement: Enforcement,
    pub bypass: BypassSettings,
    pub signing_pem: Option<String>,
    pub validation_pem: Option<String>,
    pub folder: Option<PathBuf>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            gitlab_url: GITLAB.to_owned(),
            portal_url: String::new(),
            enforcement: Enforcement::Scopes,
            bypass: BypassSettings::default(),
            // Made once: making one takes a while.
            signing_pem: Some(tokens::GITLAB_2.pem.to_owned()),
            validation_pem: None,
            folder: None,
        }
    }
}

pub struct Stage {
    pub auth: Arc<GitlabAuth>,
    pub network: Arc<Network>,
    pub clock: TurnedClock,
    keeping: JoinSet<()>,
}

impl Stage {
    /// GitLab publishes its first key, and the gateway has fetched it.
    pub async fn open() -> Self {
        let network = Arc::new(Network::default());
        network.publish(GITLAB, &[GITLAB_1.jwk()]);
        let stage = Self::set(Scene::default(), network, TurnedClock::new());
        stage.settle().await;
        stage
    }

    pub fn set(scene: Scene, network: Arc<Network>, clock: TurnedClock) -> Self {
        let own = OwnKeySettings {
            service: SERVICE.to_owned(),
            signing_pem: scene.signing_pem,
            validation_pem: scene.validation_pem,
            folder: scene.folder.clone(),
            rotate_after: 90 * DAY,
        };
        let own = OwnKeys::open(own, clock.wall()).expect("good keys");
        let settings = GitlabAuthSettings {
            gitlab_url: scene.gitlab_url,
            portal_url: scene.portal_url,
            service: SERVICE.to_owned(),
            state_folder: scene.folder,
            enforcement: scene.enforcement,
            bypass: scene.bypass,
        };
        let fetch = Arc::clone(&network);
        let auth = Arc::new(GitlabAuth::new(settings, own, fetch, clock.wall()).expect("good settings"));
        let mut keeping = JoinSet::new();
        keeping.spawn(Arc::clone(&auth).keep_fresh());
        Self { auth, network, clock, keeping }
    }

    /// Lets everything happen that is due.
    pub async fn settle(&self) {
        self.pass(Duration::from_millis(1)).await;
    }

    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Nothing is kept fresh any more.
    pub async fn close(mut self) {
        self.keeping.shutdown().await;
    }

    pub fn token(&self) -> String {
        self.token_with(serde_json::json!({}))
    }

    pub fn token_with(&self, overrides: Value) -> String {
        tokens::signed(&GITLAB_1.header(), &tokens::claims_with(self.clock.now_s(), overrides), &GITLAB_1)
    }

    pub async fn identify(&self, token: &str) -> Result<Caller, GitlabAuthError> {
        let authorization = format!("Bearer {token}");
        self.auth.identify(Credentials { authorization: Some(&authorization), ..headers() }).await
    }

    /// `ok`, or the code of the refusal. Every refusal is looked through for the token.
    pub async fn code(&self, token: &str) -> &'static str {
        match self.identify(token).await {
            Ok(_) => "ok",
            Err(error) => {
                assert_says_no_secret(&error, token);
                error.code()
            }
        }
    }
}

pub fn headers() -> Credentials<'static> {
    Credentials {
        authorization: None,
        authentication_type: Some("oidc"),
        realm: Some("self-managed"),
        instance_id: Some(INSTANCE_ID),
        global_user_id: Some(USER_ID),
        seat_count: None,
        gitlab_version: Some("18.9.0"),
        bypass_auth: None,
    }
}

/// Neither the answer nor the log may hold a piece of a token.
pub fn assert_says_no_secret(error: &GitlabAuthError, token: &str) {
    let said = format!("{error} {} {error:?}", error.reason());
    for part in token.split('.').filter(|part| part.len() >= 24) {
        for at in [0, part.len() / 2, part.len() - 24] {
            let Some(piece) = part.get(at..at + 24) else { continue };
            assert!(!said.contains(piece), "a piece of the token is in {said}");
        }
    }
}
