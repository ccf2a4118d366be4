//! The gateway's own keys and the tokens it signs with them.

use crate::gitlab::tokens::{self, GITLAB_1, GITLAB_2, INSTANCE_ID, STRANGER, USER_ID, signed};
use crate::network::{GITLAB, Network};
use crate::stage::{DAY, SERVICE, Scene, Stage, TurnedClock};
use sconce::auth::gitlab::{CallerKind, MintError, MintHeaders, OwnKeyError, OwnKeySettings, OwnKeys};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const HEADERS: MintHeaders<'static> =
    MintHeaders { global_user_id: Some(USER_ID), instance_id: Some(INSTANCE_ID), realm: Some("self-managed") };

async fn mint(stage: &Stage) -> String {
    let caller = stage.identify(&stage.token()).await.expect("a good token");
    stage.auth.mint(&caller, HEADERS).expect("minted").token
}

fn header_of(token: &str) -> Value {
    use base64::Engine as _;
    let header = token.split('.').next().expect("three parts");
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).expect("base64url");
    serde_json::from_slice(&header).expect("JSON")
}

/// A gateway with a state folder.
async fn with_folder(folder: &Path, clock: &TurnedClock) -> Stage {
    let network = Arc::new(Network::default());
    network.publish(GITLAB, &[GITLAB_1.jwk()]);
    let scene = Scene { signing_pem: None, folder: Some(folder.to_owned()), ..Scene::default() };
    let stage = Stage::set(scene, network, clock.clone());
    stage.settle().await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_minted_token_says_what_the_contract_says() {
    let network = Arc::new(Network::default());
    network.publish(GITLAB, &[GITLAB_1.jwk()]);
    let scene = Scene { signing_pem: Some(GITLAB_1.pem.to_owned()), ..Scene::default() };
    let stage = Stage::set(scene, network, TurnedClock::new());
    stage.settle().await;
    let now_s = stage.clock.now_s();
    let check = async |overrides: Value, headers: MintHeaders<'_>, expected: Value| {
        let realm = overrides.get("gitlab_realm").and_then(Value::as_str).unwrap_or("self-managed").to_owned();
        let authorization = format!("Bearer {}", stage.token_with(overrides));
        let credentials = sconce::auth::gitlab::Credentials {
            authorization: Some(&authorization),
            realm: Some(&realm),
            ..crate::stage::headers()
        };
        let caller = stage.auth.identify(credentials).await.expect("a good token");
        let minted = stage.auth.mint(&caller, headers).expect("minted");
        assert_eq!(minted.expires_at_s, now_s + 3600);
        assert!(!format!("{minted:?}").contains(&minted.token));
        let public = include_str!("keys/gitlab-1-public.pem");
        let mut claims = tokens::verified_claims(&minted.token, public, SERVICE);
        let id = claims.as_object_mut().expect("an object").remove("jti").expect("a jti");
        let id = id.as_str().expect("a text");
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_eq!(claims, expected);
        let header = json!({ "alg": "RS256", "kid": "gitlab-ai-gateway_signing_key", "typ": "JWT" });
        assert_eq!(header_of(&minted.token), header);
    };
    let base = json!({
        "iss": SERVICE, "aud": SERVICE, "sub": USER_ID,
        "exp": now_s + 3600, "nbf": now_s, "iat": now_s,
        "gitlab_realm": "self-managed", "gitlab_instance_id": INSTANCE_ID, "gitlab_instance_uid": null,
        "scopes": ["complete_code", "ai_gateway_model_provider_proxy"],
    });
    check(json!({}), HEADERS, base.clone()).await;
    let with_uid = tokens::merged(base.clone(), json!({ "gitlab_instance_uid": "uid-1" }));
    check(json!({ "gitlab_instance_uid": "uid-1" }), HEADERS, with_uid).await;
    let anonymous = json!({ "sub": null, "gitlab_instance_id": "", "scopes": ["complete_code"] });
    let nobody = MintHeaders { global_user_id: None, instance_id: None, realm: None };
    check(json!({ "scopes": ["complete_code", "x"] }), nobody, tokens::merged(base.clone(), anonymous)).await;
    let mut saas = tokens::merged(base, json!({ "gitlab_realm": "saas" }));
    saas.as_object_mut().expect("an object").remove("gitlab_instance_uid");
    let ids = json!({ "gitlab_project_id": "1", "gitlab_namespace_id": null, "gitlab_root_namespace_id": "3" });
    let overrides = json!({ "gitlab_realm": "saas", "gitlab_project_id": 1, "gitlab_root_namespace_id": "3" });
    check(overrides, MintHeaders { realm: Some("saas"), ..HEADERS }, tokens::merged(saas, ids)).await;
}

