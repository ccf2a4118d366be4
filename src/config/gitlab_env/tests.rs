use super::super::{Environment, LogFormat, Resolution, resolve};

const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----";

fn with(variables: &[(&str, &str)]) -> Resolution {
    let mut all = vec![("AIGW_GITLAB_URL", "https://gitlab.example.com")];
    all.extend_from_slice(variables);
    resolve(&Environment::from(all.as_slice()), None, &[])
}

/// What the variable did: the setting that names it as its origin, or the notice.
fn answer(resolution: &Resolution, variable: &str) -> Option<String> {
    let mut rows = resolution.report.settings.iter();
    let origin = format!("environment {variable}");
    let row = rows.find(|row| row.origin.split(", ").any(|part| part == origin || part == variable));
    let mut notices = resolution.report.notices.iter();
    let notice = notices.find(|notice| notice.starts_with(&format!("{variable} has no effect: ")));
    row.map(|row| format!("{} = {}", row.key, row.value)).or_else(|| notice.cloned())
}

/// Every variable of the contract's table (models-and-monitoring.md, section 7, and agent-platform.md), each with a value
/// that differs from its default, and what it must come to.
#[test]
fn every_documented_variable_is_honoured_or_answered() {
    for (variable, value, expected) in [
        ("AIGW_GITLAB_URL", "https://gitlab.example.com", "gitlab.url = https://gitlab.example.com"),
        (
            "AIGW_GITLAB_API_URL",
            "https://gitlab.example.com/api/v4/",
            "gitlab.api_url = https://gitlab.example.com/api/v4",
        ),
        (
            "AIGW_CUSTOMER_PORTAL_URL",
            "https://customers.example.com",
            "gitlab.portal_url = https://customers.example.com",
        ),
        ("AIGW_CUSTOM_MODELS__ENABLED", "false", "your own models"),
        ("AIGW_CUSTOM_MODELS__DISABLE_STREAMING", "true", "models run in this process"),
        ("AIGW_CUSTOM_MODELS__EXTRA_HEADERS", "{\"a\":\"b\"}", "models run in this process"),
        ("AIGW_FASTAPI__API_HOST", "0.0.0.0", "server.listen = 0.0.0.0:5052"),
        ("AIGW_FASTAPI__API_PORT", "5000", "server.listen = 127.0.0.1:5000"),
        ("AIGW_FASTAPI__METRICS_HOST", "0.0.0.0", "metrics.listen = 0.0.0.0:9464"),
        ("AIGW_FASTAPI__METRICS_PORT", "8082", "metrics.listen = 127.0.0.1:8082"),
        ("AIGW_FASTAPI__OPENAPI_URL", "/openapi.json", "no pages"),
        ("AIGW_FASTAPI__DOCS_URL", "/docs", "no pages"),
        ("AIGW_FASTAPI__REDOC_URL", "/redoc", "no pages"),
        ("AIGW_FASTAPI__TLS__ENABLED", "false", "tls.enabled = off"),
        ("AIGW_FASTAPI__TLS__CERT_FILE", "/tls/cert.pem", "tls.cert_file = /tls/cert.pem"),
        ("AIGW_FASTAPI__TLS__KEY_FILE", "/tls/key.pem", "tls.key_file = /tls/key.pem"),
        ("AIGW_FASTAPI__TLS__SSL_CIPHERS", "TLSv1", "nothing to choose"),
        ("AIGW_AUTH__BYPASS_EXTERNAL", "true", "gitlab.bypass_external = true"),
        ("AIGW_AUTH__BYPASS_EXTERNAL_WITH_HEADER", "1", "gitlab.bypass_external_with_header = true"),
        ("AIGW_AUTH__BYPASS_JWT_SIGNATURE", "True", "gitlab.bypass_jwt_signature = true"),
        ("AIGW_SELF_SIGNED_JWT__SIGNING_KEY", PEM, "gitlab.signing_key = (hidden)"),
        ("AIGW_SELF_SIGNED_JWT__VALIDATION_KEY", PEM, "gitlab.validation_key = (hidden)"),
        ("AIGW_CLOUD_CONNECTOR_SERVICE_NAME", "my-gateway", "gitlab.audience = my-gateway"),
        ("AIGW_LOGGING__LEVEL", "WARNING", "log.level = warn"),
        ("AIGW_LOGGING__FORMAT_JSON", "true", "log.format = json"),
        ("AIGW_LOGGING__TO_FILE", "/var/log/gateway.log", "standard error"),
        ("AIGW_LOGGING__ENABLE_REQUEST_LOGGING", "true", "log.bodies = true"),
        ("AIGW_LOGGING__ENABLE_LITELLM_LOGGING", "true", "log.level"),
        ("AIGW_DUO_CHAT__MAX_TOKENS", "2048", "gitlab.chat_max_tokens = 2048"),
        ("AIGW_DUO_CHAT__MODEL_REQUEST_TIMEOUT", "45.5", "gitlab.request_deadline_ms = 45500"),
        ("AIGW_MODEL_ENGINE_LIMITS", "{\"x\":{}}", "engine.running_max"),
        ("AIGW_MODEL_SELECTION__PATH", "x", "[features]"),
        ("AIGW_MTLS__ENABLED", "true", "models run in this process"),
        ("AIGW_MTLS__CERT_FILE", "x", "models run in this process"),
        ("AIGW_MTLS__KEY_FILE", "x", "models run in this process"),
        ("AIGW_MTLS__KEY_PASSWORD", "x", "models run in this process"),
        ("AIGW_MTLS__VERIFY", "false", "models run in this process"),
        ("AIGW_MTLS__CA_BUNDLE", "x", "models run in this process"),
        ("AIGW_MOCK_MODEL_RESPONSES", "true", "answers come from a model"),
        ("AIGW_INTERNAL_EVENT__ENABLED", "true", "no telemetry"),
        ("AIGW_BILLING_EVENT__ENABLED", "true", "no telemetry"),
        ("AIGW_SNOWPLOW__ENABLED", "true", "no telemetry"),
        ("AIGW_AUDIT_EVENT__ENABLED", "true", "no telemetry"),
        ("AIGW_FEATURE_FLAGS__DISALLOWED_FLAGS", "{}", "feature flags"),
        ("AIGW_FEATURE_FLAGS__EXCL_POST_PROCESS", "[]", "the same way"),
        ("AIGW_FEATURE_FLAGS__FIREWORKS_SCORE_THRESHOLD", "{}", "cloud provider"),
        ("AIGW_PROXY_ENDPOINTS__SELF_MANAGED_ENABLED", "true", "model vendors"),
        ("WEB_CONCURRENCY", "4", "every core"),
        ("REQUESTS_CA_BUNDLE", "/ca.pem", "tls.extra_ca_files = /ca.pem"),
        ("SSL_CERT_FILE", "/ca.pem", "tls.extra_ca_files = /ca.pem"),
        ("AWS_ACCESS_KEY_ID", "x", "no cloud provider"),
        ("AWS_SECRET_ACCESS_KEY", "x", "no cloud provider"),
        ("AWS_REGION", "x", "cloud.aws_region = x"),
        ("AWS_REGION_NAME", "x", "cloud.aws_region = x"),
        ("AWS_BEARER_TOKEN_BEDROCK", "sesame", "cloud.aws_bearer_token = (hidden)"),
        ("VERTEXAI_LOCATION", "x", "cloud.vertex_location = x"),
        ("AIGW_GOOGLE_CLOUD_PLATFORM__SERVICE_ACCOUNT_JSON_KEY", "{}", "cloud.google_service_account = (hidden)"),
        ("HF_HUB_OFFLINE", "0", "ever downloaded"),
        ("LANGSMITH_TRACING_V2", "true", "no tracing service"),
        ("ENABLE_DUO_WORKFLOW_SERVICE", "true", "agent platform"),
        ("DISABLE_AI_GATEWAY", "true", "stop it instead"),
        ("PORT", "50052", "agent platform's port"),
        ("PROMETHEUS_METRICS__ADDR", "0.0.0.0", "agent platform's metrics"),
        ("PROMETHEUS_METRICS__PORT", "8083", "agent platform's metrics"),
        ("DUO_WORKFLOW_AUTH__ENABLED", "false", "agent platform"),
        ("DUO_WORKFLOW_AUTH__OIDC_GITLAB_URL", "https://gitlab.example.com", "agent platform"),
        ("DUO_WORKFLOW_AUTH__OIDC_CUSTOMER_PORTAL_URL", "x", "agent platform"),
        ("DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY", PEM, "agent platform"),
        ("DUO_WORKFLOW_SELF_SIGNED_JWT__VALIDATION_KEY", PEM, "agent platform"),
        ("DUO_WORKFLOW_CLOUD_CONNECTOR_SERVICE_NAME", "x", "agent platform"),
        ("DUO_WORKFLOW_LOGGING__LEVEL", "debug", "agent platform"),
        ("DUO_WORKFLOW_SHUTDOWN_GRACE_PERIOD_S", "1", "agent platform"),
        ("DUO_WORKFLOW_GRPC_REFLECTION_ENABLED", "true", "agent platform"),
        ("DUO_WORKFLOW_TLS__ENABLED", "true", "agent platform"),
        ("UNPICKLING_ENABLED", "true", "agent platform"),
        ("DUO_AGENT_PLATFORM_SERVICE_SECURE", "false", "read by GitLab"),
        ("HTTPS_PROXY", "http://proxy:3128", "egress.https_proxy = http://proxy:3128"),
        ("https_proxy", "proxy:3128", "egress.https_proxy = http://proxy:3128"),
        ("HTTP_PROXY", "http://user:sesame@proxy:3128", "egress.http_proxy = http://(hidden)@proxy:3128"),
        ("http_proxy", "socks5://proxy", "only http and https"),
        ("NO_PROXY", "localhost,.example.com", "egress.no_proxy = localhost,.example.com"),
        ("no_proxy", "10.0.0.0/8", "egress.no_proxy = 10.0.0.0/8"),
        ("aigw_auth__bypass_external", "true", "gitlab.bypass_external = true"),
        ("AIGW_LOGGING__LEVEL", "loud", "is needed"),
        ("AIGW_DUO_CHAT__MODEL_REQUEST_TIMEOUT", "soon", "seconds"),
    ] {
        let resolution = with(&[(variable, value)]);
        let answer = answer(&resolution, variable).unwrap_or_else(|| panic!("nothing is said about {variable}"));
        assert!(answer.contains(expected), "{variable}={value}: {answer}");
        assert!(
            !format!("{} {:?}", resolution.report, resolution.config).contains("sesame"),
            "{variable} shows a secret"
        );
    }
}

