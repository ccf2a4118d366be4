//! Tokens that somebody else made, or changed.

use crate::gitlab::tokens::{self, GITLAB_1, SHORT, STRANGER, merged, signed, signed_hs256, signed_text, unsigned};
use crate::network::GITLAB;
use crate::stage::Stage;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

async fn check(stage: &Stage, token: &str, expected: &str) {
    let shown: String = token.chars().take(120).collect();
    assert_eq!(stage.code(token).await, expected, "{shown}");
}

/// The header GitLab writes, with some fields replaced or added.
fn header(overrides: Value) -> Value {
    merged(GITLAB_1.header(), overrides)
}

fn claims(stage: &Stage) -> Value {
    tokens::claims(stage.clock.now_s())
}

#[tokio::test(start_paused = true)]
async fn what_gitlab_signs_is_taken() {
    let stage = Stage::open().await;
    check(&stage, &stage.token(), "ok").await;
    let without_kid = signed(&json!({ "alg": "RS256" }), &claims(&stage), &GITLAB_1);
    check(&stage, &without_kid, "ok").await;
    let without_kid = signed(&json!({ "alg": "RS256" }), &claims(&stage), &STRANGER);
    check(&stage, &without_kid, "bad_signature").await;
}

#[tokio::test(start_paused = true)]
async fn the_algorithm_is_ours_to_choose() {
    let stage = Stage::open().await;
    let claims = claims(&stage);
    for algorithm in
        ["none", "None", "NONE", "nOnE", "", " RS256", "rs256", "HS256", "HS512", "RS384", "RS512", "PS256", "ES256"]
    {
        let header = header(json!({ "alg": algorithm }));
        check(&stage, &unsigned(&header, &claims), "algorithm").await;
        check(&stage, &signed(&header, &claims, &GITLAB_1), "algorithm").await;
    }
    check(&stage, &unsigned(&header(json!({})), &claims), "bad_signature").await;
    for algorithm in [json!(null), json!(["RS256"]), json!(256), json!({ "RS256": true })] {
        check(&stage, &signed(&header(json!({ "alg": algorithm })), &claims, &GITLAB_1), "malformed_token").await;
    }
    check(&stage, &signed(&json!({ "kid": GITLAB_1.id() }), &claims, &GITLAB_1), "malformed_token").await;
    let twice = format!(r#"{{"alg":"none","alg":"RS256","kid":"{}"}}"#, GITLAB_1.id());
    check(&stage, &signed_text(&twice, &claims.to_string(), &GITLAB_1), "malformed_token").await;
}

#[tokio::test(start_paused = true)]
async fn a_public_key_is_no_shared_secret() {
    let stage = Stage::open().await;
    let pem = include_str!("keys/gitlab-1-public.pem");
    let pkcs1 = include_str!("keys/gitlab-1-public-pkcs1.pem");
    let der = |pem: &str| {
        let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        STANDARD.decode(lines).expect("base64")
    };
    let modulus = GITLAB_1.jwk()["n"].as_str().expect("a text").to_owned();
    let secrets: [Vec<u8>; 9] = [
        pem.as_bytes().to_vec(),
        pem.trim_end().as_bytes().to_vec(),
        pkcs1.as_bytes().to_vec(),
        pkcs1.trim_end().as_bytes().to_vec(),
        der(pem),
        der(pkcs1),
        URL_SAFE_NO_PAD.decode(&modulus).expect("base64url"),
        modulus.into_bytes(),
        GITLAB_1.jwk().to_string().into_bytes(),
    ];
    for secret in secrets {
        let forged = signed_hs256(&header(json!({ "alg": "HS256" })), &claims(&stage), &secret);
        check(&stage, &forged, "algorithm").await;
        check(&stage, &signed_hs256(&header(json!({})), &claims(&stage), &secret), "bad_signature").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_id_is_a_name_and_nothing_else() {
    let stage = Stage::open().await;
    let asked = stage.network.asked().len();
    for id in ["../../../etc/passwd", "/dev/null", "\0", "x' OR '1'='1", "https://evil.test/keys", "", "é\r\nX: y"] {
        let token = signed(&header(json!({ "kid": id })), &claims(&stage), &GITLAB_1);
        check(&stage, &token, "unknown_key").await;
    }
    let long = |bytes: usize| header(json!({ "kid": "k".repeat(bytes) }));
    check(&stage, &signed(&long(257), &claims(&stage), &GITLAB_1), "malformed_token").await;
    check(&stage, &signed(&long(65_536), &claims(&stage), &GITLAB_1), "malformed_token").await;
    for id in [json!(1), json!(["a"]), json!({ "a": 1 }), json!(true)] {
        check(&stage, &signed(&header(json!({ "kid": id })), &claims(&stage), &GITLAB_1), "malformed_token").await;
    }
    for url in &stage.network.asked()[asked..] {
        assert!(url.starts_with(GITLAB), "{url} was asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_a_token_brings_along_are_not_looked_at() {
    let stage = Stage::open().await;
    let asked = stage.network.asked().len();
    let brought = json!({
        "jku": "https://evil.test/keys",
        "x5u": "https://evil.test/chain",
        "jwk": STRANGER.jwk(),
        "x5c": ["MIIB"],
        "x5t": "abc",
    });
    let forged = signed(&header(brought.clone()), &claims(&stage), &STRANGER);
    check(&stage, &forged, "bad_signature").await;
    let nameless = merged(json!({ "alg": "RS256" }), brought.clone());
    check(&stage, &signed(&nameless, &claims(&stage), &STRANGER), "bad_signature").await;
    check(&stage, &signed(&header(brought), &claims(&stage), &GITLAB_1), "ok").await;
    assert_eq!(stage.network.asked().len(), asked);
    let critical = header(json!({ "crit": ["b64"], "b64": false }));
    check(&stage, &signed(&critical, &claims(&stage), &GITLAB_1), "malformed_token").await;
}

#[tokio::test(start_paused = true)]
async fn claims_have_one_type() {
    let stage = Stage::open().await;
    let header = GITLAB_1.header().to_string();
    let now_s = stage.clock.now_s();
    let base = claims(&stage);
    for claim in ["exp", "nbf", "iat"] {
        let values = [
            format!("\"{now_s}\""),
            format!("{now_s}.0"),
            format!("{now_s}.5"),
            "null".to_owned(),
            "1e400".to_owned(),
            "1e9".to_owned(),
            "-1".to_owned(),
            "99999999999999999999999".to_owned(),
            "true".to_owned(),
            format!("[{now_s}]"),
            "{}".to_owned(),
        ];
        for value in values {
            let mut claims = base.clone();
            claims.as_object_mut().expect("an object").remove(claim);
            let text = claims.to_string().replacen('{', &format!("{{\"{claim}\":{value},"), 1);
            let expected = if value == "1e400" { "malformed_token" } else { "claim_type" };
            check(&stage, &signed_text(&header, &text, &GITLAB_1), expected).await;
        }
        let twice = base.to_string().replacen('{', &format!("{{\"{claim}\":{now_s},"), 1);
        check(&stage, &signed_text(&header, &twice, &GITLAB_1), "malformed_token").await;
    }
    for overrides in [
        json!({ "aud": 1 }),
        json!({ "aud": null }),
        json!({ "aud": ["gitlab-ai-gateway", 1] }),
        json!({ "aud": { "gitlab-ai-gateway": true } }),
        json!({ "sub": 5 }),
        json!({ "sub": ["x"] }),
        json!({ "iss": {} }),
        json!({ "gitlab_realm": ["self-managed"] }),
        json!({ "scopes": "complete_code" }),
        json!({ "scopes": ["complete_code", null] }),
        json!({ "duo_seat_count": 1.5 }),
    ] {
        check(&stage, &stage.token_with(overrides), "claim_type").await;
    }
    for text in ["[]", "null", "\"x\"", "", "{", "{}{}"] {
        check(&stage, &signed_text(&header, text, &GITLAB_1), "malformed_token").await;
        check(&stage, &signed_text(text, &base.to_string(), &GITLAB_1), "malformed_token").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_not_quite_a_token_is_none() {
    let stage = Stage::open().await;
    let token = stage.token();
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let parts: Vec<&str> = token.split('.').collect();
    check(&stage, "", "empty_token").await;
    for text in [
        "abc.def.ghi".to_owned(),
        "abc".to_owned(),
        "..".to_owned(),
        message.to_owned(),
        format!("{token}.{signature}"),
        format!("{token}="),
        format!("{message}.{signature}%00"),
        format!("{message}. {signature}"),
        format!("{},{},{}", parts[0], parts[1], parts[2]),
        "a".repeat(20_000),
        "é".repeat(100),
    ] {
        check(&stage, &text, "malformed_token").await;
    }
    // The last character of 256 bytes in base64url has four bits that say nothing; they have to be zero.
    let last = signature.chars().last().expect("not empty");
    let other = if last == 'A' { 'B' } else { char::from(last as u8 + 1) };
    let rest = &signature[..signature.len() - 1];
    let code = stage.code(&format!("{message}.{rest}{other}")).await;
    assert!(["malformed_token", "bad_signature"].contains(&code), "{code}");
    check(&stage, &format!("{message}.{rest}"), "malformed_token").await;
}

#[tokio::test(start_paused = true)]
async fn tokens_that_begin_alike_are_remembered_apart() {
    let stage = Stage::open().await;
    let token = |scopes: &[&str]| stage.token_with(json!({ "scopes": scopes }));
    let (one, other) = (token(&["complete_code"]), token(&["duo_chat"]));
    assert_eq!(one[..64], other[..64]);
    for _ in 0..2 {
        let caller = stage.identify(&one).await.expect("a good token");
        assert!(caller.scopes.has("complete_code") && !caller.scopes.has("duo_chat"));
        let caller = stage.identify(&other).await.expect("a good token");
        assert!(!caller.scopes.has("complete_code") && caller.scopes.has("duo_chat"));
    }
    let (message, _) = other.rsplit_once('.').expect("three parts");
    let (_, signature) = one.rsplit_once('.').expect("three parts");
    check(&stage, &format!("{message}.{signature}"), "bad_signature").await;
    check(&stage, &format!("{message}."), "bad_signature").await;
    check(&stage, &signed(&GITLAB_1.header(), &claims(&stage), &STRANGER), "bad_signature").await;
}

#[tokio::test(start_paused = true)]
async fn short_keys_are_passed_over() {
    let stage = Stage::open().await;
    stage.network.publish(GITLAB, &[GITLAB_1.jwk(), SHORT.jwk()]);
    stage.pass(std::time::Duration::from_secs(3601)).await;
    let mut signed_by_short = include_str!("keys/short-signed.txt").lines();
    check(&stage, signed_by_short.next().expect("with a key id"), "unknown_key").await;
    check(&stage, signed_by_short.next().expect("without one"), "bad_signature").await;
    check(&stage, &stage.token(), "ok").await;
    let status = stage.auth.status();
    assert!(status[0].skipped[0].contains("2048"), "{:?}", status[0].skipped);
}
