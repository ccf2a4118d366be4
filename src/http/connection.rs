//! Watches a socket for clients that stall, which hyper's own timeouts do not see: before the protocol is known, and
//! while an answer is written.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The length of HTTP/2's preface: until as much was read, nobody else holds a clock.
const PREFACE_BYTES: usize = 24;

/// A socket that fails with `TimedOut` when the client stalls.
#[derive(Debug)]
pub struct Guarded<S> {
    socket: S,
    preface: Preface,
    write_stall_timeout: Duration,
    /// Armed while a write is waiting for the client.
    write_stall: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Preface {
    Awaited { bytes_read: usize, deadline: Pin<Box<Sleep>> },
    Seen,
}

impl<S> Guarded<S> {
    pub fn new(socket: S, preface_timeout: Duration, write_stall_timeout: Duration) -> Self {
        let preface = Preface::Awaited { bytes_read: 0, deadline: Box::pin(sleep(preface_timeout)) };
        Self { socket, preface, write_stall_timeout, write_stall: None }
    }

    /// Passes `written` on, unless it has been pending for too long.
    fn watch_write<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_stall = None;
            return written;
        }
        let deadline = Instant::now() + self.write_stall_timeout;
        let stall = self.write_stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let filled = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(context, buffer);
        let Preface::Awaited { bytes_read, deadline } = &mut this.preface else { return read };
        if read.is_pending() {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client asks nothing")));
        }
        *bytes_read += buffer.filled().len() - filled;
        if *bytes_read >= PREFACE_BYTES {
            this.preface = Preface::Seen;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watch_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.watch_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.watch_write(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const PREFACE: Duration = Duration::from_secs(10);
    const STALL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_nothing_is_cut_off() {
        let (mut client, server) = duplex(64);
        let mut server = Guarded::new(server, PREFACE, STALL);
        client.write_all(b"GET").await.expect("room for it");
        let error = server.read_exact(&mut [0; 32]).await.expect_err("nothing follows");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_asked_may_wait() {
        let (mut client, server) = duplex(64);
        let mut server = Guarded::new(server, PREFACE, STALL);
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("room for it");
        let mut request = [0; 27];
        server.read_exact(&mut request).await.expect("all of it");
        let waited = tokio::time::timeout(10 * PREFACE, server.read(&mut request)).await;
        assert!(waited.is_err(), "still waiting for more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (mut client, server) = duplex(4);
        let mut server = Guarded::new(server, PREFACE, STALL);
        server.write_all(b"1234").await.expect("room for it");
        let (written, ()) = tokio::join!(server.write_all(b"5678"), async {
            tokio::time::sleep(STALL / 2).await;
            client.read_exact(&mut [0; 4]).await.expect("four bytes");
        });
        written.expect("the client took them in time");
        let error = server.write_all(b"9").await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
