//! Every key there is: its default and what it means. A key that is not listed here does not exist.

/// One setting. `default` is written as it would be in the environment.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning }
}

pub const KEYS: &[Key] = &[
    key("server.listen", "127.0.0.1:5052", "address of the API; port 0 takes a free one"),
    key("server.connections_max", "1024", "connections open at once"),
    key("server.streams_per_connection_max", "128", "calls at once on one HTTP/2 connection"),
    key("server.header_bytes_max", "32KiB", "largest request head"),
    key("server.header_read_timeout_s", "10", "seconds a client has for its headers"),
    key("server.body_bytes_max", "8MiB", "largest request body"),
    key("server.body_read_timeout_s", "30", "seconds a client has for its body"),
    key("server.write_stall_timeout_s", "60", "a client that takes nothing for so long is cut off"),
    key("server.keep_alive_interval_s", "10", "silence after which a stream sends a comment"),
    key("server.deadline_max_s", "3600", "largest deadline a caller may ask for"),
    key("server.shutdown_grace_s", "30", "seconds running answers get after SIGTERM"),
    key("metrics.listen", "127.0.0.1:9464", "address of the Prometheus metrics, or off"),
    key("auth.keys_file", "", "file of hashed API keys, one per line: see `sconce key new`"),
    key("auth.keys", "", "API keys in the clear; better kept in keys_file"),
    key("engine.threads", "auto", "compute threads; auto takes one per core"),
    key("engine.device", "auto", "what computes: cpu, cuda, cuda:N; auto takes a GPU where there is one"),
    key("engine.kv_memory", "auto", "memory for keys and values, per model; auto is 512MiB, on a GPU what is free"),
    key("engine.quantise", "none", "what weights become while loading: none, q8_0 (CPU), fp8 or int4 (GPU)"),
    key("engine.context_tokens_max", "auto", "caps every model's context; auto takes what it was trained for"),
    key("engine.step_tokens_max", "auto", "tokens computed in one step; auto is 512, on a GPU 2048"),
    key("engine.prefill_chunk_max", "auto", "prompt tokens of one sequence in a step; auto is 256, on a GPU 1024"),
    key("engine.running_max", "auto", "sequences computed at once; auto is 64, on a GPU 128"),
    key("engine.waiting_max", "256", "requests that may wait; more are answered 429"),
    key("engine.batch_invariant", "off", "same answer in any company on a GPU too, at a cost in speed"),
    key("engine.speculation", "auto", "guess tokens that repeat earlier text and verify several at once: auto, off"),
    key("engine.chat_share", "0.25", "share of a step that chat gets while completions wait"),
    key("engine.promote_after_ms", "2000", "waiting time after which chat counts as completion"),
    key("engine.completion_deadline_ms", "30000", "time a completion may take"),
    key("engine.chat_deadline_ms", "600000", "time a chat answer may take"),
    key("limits.choices_max", "8", "answers per request: prompts times n"),
    key("limits.max_tokens_max", "1048576", "largest max_tokens; the context limits it further"),
    key("limits.messages_max", "4096", "messages per chat request"),
    key("limits.stop_strings_max", "16", "stop strings per request"),
    key("limits.stop_bytes_max", "256", "length of one stop string"),
    key("limits.logit_bias_entries_max", "1024", "entries of logit_bias"),
    key("limits.top_logprobs_max", "20", "alternatives reported per token"),
    key("limits.json_values_max", "1000000", "values in a request body"),
    key("limits.json_depth_max", "32", "how deep they may be nested"),
    key("catalog.cards_dir", "", "folder of further model cards"),
    key("catalog.embedded", "auto", "serve the built-in model: on, off, auto (when no other model is set)"),
    key("catalog.embedded_aliases", "", "further names of the built-in model"),
    key("gitlab.url", "", "GitLab whose tokens are accepted; empty switches GitLab's authentication off"),
    key("gitlab.api_url", "", "API of that GitLab; empty is gitlab.url with /api/v4"),
    key("gitlab.portal_url", "", "portal whose tokens are accepted as well; empty is none"),
    key("gitlab.audience", "gitlab-ai-gateway", "audience that tokens must name"),
    key("gitlab.signing_key", "", "RSA key (PEM) that signs users' tokens; empty makes one in state.dir"),
    key("gitlab.signing_key_file", "", "file that holds gitlab.signing_key"),
    key("gitlab.validation_key", "", "RSA key (PEM) that users' tokens may still be signed with"),
    key("gitlab.validation_key_file", "", "file that holds gitlab.validation_key"),
    key("gitlab.model_api_key", "", "key that GitLab must send for models served here; empty checks none"),
    key("gitlab.model_api_key_file", "", "file that holds gitlab.model_api_key"),
    key("gitlab.enforce_scopes", "true", "refuse tokens without the scope of what is asked"),
    key("gitlab.bypass_external", "false", "accept every caller without a token; on loopback only"),
    key("gitlab.bypass_external_with_header", "false", "the same for callers that send Bypass-Auth: true"),
    key("gitlab.bypass_jwt_signature", "false", "accept tokens without checking signatures; on loopback only"),
    key("gitlab.completion_prompt_tokens_max", "4096", "tokens around the cursor that a completion reads"),
    key("gitlab.chat_max_tokens", "auto", "longest chat answer in tokens; auto is what the prompt asks for"),
    key("gitlab.request_deadline_ms", "auto", "time for a call of GitLab; auto is the engine's deadline"),
    key("gitlab.docs_index", "", "index made by `sconce docs import`"),
    key("state.dir", "", "folder for keys that outlive a restart; empty keeps nothing"),
    key("access.allow", "", "networks that may call, such as 10.0.0.0/8; empty allows all"),
    key("access.trusted_proxies", "", "networks of proxies whose X-Forwarded-For is believed"),
    key("tls.enabled", "auto", "serve HTTPS: on, off, auto (when a certificate is set)"),
    key("tls.cert_file", "", "certificate chain (PEM) of the listener, leaf first"),
    key("tls.key_file", "", "private key (PEM) of that certificate"),
    key("tls.extra_ca_files", "", "certificate authorities (PEM) trusted besides the system's"),
    key("egress.mode", "configured", "configured: only the hosts named here; airgap: only gitlab.url"),
    key("egress.request_endpoints", "", "addresses of model servers that GitLab may name in its calls"),
    key("egress.https_proxy", "", "proxy for https addresses, such as http://proxy:3128"),
    key("egress.http_proxy", "", "proxy for http addresses"),
    key("egress.no_proxy", "", "hosts and networks reached without a proxy"),
    key("cloud.aws_region", "", "region of Bedrock for providers that name none"),
    key("cloud.aws_bearer_token", "", "API key of Bedrock for providers that name none"),
    key("cloud.vertex_location", "", "location of Vertex AI for providers that name none"),
    key("cloud.google_service_account", "", "key (JSON text) of a Google service account for providers that name none"),
    key("log.format", "auto", "text, json, or auto (text on a terminal)"),
    key("log.level", "info", "error, warn, info, debug, trace, or tracing directives"),
    key("log.bodies", "false", "log prompts and answers, secrets masked"),
    key("log.honour_instance_verbose", "true", "log them for a GitLab that asks for verbose AI logs"),
];

