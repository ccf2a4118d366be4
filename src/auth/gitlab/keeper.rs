//! Keeps the keys: the own ones and the last good set of every issuer, fetched in the background.
//!
//! Requests read a ring that is replaced as a whole and never wait for a fetch, with one exception: a token whose key is
//! unknown waits a moment for one refresh that all such tokens share, and that happens rarely whatever is sent.

use super::clock::WallClock;
use super::fetch::FetchKeys;
use super::issuer::{FetchedSet, IssuerName, IssuerUrl, KeyFetchAttempt, KeyFetchFailure, fetch_key_set};
use super::key::KeySet;
use super::last_good;
use super::own_keys::OwnKeys;
use super::ring::KeyRing;
use futures::future::join_all;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

const REFRESH_EVERY: Duration = Duration::from_secs(3600);
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(300);
/// Between two refreshes that unknown keys ask for.
const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(30);
const UNKNOWN_KEY_WAIT: Duration = Duration::from_secs(2);
const OWN_KEYS_EVERY: Duration = Duration::from_secs(3600);
/// Between two readings of the folder that signatures by unknown own keys ask for.
const REREAD_EVERY: Duration = Duration::from_secs(5);

/// How an issuer's keys stand, for readiness and for an admin.
#[derive(Clone, Debug)]
pub struct IssuerStatus {
    pub issuer: IssuerName,
    pub url: String,
    pub key_ids: Vec<String>,
    /// Since the set was fetched; nothing if there never was one.
    pub age: Option<Duration>,
    /// Keys of the set that were passed over, one sentence each.
    pub skipped: Vec<String>,
    /// Addresses that failed before the keys were found at another.
    pub detours: Vec<KeyFetchAttempt>,
    /// Of the latest attempt, if that failed.
    pub failure: Option<KeyFetchFailure>,
}

pub(super) struct KeyKeeper {
    issuers: Vec<Issuer>,
    own: OwnKeys,
    fetch: Arc<dyn FetchKeys>,
    folder: Option<PathBuf>,
    clock: WallClock,
    ring: RwLock<Arc<KeyRing>>,
    /// Counts finished refreshes.
    refreshed: watch::Sender<u64>,
    reread_at: Mutex<Option<Instant>>,
}

struct Issuer {
    name: IssuerName,
    url: IssuerUrl,
    state: Mutex<IssuerState>,
    wake: Notify,
}

struct IssuerState {
    set: KeySet,
    fetched_at_s: Option<u64>,
    detours: Vec<KeyFetchAttempt>,
    failure: Option<KeyFetchFailure>,
    failures: u32,
    phase: Phase,
    /// When an unknown key last asked for a refresh.
    asked_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Asked for, and about to begin; also before the first.
    Due,
    Running,
}

/// Why keys are fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Schedule,
    UnknownKey,
}

impl KeyKeeper {
    /// Starts from what is on disk.
    pub(super) fn new(
        urls: Vec<(IssuerName, IssuerUrl)>,
        own: OwnKeys,
        fetch: Arc<dyn FetchKeys>,
        folder: Option<PathBuf>,
        clock: WallClock,
    ) -> Self {
        let issuers = urls.into_iter().map(|(name, url)| {
            let saved = folder.as_deref().and_then(|folder| last_good::load(folder, name, &url));
            Issuer::new(name, url, saved)
        });
        let keeper = Self {
            issuers: issuers.collect(),
            own,
            fetch,
            folder,
            clock,
            ring: RwLock::default(),
            refreshed: watch::Sender::new(0),
            reread_at: Mutex::new(None),
        };
        keeper.forge_ring();
        keeper
    }

    pub(super) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn own(&self) -> &OwnKeys {
        &self.own
    }

    /// The ring that knows this key, after a short wait if one may come to know it.
    pub(super) async fn ring_with(&self, key_id: &str) -> Arc<KeyRing> {
        let mut refreshed = self.refreshed.subscribe();
        let known = async {
            while self.ring().candidates(Some(key_id)).is_empty() && self.ask_for_refresh() {
                if refreshed.changed().await.is_err() {
                    break;
                }
            }
        };
        // Whoever has waited long enough takes the ring as it is.
        let _ = timeout(UNKNOWN_KEY_WAIT, known).await;
        self.ring()
    }

