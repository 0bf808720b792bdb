//! Lends, from the side of the lender.

use std::sync::Arc;

use tombolo_region::{ClaimId, LendId, Rights, WindowEnd};
use wasmtime::AsContextMut;

use super::Recipient;
use super::few::Few;
use crate::error::{MemoryError, RegionError};
use crate::host::{MaskedWindows, Region, RegionInner};
use crate::sys::StoreId;
use crate::window::{unmap_all, unmap_each, windows_of, windows_under};

/// A guard that revokes a lend when it is dropped.
#[derive(Debug)]
pub(crate) struct LendRevoker {
    pub(crate) region: Arc<RegionInner>,
    pub(crate) claim: ClaimId,
    pub(super) lend: LendId,
    revoked: bool,
    /// Whether the region had claims when the lend ended, and no windows were left. Then the
    /// region is freed when the last claim ends, and not now.
    claimed: bool,
    /// Whether the ledger said that the lend is over, which is final.
    over: bool,
}

impl LendRevoker {
    #[inline]
    pub(crate) fn new(lent: &Region) -> LendRevoker {
        LendRevoker {
            region: lent.inner().clone(),
            claim: lent.handle().claim(),
            lend: lent.handle().lend().expect("it was just lent"),
            revoked: false,
            claimed: false,
            over: false,
        }
    }

    /// Revokes the lend, and ends the borrower's windows.
    #[inline]
    pub(super) fn end(&mut self, store: StoreId, end: WindowEnd) -> Result<(), MemoryError> {
        self.revoked = true;
        let (windows, claimed, over) = self.region.ledger.revoke(self.lend, |ledger| {
            let windows = windows_under(ledger, self.claim, self.lend);
            (windows, ledger.claims() > 0, ledger.is_over(self.lend))
        });
        self.over = over;
        self.claimed = claimed && windows.is_empty();
        unmap_each(store, &self.region, windows, end)
    }

    /// Returns whether this is a handle of the lend.
    #[inline]
    pub(super) fn is_of(&self, region: &Region) -> bool {
        Arc::ptr_eq(region.inner(), &self.region) && region.handle().lend() == Some(self.lend)
    }

    /// Returns whether the lend was over when it ended.
    #[inline]
    pub(super) fn was_over(&self) -> bool {
        self.over
    }

    /// Drops the borrower's handle, after [`end`](LendRevoker::end).
    #[inline]
    pub(super) fn drop_revoked(&self, region: Region) {
        match self.claimed {
            true => region.drop_revoked(),
            false => drop(region),
        }
    }
}

impl Drop for LendRevoker {
    #[inline]
    fn drop(&mut self) {
        if !self.revoked {
            self.region.ledger.revoke(self.lend, |_| ());
        }
        if !self.claimed {
            self.region.settle();
        }
        tracing::debug!(region = %self.region.name, id = %self.region.id, "lend ended");
    }
}

/// The lender's side of the lends of one [`Parcel`](crate::Parcel).
///
/// Dropping it ends no lend, but leaves the lender's windows masked. Call
/// [`end`](Lending::end) or [`abandon`](Lending::abandon).
#[derive(Debug, Default)]
#[must_use = "the lender goes on only after `end`"]
pub struct Lending {
    pub(super) lent: Few<Lent>,
    pub(super) masked: Vec<MaskedWindows>,
    /// Whether the ledger said that all of them are over, which is final.
    over: bool,
}

#[derive(Debug)]
pub(super) struct Lent {
    pub(super) region: Arc<RegionInner>,
    pub(super) claim: ClaimId,
    /// The lend by which the lender has it, if it is a borrower itself.
    pub(super) via: Option<LendId>,
    pub(super) lend: LendId,
}

/// The lends of one [`Parcel`](crate::Parcel), to ask whether they are over. It holds nothing up.
#[derive(Clone, Debug, Default)]
pub struct Lends(Vec<(Arc<RegionInner>, LendId)>);

