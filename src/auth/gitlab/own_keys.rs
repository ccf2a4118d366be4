//! The gateway's own keys: one signs user access tokens, one or two more check those signed before.
//!
//! A key comes from the configuration, or is made at the first start and kept in the state folder, where several
//! replicas may share it. A key of the folder is replaced when it is old; the former one goes on checking until every
//! token it signed is over.

use super::clock::WallClock;
use super::files::{self, IfExists};
use super::key::VerifyingKey;
use super::pem::{self, PemProblem};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

const SIGNING_FILE: &str = "signing_key.pem";
const PREVIOUS_FILE: &str = "previous_signing_key.pem";
const LOCK_FILE: &str = "signing_key.lock";
/// Another replica may go on signing with the former key for an hour, until it reads the folder again, and its tokens
/// are good for another hour.
const PREVIOUS_KEPT_S: u64 = 3 * 3600;
/// Making a key takes a second; a lock this old was left behind.
const LOCK_STALE: Duration = Duration::from_secs(60);

/// Where the own keys come from.
#[derive(Clone)]
pub struct OwnKeySettings {
    /// The service's name: issuer and audience of its tokens, and the beginning of its key ids.
    pub service: String,
    /// PEM text.
    pub signing_pem: Option<String>,
    /// PEM text of a second key, public or private, whose tokens are accepted too.
    pub validation_pem: Option<String>,
    /// Where a key is made and kept when none is configured.
    pub folder: Option<PathBuf>,
    /// The age at which a key of the folder is replaced.
    pub rotate_after: Duration,
}

impl fmt::Debug for OwnKeySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OwnKeySettings")
            .field("service", &self.service)
            .field("has_signing_pem", &self.signing_pem.is_some())
            .field("has_validation_pem", &self.validation_pem.is_some())
            .field("folder", &self.folder)
            .field("rotate_after", &self.rotate_after)
            .finish()
    }
}

/// Why the gateway has no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum OwnKeyError {
    #[error("gitlab.signing_key (AIGW_SELF_SIGNED_JWT__SIGNING_KEY) cannot be used: {0}")]
    Signing(PemProblem),
    #[error("gitlab.validation_key (AIGW_SELF_SIGNED_JWT__VALIDATION_KEY) cannot be used: {0}")]
    Validation(PemProblem),
    #[error("the key file {} cannot be used: {problem}; if no token of it is needed any more, remove the file and a new key is made", .path.display())]
    File { path: PathBuf, problem: PemProblem },
    #[error("the key file {} cannot be read: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("the key could not be written to {}: {error}", .path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("no RSA key could be made")]
    Generate,
}

/// The own keys, and how they change.
pub struct OwnKeys {
    key_ids: [String; 2],
    source: Source,
    validation: Option<Arc<VerifyingKey>>,
    clock: WallClock,
    held: RwLock<Held>,
}

enum Source {
    Configured,
    Folder { folder: PathBuf, rotate_after_s: u64 },
    Memory,
}

#[derive(Clone)]
struct Held {
    signing: SigningKey,
    previous: Option<Arc<VerifyingKey>>,
}

#[derive(Clone)]
struct SigningKey {
    pair: Arc<KeyPair>,
    public: Arc<VerifyingKey>,
    created_s: u64,
}

impl fmt::Debug for OwnKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OwnKeys({})", self.key_ids[0])
    }
}

impl OwnKeys {
    /// Reads or makes the keys. A folder that cannot be written to costs a warning: the key is then kept in memory.
    pub fn open(settings: OwnKeySettings, clock: WallClock) -> Result<Self, OwnKeyError> {
        let key_ids = settings.key_ids();
        let validation = settings.validation_key(&key_ids[1])?;
        let now_s = clock.unix_s();
        let (source, held) = match (settings.signing_key(&key_ids[0], now_s)?, settings.folder) {
            (Some(signing), _) => (Source::Configured, Held { signing, previous: None }),
            (None, Some(folder)) => open_folder(folder, settings.rotate_after, &key_ids[0], now_s)?,
            (None, None) => {
                tracing::warn!("there is no state folder: user access tokens end with this process; set state.dir");
                (Source::Memory, Held { signing: SigningKey::generate(&key_ids[0], now_s)?, previous: None })
            }
        };
        Ok(Self { key_ids, source, validation, clock, held: RwLock::new(held) })
    }

