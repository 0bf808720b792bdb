use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wasmtime::component::ResourceTable;
use wasmtime::{AsContextMut, StoreContextMut};

use crate::Region;
use crate::error::RegionError;
use crate::host::{Owner, RegionHost};
use crate::limits::Limits;
use crate::sys::{StoreId, StoreMark, ViolationSite};
use crate::window::WindowNote;
use tombolo_region::{Account, ChargeKind, LiveOwner};

/// Different windows remembered for the report; older ones are forgotten.
const WINDOW_NOTES: usize = 64;

/// A strand: stores that take turns, so that no two of them ever run at once. Guests
/// of one strand can have live windows on the same bytes. A clone is the same strand.
///
/// See [`RegionCtxBuilder::live_within`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strand(u64);

impl Strand {
    /// A strand that there was not before.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Strand {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Strand(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// What one guest holds: its handles and windows, on its account.
///
/// It belongs into the data of the guest's store, behind a [`RegionView`].
pub struct RegionCtx {
    host: RegionHost,
    pub(crate) owner: Arc<Owner>,
    pub(crate) table: ResourceTable,
    /// The mark of the store that it was last seen in, if that has had windows.
    pub(crate) mark: Option<Arc<StoreMark>>,
    /// The guest has ended in order.
    pub(crate) orderly: Arc<AtomicBool>,
    /// Tombolo makes the calls into the store.
    pub(crate) entered_by_us: bool,
    /// The lender's windows stay shown while a borrower writes.
    pub(crate) keep_shown: bool,
    /// Where live windows are allowed.
    strand: Option<Strand>,
    notes: VecDeque<WindowNote>,
    windows: u64,
    pub(crate) created: u64,
}

/// For `tombolo-app`.
#[doc(hidden)]
impl RegionCtx {
    pub fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Returns the violation that a fault at an address of the guest's memory was, if it was one.
    pub fn explain_fault(&self, address: usize) -> Option<WriteViolation> {
        let site = self.mark.as_ref()?.explain(address)?;
        Some(WriteViolation {
            guest: self.name().to_owned(),
            site: Some(site),
        })
    }

    pub fn regions_created(&self) -> u64 {
        self.created
    }
}

/// Builds a [`RegionCtx`]; see [`RegionHost::context`].
#[derive(Debug, Clone)]
pub struct RegionCtxBuilder {
    host: RegionHost,
    guest: String,
    /// The host's defaults otherwise.
    limits: Option<Limits>,
    entered_by_us: bool,
    keep_shown: bool,
    strand: Option<Strand>,
    account: Option<Arc<Account>>,
}

impl RegionCtxBuilder {
    pub(crate) fn new(host: &RegionHost, guest: String) -> RegionCtxBuilder {
        RegionCtxBuilder {
            host: host.clone(),
            guest,
            limits: None,
            entered_by_us: false,
            keep_shown: false,
            strand: None,
            account: None,
        }
    }

    /// Puts the guest on an account that there is.
    #[doc(hidden)]
    pub fn account(mut self, account: Option<Arc<Account>>) -> RegionCtxBuilder {
        self.account = account;
        self
    }

    /// Sets what the guest may hold; [`Limits::default`] otherwise, as it was when the
    /// host was made.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> RegionCtxBuilder {
        self.limits = Some(limits);
        self
    }

    /// Keeps this guest's windows shown in its memory while it lends their
    /// region. Without this they are hidden for the length of the call where
    /// the lender or the borrower could write, and mapped again afterwards.
    ///
    /// # Safety
    ///
    /// Whenever a lend of this guest's begins, its store must be held by the
    /// call until the lend has ended. In particular the future of a call into
    /// this guest must not be forgotten (`mem::forget`, a leaked task, a
    /// reference cycle) while it waits for a guest that it lent to, and then
    /// its store used or dropped: bytes that wasmtime reads as the guest's own
    /// would be written meanwhile by the borrower.
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn keep_shown_while_lent(mut self) -> RegionCtxBuilder {
        self.keep_shown = true;
        self
    }

