use super::{check_problem, resolve_with};
use crate::config::{Config, EgressMode, Environment, Flag, TlsFiles};
use std::path::Path;

const PEM: &str = "-----BEGIN PRIVATE KEY-----\\nc2stc2VjcmV0\\n-----END PRIVATE KEY-----";

#[track_caller]
fn config(toml: &str) -> Config {
    resolve_with(Environment::default(), Some(toml), &[]).config.expect("valid")
}

#[test]
fn the_gateway_is_off_by_default() {
    let config = resolve_with(Environment::default(), None, &[]).config.expect("valid");
    assert_eq!((config.gitlab.url, config.gitlab.api_url, config.gitlab.portal_url), (None, None, None));
    assert!(config.gitlab.enforces_scopes && config.log.honours_instance_verbose && !config.log.has_bodies);
    assert_eq!((config.tls.listener, config.state.dir), (None, None));
    assert!(config.access.allow.is_empty() && config.features.is_empty() && config.notices.is_empty());
    assert_eq!(config.egress.mode, EgressMode::Configured);
}

#[test]
fn a_whole_gateway_is_read() {
    let config = config(
        "[gitlab]\nurl = \"https://gitlab.example.com/root/\"\nchat_max_tokens = 99\nrequest_deadline_ms = 5000\n\
         enforce_scopes = false\n\
         [features]\ndefault = \"coder\"\nduo_chat = \"talker\"\n\
         [models.coder]\npath = \"c.gguf\"\naliases = [\"mistralai/Codestral\", \"code\"]\n\
         [access]\nallow = [\"10.0.0.0/8\", \"::1\"]\ntrusted_proxies = [\"10.0.0.1\", \"10.0.0.2\"]\n\
         [tls]\ncert_file = \"cert.pem\"\nkey_file = \"/etc/key.pem\"\nextra_ca_files = [\"ca.pem\"]\n\
         [egress]\nmode = \"airgap\"\n[log]\nbodies = true\n",
    );
    assert_eq!(config.gitlab.url.as_deref(), Some("https://gitlab.example.com/root"));
    assert_eq!(config.gitlab.api_url.as_deref(), Some("https://gitlab.example.com/root/api/v4"));
    assert_eq!(config.gitlab.chat_max_tokens.map(|tokens| tokens.get()), Some(99));
    assert_eq!(config.gitlab.request_deadline.map(|deadline| deadline.as_secs()), Some(5));
    assert!(!config.gitlab.enforces_scopes && config.log.has_bodies);
    assert_eq!(config.features.get("duo_chat").map(String::as_str), Some("talker"));
    assert_eq!(config.models[0].aliases, ["mistralai/Codestral", "code"]);
    let shown: Vec<String> = config.access.allow.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(config.access.trusted_proxies.len(), 2);
    let TlsFiles { cert_file, key_file } = config.tls.listener.expect("on once files are named");
    assert!(cert_file.is_absolute() && cert_file.ends_with("cert.pem"), "relative to the file: {cert_file:?}");
    assert_eq!(key_file, Path::new("/etc/key.pem"));
    assert!(config.tls.extra_ca_files[0].is_absolute());
    assert_eq!(config.egress.mode, EgressMode::Airgap);
}

#[test]
fn wrong_values_of_the_gateway_name_the_place() {
    for (toml, parts) in [
        ("[gitlab]\nurl = \"gitlab.example.com\"\n", &["gitlab.url", "http or https"][..]),
        ("[gitlab]\nurl = \"https://me:sk-secret@gitlab.example.com\"\n", &["without user name", "(hidden)@gitlab"]),
        ("[gitlab]\nportal_url = \"ftp://x\"\n", &["gitlab.portal_url"]),
        ("[gitlab]\nbypass_external = \"yes\"\n", &["\"yes\"", "true or false"]),
        ("[gitlab]\nsigning_key = \"sk-secret\"\n", &["`gitlab.signing_key` holds no PEM", "-----BEGIN"]),
        ("[gitlab]\nsigning_key = 3\n", &["gitlab.signing_key", "hidden"]),
        ("[gitlab]\nsigning_key_file = \"/nowhere/key\"\n", &["gitlab.signing_key_file", "/nowhere/key"]),
        ("[gitlab]\nmodel_api_key = \"sk-secret\"\nmodel_api_key_file = \"x\"\n", &["both set", "keep one"]),
        ("[features]\nduo_chatt = \"x\"\n", &["did you mean `features.duo_chat`"]),
        ("[features]\nduo_chat = 3\n", &["features.duo_chat", "text"]),
        ("[models.a]\npath = \"x\"\naliases = [\"a b\"]\n", &["models.a.aliases", "letters"]),
        ("[models.a]\npath = \"x\"\naliases = [\"b\"]\n[models.b]\npath = \"x\"\n", &["`b` is given to two models"]),
        ("[catalog]\nembedded = \"on\"\nembedded_aliases = [\"a\"]\n[models.a]\npath = \"x\"\n", &["`a`", "built-in"]),
        ("[access]\nallow = [\"10.0.0.0/33\"]\n", &["access.allow", "10.0.0.0/8"]),
        ("[tls]\ncert_file = \"x\"\n", &["`tls.key_file` is not set"]),
        ("[tls]\nenabled = \"on\"\n", &["`tls.key_file` is not set", "`tls.cert_file` is not set"]),
        ("[egress]\nhttps_proxy = \"socks5://me:sk-secret@proxy\"\n", &["egress.https_proxy", "hidden"]),
        ("[egress]\nmode = \"airgap\"\n[gitlab]\nportal_url = \"https://c.example.com\"\n", &["airgap", "portal_url"]),
    ] {
        check_problem(toml, parts);
    }
}