/// Keys below `models.NAME`. An empty default follows the engine's setting. A model has a path, or lanes.
pub const MODEL_KEYS: &[Key] = &[
    key("path", "", "GGUF file, or folder with config.json and safetensors"),
    key("quantise", "", "what weights become while loading: none, q8_0 (CPU), fp8 or int4 (GPU)"),
    key("context_tokens", "", "tokens of prompt and answer together"),
    key("kv_memory", "", "memory for keys and values"),
    key("card", "", "name of the card that describes it"),
    key("aliases", "", "further names it answers to"),
    key("lanes", "", LANES),
    key("remote", "", REMOTE),
    key("leave_after_ms", "", LEAVE),
    key("hedge_after_ms", "", HEDGE),
    key("longer_elsewhere", "", LONGER),
];

const LANES: &str = "who is asked, one after the other: local:NAME, PROVIDER:MODEL";
const REMOTE: &str = "whether work may leave this machine: never, on_failure, always";
const LEAVE: &str = "silence after which the next lane is asked instead; auto is half of the time left";
const HEDGE: &str = "silence after which the next lane is asked as well; the first to speak answers";
const LONGER: &str = "a later lane holds more: what is too long goes there";

/// Keys below `routes.FEATURE`.
pub const ROUTE_KEYS: &[Key] = &[
    key("lanes", "", LANES),
    key("remote", "", REMOTE),
    key("leave_after_ms", "", LEAVE),
    key("hedge_after_ms", "", HEDGE),
    key("longer_elsewhere", "", LONGER),
];

