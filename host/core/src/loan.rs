//! Regions that a guest lends to a function of the host program.
//!
//! A guest passes `borrow<region>` to an import. The function that the host program registered for
//! it gets a `Resource<Region>`, and [`Region::borrow`] makes a loan of that. It sets the guest's
//! windows aside, so the function reads and writes in place, while the guest holds them.
//!
//! # Why the guest's windows stay mapped
//!
//! All windows that a loan sets aside are in the store in hand, which [`Region::borrow`] checks. A
//! [`HeldLoan`] borrows that store exclusively. So no wasm of the store runs, and no slice of the
//! guest's memory is alive or can be formed, until the loan ends. Guards borrow the loan and end
//! with it. A guard that is forgotten keeps its lock, but nobody can reach its bytes any more.
//! A [`MaskedLoan`] gives the store back, and for that masks the guest's windows first, as
//! `Parcel::pack` does.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, RangeBounds};
use std::sync::atomic::{AtomicBool, Ordering};

use tombolo_region::{LendId, Rights};
use wasmtime::component::Resource;
use wasmtime::{AsContextMut, StoreContextMut};

use crate::error::RegionError;
use crate::guest::AsGuest;
use crate::host::{MaskedWindows, ReadGuard, Region, WriteGuard};
use crate::identity::RegionId;
use crate::sys::StoreId;
use crate::transfer::{LendRevoker, PackError, Transfer};
use crate::window::{mask_all, windows_of};

impl Region {
    /// Borrows a region in a function of the host program that a guest calls with
    /// `borrow<region>`. Until the loan ends, the guest's windows on the region are set aside: the
    /// function reads and writes in place, even under them. Other guests' windows still conflict.
    ///
    /// This function, called with a handle that the guest passed to an import, computes a checksum
    /// without copying:
    ///
    /// ```
    /// use tombolo::wasmtime::component::{Linker, Resource};
    /// use tombolo::wasmtime::{Result, StoreContextMut};
    /// use tombolo::{Region, RegionView};
    ///
    /// fn add_to_linker<T: RegionView>(linker: &mut Linker<T>) -> Result<()> {
    ///     linker.instance("example:host/checksums")?.func_wrap(
    ///         "fnv",
    ///         |mut store: StoreContextMut<'_, T>, (region,): (Resource<Region>,)| {
    ///             let region = Region::borrow(&mut store, region)?;
    ///             let bytes = region.try_read(..)?;
    ///             let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
    ///                 (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    ///             });
    ///             Ok((hash,))
    ///         },
    ///     )
    /// }
    /// ```
    ///
    /// A function that writes calls [`HeldLoan::end`]. If it fails before, the region is poisoned:
    ///
    /// ```
    /// # use tombolo::wasmtime::component::{Linker, Resource};
    /// # use tombolo::wasmtime::{Result, StoreContextMut};
    /// # use tombolo::{Region, RegionView};
    /// # fn add_to_linker<T: RegionView>(linker: &mut Linker<T>) -> Result<()> {
    /// # linker.instance("example:host/fills")?.func_wrap(
    /// #     "fill",
    /// |mut store: StoreContextMut<'_, T>, (region, byte): (Resource<Region>, u8)| {
    ///     let region = Region::borrow(&mut store, region)?;
    ///     region.try_write(..)?.fill(byte);
    ///     region.end();
    ///     Ok(())
    /// }
    /// # )
    /// # }
    /// ```
    ///
    /// Asynchronous functions work in the same way: with `func_wrap_async` the loan and its guards
    /// can be kept across an `await`. In a function of `func_wrap_concurrent`, the loan lasts for
    /// one `Accessor::with`, or [masks](HeldLoan::mask) the guest's windows. A function that takes
    /// an owned `region` calls [`Region::take`].
    ///
    /// Does not block, and costs the same for regions of all sizes. The loan is on the account of
    /// the host program.
    ///
    /// # Errors
    ///
    /// [`PackError::Refused`] while a guard of the host program lives on the guest's claim, or if
    /// the region was purged. [`PackError::Fatal`] if `handle` is no handle of this guest, if the
    /// guest wrote to a read-only window, or if its context was swapped out of another store where
    /// it has windows on the region. The guest traps if the function returns that.
    pub fn borrow<'a, G: AsGuest>(
        guest: &'a mut G,
        handle: Resource<Region>,
    ) -> Result<HeldLoan<'a, G::Data>, PackError> {
        let mut guest = guest.as_guest();
        let (id, ctx) = guest.bound();
        ctx.check().map_err(wasmtime::Error::from)?;
        let lender = ctx.region_table.get(&handle);
        let lender = lender.map_err(wasmtime::Error::from)?;
        let rights = lender.rights().without(Rights::SHARE);
        let lent = lender.lend_to(rights, ctx.host().own());
        let region = lent.map_err(|reason| PackError::Refused {
            region: lender.name().to_owned(),
            transfer: Transfer::Lend,
            reason,
        })?;
        let via = lender.handle().lend();
        let revoker = LendRevoker::new(&region);
        // The windows that are set aside. The context may have been swapped out of another store,
        // which is not in hand and whose guest can run.
        let windows = windows_of(&region.inner().ledger(), revoker.claim, via);
        let mut memories = windows.iter().map(|(_, _, location)| &location.memory);
        if !memories.all(|memory| memory.belongs_to(id)) {
            let error = "a window of the guest is in another store than the one in hand";
            return Err(wasmtime::Error::msg(error).into());
        }
        let loan = Loan {
            region,
            revoker,
            via,
            wrote: AtomicBool::new(false),
            orderly: false,
        };
        let store = guest.into_store();
        Ok(HeldLoan { loan, store })
    }
}

