//! `sconce token inspect`: why a token would be taken or refused. The token comes from a pipe or a file, never from the
//! command line, where every user of the machine could read it; it is not shown, nor is its signature.

use super::args::InspectArgs;
use super::doctor::write_checks;
use super::error::CliError;
use super::output;
use crate::auth::gitlab::{
    BypassSettings, Contents, Enforcement, GitlabAuth, GitlabAuthSettings, OwnKeySettings, OwnKeys, Report, WallClock,
};
use crate::config::{self, Config, Environment, Secret};
use crate::serve::{self, KeysByEgress, ServeError};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// Two documents of two issuers, with what a request may take each.
const KEYS_TIMEOUT: Duration = Duration::from_secs(25);
const NEVER: Duration = Duration::MAX;

pub fn run(args: &InspectArgs) -> Result<(), CliError> {
    let config = config::resolve(&Environment::of_process(), args.config.clone(), &args.flags()).config?;
    let text = read(args.file.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let report = runtime.block_on(inspect(&config, &text))?;
    let shown = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report).expect("a report is plain text and lists")),
        false => for_people(&report),
    };
    output::print(&shown)?;
    if report.is_accepted { Ok(()) } else { Err(CliError::TokenRefused) }
}

/// The text of a file, or of standard input.
pub fn read(file: Option<&Path>) -> Result<String, CliError> {
    let text = match file {
        Some(path) => {
            let unreadable = |source| CliError::TokenFile { path: path.to_owned(), source };
            bounded(File::open(path).map_err(unreadable)?).map_err(unreadable)?
        }
        None if io::stdin().is_terminal() => return Err(CliError::NoToken),
        None => bounded(io::stdin()).map_err(CliError::Input)?,
    };
    if text.trim().is_empty() { Err(CliError::NoToken) } else { Ok(text) }
}

fn bounded(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The token itself, where a whole header was given.
pub fn bare(text: &str) -> &str {
    let text = text.trim();
    text.split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or(text, |(_, token)| token.trim())
}

/// Fetches the keys as a server would, and makes its checks. Writes nothing to the state folder.
pub async fn inspect(config: &Config, text: &str) -> Result<Report, CliError> {
    let auth = Arc::new(auth(config)?);
    tokio::select! {
        () = auth.clone().keep_fresh() => {}
        _ = timeout(KEYS_TIMEOUT, keys_are_settled(&auth)) => {}
    }
    Ok(auth.inspect(bare(text)))
}

async fn keys_are_settled(auth: &GitlabAuth) {
    const STEP: Duration = Duration::from_millis(20);
    while auth.status().iter().any(|issuer| issuer.age.is_none() && issuer.failure.is_none()) {
        sleep(STEP).await;
    }
}

fn auth(config: &Config) -> Result<GitlabAuth, ServeError> {
    let gitlab = &config.gitlab;
    let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.reveal().to_owned());
    let clock = WallClock::system();
    let own = OwnKeySettings {
        service: gitlab.audience.clone(),
        signing_pem: text(&gitlab.signing_key),
        validation_pem: text(&gitlab.validation_key),
        // A key that is there is read; none is made for the sake of a question.
        folder: config.state.dir.clone().filter(|dir| dir.join("signing_key.pem").exists()),
        rotate_after: NEVER,
    };
    let settings = GitlabAuthSettings {
        gitlab_url: gitlab.url.clone().unwrap_or_default(),
        portal_url: gitlab.portal_url.clone().unwrap_or_default(),
        service: gitlab.audience.clone(),
        state_folder: None,
        enforcement: Enforcement::Scopes,
        bypass: BypassSettings::default(),
    };
    let own = OwnKeys::open(own, clock.clone())?;
    Ok(GitlabAuth::new(settings, own, Arc::new(KeysByEgress(serve::egress(config)?)), clock)?)
}

fn for_people(report: &Report) -> String {
    let mut text = String::new();
    let verdict = if report.is_accepted { "would be accepted, if the headers agree" } else { "would be refused" };
    writeln!(text, "the token {verdict}").expect("text grows");
    write_checks(&mut text, &report.checks).expect("text grows");
    if let Some(contents) = &report.contents {
        write_contents(&mut text, contents);
    }
    text
}

fn write_contents(text: &mut String, contents: &Contents) {
    let time = |at_s: Option<u64>| {
        let at_s = at_s.and_then(|at_s| i64::try_from(at_s).ok());
        at_s.map_or_else(|| "-".to_owned(), crate::certificate::date)
    };
    let rows = [
        ("algorithm", contents.algorithm.clone()),
        ("key id", contents.key_id.clone().unwrap_or_else(|| "-".to_owned())),
        ("issuer", contents.issuer.clone()),
        ("audience", contents.audience.join(", ")),
        ("subject", contents.subject.clone()),
        ("realm", contents.realm.clone()),
        ("issued at", time(contents.issued_at_s)),
        ("not before", time(contents.not_before_s)),
        ("expires at", time(contents.expires_at_s)),
        ("scopes", contents.scopes.join(", ")),
    ];
    writeln!(text, "what it says").expect("text grows");
    for (name, value) in rows {
        let value = output::without_controls(&value).replace(['\n', '\r', '\t'], " ");
        writeln!(text, "  {name:10}  {value}").expect("text grows");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_come_with_its_scheme() {
        for (given, token) in [("a.b.c\n", "a.b.c"), ("Bearer a.b.c", "a.b.c"), (" bearer  a.b.c ", "a.b.c")] {
            assert_eq!(bare(given), token);
        }
    }

    #[test]
    fn a_file_without_a_token_is_explained() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let empty = folder.path().join("empty");
        std::fs::write(&empty, " \n").expect("writable");
        assert!(matches!(read(Some(&empty)), Err(CliError::NoToken)));
        let missing = read(Some(&folder.path().join("missing"))).expect_err("not there").to_string();
        assert!(missing.contains("missing"), "{missing}");
    }
}
