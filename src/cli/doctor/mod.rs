//! `sconce doctor`: goes through everything that a GitLab set-up can fail at, from where the gateway runs, and says of
//! each what was found and what to do. Changes nothing.

mod clock;
mod here;
mod issuer;
mod providers;
mod report;
mod server;
#[cfg(test)]
mod tests;

pub use report::write_checks;

use super::args::DoctorArgs;
use super::error::CliError;
use super::{output, token};
use crate::auth::gitlab::Contents;
use crate::config::{self, Config, Environment};
use crate::egress::{Egress, EgressSettings};
use crate::serve;
use report::{Findings, Section};
use server::{Caller, Probe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub fn run(args: &DoctorArgs) -> Result<(), CliError> {
    let resolution = config::resolve(&Environment::of_process(), args.config.clone(), &args.flags());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let findings = match resolution.config {
        Ok(config) => runtime.block_on(examine(&config, args))?,
        Err(error) => Findings { sections: vec![here::refused(&error)] },
    };
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&findings).expect("findings are plain text and lists")),
        false => findings.to_string(),
    };
    output::print(&text)?;
    match findings.failed() {
        0 => Ok(()),
        failed => Err(CliError::ChecksFailed { failed }),
    }
}

async fn examine(config: &Config, args: &DoctorArgs) -> Result<Findings, CliError> {
    let mut sections = vec![here::section(config)];
    let door = serve::egress(config)?;
    if let Some(url) = &config.gitlab.url {
        sections.push(issuer::section(&door, url).await);
    }
    if let Some(url) = &config.gitlab.portal_url {
        // GitLab's own tokens are good without the portal.
        sections.push(issuer::section(&door, url).await.optional());
    }
    sections.extend(providers::sections(config).await);
    let caller = match &args.token_file {
        Some(file) => {
            let text = token::read(Some(file))?;
            let report = token::inspect(config, &text).await?;
            sections.push(Section { title: "token".to_owned(), checks: report.checks });
            let service = &config.gitlab.audience;
            report.contents.map(|contents: Contents| Caller::new(token::bare(&text), &contents, service))
        }
        None => None,
    };
    let url = args.server.clone().unwrap_or_else(|| own_url(config));
    let url = url.trim_end_matches('/').to_owned();
    let probe = Probe {
        egress: &server_door(config, &url)?,
        is_named: args.server.is_some(),
        serves_gitlab: config.gitlab.url.is_some(),
        wants_stream: args.stream,
        caller,
        url,
    };
    sections.push(probe.section().await);
    Ok(Findings { sections })
}

/// The way to the server itself: never through a proxy, and to nobody else.
fn server_door(config: &Config, url: &str) -> Result<Egress, CliError> {
    let settings = EgressSettings {
        allowed: vec![url.to_owned()],
        extra_ca_files: config.tls.extra_ca_files.clone(),
        ..EgressSettings::default()
    };
    Egress::new(&settings).map_err(|error| CliError::Serve(error.into()))
}

/// Where a server with this configuration can be called from this machine.
pub fn own_url(config: &Config) -> String {
    let scheme = if config.tls.listener.is_some() { "https" } else { "http" };
    let ip = match config.server.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = std::net::SocketAddr::new(ip, config.server.listen.port());
    format!("{scheme}://{address}")
}
