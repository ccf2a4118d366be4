//! What issuers and the road to them do wrong, and that the last good keys survive it.

use crate::gitlab::tokens::{self, GITLAB_1, GITLAB_2, STRANGER, merged, signed};
use crate::network::{Answer, DISCOVERY, GITLAB, KEYS, Network, PORTAL};
use crate::stage::{Scene, Stage, TurnedClock};
use sconce::auth::gitlab::{FetchErrorKind, GitlabAuth, GitlabAuthSettings, OwnKeySettings, OwnKeys};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3601);

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_survive_whatever_comes_back() {
    let duplicate = merged(GITLAB_2.jwk(), json!({ "kid": GITLAB_1.id() }));
    let key_set = |keys: serde_json::Value| Answer::json(&json!({ "keys": keys }));
    let many: Vec<_> = (0..65).map(|index| merged(GITLAB_2.jwk(), json!({ "kid": index.to_string() }))).collect();
    let cases = [
        ("status", Answer::Error(FetchErrorKind::Status(500))),
        ("timeout", Answer::Error(FetchErrorKind::Timeout)),
        ("timeout", Answer::Never),
        ("tls", Answer::Error(FetchErrorKind::Tls)),
        ("redirect", Answer::Error(FetchErrorKind::Redirect)),
        ("too_large", Answer::Error(FetchErrorKind::TooLarge)),
        ("too_large", Answer::Body(vec![b' '; 10_000_000])),
        ("html", Answer::Body(b"  <!DOCTYPE html><html>Sign in</html>".to_vec())),
        ("json", Answer::Body(b"maintenance".to_vec())),
        ("json", Answer::Body(Vec::new())),
        ("json", Answer::Body(b"{\"keys\": [".to_vec())),
        ("json", Answer::Body(b"[]".to_vec())),
        ("json", Answer::json(&json!({ "keys": { "kid": "x" } }))),
        ("json", Answer::json(&json!({ "keys": ["x"] }))),
        ("json", Answer::json(&json!({ "issuer": GITLAB }))),
        ("no_keys", key_set(json!([]))),
        ("no_keys", key_set(json!([{ "kty": "EC", "kid": "x", "crv": "P-256", "x": "AA", "y": "AA" }]))),
        ("no_keys", key_set(json!([merged(GITLAB_2.jwk(), json!({ "use": "enc" }))]))),
        ("no_keys", key_set(json!([merged(GITLAB_2.jwk(), json!({ "alg": "RS512" }))]))),
        ("no_keys", key_set(json!([merged(GITLAB_2.jwk(), json!({ "n": 5 }))]))),
        ("no_keys", key_set(json!([tokens::SHORT.jwk()]))),
        ("duplicate_kid", key_set(json!([GITLAB_1.jwk(), duplicate]))),
        ("too_large", key_set(json!(many))),
    ];
    for (code, answer) in cases {
        let stage = Stage::open().await;
        stage.network.answer(&format!("{GITLAB}{KEYS}"), answer);
        stage.pass(HOUR + Duration::from_secs(10)).await;
        assert_eq!(stage.code(&stage.token()).await, "ok", "{code}");
        let status = &stage.auth.status()[0];
        let failure = status.failure.as_ref().expect(code);
        assert_eq!(failure.attempts[0].problem.code(), code, "{failure}");
        assert_eq!(status.key_ids, [GITLAB_1.id()]);
        let text = failure.to_string();
        assert!(text.contains(&format!("{GITLAB}{KEYS}: ")) && text.contains("Next step: "), "{text}");
        // And the keys come back by themselves.
        stage.network.publish(GITLAB, &[GITLAB_2.jwk()]);
        stage.pass(Duration::from_secs(11)).await;
        assert!(stage.auth.status()[0].failure.is_none(), "{code}");
        assert_eq!(stage.auth.status()[0].key_ids, [GITLAB_2.id()]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_set_adds_and_removes_nothing() {
    let stage = Stage::open().await;
    let broken = merged(STRANGER.jwk(), json!({ "n": "&&&" }));
    stage.network.publish(GITLAB, &[GITLAB_2.jwk(), broken]);
    stage.pass(HOUR).await;
    assert_eq!(stage.code(&stage.token()).await, "ok");
    let second = signed(&GITLAB_2.header(), &tokens::claims(stage.clock.now_s()), &GITLAB_2);
    assert_eq!(stage.code(&second).await, "ok");
    assert!(stage.auth.status()[0].skipped[0].contains("not base64url"));
}

#[tokio::test(start_paused = true)]
async fn the_same_key_twice_is_one_key() {
    let stage = Stage::open().await;
    stage.network.publish(GITLAB, &[GITLAB_2.jwk(), GITLAB_2.jwk(), GITLAB_1.jwk()]);
    stage.pass(HOUR).await;
    assert_eq!(stage.auth.status()[0].key_ids, [GITLAB_2.id(), GITLAB_1.id()]);
}

#[tokio::test(start_paused = true)]
async fn one_issuer_does_not_hold_up_the_other() {
    let network = Arc::new(Network::default());
    network.publish(GITLAB, &[GITLAB_1.jwk()]);
    network.answer(&format!("{PORTAL}{DISCOVERY}"), Answer::Never);
    let scene = Scene { portal_url: PORTAL.to_owned(), ..Scene::default() };
    let stage = Stage::set(scene, Arc::clone(&network), TurnedClock::new());
    stage.settle().await;
    assert_eq!(stage.code(&stage.token()).await, "ok");
    network.publish(PORTAL, &[STRANGER.jwk()]);
    stage.pass(Duration::from_secs(60)).await;
    let claims = tokens::claims_with(stage.clock.now_s(), json!({ "iss": PORTAL }));
    assert_eq!(stage.code(&signed(&STRANGER.header(), &claims, &STRANGER)).await, "ok");
    assert_eq!(network.count(&format!("{PORTAL}{KEYS}")), 1);
}

/// Where keys are looked for, in order.
#[tokio::test(start_paused = true)]
async fn every_road_to_gitlab_is_tried() {
    struct Case {
        url: &'static str,
        /// Discovery's place, what it calls itself, and where it says the keys are.
        discovery: Option<(&'static str, &'static str, &'static str)>,
        keys: &'static str,
        asked: &'static [&'static str],
    }
    let host = "https://host.test";
    let cases = [
        Case {
            url: "https://host.test/",
            discovery: Some(("https://host.test", "https://host.test", "https://host.test/oauth/discovery/keys")),
            keys: "https://host.test/oauth/discovery/keys",
            asked: &["https://host.test/.well-known/openid-configuration", "https://host.test/oauth/discovery/keys"],
        },
        // Discovery under the relative root.
        Case {
            url: "https://host.test/gitlab/",
            discovery: Some(("https://host.test/gitlab", "x", "https://host.test/gitlab/oauth/discovery/keys")),
            keys: "https://host.test/gitlab/oauth/discovery/keys",
            asked: &[
                "https://host.test/gitlab/.well-known/openid-configuration",
                "https://host.test/gitlab/oauth/discovery/keys",
            ],
        },
        // Discovery at the origin, of the GitLab under the relative root.
        Case {
            url: "https://host.test/gitlab",
            discovery: Some((host, "https://public.test/gitlab", "https://host.test/gitlab/keys")),
            keys: "https://host.test/gitlab/keys",
            asked: &[
                "https://host.test/gitlab/.well-known/openid-configuration",
                "https://host.test/.well-known/openid-configuration",
                "https://host.test/gitlab/keys",
            ],
        },
        // Discovery at the origin, of somebody else: not believed.
        Case {
            url: "https://host.test/gitlab",
            discovery: Some((host, host, "https://host.test/keys")),
            keys: "https://host.test/gitlab/oauth/discovery/keys",
            asked: &[
                "https://host.test/gitlab/.well-known/openid-configuration",
                "https://host.test/.well-known/openid-configuration",
                "https://host.test/gitlab/oauth/discovery/keys",
            ],
        },
        // Reached by an internal name; the announced one cannot be reached.
        Case {
            url: "http://gitlab.internal:8080",
            discovery: Some(("http://gitlab.internal:8080", "x", "https://public.test/oauth/discovery/keys")),
            keys: "http://gitlab.internal:8080/oauth/discovery/keys",
            asked: &[
                "http://gitlab.internal:8080/.well-known/openid-configuration",
                "https://public.test/oauth/discovery/keys",
                "http://gitlab.internal:8080/oauth/discovery/keys",
            ],
        },
        Case {
            url: "https://host.test",
            discovery: None,
            keys: "https://host.test/oauth/discovery/keys",
            asked: &["https://host.test/.well-known/openid-configuration", "https://host.test/oauth/discovery/keys"],
        },
        // An address that is none.
        Case {
            url: "https://host.test",
            discovery: Some((host, host, "file:///etc/passwd")),
            keys: "https://host.test/oauth/discovery/keys",
            asked: &["https://host.test/.well-known/openid-configuration", "https://host.test/oauth/discovery/keys"],
        },
    ];
    for case in cases {
        let network = Arc::new(Network::default());
        if let Some((base, issuer, keys)) = case.discovery {
            network.answer(&format!("{base}{DISCOVERY}"), Answer::json(&json!({ "issuer": issuer, "jwks_uri": keys })));
        }
        network.answer(case.keys, Answer::json(&json!({ "keys": [GITLAB_1.jwk()] })));
        let scene = Scene { gitlab_url: case.url.to_owned(), ..Scene::default() };
        let stage = Stage::set(scene, Arc::clone(&network), TurnedClock::new());
        stage.settle().await;
        assert_eq!(stage.code(&stage.token()).await, "ok", "{}", case.url);
        assert_eq!(network.asked(), case.asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_during_an_outage_serves_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let scene =
        |url: &str| Scene { gitlab_url: url.to_owned(), folder: Some(folder.path().to_owned()), ..Scene::default() };
    let network = Arc::new(Network::default());
    network.publish(GITLAB, &[GITLAB_1.jwk()]);
    let clock = TurnedClock::new();
    let stage = Stage::set(scene(GITLAB), Arc::clone(&network), clock.clone());
    stage.settle().await;
    let token = stage.token();
    stage.close().await;

    network.cut(GITLAB);
    let stage = Stage::set(scene(GITLAB), Arc::clone(&network), clock.clone());
    assert_eq!(stage.code(&token).await, "ok");
    stage.pass(Duration::from_secs(100)).await;
    assert_eq!(stage.code(&token).await, "ok");
    let status = &stage.auth.status()[0];
    assert!(status.failure.is_some() && status.age >= Some(Duration::from_secs(100)), "{status:?}");
    stage.close().await;

    // Keys of another GitLab are not this one's.
    let stage = Stage::set(scene("https://other.test"), network, clock.clone());
    stage.settle().await;
    assert_eq!(stage.code(&token).await, "no_keys");
    stage.close().await;

    let file = folder.path().join("keys-gitlab.json");
    std::fs::write(&file, "{\"url\":").expect("written");
    let stage = Stage::set(scene(GITLAB), Arc::default(), clock);
    stage.settle().await;
    assert_eq!(stage.code(&token).await, "no_keys");
}

#[tokio::test(start_paused = true)]
async fn no_address_means_no_network() {
    let network = Arc::new(Network::default());
    let scene = Scene { gitlab_url: String::new(), ..Scene::default() };
    let stage = Stage::set(scene, Arc::clone(&network), TurnedClock::new());
    assert_eq!(stage.code(&stage.token()).await, "no_keys");
    stage.pass(2 * HOUR).await;
    let reason = stage.identify(&stage.token()).await.map(|_| ()).expect_err("no keys").reason();
    assert!(reason.contains("gitlab.url (AIGW_GITLAB_URL) is not set"), "{reason}");
    assert!(network.asked().is_empty() && stage.auth.status().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_none_is_refused_at_the_start() {
    for url in ["gitlab.example.com", "ftp://host", "https://", "https://a@host", "https://host?x", "https://h#x", "/x"]
    {
        let clock = TurnedClock::new();
        let own = OwnKeySettings {
            service: "x".to_owned(),
            signing_pem: Some(GITLAB_2.pem.to_owned()),
            validation_pem: None,
            folder: None,
            rotate_after: HOUR,
        };
        let own = OwnKeys::open(own, clock.wall()).expect("a good key");
        let settings = GitlabAuthSettings {
            gitlab_url: url.to_owned(),
            portal_url: String::new(),
            service: "x".to_owned(),
            state_folder: None,
            enforcement: sconce::auth::gitlab::Enforcement::Scopes,
            bypass: sconce::auth::gitlab::BypassSettings::default(),
        };
        let error = GitlabAuth::new(settings, own, Arc::new(Network::default()), clock.wall()).map(|_| ());
        let error = error.expect_err(url).to_string();
        assert!(error.starts_with("gitlab.url (AIGW_GITLAB_URL) cannot be used: "), "{error}");
    }
}