#[test]
fn a_way_around_authentication_stays_on_loopback() {
    for key in ["bypass_external", "bypass_external_with_header", "bypass_jwt_signature"] {
        let toml = format!("[gitlab]\nurl = \"https://gitlab.example.com\"\n{key} = true\n");
        config(&toml);
        check_problem(&format!("{toml}[server]\nlisten = \"0.0.0.0:1\"\n"), &[key, "loopback only", "127.0.0.1:1"]);
    }
}

#[test]
fn gitlab_opens_a_port_and_nothing_else_does() {
    let open = [Flag::new("--listen", "server.listen", "0.0.0.0:1")];
    let gitlab = Environment::from([("AIGW_GITLAB_URL", "https://gitlab.example.com")]);
    resolve_with(gitlab, None, &open).config.expect("its tokens are asked for");
    let empty = Environment::from([("AIGW_GITLAB_URL", "")]);
    let error = resolve_with(empty, None, &open).config.expect_err("an empty URL is none").to_string();
    assert!(error.contains("AIGW_GITLAB_URL=URL") && error.contains("sconce key new"), "{error}");
}

#[test]
fn secrets_come_from_files_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("key.pem");
    std::fs::write(&path, PEM.replace("\\n", "\n")).expect("writable");
    let named = path.to_str().expect("a plain path");
    for variable in ["SCONCE__GITLAB__SIGNING_KEY_FILE", "AIGW_SELF_SIGNED_JWT__SIGNING_KEY_FILE"] {
        let config = resolve_with(Environment::from([(variable, named)]), None, &[]).config.expect("valid");
        let key = config.gitlab.signing_key.expect("read");
        assert!(key.reveal().contains("c2stc2VjcmV0"), "{variable}");
    }
    std::fs::write(&path, " \n").expect("writable");
    let empty = Environment::from([("SCONCE__GITLAB__MODEL_API_KEY_FILE", named)]);
    let error = resolve_with(empty, None, &[]).config.expect_err("empty").to_string();
    assert!(error.contains("it is empty"), "{error}");
}

#[test]
fn secrets_never_show() {
    let environment = Environment::from([
        ("SCONCE__GITLAB__SIGNING_KEY", PEM),
        ("SCONCE__GITLAB__VALIDATION_KEY", PEM),
        ("SCONCE__GITLAB__MODEL_API_KEY", "c2stc2VjcmV0"),
        ("SCONCE__EGRESS__HTTPS_PROXY", "http://me:c2stc2VjcmV0@proxy:3128"),
        ("HTTP_PROXY", "me:c2stc2VjcmV0@proxy:3128"),
    ]);
    let resolution = resolve_with(environment, None, &[]);
    let json = serde_json::to_string(&resolution.report).expect("JSON");
    let text = format!("{} {json} {:?}", resolution.report, resolution);
    assert!(!text.contains("c2stc2VjcmV0"), "{text}");
    let config = resolution.config.expect("valid");
    let proxy = config.egress.https_proxy.expect("set");
    assert!(proxy.reveal().contains("c2stc2VjcmV0") && proxy.to_string() == "http://(hidden)@proxy:3128");
}

#[test]
fn the_state_folder_follows_the_xdg_convention() {
    for (variables, dir) in [
        (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")][..], Some("/x/sconce")),
        (&[("XDG_STATE_HOME", ""), ("HOME", "/h")], Some("/h/.local/state/sconce")),
        (&[("XDG_STATE_HOME", "relative")], None),
        (&[("HOME", "/h"), ("SCONCE__STATE__DIR", "/s")], Some("/s")),
    ] {
        let config = resolve_with(Environment::from(variables), None, &[]).config.expect("valid");
        assert_eq!(config.state.dir.as_deref(), dir.map(Path::new), "{variables:?}");
    }
    let environment = Environment::from([("HOME", "/h")]);
    let config = resolve_with(environment, Some("[state]\ndir = \"\"\n"), &[]).config.expect("valid");
    assert_eq!(config.state.dir, None, "an empty one in the file keeps nothing");
}
