//! Lends: how they begin, are revoked, and end.
//!
//! A lend is over when it was revoked, each window made via it is closed, and each lend made
//! from it is over. Handles do not count, because a revoked handle permits nothing. So a guest
//! that keeps one delays nobody.
//!
//! A lend within one guest is one that the guest makes for another part of itself, and that no
//! call ends. So it is revoked with the lend through which the guest itself has the handle.
//! Otherwise a borrower could keep its lender waiting.
//!
//! [`Ledger`] describes how a lend sets the lender's windows aside.

use super::{Handle, Ledger, LedgerError, LendId, LendRecord};
use crate::rights::Rights;

/// The most lends that are made one from the other. Guests could otherwise pass a region on and
/// return, again and again: then the first lend would never be over, and the records of revoked
/// ones would add up.
const MOST_DEEP: u32 = 512;

impl<P> Ledger<P> {
    /// Begins a lend. Returns the borrower's handle, never with [`Rights::SHARE`]: a lent handle
    /// can be neither duplicated nor moved.
    ///
    /// # Errors
    ///
    /// Returns, in this order:
    /// - [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the region
    ///   was purged for good;
    /// - [`LedgerError::NotPermitted`] if the handle lacks one of `rights`, or comes from 512 lends
    ///   that were made one from the other and are not over;
    /// - [`LedgerError::WouldBlock`] while the host program has a guard through the claim. No
    ///   lend sets guards aside.
    pub fn lend(&mut self, handle: &Handle, rights: Rights) -> Result<Handle, LedgerError> {
        let rights = rights.without(Rights::SHARE);
        self.check_there(handle)?;
        self.check_rights(handle, rights)?;
        let parent = handle.via.and_then(|via| self.lends.get(&via));
        let depth = parent.map_or(0, |parent| parent.depth + 1);
        if depth >= MOST_DEEP {
            return Err(LedgerError::NotPermitted);
        }
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
                depth,
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

    /// Begins a lend as [`lend`](Ledger::lend) does, within the guest that has the handle. It is
    /// [revoked](Ledger::revoke) at the latest with the lend by which the guest has the handle.
    ///
    /// # Errors
    ///
    /// Returns an error as [`lend`](Ledger::lend) does.
    pub fn lend_within(&mut self, handle: &Handle, rights: Rights) -> Result<Handle, LedgerError> {
        let lent = self.lend(handle, rights)?;
        if let (Some(parent), Some(lend)) = (handle.via, lent.via) {
            self.within.insert((parent, lend));
        }
        Ok(lent)
    }

    /// Returns the lends within a guest that were made from this one, and from those, and are not
    /// over yet.
    #[must_use]
    #[inline]
    pub fn lends_within(&self, lend: LendId) -> Vec<LendId> {
        match self.within.is_empty() {
            true => Vec::new(),
            false => self.find_lends_within(lend),
        }
    }

    fn find_lends_within(&self, lend: LendId) -> Vec<LendId> {
        let mut all = Vec::new();
        let mut next = Some(lend);
        let mut seen = 0;
        while let Some(parent) = next {
            let of_parent = (parent, LendId(0))..=(parent, LendId(u64::MAX));
            all.extend(self.within.range(of_parent).map(|(_, lend)| *lend));
            next = all.get(seen).copied();
            seen += 1;
        }
        all
    }

    /// Revokes the lent handle and those restricted from it. They no longer keep the claim
    /// alive or prevent its move. So are the [lends within](Ledger::lends_within) the borrower that
    /// were made from this one. Revoking again does nothing.
    ///
    /// The caller must close the windows made via these lends, before or after this call. Until
    /// then the lend is not [over](Ledger::is_over).
    pub fn revoke(&mut self, lend: LendId) {
        for within in self.lends_within(lend) {
            self.revoke_one(within);
        }
        self.revoke_one(lend);
    }

    #[inline]
    fn revoke_one(&mut self, lend: LendId) {
        let Some(entry) = self.lends.get_mut(&lend) else {
            return;
        };
        if std::mem::replace(&mut entry.revoked, true) {
            return;
        }
        let (claim, handles) = (entry.claim, std::mem::take(&mut entry.handles));
        self.leave_queue(claim, Some(lend));
        // If all of them were released, the claim may be gone already.
        if handles > 0 {
            self.claim_mut(claim).handles -= handles;
            self.settle(claim);
        }
        self.settle_lend(lend);
    }

    /// Ends a lend that is over, and then those of its ancestors that are.
    pub(super) fn settle_lend(&mut self, lend: LendId) {
        let mut next = Some(lend);
        while let Some(id) = next {
            match self.lends.get(&id) {
                Some(entry) if entry.revoked && entry.children == 0 && entry.windows == 0 => {}
                _ => return,
            }
            let entry = self.lends.remove(&id).expect("found above");
            self.lends_over = true;
            // If the lender died and no borrower has a handle or window, the claim is gone.
            if let Some(claim) = self.claims.get_mut(&entry.claim) {
                claim.lends -= 1;
            }
            if let Some(parent) = entry.parent.and_then(|parent| self.lends.get_mut(&parent)) {
                parent.children -= 1;
            }
            if let Some(parent) = entry.parent
                && !self.within.is_empty()
            {
                self.within.remove(&(parent, id));
            }
            next = entry.parent;
        }
    }

    /// Returns whether any lend has ended since the last call.
    #[inline]
    pub fn take_lends_over(&mut self) -> bool {
        std::mem::take(&mut self.lends_over)
    }

    /// Returns whether a lend has ended, with each lend made from it and each window made via
    /// them. Only then may the lender go on.
    #[must_use]
    #[inline]
    pub fn is_over(&self, lend: LendId) -> bool {
        !self.lends.contains_key(&lend)
    }
}
