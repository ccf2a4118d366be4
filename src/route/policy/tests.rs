//! Policies over lanes that follow a script, on a paused clock; and many jobs over lanes that fail by seed.

use super::*;
use crate::domain::{
    CacheSalt, CallId, Exhausted, FinishReason, Prompt, SamplingParams, StopRules, UpstreamClass, UpstreamError, Usage,
    Why,
};
use futures::stream::StreamExt as _;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

/// What a lane does when it is asked.
#[derive(Clone, Debug)]
enum Act {
    Answer,
    AnswerAfter(Duration),
    Fail(GenerateError),
    /// Says something, then fails.
    BreakOff,
    Silence,
}

/// Acts one after the other, the last one for ever; counts what it was asked and what was dropped unfinished.
struct Actor {
    script: Mutex<VecDeque<Act>>,
    asked: AtomicUsize,
    alive: Arc<AtomicUsize>,
}

impl Actor {
    fn new(script: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            asked: AtomicUsize::new(0),
            alive: Arc::default(),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn text(text: &str) -> Result<Event, GenerateError> {
    Ok(Event::Text { text: text.to_owned(), logprobs: Vec::new() })
}

fn started() -> Result<Event, GenerateError> {
    Ok(Event::Started { prompt_tokens: 1, cached_tokens: 0, queue_wait: Duration::ZERO })
}

fn finished() -> Result<Event, GenerateError> {
    Ok(Event::Finished { reason: FinishReason::Stop, usage: Usage::default() })
}

impl Generate for Actor {
    fn generate(&self, _job: Job) -> BoxStream<'static, Result<Event, GenerateError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.alive.fetch_add(1, Ordering::Relaxed);
        let alive = Alive(self.alive.clone());
        let mut script = self.script.lock().expect("no test panics with it");
        let act = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
        drop(script);
        let acting = async move {
            let events = match act.expect("every script has an act") {
                Act::Answer => vec![started(), text("a"), finished()],
                Act::AnswerAfter(wait) => {
                    sleep(wait).await;
                    vec![started(), text("a"), finished()]
                }
                Act::Fail(error) => vec![started(), Err(error)],
                Act::BreakOff => vec![started(), text("a"), Err(upstream(UpstreamClass::Broken, None))],
                Act::Silence => std::future::pending().await,
            };
            stream::iter(events)
        };
        let events = stream::once(acting).flatten();
        events.inspect(move |_| _ = &alive).boxed()
    }
}

fn upstream(class: UpstreamClass, retry_after: Option<Duration>) -> GenerateError {
    let (provider, cause, usage) = (Arc::from("cluster"), "failed", Usage::default());
    Box::new(UpstreamError { provider, class, cause, status: None, retry_after, usage }).into()
}

fn fails(class: UpstreamClass) -> Act {
    Act::Fail(upstream(class, None))
}

fn full() -> Act {
    Act::Fail(GenerateError::QueueFull { waiting: 8, waiting_max: 8, retry_after: SECOND })
}

fn job(id: &str) -> Job {
    Job {
        id: CallId(Arc::from(id)),
        prompt: Prompt::Text("a".to_owned()),
        sampling: SamplingParams::default(),
        stop: StopRules { max_tokens: Some(16), stop: Vec::new() },
        class: Class::Completion,
        session: None,
        cache_salt: CacheSalt::default(),
        deadline: Some(20 * SECOND),
    }
}

fn settings(rule: RemoteRule) -> PolicySettings {
    PolicySettings {
        rule,
        leave_after: None,
        hedge_after: None,
        longer_elsewhere: false,
        completion_deadline: 30 * SECOND,
        chat_deadline: 600 * SECOND,
    }
}

fn policy(lanes: &[(&str, &Arc<Actor>)], settings: PolicySettings) -> Policy {
    let lanes = lanes.iter().map(|(name, lane)| Candidate {
        name: LaneName::parse(name).expect("a name with a colon"),
        lane: Arc::clone(lane) as Arc<dyn Generate>,
        guard: Guard::new(BreakerSettings::default()),
    });
    let metrics = RouteMetrics::register(&prometheus::Registry::new()).expect("an empty registry");
    Policy::new(lanes.collect(), settings, Arc::new(metrics)).expect("lanes that fit the rule")
}

/// The lane that answered with those that were passed, or the error.
async fn outcome(policy: &Policy) -> Result<String, GenerateError> {
    let mut taken = None;
    for said in policy.generate(job("01")).collect::<Vec<_>>().await {
        if let Event::Taken(by) = said? {
            taken = Some(by);
        }
    }
    let taken = taken.expect("a policy names the lane");
    let passed = taken.passed.iter().map(|passed| format!(" {}={}", passed.lane, passed.why.name()));
    Ok(format!("{}{}", taken.lane, passed.collect::<String>()))
}

#[tokio::test(start_paused = true)]
async fn the_first_lane_that_can_answers_and_the_others_are_named() {
    let check = async |local: Vec<Act>, remote: Vec<Act>, expected: &str| {
        let (local, remote) = (Actor::new(local), Actor::new(remote));
        let policy = policy(&[("local:a", &local), ("cluster:b", &remote)], settings(RemoteRule::OnFailure));
        let found = outcome(&policy).await.unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!(found, expected);
        assert_eq!((local.alive(), remote.alive()), (0, 0), "{expected}");
    };
    check(vec![Act::Answer], vec![Act::Answer], "local:a").await;
    check(vec![full()], vec![Act::Answer], "cluster:b local:a=overloaded").await;
    let down = GenerateError::EngineDown { model: "a".to_owned(), cause: "the GPU failed", retry_after: None };
    check(vec![Act::Fail(down)], vec![Act::Answer], "cluster:b local:a=failed").await;
    let no_infill = GenerateError::NoInfill { model: "a".to_owned() };
    check(vec![Act::Fail(no_infill)], vec![Act::Answer], "cluster:b local:a=not_offered").await;
    // Half of the deadline, then the next.
    check(vec![Act::Silence], vec![Act::Answer], "cluster:b local:a=slow").await;
    // A connection that broke is tried again, a limit waited for where nobody else is left.
    check(vec![full()], vec![fails(UpstreamClass::Failed), Act::Answer], "cluster:b local:a=overloaded").await;
    check(vec![full()], vec![fails(UpstreamClass::Overloaded), Act::Answer], "cluster:b local:a=overloaded").await;
    let expected = "error: no lane could answer: local:a (overloaded), cluster:b (setup); the last said: the provider \
                    cluster failed";
    check(vec![full()], vec![fails(UpstreamClass::Setup)], expected).await;
}

#[tokio::test(start_paused = true)]
async fn some_failures_are_told_as_they_are() {
    let check = async |error: GenerateError| {
        let (local, remote) = (Actor::new([Act::Fail(error.clone())]), Actor::new([Act::Answer]));
        let policy = policy(&[("local:a", &local), ("cluster:b", &remote)], settings(RemoteRule::OnFailure));
        assert_eq!(outcome(&policy).await, Err(error));
        assert_eq!(remote.asked(), 0);
    };
    check(GenerateError::PromptEmpty).await;
    check(GenerateError::Superseded).await;
    check(GenerateError::ShuttingDown).await;
    check(GenerateError::CacheTooSmall { needed_tokens: 2, cache_tokens: 1 }).await;
    check(upstream(UpstreamClass::Policy, None)).await;
    check(upstream(UpstreamClass::Request, None)).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_on_from_where_an_answer_broke_off() {
    let (first, second) = (Actor::new([Act::BreakOff]), Actor::new([Act::Answer]));
    let policy = policy(&[("one:a", &first), ("two:b", &second)], settings(RemoteRule::Always));
    let said: Vec<_> = policy.generate(job("01")).collect().await;
    assert!(matches!(said.last(), Some(Err(GenerateError::Upstream(_)))), "{said:?}");
    assert_eq!((said.len(), second.asked()), (4, 0));
    assert_eq!(policy.metrics.count("one:a", "broken"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_known_wait_is_waited_within_half_of_the_time() {
    let check = async |wait: Duration, expected: Option<Duration>| {
        let limited = Act::Fail(upstream(UpstreamClass::Limited, Some(wait)));
        let lane = Actor::new([limited, Act::Answer]);
        let policy = policy(&[("cluster:b", &lane)], settings(RemoteRule::Always));
        let begun = Instant::now();
        let found = outcome(&policy).await;
        assert_eq!(found.is_ok().then(|| begun.elapsed()), expected, "{wait:?}");
    };
    check(9 * SECOND, Some(9 * SECOND)).await;
    check(11 * SECOND, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_needs_somebody_is_left_alone_and_looked_at_later() {
    let broken = Actor::new([fails(UpstreamClass::Setup), fails(UpstreamClass::Setup), Act::Answer]);
    let other = Actor::new([Act::Answer]);
    let policy = policy(&[("one:a", &broken), ("two:b", &other)], settings(RemoteRule::Always));
    assert_eq!(outcome(&policy).await.as_deref(), Ok("two:b one:a=setup"));
    for _ in 0..9 {
        assert_eq!(outcome(&policy).await.as_deref(), Ok("two:b one:a=resting"));
    }
    assert_eq!(broken.asked(), 1);
    sleep(5 * SECOND).await;
    assert_eq!(outcome(&policy).await.as_deref(), Ok("two:b one:a=setup"));
    sleep(9 * SECOND).await;
    assert_eq!(outcome(&policy).await.as_deref(), Ok("two:b one:a=resting"), "the second rest is longer");
    sleep(SECOND).await;
    assert_eq!(outcome(&policy).await.as_deref(), Ok("one:a"));
    assert_eq!(outcome(&policy).await.as_deref(), Ok("one:a"));
    assert_eq!(broken.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn while_everybody_rests_callers_hear_for_how_long() {
    let broken = Actor::new([fails(UpstreamClass::Setup)]);
    let policy = policy(&[("one:a", &broken)], settings(RemoteRule::Always));
    assert!(outcome(&policy).await.is_err());
    sleep(2 * SECOND).await;
    let error = outcome(&policy).await.expect_err("it rests");
    assert_eq!(error.retry_after(), Some(3 * SECOND));
    assert_eq!(broken.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_lane_is_left_or_gets_company_as_was_said() {
    let slow = || Actor::new([Act::AnswerAfter(3 * SECOND)]);
    let check = async |settings: PolicySettings, second: Act, expected: (&str, Duration, usize)| {
        let (first, second) = (slow(), Actor::new([second]));
        let policy = policy(&[("local:a", &first), ("cluster:b", &second)], settings);
        let begun = Instant::now();
        let found = outcome(&policy).await.unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!((&*found, begun.elapsed(), second.asked()), expected);
        assert_eq!((first.alive(), second.alive()), (0, 0));
    };
    let plain = settings(RemoteRule::OnFailure);
    check(plain, Act::Answer, ("local:a", 3 * SECOND, 0)).await;
    let leaving = PolicySettings { leave_after: Some(SECOND), ..plain };
    check(leaving, Act::Answer, ("cluster:b local:a=slow", SECOND, 1)).await;
    let hedging = PolicySettings { hedge_after: Some(SECOND), ..plain };
    check(hedging, Act::AnswerAfter(SECOND), ("cluster:b", 2 * SECOND, 1)).await;
    check(hedging, Act::AnswerAfter(9 * SECOND), ("local:a", 3 * SECOND, 1)).await;
    check(hedging, fails(UpstreamClass::Setup), ("local:a cluster:b=setup", 3 * SECOND, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_for_all_can_be_shortened() {
    let too_long = || {
        let error =
            GenerateError::PromptTooLong { model: "a".to_owned(), prompt_tokens: 9, max_tokens: 1, context_tokens: 8 };
        Actor::new([Act::Fail(error)])
    };
    let longer = PolicySettings { longer_elsewhere: true, ..settings(RemoteRule::OnFailure) };
    let (first, second) = (too_long(), Actor::new([Act::Answer]));
    let lanes = [("local:a", &first), ("cluster:b", &second)];
    assert_eq!(outcome(&policy(&lanes, longer)).await.as_deref(), Ok("cluster:b local:a=too_long"));
    let (first, second) = (too_long(), too_long());
    let lanes = [("local:a", &first), ("cluster:b", &second)];
    let error = outcome(&policy(&lanes, longer)).await.expect_err("too long for both");
    assert!(matches!(error, GenerateError::PromptTooLong { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_everything_along() {
    let (first, second) = (Actor::new([Act::Silence]), Actor::new([Act::Silence]));
    let hedging = PolicySettings { hedge_after: Some(SECOND), ..settings(RemoteRule::Always) };
    let policy = policy(&[("one:a", &first), ("two:b", &second)], hedging);
    let mut events = policy.generate(job("01"));
    assert!(tokio::time::timeout(3 * SECOND, events.next()).await.is_err());
    assert_eq!((first.alive(), second.alive()), (1, 1));
    drop(events);
    assert_eq!((first.alive(), second.alive()), (0, 0));
}

#[test]
fn lanes_that_could_never_be_asked_are_refused() {
    let check = |lanes: &[&str], rule: RemoteRule, expected: Option<&str>| {
        let lanes: Vec<_> = lanes.iter().map(|lane| LaneName::parse(lane).expect("a name with a colon")).collect();
        let error = check_lanes(&lanes.iter().collect::<Vec<_>>(), rule).err().map(|error| error.to_string());
        let shown = error.as_deref().unwrap_or_default();
        assert_eq!(error.is_some(), expected.is_some(), "{lanes:?} {rule:?}: {shown}");
        assert!(shown.contains(expected.unwrap_or_default()), "{shown}");
    };
    use RemoteRule::{Always, Never, OnFailure};
    check(&["local:a"], Never, None);
    check(&["local:a", "x:b"], OnFailure, None);
    check(&["x:b", "local:a"], Always, None);
    check(&["x:b"], Always, None);
    check(&[], Never, Some("no lane is named"));
    check(&["local:a", "local:a"], Never, Some("local:a is named twice"));
    check(&["local:a", "x:b"], Never, Some("set `remote` to on_failure or always"));
    check(&["x:b", "local:a"], OnFailure, Some("x:b stands before local:a"));
    check(&["x:b"], OnFailure, Some("name a local lane before them"));
}

#[test]
fn a_stricter_rule_takes_lanes_away_and_never_adds_any() {
    let (local, remote) = (Actor::new([Act::Answer]), Actor::new([Act::Answer]));
    let always = policy(&[("x:b", &remote), ("local:a", &local)], settings(RemoteRule::Always));
    let names = |policy: Option<Policy>| {
        policy.map(|policy| policy.lanes().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(names(always.restricted(RemoteRule::Always)).as_deref(), Some("x:b local:a"));
    assert_eq!(names(always.restricted(RemoteRule::OnFailure)).as_deref(), Some("local:a x:b"));
    assert_eq!(names(always.restricted(RemoteRule::Never)).as_deref(), Some("local:a"));
    let far = policy(&[("x:b", &remote)], settings(RemoteRule::Always));
    assert_eq!(names(far.restricted(RemoteRule::OnFailure)), None);
    let near = policy(&[("local:a", &local)], settings(RemoteRule::Never));
    assert_eq!(near.restricted(RemoteRule::Always).map(|policy| policy.rule()), Some(RemoteRule::Never));
}

/// A generator of reproducible choices (splitmix64, Steele et al. 2014).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn act(&mut self) -> Act {
        match self.below(10) {
            0 => fails(UpstreamClass::Failed),
            1 => fails(UpstreamClass::Overloaded),
            2 => Act::Fail(upstream(UpstreamClass::Limited, Some(self.below(8) as u32 * SECOND))),
            3 => Act::AnswerAfter(self.below(15) as u32 * SECOND),
            4 => Act::BreakOff,
            5 => Act::Silence,
            6 => fails(UpstreamClass::Setup),
            _ => Act::Answer,
        }
    }
}

/// Whatever the lanes do: every job ends within its deadline and a little, hears one lane or one error, a refused
/// lane is not asked more often than its first tries and their tenth allow, and nothing stays behind.
#[tokio::test(start_paused = true)]
async fn every_job_ends_whatever_the_lanes_do() {
    const JOBS: usize = 60;
    for seed in 0..60 {
        let mut seeded = Seeded(seed);
        let lanes: Vec<_> = (0..3).map(|_| Actor::new((0..JOBS).map(|_| seeded.act()))).collect();
        let settings = PolicySettings {
            hedge_after: (seeded.below(2) == 0).then_some(2 * SECOND),
            leave_after: (seeded.below(2) == 0).then_some(4 * SECOND),
            ..settings(RemoteRule::OnFailure)
        };
        let named = [("local:a", &lanes[0]), ("one:b", &lanes[1]), ("two:c", &lanes[2])];
        let policy = policy(&named, settings);
        for index in 0..JOBS {
            let begun = Instant::now();
            // A lane keeps its deadline by itself: the last one asked may be silent for ever here.
            let events = policy.generate(job(&index.to_string())).collect::<Vec<_>>();
            let Ok(said) = tokio::time::timeout(21 * SECOND, events).await else { continue };
            assert!(begun.elapsed() <= 20 * SECOND, "seed {seed}, job {index}: {:?}", begun.elapsed());
            let taken = said.iter().filter(|said| matches!(said, Ok(Event::Taken(_)))).count();
            let errors = said.iter().filter(|said| said.is_err()).count();
            let ends = said.iter().filter(|said| matches!(said, Ok(Event::Finished { .. }))).count();
            assert!(taken <= 1 && errors + ends == 1, "seed {seed}, job {index}: {said:?}");
            assert!(matches!(said.first(), Some(Ok(Event::Taken(_)) | Err(_))), "seed {seed}, job {index}: {said:?}");
            if let Some(Err(GenerateError::Exhausted(exhausted))) = said.last() {
                let Exhausted { passed, .. } = &**exhausted;
                assert_eq!(passed.len(), 3, "seed {seed}, job {index}: {passed:?}");
            }
        }
        for lane in &lanes {
            assert_eq!(lane.alive(), 0, "seed {seed}");
            assert!(lane.asked() <= JOBS + JOBS / 10 + 10, "seed {seed}: asked {} times", lane.asked());
        }
        assert!(lanes[1].asked() > 0, "seed {seed}: a simulation without a fallback shows nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn company_that_was_left_is_named_slow() {
    let silent = Actor::new([Act::Silence]);
    let (second, third) = (Actor::new([Act::Silence]), Actor::new([Act::Answer]));
    let both =
        PolicySettings { hedge_after: Some(SECOND), leave_after: Some(2 * SECOND), ..settings(RemoteRule::Always) };
    let policy = policy(&[("one:a", &silent), ("two:b", &second), ("three:c", &third)], both);
    let begun = Instant::now();
    assert_eq!(outcome(&policy).await.as_deref(), Ok("three:c one:a=slow two:b=slow"));
    assert_eq!(begun.elapsed(), 3 * SECOND);
    assert_eq!(policy.metrics.count("one:a", Why::Slow.name()), 1);
}
