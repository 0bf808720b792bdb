//! The lock: windows and guards, and which of them conflict.

use super::{
    Access, ClaimId, Handle, Holder, Ledger, LedgerError, LendId, WindowEnd, WindowId, WindowRecord,
};
use crate::rights::Rights;
use crate::span::Span;

impl<P> Ledger<P> {
    /// Returns whether a lend on the way from the owner to `via` sets this window of the claim
    /// aside: the lender had it when that lend began.
    pub(super) fn is_aside(
        &self,
        id: WindowId,
        window: &WindowRecord<P>,
        via: Option<LendId>,
    ) -> bool {
        if window.holder == Holder::Host {
            return false;
        }
        let mut at = via;
        while let Some(lend) = at {
            let Some(entry) = self.lends.get(&lend) else {
                return false;
            };
            if entry.parent == window.via {
                return id.0 < lend.0;
            }
            at = entry.parent;
        }
        false
    }

    /// Returns the tags of the windows that are set aside for a borrower by the lend `via`.
    pub(super) fn tags_aside(&self, claim: ClaimId, via: Option<LendId>) -> Vec<u64> {
        let mut tags = Vec::new();
        let mut at = via;
        while let Some(lend) = at {
            let Some(entry) = self.lends.get(&lend) else {
                return tags;
            };
            tags.push(tag(claim, entry.parent));
            at = entry.parent;
        }
        tags
    }

    /// Returns the tag of a new window. It is 0 if the host holds the window, or if its claim has been
    /// lent or its lend re-lent. All windows with another tag are set aside for borrowers of any
    /// later lend, because they existed when it began.
    fn tag(&self, claim: ClaimId, via: Option<LendId>, holder: Holder) -> u64 {
        let lends_on = match via {
            None => self.claims[&claim].lends > 0,
            Some(lend) => self.lends.get(&lend).is_none_or(|lend| lend.children > 0),
        };
        match holder == Holder::Host || lends_on {
            true => 0,
            false => tag(claim, via),
        }
    }

    /// Returns a window that conflicts with such a new window, other than `except`.
    pub(super) fn conflict(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        except: Option<WindowId>,
    ) -> Option<WindowId> {
        let aside = self.tags_aside(claim, via);
        let against = |other: Access| !access.is_compatible_with(other);
        self.windows.find(span, against, &aside, |id, other| {
            Some(id) != except && !(other.claim == claim && self.is_aside(id, other, via))
        })
    }

    /// Opens a window: takes the lock on its granules. The handle must have the rights `needs`.
    ///
    /// # Errors
    ///
    /// Returns, in this order:
    /// - [`LedgerError::Gone`] if the handle is revoked, [`LedgerError::Purged`] if the region
    ///   was purged for good;
    /// - [`LedgerError::NotPermitted`] if the handle lacks one of the rights `needs`;
    /// - [`LedgerError::Frozen`] if the region is frozen and the access is not `read`;
    /// - [`LedgerError::Poisoned`] if the region is poisoned;
    /// - [`LedgerError::Unpinned`] unless the claim pins all of the span;
    /// - [`LedgerError::OtherStrand`] if a live window of another strand conflicts;
    /// - [`LedgerError::WouldBlock`] if another window, a reservation or a waiter conflicts.
    pub fn open(
        &mut self,
        handle: &Handle,
        needs: Rights,
        span: Span,
        access: Access,
        holder: Holder,
        place: P,
    ) -> Result<WindowId, LedgerError> {
        self.may_open(handle, needs, access)?;
        self.check_pinned(handle.claim, span)?;
        self.check_lock(handle.claim, handle.via, span, access, None)?;
        if self.is_behind(handle.claim, handle.via, span, access) {
            return Err(LedgerError::WouldBlock);
        }
        self.consume(handle.claim, handle.via, span, access);
        let id = WindowId(self.fresh());
        let entry = self.claim_mut(handle.claim);
        entry.windows += 1;
        if holder == Holder::Host {
            entry.guards += 1;
        }
        if let Some(lend) = handle.via.and_then(|lend| self.lends.get_mut(&lend)) {
            lend.windows += 1;
        }
        let tag = self.tag(handle.claim, handle.via, holder);
        self.windows.insert(
            id,
            WindowRecord {
                claim: handle.claim,
                via: handle.via,
                rights: handle.rights,
                span,
                access,
                holder,
                tag,
                place,
            },
        );
        self.note_window(id);
        Ok(id)
    }

    /// Checks whether a window could be opened, regardless of its bytes.
    ///
    /// # Errors
    ///
    /// Returns an error as [`open`](Ledger::open) does, except [`LedgerError::WouldBlock`],
    /// [`LedgerError::OtherStrand`] and [`LedgerError::Unpinned`].
    pub fn may_open(
        &self,
        handle: &Handle,
        needs: Rights,
        access: Access,
    ) -> Result<(), LedgerError> {
        self.check_there(handle)?;
        self.check_rights(handle, needs)?;
        self.check_state(access)
    }

