//! Windows: what the ledger decided, made true in a guest's memory.
//!
//! The order is always the same. Opening takes the lock first and maps then;
//! closing unmaps first and lets the lock go then. So there is no moment at
//! which memory shows what the lock does not cover.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{MemoryError, RegionError};
use crate::host::{Hold, Owner, Place, Shared};
use crate::sys::{MemoryRecord, Perms, ShowError, StoreId, Tenant};
use crate::{Region, RegionCtx};
use tombolo_region::{
    Access, Charge, ChargeKind, ClaimId, GRANULE, Holder, Ledger, LendId, Pinned, Span, WindowEnd,
    WindowId,
};

impl From<Access> for Perms {
    fn from(access: Access) -> Perms {
        match access.writes() {
            false => Perms::Read,
            true => Perms::Write,
        }
    }
}

/// A guest's window: the object in its table. Dropping it unmaps nothing; that
/// takes the store in hand.
pub(crate) struct Window {
    hold: Hold,
    id: WindowId,
    place: Place,
    _charge: Arc<Charge>,
}

/// What the memory keeps of a window, to end it with the memory.
struct Occupant {
    hold: Hold,
    id: WindowId,
    orderly: Arc<AtomicBool>,
    /// The object's as well: a guest may keep the one or the other for longer,
    /// and its table has room for what the account allows.
    _charge: Arc<Charge>,
}

impl Tenant for Occupant {
    fn region(&self) -> String {
        self.hold.shared.name.to_string()
    }

    fn memory_gone(self: Box<Self>) {
        let end = if self.orderly.load(Ordering::Acquire) {
            WindowEnd::Orderly
        } else {
            WindowEnd::Died
        };
        if self.hold.shared.ledger.close(self.id, end) {
            tracing::warn!(
                region = %self.hold.shared.name,
                id = self.hold.shared.id,
                guest = self.hold.owner.name,
                "region poisoned: a writer died before it let go"
            );
        }
    }
}

/// The address, in the guest's memory, of a window.
fn address(memory: &MemoryRecord, start: usize) -> u64 {
    (start - memory.base()) as u64
}

impl Window {
    /// Maps part of a region at the address of `at`, in the memory of the store
    /// in hand.
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
        let shared = region.shared();
        let span = Span::of_window(offset, length, shared.size).map_err(RegionError::from)?;
        let Some(memory) = at.memory else {
            return Err(RegionError::Unsupported.into());
        };
        let first = (at.address - memory.base()) as u64;
        Span::check_memory(first, length, memory.size() as u64).map_err(RegionError::from)?;
        ctx.mark = Some(memory.adopt(store, ctx.entered_by_us)?);
        let owner = region.owner();
        let charge = owner
            .account
            .charge(ChargeKind::Windows, 1)
            .map_err(RegionError::from)?;
        let charge = Arc::new(charge);
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        let start = at.address;
        let place = Place {
            memory: memory.clone(),
            start,
            key,
        };
        // From here on until the window is shown nobody unpins these bytes: all
        // handles of the claim are in this context, and its store is in hand.
        let id = shared.ledger().open(
            region.handle(),
            access.needs(),
            span,
            access,
            Holder::Guest,
            Some(place.clone()),
        )?;
        let occupant = Box::new(Occupant {
            hold: Hold::new(shared, owner),
            id,
            orderly: ctx.orderly.clone(),
            _charge: charge.clone(),
        });
        let end = start + usize::try_from(length).expect("inside the memory");
        let shown = shared.file().map_err(MemoryError::from).and_then(|file| {
            Ok(memory.show(
                store,
                key,
                start..end,
                &file,
                offset,
                access.into(),
                cuts_left(ctx, owner, &memory),
                occupant,
            )?)
        });
        if let Err(error) = shown {
            // Nothing of the region is shown, also where the memory is out of use.
            shared.ledger.close(id, WindowEnd::Orderly);
            return Err(error);
        }
        shared.count_window(ctx.name());
        ctx.note_window(WindowNote {
            address: first,
            region: shared.name.to_string(),
            region_id: shared.id,
            offset,
            length,
            access,
            count: 1,
        });
        tracing::debug!(
            guest = ctx.name(),
            region = %shared.name,
            id = shared.id,
            offset,
            length,
            %access,
            address = format_args!("{first:#x}"),
            "window mapped"
        );
        Ok(Window {
            hold: Hold::new(shared, owner),
            id,
            place,
            _charge: charge,
        })
    }

    /// Changes what the window is for.
    pub(crate) fn set_access(&self, store: StoreId, access: Access) -> Result<(), MemoryError> {
        let Place { memory, start, key } = &self.place;
        let shared = &self.hold.shared;
        let before = shared.ledger().window(self.id);
        let (_, before) = before.ok_or(RegionError::Gone)?;
        let show = |access: Access| memory.set_perms(store, *start, *key, access.into());
        // Changing many pages takes its time, and others have the ledger meanwhile. What
        // the pages allow, the lock covers all the while.
        if access.writes() {
            shared.ledger().set_access(self.id, access)?;
            return show(access).map_err(|error| {
                // A part may be changed, or others have come in that go together with
                // the new access alone: then the lock stays.
                if show(before).is_ok() {
                    let _ = shared.ledger().set_access(self.id, before);
                }
                error.into()
            });
        }
        shared.ledger().may_set_access(self.id, access)?;
        show(access)?;
        let changed = shared.ledger().set_access(self.id, access);
        if let Err(refused) = changed {
            show(before)?;
            return Err(refused.into());
        }
        Ok(())
    }

    /// Unmaps the window, if it is still there.
    pub(crate) fn unmap(self, store: StoreId) -> Result<(), MemoryError> {
        let ledger = self.hold.shared.ledger();
        if ledger.ends_with_window(self.id) {
            self.hold.note_released(&ledger);
        }
        drop(ledger);
        unmap(
            store,
            &self.hold.shared,
            self.id,
            &self.place,
            WindowEnd::Orderly,
        )
    }
}