/// A region that a guest has lent to a function of the host program; see [`Region::borrow`].
///
/// Guards borrow it, so they end before it does. It is dropped with the [`HeldLoan`] or
/// [`MaskedLoan`] that it is part of.
pub struct Loan {
    region: Region,
    revoker: LendRevoker,
    /// The lend by which the guest has the region, if it is a borrower itself.
    via: Option<LendId>,
    /// Whether the function wrote, or had a guard that can.
    wrote: AtomicBool,
    orderly: bool,
}

impl Loan {
    /// Returns the region's identity.
    #[must_use]
    pub fn id(&self) -> RegionId {
        self.region.id()
    }

    /// Returns the region's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.region.name()
    }

    /// Returns the region's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.region.size()
    }

    /// Returns the rights of the loan: those of the guest's handle, without [`Rights::SHARE`].
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.region.rights()
    }

    /// Takes a guard that reads a range in place, as [`Region::try_read`] does.
    ///
    /// # Errors
    ///
    /// As there. [`RegionError::WouldBlock`] if another guest writes.
    pub fn try_read(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LoanGuard<'_, ReadGuard>, RegionError> {
        self.region.try_read(range).map(LoanGuard::new)
    }

    /// Takes such a guard, but waits for its turn, as [`Region::read`] does. Dropping the future
    /// leaves the queue.
    ///
    /// # Errors
    ///
    /// As [`Region::read`].
    pub async fn read(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LoanGuard<'_, ReadGuard>, RegionError> {
        self.region.read(range).await.map(LoanGuard::new)
    }

    /// Takes a guard that writes a range in place, as [`Region::try_write`] does.
    ///
    /// # Errors
    ///
    /// As there. [`RegionError::WouldBlock`] if another guest has a window.
    pub fn try_write(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LoanGuard<'_, WriteGuard>, RegionError> {
        let guard = self.region.try_write(range)?;
        Ok(self.writing(guard))
    }

    /// Takes such a guard, but waits for its turn, as [`Region::write`] does. Dropping the future
    /// leaves the queue.
    ///
    /// # Errors
    ///
    /// As [`Region::write`].
    pub async fn write(
        &self,
        range: impl RangeBounds<u64>,
    ) -> Result<LoanGuard<'_, WriteGuard>, RegionError> {
        let guard = self.region.write(range).await?;
        Ok(self.writing(guard))
    }

    fn writing(&self, guard: WriteGuard) -> LoanGuard<'_, WriteGuard> {
        self.wrote.store(true, Ordering::Relaxed);
        LoanGuard::new(guard)
    }

    /// Copies bytes out, as [`Region::read_at`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_at(&self, range: impl RangeBounds<u64>) -> Result<Vec<u8>, RegionError> {
        self.region.read_at(range)
    }

    /// Copies bytes in, as [`Region::write_at`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), RegionError> {
        self.wrote.store(true, Ordering::Relaxed);
        self.region.write_at(offset, bytes)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.orderly && *self.wrote.get_mut() {
            self.region.poison();
        }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("region", &self.name())
            .finish_non_exhaustive()
    }
}

