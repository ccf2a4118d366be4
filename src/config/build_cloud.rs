//! Layers to clouds: where a provider is, and what opens it.

use super::Secret;
use super::build_gateway::{read_secret, secret};
use super::cloud::{Credentials, Entra, EntraIdentity, GitlabInstance, Place};
use super::problem::Problem;
use super::reader::Reader;
use super::routing::ProviderKind;
use crate::provider::Entra as EntraDefaults;

/// What a provider can be opened with, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Key,
    TokenFile,
    GoogleServiceAccount,
    GoogleMachine,
    GoogleDefault,
    AwsKeys,
    AwsChain,
    EntraSecret,
    EntraWorkload,
    EntraMachine,
}

const WAYS: &[(&str, Way)] = &[
    ("key", Way::Key),
    ("token_file", Way::TokenFile),
    ("google_service_account", Way::GoogleServiceAccount),
    ("google_machine", Way::GoogleMachine),
    ("google_default", Way::GoogleDefault),
    ("aws_keys", Way::AwsKeys),
    ("aws_chain", Way::AwsChain),
    ("entra_secret", Way::EntraSecret),
    ("entra_workload", Way::EntraWorkload),
    ("entra_machine", Way::EntraMachine),
];

/// Settings that are the same for all providers of a cloud: variables of GitLab's gateway set them.
pub struct Clouds {
    aws_region: Option<String>,
    aws_bearer_token: Option<Secret>,
    vertex_location: Option<String>,
    google_service_account: Option<Secret>,
}

impl Clouds {
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let mut hidden = |key| reader.parsed(key, "text", |text| Some(Secret::new(text)), |_| "(hidden)".to_owned());
        let (aws_bearer_token, google_service_account) =
            (hidden("cloud.aws_bearer_token"), hidden("cloud.google_service_account"));
        let aws_region = reader.text("cloud.aws_region");
        Self {
            aws_region,
            aws_bearer_token,
            vertex_location: reader.text("cloud.vertex_location"),
            google_service_account,
        }
    }

    /// The key of a kind whose providers name none.
    pub fn api_key(&self, kind: ProviderKind) -> Option<Secret> {
        self.aws_bearer_token.clone().filter(|_| matches!(kind, ProviderKind::Bedrock | ProviderKind::BedrockMantle))
    }
}

/// The settings of one provider.
pub struct Below<'a, 'reader, 'figment> {
    pub reader: &'reader mut Reader<'figment>,
    pub clouds: &'a Clouds,
    pub name: &'a str,
    pub kind: ProviderKind,
}

