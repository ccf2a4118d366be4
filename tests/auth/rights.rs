//! What a caller may do, with the exact words of the 403.

use crate::gitlab::tokens::{INSTANCE_ID, USER_ID};
use crate::network::{GITLAB, Network};
use crate::stage::{Scene, Stage, TurnedClock, headers};
use sconce::auth::gitlab::{Caller, Credentials, Endpoint, Enforcement, MintHeaders};
use serde_json::json;
use std::sync::Arc;

fn check(caller: &Caller, endpoint: Endpoint<'_>, expected: Result<(), &str>) {
    let found = caller.may(endpoint).map_err(|forbidden| forbidden.detail);
    assert_eq!(found, expected.map_err(str::to_owned), "{endpoint:?}");
}

async fn caller(stage: &Stage, realm: &str, scopes: &[&str]) -> Caller {
    let token = stage.token_with(json!({ "scopes": scopes, "gitlab_realm": realm }));
    let authorization = format!("Bearer {token}");
    let credentials = Credentials { authorization: Some(&authorization), realm: Some(realm), ..headers() };
    stage.auth.identify(credentials).await.expect("a good token")
}

const ENDPOINTS: [(&str, Endpoint<'static>, &str); 13] = [
    ("complete_code", Endpoint::CodeCompletions, "Unauthorized to access code completions"),
    ("generate_code", Endpoint::CodeGenerations, "Unauthorized to access code generations"),
    ("complete_code", Endpoint::SuggestedCompletion, "Unauthorized to access code suggestions"),
    ("generate_code", Endpoint::SuggestedGeneration, "Unauthorized to access code suggestions"),
    ("complete_code", Endpoint::UserAccessToken, "Unauthorized to create user access token"),
    ("ai_gateway_model_provider_proxy", Endpoint::UserAccessToken, "Unauthorized to create user access token"),
    (
        "explain_code",
        Endpoint::Prompt { id: "chat/explain_code", unit_primitives: &["explain_code"] },
        "Unauthorized to access 'chat/explain_code'",
    ),
    (
        "duo_chat",
        Endpoint::Prompt { id: "chat/commit_reader", unit_primitives: &["ask_commit", "duo_chat"] },
        "Unauthorized to access 'chat/commit_reader'",
    ),
    ("include_file_context", Endpoint::ChatContext { category: "file" }, "Unauthorized to access include_file_context"),
    ("duo_chat", Endpoint::LegacyChat { name: "agent" }, "Unauthorized to access duo_chat"),
    ("troubleshoot_job", Endpoint::LegacyChat { name: "troubleshoot_job" }, "Unauthorized to access troubleshoot_job"),
    ("documentation_search", Endpoint::DocumentationSearch, "Unauthorized to search documentations"),
    ("x_y", Endpoint::Proxy { unit_primitive: "x_y" }, "Unauthorized to access x_y"),
];

#[tokio::test(start_paused = true)]
async fn each_endpoint_asks_for_its_scope() {
    let stage = Stage::open().await;
    let nothing = caller(&stage, "self-managed", &[]).await;
    let other = caller(&stage, "self-managed", &["something_else"]).await;
    for (scope, endpoint, refusal) in ENDPOINTS {
        check(&caller(&stage, "self-managed", &[scope]).await, endpoint, Ok(()));
        check(&nothing, endpoint, Err(refusal));
        check(&other, endpoint, Err(refusal));
    }
    check(&nothing, Endpoint::Prompt { id: "x", unit_primitives: &[] }, Ok(()));
    check(&nothing, Endpoint::Embeddings, Err("Unauthorized to access generate_embeddings_codebase"));
}

#[tokio::test(start_paused = true)]
async fn chat_takes_the_older_scope_of_instances_that_are_ones_own() {
    let stage = Stage::open().await;
    let neither = "Unauthorized to access duo chat";
    let only_core = "Duo Core no longer authorized to access Duo Classic Chat";
    for (realm, scopes, mentions_gitlab_duo, expected) in [
        ("self-managed", &["duo_classic_chat"][..], false, Ok(())),
        ("self-managed", &["duo_chat"], false, Ok(())),
        ("self-managed", &["complete_code"], true, Err(neither)),
        ("saas", &["duo_classic_chat"], false, Ok(())),
        ("saas", &["duo_chat"], true, Ok(())),
        ("saas", &["duo_chat"], false, Err(only_core)),
        ("saas", &[], true, Err(neither)),
    ] {
        let caller = caller(&stage, realm, scopes).await;
        check(&caller, Endpoint::ChatAgent { mentions_gitlab_duo }, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn own_tokens_complete_code_and_little_else() {
    let stage = Stage::open().await;
    let gitlab = stage.identify(&stage.token()).await.expect("a good token");
    let mint =
        MintHeaders { global_user_id: Some(USER_ID), instance_id: Some(INSTANCE_ID), realm: Some("self-managed") };
    let own = stage.auth.mint(&gitlab, mint).expect("minted").token;
    let own = stage.identify(&own).await.expect("a good token");
    check(&own, Endpoint::CodeCompletions, Ok(()));
    check(&own, Endpoint::SuggestedCompletion, Err("Unauthorized to access code suggestions"));
    check(&own, Endpoint::SuggestedGeneration, Err("Unauthorized to access code suggestions"));
    check(&own, Endpoint::CodeGenerations, Err("Unauthorized to access code generations"));
    check(&own, Endpoint::UserAccessToken, Err("Unauthorized to create user access token"));
    check(&own, Endpoint::ChatAgent { mentions_gitlab_duo: true }, Err("Unauthorized to access duo chat"));
}

#[tokio::test(start_paused = true)]
async fn a_valid_token_may_be_enough_but_one_without_scopes_is_not() {
    let network = Arc::new(Network::default());
    network.publish(GITLAB, &[crate::gitlab::tokens::GITLAB_1.jwk()]);
    let scene = Scene { enforcement: Enforcement::ValidToken, ..Scene::default() };
    let stage = Stage::set(scene, network, TurnedClock::new());
    stage.settle().await;
    let some = caller(&stage, "self-managed", &["something_else"]).await;
    // Such as GitLab signs for CI jobs.
    let none = caller(&stage, "self-managed", &[]).await;
    for (_, endpoint, refusal) in ENDPOINTS {
        check(&some, endpoint, Ok(()));
        check(&none, endpoint, Err(refusal));
    }
}

#[tokio::test(start_paused = true)]
async fn principals_tell_people_apart_and_share_by_instance() {
    let stage = Stage::open().await;
    let authorization = format!("Bearer {}", stage.token());
    let of_user = async |user: Option<&str>| {
        let credentials = Credentials { authorization: Some(&authorization), global_user_id: user, ..headers() };
        stage.auth.identify(credentials).await.expect("a good token").principal
    };
    let (alice, bob, nobody) = (of_user(Some("alice")).await, of_user(Some("bob")).await, of_user(None).await);
    assert_eq!(alice, of_user(Some("alice")).await);
    assert!(alice.name != bob.name && bob.name != nobody.name && nobody.name != alice.name);
    assert!(alice.cache_salt == bob.cache_salt && bob.cache_salt == nobody.cache_salt);
    assert!(alice.name.starts_with("gitlab-") && !alice.name.contains("alice"), "{}", alice.name);
    assert!(alice.cache_salt.0 > 1);

    let other = stage.token_with(json!({ "sub": "another-instance" }));
    let other = format!("Bearer {other}");
    let credentials = Credentials { authorization: Some(&other), instance_id: Some("another-instance"), ..headers() };
    let carol = stage.auth.identify(credentials).await.expect("a good token").principal;
    assert_ne!(carol.cache_salt, alice.cache_salt);

    // An IDE of the same instance shares with it; its headers have no say in that.
    let gitlab = stage.identify(&stage.token()).await.expect("a good token");
    let mint =
        MintHeaders { global_user_id: Some(USER_ID), instance_id: Some(INSTANCE_ID), realm: Some("self-managed") };
    let own = format!("Bearer {}", stage.auth.mint(&gitlab, mint).expect("minted").token);
    let credentials = Credentials { authorization: Some(&own), instance_id: Some("another-instance"), ..headers() };
    let ide = stage.auth.identify(credentials).await.expect("a good token").principal;
    assert_eq!((ide.cache_salt, ide.name), (gitlab.principal.cache_salt, gitlab.principal.name));
}
