//! Windows: makes in a guest's memory what the ledger has decided.
//!
//! # The order of lock and mapping
//!
//! Opening takes the lock first, and then maps. Closing unmaps first, and then releases the
//! lock. More access is first locked and then mapped; less access is first mapped and then
//! locked. So at no moment does memory show bytes that the lock does not cover. System calls
//! are made without holding the ledger. If mapping fails, the lock is released and the memory
//! is zero pages.
//!
//! The ledger, one for each region behind a mutex, knows each window by its claim, the lend
//! through which it was made, its granules and its access. The memory's record, one for each
//! linear memory, knows the same window by its addresses. Each leads to the other. The ledger
//! notes the window's location. The record notes its observer, which closes the window in the
//! ledger when the whole memory goes.
//!
//! # Pins under windows
//!
//! Unpinning masks first, and then tells the ledger. Pinning tells the ledger first, and then
//! unmasks. So visible bytes are never purged. Neither holds the ledger while it remaps, which
//! takes a system call for each window. Nothing else changes the claim or its windows
//! meanwhile: that takes the same store, which is in hand, and a claim that is lent keeps its
//! pins. If the ledger or the kernel refuses, masked bytes are unmasked again, or the other way
//! around.
//!
//! A masked part is a mapping by itself. Its ends are counted as VMA splits before the kernel
//! is asked. They are refunded when the part is unmasked, because adjacent mappings of one
//! file become one. The fault handler leaves masked parts alone: they are the guest's own, and
//! can be written to.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tombolo_region::{
    Access, Charge, ChargeKind, ClaimId, GRANULE, Holder, Ledger, LendId, Pinned, Span, WindowEnd,
    WindowId,
};

use crate::ctx::{RegionCtx, WindowNote};
use crate::error::{MemoryError, RegionError};
use crate::host::{MaskedWindows, Owner, Region, RegionInner, RegionRef, WindowLocation};
use crate::sys::{MapError, MemoryRecord, Perms, StoreId, WindowObserver};

impl From<Access> for Perms {
    fn from(access: Access) -> Perms {
        match access.writes() {
            false => Perms::Read,
            true => Perms::Write,
        }
    }
}

/// A guest's window: the object in its table. Dropping it unmaps nothing, because that takes
/// the store in hand.
pub(crate) struct Window {
    region: RegionRef,
    id: WindowId,
    location: WindowLocation,
    _charge: Arc<Charge>,
}

/// A memory's record of the owner of a window, to end the window with the memory.
struct WindowOwner {
    region: RegionRef,
    id: WindowId,
    orderly: Arc<AtomicBool>,
    /// Shared with the [`Window`], because either may live longer, and the guest's table has
    /// room only for as many as the account allows.
    _charge: Arc<Charge>,
}

impl WindowObserver for WindowOwner {
    fn region(&self) -> String {
        self.region.inner.name.to_string()
    }

    fn memory_gone(self: Box<Self>) {
        let end = if self.orderly.load(Ordering::Acquire) {
            WindowEnd::Orderly
        } else {
            WindowEnd::Died
        };
        if self.region.inner.ledger.close(self.id, end) {
            tracing::warn!(
                region = %self.region.inner.name,
                id = %self.region.inner.id,
                guest = &*self.region.owner.name,
                "region poisoned: a writer died while it had a window"
            );
        }
    }
}

/// Returns the address of a window in the guest's memory.
fn address(memory: &MemoryRecord, start: usize) -> u64 {
    (start - memory.base()) as u64
}

