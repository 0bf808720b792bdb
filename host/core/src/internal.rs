//! The parts of this crate that `tombolo-app` is built from. They are no public API and change
//! without notice. `tombolo-app` pins the version of this crate exactly.
//!
//! The traits add methods to public types.

use std::mem::replace;
use std::sync::Arc;

use tombolo_region::{Account, Charge, LedgerError, Quota, Rights, WindowEnd};
use wasmtime::StoreContextMut;
use wasmtime::component::{ResourceAny, Val};

/// Sets the options of a configuration, without touching the process.
pub use crate::config::settle;
/// The error of an operation on a memory.
pub use crate::error::MemoryError;
/// A holder of regions, and a promise of memory to a store.
pub use crate::host::{Owner, Promise};
/// The default limit of memory.
pub use crate::limits::half_of_available;
/// Lends without a store.
pub use crate::region_table::RegionTable;
pub use crate::transfer::{Lends, PackedRegions, is_region};
/// Parts of values, and walks over their handles.
pub use crate::walk::{each_handle, each_resource, fold_parts};

/// Starts the threads that compile.
#[cfg(feature = "parallel-compilation")]
pub use crate::parallel::compile_in_parallel;

use crate::ctx::RegionView;
use crate::ctx::{RegionCtx, RegionCtxBuilder, Strand, WindowNote};
use crate::error::RegionError;
use crate::guest::AsGuest;
use crate::host::{Region, RegionHost, RegionUsage};
use crate::limits::Limits;
use crate::transfer::{Borrowed, Lending, PackError, Parcel, Recipient};
use crate::violation::WriteViolation;

/// The system below.
///
/// | item | use |
/// |---|---|
/// | `Compiled` | code from the compiler's process |
/// | `Overgrown` | a growth that could not be undone |
/// | `Slot` | values of a call that take one core value each |
/// | `StoreId` | the identity of a store |
/// | `entry` | the store that a thread is in |
/// | `fault` | the addresses of faults of wasm |
/// | `memory_bytes`, `private_bytes` | the memory of a store |
/// | `processor_seconds` | the processor time of this process |
/// | `signal` | signal masks and actions |
/// | `within` | a directory that is reached without its name |
pub mod sys {
    pub use crate::sys::{
        Compiled, Overgrown, Slot, StoreId, entry, fault, memory_bytes, private_bytes,
        processor_seconds, signal, within,
    };
}

/// Operations of an app on handles to regions.
pub trait RegionInternals {
    /// Returns the holder of the handle.
    fn owner(&self) -> &Arc<Owner>;

    /// Duplicates the handle on another holder's account.
    ///
    /// # Errors
    ///
    /// As [`Region::duplicate`], and [`RegionError::OtherHost`].
    fn duplicate_for(&self, rights: Rights, to: &Arc<Owner>) -> Result<Region, RegionError>;

    /// Returns how many unpinned spans the claim is charged for.
    fn unpinned_spans(&self) -> u64;

    /// Notes whether the region is in a channel's queue.
    fn set_queued(&self, queued: bool);

    /// Returns the ledger's objection to moving the claim to another holder, if it has one.
    ///
    /// # Errors
    ///
    /// The objection.
    fn may_move(&self) -> Result<(), LedgerError>;

    /// Charges the claim to another holder, for a move.
    ///
    /// # Errors
    ///
    /// [`RegionError::OtherHost`], and [`RegionError::Exhausted`] for the holder's limits.
    fn charge_claim(&self, to: &Owner) -> Result<Vec<Charge>, RegionError>;

    /// Moves the claim to another holder's account. [`may_move`](RegionInternals::may_move) has
    /// permitted it, and the windows of the claim are unmapped.
    fn transferred(self, to: &Arc<Owner>, handle_charge: Charge, claim: Vec<Charge>) -> Region;

    /// Ends all windows of the claim in the memories of the store in hand.
    ///
    /// # Errors
    ///
    /// If the memory could not be restored.
    fn unmap_to_move(&self, store: sys::StoreId) -> Result<(), MemoryError>;
}

