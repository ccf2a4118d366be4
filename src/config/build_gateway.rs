//! Layers to the settings of the gateway, and what only shows in combination.

use super::build::{CONTEXT_TOKENS_MAX, count_nonzero};
use super::build_routing;
use super::problem::Problem;
use super::reader::Reader;
use super::{
    Access, Bypass, Catalog, Egress, EgressMode, Gitlab, Model, ProxyUrl, RoutedModel, Secret, State, Tls, TlsFiles,
};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Far more than any key; a mistaken path should not be read into memory.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;
const URL_BYTES_MAX: usize = 2048;

pub fn gitlab(reader: &mut Reader<'_>) -> Gitlab {
    let url = url(reader, "gitlab.url");
    let api_url = self::url(reader, "gitlab.api_url").or_else(|| url.as_ref().map(|url| format!("{url}/api/v4")));
    Gitlab {
        api_url,
        portal_url: self::url(reader, "gitlab.portal_url"),
        audience: reader.text("gitlab.audience").unwrap_or_else(|| "gitlab-ai-gateway".to_owned()),
        signing_key: pem(reader, "gitlab.signing_key"),
        validation_key: pem(reader, "gitlab.validation_key"),
        bypass: Bypass {
            external: reader.flag("gitlab.bypass_external"),
            external_with_header: reader.flag("gitlab.bypass_external_with_header"),
            jwt_signature: reader.flag("gitlab.bypass_jwt_signature"),
        },
        model_api_key: secret(reader, "gitlab.model_api_key"),
        enforces_scopes: reader.flag("gitlab.enforce_scopes"),
        completion_prompt_tokens_max: count_nonzero(
            reader.whole("gitlab.completion_prompt_tokens_max", 64..=CONTEXT_TOKENS_MAX),
        ),
        chat_max_tokens: reader
            .whole_or_auto("gitlab.chat_max_tokens", 1..=CONTEXT_TOKENS_MAX, "auto")
            .map(count_nonzero),
        request_deadline: reader
            .whole_or_auto("gitlab.request_deadline_ms", 1..=86_400_000, "auto")
            .map(Duration::from_millis),
        docs_index: reader.path("gitlab.docs_index"),
        url,
    }
}

