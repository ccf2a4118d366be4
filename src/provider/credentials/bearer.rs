//! Tokens that end, sent as `Authorization: Bearer`, and what else ends and is renewed. One is fetched for all who wait,
//! early enough that nobody is sent off with one that ends on the way; while the old one is good, a fetch that fails costs
//! nothing.

use crate::provider::answer::{Request, Sign};
use crate::provider::endpoint::Key;
use crate::provider::failure::Verdict;
use futures::FutureExt as _;
use futures::future::{BoxFuture, WeakShared};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

/// How long before its end a token is replaced, or half of its life where that is less.
const RENEWED_BEFORE: Duration = Duration::from_secs(5 * 60);
/// A token that ends sooner is not sent any more: the request takes a while, and clocks differ.
const SPARED_BEFORE: Duration = Duration::from_secs(15);
/// Between a fetch that failed and the next.
const PAUSE: Duration = Duration::from_secs(10);

/// The wall clock, handed in so that tests can turn it: ends of tokens are times of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    pub fn system() -> Self {
        Self::new(SystemTime::now)
    }

    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

/// A token that was handed over by hand. Nobody renews it.
pub struct FixedToken(Key);

impl FixedToken {
    pub fn new(token: Key) -> Self {
        Self(token)
    }
}

impl Sign for FixedToken {
    fn sign<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Verdict>> {
        bear(request, &self.0);
        std::future::ready(Ok(())).boxed()
    }
}

pub struct Token<T = Key> {
    pub value: T,
    pub ends_at: SystemTime,
}

/// Where tokens come from.
pub trait FetchToken<T = Key>: Send + Sync {
    /// The error's cause says what to put right, its class who may be asked next.
    fn fetch(&self) -> BoxFuture<'static, Result<Token<T>, Verdict>>;
}

/// Keeps a token and renews it.
pub struct Bearer(Renewed<Key>);

impl Bearer {
    pub fn new(source: Arc<dyn FetchToken>, clock: Clock) -> Self {
        Self(Renewed::new(source, clock))
    }

    async fn token(&self) -> Result<Key, Verdict> {
        self.0.get().await
    }
}

/// Keeps what ends and renews it.
pub struct Renewed<T> {
    source: Arc<dyn FetchToken<T>>,
    clock: Clock,
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    held: Option<Held<T>>,
    failed: Option<(SystemTime, Verdict)>,
    /// Lives as long as somebody waits for it.
    underway: Option<WeakShared<BoxFuture<'static, Result<T, Verdict>>>>,
}

struct Held<T> {
    value: T,
    renewed_at: SystemTime,
    ends_at: SystemTime,
}

impl<T: Clone + Send + Sync + 'static> Renewed<T> {
    pub fn new(source: Arc<dyn FetchToken<T>>, clock: Clock) -> Self {
        let state = State { held: None, failed: None, underway: None };
        Self { source, clock, state: Arc::new(Mutex::new(state)) }
    }

    pub async fn get(&self) -> Result<T, Verdict> {
        let (usable, fetching) = {
            let mut state = lock(&self.state);
            let now = self.clock.now();
            let usable = state.held.as_ref().filter(|held| now + SPARED_BEFORE < held.ends_at);
            let is_fresh = usable.is_some_and(|held| now < held.renewed_at);
            let usable = usable.map(|held| held.value.clone());
            let underway = state.underway.as_ref().and_then(WeakShared::upgrade);
            let paused = state.failed.filter(|(at, _)| now.duration_since(*at).is_ok_and(|since| since < PAUSE));
            match (usable, underway, paused) {
                (Some(value), _, _) if is_fresh => return Ok(value),
                // Somebody else renews it, or the other side had better be left alone.
                (Some(value), Some(_), _) | (Some(value), None, Some(_)) => return Ok(value),
                (None, None, Some((_, verdict))) => return Err(verdict),
                (None, Some(fetching), _) => (None, fetching),
                (usable, None, None) => {
                    let fetching = self.renew().shared();
                    state.underway = fetching.downgrade();
                    (usable, fetching)
                }
            }
        };
        fetching.await.or_else(|verdict| usable.ok_or(verdict))
    }

    fn renew(&self) -> BoxFuture<'static, Result<T, Verdict>> {
        let (fetching, clock, state) = (self.source.fetch(), self.clock.clone(), self.state.clone());
        async move {
            let fetched = fetching.await;
            let now = clock.now();
            let mut state = lock(&state);
            state.underway = None;
            match fetched {
                Ok(Token { value, ends_at }) => {
                    let life = ends_at.duration_since(now).unwrap_or_default();
                    let renewed_at = now + (life - RENEWED_BEFORE.min(life / 2));
                    state.held = Some(Held { value: value.clone(), renewed_at, ends_at });
                    state.failed = None;
                    Ok(value)
                }
                Err(verdict) => {
                    state.failed = Some((now, verdict));
                    Err(verdict)
                }
            }
        }
        .boxed()
    }
}

