//! The limits of the HTTP surface, each a named setting.

use crate::dialect::openai::RequestLimits;
use std::time::Duration;

/// Limits of connections and of the way they end.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpLimits {
    /// Further clients wait in the kernel's queue.
    pub connections_max: usize,
    /// From accepting a connection, or from the end of the last answer on it, to the last byte of a request's headers.
    pub header_read_timeout: Duration,
    pub header_bytes_max: usize,
    /// Calls at once on one HTTP/2 connection.
    pub streams_per_connection_max: u32,
    /// A client that takes no byte of its answer for this long is cut off.
    pub write_stall_timeout: Duration,
    /// How long answers may go on after a shutdown began.
    pub shutdown_grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            header_read_timeout: Duration::from_secs(10),
            header_bytes_max: 32 * 1024,
            streams_per_connection_max: 128,
            write_stall_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(30),
        }
    }
}

/// Limits of a single call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallLimits {
    pub body_bytes_max: usize,
    pub body_read_timeout: Duration,
    /// The largest deadline a caller may ask for.
    pub deadline_max: Duration,
    /// A stream that has nothing to say for this long says so, lest a proxy closes it.
    pub keep_alive_interval: Duration,
    pub request: RequestLimits,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 10_000_000,
            body_read_timeout: Duration::from_secs(30),
            deadline_max: Duration::from_secs(3600),
            keep_alive_interval: Duration::from_secs(10),
            request: RequestLimits::default(),
        }
    }
}