impl Window {
    /// Maps part of a region at the address of `at`, in the memory of the store in hand.
    pub(crate) fn map(
        store: StoreId,
        ctx: &mut RegionCtx,
        region: &Region,
        offset: u64,
        length: u64,
        access: Access,
        at: At,
    ) -> Result<Window, MemoryError> {
        if at.length != 1 {
            return Err(RegionError::At { length: at.length }.into());
        }
        region.check_process()?;
        let inner = region.inner();
        let span = Span::of_window(offset, length, inner.size).map_err(RegionError::from)?;
        let Some(memory) = at.memory else {
            return Err(RegionError::Unsupported.into());
        };
        let first = (at.address - memory.base()) as u64;
        Span::check_memory(first, length, memory.size() as u64).map_err(RegionError::from)?;
        ctx.mark = Some(memory.adopt(store, &ctx.owner.name, ctx.entered_by_us)?);
        let owner = region.owner();
        let charge = owner
            .account
            .charge(ChargeKind::Windows, 1)
            .map_err(RegionError::from)?;
        let charge = Arc::new(charge);
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        let start = at.address;
        let location = WindowLocation {
            memory: memory.clone(),
            start,
            key,
        };
        // Nobody unpins these bytes until the window is mapped: all handles of the claim are in
        // this context, and its store is in hand.
        let id = inner.ledger().open(
            region.handle(),
            access.needs(),
            span,
            access,
            Holder::Guest,
            Some(location.clone()),
        )?;
        let window_owner = Box::new(WindowOwner {
            region: RegionRef::new(inner, owner),
            id,
            orderly: ctx.orderly.clone(),
            _charge: charge.clone(),
        });
        let end = start + usize::try_from(length).expect("inside the memory");
        let mapped = inner.file().map_err(MemoryError::from).and_then(|file| {
            Ok(memory.map_window(
                store,
                key,
                start..end,
                &file,
                offset,
                access.into(),
                splits_left(ctx, owner, &memory),
                window_owner,
            )?)
        });
        if let Err(error) = mapped {
            // The memory shows nothing of the region, even if it is out of use.
            inner.ledger.close(id, WindowEnd::Orderly);
            return Err(error);
        }
        inner.count_window(ctx.name());
        ctx.note_window(WindowNote {
            address: first,
            region: inner.name.to_string(),
            region_id: inner.id,
            offset,
            length,
            access,
            count: 1,
        });
        tracing::debug!(
            guest = ctx.name(),
            region = %inner.name,
            id = %inner.id,
            offset,
            length,
            %access,
            address = format_args!("{first:#x}"),
            "window mapped"
        );
        Ok(Window {
            region: RegionRef::new(inner, owner),
            id,
            location,
            _charge: charge,
        })
    }

    /// Changes the access of the window.
    pub(crate) fn set_access(&self, store: StoreId, access: Access) -> Result<(), MemoryError> {
        let WindowLocation { memory, start, key } = &self.location;
        let inner = &self.region.inner;
        let before = inner.ledger().window(self.id);
        let (_, before) = before.ok_or(RegionError::Gone)?;
        let set_perms = |access: Access| memory.set_perms(store, *start, *key, access.into());
        // Changing many pages takes time, during which others use the ledger. At each moment
        // the lock covers all access that the pages allow.
        if access.writes() {
            inner.ledger().set_access(self.id, access)?;
            return set_perms(access).map_err(|error| {
                // The lock stays as it is now if some of the pages have changed, or if others
                // have opened windows that are compatible only with the new access.
                if set_perms(before).is_ok() {
                    let _ = inner.ledger().set_access(self.id, before);
                }
                error.into()
            });
        }
        inner.ledger().may_set_access(self.id, access)?;
        set_perms(access)?;
        let changed = inner.ledger().set_access(self.id, access);
        if let Err(refused) = changed {
            set_perms(before)?;
            return Err(refused.into());
        }
        Ok(())
    }

    /// Unmaps the window, if it still exists.
    pub(crate) fn unmap(self, store: StoreId) -> Result<(), MemoryError> {
        let ledger = self.region.inner.ledger();
        if ledger.ends_with_window(self.id) {
            self.region.note_released(&ledger);
        }
        drop(ledger);
        unmap(
            store,
            &self.region.inner,
            self.id,
            &self.location,
            WindowEnd::Orderly,
        )
    }
}

/// Returns how many VMA splits windows may still make in a memory of a guest, which has other
/// memories besides. Those of other guests of the store do not count.
fn splits_left(ctx: &RegionCtx, owner: &Owner, memory: &Arc<MemoryRecord>) -> u64 {
    let mark = ctx.mark.as_ref();
    let elsewhere = mark.map_or(0, |mark| mark.splits_elsewhere(memory));
    u64::from(owner.limits.vmas).saturating_sub(elsewhere)
}

/// The part of a window of a claim, in the memory of the store in hand, that shows a span.
struct Overlap {
    location: WindowLocation,
    window: Span,
}

