//! Guards, copies and waits: the access of a handle's holder to the bytes of the region.

use std::ops::{Range, RangeBounds};
use std::sync::Arc;

use tombolo_region::{Access, ChargeKind, Holder, Rights, Span, WaiterId};

use super::guard::{HostLock, ReadGuard, WriteGuard};
use super::handle::Region;
use super::region::RegionInner;
use crate::error::RegionError;
use crate::sys::{View, ViewMut};

impl Region {
    /// Returns the granules of a range of bytes, and the position of the bytes within them.
    /// `None` for no bytes.
    fn part(&self, range: &Range<u64>) -> Result<Option<(Span, Range<usize>)>, RegionError> {
        let length = range.end.saturating_sub(range.start);
        let Some(span) = Span::of_bytes(range.start, length, self.size())? else {
            return Ok(None);
        };
        let start = usize::try_from(range.start - span.offset()).expect("less than a granule");
        let length = usize::try_from(length).map_err(std::io::Error::other)?;
        Ok(Some((span, start..start + length)))
    }

    /// Checks whether no bytes at all could be accessed in this way. They conflict with nobody.
    pub(super) fn may_open(&self, needs: Rights, access: Access) -> Result<(), RegionError> {
        self.check_process()?;
        Ok(self
            .inner()
            .ledger()
            .may_open(self.handle(), needs, access)?)
    }

    pub(super) fn lock(
        &self,
        needs: Rights,
        span: Span,
        access: Access,
    ) -> Result<HostLock, RegionError> {
        self.check_process()?;
        let charge = self.owner().account.charge(ChargeKind::Windows, 1)?;
        let mut ledger = self.inner().ledger();
        let id = ledger.open(self.handle(), needs, span, access, Holder::Host, None)?;
        drop(ledger);
        Ok(HostLock {
            region: self.inner().clone(),
            id,
            _charge: charge,
        })
    }