    pub(super) fn check_pinned(&self, claim: ClaimId, span: Span) -> Result<(), LedgerError> {
        match self.claims[&claim].unpinned.overlaps(&span.granules()) {
            true => Err(LedgerError::Unpinned),
            false => Ok(()),
        }
    }

    pub(super) fn check_state(&self, access: Access) -> Result<(), LedgerError> {
        if self.frozen && access != Access::Read {
            return Err(LedgerError::Frozen);
        }
        if self.poisoned {
            Err(LedgerError::Poisoned)
        } else {
            Ok(())
        }
    }

    fn check_lock(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
        span: Span,
        access: Access,
        except: Option<WindowId>,
    ) -> Result<(), LedgerError> {
        if self.frozen && access != Access::Read {
            return Err(LedgerError::Frozen);
        }
        if self.conflict(claim, via, span, access, except).is_none() {
            return Ok(());
        }
        // Waiting does not help against these, so they come first.
        let aside = self.tags_aside(claim, via);
        let apart = |other: Access| other.is_of_other_strand(access);
        let apart = self.windows.find(span, apart, &aside, |id, other| {
            Some(id) != except && !(other.claim == claim && self.is_aside(id, other, via))
        });
        match apart {
            Some(_) => Err(LedgerError::OtherStrand),
            None => Err(LedgerError::WouldBlock),
        }
    }

    /// Checks whether a window may change its access.
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError::Gone`] if the window or its lend has ended. Otherwise returns an
    /// error as [`open`](Ledger::open) does, except [`LedgerError::Poisoned`] and
    /// [`LedgerError::Unpinned`]: poison and unpinning do not affect open windows.
    pub fn may_set_access(&self, id: WindowId, access: Access) -> Result<(), LedgerError> {
        let window = self.windows.get(id).ok_or(LedgerError::Gone)?;
        self.check_lend(window.via)?;
        if self.purged {
            return Err(LedgerError::Purged);
        }
        if !window.rights.contains(access.needs()) {
            return Err(LedgerError::NotPermitted);
        }
        let (claim, via, span) = (window.claim, window.via, window.span);
        self.check_lock(claim, via, span, access, Some(id))?;
        // Waiters come first only if the access conflicts with more than now.
        if !access.within(window.access) && self.is_behind(claim, via, span, access) {
            return Err(LedgerError::WouldBlock);
        }
        Ok(())
    }

    /// Changes the access of a window, which does not conflict with itself.
    ///
    /// # Errors
    ///
    /// Returns an error as [`may_set_access`](Ledger::may_set_access) does.
    pub fn set_access(&mut self, id: WindowId, access: Access) -> Result<(), LedgerError> {
        self.may_set_access(id, access)?;
        self.windows.set_access(id, access);
        let claim = self.windows.get(id).expect("it may be changed").claim;
        self.note_change(id, claim);
        self.note_window(id);
        self.note_aside(claim);
        Ok(())
    }

    /// Closes a window and releases its granules. If its holder [died](WindowEnd::Died) and the
    /// window could write, this poisons the region. Returns the place noted for the window, or
    /// `None` if it had ended before.
    pub fn close(&mut self, id: WindowId, end: WindowEnd) -> Option<P> {
        let window = self.windows.remove(id)?;
        self.note_change(id, window.claim);
        if window.access.writes() && end == WindowEnd::Died {
            self.poisoned = true;
        }
        let entry = self.claim_mut(window.claim);
        entry.windows -= 1;
        if window.holder == Holder::Host {
            entry.guards -= 1;
        }
        self.settle(window.claim);
        if let Some(lend) = window.via {
            if let Some(entry) = self.lends.get_mut(&lend) {
                entry.windows -= 1;
            }
            self.settle_lend(lend);
        }
        Some(window.place)
    }

    /// Returns the span and the access of an open window.
    #[must_use]
    pub fn window(&self, id: WindowId) -> Option<(Span, Access)> {
        self.windows
            .get(id)
            .map(|window| (window.span, window.access))
    }

    /// Returns whether a window has the rights to write, now or after
    /// [`set_access`](Ledger::set_access).
    #[must_use]
    pub fn may_write(&self, id: WindowId) -> bool {
        let window = self.windows.get(id);
        window.is_some_and(|window| window.rights.contains(Access::Write.needs()))
    }

    /// Returns the guests' windows of a claim that were made via a lend, or with `None` by its
    /// owner.
    pub fn windows_of(
        &self,
        claim: ClaimId,
        via: Option<LendId>,
    ) -> impl Iterator<Item = (WindowId, Access, &P)> {
        self.windows
            .through(claim, via)
            .filter(|(_, window)| window.holder == Holder::Guest)
            .map(|(id, window)| (id, window.access, &window.place))
    }
}

/// Returns the tag that the windows of a claim share which were made via this lend, or via none.
/// Claims and lends never have the same number.
fn tag(claim: ClaimId, via: Option<LendId>) -> u64 {
    via.map_or(claim.0, |lend| lend.0)
}