    /// Allows the guest live windows, `live-read` and `live-write`: plain shared
    /// memory, which the other guests of the strand change while this one sees it.
    /// Without this they are refused.
    ///
    /// # Safety
    ///
    /// The stores whose data a context comes into that was built with this strand, from
    /// then on until the store is dropped, also if the context leaves it before,
    ///
    /// - take turns: no two of them are entered, polled, or looked into, and no call
    ///   into them is dropped, at the same time, in whichever threads;
    /// - and whenever one of them is entered or polled, or a call into it that has not
    ///   returned is dropped, no host frame holds bytes
    ///   that it borrowed from the memory of another: no `&str` of a `WasmStr`, no
    ///   slice of a `WasmList` or of `Memory::data`, in a host function that calls
    ///   into the other guest, or in one whose future waits, say. The objects
    ///   `WasmStr` and `WasmList` themselves borrow nothing and may be kept; so may
    ///   what is a copy, such as `String`, `Vec` and `Val`.
    ///
    /// Otherwise bytes that Rust takes for unchanging, or for UTF-8, change.
    /// The host functions of wasmtime's WASI (the second version) and of Tombolo keep
    /// to the second point by themselves.
    #[must_use]
    #[allow(unsafe_code)]
    pub unsafe fn live_within(mut self, strand: &Strand) -> RegionCtxBuilder {
        self.strand = Some(strand.clone());
        self
    }

    /// Says that Tombolo makes every call into the store, by turns with the others of
    /// its strand, and holds the store for as long as a lend lasts.
    #[doc(hidden)]
    pub fn run_by_us(mut self, strand: &Strand) -> RegionCtxBuilder {
        self.entered_by_us = true;
        self.keep_shown = true;
        self.strand = Some(strand.clone());
        self
    }

    /// Makes the context.
    #[must_use]
    pub fn build(self) -> RegionCtx {
        let limits = self.limits;
        let limits = limits.unwrap_or_else(|| self.host.guest_limits().clone());
        let capacity = limits.handles as usize + limits.windows as usize;
        let mut table = ResourceTable::new();
        // Beyond what the account allows; so that nothing else can fill it up.
        table.set_max_capacity(capacity.saturating_add(16));
        let number = self.host.number();
        RegionCtx {
            host: self.host,
            owner: match self.account {
                Some(account) => Owner::on(number, account, self.guest, limits),
                None => Owner::new(number, self.guest, limits),
            },
            table,
            mark: None,
            orderly: Arc::default(),
            entered_by_us: self.entered_by_us,
            keep_shown: self.keep_shown,
            strand: self.strand,
            notes: VecDeque::new(),
            windows: 0,
            created: 0,
        }
    }
}

impl RegionCtx {
    /// The guest's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.owner.name
    }

    /// The host that the guest's regions belong to.
    #[must_use]
    pub fn host(&self) -> &RegionHost {
        &self.host
    }

    /// Whose live windows are that are made with the store in hand, if they may be.
    pub(crate) fn live(&self, store: StoreId) -> Option<LiveOwner> {
        let strand = self.strand.as_ref()?;
        Some(LiveOwner {
            strand: strand.0,
            store: store.number(),
        })
    }

    /// Says that the guest has ended in order, so that windows which it still
    /// has do not poison their regions when its store is dropped.
    pub fn finish(&mut self) {
        self.orderly.store(true, Ordering::Release);
    }

    /// Bytes that the guest has claims on at the moment, each claim in full.
    #[must_use]
    pub fn claimed_bytes(&self) -> u64 {
        self.owner.account.used(ChargeKind::ClaimedBytes)
    }

    /// Gives a region of the host program's to the guest, for one of its
    /// exports to receive as `region`: a move. What comes out is passed to the
    /// export.
    ///
    /// # Errors
    ///
    /// Gives the region back, with [`RegionError::NotPermitted`],
    /// [`RegionError::OtherHost`], [`RegionError::WouldBlock`] while a guard of it lives, or
    /// [`RegionError::Exhausted`] for the guest's limits.
    #[allow(clippy::result_large_err, reason = "the region is given back")]
    pub fn give(
        &mut self,
        region: Region,
    ) -> Result<wasmtime::component::Resource<Region>, (Region, RegionError)> {
        let owner = self.owner.clone();
        match receive(region, &owner) {
            Ok(region) => Ok(self.table.push(region).expect("the account counts handles")),
            Err(refused) => Err(refused),
        }
    }

    /// Takes a region that one of the guest's exports returned as `region`: a
    /// move to the host program.
    ///
    /// # Errors
    ///
    /// [`RegionError::Gone`] for what is no handle of this guest; else the
    /// reasons of a refused move. The handle is dropped then.
    ///
    /// Windows that the guest still has on the claim are not unmapped by this,
    /// which would take the store; see [`take`](crate::take), which does.
    pub(crate) fn remove(
        &mut self,
        resource: wasmtime::component::Resource<Region>,
    ) -> Result<Region, RegionError> {
        self.table.delete(resource).map_err(|_| RegionError::Gone)
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

    /// The last windows that were made, and how many there were in all.
    #[doc(hidden)]
    pub fn window_notes(&self) -> (Vec<WindowNote>, u64) {
        (self.notes.iter().cloned().collect(), self.windows)
    }

    /// Fails if the guest wrote to a read-only window through host code, by
    /// `memory.copy` for example: it must not go on. (A plain store traps by itself.)
    ///
    /// The functions of `tombolo:memory` ask this first of all, and trap. An
    /// embedder asks it as well when a call into the guest has returned, and in
    /// the callback of the epoch deadline if there is one. Until then the guest
    /// harms nobody but itself: its write went to a private copy.
    ///
    /// The mark of this write belongs to the store. A context that replaced another one in a
    /// store's data finds it when the guest next calls a function of `tombolo:memory`.
    /// [`check`] finds it at once.
    ///
    /// # Errors
    ///
    /// [`WriteViolation`] says where it wrote.
    pub fn check(&self) -> Result<(), WriteViolation> {
        match &self.mark {
            Some(mark) if mark.has_violation() => Err(WriteViolation {
                guest: self.name().to_owned(),
                site: mark.violation(),
            }),
            _ => Ok(()),
        }
    }

    /// Notes which store the context is in. From here on it learns of writes by that
    /// store's guest.
    pub(crate) fn bind(&mut self, store: StoreId) {
        if !self.mark.as_ref().is_some_and(|mark| mark.is_of(store)) {
            self.mark = StoreMark::of(store);
        }
    }
}

