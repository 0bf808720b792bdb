//! Lends: how they begin, are revoked, and are over.

use super::super::Rights;
use super::{Handle, Ledger, LedgerError, LendId, LendRecord};

impl<P> Ledger<P> {
    /// Begins a lend: makes the handle that the borrower gets. Never with
    /// [`Rights::SHARE`], since what is lent can be neither duplicated nor
    /// moved.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Gone`]; [`LedgerError::Purged`]; [`LedgerError::NotPermitted`];
    /// [`LedgerError::WouldBlock`] while the host program has a guard through the claim,
    /// which no lend sets aside.
    pub fn lend(&mut self, handle: &Handle, rights: Rights) -> Result<Handle, LedgerError> {
        let rights = rights.without(Rights::SHARE);
        self.check_there(handle)?;
        self.check_rights(handle, rights)?;
        if self.guarded(handle.claim) {
            return Err(LedgerError::WouldBlock);
        }
        let id = LendId(self.fresh());
        if let Some(parent) = handle.via {
            self.lends.get_mut(&parent).expect("checked above").children += 1;
        }
        self.lends.insert(
            id,
            LendRecord {
                claim: handle.claim,
                parent: handle.via,
                children: 0,
                handles: 1,
                windows: 0,
                revoked: false,
            },
        );
        let claim = self.claim_mut(handle.claim);
        claim.lends += 1;
        claim.handles += 1;
        Ok(Handle {
            claim: handle.claim,
            rights,
            via: Some(id),
            first: false,
        })
    }

    /// Ends a lend: the lent handle, and what was restricted from it, are
    /// revoked. Whoever keeps them anyway keeps nothing: they hold up neither
    /// the claim nor its move. The windows made through it are the caller's to
    /// end, before or after; until then the lend is not over.
    pub fn revoke(&mut self, lend: LendId) {
        let Some(entry) = self.lends.get_mut(&lend) else {
            return;
        };
        if std::mem::replace(&mut entry.revoked, true) {
            return;
        }
        let (claim, handles) = (entry.claim, std::mem::take(&mut entry.handles));
        self.leave_queue(claim, Some(lend));
        // Where all of them were released, the claim may be gone already.
        if handles > 0 {
            self.claim_mut(claim).handles -= handles;
            self.settle(claim);
        }
        self.settle_lend(lend);
    }

    pub(super) fn settle_lend(&mut self, lend: LendId) {
        let mut next = Some(lend);
        while let Some(id) = next {
            match self.lends.get(&id) {
                Some(entry) if entry.revoked && entry.children == 0 && entry.windows == 0 => {}
                _ => return,
            }
            let entry = self.lends.remove(&id).expect("found above");
            self.lends_over = true;
            // The claim does not outlive a lender that died where nobody below
            // has anything of it either.
            if let Some(claim) = self.claims.get_mut(&entry.claim) {
                claim.lends -= 1;
            }
            if let Some(parent) = entry.parent.and_then(|parent| self.lends.get_mut(&parent)) {
                parent.children -= 1;
            }
            next = entry.parent;
        }
    }

    /// Returns whether any lend has ended since the last call.
    pub fn take_lends_over(&mut self) -> bool {
        std::mem::take(&mut self.lends_over)
    }

    /// Tells whether a lend, all that was lent on from it, and every window made
    /// through them have ended, so that the lender may go on.
    #[must_use]
    pub fn is_over(&self, lend: LendId) -> bool {
        !self.lends.contains_key(&lend)
    }
}
