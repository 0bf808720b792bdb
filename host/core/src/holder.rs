use std::fmt;
use std::ops::{Bound, Deref, DerefMut, Range, RangeBounds};
use std::sync::Arc;

use tombolo_region::{
    Access, Charge, ChargeKind, Handle, Holder, LedgerError, Pinned, RegionName, Rights, Span,
    WindowEnd, WindowId,
};

use crate::error::{MemoryError, RegionError};
use crate::host::{Hold, Owner, RegionHost, Shared, Waiting};
use crate::sys::{StoreId, View, ViewMut};
use crate::window::unmap_all;

/// A handle to a region: a guest's, in its context's table, or the host
/// program's own.
///
/// The host program takes part in the lock like any guest. It reads and writes in place,
/// through guards from [`try_read`](Region::try_read) and [`try_write`](Region::try_write),
/// or from [`read`](Region::read) and [`write`](Region::write), which wait. Requests that
/// conflict with a guard are refused while it lives.
///
/// Parts of a region are ranges of bytes: `0..5`, `5..`, or `..` for all of it.
///
/// ```
/// # fn main() -> Result<(), tombolo::RegionError> {
/// let host = tombolo::RegionHost::new();
/// let region = host.create("greeting", 5)?;
/// region.try_write(..)?.copy_from_slice(b"hello");
/// region.freeze()?;
/// assert_eq!(&region.try_read(..)?[..], b"hello");
/// # Ok(())
/// # }
/// ```
pub struct Region {
    hold: Hold,
    /// Taken only by drop and by a move.
    handle: Option<Handle>,
    _charge: Charge,
}

impl Region {
    pub(crate) fn create(
        host: &RegionHost,
        owner: &Arc<Owner>,
        name: &str,
        size: u64,
        pinned: bool,
    ) -> Result<Region, RegionError> {
        host.check_process()?;
        let name = RegionName::new(name)?;
        let most = owner.limits.region_bytes;
        // The backing file's length is signed, and a whole number of granules.
        if size == 0 || size > most.min(i64::MAX as u64 - crate::GRANULE) {
            return Err(RegionError::Size { size, most });
        }
        let charge = owner.account.charge(ChargeKind::Handles, 1)?;
        let claim = owner.charge_claim(size, u64::from(!pinned))?;
        let (shared, handle) = Shared::create(host, name, size, pinned, claim)?;
        Ok(Region {
            hold: Hold::new(&shared, owner),
            handle: Some(handle),
            _charge: charge,
        })
    }

    fn with(&self, handle: Handle, charge: Charge) -> Region {
        Region {
            hold: Hold::new(self.shared(), self.owner()),
            handle: Some(handle),
            _charge: charge,
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.handle
            .as_ref()
            .expect("taken only when the region is given away")
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.hold.shared
    }

    #[doc(hidden)]
    pub fn owner(&self) -> &Arc<Owner> {
        &self.hold.owner
    }

    /// The region's identity: equal for all handles to one region, never used
    /// again by the same host, and below 2^52. Identities are in no order.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.hold.shared.id
    }

    /// The name that it was created with: a label, not an identity.
    #[must_use]
    pub fn name(&self) -> &str {
        self.hold.shared.name.as_str()
    }

