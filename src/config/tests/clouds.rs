use super::{check_problem, resolve_with};
use crate::config::{Config, Credentials, EntraIdentity, Environment, Place, Provider};
use std::path::Path;

#[track_caller]
fn config(toml: &str, environment: &[(&str, &str)]) -> Config {
    resolve_with(Environment::from(environment), Some(toml), &[]).config.expect("valid")
}

#[track_caller]
fn provider(toml: &str, environment: &[(&str, &str)]) -> Provider {
    let toml = format!("[providers.x]\n{toml}");
    config(&toml, environment).providers.into_iter().next().expect("one provider")
}

#[test]
fn a_cloud_is_found_by_its_place() {
    let check = |toml: &str, environment: &[(&str, &str)], url: &str| {
        assert_eq!(provider(toml, environment).url, url, "{toml}");
    };
    let bedrock = "kind = \"bedrock\"\napi_key = \"k\"\n";
    check(&format!("{bedrock}region = \"eu-central-1\"\n"), &[], "https://bedrock-runtime.eu-central-1.amazonaws.com");
    let region = [("AWS_REGION", "us-east-1"), ("AWS_REGION_NAME", "us-west-2")];
    check(bedrock, &region, "https://bedrock-runtime.us-west-2.amazonaws.com");
    let vertex = "kind = \"vertex\"\nproject = \"p\"\ncredentials = \"google_machine\"\n";
    check(&format!("{vertex}location = \"global\"\n"), &[], "https://aiplatform.googleapis.com");
    check(vertex, &[("VERTEXAI_LOCATION", "europe-west4")], "https://europe-west4-aiplatform.googleapis.com");
    let azure = "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21";
    check(&format!("kind = \"azure\"\nurl = \"{azure}\"\n"), &[], azure);
}

#[test]
fn what_is_set_says_what_opens_it() {
    let check = |toml: &str, expected: fn(&Credentials) -> bool| {
        let found = provider(toml, &[("AWS_REGION_NAME", "r"), ("VERTEXAI_LOCATION", "l")]).credentials;
        assert!(expected(&found), "{toml}: {found:?}");
    };
    check("kind = \"bedrock\"\n", |found| matches!(found, Credentials::AwsChain { profile: None }));
    check("kind = \"bedrock\"\napi_key = \"k\"\n", |found| *found == Credentials::Key);
    check("kind = \"bedrock\"\naccess_key_id = \"a\"\nsecret_access_key = \"sk-secret\"\n", |found| {
        matches!(found, Credentials::AwsKeys { session_token: None, .. })
    });
    check("kind = \"vertex\"\n", |found| *found == Credentials::GoogleDefault);
    check(
        "kind = \"openai\"\ntoken_file = \"/run/token\"\n",
        |found| matches!(found, Credentials::TokenFile(path) if path == Path::new("/run/token")),
    );
    let azure =
        "kind = \"azure\"\nurl = \"https://r.openai.azure.com/openai/v1\"\ntenant_id = \"t\"\nclient_id = \"c\"\n";
    check(
        &format!("{azure}client_secret = \"sk-secret\"\n"),
        |found| matches!(found, Credentials::Entra(entra) if matches!(entra.identity, EntraIdentity::Secret { .. })),
    );
    check(
        &format!("{azure}credentials = \"entra_machine\"\n"),
        |found| matches!(found, Credentials::Entra(entra) if matches!(entra.identity, EntraIdentity::Machine { client: Some(_) })),
    );
}

#[test]
fn keys_of_gitlabs_variables_open_the_clouds() {
    let environment = [("AWS_BEARER_TOKEN_BEDROCK", "sk-secret"), ("AWS_REGION_NAME", "r")];
    let bedrock = provider("kind = \"bedrock\"\n", &environment);
    assert_eq!(
        (bedrock.api_key.as_ref().map(|key| key.reveal()), &bedrock.credentials),
        (Some("sk-secret"), &Credentials::Key)
    );
    let openai = provider("kind = \"openai\"\n", &environment);
    assert_eq!(openai.api_key, None, "a key of AWS goes to AWS");
    let name = "AIGW_GOOGLE_CLOUD_PLATFORM__SERVICE_ACCOUNT_JSON_KEY";
    let vertex = provider("kind = \"vertex\"\n", &[(name, "{\"sk-secret\": 1}"), ("VERTEXAI_LOCATION", "eu")]);
    assert!(matches!(vertex.credentials, Credentials::GoogleServiceAccount(_)));
    assert!(matches!(vertex.place, Place::Vertex { project: None, .. }));
    let report = resolve_with(Environment::from(&environment[..]), None, &[]).report.to_string();
    assert!(!report.contains("sk-secret") && report.contains("cloud.aws_bearer_token"), "{report}");
}

#[test]
fn what_a_cloud_lacks_is_named() {
    for (toml, parts) in [
        ("kind = \"bedrock\"\n", &["provider `x` has no region", "eu-central-1"][..]),
        ("kind = \"vertex\"\n", &["provider `x` has no location", "global"]),
        ("kind = \"gitlab\"\nurl = \"https://g\"\n", &["no instance_id", "no instance_host", "no global_user_id"]),
        ("kind = \"openai\"\ncredentials = \"magic\"\n", &["\"magic\"", "aws_chain"]),
        ("kind = \"openai\"\ncredentials = \"aws_keys\"\n", &["no access_key_id", "no secret_access_key"]),
        ("kind = \"openai\"\ncredentials = \"entra_workload\"\n", &["no tenant_id", "no token_file"]),
        ("kind = \"openai\"\ncredentials_file = \"/nowhere/key\"\n", &["providers.x.credentials_file", "/nowhere/key"]),
        ("kind = \"openai\"\nextra = \"[1]\"\n", &["providers.x.extra", "a JSON object"]),
        ("kind = \"azure\"\nurl = \"https://a/?key=sk-secret\"\n", &["providers.x.url", "without user name and query"]),
        ("kind = \"openai\"\nsecret_access_key = 7\n", &[]),
    ] {
        check_problem_or_none(&format!("[providers.x]\n{toml}"), parts);
    }
}

/// A setting that nothing asks for is no problem.
fn check_problem_or_none(toml: &str, parts: &[&str]) {
    match parts {
        [] => _ = config(toml, &[]),
        parts => check_problem(toml, parts),
    }
}