    /// Whether a refresh is under way or about to begin. Begins one if the latest that was asked for is long enough ago.
    fn ask_for_refresh(&self) -> bool {
        let ask = |issuer: &Issuer| {
            let mut state = issuer.state();
            let is_allowed = state.asked_at.is_none_or(|asked_at| asked_at.elapsed() >= UNKNOWN_KEY_EVERY);
            if state.phase == Phase::Idle && is_allowed {
                state.phase = Phase::Due;
                state.asked_at = Some(Instant::now());
                issuer.wake.notify_one();
            }
            state.phase != Phase::Idle
        };
        // Every issuer is asked: the token does not say reliably whose key it names.
        self.issuers.iter().map(ask).fold(false, |any, is_coming| any | is_coming)
    }

    /// Reads shared own keys again, rarely. True if they have changed.
    pub(super) async fn reread_own_keys(self: &Arc<Self>) -> bool {
        if !self.own.is_shared() {
            return false;
        }
        {
            let mut reread_at = self.reread_at.lock().unwrap_or_else(PoisonError::into_inner);
            if reread_at.is_some_and(|at| at.elapsed() < REREAD_EVERY) {
                return false;
            }
            *reread_at = Some(Instant::now());
        }
        self.change_own_keys(OwnKeys::reread).await
    }

    async fn change_own_keys(
        self: &Arc<Self>,
        change: fn(&OwnKeys) -> Result<bool, super::own_keys::OwnKeyError>,
    ) -> bool {
        let keeper = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || change(&keeper.own)).await;
        match changed {
            Ok(Ok(has_changed)) => {
                if has_changed {
                    self.forge_ring();
                }
                has_changed
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the own keys stay as they are");
                false
            }
            Err(error) => {
                tracing::error!(%error, "looking after the own keys failed");
                false
            }
        }
    }

    /// Refreshes every set now and then, and at once when asked. Never ends.
    pub(super) async fn keep_fresh(self: Arc<Self>) {
        let issuers = join_all(self.issuers.iter().map(|issuer| self.keep_issuer_fresh(issuer)));
        let own = async {
            loop {
                sleep(OWN_KEYS_EVERY).await;
                self.change_own_keys(OwnKeys::rotate_if_due).await;
            }
        };
        let rotated_at_start = self.change_own_keys(OwnKeys::rotate_if_due);
        futures::join!(issuers, async {
            rotated_at_start.await;
            own.await
        });
    }

    async fn keep_issuer_fresh(&self, issuer: &Issuer) {
        let mut occasion = Occasion::Schedule;
        loop {
            self.refresh(issuer, occasion).await;
            let next_at = Instant::now() + issuer.wait();
            occasion = loop {
                tokio::select! {
                    biased;
                    // A call that came when a refresh was just beginning was answered by it.
                    () = issuer.wake.notified() => if issuer.state().phase == Phase::Due { break Occasion::UnknownKey },
                    () = sleep_until(next_at) => break Occasion::Schedule,
                }
            };
        }
    }

    async fn refresh(&self, issuer: &Issuer, occasion: Occasion) {
        issuer.state().phase = Phase::Running;
        let fetched = fetch_key_set(issuer.name, &issuer.url, &*self.fetch).await;
        let saved = match fetched {
            Ok(fetched) => Some(self.accept(issuer, fetched)),
            Err(failure) => {
                issuer.fail(failure, occasion);
                None
            }
        };
        self.refreshed.send_modify(|count| *count += 1);
        if let (Some(set), Some(folder)) = (saved, self.folder.clone()) {
            let (name, url, now_s) = (issuer.name, issuer.url.clone(), self.clock.unix_s());
            let save = move || last_good::save(&folder, name, &url, &set, now_s);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(save).await {
                tracing::warn!(issuer = %name, %error, "the key set could not be saved: a restart during an outage would know no key");
            }
        }
    }

    /// Takes a set over. One that seems to lack keys adds to the former set and removes nothing.
    fn accept(&self, issuer: &Issuer, fetched: FetchedSet) -> KeySet {
        let FetchedSet { set, detours } = fetched;
        let set = {
            let mut state = issuer.state();
            if state.detours != detours {
                for detour in &detours {
                    tracing::info!(issuer = %issuer.name, "the keys came another way: {}: {}", detour.url, detour.problem);
                }
            }
            state.detours = detours;
            let set = if set.is_partial { set.with_missing_of(&state.set) } else { set };
            log_change(issuer.name, &state.set, &set);
            state.set = set.clone();
            state.fetched_at_s = Some(self.clock.unix_s());
            state.failure = None;
            state.failures = 0;
            set
        };
        self.forge_ring();
        // Only now, so that whoever sees no refresh under way sees its outcome.
        issuer.state().phase = Phase::Idle;
        set
    }

    fn forge_ring(&self) {
        // Locked first, so that of two changes at once the later ring holds both.
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let sets: Vec<KeySet> = self.issuers.iter().map(|issuer| issuer.state().set.clone()).collect();
        let keys = sets.iter().flat_map(|set| &set.keys);
        *ring = Arc::new(KeyRing::new(self.own.key_ids(), &self.own.verifying_keys(), keys));
    }

    pub(super) fn status(&self) -> Vec<IssuerStatus> {
        let now_s = self.clock.unix_s();
        let status = |issuer: &Issuer| {
            let state = issuer.state();
            IssuerStatus {
                issuer: issuer.name,
                url: issuer.url.as_str().to_owned(),
                key_ids: state.set.ids(),
                age: state.fetched_at_s.map(|at_s| Duration::from_secs(now_s.saturating_sub(at_s))),
                skipped: state.set.skipped.clone(),
                detours: state.detours.clone(),
                failure: state.failure.clone(),
            }
        };
        self.issuers.iter().map(status).collect()
    }
}