#[tokio::test(start_paused = true)]
async fn only_gitlab_may_ask_for_a_token() {
    let stage = Stage::open().await;
    let own = mint(&stage).await;
    let refused = MintError::Forbidden(sconce::auth::gitlab::Forbidden {
        detail: "Unauthorized to create user access token".to_owned(),
    });
    for token in [own, stage.token_with(json!({ "scopes": ["duo_chat"] })), stage.token_with(json!({ "scopes": [] }))] {
        let caller = stage.identify(&token).await.expect("a good token");
        let error = stage.auth.mint(&caller, HEADERS).expect_err("refused");
        assert_eq!(error, refused);
        assert_eq!(error.to_string(), "Unauthorized to create user access token");
    }
}

#[tokio::test(start_paused = true)]
async fn own_tokens_come_back_and_end_after_an_hour() {
    let stage = Stage::open().await;
    let token = mint(&stage).await;
    let caller = stage.identify(&token).await.expect("a good token");
    assert_eq!((caller.kind, &*caller.issuer), (CallerKind::Own, SERVICE));
    stage.pass(Duration::from_secs(3599)).await;
    assert_eq!(stage.code(&token).await, "ok");
    stage.pass(Duration::from_secs(40)).await;
    assert_eq!(stage.code(&token).await, "expired");
    // Somebody else's signature does not become ours by its key id.
    let header = header_of(&token);
    let claims = tokens::claims_with(stage.clock.now_s(), json!({ "iss": SERVICE, "sub": USER_ID }));
    assert_eq!(stage.code(&signed(&header, &claims, &STRANGER)).await, "bad_signature");
}

#[tokio::test(start_paused = true)]
async fn keys_of_every_form_can_be_configured() {
    let check = async |signing: &str, validation: Option<&str>| {
        let network = Arc::new(Network::default());
        network.publish(GITLAB, &[GITLAB_1.jwk()]);
        let scene = Scene {
            signing_pem: Some(signing.to_owned()),
            validation_pem: validation.map(str::to_owned),
            ..Scene::default()
        };
        let stage = Stage::set(scene, network, TurnedClock::new());
        stage.settle().await;
        let token = mint(&stage).await;
        assert_eq!(stage.code(&token).await, "ok");
        stage
    };
    let pkcs1 = include_str!("keys/gitlab-2-pkcs1.pem");
    check(GITLAB_2.pem, None).await;
    check(pkcs1, None).await;
    check(&pkcs1.replace('\n', "\\n"), None).await;
    check(&pkcs1.replace('\n', "\r\n"), None).await;
    check(&format!("Bag Attributes: none\n{}\ntrailing text\n", GITLAB_2.pem), None).await;
    // A token signed with what is now the validation key, under its former or its present name.
    for validation in
        [STRANGER.pem, include_str!("keys/gitlab-1-public.pem"), include_str!("keys/gitlab-1-public-pkcs1.pem")]
    {
        let stage = check(GITLAB_2.pem, Some(validation)).await;
        let key = if validation == STRANGER.pem { STRANGER } else { GITLAB_1 };
        let claims = json!({ "iss": SERVICE, "sub": USER_ID, "aud": SERVICE });
        let claims = tokens::claims_with(stage.clock.now_s(), claims);
        for id in ["gitlab-ai-gateway_signing_key", "gitlab-ai-gateway_validation_key"] {
            let token = signed(&json!({ "alg": "RS256", "kid": id }), &claims, &key);
            assert_eq!(stage.code(&token).await, "ok", "{id}");
        }
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused_by_name() {
    let open = |signing: Option<&str>, validation: Option<&str>| {
        let settings = OwnKeySettings {
            service: SERVICE.to_owned(),
            signing_pem: signing.map(str::to_owned),
            validation_pem: validation.map(str::to_owned),
            folder: None,
            rotate_after: 90 * DAY,
        };
        assert!(!format!("{settings:?}").contains("BEGIN"));
        OwnKeys::open(settings, sconce::auth::gitlab::WallClock::system()).map(|_| ()).expect_err("refused").to_string()
    };
    let signing = "gitlab.signing_key (AIGW_SELF_SIGNED_JWT__SIGNING_KEY) cannot be used: ";
    let broken = GITLAB_1.pem.replace("-----END", "-----EDN");
    let cases = [
        ("not a key", "no PEM in it"),
        ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "no PEM in it"),
        (broken.as_str(), "no matching -----END PRIVATE KEY-----"),
        ("-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----", "something other than base64"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "not an RSA key of 2048 to 8192 bits"),
        (include_str!("keys/elliptic.pem"), "not an RSA key of 2048 to 8192 bits"),
        (include_str!("keys/short.pem"), "2048 to 8192"),
        (include_str!("keys/encrypted.pem"), "the key is encrypted"),
        (include_str!("keys/gitlab-1-public.pem"), "a private one is needed"),
    ];
    for (pem, expected) in cases {
        let error = open(Some(pem), None);
        assert!(error.starts_with(signing) && error.contains(expected), "{error}");
        assert!(!error.contains("MII"), "{error}");
    }
    let error = open(Some(GITLAB_1.pem), Some("nothing"));
    assert!(
        error.starts_with("gitlab.validation_key (AIGW_SELF_SIGNED_JWT__VALIDATION_KEY) cannot be used: "),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_made_once_and_shared_by_replicas() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let clock = TurnedClock::new();
    let first = with_folder(&state, &clock).await;
    let second = with_folder(&state, &clock).await;
    let token = mint(&first).await;
    assert_eq!(second.code(&token).await, "ok");
    assert_eq!(first.code(&mint(&second).await).await, "ok");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join("signing_key.pem"))), (0o700, 0o600));
        assert_eq!(mode(&state.join("keys-gitlab.json")), 0o600);
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&state).expect("is there").map(|entry| entry.expect("is there").file_name()).collect();
    names.sort();
    assert_eq!(names, ["keys-gitlab.json", "signing_key.pem"], "nothing temporary is left");
}