impl Lends {
    /// Lends a region to a guest, with or without a store. The lend ends when the handle is
    /// dropped and [`revoke`](Lends::revoke) was called.
    ///
    /// # Errors
    ///
    /// As [`Region::lend`](crate::Region::lend).
    pub fn to(
        recipient: &Recipient,
        region: &Region,
        rights: Rights,
    ) -> Result<(Region, Lends), RegionError> {
        let lent = region.lend_to(rights, recipient.owner())?;
        let lend = lent.handle().lend().expect("it was lent just now");
        let lends = Lends(vec![(region.inner().clone(), lend)]);
        Ok((lent, lends))
    }

    /// Ends the lends, except for open windows.
    pub fn revoke(&self) {
        for (region, lend) in &self.0 {
            region.ledger().revoke(*lend);
        }
    }

    /// Returns whether all the lends are over; see [`Lending::is_over`].
    pub fn are_over(&self) -> bool {
        self.0
            .iter()
            .all(|(region, lend)| region.ledger().is_over(*lend))
    }
}

impl Lending {
    /// Returns the lends, to ask whether they are over.
    pub(crate) fn lends(&self) -> Lends {
        let lends = self.lent.as_slice().iter();
        Lends(lends.map(|it| (it.region.clone(), it.lend)).collect())
    }

    /// Notes that the ledger said that all lends are over.
    #[inline]
    pub(crate) fn note_over(&mut self) {
        self.over = true;
    }

    /// Returns whether the lends, and all re-lends of them, have ended.
    #[must_use]
    #[inline]
    pub fn is_over(&self) -> bool {
        let mut lent = self.lent.as_slice().iter();
        self.over || lent.all(|lent| lent.region.ledger().is_over(lent.lend))
    }

    /// Waits until the lends, and all re-lends of them, have ended. This takes longer than the
    /// call if a borrower died while another guest still had what it re-lent. Dropping the
    /// future changes nothing.
    pub async fn over(&self) {
        for lent in self.lent.as_slice().iter() {
            lent.region.ledger.over(lent.lend).await;
        }
    }

    /// Lets the lender go on: unmasks its windows, if they were masked. Takes a system call for
    /// each.
    ///
    /// # Errors
    ///
    /// If the lends are not [over](Lending::is_over), or the kernel refuses to map the windows.
    /// The lender cannot go on then.
    #[inline]
    pub fn end(self, store: impl AsContextMut) -> wasmtime::Result<()> {
        if !self.is_over() {
            wasmtime::bail!("the lender may go on only when the lend is over");
        }
        let store = StoreId::of(store);
        for masked in self.masked {
            masked.unmask(store)?;
        }
        Ok(())
    }

    /// Ends the lender's windows on the lent regions, for a call that is dropped while the
    /// borrower goes on: they become zero pages.
    ///
    /// # Errors
    ///
    /// If the memory could not be restored. Do not enter the lender again then.
    pub fn abandon(self, store: impl AsContextMut) -> wasmtime::Result<()> {
        let store = StoreId::of(store);
        let mut result = Ok(());
        for lent in self.lent.as_slice().iter() {
            // All of them, even if one cannot be ended.
            let ended = unmap_all(store, &lent.region, lent.claim, lent.via, WindowEnd::Died);
            result = result.and(ended);
        }
        Ok(result?)
    }

    /// Ends the masked windows of the lender on the lent regions in order, for a call that the
    /// lender has cancelled while the borrower goes on. They become zero pages and poison
    /// nothing, so that the borrower is not affected. Their window objects answer that they are
    /// gone. Windows that are not masked stay, because they do not conflict with the borrower's.
    ///
    /// # Errors
    ///
    /// If the memory could not be restored. Do not enter the lender again then.
    pub fn relinquish(self, store: impl AsContextMut) -> wasmtime::Result<()> {
        let store = StoreId::of(store);
        let mut result = Ok(());
        for lent in self.lent.as_slice().iter() {
            let mut windows = windows_of(&lent.region.ledger(), lent.claim, lent.via);
            windows.retain(|(_, _, location)| {
                let mut masked = self.masked.iter();
                masked.any(|masked| masked.has(location))
            });
            // All of them, even if one cannot be ended.
            let ended = unmap_each(store, &lent.region, windows, WindowEnd::Orderly);
            result = result.and(ended);
        }
        Ok(result?)
    }
}