impl Overlap {
    /// Returns the windows of a claim on a span. They are all in the memories of one guest,
    /// because the pins of a claim that is lent do not change.
    fn of(ledger: &Ledger<Option<WindowLocation>>, claim: ClaimId, span: Span) -> Vec<Overlap> {
        ledger
            .windows_on(claim, span)
            .filter_map(|(_, window, location)| {
                let location = location.clone()?;
                Some(Overlap { location, window })
            })
            .collect()
    }

    /// Returns the addresses at which the window shows the span.
    fn part(&self, span: Span) -> Range<usize> {
        let (window, span) = (self.window.granules(), span.granules());
        let first = span.start.max(window.start) - window.start;
        let end = span.end.min(window.end).saturating_sub(window.start);
        let address = |granules: u64| {
            let bytes = usize::try_from(granules * GRANULE).expect("inside the memory");
            self.location.start + bytes
        };
        address(first)..address(end.max(first))
    }

    fn mask(&self, store: StoreId, span: Span, most: u64) -> Result<(), MapError> {
        let WindowLocation { memory, start, key } = &self.location;
        memory.mask_part(store, *start, *key, self.part(span), most)
    }

    fn unmask(&self, store: StoreId, span: Span, most: u64) -> Result<(), MapError> {
        let WindowLocation { memory, start, key } = &self.location;
        memory.unmask_part(store, *start, *key, self.part(span), most)
    }
}

/// Masks a span in the claim's windows, and then unpins it.
pub(crate) fn unpin(
    store: StoreId,
    ctx: &RegionCtx,
    region: &Region,
    span: Span,
) -> Result<(), MemoryError> {
    let mut ledger = region.inner().ledger();
    // Tried first, so that nothing is masked for a request that is refused.
    let undo = ledger.unpin(region.handle(), span)?;
    let spans: Vec<Span> = undo.spans().collect();
    let windows = Overlap::of(&ledger, region.handle().claim(), span);
    if windows.is_empty() {
        return Ok(());
    }
    ledger.undo_unpin(undo);
    drop(ledger);
    let remap = |windows: &[Overlap]| {
        // As many VMA splits as before.
        let mut all = windows.iter();
        all.try_for_each(|window| {
            let mut spans = spans.iter();
            spans.try_for_each(|span| window.unmask(store, *span, u64::MAX))
        })
        .map_err(|_| MemoryError::Fatal(MapError::Broken))
    };
    for (number, window) in windows.iter().enumerate() {
        let most = splits_left(ctx, region.owner(), &window.location.memory);
        if let Err(error) = window.mask(store, span, most) {
            remap(&windows[..number])?;
            return Err(error.into());
        }
    }
    let unpinned = region.inner().ledger().unpin(region.handle(), span);
    if let Err(refused) = unpinned {
        remap(&windows)?;
        return Err(refused.into());
    }
    Ok(())
}

/// Pins a span, and then unmasks it in the claim's windows.
pub(crate) fn pin(
    store: StoreId,
    ctx: &RegionCtx,
    region: &Region,
    span: Span,
) -> Result<Pinned, MemoryError> {
    let lock = region.inner().ledger_lock();
    let (pinned, undo, ledger) = lock.pin(region.handle(), span)?;
    let windows = Overlap::of(&ledger, region.handle().claim(), span);
    drop(ledger);
    for (number, window) in windows.iter().enumerate() {
        let most = splits_left(ctx, region.owner(), &window.location.memory);
        if let Err(error) = window.unmask(store, span, most) {
            for window in &windows[..=number] {
                undo.spans()
                    .try_for_each(|span| window.mask(store, span, u64::MAX))
                    .map_err(|_| MemoryError::Fatal(MapError::Broken))?;
            }
            region.inner().ledger().undo_pin(undo);
            return Err(error.into());
        }
    }
    Ok(pinned)
}

/// Ends a window in the memory of the store in hand, and then its lock.
fn unmap(
    store: StoreId,
    inner: &RegionInner,
    id: WindowId,
    location: &WindowLocation,
    end: WindowEnd,
) -> Result<(), MemoryError> {
    let observer = location
        .memory
        .unmap_window(store, location.start, location.key)?;
    if observer.is_none() {
        return Ok(());
    }
    inner.ledger.close(id, end);
    tracing::debug!(
        region = %inner.name,
        id = %inner.id,
        address = format_args!("{:#x}", address(&location.memory, location.start)),
        "window unmapped"
    );
    Ok(())
}