impl Below<'_, '_, '_> {
    fn key(&self, last: &str) -> String {
        format!("providers.{}.{last}", self.name)
    }

    fn text(&mut self, last: &str) -> Option<String> {
        self.reader.text(&self.key(last))
    }

    fn secret(&mut self, last: &str) -> Option<Secret> {
        secret(self.reader, &self.key(last))
    }

    /// Text without which `way` does not open anything.
    fn needed(&mut self, last: &'static str, reason: &'static str) -> Option<String> {
        let found = self.text(last);
        if found.is_none() {
            self.missing(last, reason);
        }
        found
    }

    fn missing(&mut self, last: &'static str, reason: &'static str) {
        let name = self.name.to_owned();
        self.reader.problem(Problem::ProviderLacks { name, key: last, reason });
    }

    /// `None` after a problem.
    pub fn place(&mut self) -> Option<Place> {
        match self.kind {
            ProviderKind::Bedrock => {
                let region = self.text("region").or_else(|| self.clouds.aws_region.clone());
                if region.is_none() {
                    self.missing("region", "Bedrock is in regions, such as eu-central-1");
                }
                region.map(|region| Place::Bedrock { region })
            }
            ProviderKind::Vertex => {
                let location = self.text("location").or_else(|| self.clouds.vertex_location.clone());
                if location.is_none() {
                    self.missing("location", "Vertex AI is in locations, such as europe-west4, eu or global");
                }
                let project = self.text("project");
                location.map(|location| Place::Vertex { project, location })
            }
            ProviderKind::Gitlab => {
                const WHY: &str = "the gateway compares it with the token";
                let realm = self.text("realm").unwrap_or_else(|| "self-managed".to_owned());
                let (id, host) = (self.needed("instance_id", WHY), self.needed("instance_host", WHY));
                let (version, user) = (self.needed("instance_version", WHY), self.needed("global_user_id", WHY));
                let model_provider = self.text("model_provider");
                let (id, host, version, global_user_id) = (id?, host?, version?, user?);
                Some(Place::Gitlab(GitlabInstance { realm, id, host, version, global_user_id, model_provider }))
            }
            _ => Some(Place::Anywhere),
        }
    }

    /// `None` after a problem.
    pub fn credentials(&mut self, has_key: bool) -> Option<Credentials> {
        let way = match self.reader.is_set(&self.key("credentials")) {
            true => self.reader.choice(&self.key("credentials"), WAYS),
            false => self.likely(has_key),
        };
        const BY_WAY: &str = "the way that `credentials` names needs it";
        match way {
            Way::Key => Some(Credentials::Key),
            Way::TokenFile => {
                let path = self.reader.path(&self.key("token_file"));
                if path.is_none() {
                    self.missing("token_file", BY_WAY);
                }
                path.map(Credentials::TokenFile)
            }
            Way::GoogleServiceAccount => self.service_account().map(Credentials::GoogleServiceAccount),
            Way::GoogleMachine => Some(Credentials::GoogleMachine),
            Way::GoogleDefault => Some(Credentials::GoogleDefault),
            Way::AwsKeys => {
                let access_key_id = self.needed("access_key_id", BY_WAY);
                let secret_access_key = self.secret("secret_access_key");
                if secret_access_key.is_none() {
                    self.missing("secret_access_key", BY_WAY);
                }
                let session_token = self.secret("session_token");
                let (access_key_id, secret_access_key) = (access_key_id?, secret_access_key?);
                Some(Credentials::AwsKeys { access_key_id, secret_access_key, session_token })
            }
            Way::AwsChain => Some(Credentials::AwsChain { profile: self.text("profile") }),
            Way::EntraSecret | Way::EntraWorkload | Way::EntraMachine => self.entra(way).map(Credentials::Entra),
        }
    }

    /// What the settings that are there are for.
    fn likely(&self, has_key: bool) -> Way {
        let is_set = |last: &str| self.reader.is_set(&self.key(last));
        if has_key {
            return Way::Key;
        }
        let by_setting = [
            ("token_file", Way::TokenFile),
            ("credentials_file", Way::GoogleServiceAccount),
            ("access_key_id", Way::AwsKeys),
            ("client_secret", Way::EntraSecret),
            ("client_secret_file", Way::EntraSecret),
        ];
        if let Some((_, way)) = by_setting.into_iter().find(|(last, _)| is_set(last)) {
            return way;
        }
        match self.kind {
            ProviderKind::Bedrock => Way::AwsChain,
            ProviderKind::Vertex if self.clouds.google_service_account.is_some() => Way::GoogleServiceAccount,
            ProviderKind::Vertex => Way::GoogleDefault,
            _ => Way::Key,
        }
    }

    fn service_account(&mut self) -> Option<Secret> {
        let key = self.key("credentials_file");
        let Some(path) = self.reader.path(&key) else {
            if self.clouds.google_service_account.is_none() {
                self.missing("credentials_file", "the key file of the service account, as the console hands it out");
            }
            return self.clouds.google_service_account.clone();
        };
        match read_secret(&path) {
            Ok(text) => Some(Secret::new(text)),
            Err(reason) => {
                let origin = self.reader.origin(&key);
                self.reader.problem(Problem::SecretFile { origin, file_key: key, path, reason });
                None
            }
        }
    }

    fn entra(&mut self, way: Way) -> Option<Entra> {
        const WHY: &str = "an application of Entra ID is named by its tenant and its client id";
        let scope = self.text("scope").unwrap_or_else(|| EntraDefaults::SCOPE.to_owned());
        let authority = self.text("authority").unwrap_or_else(|| EntraDefaults::AUTHORITY.to_owned());
        if way == Way::EntraMachine {
            let identity = EntraIdentity::Machine { client: self.text("client_id") };
            return Some(Entra { identity, scope, authority });
        }
        let (tenant, client) = (self.needed("tenant_id", WHY), self.needed("client_id", WHY));
        let identity = if way == Way::EntraSecret {
            let secret = self.secret("client_secret");
            if secret.is_none() {
                self.missing("client_secret", WHY);
            }
            EntraIdentity::Secret { tenant: tenant?, client: client?, secret: secret? }
        } else {
            let token_file = self.reader.path(&self.key("token_file"));
            if token_file.is_none() {
                self.missing("token_file", "Kubernetes keeps the pod's token there (AZURE_FEDERATED_TOKEN_FILE)");
            }
            EntraIdentity::Workload { tenant: tenant?, client: client?, token_file: token_file? }
        };
        Some(Entra { identity, scope, authority })
    }
}