    /// What own tokens may name as their key.
    pub(super) fn key_ids(&self) -> &[String; 2] {
        &self.key_ids
    }

    pub(super) fn signing_key_id(&self) -> &str {
        &self.key_ids[0]
    }

    /// Every key whose tokens are accepted.
    pub(super) fn verifying_keys(&self) -> Vec<Arc<VerifyingKey>> {
        let held = self.held();
        [Some(held.signing.public), held.previous, self.validation.clone()].into_iter().flatten().collect()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let pair = self.held().signing.pair;
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
        Ok(signature)
    }

    /// Whether keys are shared through a folder, so that another replica may have changed them.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.source, Source::Folder { .. })
    }

    /// Reads the folder again. Blocks on files. True if the keys have changed.
    pub(super) fn reread(&self) -> Result<bool, OwnKeyError> {
        let Source::Folder { folder, .. } = &self.source else { return Ok(false) };
        let Some(held) = read_folder(folder, &self.key_ids[0], self.clock.unix_s())? else { return Ok(false) };
        Ok(self.replace(held))
    }

    /// Replaces a key that is too old, forgets a former one whose tokens are over. Blocks on files and on the making of
    /// a key. True if the keys have changed.
    pub(super) fn rotate_if_due(&self) -> Result<bool, OwnKeyError> {
        let Source::Folder { folder, rotate_after_s } = &self.source else { return Ok(false) };
        let has_changed = self.reread()?;
        let now_s = self.clock.unix_s();
        let age_s = || now_s.saturating_sub(self.held().signing.created_s);
        let leftover = folder.join(PREVIOUS_FILE);
        if age_s() < *rotate_after_s && !(age_s() > PREVIOUS_KEPT_S && leftover.exists()) {
            return Ok(has_changed);
        }
        let Some(_lock) = FolderLock::take(folder) else { return Ok(has_changed) };
        // Another replica may have been faster.
        let has_changed = self.reread()? || has_changed;
        if age_s() > PREVIOUS_KEPT_S {
            // It checks nothing any more. If there is none, or it stays, nothing is lost.
            let _ = std::fs::remove_file(leftover);
        }
        if age_s() < *rotate_after_s {
            return Ok(has_changed);
        }
        let old = self.held().signing;
        let new = SigningKey::generate(&self.key_ids[0], now_s)?;
        write_key(&folder.join(PREVIOUS_FILE), &old, IfExists::Replace)?;
        write_key(&folder.join(SIGNING_FILE), &new, IfExists::Replace)?;
        tracing::info!(folder = %folder.display(), "made a new signing key; tokens of the former one stay good until they are over");
        self.replace(Held { signing: new, previous: Some(old.public) });
        Ok(true)
    }

    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, held: Held) -> bool {
        let fingerprints =
            |held: &Held| (held.signing.public.fingerprint, held.previous.as_ref().map(|key| key.fingerprint));
        let mut current = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = fingerprints(&current) != fingerprints(&held);
        *current = held;
        has_changed
    }
}

impl OwnKeySettings {
    fn key_ids(&self) -> [String; 2] {
        [format!("{}_signing_key", self.service), format!("{}_validation_key", self.service)]
    }

    fn signing_key(&self, id: &str, now_s: u64) -> Result<Option<SigningKey>, OwnKeyError> {
        let Some(text) = self.signing_pem.as_deref().filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        let key = pem::private_key(text).and_then(|pair| SigningKey::new(pair, id, now_s));
        key.map(Some).map_err(OwnKeyError::Signing)
    }

    fn validation_key(&self, id: &str) -> Result<Option<Arc<VerifyingKey>>, OwnKeyError> {
        let Some(text) = self.validation_pem.as_deref().filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        pem::public_key(text, id).map(|key| Some(Arc::new(key))).map_err(OwnKeyError::Validation)
    }
}

