//! Handles to regions, and what a holder does through them.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use tombolo_region::{
    Charge, ChargeKind, GRANULE, Handle, LedgerError, Pinned, RegionName, Rights, Span,
};

use super::region::PoolSlot;
use super::{LendWithin, Owner, RegionHost, RegionInner, RegionRef, RegionUsage};
use crate::error::RegionError;
use crate::identity::{HostId, RegionId};

/// A handle to a region: in a guest's table, or the host program's own.
///
/// The host program takes part in the lock like any guest. It reads and writes in place,
/// through guards from [`try_read`](Region::try_read) and [`try_write`](Region::try_write),
/// or from [`read`](Region::read) and [`write`](Region::write), which wait. Requests that
/// conflict with a guard are refused while it lives.
///
/// Parts of a region are ranges of bytes: `0..5`, `5..`, or `..` for all of it.
///
/// Dropping the handle ends its claim, unless a restricted handle or a guard of it lives. The
/// memory of a region goes back to the kernel when nobody has a claim any more, or is kept for a
/// later region; see [`HostLimits::spare`](crate::HostLimits::spare).
///
/// Methods do not block, unless they say so. Each takes the lock of the region's ledger, which
/// others hold for less than a millisecond.
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
    region: RegionRef,
    /// `None` only while the handle is dropped or moved.
    handle: Option<Handle>,
    /// The lend that ends with this handle, if its guest lent it within itself.
    pub(super) within: Option<Box<LendWithin>>,
    _charge: Charge,
}

impl RegionHost {
    /// Creates a region that belongs to the host program, all zero, with all rights, and
    /// pinned whole.
    ///
    /// Costs a file descriptor. The kernel allocates memory only for pages that are touched. If
    /// the memory of an ended region of that length is kept, it is zeroed and used again: about
    /// 15 ns for each page that was touched.
    /// If the budget has no room, unpinned bytes are purged to make some, on this thread: about
    /// 0.2 s for each GiB of them.
    ///
    /// # Errors
    ///
    /// [`RegionError::Name`]; [`RegionError::Size`]; [`RegionError::Exhausted`], also if the
    /// budget has no room and too little can be purged; [`RegionError::System`] if the kernel
    /// has no descriptor or memory left.
    pub fn create(&self, name: &str, size: u64) -> Result<Region, RegionError> {
        Region::create(self, self.own(), name, size, true)
    }

    /// Creates a region that belongs to the host program, all zero, with all rights, and
    /// unpinned. It costs no budget until it is [pinned](Region::pin), in part or whole.
    ///
    /// # Errors
    ///
    /// As [`create`](RegionHost::create), except for the budget.
    pub fn create_unpinned(&self, name: &str, size: u64) -> Result<Region, RegionError> {
        Region::create(self, self.own(), name, size, false)
    }

    /// Creates a region, pinned whole, if the memory of an ended one is kept for it and nothing
    /// needs to be purged.
    pub(super) fn create_from_spare(
        &self,
        name: &str,
        size: u64,
    ) -> Result<Option<Region>, RegionError> {
        let usage = self.budget();
        let fits = usage.committed.saturating_add(size) <= usage.budget;
        if self.check_process().is_err() || !fits || !self.recycler().has(size) {
            return Ok(None);
        }
        match self.create(name, size) {
            Err(RegionError::Exhausted(_)) => Ok(None),
            created => created.map(Some),
        }
    }
}

impl Region {
    pub(crate) fn create(
        host: &RegionHost,
        owner: &Arc<Owner>,
        name: &str,
        size: u64,
        pinned: bool,
    ) -> Result<Region, RegionError> {
        Region::create_in(host, owner, name, size, pinned, None)
    }

    /// Creates a region of the host program with memory of a pool.
    pub(super) fn create_pooled(
        host: &RegionHost,
        name: &str,
        size: u64,
        slot: PoolSlot,
    ) -> Result<Region, RegionError> {
        Region::create_in(host, host.own(), name, size, true, Some(slot))
    }