pub fn features(reader: &mut Reader<'_>) -> BTreeMap<&'static str, String> {
    let features = reader.features().into_iter();
    features.filter_map(|feature| Some((feature, reader.text(&format!("features.{feature}"))?))).collect()
}

pub fn state(reader: &mut Reader<'_>) -> State {
    State { dir: reader.path("state.dir") }
}

pub fn access(reader: &mut Reader<'_>) -> Access {
    let expected = "a list of networks such as 10.0.0.0/8, or of single addresses";
    Access {
        allow: reader.list("access.allow", expected, network),
        trusted_proxies: reader.list("access.trusted_proxies", expected, network),
    }
}

pub fn tls(reader: &mut Reader<'_>) -> Tls {
    let choices = [("auto", None), ("on", Some(true)), ("off", Some(false))];
    let enabled = reader.choice("tls.enabled", &choices);
    let (cert_file, key_file) = (reader.path("tls.cert_file"), reader.path("tls.key_file"));
    let is_wanted = enabled.unwrap_or(cert_file.is_some() || key_file.is_some());
    let listener = match (is_wanted, cert_file, key_file) {
        (false, ..) => None,
        (true, Some(cert_file), Some(key_file)) => Some(TlsFiles { cert_file, key_file }),
        (true, cert_file, key_file) => {
            let set = [("tls.cert_file", cert_file.is_some()), ("tls.key_file", key_file.is_some())];
            let asking = set.iter().find(|(_, is_set)| *is_set).map_or("tls.enabled", |(key, _)| key);
            let origin = reader.origin(asking);
            for (missing, _) in set.into_iter().filter(|(_, is_set)| !is_set) {
                reader.problem(Problem::TlsIncomplete { origin: origin.clone(), missing });
            }
            None
        }
    };
    Tls { listener, extra_ca_files: reader.paths("tls.extra_ca_files") }
}

pub fn egress(reader: &mut Reader<'_>, gitlab: &Gitlab) -> Egress {
    let modes = [("configured", EgressMode::Configured), ("airgap", EgressMode::Airgap)];
    let mode = reader.choice("egress.mode", &modes);
    if mode == EgressMode::Airgap && gitlab.portal_url.is_some() {
        let origin = reader.origin("gitlab.portal_url");
        reader.problem(Problem::PortalInAirgap { origin });
    }
    let expected = "an address such as http://proxy.example.com:3128";
    let mut proxy = |key| reader.parsed(key, expected, ProxyUrl::parse, ProxyUrl::to_string);
    Egress {
        mode,
        https_proxy: proxy("egress.https_proxy"),
        http_proxy: proxy("egress.http_proxy"),
        no_proxy: reader.text("egress.no_proxy"),
        request_endpoints: build_routing::request_endpoints(reader),
    }
}

/// Every way around authentication is a problem on a port that others can reach.
pub fn refuse_bypass(reader: &mut Reader<'_>, bypass: &Bypass, listen: SocketAddr) {
    for (key, is_set) in [
        ("gitlab.bypass_external", bypass.external),
        ("gitlab.bypass_external_with_header", bypass.external_with_header),
        ("gitlab.bypass_jwt_signature", bypass.jwt_signature),
    ] {
        if is_set {
            let origin = reader.origin(key);
            reader.problem(Problem::ExposedBypass { origin, key, listen });
        }
    }
}

/// A name leads to one model.
pub fn check_names(reader: &mut Reader<'_>, models: &[Model], routed: &[RoutedModel], catalog: &Catalog) {
    let loaded = models.iter().map(|model| (&model.name, &model.aliases));
    let all: Vec<_> = loaded.chain(routed.iter().map(|model| (&model.name, &model.aliases))).collect();
    let mut owners: BTreeMap<&str, String> = all.iter().map(|(name, _)| (name.as_str(), (*name).clone())).collect();
    let of_models = all.iter().flat_map(|(name, aliases)| aliases.iter().map(|alias| (alias, (*name).clone())));
    let embedded = "the built-in model".to_owned();
    let of_embedded = catalog.embedded_aliases.iter().map(|alias| (alias, embedded.clone()));
    for (alias, owner) in of_models.chain(of_embedded) {
        if let Some(first) = owners.insert(alias, owner.clone()).filter(|first| *first != owner) {
            reader.problem(Problem::NameTwice { name: alias.clone(), first, second: owner });
        }
    }
}

/// An address of a server without a slash at the end. Credentials in it would end up in logs, so they are refused.
pub fn url(reader: &mut Reader<'_>, key: &str) -> Option<String> {
    let expected = "an http or https address without user name and query, such as https://gitlab.example.com";
    reader.parsed(key, expected, bare_address, String::clone)
}

/// An http or https address without user name, query and the slash at its end.
pub fn bare_address(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX)?;
    let is_bare = url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    (is_bare && is_anonymous && is_web).then(|| text.trim_end_matches('/').to_owned())
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A key in PEM. Environment files write its line ends as `\n` and put quotes around it.
fn pem(reader: &mut Reader<'_>, key: &str) -> Option<Secret> {
    let secret = secret(reader, key)?;
    let unquoted = secret.reveal().trim().trim_matches(['"', '\'']).replace("\\n", "\n");
    if !(unquoted.trim_start().starts_with("-----BEGIN ") && unquoted.contains("\n-----END ")) {
        let file_key = format!("{key}_file");
        let key = if reader.origin(key) == "default" { file_key } else { key.to_owned() };
        reader.problem(Problem::NoPem { origin: reader.origin(&key), key });
        return None;
    }
    Some(Secret::new(unquoted))
}

/// What `key` says, or what the file says that `key` with `_file` names.
pub fn secret(reader: &mut Reader<'_>, key: &str) -> Option<Secret> {
    let file_key = format!("{key}_file");
    let given = reader.parsed(key, "text", |text| Some(Secret::new(text)), |_| "(hidden)".to_owned());
    let path = reader.path(&file_key);
    let (given, path) = match (given, path) {
        (given, None) => return given,
        (None, Some(path)) => (None, path),
        (Some(given), Some(path)) => (Some(given), path),
    };
    if given.is_some() {
        let (origin, file_origin) = (reader.origin(key), reader.origin(&file_key));
        reader.problem(Problem::SecretTwice { key: key.to_owned(), origin, file_key, file_origin });
        return given;
    }
    match read_secret(&path) {
        Ok(text) => Some(Secret::new(text)),
        Err(reason) => {
            let origin = reader.origin(&file_key);
            reader.problem(Problem::SecretFile { origin, file_key, path, reason });
            None
        }
    }
}

pub fn read_secret(path: &Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > SECRET_FILE_BYTES_MAX {
        return Err(format!("it has {bytes} bytes, the limit is {SECRET_FILE_BYTES_MAX}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}