#[tokio::test(start_paused = true)]
async fn an_old_key_is_replaced_and_its_tokens_stay_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = TurnedClock::new();
    let first = with_folder(folder.path(), &clock).await;
    let second = with_folder(folder.path(), &clock).await;
    clock.turn(90 * 86_400 - 1800);
    first.network.publish(GITLAB, &[GITLAB_1.jwk()]);
    let former = mint(&first).await;
    // One of the two replaces the key at the next hourly look; the other sees its tokens before it looks itself.
    first.close().await;
    second.pass(Duration::from_secs(3601)).await;
    let first = with_folder(folder.path(), &clock).await;
    let pem = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("is there");
    assert_ne!(pem("signing_key.pem"), pem("previous_signing_key.pem"));
    clock.turn(-1000);
    for stage in [&first, &second] {
        assert_eq!(stage.code(&former).await, "ok");
        assert_eq!(stage.code(&mint(stage).await).await, "ok");
    }
    clock.turn(1000);
    second.pass(Duration::from_secs(3 * 3600 + 3601)).await;
    assert!(!folder.path().join("previous_signing_key.pem").exists());
    assert_eq!(second.code(&former).await, "expired");
}

#[tokio::test(start_paused = true)]
async fn a_replica_learns_of_a_new_key_from_its_first_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = TurnedClock::new();
    let here = with_folder(folder.path(), &clock).await;
    // Another replica replaces the key.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other = with_folder(elsewhere.path(), &clock).await;
    let token = mint(&other).await;
    assert_eq!(here.code(&token).await, "bad_signature");
    let copy = |name: &str| std::fs::copy(elsewhere.path().join(name), folder.path().join(name)).expect("copied");
    copy("signing_key.pem");
    here.pass(Duration::from_secs(6)).await;
    assert_eq!(here.code(&token).await, "ok");
}

#[test]
fn a_broken_key_file_is_named_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("signing_key.pem");
    std::fs::write(&path, "half a key").expect("written");
    let settings = OwnKeySettings {
        service: SERVICE.to_owned(),
        signing_pem: None,
        validation_pem: None,
        folder: Some(folder.path().to_owned()),
        rotate_after: 90 * DAY,
    };
    let error = OwnKeys::open(settings, sconce::auth::gitlab::WallClock::system()).map(|_| ()).expect_err("refused");
    assert!(matches!(error, OwnKeyError::File { .. }));
    assert!(error.to_string().contains("signing_key.pem"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("is there"), "half a key");
}

#[tokio::test(start_paused = true)]
async fn without_a_folder_the_key_is_kept_in_memory() {
    let network = Arc::new(Network::default());
    network.publish(GITLAB, &[GITLAB_1.jwk()]);
    let stage = Stage::set(Scene { signing_pem: None, ..Scene::default() }, network, TurnedClock::new());
    stage.settle().await;
    assert_eq!(stage.code(&mint(&stage).await).await, "ok");
    assert_eq!(
        stage.code(&signed(&GITLAB_2.header(), &tokens::claims(stage.clock.now_s()), &GITLAB_2)).await,
        "unknown_key"
    );
}