    /// The size in bytes that it was created with.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.hold.shared.size
    }

    /// What this handle lets its holder do.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.handle().rights()
    }

    /// The inode of the memory behind it, as `/proc/self/maps` shows it.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.hold.shared.inode
    }

    /// Tells whether nobody can write it any more.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.hold.shared.ledger().is_frozen()
    }

    /// Tells whether it was frozen and then purged, so that its bytes are gone for
    /// good.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.hold.shared.ledger().is_purged()
    }

    /// Tells whether a writer died, and nobody cleared that yet.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.hold.shared.ledger().is_poisoned()
    }

    /// Makes a new claim on the region with the given rights. Needs
    /// [`Rights::SHARE`]. It pins what this one pins, and is told of what this one
    /// was not told yet. The budget never refuses it, since what this one pins is paid
    /// for.
    ///
    /// # Errors
    ///
    /// [`RegionError::NotPermitted`], also for a lent handle;
    /// [`RegionError::Purged`]; [`RegionError::Gone`]; [`RegionError::Exhausted`], for
    /// the holder's limits.
    pub fn duplicate(&self, rights: Rights) -> Result<Region, RegionError> {
        self.duplicate_for(rights, self.owner())
    }

    /// As [`duplicate`](Region::duplicate), on somebody else's account.
    #[doc(hidden)]
    pub fn duplicate_for(&self, rights: Rights, to: &Arc<Owner>) -> Result<Region, RegionError> {
        self.check_host(to.host)?;
        let mut ledger = self.shared().ledger();
        ledger.may_duplicate(self.handle(), rights)?;
        let charge = to.account.charge(ChargeKind::Handles, 1)?;
        let spans = ledger.unpinned_spans(self.handle().claim());
        let claim = to.charge_claim(self.size(), spans)?;
        let handle = ledger.duplicate(self.handle(), rights, claim)?;
        drop(ledger);
        Ok(Region {
            hold: Hold::new(self.shared(), to),
            handle: Some(handle),
            _charge: charge,
        })
    }

    /// Makes a weaker handle on the same claim, never with [`Rights::SHARE`].
    ///
    /// # Errors
    ///
    /// [`RegionError::NotPermitted`], [`RegionError::Purged`],
    /// [`RegionError::Gone`], [`RegionError::Exhausted`].
    pub fn restrict(&self, rights: Rights) -> Result<Region, RegionError> {
        let charge = self.hold.owner.account.charge(ChargeKind::Handles, 1)?;
        let handle = self.hold.shared.ledger().restrict(self.handle(), rights)?;
        Ok(self.with(handle, charge))
    }

    /// Makes the region immutable, for everybody and for good. Needs
    /// [`Rights::WRITE`].
    ///
    /// # Errors
    ///
    /// [`RegionError::WouldBlock`] while anybody can write through a window or a
    /// guard; [`RegionError::Unpinned`] unless the claim pins the whole region;
    /// [`RegionError::NotPermitted`], also for a lent handle;
    /// [`RegionError::Poisoned`]; [`RegionError::Purged`]; [`RegionError::Gone`].
    pub fn freeze(&self) -> Result<(), RegionError> {
        self.check_process()?;
        self.hold.shared.ledger().freeze(self.handle())?;
        tracing::debug!(region = %self.hold.shared.name, id = self.id(), "region frozen");
        Ok(())
    }

    /// Declares the contents whole again after a writer died. Needs
    /// [`Rights::WRITE`].
    ///
    /// # Errors
    ///
    /// [`RegionError::NotPermitted`], [`RegionError::Purged`],
    /// [`RegionError::Gone`].
    pub fn clear_poison(&self) -> Result<(), RegionError> {
        Ok(self.hold.shared.ledger().clear_poison(self.handle())?)
    }

    /// Pins bytes: the claim needs them, and they stay until it unpins them. Says
    /// whether any of what the claim had unpinned was purged, once: what is lost
    /// reads as zeros. Takes no right, and changes nothing for other claims.
    ///
    /// The range begins and ends at a granule, or ends with the region. It must not be
    /// empty. If the budget has no room, others' unpinned bytes are
    /// purged to make some, on this thread: about 0.2 s for each GiB of them. Where a
    /// part is being purged at this moment, waits for the end of that.
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`]; [`RegionError::Exhausted`] for the budget;
    /// [`RegionError::WouldBlock`] while the claim is lent;
    /// [`RegionError::NotPermitted`] for a lent handle; [`RegionError::Purged`];
    /// [`RegionError::Gone`].
    pub fn pin(&self, range: impl RangeBounds<u64>) -> Result<Pinned, RegionError> {
        let span = self.pinned_part(range)?;
        let shared = self.shared();
        let (pinned, undo, mut ledger) = shared.ledger_lock().pin(self.handle(), span)?;
        // The host program has no windows. If a guest's handle ever came here, its
        // windows would take the guest's store.
        if ledger
            .windows_on(self.handle().claim(), span)
            .next()
            .is_some()
        {
            ledger.undo_pin(undo);
            return Err(RegionError::WouldBlock);
        }
        Ok(pinned)
    }

    /// Unpins bytes: the claim does not need them now. Bytes that no claim pins
    /// may be purged when memory is needed elsewhere, the least recently unpinned
    /// first. Nobody else loses anything by it, so it takes no right.
    ///
    /// The range is as for [`pin`](Region::pin). Bytes that are already unpinned keep their
    /// place in the order.
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`]; [`RegionError::WouldBlock`] while the claim is lent,
    /// and while a guard that was taken through it is there;
    /// [`RegionError::NotPermitted`] for a lent handle; [`RegionError::Exhausted`]
    /// for the limit `unpinned-spans`; [`RegionError::Purged`];
    /// [`RegionError::Gone`].
    pub fn unpin(&self, range: impl RangeBounds<u64>) -> Result<(), RegionError> {
        let span = self.pinned_part(range)?;
        let mut ledger = self.shared().ledger();
        let undo = ledger.unpin(self.handle(), span)?;
        if ledger
            .windows_on(self.handle().claim(), span)
            .next()
            .is_some()
        {
            ledger.undo_unpin(undo);
            return Err(RegionError::WouldBlock);
        }
        Ok(())
    }

    /// Returns whether this handle's claim pins all of these bytes. The range is as for
    /// [`pin`](Region::pin).
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`], [`RegionError::Purged`], [`RegionError::Gone`].
    pub fn is_pinned(&self, range: impl RangeBounds<u64>) -> Result<bool, RegionError> {
        let span = self.pinned_part(range)?;
        Ok(self.shared().ledger().is_pinned(self.handle(), span)?)
    }

    /// Refuses a receiver that belongs to another host.
    pub(crate) fn check_host(&self, number: u64) -> Result<(), RegionError> {
        match self.shared().host().number() == number {
            true => Ok(()),
            false => Err(RegionError::OtherHost),
        }
    }

    /// Refuses operations that a forked child of the host's process must not do.
    pub(crate) fn check_process(&self) -> Result<(), RegionError> {
        Ok(self.shared().host().check_process()?)
    }

    /// Returns the granules of a range to be pinned or unpinned, which a guest has named by
    /// an offset and a length.
    pub(crate) fn pinnable(&self, offset: u64, length: u64) -> Result<Span, RegionError> {
        self.check_process()?;
        Ok(Span::of_pins(offset, length, self.size())?)
    }

    /// Returns the granules of a range to be pinned or unpinned.
    fn pinned_part(&self, range: impl RangeBounds<u64>) -> Result<Span, RegionError> {
        let range = self.bytes(range);
        self.check_process()?;
        // A length of 0 would mean all up to the end.
        if range.start < self.size() && range.end == self.size() {
            return Ok(Span::of_pins(range.start, 0, self.size())?);
        }
        let length = range.end.saturating_sub(range.start);
        Ok(Span::of_window(range.start, length, self.size())?)
    }

    /// Returns the bytes of a range, of which the end may be open.
    fn bytes(&self, range: impl RangeBounds<u64>) -> Range<u64> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.size(),
        };
        start..end
    }

    /// Whether this could be had of no bytes at all, which conflict with nobody.
    fn may(&self, needs: Rights, access: Access) -> Result<(), RegionError> {
        self.check_process()?;
        Ok(self
            .shared()
            .ledger()
            .may_open(self.handle(), needs, access)?)
    }

    fn lock(&self, needs: Rights, span: Span, access: Access) -> Result<HostLock, RegionError> {
        self.check_process()?;
        let charge = self.hold.owner.account.charge(ChargeKind::Windows, 1)?;
        let id = self.hold.shared.ledger().open(
            self.handle(),
            needs,
            span,
            access,
            Holder::Host,
            None,
        )?;
        Ok(HostLock {
            shared: self.hold.shared.clone(),
            id,
            _charge: charge,
        })
    }

    /// Takes a guard that reads the bytes in `range`, in place, or refuses at once. The guard
    /// counts as a `read` window, and no lend, move, or freeze sets it aside.
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`] for a range outside the region;
    /// [`RegionError::WouldBlock`], [`RegionError::Unpinned`],
    /// [`RegionError::Poisoned`], [`RegionError::Purged`],
    /// [`RegionError::NotPermitted`], [`RegionError::Gone`].
    pub fn try_read(&self, range: impl RangeBounds<u64>) -> Result<ReadGuard, RegionError> {
        self.try_read_bytes(&self.bytes(range))
    }

    fn try_read_bytes(&self, range: &Range<u64>) -> Result<ReadGuard, RegionError> {
        let Some((span, inside)) = self.part(range)? else {
            self.may(Rights::READ, Access::Read)?;
            return Ok(ReadGuard {
                view: None,
                inside: 0..0,
            });
        };
        let lock = self.lock(Rights::READ, span, Access::Read)?;
        let view = View::new(&self.hold.shared.file()?, span)?;
        Ok(ReadGuard {
            view: Some((view, lock)),
            inside,
        })
    }

    /// Takes a guard that writes the bytes in `range`, in place, or refuses at once. The guard
    /// counts as a `write` window. Dropping it in a panic poisons the region.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Region::try_read), and [`RegionError::Frozen`].
    pub fn try_write(&self, range: impl RangeBounds<u64>) -> Result<WriteGuard, RegionError> {
        self.try_write_bytes(&self.bytes(range))
    }

    fn try_write_bytes(&self, range: &Range<u64>) -> Result<WriteGuard, RegionError> {
        let Some((span, inside)) = self.part(range)? else {
            self.may(Access::Write.needs(), Access::Write)?;
            return Ok(WriteGuard {
                view: None,
                inside: 0..0,
            });
        };
        let lock = self.lock(Access::Write.needs(), span, Access::Write)?;
        let view = ViewMut::new(&self.hold.shared.file()?, span)?;
        Ok(WriteGuard {
            view: Some((view, lock)),
            inside,
        })
    }

    /// Takes a guard as [`try_read`](Region::try_read) does, but waits for its turn where that
    /// would block. Host programs and guests wait in the same queue. Must be called on a tokio
    /// runtime with time.
    ///
    /// A claim waits for one thing at a time: a second wait through it takes the place of the
    /// first. So tasks that wait at the same time each need a
    /// [duplicate](Region::duplicate). Through one claim they would displace each other again
    /// and again, and be busy with that.
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

    /// Waits until such a guard may be had, which stays reserved while this is
    /// kept.
    async fn turn(&self, range: &Range<u64>, access: Access) -> Result<Waiting, RegionError> {
        // Nothing conflicts with no bytes at all.
        let (span, _) = self.part(range)?.ok_or(RegionError::WouldBlock)?;
        let waiting = Waiting::new(self, span, access)?;
        waiting.ready().await;
        Ok(waiting)
    }

    /// The granules of a range of bytes, and where the bytes are in them.
    fn part(&self, range: &Range<u64>) -> Result<Option<(Span, Range<usize>)>, RegionError> {
        let length = range.end.saturating_sub(range.start);
        let Some(span) = Span::of_bytes(range.start, length, self.size())? else {
            return Ok(None);
        };
        let start = usize::try_from(range.start - span.offset()).expect("less than a granule");
        let length = usize::try_from(length).map_err(std::io::Error::other)?;
        Ok(Some((span, start..start + length)))
    }

    /// Copies bytes out. Counts as a `read` window while it lasts.
    ///
    /// # Errors
    ///
    /// As [`try_read`](Region::try_read); [`RegionError::Limit`] over the limit
    /// `copy-bytes`.
    pub fn read_at(&self, range: impl RangeBounds<u64>) -> Result<Vec<u8>, RegionError> {
        let range = self.bytes(range);
        self.copy_out(range.start, range.end.saturating_sub(range.start))
    }

    /// Copies bytes out, from `offset` on.
    pub(crate) fn copy_out(&self, offset: u64, length: u64) -> Result<Vec<u8>, RegionError> {
        let span = self.copied(offset, length)?;
        let Some(span) = span else {
            self.may(Rights::READ, Access::Read)?;
            return Ok(Vec::new());
        };
        let _lock = self.lock(Rights::READ, span, Access::Read)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        self.hold.shared.file()?.read_at(offset, &mut bytes)?;
        self.hold.shared.host().count_copied(length);
        Ok(bytes)
    }

    /// Copies bytes in, from `offset` on. Counts as a `write` window while it
    /// lasts.
    ///
    /// # Errors
    ///
    /// As [`try_write`](Region::try_write); [`RegionError::Limit`] over the limit
    /// `copy-bytes`.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), RegionError> {
        let Some(span) = self.copied(offset, bytes.len() as u64)? else {
            self.may(Rights::WRITE, Access::Write)?;
            return Ok(());
        };
        let _lock = self.lock(Rights::WRITE, span, Access::Write)?;
        self.hold.shared.file()?.write_at(offset, bytes)?;
        self.hold.shared.host().count_copied(bytes.len() as u64);
        Ok(())
    }

    fn copied(&self, offset: u64, length: u64) -> Result<Option<Span>, RegionError> {
        let most = self.hold.owner.limits.copy_bytes;
        if length > most {
            return Err(RegionError::Limit(format!(
                "limit `copy-bytes`: {length} bytes asked for at a time, {most} allowed"
            )));
        }
        Ok(Span::of_bytes(offset, length, self.size())?)
    }

    /// What the claim costs another holder, to whom it goes.
    /// Returns how many unpinned spans the claim is charged for.
    #[doc(hidden)]
    pub fn unpinned_spans(&self) -> u64 {
        let claim = self.handle().claim();
        self.shared().ledger().unpinned_spans(claim)
    }

    /// Notes whether the region is in a channel's queue.
    #[doc(hidden)]
    pub fn set_queued(&self, queued: bool) {
        self.shared().ledger().set_queued(self.handle(), queued);
    }

    /// Returns the ledger's objection to moving the claim to another guest, if it has one.
    #[doc(hidden)]
    pub fn may_move(&self) -> Result<(), LedgerError> {
        self.shared().ledger().may_move(self.handle())
    }

    /// Ends all windows of the claim in the memory of the store in hand.
    #[doc(hidden)]
    pub fn unmap_to_move(&self, store: StoreId) -> Result<(), MemoryError> {
        let claim = self.handle().claim();
        unmap_all(store, self.shared(), claim, None, WindowEnd::Orderly)
    }

    #[doc(hidden)]
    pub fn charge_claim(&self, to: &Owner) -> Result<Vec<Charge>, RegionError> {
        self.check_host(to.host)?;
        let spans = self.shared().ledger().unpinned_spans(self.handle().claim());
        to.charge_claim(self.size(), spans)
    }

    /// A handle for somebody who borrows the region for a call.
    pub(crate) fn lend(&self, rights: Rights, to: &Arc<Owner>) -> Result<Region, RegionError> {
        self.check_host(to.host)?;
        self.check_process()?;
        let charge = to.account.charge(ChargeKind::Handles, 1)?;
        let handle = self.hold.shared.ledger().lend(self.handle(), rights)?;
        Ok(Region {
            hold: Hold::new(self.shared(), to),
            handle: Some(handle),
            _charge: charge,
        })
    }

    /// Puts the claim on another holder's account. [`Ledger::may_move`] has
    /// permitted it.
    ///
    /// [`Ledger::may_move`]: tombolo_region::Ledger::may_move
    #[doc(hidden)]
    pub fn transferred(
        mut self,
        to: &Arc<Owner>,
        handle_charge: Charge,
        claim: Vec<Charge>,
    ) -> Region {
        self.hold.note_moved();
        let mut ledger = self.hold.shared.ledger();
        ledger.recharge(self.handle().claim(), claim);
        drop(ledger);
        Region {
            hold: Hold::new(self.shared(), to),
            handle: self.handle.take(),
            _charge: handle_charge,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let mut ledger = self.hold.shared.ledger();
            if ledger.ends_with_handle(&handle) {
                self.hold.note_released(&ledger);
            }
            ledger.release(handle);
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("size", &self.size())
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

/// A window of the host program in the ledger, for a guard or a copy.
struct HostLock {
    shared: Arc<Shared>,
    id: WindowId,
    _charge: Charge,
}

impl Drop for HostLock {
    fn drop(&mut self) {
        // As a lock of the standard library does: whoever panics with the right
        // to write may have left things half done.
        let end = if std::thread::panicking() {
            WindowEnd::Died
        } else {
            WindowEnd::Orderly
        };
        self.shared.ledger.close(self.id, end);
        self.shared.settle(None);
    }
}

/// Reads a part of a region in place. Made by [`Region::try_read`] and [`Region::read`].
pub struct ReadGuard {
    /// The view is unmapped before the lock is let go: fields drop in order.
    view: Option<(View, HostLock)>,
    inside: Range<usize>,
}

impl Deref for ReadGuard {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.view
            .as_ref()
            .map_or(&[], |(view, _)| &view.bytes()[self.inside.clone()])
    }
}

/// A guard owns what it needs, so it can stand for bytes that go elsewhere, as
/// `bytes::Bytes::from_owner` takes them.
impl AsRef<[u8]> for ReadGuard {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for ReadGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadGuard")
            .field("length", &self.len())
            .finish_non_exhaustive()
    }
}

/// Writes a part of a region in place. Made by [`Region::try_write`] and [`Region::write`].
pub struct WriteGuard {
    view: Option<(ViewMut, HostLock)>,
    inside: Range<usize>,
}

impl Deref for WriteGuard {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.view
            .as_ref()
            .map_or(&[], |(view, _)| &view.bytes()[self.inside.clone()])
    }
}

impl DerefMut for WriteGuard {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.view {
            Some((view, _)) => &mut view.bytes_mut()[self.inside.clone()],
            None => &mut [],
        }
    }
}

impl fmt::Debug for WriteGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteGuard")
            .field("length", &self.len())
            .finish_non_exhaustive()
    }
}
