//! What a certificate says about itself: names, issuer, dates. For messages that tell an administrator which
//! certificate is meant; trust is decided by rustls, never here.
//!
//! Knows nobody. Reads DER (X.690) as far as X.509 (RFC 5280, section 4.1) needs it: every length is checked, nothing is
//! allocated by a declared length, and bytes that do not fit give `None`.

mod der;
mod time;

pub use time::date;

use der::Der;

const NAMES_MAX: usize = 20;
const TEXT_CHARS_MAX: usize = 120;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 0x04, 0x0b];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// One certificate. Texts are free of control characters and cut to a readable length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// DNS names and addresses it is valid for; not more than 20.
    pub names: Vec<String>,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
}

impl Certificate {
    /// Reads the outer shape of a certificate; `None` where it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut fields = Der(Der(Der(der).take(SEQUENCE)?).take(SEQUENCE)?);
        fields.take_if(VERSION);
        fields.take(INTEGER)?;
        fields.take(SEQUENCE)?;
        let issuer = distinguished_name(fields.take(SEQUENCE)?)?;
        let mut validity = Der(fields.take(SEQUENCE)?);
        let (not_before, not_after) = (time::read(validity.any()?)?, time::read(validity.any()?)?);
        let subject = distinguished_name(fields.take(SEQUENCE)?)?;
        fields.take(SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, value)) = fields.any() {
            if tag == EXTENSIONS {
                names = alternative_names(value).unwrap_or_default();
            }
        }
        Some(Self { subject, issuer, names, not_before, not_after })
    }

    pub fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whole days left at `unix_time`; negative once it has expired.
    pub fn days_left(&self, unix_time: i64) -> i64 {
        (self.not_after - unix_time).div_euclid(86_400)
    }
}

/// The common name, or what comes closest to a name.
fn distinguished_name(name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    let mut sets = Der(name);
    while !sets.0.is_empty() {
        let mut attributes = Der(sets.take(SET)?);
        while !attributes.0.is_empty() {
            let mut attribute = Der(attributes.take(SEQUENCE)?);
            let kind = attribute.take(OBJECT_ID)?;
            let (_, text) = attribute.any()?;
            parts.push((kind, text));
        }
    }
    let part = |kind: &[u8]| parts.iter().find(|(known, _)| *known == kind).map(|(_, text)| readable(text));
    let name = part(COMMON_NAME).or_else(|| part(ORGANIZATIONAL_UNIT)).or_else(|| part(ORGANIZATION));
    Some(name.unwrap_or_else(|| "(no name)".to_owned()))
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut list = Der(Der(extensions).take(SEQUENCE)?);
    while !list.0.is_empty() {
        let mut extension = Der(list.take(SEQUENCE)?);
        if extension.take(OBJECT_ID)? != ALTERNATIVE_NAMES {
            continue;
        }
        // A boolean may stand before the value.
        let value = loop {
            let (tag, value) = extension.any()?;
            if tag == OCTET_STRING {
                break value;
            }
        };
        let mut names = Der(Der(value).take(SEQUENCE)?);
        let mut found = Vec::new();
        while let Some((tag, value)) = names.any().filter(|_| found.len() < NAMES_MAX) {
            match tag {
                DNS_NAME => found.push(readable(value)),
                IP_ADDRESS => found.extend(address(value)),
                _ => {}
            }
        }
        return Some(found);
    }
    Some(Vec::new())
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::IpAddr::from(four).to_string());
    }
    Some(std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string())
}

/// Whoever made the certificate chose this text, and it goes to a terminal.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|char| !char.is_control()).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

    fn made() -> Vec<u8> {
        let names = ["gitlab.example.com".to_owned(), "10.1.2.3".to_owned(), "::1".to_owned()];
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "gitlab\u{1b}[31m.example.com");
        params.not_before = date_time_ymd(2024, 2, 29);
        params.not_after = date_time_ymd(2051, 3, 1);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn says_what_openssl_would_say() {
        let certificate = Certificate::read(&made()).expect("a certificate");
        assert_eq!(certificate.subject, "gitlab[31m.example.com", "without control characters");
        assert!(certificate.is_self_signed());
        assert_eq!(certificate.names, ["gitlab.example.com", "10.1.2.3", "::1"]);
        // One is a UTCTime, the other a GeneralizedTime.
        assert_eq!((certificate.not_before, certificate.not_after), (1_709_164_800, 2_561_241_600));
        assert_eq!(date(certificate.not_after), "2051-03-01 00:00 UTC");
        assert_eq!(certificate.days_left(certificate.not_after - 86_400 * 3 - 1), 3);
        assert_eq!(certificate.days_left(certificate.not_after + 1), -1);
    }

    #[test]
    fn damaged_bytes_are_no_certificate_and_no_crash() {
        let der = made();
        let whole = Certificate::read(&der).expect("a certificate");
        for end in 0..der.len() {
            assert_eq!(Certificate::read(&der[..end]), None, "cut at {end}");
        }
        let mut differing = 0;
        for at in 0..der.len() {
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut damaged = der.clone();
                damaged[at] = value;
                differing += usize::from(Certificate::read(&damaged).as_ref() != Some(&whole));
            }
        }
        assert!(differing > 100, "the damage reached what is read: {differing}");
        assert_eq!(Certificate::read(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30]), None, "a length of 4 GiB");
    }
}