/// Keys below `providers.NAME`.
pub const PROVIDER_KEYS: &[Key] = &[
    key("kind", "", "what is spoken there, such as openai, vllm, anthropic"),
    key("url", "", "address of its API, with /v1 where it has one"),
    key("api_key", "", "its key"),
    key("api_key_file", "", "file that holds its key"),
    key("max_tokens", "", "longest answer where a call leaves it open"),
    key("context_tokens", "", "what its models hold, prompt and answer together"),
    key("infill", "", "how it completes code: auto, none, suffix, fim, or a model card"),
    key("head_timeout_s", "", "seconds until its answer begins"),
    key("idle_timeout_s", "", "seconds of silence in an answer"),
    key("by_identifier", "", "answer for models that GitLab names by this provider: bedrock/ID, azure/ID and so on"),
    key("answer_prefix", "", "its model goes on from the beginning of an answer (Anthropic, Bedrock, Vertex)"),
    key(
        "sampling",
        "",
        "of temperature and top_p, its model takes: both, either, neither (Anthropic, Bedrock, Vertex)",
    ),
    key("extra", "", "JSON object of fields sent with every request beside ours"),
    key(
        "credentials",
        "",
        "what opens it: key, token_file, aws_keys, aws_chain, google_… or entra_…; see docs/providers.md",
    ),
    key("token_file", "", "file in which somebody else renews a token"),
    key("region", "", "region of Bedrock, such as eu-central-1"),
    key("profile", "", "profile of AWS's configuration files"),
    key("access_key_id", "", "AWS access key"),
    key("secret_access_key", "", "its secret"),
    key("secret_access_key_file", "", "file that holds its secret"),
    key("session_token", "", "session token of a temporary AWS key"),
    key("session_token_file", "", "file that holds the session token"),
    key("project", "", "Google project that pays; empty is that of the service account"),
    key("location", "", "location of Vertex AI, such as europe-west4, eu or global"),
    key("credentials_file", "", "key file (JSON) of a Google service account"),
    key("tenant_id", "", "tenant of Entra ID"),
    key("client_id", "", "application or identity of Entra ID"),
    key("client_secret", "", "secret of that application"),
    key("client_secret_file", "", "file that holds its secret"),
    key("scope", "", "what a token of Entra ID is for; empty is Azure's cognitive services"),
    key("authority", "", "who issues tokens of Entra ID; empty is the public cloud's"),
    key("realm", "", "realm of the GitLab that the token of another gateway was issued to"),
    key("instance_id", "", "id of that GitLab"),
    key("instance_host", "", "host of that GitLab"),
    key("instance_version", "", "version of that GitLab"),
    key("global_user_id", "", "user whom calls of the other gateway are counted for"),
    key("model_provider", "", "who serves the model, as the other gateway calls it"),
    key("affinity", "", "send x-session-id, by which a cluster's router keeps what belongs together on one server"),
    key("failures_max", "", "failures in a row after which it is left alone for a while"),
];

/// Sections whose keys stand one level deeper, below a name.
pub const NESTED: &[(&str, &[Key])] = &[("models", MODEL_KEYS), ("providers", PROVIDER_KEYS), ("routes", ROUTE_KEYS)];

/// The keys below the names of `section`.
pub fn nested(section: &str) -> Option<&'static [Key]> {
    NESTED.iter().find(|(known, _)| *known == section).map(|(_, keys)| *keys)
}

/// Whether `name` may stand between a section and its keys: routes are for GitLab's features.
pub fn may_be_named(section: &str, name: &str) -> bool {
    !name.is_empty() && (section != "routes" || FEATURES.contains(&name))
}

/// Keys below `features`: GitLab's names of the features a model can be chosen for, and what is chosen for the rest.
pub const FEATURES: &[&str] = &[
    "default",
    "code_completions",
    "code_generations",
    "duo_chat",
    "duo_chat_explain_code",
    "duo_chat_write_tests",
    "duo_chat_refactor_code",
    "duo_chat_fix_code",
    "duo_chat_troubleshoot_job",
    "duo_chat_explain_vulnerability",
    "duo_chat_summarize_comments",
    "generate_commit_message",
    "summarize_new_merge_request",
    "resolve_vulnerability",
    "summarize_review",
    "review_merge_request",
    "glab_ask_git_command",
    "duo_agent_platform",
    "duo_agent_platform_agentic_chat",
];

