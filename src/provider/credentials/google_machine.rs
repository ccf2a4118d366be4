//! The account that a machine of Google Cloud runs as (cloud.google.com/compute/docs/metadata/overview): what Compute
//! Engine, Kubernetes Engine with its workload identity, and Cloud Run hand out, in every build and through our own door.

use super::bearer::{Bearer, Clock, FetchToken, Token};
use super::error::setup;
use crate::domain::UpstreamClass;
use crate::egress::{Ask, Egress, EgressError};
use crate::provider::endpoint::Key;
use crate::provider::failure::Verdict;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Where the metadata server is, unless `GCE_METADATA_HOST` says otherwise. The door has to be open for it.
pub const GOOGLE_METADATA: &str = "http://metadata.google.internal";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// It is on the machine: where it does not answer at once it is not there.
const TIMEOUT: Duration = Duration::from_secs(3);

const NOT_THERE: Verdict = Verdict {
    class: UpstreamClass::Failed,
    cause: "cannot be asked: the metadata server of this machine gives no token for the moment",
};

struct Machine {
    url: String,
    egress: Egress,
    clock: Clock,
}

/// Opens Google's APIs by tokens of the account that this machine runs as. `base` is [`GOOGLE_METADATA`] or stands for it.
pub fn google_machine(base: &str, egress: Egress, clock: Clock) -> Arc<Bearer> {
    let url = format!("{}{PATH}", base.trim_end_matches('/'));
    Arc::new(Bearer::new(Arc::new(Machine { url, egress, clock: clock.clone() }), clock))
}

#[derive(Deserialize)]
struct Answered {
    access_token: String,
    expires_in: u64,
}

impl FetchToken for Machine {
    fn fetch(&self) -> BoxFuture<'static, Result<Token, Verdict>> {
        let (url, egress, clock) = (self.url.clone(), self.egress.clone(), self.clock.clone());
        async move {
            let (status, body) = ask(&url, &egress).await.map_err(|error| {
                // Holds an address and no more.
                tracing::warn!("no token of this machine's account: {error}");
                match error {
                    EgressError::Refused { .. } => setup("cannot be asked: the metadata server may not be called"),
                    _ => NOT_THERE,
                }
            })?;
            if status == 404 {
                return Err(setup("cannot be asked: this machine runs as no account of Google Cloud"));
            }
            let answered: Option<Answered> = serde_json::from_slice(&body).ok().filter(|_| status == 200);
            let Answered { access_token, expires_in } = answered.ok_or_else(|| {
                tracing::warn!(status, "no token of this machine's account");
                NOT_THERE
            })?;
            let ends_at = clock.now().checked_add(Duration::from_secs(expires_in)).ok_or(NOT_THERE)?;
            Ok(Token { value: Key::new(access_token), ends_at })
        }
        .boxed()
    }
}

async fn ask(url: &str, egress: &Egress) -> Result<(u16, Vec<u8>), EgressError> {
    // Without the header nothing is answered: a browser that was lured there cannot send it.
    let headers = &[("metadata-flavor", "Google")];
    let fetched = egress.send(Ask { headers, timeout: TIMEOUT, ..Ask::get(url) }).await?.into_fetched().await?;
    Ok((fetched.status, fetched.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UpstreamClass::{Failed, Setup};
    use crate::egress::EgressSettings;
    use crate::provider::answer::{Request, Sign as _};
    use std::time::SystemTime;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What two requests are signed with, and what the metadata server was asked.
    async fn told(status: u16, body: &str) -> (Vec<Result<String, UpstreamClass>>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let settings = EgressSettings { allowed: vec![base.clone()], ..EgressSettings::default() };
        let egress = Egress::new(&settings).expect("settings that can be used");
        let bearer = google_machine(&base, egress, Clock::new(|| SystemTime::UNIX_EPOCH));
        let mut heads = Vec::new();
        let serving = async {
            loop {
                let (mut socket, _) = listener.accept().await.expect("somebody asks");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.expect("a request"));
                }
                heads.push(String::from_utf8(head).expect("text").to_lowercase());
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} So\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                socket.write_all(answer.as_bytes()).await.expect("somebody listens");
            }
        };
        let asking = async {
            let mut signed = Vec::new();
            for _ in 0..2 {
                let mut request = Request { url: String::new(), headers: Vec::new(), body: String::new() };
                let told = bearer.sign(&mut request).await;
                signed.push(told.map(|()| request.headers[0].1.clone()).map_err(|verdict| verdict.class));
            }
            signed
        };
        let signed = tokio::select! {
            signed = asking => signed,
            () = serving => unreachable!("it is for ever"),
        };
        (signed, heads)
    }

    #[tokio::test]
    async fn a_machines_token_is_fetched_once_in_its_own_words() {
        let body = r#"{"access_token": "ya29.machine", "expires_in": 3599, "token_type": "Bearer"}"#;
        let (signed, heads) = told(200, body).await;
        assert_eq!(signed, [Ok("Bearer ya29.machine".to_owned()), Ok("Bearer ya29.machine".to_owned())]);
        let [head] = &heads[..] else { panic!("asked {} times", heads.len()) };
        assert!(head.starts_with("get /computemetadata/v1/instance/service-accounts/default/token http/1.1"), "{head}");
        assert!(head.contains("metadata-flavor: google\r\n"), "{head}");
    }

    #[tokio::test]
    async fn what_is_no_token_has_a_class() {
        for (status, body, class) in [
            (404, "no such account", Setup),
            (503, "", Failed),
            (200, "<html>", Failed),
            (200, r#"{"access_token": "x", "expires_in": 18446744073709551615}"#, Failed),
        ] {
            let (signed, heads) = told(status, body).await;
            assert_eq!(signed, [Err(class), Err(class)], "{status} {body}");
            assert_eq!(heads.len(), 1, "it is left alone for a while");
        }
        let egress = Egress::new(&EgressSettings::default()).expect("settings that can be used");
        let bearer = google_machine(GOOGLE_METADATA, egress, Clock::system());
        let mut request = Request { url: String::new(), headers: Vec::new(), body: String::new() };
        assert_eq!(bearer.sign(&mut request).await.map_err(|verdict| verdict.class), Err(Setup));
    }
}
