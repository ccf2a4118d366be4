//! Whom we believe: the system's certificate authorities and those that the configuration adds. Keeps what each host
//! showed, so that an error can name the certificate that was the trouble.

use crate::certificate::Certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const CA_FILE_BYTES_MAX: u64 = 8 << 20;
const HOSTS_KEPT_MAX: usize = 64;
const CHAIN_KEPT_MAX: usize = 8;

/// What is wrong with a file of certificate authorities.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    #[error("cannot read the certificate file {}: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the certificate file {} has {bytes} bytes, the limit is {bytes_max}", .path.display())]
    TooLarge { path: PathBuf, bytes: u64, bytes_max: u64 },
    #[error(
        "the certificate file {} holds no certificate in PEM (text that begins with -----BEGIN CERTIFICATE-----); \
         `openssl x509 -inform der -in FILE -out FILE.pem` converts a binary one",
        .path.display()
    )]
    NoCertificate { path: PathBuf },
    #[error("none of the {certificates} certificate(s) in {} can be used as an authority", .path.display())]
    Unusable { path: PathBuf, certificates: usize },
}

/// The TLS of every connection that leaves, and the memory of what was shown.
///
/// Errors if one of the files holds no authority.
pub fn client_config(
    extra_ca_files: &[PathBuf],
    is_loopback_believed: bool,
) -> Result<(ClientConfig, Arc<Witness>), CaFileError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    // Stores of systems hold certificates that cannot be used; that is no reason to trust fewer of the others.
    roots.add_parsable_certificates(system_roots());
    let mut pinned = Vec::new();
    for path in extra_ca_files {
        let certificates = read(path)?;
        // Bundles of whole systems hold some that cannot be used; a file of which nothing can be used is a mistake.
        let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if usable == 0 {
            return Err(CaFileError::Unusable { path: path.clone(), certificates: certificates.len() });
        }
        pinned.extend(certificates);
    }
    // Without any authority there is no verifier to build: then nobody is believed.
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().ok();
    let seen = Mutex::default();
    let witness = Arc::new(Witness { inner, pinned, is_loopback_believed, provider: provider.clone(), seen });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks the versions it was made for")
        .dangerous()
        .with_custom_certificate_verifier(witness.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, witness))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let unreadable = |source| CaFileError::Unreadable { path: path.into(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > CA_FILE_BYTES_MAX {
        return Err(CaFileError::TooLarge { path: path.into(), bytes, bytes_max: CA_FILE_BYTES_MAX });
    }
    let pem = std::fs::read(path).map_err(unreadable)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(CaFileError::NoCertificate { path: path.into() }),
    }
}

/// The authorities of the system. On Linux they are looked for where distributions keep them; the library's own search
/// would let `SSL_CERT_FILE`, which adds to them here, take their place.
#[cfg(target_os = "linux")]
fn system_roots() -> Vec<CertificateDer<'static>> {
    const FILES: [&str; 5] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
    let files = FILES.iter().map(|file| (Some(Path::new(file)), None));
    let folders = FOLDERS.iter().map(|folder| (None, Some(Path::new(folder))));
    let found = files.chain(folders).filter(|(file, folder)| file.or(*folder).is_some_and(Path::exists));
    let mut stores = found.map(|(file, folder)| rustls_native_certs::load_certs_from_paths(file, folder).certs);
    stores.find(|certificates| !certificates.is_empty()).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// Verifies as rustls does, and remembers what was shown.
pub struct Witness {
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of the extra files. A server that shows one of them as its own is believed: that is what people
    /// mean who put a self-signed certificate there, and what OpenSSL makes of it.
    pinned: Vec<CertificateDer<'static>>,
    /// As in the settings of the door.
    is_loopback_believed: bool,
    provider: Arc<CryptoProvider>,
    seen: Mutex<BTreeMap<String, Vec<Certificate>>>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Witness").finish_non_exhaustive()
    }
}

impl Witness {
    /// What the host showed last, its own certificate first.
    pub fn seen(&self, host: &str) -> Vec<Certificate> {
        let host = host.trim_matches(['[', ']']);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned().unwrap_or_default()
    }

    fn remember(&self, host: &ServerName<'_>, end_entity: &CertificateDer<'_>, others: &[CertificateDer<'_>]) {
        let shown = std::iter::once(end_entity).chain(others).take(CHAIN_KEPT_MAX);
        let chain = shown.filter_map(|der| Certificate::read(der)).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= HOSTS_KEPT_MAX {
            seen.clear();
        }
        seen.insert(host.to_str().into_owned(), chain);
    }

    /// A certificate that was named itself: only its dates and names are left to check.
    fn verify_pinned(
        &self,
        end_entity: &CertificateDer<'_>,
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
        let unix_time = i64::try_from(now.as_secs()).map_err(|_| CertificateError::Expired)?;
        if unix_time > certificate.not_after {
            return Err(CertificateError::Expired.into());
        }
        if unix_time < certificate.not_before {
            return Err(CertificateError::NotValidYet.into());
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, host)?;
        Ok(ServerCertVerified::assertion())
    }
}

/// Whether it is an address of this machine. A name is none: what it leads to is for others to say.
fn is_loopback(host: &ServerName<'_>) -> bool {
    matches!(host, ServerName::IpAddress(address) if IpAddr::from(*address).to_canonical().is_loopback())
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.remember(server_name, end_entity, intermediates);
        if self.is_loopback_believed && is_loopback(server_name) {
            // That the other side has the certificate's key is still checked by the handshake.
            return Ok(ServerCertVerified::assertion());
        }
        if self.pinned.contains(end_entity) {
            return self.verify_pinned(end_entity, server_name, now);
        }
        match &self.inner {
            Some(inner) => inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
