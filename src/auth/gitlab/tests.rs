//! What cannot be seen from outside; `tests/auth` holds the rest.

use super::cache::{Found, TokenCache, TokenDigest};
use super::claims::Claims;
use super::clock::WallClock;
use super::key::{KeyParts, VerifyingKey};
use super::own_keys::{OwnKeySettings, OwnKeys};
use super::token::{Token, signing_input, with_signature};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NOW_S: u64 = 1_760_000_000;

fn key() -> VerifyingKey {
    let jwk: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/auth/keys/gitlab-1.jwk.json")).expect("a JSON file");
    let part = |name: &str| jwk[name].as_str().expect("a text").to_owned();
    VerifyingKey::from_parts(None, KeyParts { n: part("n"), e: part("e") }).expect("an RSA key")
}

fn claims(exp: u64) -> Arc<Claims> {
    let text = with_signature(signing_input(&json!({ "alg": "RS256" }), &json!({ "exp": exp })), b"");
    Arc::new(Token::parse(&text).expect("a token").claims)
}

#[test]
fn the_cache_is_bounded_and_forgets_the_oldest() {
    let (cache, signed_by) = (TokenCache::default(), key().fingerprint);
    let claims = claims(NOW_S + 3600);
    let digest = |index: usize| TokenDigest::of(&format!("token {index}"));
    for index in 0..10_000 {
        cache.keep(digest(index), Arc::clone(&claims), signed_by, NOW_S);
        cache.keep(digest(index), Arc::clone(&claims), signed_by, NOW_S);
    }
    assert_eq!(cache.len(), 4096);
    assert!(matches!(cache.find(&digest(9_999)), Found::Verified { .. }));
    assert!(matches!(cache.find(&digest(10_000 - 4096)), Found::Verified { .. }));
    assert!(matches!(cache.find(&digest(10_000 - 4097)), Found::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_verification_holds_for_five_minutes() {
    let (cache, signed_by) = (TokenCache::default(), key().fingerprint);
    let digest = TokenDigest::of("token");
    cache.keep(digest, claims(NOW_S + 400), signed_by, NOW_S);
    tokio::time::advance(Duration::from_secs(299)).await;
    assert!(matches!(cache.find(&digest), Found::Verified { .. }));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(cache.find(&digest), Found::Unknown));
    // Verified again by a wall clock that was turned back an hour: the first end stays.
    cache.keep(digest, claims(NOW_S + 400), signed_by, NOW_S - 3600);
    tokio::time::advance(Duration::from_secs(129)).await;
    assert!(matches!(cache.find(&digest), Found::Verified { .. }));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(cache.find(&digest), Found::Over { .. }));
}

fn open(folder: &Path, now_s: u64) -> OwnKeys {
    let settings = OwnKeySettings {
        service: "gitlab-ai-gateway".to_owned(),
        signing_pem: None,
        validation_pem: None,
        folder: Some(folder.to_owned()),
        rotate_after: Duration::from_secs(1000),
    };
    OwnKeys::open(settings, WallClock::new(move || -> SystemTime { UNIX_EPOCH + Duration::from_secs(now_s) }))
        .expect("a key")
}

#[test]
fn replicas_that_start_at_once_agree_on_one_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let signers = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| open(folder.path(), NOW_S))).collect();
        starting.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    let signature = signers[0].sign(b"message").expect("signed");
    for own in &signers {
        assert!(own.verifying_keys()[0].verifies(b"message", &signature));
    }
}

#[test]
fn one_replica_at_a_time_replaces_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let signature = open(folder.path(), NOW_S).sign(b"message").expect("signed");
    let old = open(folder.path(), NOW_S + 1000);
    let lock = folder.path().join("signing_key.lock");
    std::fs::write(&lock, "").expect("written");
    assert!(!old.rotate_if_due().expect("no error"), "another replica is at it");
    let long_ago = SystemTime::now() - Duration::from_secs(61);
    std::fs::File::options().write(true).open(&lock).expect("is there").set_modified(long_ago).expect("set");
    assert!(old.rotate_if_due().expect("no error"), "it was left behind");
    assert!(!lock.exists());
    assert!(!old.rotate_if_due().expect("no error"), "the key is new");
    let keys = old.verifying_keys();
    assert_eq!(keys.len(), 2);
    assert!(!keys[0].verifies(b"message", &signature) && keys[1].verifies(b"message", &signature));
    // The former key is forgotten when its tokens are over.
    assert_eq!(open(folder.path(), NOW_S + 1000 + 3 * 3600).verifying_keys().len(), 2);
    assert_eq!(open(folder.path(), NOW_S + 1001 + 3 * 3600).verifying_keys().len(), 1);
}