    /// Takes a guard that reads the bytes in `range`, in place, or refuses at once. The guard
    /// counts as a `read` window. Unlike the windows of guests, it is never set aside for a
    /// lend.
    ///
    /// Costs one mapping, whatever the size of the range, or none if an earlier guard's is kept.
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`] for a range outside of the region; [`RegionError::WouldBlock`],
    /// [`RegionError::Unpinned`], [`RegionError::Poisoned`], [`RegionError::Purged`],
    /// [`RegionError::NotPermitted`], [`RegionError::Gone`].
    pub fn try_read(&self, range: impl RangeBounds<u64>) -> Result<ReadGuard, RegionError> {
        self.try_read_bytes(&self.bytes(range))
    }

    fn try_read_bytes(&self, range: &Range<u64>) -> Result<ReadGuard, RegionError> {
        let Some((span, inside)) = self.part(range)? else {
            self.may_open(Rights::READ, Access::Read)?;
            return Ok(ReadGuard {
                view: None,
                inside: 0..0,
            });
        };
        let lock = self.lock(Rights::READ, span, Access::Read)?;
        let view = View::new(&self.inner().file()?, span)?;
        Ok(ReadGuard {
            view: Some((view, lock)),
            inside,
        })
    }

    /// Takes a guard that writes the bytes in `range`, in place, or refuses at once. The guard
    /// counts as a `write` window, and needs [`Rights::READ`] and [`Rights::WRITE`]. Dropping
    /// it in a panic poisons the region.
    ///
    /// Costs one mapping, whatever the size of the range, or none if an earlier guard's is kept.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Region::try_read), and [`RegionError::Frozen`].
    pub fn try_write(&self, range: impl RangeBounds<u64>) -> Result<WriteGuard, RegionError> {
        self.try_write_bytes(&self.bytes(range))
    }

    fn try_write_bytes(&self, range: &Range<u64>) -> Result<WriteGuard, RegionError> {
        let Some((span, inside)) = self.part(range)? else {
            self.may_open(Access::Write.needs(), Access::Write)?;
            return Ok(WriteGuard {
                view: None,
                inside: 0..0,
            });
        };
        let lock = self.lock(Access::Write.needs(), span, Access::Write)?;
        let view = ViewMut::new(&self.inner().file()?, span)?;
        Ok(WriteGuard {
            view: Some((view, lock)),
            inside,
        })
    }

    /// Takes a guard as [`try_read`](Region::try_read) does, but waits for its turn if that
    /// would block. The host program and guests wait in the same queue. Must be called on a
    /// tokio runtime with time.
    ///
    /// A claim waits for one thing at a time: a second wait through it takes the place of the
    /// first. So tasks that wait at the same time each need a
    /// [duplicate](Region::duplicate). Through one claim they would displace each other again
    /// and again, and keep a processor busy with that.
    ///
    /// A guard that conflicts and that this task holds itself is not told from others: the wait
    /// then never ends, as with tokio's `RwLock`.
    ///
    /// Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// As `try_read`, without [`RegionError::WouldBlock`].
    pub async fn read(&self, range: impl RangeBounds<u64>) -> Result<ReadGuard, RegionError> {
        let range = self.bytes(range);
        let mut got = self.try_read_bytes(&range);
        while let Err(RegionError::WouldBlock) = got {
            let _turn = self.turn(&range, Access::Read).await?;
            got = self.try_read_bytes(&range);
        }
        got
    }

    /// Takes a guard as [`try_write`](Region::try_write) does, but waits for its turn, as
    /// [`read`](Region::read) does.
    ///
    /// Dropping the future leaves the queue.
    ///
    /// # Errors
    ///
    /// As `try_write`, without [`RegionError::WouldBlock`].
    pub async fn write(&self, range: impl RangeBounds<u64>) -> Result<WriteGuard, RegionError> {
        let range = self.bytes(range);
        let mut got = self.try_write_bytes(&range);
        while let Err(RegionError::WouldBlock) = got {
            let _turn = self.turn(&range, Access::Write).await?;
            got = self.try_write_bytes(&range);
        }
        got
    }

    /// Waits until such a guard can be taken. It stays reserved while the result lives.
    async fn turn(&self, range: &Range<u64>, access: Access) -> Result<WindowWaiter, RegionError> {
        // Nothing conflicts with no bytes at all.
        let (span, _) = self.part(range)?.ok_or(RegionError::WouldBlock)?;
        let waiter = WindowWaiter::new(self, span, access)?;
        waiter.ready().await;
        Ok(waiter)
    }

    /// Copies bytes out. Counts as a `read` window while it lasts.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Region::try_read); [`RegionError::Limit`] over the limit `copy-bytes`.
    pub fn read_at(&self, range: impl RangeBounds<u64>) -> Result<Vec<u8>, RegionError> {
        let range = self.bytes(range);
        self.copy_out(range.start, range.end.saturating_sub(range.start))
    }

    /// Copies `length` bytes out, from `offset` on.
    pub(crate) fn copy_out(&self, offset: u64, length: u64) -> Result<Vec<u8>, RegionError> {
        let span = self.copied(offset, length)?;
        let Some(span) = span else {
            self.may_open(Rights::READ, Access::Read)?;
            return Ok(Vec::new());
        };
        let _lock = self.lock(Rights::READ, span, Access::Read)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        self.inner().file()?.read_at(offset, &mut bytes)?;
        self.inner().host().count_copied(length);
        Ok(bytes)
    }

    /// Copies bytes in, from `offset` on. Counts as a `write` window while it lasts.
    ///
    /// # Errors
    ///
    /// As [`try_write`](Region::try_write); [`RegionError::Limit`] over the limit `copy-bytes`.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), RegionError> {
        let Some(span) = self.copied(offset, bytes.len() as u64)? else {
            self.may_open(Rights::WRITE, Access::Write)?;
            return Ok(());
        };
        let _lock = self.lock(Rights::WRITE, span, Access::Write)?;
        self.inner().file()?.write_at(offset, bytes)?;
        self.inner().host().count_copied(bytes.len() as u64);
        Ok(())
    }

    fn copied(&self, offset: u64, length: u64) -> Result<Option<Span>, RegionError> {
        let most = self.owner().limits.copy_bytes;
        if length > most {
            return Err(RegionError::Limit(format!(
                "limit `copy-bytes`: {length} bytes asked for at a time, {most} allowed"
            )));
        }
        Ok(Span::of_bytes(offset, length, self.size())?)
    }
}

/// A place in a region's queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct WindowWaiter {
    region: Arc<RegionInner>,
    id: WaiterId,
}

impl WindowWaiter {
    /// Begins to wait for such a window. Refuses requests that waiting cannot help.
    pub(crate) fn new(
        region: &Region,
        span: Span,
        access: Access,
    ) -> Result<WindowWaiter, RegionError> {
        let inner = region.inner();
        let id = inner.ledger.wait(region.handle(), span, access)?;
        Ok(WindowWaiter {
            region: inner.clone(),
            id,
        })
    }

    /// Waits until it is this one's turn, or until there is nothing to wait for. Must be called
    /// on a tokio runtime with time.
    pub(crate) async fn ready(&self) {
        self.region.ledger.ready(self.id).await;
    }
}

impl Drop for WindowWaiter {
    fn drop(&mut self) {
        self.region.ledger().dequeue(self.id);
    }
}
