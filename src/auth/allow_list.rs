//! Which addresses may call at all, and whose word about addresses is taken.
//!
//! A proxy in front hides who calls and says so in `X-Forwarded-For`. That header is believed as far as it was written by
//! proxies that the configuration names: read from its end, the first address that is none of theirs is the client.

use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, SocketAddr};

/// Networks that may call, and proxies that may speak for others. No network configured lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    allowed: Vec<IpNet>,
    trusted_proxies: Vec<IpNet>,
}

/// A configured entry that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is no address or network: write 10.1.2.3, 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError {
    pub entry: String,
}

/// Who was turned away. For the log: the answer says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{client} is in none of the networks of access.allow")]
    NotAllowed { client: IpAddr },
    #[error("the trusted proxy {proxy} sent an X-Forwarded-For in which no address can be read")]
    Unreadable { proxy: IpAddr },
}

impl AllowList {
    /// Entries are networks (`10.0.0.0/8`) or single addresses.
    pub fn new(allowed: &[String], trusted_proxies: &[String]) -> Result<Self, NetworkError> {
        Ok(Self { allowed: networks(allowed)?, trusted_proxies: networks(trusted_proxies)? })
    }

    /// Whether everybody may call.
    pub fn is_open(&self) -> bool {
        self.allowed.is_empty()
    }

    /// `forwarded_for` holds the values of every `X-Forwarded-For` header, in the order they came. The client's address,
    /// or why it may not call.
    pub fn allows<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Result<IpAddr, Refused> {
        let client = self.client(peer, forwarded_for)?;
        match self.is_open() || holds(&self.allowed, client) {
            true => Ok(client),
            false => Err(Refused::NotAllowed { client }),
        }
    }

    /// Who called: the peer, or whom the trusted proxies before it speak for.
    fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    ) -> Result<IpAddr, Refused> {
        let mut client = peer.to_canonical();
        let hops = forwarded_for.rev().flat_map(|value| value.rsplit(','));
        for hop in hops.map(str::trim).filter(|hop| !hop.is_empty()) {
            if !holds(&self.trusted_proxies, client) {
                break;
            }
            client = address(hop).ok_or(Refused::Unreadable { proxy: client })?;
        }
        Ok(client)
    }
}

fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// An address as proxies write it: plain, in brackets, or with a port. An IPv4 address in IPv6 clothes is an IPv4 address.
fn address(hop: &str) -> Option<IpAddr> {
    let bracketed = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let with_port = || hop.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    let parsed = bracketed.unwrap_or(hop).parse::<IpAddr>().ok().or_else(with_port);
    parsed.map(|address| address.to_canonical())
}

fn networks(entries: &[String]) -> Result<Vec<IpNet>, NetworkError> {
    let network = |entry: &String| {
        let text = entry.trim();
        let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let parsed = text.parse::<IpNet>().ok().or_else(single).map(canonical);
        parsed.ok_or_else(|| NetworkError { entry: entry.clone() })
    };
    entries.iter().map(network).collect()
}

/// `::ffff:10.0.0.0/104` means 10.0.0.0/8, because addresses are compared in their plain form.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Some(prefix_bits) = mapped.prefix_len().checked_sub(MAPPED_BITS)
        && let Ok(plain) = Ipv4Net::new(address, prefix_bits)
    {
        return IpNet::V4(plain);
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(allowed: &[&str], proxies: &[&str]) -> AllowList {
        let owned = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        AllowList::new(&owned(allowed), &owned(proxies)).expect("networks")
    }

    fn check(list: &AllowList, peer: &str, forwarded_for: &[&str], expected: Result<&str, &str>) {
        let found = list.allows(peer.parse().expect("an address"), forwarded_for.iter().copied());
        let found = found.map(|client| client.to_string()).map_err(|refused| match refused {
            Refused::NotAllowed { client } => client.to_string(),
            Refused::Unreadable { proxy } => format!("unreadable from {proxy}"),
        });
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{peer} {forwarded_for:?}");
    }

    #[test]
    fn an_empty_list_lets_everybody_in() {
        check(&list(&[], &[]), "203.0.113.9", &[], Ok("203.0.113.9"));
        check(&AllowList::default(), "::1", &["10.0.0.1"], Ok("::1"));
    }

    #[test]
    fn networks_decide() {
        let list = list(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"], &[]);
        check(&list, "10.255.0.1", &[], Ok("10.255.0.1"));
        check(&list, "192.0.2.7", &[], Ok("192.0.2.7"));
        check(&list, "192.0.2.8", &[], Err("192.0.2.8"));
        check(&list, "fd12::1", &[], Ok("fd12::1"));
        check(&list, "fe80::1", &[], Err("fe80::1"));
    }

    #[test]
    fn mapped_addresses_are_what_they_map() {
        let plain = list(&["10.0.0.0/8"], &[]);
        check(&plain, "::ffff:10.1.2.3", &[], Ok("10.1.2.3"));
        check(&plain, "::ffff:11.1.2.3", &[], Err("11.1.2.3"));
        let mapped = list(&["::ffff:10.0.0.0/104"], &[]);
        check(&mapped, "10.1.2.3", &[], Ok("10.1.2.3"));
        check(&mapped, "11.1.2.3", &[], Err("11.1.2.3"));
        // IPv4-compatible addresses are long gone and mean nothing here.
        check(&plain, "::10.1.2.3", &[], Err("::a01:203"));
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let list = list(&["10.0.0.0/8"], &["172.16.0.0/12", "::1"]);
        check(&list, "203.0.113.9", &["10.0.0.1"], Err("203.0.113.9"));
        check(&list, "172.16.0.1", &["10.0.0.1"], Ok("10.0.0.1"));
        check(&list, "172.16.0.1", &["10.0.0.1, 203.0.113.9"], Err("203.0.113.9"));
        check(&list, "172.16.0.1", &["203.0.113.9, 10.0.0.1, 172.16.0.2"], Ok("10.0.0.1"));
        check(&list, "172.16.0.1", &["10.0.0.1", "203.0.113.9"], Err("203.0.113.9"));
        check(&list, "::ffff:172.16.0.1", &["10.0.0.1"], Ok("10.0.0.1"));
        check(&list, "::1", &["::ffff:10.0.0.1"], Ok("10.0.0.1"));
        check(&list, "::1", &["[::ffff:10.0.0.1]:4711"], Ok("10.0.0.1"));
        check(&list, "::1", &["[::ffff:10.0.0.1]"], Ok("10.0.0.1"));
        check(&list, "::1", &["10.0.0.1:4711"], Ok("10.0.0.1"));
        check(&list, "::1", &["10.0.0.1, unknown"], Err("unreadable from ::1"));
        check(&list, "::1", &["10.0.0.1,"], Ok("10.0.0.1"));
        check(&list, "::1", &[], Err("::1"));
    }

    #[test]
    fn entries_that_are_no_networks_are_named() {
        for entry in ["10.0.0.0/33", "example.com", "", "10.0.0"] {
            let error = AllowList::new(&[entry.to_owned()], &[]).expect_err("no network");
            assert_eq!(error.entry, entry);
        }
    }
}