impl RegionInternals for Region {
    #[inline]
    fn owner(&self) -> &Arc<Owner> {
        self.owner()
    }

    fn duplicate_for(&self, rights: Rights, to: &Arc<Owner>) -> Result<Region, RegionError> {
        self.duplicate_for(rights, to)
    }

    fn unpinned_spans(&self) -> u64 {
        self.unpinned_spans()
    }

    fn set_queued(&self, queued: bool) {
        self.set_queued(queued);
    }

    fn may_move(&self) -> Result<(), LedgerError> {
        self.may_move()
    }

    fn charge_claim(&self, to: &Owner) -> Result<Vec<Charge>, RegionError> {
        self.charge_claim(to)
    }

    fn transferred(self, to: &Arc<Owner>, handle_charge: Charge, claim: Vec<Charge>) -> Region {
        self.transferred(to, handle_charge, claim)
    }

    fn unmap_to_move(&self, store: sys::StoreId) -> Result<(), MemoryError> {
        self.unmap_to_move(store)
    }
}

/// The receiver of regions, as an app sees it.
pub trait RecipientInternals {
    /// Returns the receiver as a holder.
    fn owner(&self) -> &Arc<Owner>;
}

impl RecipientInternals for Recipient {
    #[inline]
    fn owner(&self) -> &Arc<Owner> {
        self.owner()
    }
}

/// The context of a guest, as an app sees it.
pub trait RegionCtxInternals {
    /// Returns the account and the limits of the guest.
    fn owner(&self) -> &Arc<Owner>;

    /// Returns the table of the guest's regions.
    fn region_table(&mut self) -> &mut RegionTable;

    /// Returns the last windows that were mapped, and how many there were in all.
    fn window_notes(&self) -> (Vec<WindowNote>, u64);

    /// Returns what [`RegionCtx::usage_released`] does, if the guest has claims on these
    /// regions.
    fn released_except(&self, held: &[RegionUsage]) -> (Vec<RegionUsage>, u64);

    /// Returns the violation that a fault at an address of the guest's memory was, if it was
    /// one.
    fn explain_fault(&self, address: usize) -> Option<WriteViolation>;

    /// Returns how many regions the guest has created.
    fn regions_created(&self) -> u64;
}

impl RegionCtxInternals for RegionCtx {
    #[inline]
    fn owner(&self) -> &Arc<Owner> {
        self.owner()
    }

    fn region_table(&mut self) -> &mut RegionTable {
        self.region_table()
    }

    fn window_notes(&self) -> (Vec<WindowNote>, u64) {
        self.window_notes()
    }

    fn released_except(&self, held: &[RegionUsage]) -> (Vec<RegionUsage>, u64) {
        self.released_except(held)
    }

    fn explain_fault(&self, address: usize) -> Option<WriteViolation> {
        self.explain_fault(address)
    }

    fn regions_created(&self) -> u64 {
        self.regions_created()
    }
}

/// Options for the contexts of an app's guests.
pub trait RegionCtxBuilderInternals {
    /// Puts the guest on an existing account.
    #[must_use]
    fn account(self, account: Option<Arc<Account>>) -> RegionCtxBuilder;

    /// Declares that Tombolo makes every call into the store, in turn with the other stores of
    /// its strand, and holds the store for as long as a lend lasts.
    #[must_use]
    fn run_by_us(self, strand: &Strand) -> RegionCtxBuilder;
}

impl RegionCtxBuilderInternals for RegionCtxBuilder {
    fn account(self, account: Option<Arc<Account>>) -> RegionCtxBuilder {
        self.account(account)
    }

    fn run_by_us(self, strand: &Strand) -> RegionCtxBuilder {
        self.run_by_us(strand)
    }
}

/// The host, as an app sees it.
pub trait RegionHostInternals {
    /// Returns the bytes that the end of this holder would free: those that the kernel has
    /// allocated for regions on which nobody else has a claim, and which are not on their way
    /// to somebody else.
    fn exclusive_bytes(&self, owner: &Owner) -> u64;
}