impl Issuer {
    fn new(name: IssuerName, url: IssuerUrl, saved: Option<last_good::LastGood>) -> Self {
        let fetched_at_s = saved.as_ref().map(|saved| saved.fetched_at_s);
        let set = saved.map(|saved| saved.set).unwrap_or_default();
        let state = IssuerState {
            set,
            fetched_at_s,
            failure: None,
            failures: 0,
            phase: Phase::Due,
            asked_at: None,
            detours: Vec::new(),
        };
        Self { name, url, state: Mutex::new(state), wake: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, IssuerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The former set stays. Callers cannot make the next attempt come later.
    fn fail(&self, failure: KeyFetchFailure, occasion: Occasion) {
        let mut state = self.state();
        if state.set.keys.is_empty() {
            tracing::error!(issuer = %self.name, %failure, "no keys: tokens of this issuer are refused until they can be fetched");
        } else {
            tracing::warn!(issuer = %self.name, %failure, "the keys could not be refreshed: the former ones are kept");
        }
        state.failures = match occasion {
            Occasion::Schedule => state.failures.saturating_add(1),
            Occasion::UnknownKey => state.failures.max(1),
        };
        state.failure = Some(failure);
        state.phase = Phase::Idle;
    }

    /// Until the next refresh that nobody asks for.
    fn wait(&self) -> Duration {
        match self.state().failures {
            0 => REFRESH_EVERY,
            failures => RETRY_FIRST.saturating_mul(1 << (failures - 1).min(16)).min(RETRY_LAST),
        }
    }
}

fn log_change(issuer: IssuerName, former: &KeySet, set: &KeySet) {
    let is_same = former.keys.len() == set.keys.len()
        && set.keys.iter().all(|key| former.keys.iter().any(|known| known.fingerprint == key.fingerprint));
    if !is_same {
        tracing::info!(%issuer, key_ids = ?set.ids(), "the keys of this issuer have changed");
    }
    if former.skipped != set.skipped {
        for skipped in &set.skipped {
            tracing::warn!(%issuer, "passed over {skipped}");
        }
    }
}
