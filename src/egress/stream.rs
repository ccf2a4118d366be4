//! Answers that come piece by piece for as long as it takes: what a model says is one. No time is set for the whole, but
//! one for the head and one for each silence in between; how much a reader keeps is the reader's affair.

use super::classify::{Context, classify};
use super::error::{EgressError, Origin};
use super::{Ask, Egress, redirect_status};
use futures::stream::BoxStream;
use std::time::Duration;
use tokio::time::timeout;

/// An answer of which only the head has been read. Dropping it, or the stream of its pieces, closes the connection, which
/// tells the other side to stop.
pub struct Streamed {
    pub status: u16,
    response: reqwest::Response,
    context: Context,
    idle: Duration,
}

impl Egress {
    /// Asks an address whose origin the configuration named, and comes back with the head of the answer, whatever its
    /// status. `ask.timeout` counts up to there; `idle` is how long each piece of the body may take. Redirects are not
    /// followed: what is streamed is asked for with a body and a key, and both are for one host.
    pub async fn open(&self, ask: Ask<'_>, idle: Duration) -> Result<Streamed, EgressError> {
        let url = self.gate.named(ask.url)?;
        let (request, context) = self.prepare(url.clone(), ask)?;
        let Ok(sent) = timeout(ask.timeout, request.send()).await else { return Err(late(&context, ask.timeout)) };
        let response = sent.map_err(|error| classify(&error, &context, self.witness.seen(&context.host)))?;
        let status = response.status().as_u16();
        let answer = Streamed { status, response, context, idle };
        if redirect_status(status) {
            let to = answer.header("location").and_then(|location| url.join(location).ok());
            let to = to.map_or_else(Origin::unreadable, |to| Origin::with_path(&to));
            return Err(EgressError::Redirect { from: answer.context.at, to });
        }
        Ok(answer)
    }
}

impl Streamed {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body as it arrived; `None` at its end.
    pub async fn piece(&mut self) -> Result<Option<Vec<u8>>, EgressError> {
        match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece.map(|bytes| bytes.to_vec())),
            Ok(Err(error)) => Err(classify(&error, &self.context, Vec::new())),
            Err(_) => Err(late(&self.context, self.idle)),
        }
    }

    /// The pieces of the body. Nothing follows an error.
    pub fn into_pieces(self) -> BoxStream<'static, Result<Vec<u8>, EgressError>> {
        Box::pin(futures::stream::unfold(Some(self), |answer| async {
            let mut answer = answer?;
            match answer.piece().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(answer))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

fn late(context: &Context, after: Duration) -> EgressError {
    EgressError::Timeout { at: context.at.clone(), after, proxy: context.proxy.clone() }
}
