//! Which model a call is for: the flat keys of older endpoints, the `model_metadata` object of newer ones, or nothing.

use super::validation::{ValidationError, text, trimmed_text};
use crate::feature::Family;
use crate::wire::read::{Field, Fields};

const NAME_CHARS_MAX: usize = 255;
const ENDPOINT_CHARS_MAX: usize = 255;
const KEY_CHARS_MAX: usize = 2000;
const IDENTIFIER_CHARS_MAX: usize = 1000;

/// The model that an administrator chose for a feature, as far as the call says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelChoice {
    /// `None` for a family that no known version of GitLab offers, and where none was named.
    pub family: Option<Family>,
    /// As it was sent; answers repeat it. Empty where none was named.
    pub family_name: String,
    /// For example `custom_openai/mistral-7b`.
    pub identifier: Option<String>,
    /// Without the slash at its end.
    pub endpoint: Option<String>,
    pub api_key: Option<Secret>,
    pub source: Source,
}

/// How the model was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Flat,
    Metadata,
    /// Nobody named one: the default is meant.
    Absent,
    /// One of GitLab's own was named, which no self-hosted gateway has: the default is meant.
    GitlabManaged,
}

/// A key of a model server. Shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// What an endpoint calls the flat keys.
#[derive(Clone, Copy, Debug)]
pub struct FlatKeys {
    pub name: &'static str,
    pub name_chars_max: usize,
    pub endpoint: &'static str,
    pub api_key: &'static str,
    pub identifier: &'static str,
}

impl FlatKeys {
    /// `/v2/code/*`.
    pub const CODE: Self = Self { name: "model_name", name_chars_max: 50, ..Self::CHAT };
    /// `/v1/chat/*`.
    pub const CHAT: Self = Self {
        name: "model",
        name_chars_max: NAME_CHARS_MAX,
        endpoint: "model_endpoint",
        api_key: "model_api_key",
        identifier: "model_identifier",
    };
}

impl ModelChoice {
    /// The default model.
    pub fn default_model(source: Source) -> Self {
        Self { family: None, family_name: String::new(), identifier: None, endpoint: None, api_key: None, source }
    }

    fn named(family_name: String, source: Source) -> Self {
        Self { family: Family::named(&family_name), family_name, ..Self::default_model(source) }
    }
}

/// Reads the flat keys; without a family, an endpoint and an identifier no model was named.
pub fn flat_model(body: &mut Fields, keys: &FlatKeys) -> Result<ModelChoice, ValidationError> {
    let name = body.take(keys.name).map(|field| trimmed_text(field, keys.name_chars_max)).transpose()?;
    let endpoint = endpoint(body.take(keys.endpoint))?;
    let api_key = secret(body.take(keys.api_key))?;
    let identifier = identifier(body.take(keys.identifier))?;
    let name = name.unwrap_or_default();
    if name.is_empty() && endpoint.is_none() && identifier.is_none() {
        return Ok(ModelChoice::default_model(Source::Absent));
    }
    Ok(ModelChoice { identifier, endpoint, api_key, ..ModelChoice::named(name, Source::Flat) })
}

/// Reads the field `model_metadata` of a body. Malformed metadata is an error: the reference ignores it and goes on with
/// a model that nobody chose.
pub fn model_metadata(field: Option<Field>) -> Result<ModelChoice, ValidationError> {
    let Some(field) = field else { return Ok(ModelChoice::default_model(Source::Absent)) };
    let path = field.path.clone();
    let mut fields = field.object()?;
    let provider = fields.take("provider").map(|field| trimmed_text(field, NAME_CHARS_MAX)).transpose()?;
    match provider.as_deref() {
        Some("gitlab") => return Ok(ModelChoice::default_model(Source::GitlabManaged)),
        Some("amazon_q") => {
            let expected = "a provider that a self-hosted gateway can reach, and amazon_q is not";
            return Err(ValidationError::NotAllowed { path: format!("{path}.provider"), expected });
        }
        _ => {}
    }
    let name = trimmed_text(fields.required("name")?, NAME_CHARS_MAX)?;
    if name.is_empty() {
        let expected = "a model family, for example general, and is empty";
        return Err(ValidationError::NotAllowed { path: format!("{path}.name"), expected });
    }
    Ok(ModelChoice {
        endpoint: endpoint(fields.take("endpoint"))?,
        api_key: secret(fields.take("api_key"))?,
        identifier: identifier(fields.take("identifier"))?,
        ..ModelChoice::named(name, Source::Metadata)
    })
}

fn endpoint(field: Option<Field>) -> Result<Option<String>, ValidationError> {
    let Some(field) = field else { return Ok(None) };
    let path = field.path.clone();
    let url = trimmed_text(field, ENDPOINT_CHARS_MAX)?;
    if url.is_empty() {
        return Ok(None);
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| url.get(..scheme.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme)));
    let rest = scheme.map_or("", |scheme| &url[scheme.len()..]);
    let has_host = rest.chars().next().is_some_and(|first| first.is_alphanumeric() || matches!(first, '[' | '_'))
        || rest.contains('@');
    if !has_host || url.chars().any(|char| char.is_whitespace() || char.is_control()) {
        let expected = "a URL that begins with http:// or https:// and names a host";
        return Err(ValidationError::NotAllowed { path, expected });
    }
    Ok(Some(url.trim_end_matches('/').to_owned()))
}

