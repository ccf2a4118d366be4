//! What a person sees when the server is up: what is served, where, what is switched off, and a line to try it with.

use crate::domain::ModelInfo;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub struct Banner<'a> {
    pub models: Vec<&'a ModelInfo>,
    /// The address really listened on, its port never 0.
    pub listen: SocketAddr,
    pub is_tls: bool,
    pub metrics: Option<SocketAddr>,
    pub num_keys: usize,
    /// The GitLab whose gateway this is.
    pub gitlab: Option<&'a str>,
    pub remote: Remote,
}

/// Who else may hear what is asked here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Providers that a route or an identifier leads to, with the hosts of their addresses.
    pub providers: Vec<String>,
    /// Hosts that GitLab's calls may name.
    pub endpoints: Vec<String>,
}

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.providers.iter().chain(&self.endpoints).map(String::as_str).collect();
        match all.as_slice() {
            [] => write!(formatter, "off: nothing leaves this machine"),
            all => write!(formatter, "on: {} (`sconce check-config` shows the routes)", all.join(", ")),
        }
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "sconce {} is ready", env!("CARGO_PKG_VERSION"))?;
        writeln!(formatter)?;
        let mut label = "model";
        for info in &self.models {
            writeln!(formatter, "  {label:<15} {}", Description(info))?;
            label = "";
        }
        writeln!(formatter, "  {:<15} {}://{}", "listening", self.scheme(), self.listen)?;
        match self.metrics {
            Some(metrics) => writeln!(formatter, "  {:<15} http://{metrics}/metrics", "metrics")?,
            None => writeln!(formatter, "  {:<15} off", "metrics")?,
        }
        if let Some(gitlab) = self.gitlab {
            writeln!(formatter, "  {:<15} {gitlab}, by its tokens", "GitLab")?;
        }
        match self.num_keys {
            0 if self.gitlab.is_some() => writeln!(
                formatter,
                "  {:<15} closed to others than GitLab (`sconce key new NAME` makes a key)",
                "OpenAI's API"
            )?,
            0 => writeln!(
                formatter,
                "  {:<15} off: whoever can reach this address may use it (`sconce key new NAME` makes a key)",
                "authentication"
            )?,
            1 => writeln!(formatter, "  {:<15} on, 1 key", "authentication")?,
            number => writeln!(formatter, "  {:<15} on, {number} keys", "authentication")?,
        }
        writeln!(formatter, "  {:<15} {}", "remote models", self.remote)?;
        if self.num_keys == 0 && self.gitlab.is_some() {
            return Ok(());
        }
        writeln!(formatter)?;
        writeln!(formatter, "Try it:")?;
        writeln!(formatter)?;
        writeln!(formatter, "  {}", self.curl())
    }
}

impl Banner<'_> {
    fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// A command that works as it stands, but for the key where one is needed.
    fn curl(&self) -> String {
        let model = self.models.first().map_or("", |info| &info.name);
        let (path, ask) = match self.models.first() {
            Some(info) if info.has_infill => (
                "completions",
                r#""prompt":"def total(values):\n    result = 0\n    for value in values:\n        result += value\n    return ","suffix":"\n\nprint(total([1, 2, 3]))\n","max_tokens":16,"temperature":0"#,
            ),
            Some(info) if info.has_chat => (
                "chat/completions",
                r#""messages":[{"role":"user","content":"Say hello."}],"max_tokens":32,"temperature":0"#,
            ),
            _ => ("completions", r#""prompt":"def add(a, b):","max_tokens":16,"temperature":0"#),
        };
        let key = if self.num_keys > 0 { "-H \"Authorization: Bearer $SCONCE_KEY\" " } else { "" };
        let (scheme, address) = (self.scheme(), reachable(self.listen));
        format!(
            r#"curl {scheme}://{address}/v1/{path} {key}-H 'Content-Type: application/json' -d '{{"model":"{model}",{ask}}}'"#
        )
    }
}

/// One line about a model: `sconce: llama, 4.2M parameters, context 2048, infill, chat`.
pub struct Description<'a>(pub &'a ModelInfo);

impl fmt::Display for Description<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.0;
        write!(
            formatter,
            "{}: {}, {} parameters, context {}",
            info.name,
            info.architecture,
            count(info.parameters),
            info.context_tokens
        )?;
        for (has, what) in [(info.has_infill, "infill"), (info.has_chat, "chat")] {
            if has {
                write!(formatter, ", {what}")?;
            }
        }
        Ok(())
    }
}

/// A count as people say it: `4.2M`, `7.6B`.
pub fn count(number: u64) -> String {
    let value = number as f64;
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.0}k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", value / 1e6),
        _ => format!("{:.1}B", value / 1e9),
    }
}

/// "Every address" cannot be called; the loopback one of the same family can.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ModelInfo {
        ModelInfo {
            name: "tiny".to_owned(),
            architecture: "llama".to_owned(),
            context_tokens: 2048,
            vocab_size: 4096,
            parameters: 4_200_000,
            has_infill: true,
            has_chat: false,
            created: 0,
        }
    }

    fn banner<'a>(info: &'a ModelInfo, listen: &str) -> Banner<'a> {
        Banner {
            models: vec![info],
            listen: listen.parse().expect("an address"),
            metrics: None,
            is_tls: false,
            num_keys: 0,
            gitlab: None,
            remote: Remote::default(),
        }
    }

    #[test]
    fn says_who_else_may_hear() {
        let info = info();
        let mut banner = banner(&info, "127.0.0.1:1");
        banner.remote.providers.push("cluster at models.example.com".to_owned());
        banner.remote.endpoints.push("10.0.0.7:8000".to_owned());
        let text = banner.to_string();
        assert!(text.contains("remote models   on: cluster at models.example.com, 10.0.0.7:8000 ("), "{text}");
        assert!(!text.contains("nothing leaves"), "{text}");
    }

    #[test]
    fn says_what_is_served_and_what_is_off() {
        let info = info();
        let mut banner = banner(&info, "127.0.0.1:4711");
        let text = banner.to_string();
        for part in [
            "tiny: llama, 4.2M parameters, context 2048, infill\n",
            "http://127.0.0.1:4711\n",
            "authentication  off",
            "remote models   off",
            "metrics         off",
            "curl http://127.0.0.1:4711/v1/completions -H",
        ] {
            assert!(text.contains(part), "`{part}` is missing from:\n{text}");
        }
        banner.listen = "0.0.0.0:1".parse().expect("an address");
        banner.num_keys = 2;
        let text = banner.to_string();
        assert!(text.contains("on, 2 keys") && text.contains("curl http://127.0.0.1:1/"), "{text}");
        assert!(text.contains("-H \"Authorization: Bearer $SCONCE_KEY\""), "{text}");
    }

    #[test]
    fn the_line_to_copy_holds_json() {
        for (has_infill, has_chat) in [(true, true), (false, true), (false, false)] {
            let info = ModelInfo { has_infill, has_chat, ..info() };
            let curl = banner(&info, "127.0.0.1:1").curl();
            let body = curl.split('\'').rev().nth(1).expect("a quoted body");
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(body["model"], "tiny");
        }
    }

    #[test]
    fn counts_read_well() {
        for (number, text) in [(7, "7"), (12_345, "12k"), (4_200_000, "4.2M"), (7_600_000_000, "7.6B")] {
            assert_eq!(count(number), text);
        }
    }
}
