use super::{check_problem, resolve_with};
use crate::config::{Config, Environment, ProviderInfill, ProviderKind};
use crate::domain::LaneName;
use crate::route::policy::RemoteRule;
use std::time::Duration;

const CLUSTER: &str = "[providers.cluster]\nkind = \"vllm\"\nurl = \"http://10.0.0.7:8000/v1/\"\n";

#[track_caller]
fn config(toml: &str) -> Config {
    resolve_with(Environment::default(), Some(toml), &[]).config.expect("valid")
}

#[test]
fn nothing_is_remote_by_default() {
    let config = resolve_with(Environment::default(), None, &[]).config.expect("valid");
    assert!(config.providers.is_empty() && config.routes.is_empty() && config.routed_models.is_empty());
    assert!(config.egress.request_endpoints.is_empty());
}

#[test]
fn two_lines_lead_a_feature_to_a_provider() {
    let toml = format!(
        "{CLUSTER}api_key = \"sk-secret\"\n[routes.code_completions]\nlanes = [\"local:sconce\", \"cluster:Qwen/a:1\"]\n\
         remote = \"on_failure\"\n"
    );
    let config = config(&toml);
    let route = &config.routes["code_completions"];
    assert_eq!(route.lanes, [LaneName::local("sconce"), LaneName::remote("cluster", "Qwen/a:1")]);
    assert_eq!((route.remote, route.leave_after, route.longer_elsewhere), (Some(RemoteRule::OnFailure), None, false));
    let [cluster] = &config.providers[..] else { panic!("{:?}", config.providers) };
    assert_eq!((cluster.kind, &*cluster.url), (ProviderKind::Vllm, "http://10.0.0.7:8000/v1"));
    assert_eq!(cluster.api_key.as_ref().map(|key| key.reveal()), Some("sk-secret"));
    assert_eq!((&cluster.infill, cluster.by_identifier), (&ProviderInfill::Auto, false));
    let report = resolve_with(Environment::default(), Some(&toml), &[]).report.to_string();
    assert!(!report.contains("sk-secret") && report.contains("providers.cluster.api_key"), "{report}");
}

#[test]
fn a_model_can_lead_to_others() {
    let config = config(&format!(
        "{CLUSTER}max_tokens = 99\ncontext_tokens = 4096\ninfill = \"starcoder\"\nhead_timeout_s = 5\nfailures_max = 2\n\
         [models.coder]\nlanes = [\"cluster:a\"]\nremote = \"always\"\nhedge_after_ms = 200\nleave_after_ms = 900\n\
         longer_elsewhere = true\naliases = [\"b\"]\n[providers.claude]\nkind = \"anthropic\"\nby_identifier = true\n\
         [egress]\nrequest_endpoints = [\"https://models.example.com/v1/\"]\n"
    ));
    let [coder] = &config.routed_models[..] else { panic!("{:?}", config.routed_models) };
    assert_eq!((&*coder.name, &coder.aliases[..]), ("coder", &["b".to_owned()][..]));
    let (hedge, leave) = (coder.route.hedge_after, coder.route.leave_after);
    assert_eq!((hedge, leave), (Some(Duration::from_millis(200)), Some(Duration::from_millis(900))));
    assert!(coder.route.longer_elsewhere && !config.catalog.is_embedded_served && config.models.is_empty());
    let [claude, cluster] = &config.providers[..] else { panic!("{:?}", config.providers) };
    assert_eq!((&*claude.url, claude.by_identifier), ("https://api.anthropic.com/v1", true));
    assert_eq!((cluster.max_tokens.get(), cluster.context_tokens.get(), cluster.failures_max), (99, 4096, 2));
    assert_eq!(cluster.infill, ProviderInfill::Card("starcoder".to_owned()));
    assert_eq!(config.egress.request_endpoints, ["https://models.example.com/v1"]);
}

#[test]
fn a_lane_to_the_built_in_model_asks_for_it() {
    let toml = |lane: &str| format!("{CLUSTER}[models.m]\nlanes = [\"{lane}\"]\nremote = \"always\"\n");
    assert!(config(&toml("local:sconce")).catalog.is_embedded_served);
    assert!(!config(&toml("cluster:a")).catalog.is_embedded_served);
}

#[test]
fn what_could_never_work_is_told_before_the_start() {
    for (toml, parts) in [
        ("[providers.x]\nurl = \"http://a/v1\"\n", &["provider `x` has no kind", "vllm"][..]),
        ("[providers.x]\nkind = \"vlm\"\n", &["providers.x.kind", "\"vlm\"", "vllm"]),
        ("[providers.x]\nkind = \"vllm\"\n", &["provider `x` has no address", "url"]),
        ("[providers.x]\nkind = \"vllm\"\nurl = \"http://k:sk-secret@a/v1\"\n", &["providers.x.url", "(hidden)@a"]),
        ("[providers.local]\nkind = \"openai\"\n", &["`local` cannot name a provider"]),
        ("[providers.\"a b\"]\nkind = \"openai\"\n", &["`a b` cannot name a provider"]),
        ("[providers.x]\nkind = \"openai\"\nkey = \"a\"\n", &["providers.x.key", "unknown key"]),
        ("[providers.x]\nkind = \"openai\"\napi_key = 7\n", &["providers.x.api_key", "(hidden)"]),
        ("[routes.code_completion]\nremote = \"never\"\n", &["did you mean `routes.code_completions.remote`"]),
        ("[routes.duo_chat]\n", &["[routes.duo_chat] says nothing"]),
        ("[routes.duo_chat]\nlanes = [\"sconce\"]\n", &["routes.duo_chat.lanes", "local:NAME"]),
        ("[routes.duo_chat]\nlanes = [\"local:scone\"]\n", &["no such local model", "did you mean `sconce`"]),
        ("[routes.duo_chat]\nlanes = [\"far:a\"]\nremote = \"always\"\n", &["no such provider", "known: none"]),
        ("[routes.duo_chat]\nlanes = [\"local:sconce\"]\nremote = \"sometimes\"\n", &["never, on_failure, always"]),
        ("[models.m]\npath = \"a\"\nlanes = [\"local:sconce\"]\n", &["both a path and lanes"]),
        (
            "[features]\nduo_chat = \"m\"\n[routes.duo_chat]\nlanes = [\"local:sconce\"]\n",
            &["features.duo_chat", "keep one"],
        ),
        (
            "[egress]\nmode = \"airgap\"\nrequest_endpoints = [\"http://a/v1\"]\n",
            &["airgap", "egress.request_endpoints", "remove one"],
        ),
        ("[egress]\nmode = \"airgap\"\n[providers.x]\nkind = \"openai\"\n", &["airgap", "providers.x"]),
    ] {
        check_problem(toml, parts);
    }
}

#[test]
fn a_lane_that_the_rule_forbids_is_told_before_the_start() {
    let check = |lanes: &str, remote: &str, part: &str| {
        check_problem(&format!("{CLUSTER}[routes.duo_chat]\nlanes = {lanes}\n{remote}\n"), &[part]);
    };
    check("[\"local:sconce\", \"cluster:a\"]", "", "`remote` is never");
    check("[\"cluster:a\", \"local:sconce\"]", "remote = \"on_failure\"", "cluster:a stands before local:sconce");
    check("[\"cluster:a\"]", "remote = \"on_failure\"", "all lanes are on other machines");
}
