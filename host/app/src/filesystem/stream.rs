//! Streams of files whose memory is bounded and charged.

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use tombolo_region::Charge;

/// The most host memory of a stream: 64 KiB that the guest has not taken or the host has not
/// written, and management data.
pub(super) const BYTES: u64 = 65 << 10;

/// A stream of wasmtime-wasi, with its charge.
pub(super) struct ChargedStream<S> {
    inner: S,
    _charge: Charge,
}

impl<S> ChargedStream<S> {
    pub(super) fn new(inner: S, charge: Charge) -> ChargedStream<S> {
        ChargedStream {
            inner,
            _charge: charge,
        }
    }
}

#[async_trait]
impl Pollable for ChargedStream<DynInputStream> {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl InputStream for ChargedStream<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.blocking_read(size).await
    }

    fn skip(&mut self, count: usize) -> StreamResult<usize> {
        self.inner.skip(count)
    }

    async fn blocking_skip(&mut self, count: usize) -> StreamResult<usize> {
        self.inner.blocking_skip(count).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait]
impl Pollable for ChargedStream<DynOutputStream> {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl OutputStream for ChargedStream<DynOutputStream> {
    /// Traps if the write is longer than `check-write` permits. wasmtime-wasi's stream of a file
    /// takes a write of any length, and holds it until it is written.
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let permit = self.inner.check_write()?;
        if bytes.len() > permit {
            return Err(StreamError::trap(&format!(
                "the guest wrote {} bytes to a stream of a file, but `check-write` permits {permit}",
                bytes.len()
            )));
        }
        self.inner.write(bytes)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.inner.blocking_write_and_flush(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    fn write_zeroes(&mut self, count: usize) -> StreamResult<()> {
        self.inner.write_zeroes(count)
    }

    async fn write_ready(&mut self) -> StreamResult<usize> {
        self.inner.write_ready().await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tombolo::internal::LimitsInternals as _;
    use tombolo_region::{Account, ChargeKind};

    /// A stream that takes writes of any length, as wasmtime-wasi's stream of a file does.
    struct Greedy;

    #[async_trait]
    impl Pollable for Greedy {
        async fn ready(&mut self) {}
    }

    #[async_trait]
    impl OutputStream for Greedy {
        fn write(&mut self, _: Bytes) -> StreamResult<()> {
            Ok(())
        }

        fn flush(&mut self) -> StreamResult<()> {
            Ok(())
        }

        fn check_write(&mut self) -> StreamResult<usize> {
            Ok(100)
        }
    }

    // rule 10
    #[test]
    fn write_beyond_the_permit_traps() {
        let account = Account::new("guest `a`", tombolo::Limits::default().quota());
        let charge = account.charge(ChargeKind::HostMemory, BYTES).unwrap();
        let inner: DynOutputStream = Box::new(Greedy);
        let mut stream = ChargedStream::new(inner, charge);
        assert!(stream.write(Bytes::from(vec![0; 100])).is_ok());
        let refused = stream.write(Bytes::from(vec![0; 101]));
        assert!(matches!(refused, Err(StreamError::Trap(_))), "{refused:?}");
        assert_eq!(account.used(ChargeKind::HostMemory), BYTES);
        drop(stream);
        assert_eq!(account.used(ChargeKind::HostMemory), 0);
    }
}
