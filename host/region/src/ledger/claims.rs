//! Claims: how they begin, move and end, and the accounts that they are charged to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ClaimId, ClaimRecord, Handle, Ledger, LedgerError, WindowId};
use crate::account::{Account, Charge};
use crate::pins::Unpinned;
use crate::rights::Rights;

impl<P> Ledger<P> {
    /// Creates a claim with its first handle.
    pub(super) fn claim(
        &mut self,
        rights: Rights,
        unpinned: Unpinned,
        charges: Vec<Charge>,
    ) -> Handle {
        let claim = ClaimId(self.fresh());
        self.note_account(claim, &charges);
        self.claims.insert(
            claim,
            ClaimRecord {
                handles: 1,
                windows: 0,
                guards: 0,
                lends: 0,
                unpinned,
                charges,
                queued: false,
            },
        );
        Handle {
            claim,
            rights,
            via: None,
            first: true,
        }
    }

    pub(super) fn claim_mut(&mut self, claim: ClaimId) -> &mut ClaimRecord {
        self.claims
            .get_mut(&claim)
            .expect("a claim lives while a handle or window of it does")
    }

    /// Ends a claim if it has neither handles nor windows any more.
    pub(super) fn settle(&mut self, claim: ClaimId) {
        let entry = self.claim_mut(claim);
        if entry.handles > 0 || entry.windows > 0 {
            return;
        }
        let entry = self.claims.remove(&claim).expect("found above");
        self.leave_queue_whole(claim);
        self.windows.forget(claim);
        self.forget_account(claim, &entry.charges);
        self.queued -= u32::from(entry.queued);
        if self.claims.is_empty() || self.purged {
            return;
        }
        self.pins.remove_claim(&entry.unpinned);
    }