pub const FEATURE_MEANING: &str = "model that answers this feature, whatever GitLab names";

/// Keys whose values are never shown.
pub const SECRETS: &[&str] = &[
    "auth.keys",
    "gitlab.signing_key",
    "gitlab.validation_key",
    "gitlab.model_api_key",
    "egress.https_proxy",
    "egress.http_proxy",
    "cloud.aws_bearer_token",
    "cloud.google_service_account",
];

/// Last parts of keys below a name whose values are never shown.
pub const NESTED_SECRETS: &[&str] = &["api_key", "client_secret", "secret_access_key", "session_token"];

/// Whether the value of `key` is never shown.
pub fn is_secret(key: &str) -> bool {
    let is_below_a_name = key.split('.').next().is_some_and(|section| nested(section).is_some());
    let last = key.rsplit('.').next().unwrap_or(key);
    SECRETS.contains(&key) || (is_below_a_name && NESTED_SECRETS.contains(&last))
}

/// Whether there is such a key, a model's or a feature's included.
pub fn is_known(path: &[String]) -> bool {
    match path {
        [section, between, name] if nested(section).is_some() => {
            let keys = nested(section).unwrap_or_default();
            may_be_named(section, between) && keys.iter().any(|key| key.name == name)
        }
        [section, feature] if section == "features" => FEATURES.contains(&feature.as_str()),
        _ => KEYS.iter().any(|key| key.name == path.join(".")),
    }
}

/// What a key means; empty for one that is not known.
pub fn meaning(key: &str) -> &'static str {
    if key.starts_with("features.") {
        return FEATURE_MEANING;
    }
    let name = key.rsplit('.').next().unwrap_or(key);
    let in_section = KEYS.iter().find(|known| known.name == key);
    let section = key.split('.').next().unwrap_or(key);
    let below_a_name = || nested(section)?.iter().find(|known| known.name == name);
    in_section.or_else(below_a_name).map_or("", |known| known.meaning)
}

/// The known name most like `name`, unless nothing is close.
pub fn suggest<'known>(name: &str, known: impl IntoIterator<Item = &'known str>) -> Option<&'known str> {
    let lower = name.to_lowercase();
    let (distance, best) = known.into_iter().map(|known| (edit_distance(&lower, known), known)).min()?;
    (distance <= 2 + lower.len() / 6).then_some(best)
}

/// The known key meant by `name`: near it as a whole, or the only one with the same last part.
pub fn suggest_key(name: &str) -> Option<String> {
    if let Some(feature) = name.strip_prefix("features.") {
        return suggest(feature, FEATURES.iter().copied()).map(|feature| format!("features.{feature}"));
    }
    if let Some((feature, key)) = name.strip_prefix("routes.").and_then(|rest| rest.rsplit_once('.')) {
        let feature = suggest(feature, FEATURES.iter().copied())?;
        return suggest(key, ROUTE_KEYS.iter().map(|key| key.name)).map(|key| format!("routes.{feature}.{key}"));
    }
    let names = || KEYS.iter().map(|key| key.name);
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let mut same_last = names().filter(|known| last(known) == last(name));
    if let (Some(known), None) = (same_last.next(), same_last.next()) {
        return Some(known.to_owned());
    }
    suggest(name, names()).map(str::to_owned)
}

/// Insertions, deletions and substitutions that lead from one to the other (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (left_index, left_char) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], left_index + 1);
        for (right_index, right_char) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left_char != *right_char);
            diagonal = row[right_index + 1];
            row[right_index + 1] = substituted.min(diagonal + 1).min(row[right_index] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        for (written, meant) in [
            ("server.listn", Some("server.listen")),
            ("engine.kv_memroy", Some("engine.kv_memory")),
            ("server.threads", Some("engine.threads")),
            ("engine.quantize", Some("engine.quantise")),
            ("threads", Some("engine.threads")),
            ("features.code_completion", Some("features.code_completions")),
            ("gitlab.bypass_extrenal", Some("gitlab.bypass_external")),
            ("routes.code_completion.lanes", Some("routes.code_completions.lanes")),
            ("nothing.of.the.kind", None),
        ] {
            assert_eq!(suggest_key(written).as_deref(), meant, "{written}");
        }
    }

    #[test]
    fn counts_edits() {
        for (left, right, edits) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("same", "same", 0)] {
            assert_eq!(edit_distance(left, right), edits, "{left} {right}");
        }
    }
}
