//! The exact words of a refusal, in the contract's order, and the finer reasons behind them.

use crate::gitlab::tokens::{INSTANCE_ID, USER_ID};
use crate::stage::{Stage, headers};
use sconce::auth::gitlab::{CallerKind, Credentials, MintHeaders};
use serde_json::{Value, json};
use std::time::Duration;

const FORBIDDEN: &str = "Forbidden by auth provider";

/// `expected` is the text of the 401 and its code.
async fn check(stage: &Stage, credentials: Credentials<'_>, expected: Result<CallerKind, (&str, &str)>) {
    let found = stage.auth.identify(credentials).await;
    let found = found.map(|caller| caller.kind).map_err(|error| (error.to_string(), error.code()));
    assert_eq!(found, expected.map_err(|(text, code)| (text.to_owned(), code)));
}

#[tokio::test(start_paused = true)]
async fn checks_come_in_order() {
    let stage = Stage::open().await;
    let good = format!("Bearer {}", stage.token());
    let with = |authorization| Credentials { authorization, ..headers() };
    let nothing = Credentials::default();
    check(&stage, nothing, Err(("No authorization header presented", "no_authorization"))).await;
    check(&stage, with(None), Err(("No authorization header presented", "no_authorization"))).await;
    let scheme = ("Invalid authorization header", "not_bearer");
    for authorization in ["Basic abc", "", " Bearer x", "Bearerx y", "Token"] {
        check(&stage, with(Some(authorization)), Err(scheme)).await;
        check(&stage, Credentials { authorization: Some(authorization), ..nothing }, Err(scheme)).await;
    }
    let kind = ("Invalid authentication token type - only OIDC is supported", "not_oidc");
    for authentication_type in [None, Some("password"), Some("OIDC"), Some("")] {
        let credentials = Credentials { authentication_type, ..with(Some(&good)) };
        check(&stage, credentials, Err(kind)).await;
        check(&stage, Credentials { authorization: Some("Bearer"), ..credentials }, Err(kind)).await;
    }
    for empty in ["Bearer", "Bearer ", "bearer   "] {
        check(&stage, with(Some(empty)), Err((FORBIDDEN, "empty_token"))).await;
    }
    check(&stage, with(Some("Bearer abc.def.ghi")), Err((FORBIDDEN, "malformed_token"))).await;
    check(&stage, with(Some(&good)), Ok(CallerKind::Gitlab)).await;
    check(&stage, with(Some(&good.replace("Bearer", "bEARER"))), Ok(CallerKind::Gitlab)).await;
}

