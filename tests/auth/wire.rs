//! The same over HTTP, against the fake GitLab that the other tests of the gateway use.

use crate::gitlab::tokens::{GITLAB_1, GITLAB_2, INSTANCE_ID};
use crate::gitlab::{FakeGitlab, Mode};
use futures::future::BoxFuture;
use sconce::auth::gitlab::{
    BypassSettings, Credentials, Enforcement, FetchError, FetchErrorKind, FetchKeys, GitlabAuth, GitlabAuthSettings,
    OwnKeySettings, OwnKeys, Verdict, WallClock,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// As little of HTTP as the fake needs.
struct PlainHttp;

impl FetchKeys for PlainHttp {
    fn get(&self, url: &str) -> BoxFuture<'static, Result<Vec<u8>, FetchError>> {
        let url = url.to_owned();
        Box::pin(async move { get(&url).await })
    }
}

async fn get(url: &str) -> Result<Vec<u8>, FetchError> {
    const BODY_BYTES_MAX: usize = 1 << 20;
    let broken = |_| FetchError::new(FetchErrorKind::Broken, "");
    let rest = url.strip_prefix("http://").ok_or_else(|| FetchError::new(FetchErrorKind::Refused, "not http"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut socket =
        TcpStream::connect(host).await.map_err(|_| FetchError::new(FetchErrorKind::Connect, host.to_owned()))?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    socket.take(2 * BODY_BYTES_MAX as u64).read_to_end(&mut answer).await.map_err(broken)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| FetchError::new(FetchErrorKind::Broken, "no head"))?;
    let status = str::from_utf8(&answer[9..12]).ok().and_then(|status| status.parse::<u16>().ok());
    let body = answer.split_off(end + 4);
    match status {
        Some(200) if body.len() > BODY_BYTES_MAX => Err(FetchError::new(FetchErrorKind::TooLarge, "")),
        Some(200) => Ok(body),
        Some(300..=399) => Err(FetchError::new(FetchErrorKind::Redirect, "")),
        Some(status) => Err(FetchError::new(FetchErrorKind::Status(status), "")),
        None => Err(FetchError::new(FetchErrorKind::Broken, "no status")),
    }
}

fn gateway(url: &str, keeping: &mut JoinSet<()>) -> Arc<GitlabAuth> {
    let own = OwnKeySettings {
        service: "gitlab-ai-gateway".to_owned(),
        signing_pem: Some(crate::gitlab::tokens::STRANGER.pem.to_owned()),
        validation_pem: None,
        folder: None,
        rotate_after: Duration::from_secs(90 * 86_400),
    };
    let own = OwnKeys::open(own, WallClock::system()).expect("a good key");
    let settings = GitlabAuthSettings {
        gitlab_url: url.to_owned(),
        portal_url: String::new(),
        service: "gitlab-ai-gateway".to_owned(),
        state_folder: None,
        enforcement: Enforcement::Scopes,
        bypass: BypassSettings::default(),
    };
    let auth = GitlabAuth::new(settings, own, Arc::new(PlainHttp), WallClock::system()).expect("good settings");
    let auth = Arc::new(auth);
    keeping.spawn(Arc::clone(&auth).keep_fresh());
    auth
}

async fn code(auth: &GitlabAuth, token: &str) -> &'static str {
    let authorization = format!("Bearer {token}");
    let credentials = Credentials {
        authorization: Some(&authorization),
        authentication_type: Some("oidc"),
        realm: Some("self-managed"),
        instance_id: Some(INSTANCE_ID),
        ..Credentials::default()
    };
    auth.identify(credentials).await.map_or_else(|error| error.code(), |_| "ok")
}

#[tokio::test]
async fn keys_come_over_http() {
    for root in ["", "/gitlab"] {
        let gitlab = FakeGitlab::start_under(root).await;
        let mut keeping = JoinSet::new();
        let auth = gateway(&gitlab.url(), &mut keeping);
        assert_eq!(code(&auth, &gitlab.token()).await, "ok");
        assert_eq!(code(&auth, &gitlab.token_with(json!({ "aud": "other" }))).await, "audience");
        assert_eq!(auth.status()[0].key_ids, [GITLAB_1.id()]);
        assert_eq!(
            gitlab.paths(),
            [format!("{root}/.well-known/openid-configuration"), format!("{root}/oauth/discovery/keys")]
        );
        gitlab.rotate();
        assert_eq!(gitlab.signing_key().id(), GITLAB_2.id());
        let former = gitlab.paths().len();
        assert_eq!(code(&auth, &gitlab.token()).await, "ok");
        assert_eq!(gitlab.requests(), former + 2);
    }
}

