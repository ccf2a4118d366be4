//! Requests that somebody else's library makes and leaves to us to send: any headers, bytes for a body. What may be
//! called, whom we believe and which proxy stands in between is the same for them as for our own.

use super::classify::{Context, classify};
use super::error::EgressError;
use super::{BODY_BYTES_MAX, Egress, Method};
use reqwest::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// A library's request. Lengths and the name of the host are left out of the headers: they follow from the rest.
pub struct Relay {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// For the whole of it.
    pub timeout: Duration,
}

/// What came back, in full.
pub struct Relayed {
    pub status: u16,
    /// Those that are text.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Egress {
    /// Asks an address whose origin the configuration named; every status is an answer, redirects among them. Reads up
    /// to [`BODY_BYTES_MAX`].
    pub async fn relay(&self, relay: Relay) -> Result<Relayed, EgressError> {
        let Relay { method, url, headers, body, timeout } = relay;
        let url = self.gate.named(&url)?;
        let context = self.context(&url, timeout);
        let request = self.client.request(method.into(), url).headers(header_map(headers)?).body(body);
        let (context, response) = match request.timeout(timeout).send().await {
            Ok(response) => (context, response),
            Err(error) => return Err(classify(&error, &context, self.witness.seen(&context.host))),
        };
        read(response, context).await
    }
}

async fn read(mut response: reqwest::Response, context: Context) -> Result<Relayed, EgressError> {
    let status = response.status().as_u16();
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = value.to_str().ok()?.to_owned();
        Some((name.as_str().to_owned(), value))
    };
    let headers = response.headers().iter().filter_map(text).collect();
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| classify(&error, &context, Vec::new()))?;
        let Some(chunk) = chunk else { return Ok(Relayed { status, headers, body }) };
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(EgressError::TooLarge { at: context.at, bytes_max: BODY_BYTES_MAX });
        }
        body.extend_from_slice(&chunk);
    }
}

fn header_map(headers: Vec<(String, String)>) -> Result<HeaderMap, EgressError> {
    let unsendable = || EgressError::Header { name: "of a library" };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable())?;
        if name == HOST || name == CONTENT_LENGTH {
            continue;
        }
        let mut value = HeaderValue::from_str(&value).map_err(|_| unsendable())?;
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}