#[tokio::test(start_paused = true)]
async fn claims_bind_headers() {
    let stage = Stage::open().await;
    let good = format!("Bearer {}", stage.token());
    let with = Credentials { authorization: Some(&good), ..headers() };
    let realm = ("Header mismatch 'X-Gitlab-Realm'", "realm_mismatch");
    let instance = ("Header mismatch 'X-Gitlab-Instance-Id'", "instance_mismatch");
    // Twice, because the second time the token is remembered.
    for _ in 0..2 {
        check(&stage, with, Ok(CallerKind::Gitlab)).await;
        for value in [None, Some("saas"), Some("Self-Managed"), Some("")] {
            check(&stage, Credentials { realm: value, ..with }, Err(realm)).await;
        }
        for value in [None, Some("00000000-0000-0000-0000-000000000000"), Some("")] {
            check(&stage, Credentials { instance_id: value, ..with }, Err(instance)).await;
            check(&stage, Credentials { instance_id: value, realm: None, ..with }, Err(realm)).await;
        }
        // Nobody's token names a person here.
        check(&stage, Credentials { global_user_id: None, ..with }, Ok(CallerKind::Gitlab)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn absent_claims_ask_for_nothing() {
    let stage = Stage::open().await;
    let check_token = async |overrides: Value, change: fn(&mut Credentials<'static>), expected: &str| {
        let authorization = format!("Bearer {}", stage.token_with(overrides.clone()));
        let mut credentials = headers();
        change(&mut credentials);
        let found = stage.auth.identify(Credentials { authorization: Some(&authorization), ..credentials }).await;
        let found = found.map_or_else(|error| error.code(), |_| "ok");
        assert_eq!(found, expected, "{overrides}");
    };
    check_token(json!({ "sub": "" }), |sent| sent.instance_id = None, "ok").await;
    check_token(json!({ "sub": null }), |sent| sent.instance_id = None, "ok").await;
    check_token(json!({ "gitlab_realm": "" }), |sent| sent.realm = Some("saas"), "ok").await;
    check_token(json!({ "iss": "https://whatever.test" }), |_| {}, "ok").await;
    check_token(json!({ "aud": "gitlab-ai-gateway" }), |_| {}, "ok").await;
    check_token(json!({ "aud": ["other"] }), |_| {}, "audience").await;
    check_token(json!({ "aud": [] }), |_| {}, "audience").await;
    check_token(json!({ "aud": "gitlab-ai-gateway-2" }), |_| {}, "audience").await;
    check_token(json!({ "scopes": null }), |_| {}, "ok").await;
    check_token(json!({ "duo_seat_count": "7" }), |_| {}, "ok").await;
    check_token(json!({ "duo_seat_count": 7 }), |sent| sent.seat_count = Some("7"), "ok").await;
    check_token(json!({ "duo_seat_count": "7" }), |sent| sent.seat_count = Some("8"), "seat_count_mismatch").await;
    check_token(json!({ "duo_seat_count": "7" }), |sent| sent.gitlab_version = Some("17.9.1"), "header_missing").await;
}

#[tokio::test(start_paused = true)]
async fn an_own_token_names_a_person() {
    let stage = Stage::open().await;
    let caller = stage.identify(&stage.token()).await.expect("a good token");
    let mint =
        MintHeaders { global_user_id: Some(USER_ID), instance_id: Some(INSTANCE_ID), realm: Some("self-managed") };
    let own = format!("Bearer {}", stage.auth.mint(&caller, mint).expect("minted").token);
    let with = Credentials { authorization: Some(&own), ..headers() };
    check(&stage, with, Ok(CallerKind::Own)).await;
    check(&stage, Credentials { instance_id: None, ..with }, Ok(CallerKind::Own)).await;
    let user = ("Header mismatch 'X-Gitlab-Global-User-Id'", "user_mismatch");
    for value in [None, Some("someone-else"), Some("")] {
        let credentials = Credentials { global_user_id: value, ..with };
        check(&stage, credentials, Err(user)).await;
        let error = stage.auth.identify(credentials).await.expect_err("refused");
        assert!(!error.reason().contains(USER_ID), "{}", error.reason());
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_may_differ_by_half_a_minute() {
    let stage = Stage::open().await;
    let now_s = stage.clock.now_s();
    for (overrides, expected) in [
        (json!({ "exp": now_s - 29 }), "ok"),
        (json!({ "exp": now_s - 30 }), "expired"),
        (json!({ "exp": now_s - 60 }), "expired"),
        (json!({ "exp": now_s - 600 }), "expired"),
        (json!({ "exp": 0 }), "expired"),
        (json!({ "exp": u64::MAX }), "ok"),
        (json!({ "nbf": now_s + 30 }), "ok"),
        (json!({ "nbf": now_s + 31 }), "not_yet_valid"),
        (json!({ "nbf": now_s + 600 }), "not_yet_valid"),
        (json!({ "nbf": u64::MAX }), "not_yet_valid"),
        (json!({ "iat": now_s + 600 }), "ok"),
    ] {
        let token = stage.token_with(overrides.clone());
        assert_eq!(stage.code(&token).await, expected, "{overrides}");
        if let Err(error) = stage.identify(&token).await {
            assert!(error.reason().contains("clock skew"), "{}", error.reason());
            assert_eq!(error.to_string(), FORBIDDEN);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn turning_the_clock_back_prolongs_no_token() {
    let stage = Stage::open().await;
    let now_s = stage.clock.now_s();
    let token = stage.token_with(json!({ "exp": now_s + 60, "nbf": now_s - 7200 }));
    assert_eq!(stage.code(&token).await, "ok");
    stage.clock.turn(-3600);
    stage.pass(Duration::from_secs(89)).await;
    assert_eq!(stage.code(&token).await, "ok", "the leeway is not over yet");
    stage.pass(Duration::from_secs(2)).await;
    assert_eq!(stage.code(&token).await, "expired");
    stage.pass(Duration::from_secs(600)).await;
    assert_eq!(stage.code(&token).await, "expired");
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_ends_when_it_should() {
    let stage = Stage::open().await;
    let token = stage.token();
    assert_eq!(stage.code(&token).await, "ok");
    stage.clock.turn(4000);
    assert_eq!(stage.code(&token).await, "expired", "the wall clock was put right");
    stage.clock.turn(-4000);
    assert_eq!(stage.code(&token).await, "ok");
    stage.pass(Duration::from_secs(3700)).await;
    assert_eq!(stage.code(&token).await, "expired");
}
