//! Every variable that an administrator of GitLab's gateway may have set, and what becomes of it.

use super::super::reader::parse_flag;

/// `name` may end with `*`, which stands for any rest.
pub struct Known {
    pub name: &'static str,
    pub effect: Effect,
}

#[derive(Clone, Copy)]
pub enum Effect {
    /// Its value is that of a key of ours.
    Sets(&'static str),
    /// The same after a change of spelling or unit; an error says why the value cannot be taken.
    Translates(&'static str, fn(&str) -> Result<String, String>),
    /// It is one half of an address.
    Listens(&'static str, Part),
    /// It is one more item of a list.
    AddsTo(&'static str),
    /// This value is what is the case here anyway; any other is answered with the reason.
    IsAlways(&'static str, &'static str),
    /// It is answered with the reason.
    Nothing(&'static str),
}

#[derive(Clone, Copy)]
pub enum Part {
    Host,
    Port,
}

impl Known {
    pub fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            // What is listed by its full name has an effect of its own.
            Some(prefix) => name.starts_with(prefix) && !KNOWN.iter().any(|known| known.name == name),
            None => self.name == name,
        }
    }
}

const fn sets(name: &'static str, key: &'static str) -> Known {
    Known { name, effect: Effect::Sets(key) }
}

const fn translates(name: &'static str, key: &'static str, how: fn(&str) -> Result<String, String>) -> Known {
    Known { name, effect: Effect::Translates(key, how) }
}

const fn listens(name: &'static str, key: &'static str, part: Part) -> Known {
    Known { name, effect: Effect::Listens(key, part) }
}

const fn adds(name: &'static str, key: &'static str) -> Known {
    Known { name, effect: Effect::AddsTo(key) }
}

const fn always(name: &'static str, value: &'static str, why: &'static str) -> Known {
    Known { name, effect: Effect::IsAlways(value, why) }
}

const fn nothing(name: &'static str, why: &'static str) -> Known {
    Known { name, effect: Effect::Nothing(why) }
}

const NO_PAGES: &str = "no pages about the API are served";
const NO_TELEMETRY: &str = "there is no telemetry, billing or audit stream: nothing is sent anywhere";
const NO_MODEL_SERVERS: &str = "models run in this process, so no connection to a model server exists";
const NO_CLOUD: &str = "no cloud provider is called unless a [providers.NAME] says so, with its key";
const NO_AGENT_PLATFORM: &str =
    "the agent platform service (gRPC, port 50052) is not part of this version; leave its URL empty in GitLab";
const NO_TRACING_SERVICE: &str = "no tracing service is called";

/// In the order in which they are stacked: where two set one key, the later wins.
pub const KNOWN: &[Known] = &[
    sets("AIGW_GITLAB_URL", "gitlab.url"),
    sets("AIGW_GITLAB_API_URL", "gitlab.api_url"),
    sets("AIGW_CUSTOMER_PORTAL_URL", "gitlab.portal_url"),
    sets("AIGW_CLOUD_CONNECTOR_SERVICE_NAME", "gitlab.audience"),
    sets("AIGW_SELF_SIGNED_JWT__SIGNING_KEY", "gitlab.signing_key"),
    sets("AIGW_SELF_SIGNED_JWT__SIGNING_KEY_FILE", "gitlab.signing_key_file"),
    sets("AIGW_SELF_SIGNED_JWT__VALIDATION_KEY", "gitlab.validation_key"),
    sets("AIGW_SELF_SIGNED_JWT__VALIDATION_KEY_FILE", "gitlab.validation_key_file"),
    sets("AIGW_AUTH__BYPASS_EXTERNAL", "gitlab.bypass_external"),
    sets("AIGW_AUTH__BYPASS_EXTERNAL_WITH_HEADER", "gitlab.bypass_external_with_header"),
    sets("AIGW_AUTH__BYPASS_JWT_SIGNATURE", "gitlab.bypass_jwt_signature"),
    sets("AIGW_DUO_CHAT__MAX_TOKENS", "gitlab.chat_max_tokens"),
    translates("AIGW_DUO_CHAT__MODEL_REQUEST_TIMEOUT", "gitlab.request_deadline_ms", milliseconds),
    always("AIGW_MOCK_MODEL_RESPONSES", "false", "answers come from a model here, the built-in one if no other is set"),
    listens("AIGW_FASTAPI__API_HOST", "server.listen", Part::Host),
    listens("AIGW_FASTAPI__API_PORT", "server.listen", Part::Port),
    listens("AIGW_FASTAPI__METRICS_HOST", "metrics.listen", Part::Host),
    listens("AIGW_FASTAPI__METRICS_PORT", "metrics.listen", Part::Port),
    translates("AIGW_FASTAPI__TLS__ENABLED", "tls.enabled", on_or_off),
    sets("AIGW_FASTAPI__TLS__CERT_FILE", "tls.cert_file"),
    sets("AIGW_FASTAPI__TLS__KEY_FILE", "tls.key_file"),
    nothing(
        "AIGW_FASTAPI__TLS__SSL_CIPHERS",
        "TLS 1.2 and 1.3 are spoken with rustls' suites, none of which is weak; there is nothing to choose",
    ),
    nothing("AIGW_FASTAPI__OPENAPI_URL", NO_PAGES),
    nothing("AIGW_FASTAPI__DOCS_URL", NO_PAGES),
    nothing("AIGW_FASTAPI__REDOC_URL", NO_PAGES),
    always("AIGW_FASTAPI__RELOAD", "false", "a running server does not reload its code"),
    translates("AIGW_LOGGING__LEVEL", "log.level", level),
    translates("AIGW_LOGGING__FORMAT_JSON", "log.format", json_or_text),
    sets("AIGW_LOGGING__ENABLE_REQUEST_LOGGING", "log.bodies"),
    nothing(
        "AIGW_LOGGING__TO_FILE",
        "the log goes to standard error; let the container or the service manager keep it",
    ),
    always(
        "AIGW_LOGGING__ENABLE_LITELLM_LOGGING",
        "false",
        "models run in this process: log.level = \"info,sconce::engine=debug\" shows what they do",
    ),
    always("AIGW_CUSTOM_MODELS__ENABLED", "true", "serving your own models is all this gateway does"),
    always("AIGW_CUSTOM_MODELS__DISABLE_STREAMING", "false", NO_MODEL_SERVERS),
    nothing("AIGW_CUSTOM_MODELS__EXTRA_HEADERS", NO_MODEL_SERVERS),
    always(
        "AIGW_MODEL_ENGINE_LIMITS",
        "{}",
        "it limits remote engines; the engine here is limited by engine.running_max, engine.waiting_max and limits.*",
    ),
    nothing("AIGW_MODEL_SELECTION__*", "which model answers which feature is set below [features]"),
    always("AIGW_MTLS__ENABLED", "false", NO_MODEL_SERVERS),
    nothing("AIGW_MTLS__*", NO_MODEL_SERVERS),
    always("AIGW_INTERNAL_EVENT__ENABLED", "false", NO_TELEMETRY),
    nothing("AIGW_INTERNAL_EVENT__*", NO_TELEMETRY),
    always("AIGW_BILLING_EVENT__ENABLED", "false", NO_TELEMETRY),
    nothing("AIGW_BILLING_EVENT__*", NO_TELEMETRY),
    always("AIGW_SNOWPLOW__ENABLED", "false", NO_TELEMETRY),
    nothing("AIGW_SNOWPLOW__*", NO_TELEMETRY),
    always("AIGW_AUDIT_EVENT__ENABLED", "false", NO_TELEMETRY),
    nothing("AIGW_AUDIT_EVENT__*", NO_TELEMETRY),
    nothing("AIGW_FEATURE_FLAGS__DISALLOWED_FLAGS", "no behaviour here hangs on GitLab's feature flags"),
    nothing("AIGW_FEATURE_FLAGS__EXCL_POST_PROCESS", "every completion is trimmed the same way, for every model"),
    nothing(
        "AIGW_FEATURE_FLAGS__FIREWORKS_SCORE_THRESHOLD",
        "it filters answers of a cloud provider, and none is called",
    ),
    always(
        "AIGW_PROXY_ENDPOINTS__SELF_MANAGED_ENABLED",
        "false",
        "there are no endpoints that pass requests on to model vendors",
    ),
    adds("SSL_CERT_FILE", "tls.extra_ca_files"),
    adds("REQUESTS_CA_BUNDLE", "tls.extra_ca_files"),
    nothing("SSL_CERT_DIR", "a folder is not searched: name the files in tls.extra_ca_files or SSL_CERT_FILE"),
    translates("HTTPS_PROXY", "egress.https_proxy", proxy),
    translates("https_proxy", "egress.https_proxy", proxy),
    translates("HTTP_PROXY", "egress.http_proxy", proxy),
    translates("http_proxy", "egress.http_proxy", proxy),
    sets("NO_PROXY", "egress.no_proxy"),
    sets("no_proxy", "egress.no_proxy"),
    nothing("ALL_PROXY", "set HTTPS_PROXY or HTTP_PROXY"),
    nothing("all_proxy", "set HTTPS_PROXY or HTTP_PROXY"),
    always("WEB_CONCURRENCY", "1", "one process uses every core: engine.threads says how many"),
    always("HF_HUB_OFFLINE", "true", "nothing is ever downloaded"),
    always("LANGSMITH_TRACING_V2", "false", NO_TRACING_SERVICE),
    nothing("LANGCHAIN_*", NO_TRACING_SERVICE),
    nothing("LANGSMITH_*", NO_TRACING_SERVICE),
    sets("AWS_REGION", "cloud.aws_region"),
    sets("AWS_REGION_NAME", "cloud.aws_region"),
    sets("AWS_BEARER_TOKEN_BEDROCK", "cloud.aws_bearer_token"),
    sets("VERTEXAI_LOCATION", "cloud.vertex_location"),
    sets("AIGW_GOOGLE_CLOUD_PLATFORM__SERVICE_ACCOUNT_JSON_KEY", "cloud.google_service_account"),
    nothing("AWS_*", NO_CLOUD),
    nothing("VERTEXAI_*", NO_CLOUD),
    nothing("GOOGLE_APPLICATION_CREDENTIALS", NO_CLOUD),
    nothing("ANTHROPIC_API_KEY", NO_CLOUD),
    nothing("OPENAI_API_KEY", NO_CLOUD),
    nothing("AZURE_*", NO_CLOUD),
    nothing("MISTRAL_API_KEY", NO_CLOUD),
    nothing("FIREWORKS_*", NO_CLOUD),
    always("ENABLE_DUO_WORKFLOW_SERVICE", "false", NO_AGENT_PLATFORM),
    always("DISABLE_AI_GATEWAY", "false", "the gateway is what this process is; stop it instead"),
    nothing("DUO_WORKFLOW_*", NO_AGENT_PLATFORM),
    nothing("DUO_AGENT_PLATFORM_*", "it is read by GitLab, not by the gateway"),
    nothing("UNPICKLING_ENABLED", NO_AGENT_PLATFORM),
    nothing("PORT", "it is the agent platform's port; the API's is set by AIGW_FASTAPI__API_PORT or server.listen"),
    nothing("PROMETHEUS_METRICS__*", "they are the agent platform's metrics; the gateway's are at metrics.listen"),
];

/// Seconds, whole or not, as milliseconds.
fn milliseconds(seconds: &str) -> Result<String, String> {
    const SECONDS_MAX: f64 = 86_400.0;
    match seconds.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= SECONDS_MAX => Ok(format!("{:.0}", (number * 1000.0).max(1.0))),
        _ => Err(format!("a number of seconds up to {SECONDS_MAX} is needed")),
    }
}

fn on_or_off(flag: &str) -> Result<String, String> {
    let flag = parse_flag(flag).ok_or("true or false is needed")?;
    Ok(if flag { "on" } else { "off" }.to_owned())
}

fn json_or_text(flag: &str) -> Result<String, String> {
    let flag = parse_flag(flag).ok_or("true or false is needed")?;
    Ok(if flag { "json" } else { "text" }.to_owned())
}

/// The levels of Python's logging.
fn level(level: &str) -> Result<String, String> {
    let ours = match level.to_uppercase().as_str() {
        "CRITICAL" | "FATAL" | "ERROR" | "50" | "40" => "error",
        "WARNING" | "WARN" | "30" => "warn",
        "INFO" | "20" | "NOTSET" | "0" => "info",
        "DEBUG" | "10" => "debug",
        _ => return Err("DEBUG, INFO, WARNING, ERROR or CRITICAL is needed".to_owned()),
    };
    Ok(ours.to_owned())
}

/// The address of a proxy, which is often written without `http://`.
fn proxy(address: &str) -> Result<String, String> {
    match address.split_once("://") {
        Some(("http" | "https" | "HTTP" | "HTTPS", _)) => Ok(address.to_owned()),
        Some((scheme, _)) => Err(format!("proxies of the kind {scheme} are not spoken to, only http and https")),
        None => Ok(format!("http://{address}")),
    }
}
