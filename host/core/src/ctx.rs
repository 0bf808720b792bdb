//! The context of one guest: its handles and windows, in the data of its store.
//!
//! They live in tables of their own and not in the `ResourceTable` that WASI uses. So
//! `handles`, `windows` and `descriptors` are limits of three separate things, and nothing else
//! can fill these tables. See `docs/adr/0002-own-resource-table.md`.
//!
//! Memory is freed with the last claim, even if a guest keeps a revoked handle or the object of a
//! window that ended. Those keep the region's name, not its bytes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tombolo_region::{Access, Account, ChargeKind, LiveOwner};
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

use crate::error::RegionError;
use crate::host::{Owner, Region, RegionHost, RegionUsage};
use crate::identity::RegionId;
use crate::limits::Limits;
use crate::region_table::{RegionTable, fresh_base};
use crate::sys::{StoreId, StoreMark};
use crate::violation::WriteViolation;

/// The number of different windows to remember for the report. Older ones are forgotten.
const WINDOW_NOTES: usize = 64;

/// A strand: stores that take turns, so that no two of them ever run at once. Guests of one
/// strand can have live windows on the same bytes. A clone is the same strand.
///
/// See [`RegionCtxBuilder::live_within`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strand(u64);

impl Strand {
    /// Creates a new strand, without stores.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "no two of them are equal")]
    pub fn new() -> Strand {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Strand(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// The handles and windows of one guest, on its account.
///
/// A guest is a context, not a store: a store can have several. They lend and move regions by
/// [`Parcel`](crate::Parcel), as guests of different stores do, and each has its own account and
/// limits. What they share is the fate of the store. wasmtime enters none of them again after one
/// has trapped, and a [`WriteViolation`] of one ends all. When the store is dropped, each that was
/// not [finished](RegionCtx::finish) poisons the regions that it could write.
///
/// It belongs into the data of the guest's store, behind a [`RegionView`] or a
/// [getter](crate::guest_in). Dropping it, or
/// swapping it out of the store, ends no window and releases no lock: that happens when the
/// store is dropped.
pub struct RegionCtx {
    host: RegionHost,
    pub(crate) owner: Arc<Owner>,
    pub(crate) region_table: RegionTable,
    window_table: ResourceTable,
    /// The number from which the handles of windows are counted.
    base: u32,
    /// The places in queues for which tasks of the guest wait.
    #[cfg(feature = "component-model-async")]
    pub(crate) places: crate::places::SharedPlaces,
    /// The mark of the store that the context was last seen in, if that has had windows.
    pub(crate) mark: Option<Arc<StoreMark>>,
    /// Whether the guest has ended in order.
    pub(crate) orderly: Arc<AtomicBool>,
    /// Whether Tombolo makes all calls into the store.
    pub(crate) entered_by_us: bool,
    /// Whether the lender's windows stay mapped while a borrower writes.
    pub(crate) keep_mapped: bool,
    /// The strand in which live windows are allowed.
    strand: Option<Strand>,
    notes: VecDeque<WindowNote>,
    windows: u64,
    pub(crate) created: u64,
}

/// A note of a window that was mapped, for the report.
#[derive(Debug, Clone)]
pub struct WindowNote {
    pub address: u64,
    pub region: String,
    pub region_id: RegionId,
    pub offset: u64,
    pub length: u64,
    pub access: Access,
    /// How often such a window was mapped.
    pub count: u64,
}

impl WindowNote {
    /// Returns whether two notes differ in their count at most.
    fn is_like(&self, other: &WindowNote) -> bool {
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

/// Builds a [`RegionCtx`]; see [`RegionHost::context`].
#[derive(Debug, Clone)]
pub struct RegionCtxBuilder {
    host: RegionHost,
    guest: String,
    /// `None` for the host's defaults.
    limits: Option<Limits>,
    entered_by_us: bool,
    keep_mapped: bool,
    strand: Option<Strand>,
    account: Option<Arc<Account>>,
}

impl RegionHost {
    /// Begins to build the context of one guest. The name is for errors, logs and reports.
    pub fn context(&self, guest: impl Into<String>) -> RegionCtxBuilder {
        RegionCtxBuilder {
            host: self.clone(),
            guest: guest.into(),
            limits: None,
            entered_by_us: false,
            keep_mapped: false,
            strand: None,
            account: None,
        }
    }
}

impl RegionCtxBuilder {
    /// Puts the guest on an existing account.
    pub(crate) fn account(mut self, account: Option<Arc<Account>>) -> RegionCtxBuilder {
        self.account = account;
        self
    }

    /// Sets the guest's limits. By default they are [`Limits::default`], as it was when the
    /// host was created.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> RegionCtxBuilder {
        self.limits = Some(limits);
        self
    }

    /// Keeps this guest's windows mapped in its memory while it lends their region. By default,
    /// if the lender or the borrower could write, they show zero pages for the length of the
    /// call and are mapped again afterwards.
    ///
    /// # Safety
    ///
    /// Whenever a lend of this guest begins, the call must hold the guest's store until the lend
    /// has ended. In particular, while a call into this guest waits for a guest that it lent to,
    /// the future of the call must not be forgotten (`mem::forget`, a leaked task, a reference
    /// cycle) and the store used or dropped afterwards. Otherwise the borrower writes to bytes
    /// that wasmtime reads as the guest's own.
    ///
    /// If a guest lends to another one of the same store, nothing else may run in the store during
    /// the call: no other task, and no function that reads the lender's memory.
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn keep_mapped_while_lent(mut self) -> RegionCtxBuilder {
        self.keep_mapped = true;
        self
    }

    /// Allows the guest live windows, `live-read` and `live-write`: plain shared memory, which
    /// the other guests of the strand change while this one sees it. By default they are
    /// refused.
    ///
    /// # Safety
    ///
    /// From the moment a context that was built with this strand is placed in a store until that
    /// store is dropped, even if the context is removed earlier, the caller must ensure:
    ///
    /// 1. The stores take turns: no two of them are entered, polled or inspected at the same
    ///    time, and no call into one is dropped meanwhile, in any threads.
    /// 2. Whenever one of them is entered or polled, or a call into it that has not returned is
    ///    dropped, no host frame holds bytes borrowed from the memory of another. Examples of
    ///    such bytes are a `&str` of a `WasmStr`, and a slice of a `WasmList` or of
    ///    `Memory::data`, in a host function that calls into the other guest or whose future
    ///    waits. The objects `WasmStr` and `WasmList` themselves borrow nothing and may be kept.
    ///    So may copies, such as `String`, `Vec` and `Val`.
    ///
    /// Otherwise bytes change that Rust takes for unchanging, or for UTF-8. The host functions of
    /// wasmtime's WASI (the second version) and of Tombolo keep to the second point by
    /// themselves.
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn live_within(mut self, strand: &Strand) -> RegionCtxBuilder {
        self.strand = Some(strand.clone());
        self
    }

    /// Declares that Tombolo makes every call into the store, in turn with the other stores of
    /// its strand, and holds the store for as long as a lend lasts.
    pub(crate) fn run_by_us(mut self, strand: &Strand) -> RegionCtxBuilder {
        self.entered_by_us = true;
        self.keep_mapped = true;
        self.strand = Some(strand.clone());
        self
    }

    /// Builds the context.
    #[must_use]
    pub fn build(self) -> RegionCtx {
        let limits = self.limits;
        let limits = limits.unwrap_or_else(|| self.host.guest_limits().clone());
        // More than the account allows, so that the account's limit is met first.
        let capacity = |most: u32| (most as usize).saturating_add(16);
        let mut window_table = ResourceTable::new();
        window_table.set_max_capacity(capacity(limits.windows));
        let base = fresh_base();
        let region_table = RegionTable::new(capacity(limits.handles), base);
        let host = self.host.id();
        RegionCtx {
            host: self.host,
            owner: match self.account {
                Some(account) => Owner::on(host, account, self.guest, limits),
                None => Owner::new(host, self.guest, limits),
            },
            region_table,
            window_table,
            base,
            #[cfg(feature = "component-model-async")]
            places: crate::places::SharedPlaces::default(),
            mark: None,
            orderly: Arc::default(),
            entered_by_us: self.entered_by_us,
            keep_mapped: self.keep_mapped,
            strand: self.strand,
            notes: VecDeque::new(),
            windows: 0,
            created: 0,
        }
    }
}

impl RegionCtx {
    /// Returns the guest's name.
    #[must_use]
    #[inline]
    pub fn name(&self) -> &str {
        &self.owner.name
    }

    /// Returns the host that the guest's regions belong to.
    #[must_use]
    pub fn host(&self) -> &RegionHost {
        &self.host
    }

    /// Notes that the guest has ended in order, so that its open windows do not poison their
    /// regions when its store is dropped.
    pub fn finish(&mut self) {
        self.orderly.store(true, Ordering::Release);
    }

    /// Returns the bytes of all regions that the guest has claims on, each claim in full.
    #[must_use]
    pub fn claimed_bytes(&self) -> u64 {
        self.owner.account.used(ChargeKind::ClaimedBytes)
    }

    /// Returns the cost of the regions that the guest has claims on. Takes one system call for
    /// each.
    #[must_use]
    pub fn usage(&self) -> Vec<RegionUsage> {
        self.host.usage_of(&self.owner)
    }

    /// Returns the cost of regions that the guest had claims on and has none on now: just before
    /// it dropped the last claim, or now if it moved the claim. Each region is listed once, and
    /// only the last ones. The number is how many there were in all. A region that comes back
    /// after it was forgotten counts again.
    #[must_use]
    pub fn usage_released(&self) -> (Vec<RegionUsage>, u64) {
        self.released_except(&self.usage())
    }

    /// Fails if the guest wrote to a read-only window through host code, by `memory.copy` for
    /// example. Such a guest must not go on. (A plain store of wasm traps by itself.)
    ///
    /// [`attach`](crate::attach) makes this check by itself. Programs that need their store's call hook for
    /// something else call this there, or when a call into the guest has returned. The functions
    /// of `tombolo:memory` check first of all, and trap. Until the check the guest harms nobody
    /// but itself: its write went to a private copy.
    ///
    /// Costs the load of an atomic.
    ///
    /// The mark of this write belongs to the store. If the context has just replaced another one
    /// in the store's data, this finds it only once the guest has called a function of
    /// `tombolo:memory`. [`check`](crate::check) finds it at once.
    ///
    /// # Errors
    ///
    /// [`WriteViolation`] names the place.
    #[inline]
    pub fn check(&self) -> Result<(), WriteViolation> {
        match &self.mark {
            Some(mark) if mark.has_violation() => Err(WriteViolation::of(mark)),
            _ => Ok(()),
        }
    }

    /// Returns the identity of the guest's live windows in the store in hand, if it may have
    /// any.
    pub(crate) fn live(&self, store: StoreId) -> Option<LiveOwner> {
        let strand = self.strand.as_ref()?;
        Some(LiveOwner {
            strand: strand.0,
            store: store.number(),
        })
    }

    pub(crate) fn note_window(&mut self, note: WindowNote) {
        self.windows += 1;
        if let Some(same) = self.notes.iter_mut().find(|known| known.is_like(&note)) {
            same.count += 1;
            return;
        }
        if self.notes.len() == WINDOW_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    /// Adds a window to the guest's table.
    ///
    /// # Errors
    ///
    /// If the table is full.
    pub(crate) fn push_window<W: Send + 'static>(
        &mut self,
        window: W,
    ) -> Result<Resource<W>, ResourceTableError> {
        let window = self.window_table.push(window)?;
        Ok(Resource::new_own(window.rep().wrapping_add(self.base)))
    }

    /// Returns a window of the guest.
    ///
    /// # Errors
    ///
    /// If it is no window of this guest.
    pub(crate) fn window<W: Send + 'static>(
        &self,
        window: &Resource<W>,
    ) -> Result<&W, ResourceTableError> {
        let index = window.rep().wrapping_sub(self.base);
        self.window_table.get(&Resource::new_borrow(index))
    }

    /// Takes a window of the guest out of its table.
    ///
    /// # Errors
    ///
    /// If it is no window of this guest.
    pub(crate) fn delete_window<W: Send + 'static>(
        &mut self,
        window: u32,
    ) -> Result<W, ResourceTableError> {
        let index = window.wrapping_sub(self.base);
        self.window_table.delete(Resource::new_own(index))
    }

    /// Notes which store the context is in. From here on it learns of writes by that store's
    /// guest.
    #[inline]
    pub(crate) fn bind(&mut self, store: StoreId) {
        if !self.mark.as_ref().is_some_and(|mark| mark.is_of(store)) {
            self.mark = StoreMark::of(store);
        }
    }
}

/// For `tombolo-app`; see [`RegionCtxInternals`](crate::internal::RegionCtxInternals).
impl RegionCtx {
    /// Returns the account and the limits of the guest.
    #[inline]
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Returns the table of the guest's regions.
    pub(crate) fn region_table(&mut self) -> &mut RegionTable {
        &mut self.region_table
    }

    /// Returns the last windows that were mapped, and how many there were in all.
    pub(crate) fn window_notes(&self) -> (Vec<WindowNote>, u64) {
        (self.notes.iter().cloned().collect(), self.windows)
    }

    /// Returns what [`usage_released`](RegionCtx::usage_released) does, if the guest has claims
    /// on these regions.
    pub(crate) fn released_except(&self, held: &[RegionUsage]) -> (Vec<RegionUsage>, u64) {
        self.owner.released_except(held)
    }

    /// Returns the violation that a fault at an address of the guest's memory was, if it was one.
    pub(crate) fn explain_fault(&self, address: usize) -> Option<WriteViolation> {
        let site = self.mark.as_ref()?.explain(address)?;
        Some(WriteViolation::at(self.owner.name.clone(), site))
    }

    /// Returns how many regions the guest has created.
    pub(crate) fn regions_created(&self) -> u64 {
        self.created
    }
}

impl fmt::Debug for RegionCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionCtx")
            .field("guest", &self.name())
            .finish_non_exhaustive()
    }
}

/// Access to the [`RegionCtx`] in a store's data: the short way for stores with one guest. Data of
/// other types are reached by getters; see [`guest_in`](crate::guest_in).
pub trait RegionView: Send + 'static {
    /// Returns the context. It must be the same one for as long as the store lives. Swapping it
    /// for another guest's mixes up what the two may do, but never whose memory is mapped.
    fn region_ctx(&mut self) -> &mut RegionCtx;
}

/// Moves a region to another holder, which has no store, or whose store has no window on it.
#[allow(clippy::result_large_err, reason = "the region is returned")]
pub(crate) fn receive(region: Region, to: &Arc<Owner>) -> Result<Region, (Region, RegionError)> {
    let charges = (|| {
        region.may_move()?;
        let handle = to.account.charge(ChargeKind::Handles, 1)?;
        Ok((handle, region.charge_claim(to)?))
    })();
    match charges {
        Ok((handle, claim)) => Ok(region.transferred(to, handle, claim)),
        Err(error) => Err((region, error)),
    }
}