    fn create_in(
        host: &RegionHost,
        owner: &Arc<Owner>,
        name: &str,
        size: u64,
        pinned: bool,
        slot: Option<PoolSlot>,
    ) -> Result<Region, RegionError> {
        host.check_process()?;
        let name = RegionName::new(name)?;
        let most = owner.limits.region_bytes;
        // The backing file's length is signed, and a whole number of granules.
        if size == 0 || size > most.min(i64::MAX as u64 - GRANULE) {
            return Err(RegionError::Size { size, most });
        }
        let charge = owner.account.charge(ChargeKind::Handles, 1)?;
        let claim = owner.charge_claim(size, u64::from(!pinned))?;
        let (inner, handle) = RegionInner::create(host, name, size, pinned, slot, claim)?;
        Ok(Region::new(&inner, owner, handle, charge))
    }

    pub(super) fn new(
        inner: &Arc<RegionInner>,
        owner: &Arc<Owner>,
        handle: Handle,
        charge: Charge,
    ) -> Region {
        Region {
            region: RegionRef::new(inner, owner),
            handle: Some(handle),
            within: None,
            _charge: charge,
        }
    }

    #[inline]
    pub(crate) fn handle(&self) -> &Handle {
        self.handle
            .as_ref()
            .expect("taken only when the handle is dropped or moved")
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Arc<RegionInner> {
        &self.region.inner
    }

    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.region.owner
    }

    /// Returns the region's identity, which is equal for all handles to it.
    #[must_use]
    pub fn id(&self) -> RegionId {
        self.region.inner.id
    }

    /// Returns the name that the region was created with: a label, not an identity.
    #[must_use]
    pub fn name(&self) -> &str {
        self.region.inner.name.as_str()
    }

