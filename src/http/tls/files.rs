//! The certificate file and the key file, and all that can be wrong with them.

use crate::certificate::{Certificate, date};
use rustls::InconsistentKeys;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with the files of the listener.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("cannot read {what} {}: {source}", .path.display())]
    Unreadable { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what} {} has {bytes} bytes, the limit is {FILE_BYTES_MAX}", .path.display())]
    TooLarge { what: &'static str, path: PathBuf, bytes: u64 },
    #[error("{} holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----", .path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY----- or alike", .path.display())]
    NoKey { path: PathBuf },
    #[error(
        "the private key in {} is locked with a password: `openssl pkey -in FILE -out FILE.open` unlocks it",
        .path.display()
    )]
    LockedKey { path: PathBuf },
    #[error("the private key in {} is of a kind that TLS here cannot use: RSA, ECDSA and Ed25519 are known", .path.display())]
    UnusableKey { path: PathBuf },
    #[error("the certificate in {} cannot be read", .path.display())]
    UnusableCertificate { path: PathBuf },
    #[error(
        "the private key in {} is not that of the first certificate in {} (`{subject}`): the server's own certificate \
         comes first in its file, and the key beside it",
        .key_file.display(),
        .cert_file.display()
    )]
    OtherKey { cert_file: PathBuf, key_file: PathBuf, subject: String },
    #[error("the certificate in {} (`{subject}`) has expired on {}", .path.display(), date(*.since))]
    Expired { path: PathBuf, subject: String, since: i64 },
}

/// The bytes of both files.
#[derive(PartialEq)]
pub struct Content {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    pub fn read(cert_file: &Path, key_file: &Path) -> Result<Self, TlsFileError> {
        Ok(Self {
            certificates: read("the certificate file", cert_file)?,
            key: read("the private key file", key_file)?,
        })
    }

    /// Certificate and key, if they are whole, fit together and have not expired.
    pub fn parse(
        &self,
        cert_file: &Path,
        key_file: &Path,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, TlsFileError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificates).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| TlsFileError::NoCertificate { path: cert_file.into() })?;
        let own = Certificate::read(&chain[0]);
        let own = own.ok_or_else(|| TlsFileError::UnusableCertificate { path: cert_file.into() })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| no_key(&self.key, key_file))?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsFileError::OtherKey {
                cert_file: cert_file.into(),
                key_file: key_file.into(),
                subject: own.subject.clone(),
            },
            rustls::Error::InvalidCertificate(_) => TlsFileError::UnusableCertificate { path: cert_file.into() },
            _ => TlsFileError::UnusableKey { path: key_file.into() },
        })?;
        if unix_time() > own.not_after {
            let Certificate { subject, not_after, .. } = own;
            return Err(TlsFileError::Expired { path: cert_file.into(), subject, since: not_after });
        }
        Ok(certified)
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let unreadable = |source| TlsFileError::Unreadable { what, path: path.into(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(TlsFileError::TooLarge { what, path: path.into(), bytes });
    }
    std::fs::read(path).map_err(unreadable)
}

fn no_key(pem: &[u8], path: &Path) -> TlsFileError {
    let text = String::from_utf8_lossy(pem);
    let is_locked = text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
    if is_locked { TlsFileError::LockedKey { path: path.into() } } else { TlsFileError::NoKey { path: path.into() } }
}

fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
