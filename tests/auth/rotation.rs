//! Keys that come, go and are not there yet.

use crate::gitlab::tokens::{self, GITLAB_1, GITLAB_2, STRANGER, merged, signed};
use crate::network::{Answer, GITLAB, KEYS, Network};
use crate::stage::{Scene, Stage, TurnedClock};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn token_of_second_key(stage: &Stage) -> String {
    signed(&GITLAB_2.header(), &tokens::claims(stage.clock.now_s()), &GITLAB_2)
}

/// A good token but for its key id.
fn token_named(stage: &Stage, id: &str) -> String {
    let header = merged(GITLAB_1.header(), json!({ "kid": id }));
    signed(&header, &tokens::claims(stage.clock.now_s()), &GITLAB_1)
}

#[tokio::test(start_paused = true)]
async fn a_new_key_works_at_its_first_use() {
    let stage = Stage::open().await;
    // Even if it comes right after a refresh that nobody asked for.
    stage.network.publish(GITLAB, &[GITLAB_1.jwk(), GITLAB_2.jwk()]);
    let asked_at = Instant::now();
    assert_eq!(stage.code(&token_of_second_key(&stage)).await, "ok");
    assert!(asked_at.elapsed() < seconds(1));
    assert_eq!(stage.network.key_fetches(), 2);
    assert_eq!(stage.code(&stage.token()).await, "ok", "the former key is still published");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_published_no_more_is_refused_after_the_next_refresh() {
    let stage = Stage::open().await;
    let remembered = stage.token();
    let fresh = stage.token_with(json!({ "jti": "another" }));
    assert_eq!(stage.code(&remembered).await, "ok");
    stage.pass(seconds(60)).await;
    stage.network.publish(GITLAB, &[GITLAB_2.jwk()]);
    assert_eq!(stage.code(&remembered).await, "ok", "nobody knows yet");
    assert_eq!(stage.code(&token_of_second_key(&stage)).await, "ok");
    assert_eq!(stage.code(&remembered).await, "unknown_key");
    assert_eq!(stage.code(&fresh).await, "unknown_key");
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_every_hour_without_being_asked() {
    let stage = Stage::open().await;
    stage.network.publish(GITLAB, &[GITLAB_2.jwk()]);
    stage.pass(seconds(3599)).await;
    assert_eq!(stage.network.key_fetches(), 1);
    stage.pass(seconds(2)).await;
    assert_eq!(stage.network.key_fetches(), 2);
    assert_eq!(stage.auth.status()[0].key_ids, [GITLAB_2.id()]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_unknown_keys_cost_one_fetch_in_thirty_seconds() {
    let stage = Stage::open().await;
    for round in 0..3 {
        // Half of them at once, half one after the other.
        let token: Vec<String> = (0..10).map(|index| token_named(&stage, &format!("{round}-{index}"))).collect();
        let asked = (0..5_000).map(|index| stage.code(&token[index % token.len()]));
        for code in futures::future::join_all(asked).await {
            assert_eq!(code, "unknown_key");
        }
        for index in 0..5_000 {
            assert_eq!(stage.code(&token[index % token.len()]).await, "unknown_key");
        }
        assert_eq!(stage.network.key_fetches(), 2 + round);
        stage.pass(seconds(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_waits_two_seconds_at_most() {
    let stage = Stage::open().await;
    stage.network.answer(&format!("{GITLAB}{KEYS}"), Answer::Never);
    let asked_at = Instant::now();
    let unknown = token_of_second_key(&stage);
    let (code, ()) = futures::join!(stage.code(&unknown), async {
        stage.pass(seconds(1)).await;
        let known_at = Instant::now();
        assert_eq!(stage.code(&stage.token()).await, "ok");
        assert_eq!(known_at.elapsed(), Duration::ZERO, "a known key never waits");
    });
    assert_eq!(code, "unknown_key");
    assert_eq!(asked_at.elapsed(), seconds(2));
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_serves_whoever_comes_later() {
    let stage = Stage::open().await;
    let keys = json!({ "keys": [GITLAB_1.jwk(), GITLAB_2.jwk()] }).to_string();
    stage.network.answer(&format!("{GITLAB}{KEYS}"), Answer::Late(seconds(5), keys.into_bytes()));
    assert_eq!(stage.code(&token_of_second_key(&stage)).await, "unknown_key");
    stage.pass(seconds(4)).await;
    assert_eq!(stage.code(&token_of_second_key(&stage)).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_wrong_anyway_makes_nobody_wait() {
    let stage = Stage::open().await;
    let claims = tokens::claims_with(stage.clock.now_s(), json!({ "exp": 5 }));
    let asked_at = Instant::now();
    assert_eq!(stage.code(&signed(&STRANGER.header(), &claims, &STRANGER)).await, "expired");
    assert_eq!((asked_at.elapsed(), stage.network.key_fetches()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_up_at_the_start_and_no_restart_needed_later() {
    let network = Arc::new(Network::default());
    let scene = Scene { portal_url: crate::network::PORTAL.to_owned(), ..Scene::default() };
    let stage = Stage::set(scene, Arc::clone(&network), TurnedClock::new());
    assert_eq!(stage.code(&stage.token()).await, "no_keys");
    let reason = stage.identify(&stage.token()).await.map(|_| ()).expect_err("no keys").reason();
    assert!(reason.contains("no connection") && reason.contains("gitlab.url"), "{reason}");
    for status in stage.auth.status() {
        assert!(status.key_ids.is_empty() && status.age.is_none() && status.failure.is_some(), "{status:?}");
    }
    network.publish(GITLAB, &[GITLAB_1.jwk()]);
    stage.pass(seconds(6)).await;
    assert_eq!(stage.code(&stage.token()).await, "ok");
    let status = stage.auth.status();
    assert!(status[0].failure.is_none() && status[1].failure.is_some(), "the portal is still away");
}

#[tokio::test(start_paused = true)]
async fn a_token_before_the_first_keys_waits_for_them() {
    let network = Arc::new(Network::default());
    network.publish(GITLAB, &[]);
    let keys = json!({ "keys": [GITLAB_1.jwk()] }).to_string();
    network.answer(&format!("{GITLAB}{KEYS}"), Answer::Late(seconds(1), keys.into_bytes()));
    let stage = Stage::set(Scene::default(), network, TurnedClock::new());
    assert_eq!(stage.code(&stage.token()).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn attempts_during_an_outage_become_rarer() {
    let network = Arc::new(Network::default());
    let stage = Stage::set(Scene::default(), Arc::clone(&network), TurnedClock::new());
    let mut attempts = Vec::new();
    for second in 0..1300 {
        if network.key_fetches() > attempts.len() {
            attempts.push(second);
        }
        stage.pass(seconds(1)).await;
    }
    let waits: Vec<i32> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
}