    /// Returns the size in bytes that the region was created with.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.region.inner.size
    }

    /// Returns the rights of this handle.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.handle().rights()
    }

    /// Returns the inode of the memory file behind the region, as `/proc/self/maps` shows it, or 0
    /// once nobody has a claim on the region. The first time takes one system call. A later region
    /// may have the same file.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.region.inner.file().map_or(0, |file| file.inode())
    }

    /// Returns the current cost of the region. Takes one system call.
    #[must_use]
    pub fn usage(&self) -> RegionUsage {
        RegionUsage::of(self.inner())
    }

    /// Returns whether the region is immutable.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.inner().ledger().is_frozen()
    }

    /// Returns whether the region was frozen and then purged, so that its bytes are lost for
    /// good.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        self.inner().ledger().is_purged()
    }

    /// Returns whether a writer died and nobody has cleared the poison since.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner().ledger().is_poisoned()
    }

    /// Makes a new claim on the region with the given rights. Needs [`Rights::SHARE`]. The new
    /// claim pins the same bytes, and still learns of losses that this one has not learned of.
    /// The budget never refuses it, because the bytes that this claim pins are paid for.
    ///
    /// # Errors
    ///
    /// [`RegionError::NotPermitted`], also for a lent handle; [`RegionError::Purged`];
    /// [`RegionError::Gone`]; [`RegionError::Exhausted`], for the holder's limits.
    pub fn duplicate(&self, rights: Rights) -> Result<Region, RegionError> {
        self.duplicate_for(rights, self.owner())
    }

    /// Duplicates the handle on another holder's account.
    pub(crate) fn duplicate_for(
        &self,
        rights: Rights,
        to: &Arc<Owner>,
    ) -> Result<Region, RegionError> {
        self.check_host(to.host)?;
        let mut ledger = self.inner().ledger();
        ledger.may_duplicate(self.handle(), rights)?;
        let charge = to.account.charge(ChargeKind::Handles, 1)?;
        let spans = ledger.unpinned_spans(self.handle().claim());
        let claim = to.charge_claim(self.size(), spans)?;
        let handle = ledger.duplicate(self.handle(), rights, claim)?;
        drop(ledger);
        Ok(Region::new(self.inner(), to, handle, charge))
    }

    /// Makes a weaker handle on the same claim, never with [`Rights::SHARE`].
    ///
    /// # Errors
    ///
    /// [`RegionError::NotPermitted`], [`RegionError::Purged`], [`RegionError::Gone`],
    /// [`RegionError::Exhausted`].
    pub fn restrict(&self, rights: Rights) -> Result<Region, RegionError> {
        let charge = self.owner().account.charge(ChargeKind::Handles, 1)?;
        let handle = self.inner().ledger().restrict(self.handle(), rights)?;
        Ok(Region::new(self.inner(), self.owner(), handle, charge))
    }

    /// Makes the region immutable, for everybody and for good. Needs [`Rights::WRITE`].
    ///
    /// # Errors
    ///
    /// [`RegionError::WouldBlock`] while anybody can write through a window or a guard;
    /// [`RegionError::Unpinned`] unless the claim pins the whole region;
    /// [`RegionError::NotPermitted`], also for a lent handle; [`RegionError::Poisoned`];
    /// [`RegionError::Purged`]; [`RegionError::Gone`].
    pub fn freeze(&self) -> Result<(), RegionError> {
        self.check_process()?;
        self.inner().ledger().freeze(self.handle())?;
        if let Ok(file) = self.inner().file() {
            file.forget_writable_mappings();
        }
        tracing::debug!(region = %self.inner().name, id = %self.id(), "region frozen");
        Ok(())
    }

    /// Declares the contents valid again after a writer died. Needs [`Rights::WRITE`].
    ///
    /// # Errors
    ///
    /// [`RegionError::NotPermitted`], [`RegionError::Purged`], [`RegionError::Gone`].
    pub fn clear_poison(&self) -> Result<(), RegionError> {
        Ok(self.inner().ledger().clear_poison(self.handle())?)
    }

    /// Pins bytes: they stay until the claim unpins them. Returns, once, whether any bytes that
    /// the claim had unpinned were purged. Purged bytes read as zeros. Pinning takes no right,
    /// and changes nothing for other claims.
    ///
    /// The range begins and ends at a granule, or ends with the region. It must not be empty.
    ///
    /// Blocks if the budget has no room and unpinned bytes of others are purged to make some:
    /// about 0.2 s for each GiB of them. Also blocks while a part of the range is being purged.
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`]; [`RegionError::Exhausted`] for the budget;
    /// [`RegionError::WouldBlock`] while the claim is lent; [`RegionError::NotPermitted`] for a
    /// lent handle; [`RegionError::Purged`]; [`RegionError::Gone`].
    pub fn pin(&self, range: impl RangeBounds<u64>) -> Result<Pinned, RegionError> {
        let span = self.granules(range)?;
        let (pinned, undo, mut ledger) = self.inner().ledger_lock().pin(self.handle(), span)?;
        // The host program has no windows. A guest's handle could have some, and unmasking
        // them takes the guest's store.
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

    /// Unpins bytes: the claim does not need them now. Bytes that no claim pins may be purged
    /// when memory is needed elsewhere, the least recently unpinned first. Nobody else can lose
    /// bytes by this, so it takes no right.
    ///
    /// The range is as for [`pin`](Region::pin). Bytes that are already unpinned keep their
    /// place in the order.
    ///
    /// # Errors
    ///
    /// [`RegionError::Span`]; [`RegionError::WouldBlock`] while the claim is lent, and while a
    /// guard that was taken through it lives; [`RegionError::NotPermitted`] for a lent handle;
    /// [`RegionError::Exhausted`] for the limit `unpinned-spans`; [`RegionError::Purged`];
    /// [`RegionError::Gone`].
    pub fn unpin(&self, range: impl RangeBounds<u64>) -> Result<(), RegionError> {
        let span = self.granules(range)?;
        let mut ledger = self.inner().ledger();
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
        let span = self.granules(range)?;
        Ok(self.inner().ledger().is_pinned(self.handle(), span)?)
    }

    /// Refuses a receiver that belongs to another host.
    #[inline]
    pub(crate) fn check_host(&self, id: HostId) -> Result<(), RegionError> {
        match self.inner().host().id() == id {
            true => Ok(()),
            false => Err(RegionError::OtherHost),
        }
    }

    /// Refuses operations that a forked child of the host's process must not do.
    #[inline]
    pub(crate) fn check_process(&self) -> Result<(), RegionError> {
        Ok(self.inner().host().check_process()?)
    }

    /// Returns the bytes of a range, of which either end may be open.
    pub(super) fn bytes(&self, range: impl RangeBounds<u64>) -> Range<u64> {
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

    /// Returns the granules of a range to be pinned or unpinned.
    fn granules(&self, range: impl RangeBounds<u64>) -> Result<Span, RegionError> {
        let range = self.bytes(range);
        self.check_process()?;
        if range.start < self.size() && range.end == self.size() {
            // A length of 0 means all bytes up to the end.
            return Ok(Span::of_pins(range.start, 0, self.size())?);
        }
        let length = range.end.saturating_sub(range.start);
        Ok(Span::of_window(range.start, length, self.size())?)
    }

    /// Returns the granules that a guest wants to pin or unpin: `length` bytes from `offset`
    /// on, or all up to the end for a length of 0.
    pub(crate) fn guest_granules(&self, offset: u64, length: u64) -> Result<Span, RegionError> {
        self.check_process()?;
        Ok(Span::of_pins(offset, length, self.size())?)
    }

    /// Returns how many unpinned spans the claim is charged for.
    pub(crate) fn unpinned_spans(&self) -> u64 {
        let claim = self.handle().claim();
        self.inner().ledger().unpinned_spans(claim)
    }

    /// Notes whether the region is in a channel's queue.
    pub(crate) fn set_queued(&self, queued: bool) {
        self.inner().ledger().set_queued(self.handle(), queued);
    }

    /// Returns the ledger's objection to moving the claim to another holder, if it has one.
    pub(crate) fn may_move(&self) -> Result<(), LedgerError> {
        self.inner().ledger().may_move(self.handle())
    }

    /// Charges the claim to another holder, for a move.
    pub(crate) fn charge_claim(&self, to: &Owner) -> Result<Vec<Charge>, RegionError> {
        self.check_host(to.host)?;
        to.charge_claim(self.size(), self.unpinned_spans())
    }

    /// Lends the region: makes a handle on another holder's account, for the length of a call.
    #[inline]
    pub(crate) fn lend_to(&self, rights: Rights, to: &Arc<Owner>) -> Result<Region, RegionError> {
        self.check_host(to.host)?;
        self.check_process()?;
        let charge = to.account.charge(ChargeKind::Handles, 1)?;
        let handle = self.inner().ledger().lend(self.handle(), rights)?;
        Ok(Region::new(self.inner(), to, handle, charge))
    }

    /// Poisons the region, if the handle can write. For a writer that failed after its guard.
    pub(crate) fn poison(&self) {
        // Refused only if there is nothing to poison.
        if self.inner().ledger().poison(self.handle()).is_ok() {
            tracing::warn!(
                region = %self.inner().name,
                id = %self.id(),
                "region poisoned: a function of the host program failed while it wrote"
            );
        }
    }

    /// Drops a lent handle whose lend was revoked, while the region has claims. There is nothing
    /// to release, and nothing to free.
    #[inline]
    pub(crate) fn drop_revoked(mut self) {
        self.handle = None;
        self.region.settled = true;
    }

    /// Moves the claim to another holder's account. [`may_move`](Region::may_move) has permitted
    /// it, and the windows of the claim are unmapped.
    pub(crate) fn transferred(
        mut self,
        to: &Arc<Owner>,
        handle_charge: Charge,
        claim: Vec<Charge>,
    ) -> Region {
        self.region.note_moved();
        let mut ledger = self.inner().ledger();
        ledger.recharge(self.handle().claim(), claim);
        drop(ledger);
        Region {
            region: RegionRef::new(self.inner(), to),
            handle: self.handle.take(),
            within: None,
            _charge: handle_charge,
        }
    }
}

impl Drop for Region {
    #[inline]
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let mut ledger = self.region.inner.ledger();
            if ledger.ends_with_handle(&handle) {
                self.region.note_released(&ledger);
            }
            if self.within.is_some()
                && let Some(lend) = handle.lend()
            {
                // Its windows stay, because unmapping them takes the store in hand.
                ledger.revoke(lend);
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
