//! What can be seen on this machine alone: the settings, the folder for keys, the certificate of the listener.

use super::report::{Section, fail, ok, warn};
use crate::auth::gitlab::Check;
use crate::certificate::{Certificate, date};
use crate::config::{Config, ConfigError, Notice};
use crate::http::TlsListener;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Certificates are renewed earlier than that.
const DAYS_LEFT_MIN: i64 = 14;

pub fn refused(error: &ConfigError) -> Section {
    let step = "`sconce check-config` shows every setting and where it came from";
    let checks = error.problems.iter().map(|problem| fail("settings", problem.to_string(), step)).collect();
    Section { title: "this machine".to_owned(), checks }
}

pub fn section(config: &Config) -> Section {
    let mut checks = vec![ok("settings", "understood")];
    checks.extend(config.notices.iter().map(notice));
    checks.push(authentication(config));
    checks.push(state_folder(config.state.dir.as_deref()));
    checks.extend(listener(config));
    Section { title: "this machine".to_owned(), checks }
}

fn notice(notice: &Notice) -> Check {
    warn("settings", notice.to_string(), format!("remove {}", notice.variable))
}

fn authentication(config: &Config) -> Check {
    const NAME: &str = "authentication";
    let bypass = config.gitlab.bypass;
    if bypass.external || bypass.external_with_header || bypass.jwt_signature {
        return warn(NAME, "switched off in part or in whole", "remove the gitlab.bypass_… settings after the test");
    }
    match &config.gitlab.url {
        Some(url) => ok(NAME, format!("tokens of {url}")),
        None => warn(NAME, "no GitLab is named", "set gitlab.url (AIGW_GITLAB_URL), or pass --gitlab URL"),
    }
}

/// Whether keys could be kept. Nothing is left behind.
fn state_folder(dir: Option<&Path>) -> Check {
    const NAME: &str = "state folder";
    let Some(dir) = dir else {
        let step = "set state.dir to a folder that outlives a restart; several replicas may share it";
        return warn(NAME, "none: users' tokens end with every restart", step);
    };
    // Where it does not exist yet, the first folder above it that does decides.
    let Some(existing) = dir.ancestors().find(|folder| folder.exists()) else {
        return fail(NAME, format!("{} cannot be reached", dir.display()), "choose another state.dir");
    };
    match probe(existing) {
        Ok(()) if existing == dir => ok(NAME, format!("{} can be written to", dir.display())),
        Ok(()) => ok(NAME, format!("{} can be made at the first start", dir.display())),
        Err(error) => {
            let step = "give it to the user that runs the gateway, mount a volume there, or choose another state.dir";
            fail(NAME, format!("{} cannot be written to: {error}", existing.display()), step)
        }
    }
}

fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".sconce-doctor-{}", std::process::id()));
    std::fs::create_dir(&path)?;
    std::fs::remove_dir(&path)
}

fn listener(config: &Config) -> Option<Check> {
    const NAME: &str = "certificate";
    let files = config.tls.listener.as_ref()?;
    // The time for a handshake is of no interest here.
    let loaded = TlsListener::load(files.cert_file.clone(), files.key_file.clone(), Duration::from_secs(1));
    Some(match loaded {
        Ok(listener) => match listener.certificate() {
            Some(certificate) => validity(NAME, &certificate),
            None => ok(NAME, "read"),
        },
        Err(error) => fail(NAME, error.to_string(), "correct tls.cert_file and tls.key_file"),
    })
}

/// A certificate that is trusted: whose it is, and for how long.
pub fn validity(name: &'static str, certificate: &Certificate) -> Check {
    let days_left = certificate.days_left(unix_time());
    let until = date(certificate.not_after);
    let Certificate { subject, issuer, .. } = certificate;
    let found = format!("`{subject}` from `{issuer}`, valid until {until} ({days_left} days)");
    if days_left < DAYS_LEFT_MIN { warn(name, found, "renew it now") } else { ok(name, found) }
}

fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