/// Into how many kernel mappings windows may cut a memory of a guest, which has
/// others besides.
fn cuts_left(ctx: &RegionCtx, owner: &Owner, memory: &Arc<MemoryRecord>) -> u64 {
    let mark = ctx.mark.as_ref();
    let elsewhere = mark.map_or(0, |mark| mark.cuts_elsewhere(memory));
    u64::from(owner.limits.mappings).saturating_sub(elsewhere)
}

/// What a window of a claim, in the memory of the store in hand, shows of a span.
struct Overlap {
    place: Place,
    window: Span,
}

impl Overlap {
    /// The windows of a claim on a span. They are all in the memories of one
    /// guest: where a claim is lent, its pins stay as they are.
    fn of(ledger: &Ledger<Option<Place>>, claim: ClaimId, span: Span) -> Vec<Overlap> {
        ledger
            .windows_on(claim, span)
            .filter_map(|(_, window, place)| {
                let place = place.clone()?;
                Some(Overlap { place, window })
            })
            .collect()
    }

    /// The addresses at which it shows the span.
    fn part(&self, span: Span) -> Range<usize> {
        let (window, span) = (self.window.granules(), span.granules());
        let first = span.start.max(window.start) - window.start;
        let end = span.end.min(window.end).saturating_sub(window.start);
        let address = |granules: u64| {
            let bytes = usize::try_from(granules * GRANULE).expect("inside the memory");
            self.place.start + bytes
        };
        address(first)..address(end.max(first))
    }

    fn hide(&self, store: StoreId, span: Span, most: u64) -> Result<(), ShowError> {
        let Place { memory, start, key } = &self.place;
        memory.hide_part(store, *start, *key, self.part(span), most)
    }

    fn show(&self, store: StoreId, span: Span, most: u64) -> Result<(), ShowError> {
        let Place { memory, start, key } = &self.place;
        memory.show_part(store, *start, *key, self.part(span), most)
    }
}

/// Hides a span in the claim's windows, and then unpins it, so that shown bytes are never
/// purged. Others can use the ledger meanwhile, because hiding takes a system call for each
/// window. They change nothing of the claim, whose store is in hand.
pub(crate) fn unpin(
    store: StoreId,
    ctx: &RegionCtx,
    region: &Region,
    span: Span,
) -> Result<(), MemoryError> {
    let mut ledger = region.shared().ledger();
    // So that nothing is hidden for what is refused.
    let undo = ledger.unpin(region.handle(), span)?;
    let spans: Vec<Span> = undo.spans().collect();
    let windows = Overlap::of(&ledger, region.handle().claim(), span);
    if windows.is_empty() {
        return Ok(());
    }
    ledger.undo_unpin(undo);
    drop(ledger);
    let show_again = |windows: &[Overlap]| {
        // As many cuts as there were before.
        let mut all = windows.iter();
        all.try_for_each(|window| {
            let mut spans = spans.iter();
            spans.try_for_each(|span| window.show(store, *span, u64::MAX))
        })
        .map_err(|_| MemoryError::Fatal(ShowError::Broken))
    };
    for (number, window) in windows.iter().enumerate() {
        let most = cuts_left(ctx, region.owner(), &window.place.memory);
        if let Err(error) = window.hide(store, span, most) {
            show_again(&windows[..number])?;
            return Err(error.into());
        }
    }
    let unpinned = region.shared().ledger().unpin(region.handle(), span);
    if let Err(refused) = unpinned {
        show_again(&windows)?;
        return Err(refused.into());
    }
    Ok(())
}