/// A loan that keeps the store borrowed, so that the guest's windows can stay mapped.
///
/// Dropping it ends the loan. If the function has written, or has had a guard that can, that
/// poisons the region: the function failed, panicked or was cancelled, and may have left a
/// half-written value. [`end`](HeldLoan::end) ends it in order.
pub struct HeldLoan<'a, T: 'static> {
    loan: Loan,
    store: StoreContextMut<'a, T>,
}

impl<'a, T: 'static> HeldLoan<'a, T> {
    /// Ends the loan in order: what was written is complete. A function that only reads need not
    /// call it.
    pub fn end(mut self) {
        self.loan.orderly = true;
    }

    /// Returns the store's data, for example the state of a codec.
    pub fn data_mut(&mut self) -> &mut T {
        self.store.data_mut()
    }

    /// Returns the loan and the store's data, to use both at a time.
    pub fn parts(&mut self) -> (&Loan, &mut T) {
        (&self.loan, self.store.data_mut())
    }

    /// Masks the guest's windows and returns the store, for functions that cannot keep it, such as
    /// those of `func_wrap_concurrent`. Until the loan ends the guest sees zero pages there, unless
    /// all it can do on both sides is to read.
    ///
    /// Costs a system call for each window that is masked, and another one at the end.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. The loan ends then.
    pub fn mask(self) -> wasmtime::Result<MaskedLoan> {
        let HeldLoan { loan, store } = self;
        let revoker = &loan.revoker;
        let writes = loan.rights().contains(Rights::WRITE);
        let id = StoreId::of(&store);
        let masked = mask_all(id, &revoker.region, revoker.claim, loan.via, writes)?;
        Ok(MaskedLoan { loan, masked })
    }
}

impl<T: 'static> fmt::Debug for HeldLoan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.loan.fmt(f)
    }
}

impl<T: 'static> Deref for HeldLoan<'_, T> {
    type Target = Loan;
    fn deref(&self) -> &Loan {
        &self.loan
    }
}

/// A loan without the store, in which the guest's windows are masked; see [`HeldLoan::mask`].
///
/// Dropping it ends the loan, as dropping a [`HeldLoan`] does, but leaves the windows masked until
/// the guest unmaps them or its store is dropped. [`end`](MaskedLoan::end) maps them again.
#[derive(Debug)]
#[must_use = "the guest's windows stay masked until `end`"]
pub struct MaskedLoan {
    loan: Loan,
    masked: MaskedWindows,
}

impl MaskedLoan {
    /// Ends the loan in order, and maps the guest's windows again. They show what was written.
    ///
    /// # Errors
    ///
    /// If it is another store, or the kernel refuses. The guest cannot go on then.
    pub fn end(mut self, store: impl AsContextMut) -> wasmtime::Result<()> {
        self.loan.orderly = true;
        self.masked.unmask(StoreId::of(store))?;
        Ok(())
    }
}

impl Deref for MaskedLoan {
    type Target = Loan;
    fn deref(&self) -> &Loan {
        &self.loan
    }
}

/// A guard on a [`Loan`]: a [`ReadGuard`] or a [`WriteGuard`], which ends before the loan does.
pub struct LoanGuard<'l, G> {
    guard: G,
    loan: PhantomData<&'l Loan>,
}

impl<G> LoanGuard<'_, G> {
    fn new(guard: G) -> Self {
        LoanGuard {
            guard,
            loan: PhantomData,
        }
    }
}

impl<G: Deref<Target = [u8]>> Deref for LoanGuard<'_, G> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.guard
    }
}

impl<G: DerefMut<Target = [u8]>> DerefMut for LoanGuard<'_, G> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.guard
    }
}

impl<G: fmt::Debug> fmt::Debug for LoanGuard<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}
