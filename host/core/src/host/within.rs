//! Lends within one guest: to a part of it that was composed with the others into one component.
//!
//! Such a lend is not the length of a call, because the host sees no calls between the parts. It
//! ends with the lent handle. So its handle carries what is needed to end it, wherever it goes.
//! The windows are masked and unmasked by the module `window`, with the store in hand.

use tombolo_region::ChargeKind;

use super::handle::Region;
use super::owner::LendWithin;
use super::region::MaskedWindows;
use crate::error::RegionError;

impl Region {
    /// Lends the region to its own holder. No window is masked yet.
    pub(crate) fn lend_to_holder(&self) -> Result<Region, RegionError> {
        self.check_process()?;
        let owner = self.owner();
        let within = LendWithin::new(owner)?;
        let charge = owner.account.charge(ChargeKind::Handles, 1)?;
        let handle = self
            .inner()
            .ledger()
            .lend_within(self.handle(), self.rights())?;
        let mut lent = Region::new(self.inner(), owner, handle, charge);
        lent.within = Some(Box::new(within));
        Ok(lent)
    }

    /// Returns whether a lend within its guest ends with this handle.
    #[inline]
    pub(crate) fn ends_lend_within(&self) -> bool {
        self.within.is_some()
    }

    /// Notes the lender's windows that are masked for the lend.
    pub(crate) fn set_masked(&mut self, masked: MaskedWindows) {
        if let Some(within) = &mut self.within {
            within.masked = masked;
        }
    }

    /// Takes the windows that were masked for the lend, to unmask them.
    pub(crate) fn take_masked(&mut self) -> MaskedWindows {
        let within = self.within.as_mut();
        within.map_or_else(MaskedWindows::default, |it| std::mem::take(&mut it.masked))
    }
}
