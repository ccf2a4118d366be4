//! The switches that turn authentication off.

use crate::gitlab::tokens::{GITLAB_1, STRANGER, claims, claims_with, signed, unsigned};
use crate::network::Network;
use crate::stage::{Scene, Stage, TurnedClock, headers};
use sconce::auth::gitlab::{Bypass, BypassSettings, CallerKind, Credentials, Endpoint, MintHeaders};
use serde_json::json;
use std::sync::Arc;

fn stage(bypass: BypassSettings) -> Stage {
    Stage::set(Scene { bypass, ..Scene::default() }, Arc::new(Network::default()), TurnedClock::new())
}

#[tokio::test(start_paused = true)]
async fn the_header_means_nothing_unless_switched_on() {
    let stage = Stage::open().await;
    let credentials = Credentials { bypass_auth: Some("true"), ..Credentials::default() };
    assert_eq!(
        stage.auth.identify(credentials).await.map(|_| ()).map_err(|error| error.code()),
        Err("no_authorization")
    );
    let caller = stage.identify(&stage.token()).await.expect("a good token");
    assert_eq!(caller.bypass, None);
    assert!(BypassSettings::default().open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_authentication_everybody_is_debug() {
    let bypass = BypassSettings { external: true, ..BypassSettings::default() };
    let stage = stage(bypass);
    assert_eq!(bypass.open(), [Bypass::External]);
    for credentials in [Credentials::default(), Credentials { authorization: Some("Basic x"), ..headers() }] {
        let caller = stage.auth.identify(credentials).await.expect("everybody is let in");
        assert_eq!((caller.kind, caller.bypass), (CallerKind::Bypass, Some(Bypass::External)));
        assert_eq!(&*caller.principal.name, "debug");
        assert!(caller.principal.cache_salt.0 > 1);
        for endpoint in [Endpoint::CodeGenerations, Endpoint::UserAccessToken, Endpoint::Embeddings] {
            assert_eq!(caller.may(endpoint), Ok(()));
        }
        assert!(stage.auth.mint(&caller, MintHeaders::default()).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn the_header_has_one_value() {
    let stage = stage(BypassSettings { external_with_header: true, ..BypassSettings::default() });
    for (bypass_auth, expected) in
        [(Some("true"), Ok(Some(Bypass::Header))), (Some("True"), Err("not_bearer")), (None, Err("not_bearer"))]
    {
        let credentials = Credentials { authorization: Some("Basic x"), bypass_auth, ..headers() };
        let found = stage.auth.identify(credentials).await;
        assert_eq!(found.map(|caller| caller.bypass).map_err(|error| error.code()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_signatures_the_rest_still_counts() {
    let stage = stage(BypassSettings { signature: true, ..BypassSettings::default() });
    let now_s = stage.clock.now_s();
    for (token, expected) in [
        (signed(&STRANGER.header(), &claims(now_s), &STRANGER), "ok"),
        (unsigned(&json!({ "alg": "none" }), &claims(now_s)), "ok"),
        (signed(&GITLAB_1.header(), &claims_with(now_s, json!({ "exp": now_s - 60 })), &GITLAB_1), "expired"),
        (signed(&GITLAB_1.header(), &claims_with(now_s, json!({ "aud": "x" })), &GITLAB_1), "audience"),
        (signed(&GITLAB_1.header(), &claims_with(now_s, json!({ "sub": "x" })), &GITLAB_1), "instance_mismatch"),
        (String::new(), "empty_token"),
    ] {
        assert_eq!(stage.code(&token).await, expected);
    }
    let caller = stage.identify(&unsigned(&json!({ "alg": "none" }), &claims(now_s))).await.expect("let in");
    assert_eq!((caller.kind, caller.bypass), (CallerKind::Gitlab, Some(Bypass::Signature)));
    assert!(caller.may(Endpoint::Embeddings).is_err());
}