fn secret(field: Option<Field>) -> Result<Option<Secret>, ValidationError> {
    let key = field.map(|field| text(field, KEY_CHARS_MAX)).transpose()?;
    Ok(key.filter(|key| !key.is_empty()).map(Secret))
}

fn identifier(field: Option<Field>) -> Result<Option<String>, ValidationError> {
    let identifier = field.map(|field| trimmed_text(field, IDENTIFIER_CHARS_MAX)).transpose()?;
    Ok(identifier.filter(|identifier| !identifier.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::gitlab::validation::body;

    fn metadata(text: &str) -> Result<ModelChoice, ValidationError> {
        let mut fields = body(format!("{{\"model_metadata\": {text}}}").as_bytes()).expect("valid JSON");
        model_metadata(fields.take("model_metadata"))
    }

    #[test]
    fn reads_what_gitlab_sends() {
        let choice = metadata(
            r#"{"provider": "openai", "name": "codestral", "endpoint": "http://127.0.0.1:5052/v1/", "api_key": "sk-1",
                "identifier": "custom_openai/example", "later": {"a": 1}}"#,
        );
        let expected = ModelChoice {
            family: Some(Family::Codestral),
            family_name: "codestral".to_owned(),
            identifier: Some("custom_openai/example".to_owned()),
            endpoint: Some("http://127.0.0.1:5052/v1".to_owned()),
            api_key: Some(Secret::new("sk-1".to_owned())),
            source: Source::Metadata,
        };
        assert_eq!(choice, Ok(expected.clone()));
        assert!(!format!("{expected:?}").contains("sk-1"));
        let check = |text: &str, source: Source, family: Option<Family>, name: &str| {
            let choice = metadata(text).expect(text);
            assert_eq!((choice.source, choice.family, choice.family_name.as_str()), (source, family, name), "{text}");
        };
        check("null", Source::Absent, None, "");
        check(r#"{"provider": "gitlab", "identifier": "", "feature_setting": "x"}"#, Source::GitlabManaged, None, "");
        check(r#"{"provider": "openai", "name": "general"}"#, Source::Metadata, Some(Family::General), "general");
        check(r#"{"provider": "openai", "name": "grok"}"#, Source::Metadata, None, "grok");
        check(r#"{"name": "qwen", "identifier": "", "endpoint": ""}"#, Source::Metadata, Some(Family::Qwen), "qwen");
    }

    #[test]
    fn malformed_metadata_is_refused_with_a_reason() {
        let check = |text: &str, reason: &str| {
            assert_eq!(metadata(text).map_err(|error| error.to_string()), Err(reason.to_owned()), "{text}");
        };
        check("7", "model_metadata has to be an object, found an integer");
        check(r#"{"provider": "openai"}"#, "model_metadata.name is required");
        check(r#"{"name": " "}"#, "model_metadata.name has to be a model family, for example general, and is empty");
        check(
            r#"{"name": "gpt", "endpoint": "ftp://x"}"#,
            "model_metadata.endpoint has to be a URL that begins with http:// or https:// and names a host",
        );
        check(
            r#"{"provider": "amazon_q", "name": "amazon_q"}"#,
            "model_metadata.provider has to be a provider that a self-hosted gateway can reach, and amazon_q is not",
        );
        check(
            &format!(r#"{{"name": "gpt", "api_key": "{}"}}"#, "k".repeat(2001)),
            "model_metadata.api_key has 2001 characters, at most 2000 are allowed",
        );
        check(r#"{"name": "gpt", "identifier": 5}"#, "model_metadata.identifier has to be a string, found an integer");
    }

    #[test]
    fn flat_keys_name_a_model_or_none() {
        let check = |text: &str, source: Source, family: Option<Family>| {
            let choice = flat_model(&mut body(text.as_bytes()).expect("valid"), &FlatKeys::CODE).expect(text);
            assert_eq!((choice.source, choice.family), (source, family), "{text}");
        };
        check(r#"{"model_name": "codestral"}"#, Source::Flat, Some(Family::Codestral));
        check(r#"{"model_identifier": "custom_openai/a"}"#, Source::Flat, None);
        check(r#"{"model_name": null, "model_endpoint": "", "model_api_key": "x"}"#, Source::Absent, None);
        let long = format!(r#"{{"model_name": "{}"}}"#, "m".repeat(51));
        assert!(flat_model(&mut body(long.as_bytes()).expect("valid"), &FlatKeys::CODE).is_err());
        let chat = flat_model(&mut body(br#"{"model": "mistral"}"#).expect("valid"), &FlatKeys::CHAT);
        assert_eq!(chat.map(|choice| choice.family), Ok(Some(Family::Mistral)));
    }
}
