//! Bytes on their way between streams and regions.

use std::sync::Arc;

use bytes::Bytes;
use tombolo_region::{Access, Rights, Span};

use super::Region;
use super::guard::HostLock;
use super::region::RegionInner;
use crate::error::RegionError;
use crate::sys::RegionFile;

/// A part of a region that bytes are about to be copied into. It is locked until this is dropped.
pub(crate) struct CopyIn {
    region: Arc<RegionInner>,
    file: Arc<RegionFile>,
    offset: u64,
    most: usize,
    _lock: HostLock,
}

impl CopyIn {
    /// Returns how many bytes there is room for.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Copies the bytes to the start of the part. Returns how many there are.
    pub(crate) fn finish(self, bytes: &[u8]) -> Result<u64, RegionError> {
        let length = bytes.len() as u64;
        self.file.write_at(self.offset, bytes)?;
        self.region.host().count_copied(length);
        Ok(length)
    }
}

impl Region {
    /// Locks at most `most` bytes from `offset` on, and no more than the limit `copy-bytes`. `None`
    /// for no bytes.
    pub(crate) fn begin_copy(&self, offset: u64, most: u64) -> Result<Option<CopyIn>, RegionError> {
        // All of it must be inside, even if not all is copied at a time.
        Span::of_bytes(offset, most, self.size())?;
        let most = most.min(self.owner().limits.copy_bytes);
        let Some(span) = Span::of_bytes(offset, most, self.size())? else {
            self.may_open(Rights::WRITE, Access::Write)?;
            return Ok(None);
        };
        Ok(Some(CopyIn {
            _lock: self.lock(Rights::WRITE, span, Access::Write)?,
            region: self.inner().clone(),
            file: self.inner().file()?,
            offset,
            most: usize::try_from(most).map_err(std::io::Error::other)?,
        }))
    }

    /// Returns `length` bytes from `offset` on, but at most `most`, for a stream. They own a guard,
    /// which keeps them in place. Those of a lent handle are a copy, because a lend is over only
    /// when its guards are dropped, and its lender waits for that.
    pub(crate) fn outgoing(
        &self,
        offset: u64,
        length: u64,
        most: u64,
    ) -> Result<Bytes, RegionError> {
        // All of it must be inside, even if not all is taken.
        Span::of_bytes(offset, length, self.size())?;
        let length = length.min(most);
        if self.handle().lend().is_some() {
            let length = length.min(self.owner().limits.copy_bytes);
            return Ok(self.copy_out(offset, length)?.into());
        }
        let guard = self.try_read(offset..offset + length)?;
        Ok(match guard.is_empty() {
            true => Bytes::new(),
            false => Bytes::from_owner(guard),
        })
    }
}