impl RegionHostInternals for RegionHost {
    fn exclusive_bytes(&self, owner: &Owner) -> u64 {
        self.exclusive_bytes(owner)
    }
}

/// The limits of a guest, as an app sees them.
pub trait LimitsInternals {
    /// Returns the limits of a guest's account.
    fn quota(&self) -> Quota;
}

impl LimitsInternals for Limits {
    fn quota(&self) -> Quota {
        self.quota()
    }
}

/// The texts of errors for guests.
pub trait RegionErrorInternals {
    /// Returns the reason for a guest that the limit does not apply to: without the numbers
    /// of a limit, and without messages of the kernel.
    fn for_others(&self) -> String;

    /// Returns the reason for the guest that the limit applies to.
    fn for_its_guest(&self) -> String;
}

impl RegionErrorInternals for RegionError {
    fn for_others(&self) -> String {
        self.for_others()
    }

    fn for_its_guest(&self) -> String {
        self.for_its_guest()
    }
}

/// Parcels of values that have handles to other resources than regions.
pub trait ParcelInternals: Sized {
    /// Packs as [`Parcel::pack`] does, but leaves handles to other resources, streams and futures
    /// in their places.
    ///
    /// # Errors
    ///
    /// [`PackError`].
    fn pack_regions(
        guest: impl AsGuest,
        vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError>;

    /// Packs values of types without handles. Looks at none of them.
    fn plain(vals: Vec<Val>) -> (Parcel, Lending);

    /// Discards as [`Parcel::discard`] does, and passes handles to other resources to `other`.
    ///
    /// # Errors
    ///
    /// As [`Parcel::discard`], and the errors of `other`.
    fn discard_regions<S: AsGuest>(
        guest: S,
        vals: &mut [Val],
        other: impl FnMut(&mut StoreContextMut<'_, S::Data>, ResourceAny) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()>;
}

impl ParcelInternals for Parcel {
    fn pack_regions(
        guest: impl AsGuest,
        vals: Vec<Val>,
        to: &Recipient,
    ) -> Result<(Parcel, Lending), PackError> {
        Parcel::pack_regions(guest, vals, to)
    }

    fn plain(vals: Vec<Val>) -> (Parcel, Lending) {
        Parcel::plain(vals)
    }

    fn discard_regions<S: AsGuest>(
        guest: S,
        vals: &mut [Val],
        other: impl FnMut(&mut StoreContextMut<'_, S::Data>, ResourceAny) -> wasmtime::Result<()>,
    ) -> wasmtime::Result<()> {
        Parcel::discard_regions(guest, vals, other)
    }
}

/// Calls `pack` so that it masks the lender's windows even if the lender's context keeps them
/// mapped: for a lender that runs on while it lends.
pub fn pack_masked<T: RegionView, R>(
    store: &mut StoreContextMut<'_, T>,
    pack: impl FnOnce(&mut StoreContextMut<'_, T>) -> R,
) -> R {
    let kept = replace(&mut store.data_mut().region_ctx().keep_mapped, false);
    let packed = pack(store);
    store.data_mut().region_ctx().keep_mapped = kept;
    packed
}

/// The lends of a call, as an app sees them.
pub trait LendingInternals {
    /// Returns the lends, to ask whether they are over.
    fn lends(&self) -> Lends;

    /// Notes that all lends are known to be over, so that [`Lending::end`] does not ask.
    fn note_over(&mut self);
}

/// The borrowed regions of a call, as an app sees them.
pub trait BorrowedInternals {
    /// Ends the lends of a call that has returned. Returns whether all of them are over then.
    ///
    /// # Errors
    ///
    /// As [`Borrowed::end`].
    fn end_each(self, guest: impl AsGuest) -> wasmtime::Result<bool>;
}

impl BorrowedInternals for Borrowed {
    #[inline]
    fn end_each(self, guest: impl AsGuest) -> wasmtime::Result<bool> {
        self.end_each(guest, WindowEnd::Orderly)
    }
}

impl LendingInternals for Lending {
    fn lends(&self) -> Lends {
        self.lends()
    }

    #[inline]
    fn note_over(&mut self) {
        self.note_over();
    }
}