/// A window with its access and its location.
pub(crate) type Found = (WindowId, Access, WindowLocation);

/// Returns the guests' windows of a claim that were made through a lend, or by the claim's own
/// holder.
pub(crate) fn windows_of(
    ledger: &Ledger<Option<WindowLocation>>,
    claim: ClaimId,
    via: Option<LendId>,
) -> Vec<Found> {
    ledger
        .windows_of(claim, via)
        .filter_map(|(id, access, location)| Some((id, access, location.clone()?)))
        .collect()
}

/// Returns the windows of a claim that were made through a lend, or through lends within the
/// borrower that were made from it.
#[inline]
pub(crate) fn windows_under(
    ledger: &Ledger<Option<WindowLocation>>,
    claim: ClaimId,
    lend: LendId,
) -> Vec<Found> {
    let mut windows = windows_of(ledger, claim, Some(lend));
    for within in ledger.lends_within(lend) {
        windows.extend(windows_of(ledger, claim, Some(within)));
    }
    windows
}

/// Ends all windows of a claim that were made through a lend, or by the claim's own holder, in
/// the memories of the store in hand.
pub(crate) fn unmap_all(
    store: StoreId,
    inner: &RegionInner,
    claim: ClaimId,
    via: Option<LendId>,
    end: WindowEnd,
) -> Result<(), MemoryError> {
    let windows = windows_of(&inner.ledger(), claim, via);
    unmap_each(store, inner, windows, end)
}

/// Ends windows in the memories of the store in hand.
pub(crate) fn unmap_each(
    store: StoreId,
    inner: &RegionInner,
    windows: Vec<Found>,
    end: WindowEnd,
) -> Result<(), MemoryError> {
    let mut result = Ok(());
    for (id, _, location) in windows {
        // All of them, even if one cannot be ended.
        result = result.and(unmap(store, inner, id, &location, end));
    }
    result
}

/// Masks the windows of a claim that could tear the borrower's, or be torn by them. These are
/// the windows that may write, even if they only read now, and all windows if the borrower may
/// write.
pub(crate) fn mask_all(
    store: StoreId,
    inner: &RegionInner,
    claim: ClaimId,
    via: Option<LendId>,
    borrower_writes: bool,
) -> Result<MaskedWindows, MemoryError> {
    let mut masked = MaskedWindows::default();
    let windows = windows_of(&inner.ledger(), claim, via);
    for (id, _, location) in windows {
        if borrower_writes || inner.ledger().may_write(id) {
            if let Err(error) = location.memory.mask(store, location.start, location.key) {
                // Windows in other memories, which are not broken, are as before.
                let _ = masked.unmask(store);
                return Err(error.into());
            }
            masked.0.push((id, location));
        }
    }
    Ok(masked)
}

impl MaskedWindows {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the window at this location is one of them.
    pub(crate) fn has(&self, location: &WindowLocation) -> bool {
        // Keys are unique in the process.
        self.0.iter().any(|(_, masked)| masked.key == location.key)
    }

    /// Unmasks all windows, even if one of them cannot be unmasked. That one stays masked.
    pub(crate) fn unmask(self, store: StoreId) -> Result<(), MemoryError> {
        let mut result = Ok(());
        for (_, location) in self.0 {
            let unmasked = location.memory.unmask(store, location.start, location.key);
            result = result.and(unmasked);
        }
        Ok(result?)
    }

    /// Ends all windows, because another guest may still write to their bytes.
    pub(crate) fn unmap(self, store: StoreId, inner: &RegionInner) -> Result<(), MemoryError> {
        let mut result = Ok(());
        for (id, location) in self.0 {
            result = result.and(unmap(store, inner, id, &location, WindowEnd::Orderly));
        }
        result
    }
}

/// The first byte that a window is to cover.
pub(crate) struct At {
    /// The address in this process.
    pub(crate) address: usize,
    /// The length of the list that names the byte.
    pub(crate) length: usize,
    /// The memory that contains the byte, if Tombolo made that.
    pub(crate) memory: Option<Arc<MemoryRecord>>,
}

impl Region {
    /// Ends all windows of the claim in the memories of the store in hand.
    pub(crate) fn unmap_to_move(&self, store: StoreId) -> Result<(), MemoryError> {
        let claim = self.handle().claim();
        unmap_all(store, self.inner(), claim, None, WindowEnd::Orderly)
    }
}