#[test]
fn values_that_are_the_case_anyway_need_no_answer() {
    let quiet = with(&[
        ("AIGW_CUSTOM_MODELS__ENABLED", "TRUE"),
        ("AIGW_CUSTOM_MODELS__DISABLE_STREAMING", "0"),
        ("AIGW_INTERNAL_EVENT__ENABLED", "false"),
        ("AIGW_MODEL_ENGINE_LIMITS", "{}"),
        ("WEB_CONCURRENCY", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("ENABLE_DUO_WORKFLOW_SERVICE", "false"),
        ("AIGW_CUSTOMER_PORTAL_URL", ""),
        ("AIGW_SNOWPLOW__ENABLED", ""),
        ("PATH", "/bin"),
    ]);
    assert_eq!(quiet.config.expect("valid").notices, []);
}

#[test]
fn unknown_variables_are_answered_and_ignored() {
    for (variable, expected) in [
        ("AIGW_GITLAB_ULR", "did you mean AIGW_GITLAB_URL?"),
        ("aigw_gitlab_ulr", "did you mean AIGW_GITLAB_URL?"),
        ("AIGW_ZEBRA", "no such variable is known"),
    ] {
        let config = with(&[(variable, "x")]).config.expect("never an error");
        let [notice] = &config.notices[..] else { panic!("one notice: {:?}", config.notices) };
        assert!(notice.variable == variable && notice.why.contains(expected), "{notice}");
    }
}

#[test]
fn foreign_variables_are_no_news_to_a_server_without_gitlab() {
    let variables = [("AWS_PROFILE", "x"), ("PORT", "1"), ("DUO_WORKFLOW_AUTH__ENABLED", "false"), ("AIGW_ZEBRA", "x")];
    let config = resolve(&Environment::from(variables), None, &[]).config.expect("valid");
    let named: Vec<&str> = config.notices.iter().map(|notice| notice.variable.as_str()).collect();
    assert_eq!(named, ["DUO_WORKFLOW_AUTH__ENABLED", "AIGW_ZEBRA"]);
}

#[test]
fn they_stand_between_the_file_and_our_variables() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("sconce.toml");
    let toml =
        "[server]\nlisten = \"127.0.0.1:1\"\n[gitlab]\nurl = \"https://file.example.com\"\naudience = \"file\"\n";
    std::fs::write(&file, toml).expect("the folder is writable");
    let environment = Environment::from([
        ("SCONCE__GITLAB__URL", "https://ours.example.com"),
        ("AIGW_GITLAB_URL", "https://theirs.example.com"),
        ("AIGW_CLOUD_CONNECTOR_SERVICE_NAME", "theirs"),
        ("AIGW_FASTAPI__API_HOST", "::"),
        ("SSL_CERT_FILE", "/a.pem"),
        ("REQUESTS_CA_BUNDLE", "/b.pem"),
    ]);
    let resolution = resolve(&environment, Some(file), &[]);
    assert_eq!(answer(&resolution, "SSL_CERT_FILE").as_deref(), Some("tls.extra_ca_files = /a.pem, /b.pem"));
    let config = resolution.config.expect("valid");
    assert_eq!(config.gitlab.url.as_deref(), Some("https://ours.example.com"));
    assert_eq!(config.gitlab.audience, "theirs");
    assert_eq!(config.server.listen.to_string(), "[::]:1");
    assert_eq!(config.tls.extra_ca_files.len(), 2);
}

#[test]
fn the_documented_container_starts() {
    let key = PEM.replace('\n', "\\n");
    let config = with(&[
        ("AIGW_GITLAB_API_URL", "https://gitlab.example.com/api/v4/"),
        ("AIGW_FASTAPI__API_HOST", "0.0.0.0"),
        ("AIGW_FASTAPI__METRICS_HOST", "0.0.0.0"),
        ("AIGW_FASTAPI__METRICS_PORT", "8082"),
        ("AIGW_CUSTOMER_PORTAL_URL", ""),
        ("AIGW_LOGGING__FORMAT_JSON", "true"),
        ("AIGW_SELF_SIGNED_JWT__SIGNING_KEY", &format!("\"{key}\"")),
        ("DUO_WORKFLOW_SELF_SIGNED_JWT__SIGNING_KEY", &key),
    ]);
    let config = config.config.expect("valid without an API key: GitLab's tokens are asked for");
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:5052");
    assert_eq!(config.metrics.expect("on").listen.to_string(), "0.0.0.0:8082");
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.gitlab.signing_key.expect("given").reveal(), PEM);
    assert_eq!(config.gitlab.portal_url, None);
}