    /// Checks whether a handle may be duplicated with these rights.
    ///
    /// # Errors
    ///
    /// Returns, in this order:
    /// - [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the region
    ///   was purged for good;
    /// - [`LedgerError::NotPermitted`] if the handle is lent or lacks one of `rights` or
    ///   [`Rights::SHARE`].
    pub fn may_duplicate(&self, handle: &Handle, rights: Rights) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        self.check_rights(handle, rights | Rights::SHARE)
    }

    /// Creates a new claim with the given rights. It pins what its source pins, which is paid
    /// for. It inherits losses of which its source was not told yet. Takes time linear in the
    /// number of runs that the source does not pin.
    ///
    /// # Errors
    ///
    /// Returns an error as [`may_duplicate`](Ledger::may_duplicate) does.
    pub fn duplicate(
        &mut self,
        handle: &Handle,
        rights: Rights,
        charges: Vec<Charge>,
    ) -> Result<Handle, LedgerError> {
        self.may_duplicate(handle, rights)?;
        let unpinned = self.claims[&handle.claim].unpinned.clone();
        self.pins.add_claim(&unpinned);
        Ok(self.claim(rights, unpinned, charges))
    }

    /// Creates a weaker handle on the same claim, never with [`Rights::SHARE`]. A handle made
    /// from a lent one is lent too.
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the
    /// region was purged for good, and [`LedgerError::NotPermitted`] if the handle lacks one of
    /// `rights`.
    pub fn restrict(&mut self, handle: &Handle, rights: Rights) -> Result<Handle, LedgerError> {
        let rights = rights.without(Rights::SHARE);
        self.check_there(handle)?;
        self.check_rights(handle, rights)?;
        self.claim_mut(handle.claim).handles += 1;
        if let Some(lend) = handle.via.and_then(|lend| self.lends.get_mut(&lend)) {
            lend.handles += 1;
        }
        Ok(Handle {
            claim: handle.claim,
            rights,
            via: handle.via,
            first: false,
        })
    }

    /// Releases a handle, and ends its claim if nothing else keeps it. Releasing a revoked
    /// handle does nothing.
    pub fn release(&mut self, handle: Handle) {
        if self.check(&handle).is_err() {
            return;
        }
        if let Some(lend) = handle.via.and_then(|lend| self.lends.get_mut(&lend)) {
            lend.handles -= 1;
        }
        self.claim_mut(handle.claim).handles -= 1;
        self.settle(handle.claim);
    }

    /// Checks whether the handle, and with it its claim, may move to another holder. Windows do
    /// not move: the layer above first ends the [windows of the claim](Ledger::windows_of).
    ///
    /// # Errors
    ///
    /// Returns, in this order:
    /// - [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the region
    ///   was purged for good;
    /// - [`LedgerError::NotPermitted`] if the handle is lent or lacks [`Rights::SHARE`];
    /// - [`LedgerError::WouldBlock`] while the claim is lent or the host program has a guard
    ///   through it;
    /// - [`LedgerError::NotPermitted`] if the handle is not its claim's first, or while a handle
    ///   restricted from it lives.
    pub fn may_move(&self, handle: &Handle) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_not_lent(handle)?;
        self.check_rights(handle, Rights::SHARE)?;
        let claim = &self.claims[&handle.claim];
        if claim.lends > 0 || self.guarded(handle.claim) {
            return Err(LedgerError::WouldBlock);
        }
        if !handle.first || claim.handles > 1 {
            return Err(LedgerError::NotPermitted);
        }
        Ok(())
    }

    /// Moves a claim to other charges, after its handle has moved. Waiters of the claim leave
    /// the queue.
    pub fn recharge(&mut self, claim: ClaimId, charges: Vec<Charge>) {
        self.leave_queue_whole(claim);
        let before = std::mem::take(&mut self.claim_mut(claim).charges);
        self.forget_account(claim, &before);
        self.note_account(claim, &charges);
        self.claim_mut(claim).charges = charges;
        // The region may have been purged since `may_move`.
        if self.purged {
            self.charge_nothing();
        }
    }

    /// Returns the number of runs that a claim does not pin, which its account counts.
    #[must_use]
    pub fn unpinned_spans(&self, claim: ClaimId) -> u64 {
        let claim = self.claims.get(&claim);
        claim.map_or(0, |claim| claim.unpinned.len() as u64)
    }

    /// Returns whether the host program has a guard through a claim.
    pub(super) fn guarded(&self, claim: ClaimId) -> bool {
        self.claims
            .get(&claim)
            .is_some_and(|claim| claim.guards > 0)
    }

    /// Returns the number of living claims.
    #[must_use]
    pub fn claims(&self) -> usize {
        self.claims.len()
    }

    /// Notes that the claim of a handle is put into a channel, or taken out of it.
    pub fn set_queued(&mut self, handle: &Handle, queued: bool) {
        let before = std::mem::replace(&mut self.claim_mut(handle.claim).queued, queued);
        self.queued += u32::from(queued);
        self.queued -= u32::from(before);
    }

    /// Returns whether any claim is in a channel.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.queued > 0
    }

    /// Returns whether releasing this handle ends its claim.
    #[must_use]
    pub fn ends_with_handle(&self, handle: &Handle) -> bool {
        let claim = self.claims.get(&handle.claim);
        handle.via.is_none() && claim.is_some_and(|it| it.handles == 1 && it.windows == 0)
    }

    /// Returns whether closing this window ends its claim.
    #[must_use]
    pub fn ends_with_window(&self, window: WindowId) -> bool {
        let claim = self.windows.get(window).filter(|it| it.via.is_none());
        let claim = claim.and_then(|window| self.claims.get(&window.claim));
        claim.is_some_and(|it| it.handles == 0 && it.windows == 1)
    }

    /// Returns the accounts to which claims are charged, each once.
    pub fn holders(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values().filter_map(|claims| {
            let claim = &self.claims[claims.first()?];
            Some(claim.charges.first()?.account())
        })
    }

    /// Returns the claims that are charged to an account.
    pub fn claims_on(&self, account: &Arc<Account>) -> impl ExactSizeIterator<Item = ClaimId> {
        static NONE: BTreeSet<ClaimId> = BTreeSet::new();
        let claims = self.accounts.get(&Arc::as_ptr(account).addr());
        claims.unwrap_or(&NONE).iter().copied()
    }

    pub(super) fn note_account(&mut self, claim: ClaimId, charges: &[Charge]) {
        if let Some(charge) = charges.first() {
            let account = Arc::as_ptr(charge.account()).addr();
            self.accounts.entry(account).or_default().insert(claim);
        }
    }

    pub(super) fn forget_account(&mut self, claim: ClaimId, charges: &[Charge]) {
        let account = charges
            .first()
            .map(|charge| Arc::as_ptr(charge.account()).addr());
        if let Some(account) = account
            && let Some(claims) = self.accounts.get_mut(&account)
        {
            claims.remove(&claim);
            if claims.is_empty() {
                self.accounts.remove(&account);
            }
        }
    }
}