/// Returns the context in the store in hand, and the store's identity, which the
/// context knows from here on.
pub(crate) fn bound<'a, T: RegionView>(
    store: &'a mut StoreContextMut<'_, T>,
) -> (StoreId, &'a mut RegionCtx) {
    let id = StoreId::of(&*store);
    let ctx = store.data_mut().region_ctx();
    ctx.bind(id);
    (id, ctx)
}

/// Fails if the guest of the store in hand wrote to a read-only window through host
/// code. Unlike [`RegionCtx::check`], it also finds the write if the context has just
/// replaced the one with which the guest made the window.
///
/// # Errors
///
/// [`WriteViolation`] says where it wrote.
pub fn check<T: RegionView>(mut store: impl AsContextMut<Data = T>) -> Result<(), WriteViolation> {
    let mut store = store.as_context_mut();
    let (_, ctx) = bound(&mut store);
    ctx.check()
}

/// Moves a region to another holder who has no store, or whose store has no
/// window on it.
#[allow(clippy::result_large_err, reason = "the region is given back")]
pub(crate) fn receive(region: Region, to: &Arc<Owner>) -> Result<Region, (Region, RegionError)> {
    let charges = (|| {
        region.shared().ledger().may_move(region.handle())?;
        let handle = to.account.charge(ChargeKind::Handles, 1)?;
        Ok((handle, region.charge_claim(to)?))
    })();
    match charges {
        Ok((handle, claim)) => Ok(region.transferred(to, handle, claim)),
        Err(error) => Err((region, error)),
    }
}

impl fmt::Debug for RegionCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionCtx")
            .field("guest", &self.name())
            .finish_non_exhaustive()
    }
}

/// A guest wrote to a read-only window.
#[derive(Debug, Clone)]
pub struct WriteViolation {
    pub(crate) guest: String,
    pub(crate) site: Option<ViolationSite>,
}

impl fmt::Display for WriteViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest `{}` wrote to its read-only window", self.guest)?;
        match &self.site {
            Some(at) => write!(f, " on region `{}` at offset {:#x}", at.region, at.offset),
            None => Ok(()),
        }
    }
}

impl std::error::Error for WriteViolation {}

/// Gives access to the [`RegionCtx`] in a store's data.
pub trait RegionView: Send + 'static {
    /// The context. It must be the same one for as long as the store lives;
    /// swapping it for another guest's mixes up what the two may do, though
    /// never whose memory is mapped.
    fn region_ctx(&mut self) -> &mut RegionCtx;
}
