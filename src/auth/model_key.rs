//! The key that GitLab stores with a self-hosted model and sends in the body of its requests. A model served in this
//! process needs none; where an operator configures some, one of them has to come.

use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq as _};

/// The configured keys, as digests. None configured takes any key, and no key.
#[derive(Clone, Default)]
pub struct ModelApiKeys {
    digests: Vec<[u8; 32]>,
}

impl fmt::Debug for ModelApiKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ModelApiKeys({})", self.digests.len())
    }
}

impl ModelApiKeys {
    /// Empty ones do not count.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys = keys.into_iter().map(str::trim).filter(|key| !key.is_empty());
        Self { digests: keys.map(digest).collect() }
    }

    /// Takes the same time whichever key is close.
    pub fn accept(&self, sent: Option<&str>) -> bool {
        if self.digests.is_empty() {
            return true;
        }
        let sent = digest(sent.unwrap_or_default().trim());
        bool::from(self.digests.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&sent)))
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_keys_are_taken() {
        let check = |configured: &[&str], sent: Option<&str>, expected: bool| {
            let keys = ModelApiKeys::new(configured.iter().copied());
            assert_eq!(keys.accept(sent), expected, "{configured:?} {sent:?}");
            assert!(!format!("{keys:?}").contains("secret"));
        };
        check(&[], None, true);
        check(&[], Some("anything"), true);
        check(&["", " "], None, true);
        check(&["secret-1", "secret-2"], Some("secret-2"), true);
        check(&["secret-1", "secret-2"], Some(" secret-1\n"), true);
        check(&["secret-1", "secret-2"], Some("secret-3"), false);
        check(&["secret-1"], Some("secret-1secret-1"), false);
        check(&["secret-1"], Some(""), false);
        check(&["secret-1"], None, false);
    }
}
