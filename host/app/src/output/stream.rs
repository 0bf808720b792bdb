//! A guest's standard streams, as WASI defines them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::{Lane, Stdio};

/// Standard output or standard error of a guest.
pub(crate) struct Printer(pub(super) Lane);

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl StdoutStream for Printer {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(LaneStream(self.0.clone()))
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(LaneStream(self.0.clone()))
    }
}

struct LaneStream(Lane);

impl LaneStream {
    fn room(&self) -> StreamResult<usize> {
        self.0.room().map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => StreamError::Closed,
            _ => StreamError::LastOperationFailed(error.into()),
        })
    }
}

#[async_trait]
impl OutputStream for LaneStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.room()? {
            return Err(StreamError::trap(
                "the guest wrote more bytes than `check-write` permits",
            ));
        }
        self.0.add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // The destination's thread writes as soon as it can.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.room()
    }

    async fn blocking_write_and_flush(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        while !bytes.is_empty() {
            let room = self.write_ready().await?;
            self.0.add(&bytes.split_to(room.min(bytes.len())));
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for LaneStream {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| self.0.poll_writable(context)).await;
    }
}

impl AsyncWrite for LaneStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.0.poll_writable(context));
        let room = self.0.room()?.min(bytes.len());
        self.0.add(&bytes[..room]);
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard input of this process, for a guest. When the guest reads, its unfinished line is
/// written, because it may be a prompt.
pub(crate) struct GuestStdin(pub(crate) Stdio);

impl IsTerminal for GuestStdin {
    fn is_terminal(&self) -> bool {
        std::io::IsTerminal::is_terminal(&io::stdin())
    }
}

impl StdinStream for GuestStdin {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(StdinReader {
            stdin: io::stdin().p2_stream(),
            printed: self.0.clone(),
        })
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.0.release();
        io::stdin().async_stream()
    }
}

/// Reads standard input, and releases the guest's unfinished lines first.
struct StdinReader {
    stdin: Box<dyn InputStream>,
    printed: Stdio,
}

#[async_trait]
impl InputStream for StdinReader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.printed.release();
        self.stdin.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.printed.release();
        self.stdin.blocking_read(size).await
    }

    async fn cancel(&mut self) {
        self.stdin.cancel().await;
    }
}

#[async_trait]
impl Pollable for StdinReader {
    async fn ready(&mut self) {
        self.printed.release();
        self.stdin.ready().await;
    }
}
