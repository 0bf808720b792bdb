//! Lends within one guest, in its memories.
//!
//! The parts of a composed component call each other without the host. So the guest says when a
//! lend begins, by `windows.lend`, and when it ends, by the drop of the lent handle. Between the
//! two the lender's windows are masked, in all stores: the guest runs on, and its memories would
//! show the same bytes twice.
//!
//! The lent handle is one of a lend like any other. It is never moved, because it is not the
//! first of its claim. The lend ends with it:
//!
//! | the handle | the lend |
//! |---|---|
//! | is dropped by the guest, or refused on its way out | ends, and the lender's windows are unmasked |
//! | outlives the lend through which the guest has the region | is revoked, and its windows end with that lend |
//! | goes with its context, or with an entry of its table | is revoked; its windows stay until the store is dropped |

use tombolo_region::{Rights, WindowEnd};

use crate::error::MemoryError;
use crate::host::Region;
use crate::sys::StoreId;
use crate::window::{mask_all, unmap_each, windows_under};

impl Region {
    /// Lends the region within the guest of the store in hand: masks the windows of the claim that
    /// could tear those made through the lent handle, or be torn by them. They stay masked until
    /// the handle is dropped by [`drop_in`](Region::drop_in).
    pub(crate) fn lend_within(&self, store: StoreId) -> Result<Region, MemoryError> {
        let mut lent = self.lend_to_holder()?;
        let (claim, via) = (self.handle().claim(), self.handle().lend());
        let writes = lent.rights().contains(Rights::WRITE);
        lent.set_masked(mask_all(store, self.inner(), claim, via, writes)?);
        tracing::debug!(
            region = %self.inner().name,
            id = %self.id(),
            guest = &*self.owner().name,
            "region lent within its guest"
        );
        Ok(lent)
    }

    /// Drops the handle of a guest with its store in hand. If the guest had lent it within itself,
    /// the windows made through it end, and then the lender's are unmasked.
    #[inline]
    pub(crate) fn drop_in(self, store: StoreId) -> Result<(), MemoryError> {
        match self.ends_lend_within() {
            true => self.end_within(store),
            false => Ok(()),
        }
    }

    fn end_within(mut self, store: StoreId) -> Result<(), MemoryError> {
        let inner = self.inner().clone();
        let masked = self.take_masked();
        let claim = self.handle().claim();
        let Some(lend) = self.handle().lend() else {
            return Ok(());
        };
        let windows = inner
            .ledger
            .revoke(lend, |ledger| windows_under(ledger, claim, lend));
        drop(self);
        // If one of them cannot be unmapped, the lender's stay masked, and the guest ends.
        unmap_each(store, &inner, windows, WindowEnd::Orderly)?;
        let over = inner.ledger().is_over(lend);
        tracing::debug!(region = %inner.name, id = %inner.id, over, "lend within a guest ended");
        match over {
            true => masked.unmask(store),
            // A guest that it was lent on to has it still, after the call was dropped.
            false => masked.unmap(store, &inner),
        }
    }
}
