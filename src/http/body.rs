//! Reads a request's body, within its limits.

use super::CallLimits;
use super::error::EdgeError;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::timeout;

/// A client that is still sending does not see an answer: what it sends is thrown away for as long and as much as
/// this, so that it can learn that it was too much.
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is set aside before a byte has come, whatever was announced.
const FIRST_BYTES: usize = 64 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// The whole body. Holds at most [`CallLimits::body_bytes_max`] bytes, whatever the client announces.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, limits: &CallLimits) -> Result<Vec<u8>, EdgeError> {
    let bytes_max = limits.body_bytes_max;
    let too_large = EdgeError::BodyTooLarge { bytes_max };
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        // A client that waits to be asked for its body has not sent it.
        if !headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(too_large);
    }
    let collect = async {
        let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(FIRST_BYTES));
        while let Some(data) = next(&mut body).await? {
            if bytes.len() + data.len() > bytes_max {
                return Ok(None);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Some(bytes))
    };
    let timed_out = EdgeError::BodySlow { timeout: limits.body_read_timeout };
    match timeout(limits.body_read_timeout, collect).await.map_err(|_| timed_out)?? {
        Some(bytes) => Ok(bytes),
        None => {
            discard(body).await;
            Err(too_large)
        }
    }
}

/// The next bytes; trailers are skipped.
async fn next(body: &mut Body) -> Result<Option<Bytes>, EdgeError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| EdgeError::BodyBroken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn discard(mut body: Body) {
    let discard = async {
        let mut discarded = 0;
        while let Ok(Some(data)) = next(&mut body).await {
            discarded += data.len();
            if discarded > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // Whether it ended or not, the answer is the same.
    let _ = timeout(DISCARD_TIME_MAX, discard).await;
}