impl Sign for Bearer {
    fn sign<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Verdict>> {
        async move {
            bear(request, &self.token().await?);
            Ok(())
        }
        .boxed()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bearer(..)")
    }
}

fn bear(request: &mut Request, token: &Key) {
    request.headers.push(("authorization", format!("Bearer {}", token.reveal())));
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().expect("nobody panics while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::failure::GAVE_UP;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    /// Hands out numbered tokens of an hour, one for each permit; without one it fails.
    struct Counted {
        now_s: Arc<AtomicU64>,
        num_fetches: AtomicUsize,
        is_failing: std::sync::atomic::AtomicBool,
        gate: Arc<Semaphore>,
    }

    impl FetchToken for Arc<Counted> {
        fn fetch(&self) -> BoxFuture<'static, Result<Token, Verdict>> {
            let this = self.clone();
            async move {
                let number = this.num_fetches.fetch_add(1, Ordering::SeqCst) + 1;
                this.gate.acquire().await.expect("never closed").forget();
                if this.is_failing.load(Ordering::SeqCst) {
                    return Err(GAVE_UP);
                }
                let ends_at = at(this.now_s.load(Ordering::SeqCst) + 3600);
                Ok(Token { value: Key::new(format!("token {number}")), ends_at })
            }
            .boxed()
        }
    }

    fn at(s: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(s)
    }

    fn bearer(permits: usize) -> (Arc<Counted>, Bearer) {
        let counted = Arc::new(Counted {
            now_s: Arc::default(),
            num_fetches: AtomicUsize::new(0),
            is_failing: false.into(),
            gate: Arc::new(Semaphore::new(permits)),
        });
        let now_s = counted.now_s.clone();
        let clock = Clock::new(move || at(now_s.load(Ordering::SeqCst)));
        (counted.clone(), Bearer::new(Arc::new(counted), clock))
    }

    #[tokio::test]
    async fn tokens_are_fetched_only_when_they_are_needed() {
        let (counted, bearer) = bearer(100);
        for (now_s, is_failing, expected) in [
            (0, false, Ok("token 1")),
            (3299, false, Ok("token 1")),
            (3300, false, Ok("token 2")),
            (6599, false, Ok("token 2")),
            // Due, but the other side does not answer: the old one is good, and nobody asks again at once.
            (6600, true, Ok("token 2")),
            (6609, false, Ok("token 2")),
            (6610, false, Ok("token 4")),
            (20_000, true, Err(GAVE_UP)),
            (20_009, false, Err(GAVE_UP)),
            (20_010, false, Ok("token 6")),
            // So near its end it would end on the way.
            (23_596, true, Err(GAVE_UP)),
        ] {
            counted.now_s.store(now_s, Ordering::SeqCst);
            counted.is_failing.store(is_failing, Ordering::SeqCst);
            let got = bearer.token().await;
            let got = got.as_ref().map(|key| key.reveal()).map_err(|verdict| *verdict);
            assert_eq!(got, expected, "at {now_s} s");
        }
        assert_eq!(counted.num_fetches.load(Ordering::SeqCst), 7);
    }

    #[tokio::test]
    async fn a_thousand_who_wait_are_one_fetch() {
        let (counted, bearer) = bearer(0);
        let all = futures::future::join_all((0..1000).map(|_| bearer.token()));
        let (tokens, ()) = futures::join!(all, async { counted.gate.add_permits(1000) });
        assert!(tokens.iter().all(|token| token.as_ref().is_ok_and(|key| key.reveal() == "token 1")));
        assert_eq!(counted.num_fetches.load(Ordering::SeqCst), 1);
        // Due for another: one fetches, and nobody else waits for it.
        counted.gate.forget_permits(1000);
        counted.now_s.store(3599 - 60, Ordering::SeqCst);
        let mut first = Box::pin(bearer.token());
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(bearer.token().await.map(|key| key.reveal().to_owned()), Ok("token 1".to_owned()));
        counted.gate.add_permits(1);
        assert_eq!(first.await.map(|key| key.reveal().to_owned()), Ok("token 2".to_owned()));
        assert_eq!(counted.num_fetches.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_fetch_that_nobody_waits_for_any_more_is_begun_anew() {
        let (counted, bearer) = bearer(0);
        let mut dropped = Box::pin(bearer.token());
        assert!(futures::poll!(&mut dropped).is_pending());
        drop(dropped);
        counted.gate.add_permits(1);
        assert_eq!(bearer.token().await.map(|key| key.reveal().to_owned()), Ok("token 2".to_owned()));
    }

    #[tokio::test]
    async fn a_request_bears_the_token_and_nothing_else_shows_it() {
        let (_, bearer) = bearer(1);
        let mut request = Request { url: String::new(), headers: Vec::new(), body: String::new() };
        assert_eq!(bearer.sign(&mut request).await, Ok(()));
        assert_eq!(request.headers, [("authorization", "Bearer token 1".to_owned())]);
        assert!(!format!("{bearer:?}").contains("token 1"));
    }
}