/// Pins a span, and then shows it again in the claim's windows. Pinned bytes are never
/// purged. As with [`unpin`], others can use the ledger meanwhile.
pub(crate) fn pin(
    store: StoreId,
    ctx: &RegionCtx,
    region: &Region,
    span: Span,
) -> Result<Pinned, MemoryError> {
    let lock = region.shared().ledger_lock();
    let (pinned, undo, ledger) = lock.pin(region.handle(), span)?;
    let windows = Overlap::of(&ledger, region.handle().claim(), span);
    drop(ledger);
    for (number, window) in windows.iter().enumerate() {
        let most = cuts_left(ctx, region.owner(), &window.place.memory);
        if let Err(error) = window.show(store, span, most) {
            for window in &windows[..=number] {
                undo.spans()
                    .try_for_each(|span| window.hide(store, span, u64::MAX))
                    .map_err(|_| MemoryError::Fatal(ShowError::Broken))?;
            }
            region.shared().ledger().undo_pin(undo);
            return Err(error.into());
        }
    }
    Ok(pinned)
}

/// Ends a window in the memory of the store in hand, and then its lock.
fn unmap(
    store: StoreId,
    shared: &Shared,
    id: WindowId,
    place: &Place,
    end: WindowEnd,
) -> Result<(), MemoryError> {
    let tenant = place.memory.unshow(store, place.start, place.key)?;
    if tenant.is_none() {
        return Ok(());
    }
    shared.ledger.close(id, end);
    tracing::debug!(
        region = %shared.name,
        id = shared.id,
        address = format_args!("{:#x}", address(&place.memory, place.start)),
        "window unmapped"
    );
    Ok(())
}

/// A window, and what it is for.
pub(crate) type Found = (WindowId, Access, Place);

/// The guests' windows of a claim that were made through a lend, or by its own
/// holder.
pub(crate) fn windows_of(
    ledger: &Ledger<Option<Place>>,
    claim: ClaimId,
    via: Option<LendId>,
) -> Vec<Found> {
    ledger
        .windows_of(claim, via)
        .filter_map(|(id, access, place)| Some((id, access, place.clone()?)))
        .collect()
}

/// Ends all windows of a claim that were made through a lend, or by its own
/// holder, in the memories of the store in hand.
pub(crate) fn unmap_all(
    store: StoreId,
    shared: &Shared,
    claim: ClaimId,
    via: Option<LendId>,
    end: WindowEnd,
) -> Result<(), MemoryError> {
    let windows = windows_of(&shared.ledger(), claim, via);
    unmap_each(store, shared, windows, end)
}

/// Ends windows in the memories of the store in hand.
pub(crate) fn unmap_each(
    store: StoreId,
    shared: &Shared,
    windows: Vec<Found>,
    end: WindowEnd,
) -> Result<(), MemoryError> {
    let mut result = Ok(());
    for (id, _, place) in windows {
        // All of them, also where one cannot be ended.
        result = result.and(unmap(store, shared, id, &place, end));
    }
    result
}

/// Windows that show zero pages while their claim is lent.
#[derive(Debug)]
pub(crate) struct Hidden(Vec<Place>);

/// Hides the windows of a claim that could tear the borrower's, or be torn by
/// them: those that may write, also if they only read now, and all of them
/// where the borrower may.
pub(crate) fn hide_all(
    store: StoreId,
    shared: &Shared,
    claim: ClaimId,
    via: Option<LendId>,
    borrower_writes: bool,
) -> Result<Hidden, MemoryError> {
    let mut hidden = Hidden(Vec::new());
    let windows = windows_of(&shared.ledger(), claim, via);
    for (id, _, place) in windows {
        if borrower_writes || shared.ledger().may_write(id) {
            if let Err(error) = place.memory.hide(store, place.start, place.key) {
                // Those in other memories, which are not broken, are as they were.
                let _ = hidden.reveal(store);
                return Err(error.into());
            }
            hidden.0.push(place);
        }
    }
    Ok(hidden)
}

impl Hidden {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shows all windows again, even if one of them cannot be shown. That one stays hidden.
    pub(crate) fn reveal(self, store: StoreId) -> Result<(), MemoryError> {
        let mut result = Ok(());
        for place in self.0 {
            let shown = place.memory.reveal(store, place.start, place.key);
            result = result.and(shown);
        }
        Ok(result?)
    }
}

/// The first byte that a window is to cover.
pub(crate) struct At {
    /// In this process.
    pub(crate) address: usize,
    /// Of the list that names it.
    pub(crate) length: usize,
    /// The memory that it is in, if Tombolo made that.
    pub(crate) memory: Option<Arc<MemoryRecord>>,
}

/// A window that was made, for the report.
#[derive(Debug, Clone)]
pub struct WindowNote {
    pub address: u64,
    pub region: String,
    pub region_id: u64,
    pub offset: u64,
    pub length: u64,
    pub access: Access,
    /// How often it was made.
    pub count: u64,
}

impl WindowNote {
    /// Whether the two differ in their count at most.
    pub(crate) fn is_like(&self, other: &WindowNote) -> bool {
        let key = |note: &WindowNote| {
            (
                note.region_id,
                note.address,
                note.offset,
                note.length,
                note.access,
            )
        };
        key(self) == key(other)
    }
}
