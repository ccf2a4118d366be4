//! The last good key set of each issuer on disk, so that a restart during an outage of GitLab serves on.

use super::files::{self, IfExists};
use super::issuer::{IssuerName, IssuerUrl};
use super::key::{KeyParts, KeySet, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct SavedSet {
    /// Another URL's keys are no longer trusted when the setting has changed.
    url: String,
    fetched_at_s: u64,
    keys: Vec<SavedKey>,
}

#[derive(Serialize, Deserialize)]
struct SavedKey {
    kid: Option<String>,
    #[serde(flatten)]
    parts: KeyParts,
}

/// A set read back, and when it was fetched.
pub(super) struct LastGood {
    pub(super) set: KeySet,
    pub(super) fetched_at_s: u64,
}

/// Nothing if there is none for this URL, or none that can be read.
pub(super) fn load(folder: &Path, issuer: IssuerName, url: &IssuerUrl) -> Option<LastGood> {
    let path = file_of(folder, issuer);
    let read = files::read_text(&path).and_then(|text| match text {
        None => Ok(None),
        Some(text) => serde_json::from_str::<SavedSet>(&text).map(Some).map_err(io::Error::from),
    });
    let saved = match read {
        Ok(saved) => saved?,
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "the saved key set cannot be read; it will be written anew");
            return None;
        }
    };
    if saved.url != url.as_str() {
        return None;
    }
    let keys = saved.keys.into_iter().filter_map(|key| VerifyingKey::from_parts(key.kid.as_deref(), key.parts).ok());
    let set = KeySet { keys: keys.map(Arc::new).collect(), ..KeySet::default() };
    (!set.keys.is_empty()).then_some(LastGood { set, fetched_at_s: saved.fetched_at_s })
}

/// Blocks on a file.
pub(super) fn save(
    folder: &Path,
    issuer: IssuerName,
    url: &IssuerUrl,
    set: &KeySet,
    fetched_at_s: u64,
) -> io::Result<()> {
    let keys = set.keys.iter();
    let keys = keys.map(|key| SavedKey { kid: key.id.as_deref().map(str::to_owned), parts: key.parts().clone() });
    let saved = SavedSet { url: url.as_str().to_owned(), fetched_at_s, keys: keys.collect() };
    let text = serde_json::to_vec_pretty(&saved).map_err(io::Error::from)?;
    files::write_private(&file_of(folder, issuer), &text, IfExists::Replace)
}

fn file_of(folder: &Path, issuer: IssuerName) -> PathBuf {
    folder.join(format!("keys-{issuer}.json"))
}
