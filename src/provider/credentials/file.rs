//! Tokens that somebody else keeps in a file and renews there: Kubernetes, a sidecar, a task of an administrator's.

use super::bearer::{Bearer, Clock, FetchToken, Token};
use super::error::setup;
use crate::provider::endpoint::Key;
use crate::provider::failure::Verdict;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// How long what was read is good: the file is read again after half of it.
const LIFE: Duration = Duration::from_secs(120);

struct TokenFile {
    path: PathBuf,
    clock: Clock,
}

/// Bears the token in a file as it is there at the time. One that tells its own end (RFC 7519) is not sent after it.
pub fn token_file(path: PathBuf, clock: Clock) -> Arc<Bearer> {
    Arc::new(Bearer::new(Arc::new(TokenFile { path, clock: clock.clone() }), clock))
}

impl TokenFile {
    fn read(&self) -> Result<Token, Verdict> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| {
            tracing::warn!(path = %self.path.display(), "the file of a token cannot be read: {}", error.kind());
            setup("cannot be asked: the file of its token cannot be read")
        })?;
        let value = text.trim();
        if value.is_empty() {
            return Err(setup("cannot be asked: the file of its token is empty"));
        }
        let now = self.clock.now();
        let ends_at = end_s(value).and_then(|end_s| UNIX_EPOCH.checked_add(Duration::from_secs(end_s)));
        if ends_at.is_some_and(|end| end <= now) {
            return Err(setup("cannot be asked: the token in its file has ended"));
        }
        let ends_at = ends_at.map_or(now + LIFE, |end| end.min(now + LIFE));
        Ok(Token { value: Key::new(value.to_owned()), ends_at })
    }
}

impl FetchToken for TokenFile {
    fn fetch(&self) -> BoxFuture<'static, Result<Token, Verdict>> {
        std::future::ready(self.read()).boxed()
    }
}

/// What a token of signed claims says of its end. Whether the signature holds is the other side's affair.
fn end_s(token: &str) -> Option<u64> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims).ok()?.get("exp")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::answer::{Request, Sign as _};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn claims(end_s: u64) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!("{{\"exp\": {end_s}}}")))
    }

    #[tokio::test]
    async fn a_file_is_read_again_and_its_token_not_sent_after_its_end() {
        let folder = tempfile::tempdir().expect("a folder to write to");
        let path = folder.path().join("token");
        let now_s = Arc::new(AtomicU64::new(0));
        let clock = {
            let now_s = now_s.clone();
            Clock::new(move || UNIX_EPOCH + Duration::from_secs(now_s.load(Ordering::SeqCst)))
        };
        let bearer = token_file(path.clone(), clock);
        let (ended, unreadable) = ("the token in its file has ended", "the file of its token cannot be read");
        for (at_s, written, expected) in [
            (1000, None, Err(unreadable)),
            (1020, Some("one\n".to_owned()), Ok("one".to_owned())),
            (1079, Some("two".to_owned()), Ok("one".to_owned())),
            (1080, Some("two".to_owned()), Ok("two".to_owned())),
            // Away for a moment: what was read is good for another while.
            (1141, None, Ok("two".to_owned())),
            (1190, None, Err(unreadable)),
            (1220, Some(" ".to_owned()), Err("the file of its token is empty")),
            (1240, Some(claims(1300)), Ok(claims(1300))),
            (1284, Some(claims(1300)), Ok(claims(1300))),
            (1301, Some(claims(1300)), Err(ended)),
            (1320, Some(claims(9000)), Ok(claims(9000))),
            (1400, Some(claims(u64::MAX)), Ok(claims(u64::MAX))),
        ] {
            match written {
                Some(text) => std::fs::write(&path, text).expect("a file to write"),
                None => drop(std::fs::remove_file(&path)),
            }
            now_s.store(at_s, Ordering::SeqCst);
            let mut request = Request { url: String::new(), headers: Vec::new(), body: String::new() };
            let signed = bearer.sign(&mut request).await;
            let got = signed.map(|()| request.headers[0].1.replace("Bearer ", ""));
            let got = got.map_err(|verdict| verdict.cause.replace("cannot be asked: ", ""));
            assert_eq!(got, expected.map_err(str::to_owned), "at {at_s} s");
        }
    }
}