#[tokio::test]
async fn a_gitlab_that_fails_is_told_apart() {
    for (mode, expected) in [
        (Mode::Outage, "status"),
        (Mode::Html, "html"),
        (Mode::Oversize, "too_large"),
        (Mode::DuplicateKid, "duplicate_kid"),
        (Mode::Redirect("http://169.254.169.254/latest/meta-data/".to_owned()), "redirect"),
        (Mode::Empty, "no_keys"),
        (Mode::WrongType, "json"),
    ] {
        let gitlab = FakeGitlab::start().await;
        gitlab.fail_with(mode.clone());
        let mut keeping = JoinSet::new();
        let auth = gateway(&gitlab.url(), &mut keeping);
        assert_eq!(code(&auth, &gitlab.token()).await, "no_keys", "{mode:?}");
        let status = &auth.status()[0];
        let failure = status.failure.as_ref().expect("a failure");
        assert_eq!(failure.attempts[0].problem.code(), expected, "{failure}");
    }
    for mode in [Mode::NoDiscovery, Mode::Slow(Duration::from_millis(50))] {
        let gitlab = FakeGitlab::start().await;
        gitlab.fail_with(mode.clone());
        let mut keeping = JoinSet::new();
        let auth = gateway(&gitlab.url(), &mut keeping);
        assert_eq!(code(&auth, &gitlab.token()).await, "ok", "{mode:?}");
    }
}

#[tokio::test]
async fn an_announced_address_that_leads_nowhere_is_gone_around() {
    let gitlab = FakeGitlab::start().await;
    gitlab.announce("http://127.0.0.1:1");
    let mut keeping = JoinSet::new();
    let auth = gateway(&gitlab.url(), &mut keeping);
    assert_eq!(code(&auth, &gitlab.token()).await, "ok");
    assert_eq!(auth.status()[0].detours[0].url, "http://127.0.0.1:1/oauth/discovery/keys");
}

#[tokio::test]
async fn a_token_is_explained_without_being_shown() {
    let gitlab = FakeGitlab::start().await;
    let mut keeping = JoinSet::new();
    let auth = gateway(&gitlab.url(), &mut keeping);
    assert_eq!(code(&auth, &gitlab.token()).await, "ok");
    let check = |token: &str, is_accepted: bool, verdicts: &[(&str, Verdict)]| {
        let report = auth.inspect(token);
        assert_eq!(report.is_accepted, is_accepted, "{report:?}");
        for (name, verdict) in verdicts {
            let check = report.checks.iter().find(|check| check.name == *name).expect("the check was made");
            assert_eq!(check.verdict, *verdict, "{check:?}");
            assert_eq!(check.next_step.is_empty(), *verdict == Verdict::Ok, "{check:?}");
        }
        let json = serde_json::to_string(&report).expect("serialisable");
        for part in token.split('.').filter(|part| part.len() > 32) {
            assert!(!json.contains(&part[..32]) && !json.contains(&part[part.len() - 32..]), "{json}");
        }
        json
    };
    let good = gitlab.token();
    let json = check(&good, true, &[("signature", Verdict::Ok), ("time", Verdict::Ok), ("headers", Verdict::Ok)]);
    assert!(json.contains("complete_code") && json.contains(INSTANCE_ID), "{json}");
    check(&format!(" Bearer {good}\n"), true, &[("form", Verdict::Ok)]);
    check(&gitlab.token_with(json!({ "exp": 5 })), false, &[("signature", Verdict::Ok), ("time", Verdict::Fail)]);
    check(&gitlab.token_with(json!({ "aud": "x" })), false, &[("audience", Verdict::Fail)]);
    check(&gitlab.token_with(json!({ "scopes": [] })), true, &[("scopes", Verdict::Warn)]);
    check(&gitlab.token_with(json!({ "iss": "\u{1b}[31m" })), true, &[("form", Verdict::Ok)]);
    let (message, _) = good.rsplit_once('.').expect("three parts");
    check(&format!("{message}.AAAA"), false, &[("form", Verdict::Ok), ("signature", Verdict::Fail)]);
    check("abc", false, &[("form", Verdict::Fail)]);
    check("", false, &[("form", Verdict::Fail)]);
    gitlab.rotate();
    check(&gitlab.token(), false, &[("signature", Verdict::Fail)]);
}