impl SigningKey {
    fn new(pair: KeyPair, id: &str, created_s: u64) -> Result<Self, PemProblem> {
        let public = Arc::new(pem::public_half(&pair, id)?);
        Ok(Self { pair: Arc::new(pair), public, created_s })
    }

    fn generate(id: &str, now_s: u64) -> Result<Self, OwnKeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| OwnKeyError::Generate)?;
        Self::new(pair, id, now_s).map_err(|_| OwnKeyError::Generate)
    }
}

fn open_folder(
    folder: PathBuf,
    rotate_after: Duration,
    key_id: &str,
    now_s: u64,
) -> Result<(Source, Held), OwnKeyError> {
    if let Some(held) = read_folder(&folder, key_id, now_s)? {
        return Ok((Source::Folder { folder, rotate_after_s: rotate_after.as_secs() }, held));
    }
    let made = SigningKey::generate(key_id, now_s)?;
    let path = folder.join(SIGNING_FILE);
    match write_key(&path, &made, IfExists::Keep) {
        Ok(()) => tracing::info!(path = %path.display(), "made a signing key for user access tokens"),
        // Another replica was faster: its key is read below.
        Err(OwnKeyError::Write { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            tracing::warn!("{error}; user access tokens end with this process");
            return Ok((Source::Memory, Held { signing: made, previous: None }));
        }
    }
    let held = read_folder(&folder, key_id, now_s)?.unwrap_or(Held { signing: made, previous: None });
    Ok((Source::Folder { folder, rotate_after_s: rotate_after.as_secs() }, held))
}

fn read_folder(folder: &Path, key_id: &str, now_s: u64) -> Result<Option<Held>, OwnKeyError> {
    let Some(signing) = read_key(&folder.join(SIGNING_FILE), key_id, now_s)? else { return Ok(None) };
    if now_s.saturating_sub(signing.created_s) > PREVIOUS_KEPT_S {
        return Ok(Some(Held { signing, previous: None }));
    }
    let previous = read_key(&folder.join(PREVIOUS_FILE), key_id, now_s)?.map(|key| key.public);
    Ok(Some(Held { previous: previous.filter(|key| key.fingerprint != signing.public.fingerprint), signing }))
}

/// The line before the PEM that says when the key was made: a file's own time changes when it is copied.
const CREATED: &str = "created: ";

fn read_key(path: &Path, key_id: &str, now_s: u64) -> Result<Option<SigningKey>, OwnKeyError> {
    let text = files::read_text(path).map_err(|error| OwnKeyError::Read { path: path.to_owned(), error })?;
    let Some(text) = text else { return Ok(None) };
    if files::is_open_to_others(path) {
        tracing::warn!(path = %path.display(), "this key file can be read by others: chmod 600 it");
    }
    let said_s = text.lines().find_map(|line| line.strip_prefix(CREATED)?.trim().parse().ok());
    let created_s = said_s.or_else(|| files::modified_s(path)).unwrap_or(now_s);
    let key = pem::private_key(&text).and_then(|pair| SigningKey::new(pair, key_id, created_s));
    key.map(Some).map_err(|problem| OwnKeyError::File { path: path.to_owned(), problem })
}

fn write_key(path: &Path, key: &SigningKey, if_exists: IfExists) -> Result<(), OwnKeyError> {
    let pem = pem::encode(&key.pair).map_err(|_| OwnKeyError::Generate)?;
    let text = format!("{CREATED}{}\n{pem}", key.created_s);
    files::write_private(path, text.as_bytes(), if_exists)
        .map_err(|error| OwnKeyError::Write { path: path.to_owned(), error })
}

/// Held by the one replica that replaces the key.
struct FolderLock {
    path: PathBuf,
}

impl FolderLock {
    fn take(folder: &Path) -> Option<Self> {
        let path = folder.join(LOCK_FILE);
        if let Ok(metadata) = std::fs::metadata(&path) {
            let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > LOCK_STALE) {
                let _ = std::fs::remove_file(&path);
            }
        }
        // Not `then_some`: a lock made for nothing would remove the other's file when it is dropped.
        files::create_private(&path).is_ok().then(|| Self { path })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
