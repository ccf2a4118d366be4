//! API keys from the places the configuration names.

use super::error::ServeError;
use crate::auth::{ApiKey, ApiKeys, Auth};
use crate::config;

const KEY_FILE_BYTES_MAX: u64 = 16 << 20;

/// Who may call, and how many keys there are.
pub struct Gate {
    pub auth: Auth,
    pub num_keys: usize,
}

/// Reads the key file and the keys given in the clear, which are hashed here and forgotten.
pub fn gate(config: &config::Auth) -> Result<Gate, ServeError> {
    if !config.is_configured() {
        return Ok(Gate { auth: Auth::Disabled, num_keys: 0 });
    }
    let mut keys = Vec::new();
    if let Some(path) = &config.keys_file {
        let unreadable = |source| ServeError::KeyFileUnreadable { path: path.clone(), source };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > KEY_FILE_BYTES_MAX {
            return Err(ServeError::KeyFileTooLarge { path: path.clone(), bytes, bytes_max: KEY_FILE_BYTES_MAX });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        keys = ApiKeys::parse_file(&text).map_err(|source| ServeError::KeyFile { path: path.clone(), source })?;
    }
    for (index, key) in config.keys.iter().enumerate() {
        let number = index + 1;
        // `NAME=KEY` names the caller in logs; a key alone is called by its place.
        let default_name = format!("key-{number}");
        let (name, key) = key.reveal().split_once('=').unwrap_or((&default_name, key.reveal()));
        keys.push(ApiKey::from_plain(name, key).map_err(|source| ServeError::Key { number, source })?);
    }
    let num_keys = keys.len();
    let keys = ApiKeys::new(keys).map_err(ServeError::Keys)?;
    Ok(Gate { auth: Auth::Keys(keys), num_keys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn joins_the_file_and_the_environment() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("keys.txt");
        let made = crate::auth::generate_key("alice").expect("a good name");
        std::fs::write(&path, format!("# team\n{}\n", made.entry)).expect("writable");
        let keys = vec![Secret::new("bob=0123456789abcdef"), Secret::new("abcdef0123456789")];
        let gate = gate(&config::Auth { keys, keys_file: Some(path) }).expect("three keys");
        assert_eq!(gate.num_keys, 3);
        for (key, name) in [(made.key.as_str(), "alice"), ("0123456789abcdef", "bob"), ("abcdef0123456789", "key-2")] {
            let principal = gate.auth.identify(Some(&format!("Bearer {key}"))).expect("known");
            assert_eq!(&*principal.name, name);
        }
    }

    #[test]
    fn an_empty_key_file_does_not_open_the_door() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("keys.txt");
        std::fs::write(&path, "# nobody yet\n").expect("writable");
        let error = gate(&config::Auth { keys: Vec::new(), keys_file: Some(path) }).err().expect("no keys");
        assert!(error.to_string().contains("no key"), "{error}");
    }

    #[test]
    fn errors_never_show_a_key() {
        let keys = vec![Secret::new("sk-secret")];
        let error = gate(&config::Auth { keys, keys_file: None }).err().expect("too short").to_string();
        assert!(error.starts_with("key 1 of auth.keys") && !error.contains("secret"), "{error}");
    }
}
